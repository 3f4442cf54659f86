//! Scripts that end with the wrong status, or too early.

use crate::generate::Difficulty::{Hard, Medium};
use crate::generate::families::programs::{THING, TOOL, filled, says_only, things};
use crate::generate::random::Random;
use crate::generate::template::{Made, Template, has, holds, output, write};

pub(super) const STATUS: Template = Template {
    name: "status",
    difficulty: Medium,
    parameters: &[TOOL, THING],
    phrasings: &[
        "bash {0}.sh TEXT FILE... should print for each FILE, in the order given, a line FILE: \
         yes or FILE: no, whether one of its lines has TEXT in it. TEXT is plain text, not a \
         pattern, and may have spaces, as may the names of files. The exit status is to be 0 if \
         all files have it, 1 if at least one has not, and 2, with nothing printed, if no FILE \
         is given. It does none of this right; try it with {1} and the files one.txt, two.txt \
         and three.txt. Repair it.",
        "Repair {0}.sh. Called with a text and one or more files (for example {1} one.txt \
         two.txt three.txt), it says for each of the files whether the text occurs in it: NAME: \
         yes or NAME: no, a line each, in the order of the arguments. It ends with 0 when the \
         answer is yes for all, with 1 when there is a no among them, wherever it is. Without \
         any file it prints nothing and ends with 2. The text is to be taken literally; texts \
         and file names can have spaces.",
        "The answers and the exit status of {0}.sh are wrong: see bash {0}.sh {1} one.txt \
         two.txt three.txt. Wanted: a line \"NAME: yes\" for each file that has the text of the \
         first argument anywhere in it, \"NAME: no\" for each that has not, in the order given. \
         Status 1 if any of them is no, else 0; status 2 and no output if there are no files. \
         Spaces in the text and in names are allowed, and characters such as . or * in the text \
         stand for themselves.",
    ],
    make: |values, random| {
        let (tool, word) = (format!("{}.sh", values[0]), values[1]);
        let mut file = |text: &str, is_in: bool| {
            let other = || *random.pick(&["west wind", "low tide", "old mill", "wide river"]);
            let mut lines: Vec<String> =
                std::iter::repeat_with(other).take(12).map(str::to_owned).collect();
            if is_in {
                lines[7] = format!("{} {text} {}", lines[7], lines[8]);
            }
            lines.join("\n")
        };
        let literal = format!("{word} a.b*");
        let likeness = format!("{word} aXbbb");
        let seen = [("one.txt", true), ("two.txt", false), ("three.txt", true)];
        let mut start: Vec<(String, String)> =
            seen.iter().map(|(name, is_in)| has(name, &file(word, *is_in))).collect();
        let of = |check: &str, names: &str, test: &str, no: &str, last: &str| {
            filled(
                r#"
#!/bin/bash
# Usage: @tool TEXT FILE...
text=$1
shift@check
for file in @names; do
  if @test; then
    echo "$file: yes"
  else
    echo "$file: no"@no
  fi
done@last
"#,
                &[
                    ("@tool", &*tool),
                    ("@check", check),
                    ("@names", names),
                    ("@test", test),
                    ("@no", no),
                    ("@last", last),
                ],
            )
        };
        let broken = of("", "$@", "grep $text $file | head -n 1 > /dev/null", "", "\nexit $?");
        start.push(has(&tool, &broken));
        let check = "\n[ $# -gt 0 ] || exit 2\nstatus=0";
        let test = "grep -qF -- \"$text\" \"$file\"";
        let fixed = of(check, "\"$@\"", test, "\n    status=1", "\nexit $status");
        // The last file decides.
        let near = fixed.replace("if grep", "status=0\n  if grep");
        let hidden = vec![
            has("a.txt", &file(&literal, true)),
            has("b.txt", &file(&likeness, true)),
            has("c.txt", &file(&literal, true)),
        ];
        let run = |text: &str, files: &str, status: usize| {
            format!("timeout 5 bash {tool} {text}{files}; [ $? = {status} ] && echo right")
        };
        let laid = "mkdir -p '/tmp/t' && cd /tmp/t && cp /tests/[abc].txt . && mv a.txt 'a  1.txt'";
        let there = |text: String| text.replace("timeout", "cd /tmp/t && timeout");
        let from_there = |text: &str, files: &str, status: usize| {
            there(run(text, files, status)).replace(&tool, &format!("/app/{tool}"))
        };
        let literal = format!("'{literal}'");
        let all = "one.txt: yes\ntwo.txt: no\nthree.txt: yes";
        Made {
            start,
            hidden,
            end: vec![
                output(&run(word, " one.txt two.txt three.txt", 1), &format!("{all}\nright")),
                output(&run(word, " one.txt three.txt", 0), "one.txt: yes\nthree.txt: yes\nright"),
                output(&run(word, "", 2), "right"),
                holds("files laid out", laid),
                output(
                    &from_there(&literal, " b.txt 'a  1.txt' c.txt", 1),
                    "b.txt: no\na  1.txt: yes\nc.txt: yes\nright",
                ),
                output(
                    &from_there(&literal, " c.txt 'a  1.txt'", 0),
                    "c.txt: yes\na  1.txt: yes\nright",
                ),
            ],
            solution: vec![write(&tool, &fixed)],
            hard_coded: vec![format!("{}\necho 'exit 1' >> {tool}", says_only(&tool, all))],
            near_miss: vec![write(&tool, &near)],
            ..Made::default()
        }
    },
};

pub(super) const STRICT: Template = Template {
    name: "strict",
    difficulty: Hard,
    parameters: &[TOOL, THING, THING],
    phrasings: &[
        "bash {0}.sh FILE should print three lines: {1} N, {2} N and other N. The first two are \
         the numbers of lines in FILE that begin with the word {1} and a space, or with {2} and \
         a space; the third is how many lines there are besides. With the word total as a second \
         argument, a fourth line total N with the number of all lines follows. The script stops \
         too early for most files. Repair it so that it works for every file, also an empty one, \
         and ends with status 0. Its line set -eu must stay.",
        "Repair {0}.sh without removing its line set -eu. Given a file like sample.txt it is to \
         count the lines that start with \"{1} \", those that start with \"{2} \" and all the \
         others, and to print the counts as three lines, {1} N, {2} N, other N, in this order, \
         also when some counts are 0 or the file is empty. If there is a second argument total, \
         it adds a line total N for the sum of the three. It must always end with status 0.",
        "The script {0}.sh dies silently. Find out why and fix it; it has to keep the line set \
         -eu. Its job: read the file named by its first argument and print {1} N, then {2} N, \
         then other N, each on a line, where N counts the lines whose first word, followed by a \
         space, is {1}, is {2}, or is neither (lines with anything else, too). When called with \
         total after the file, it prints as a last line total N, the number of lines. Counts may \
         be 0. The exit status is 0 in all these cases.",
    ],
    make: |values, random| {
        let (tool, one, two) = (format!("{}.sh", values[0]), values[1], values[2]);
        let others = things(random, 5, &[one, two]);
        let (longer, shorter) = (format!("{one}s 4"), two.to_owned());
        let mut draw = |counts: [usize; 3]| -> (String, [usize; 3]) {
            let mut lines: Vec<String> = Vec::new();
            for (word, count) in [one, two].into_iter().zip(counts) {
                lines.extend((0..count).map(|_| format!("{word} {}", random.within(1..=99))));
            }
            let other = |at: usize, random: &mut Random| match at {
                0 => longer.clone(),
                1 => shorter.clone(),
                _ => format!("{} {one} {}", random.pick(&others), random.within(1..=9)),
            };
            for at in 0..counts[2] {
                lines.push(other(at, random));
            }
            (random.shuffled(&lines).iter().map(|line| format!("{line}\n")).collect(), counts)
        };
        let seen = draw([4, 3, 0]);
        let more = [draw([0, 9, 17]), draw([8, 0, 1]), draw([11, 14, 23]), draw([0, 0, 0])];
        let of = |or: &str, add: &str, second: &str, last: &str| {
            filled(
                r#"
#!/bin/bash
set -eu
# Usage: @tool FILE [total]
file=$1
mode=@second
first=$(grep -c '^@one ' "$file"@or)
second=$(grep -c '^@two ' "$file"@or)
other=0
while read -r line; do
  case $line in
    "@one "* | "@two "*) ;;
    *) @add ;;
  esac
done < "$file"
echo "@one $first"
echo "@two $second"
echo "other $other"
@last
"#,
                &[
                    ("@tool", &*tool),
                    ("@one", one),
                    ("@two", two),
                    ("@or", or),
                    ("@add", add),
                    ("@second", second),
                    ("@last", last),
                ],
            )
        };
        let total = "echo \"total $((first + second + other))\"";
        let broken = of("", "((other++))", "$2", &format!("[ \"$mode\" = total ] && {total}"));
        let last = format!("if [ \"$mode\" = total ]; then\n  {total}\nfi");
        let fixed = of(" || true", "other=$((other + 1))", "${2:-}", &last);
        let near = of(" || echo 0", "other=$((other + 1))", "${2:-}", &last);
        let said = |counts: [usize; 3], with_total: bool| {
            let [a, b, c] = counts;
            let total = if with_total { format!("\ntotal {}", a + b + c) } else { String::new() };
            format!("{one} {a}\n{two} {b}\nother {c}{total}")
        };
        let run = |file: &str, mode: &str| format!("timeout 5 bash {tool} {file}{mode}");
        let mut end = vec![
            output(&run("sample.txt", ""), &said(seen.1, false)),
            output(&run("sample.txt", " total"), &said(seen.1, true)),
            holds("set -eu", &format!("grep -qxF 'set -eu' {tool}")),
        ];
        for (at, (_, counts)) in more.iter().enumerate() {
            let file = format!("/tests/{at}.txt");
            end.push(output(&run(&file, ""), &said(*counts, false)));
            end.push(output(&run(&file, " total"), &said(*counts, true)));
        }
        let hidden =
            more.iter().enumerate().map(|(at, (text, _))| (format!("{at}.txt"), text.clone()));
        Made {
            start: vec![has(&tool, &broken), ("sample.txt".to_owned(), seen.0.clone())],
            hidden: hidden.collect(),
            end,
            solution: vec![write(&tool, &fixed)],
            hard_coded: vec![says_only(&tool, &said(seen.1, false))],
            near_miss: vec![write(&tool, &near)],
            ..Made::default()
        }
    },
};
