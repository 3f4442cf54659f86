//! Scripts that go through the files of a folder.

use crate::generate::Difficulty::{Easy, Hard, Medium};
use crate::generate::families::programs::{
    EXTENSION, FOLDER, THING, TOOL, filled, lay, lines_of, says_only, things,
};
use crate::generate::template::{Made, Parameter, Template, has, holds, output, write};

/// Where the tests lay out files of their own; the space is a part of it.
const ELSEWHERE: &str = "/tmp/of tests";

pub(super) const SPACES: Template = Template {
    name: "spaces",
    difficulty: Easy,
    parameters: &[TOOL, EXTENSION, FOLDER],
    phrasings: &[
        "The script {0}.sh gets a folder as its argument and prints, for each file in it whose \
         name ends in .{1}, a line NAME: LINES, in the order of the names: the name without the \
         folder, a colon, a space and the number of lines. It fails when the folder or a file \
         has spaces in its name, such as those in the folder {2}. Repair it. Spaces in a name, \
         also several in a row, must be printed as they are.",
        "Run bash {0}.sh {2} and you see that the script cannot cope with spaces in names. It \
         should print one line per .{1} file in the folder that it is given, ordered by name: \
         the file's name (no folder), then a colon and a space, then how many lines the file \
         has. Fix {0}.sh so that it works for any folder, even one with spaces in its own name, \
         and keeps runs of spaces in names.",
        "Please fix {0}.sh. Called with a folder, it lists the folder's *.{1} files by name, \
         each on a line like \"some  name.{1}: 12\", where 12 is the file's number of lines. \
         Names of files and of the folder may have spaces, one or more in a row, and must come \
         out unchanged. The folder {2} is an example where it goes wrong.",
    ],
    make: |values, random| {
        let (tool, ext, folder) = (format!("{}.sh", values[0]), values[1], values[2]);
        let mut draw = |count: usize| -> (Vec<(String, String)>, String) {
            let mut names = things(random, count, &[]);
            names.sort_unstable();
            let mut files = Vec::new();
            let mut printed = Vec::new();
            for (at, name) in names.into_iter().enumerate() {
                let name = match at % 3 {
                    0 => format!("{name}  old note.{ext}"),
                    1 => format!("{name} b.{ext}"),
                    _ => format!("{name}.{ext}"),
                };
                let lines = random.within(0..=9);
                printed.push(format!("{name}: {lines}"));
                files.push((name, lines_of(random, lines)));
            }
            files.push((format!("{}.other", random.pick(THING.values)), lines_of(random, 3)));
            (files, printed.join("\n"))
        };
        let ((seen, seen_printed), (more, more_printed)) = (draw(5), draw(8));
        let with = |line: &str| {
            filled(
                "
#!/bin/bash
# Usage: @tool FOLDER
for file in @folder/*.@ext; do
  @line
done
",
                &[
                    ("@line", line),
                    ("@folder", if line.contains('"') { "\"$1\"" } else { "$1" }),
                    ("@tool", &tool),
                    ("@ext", ext),
                ],
            )
        };
        let broken = "echo $(basename $file): $(wc -l < $file)";
        let fixed = r#"echo "$(basename "$file"): $(wc -l < "$file")""#;
        let near = r#"echo $(basename "$file"): $(wc -l < "$file")"#;
        let apart = format!("{ELSEWHERE}/new  {folder}");
        Made {
            start: vec![has(&tool, &with(broken))],
            setup: lay(folder, &seen),
            end: vec![
                output(&format!("timeout 5 bash {tool} {folder}"), &seen_printed),
                holds("files laid out", &lay(&apart, &more).join(" && ")),
                output(&format!("timeout 5 bash {tool} '{apart}'"), &more_printed),
            ],
            solution: vec![write(&tool, &with(fixed))],
            hard_coded: vec![says_only(&tool, &seen_printed)],
            near_miss: vec![write(&tool, &with(near))],
            ..Made::default()
        }
    },
};

pub(super) const NO_MATCH: Template = Template {
    name: "no-match",
    difficulty: Medium,
    parameters: &[TOOL, EXTENSION, THING],
    phrasings: &[
        "{0}.sh gets a folder as its argument. It should move the folder's files whose names end \
         in .{1} into its subfolder {2}, which it makes where it is missing, and then print \
         moved N with their number, moved 0 if there are none. It goes wrong for folders without \
         such files and for names that have spaces or begin with a dash. Repair it; files with \
         other endings stay where they are.",
        "Fix the script {0}.sh. bash {0}.sh FOLDER is meant to put all FOLDER/*.{1} files into \
         FOLDER/{2} (created if needed) and to print a single line, for instance moved 3. Where \
         no file matches it must print moved 0 and leave all as it is. Any name has to work: \
         with spaces, or with a dash at the beginning, and FOLDER may have spaces too.",
        "There are mistakes in {0}.sh: it counts one file where there is none, and stumbles over \
         spaces and leading dashes in names. What it should do with the folder in its argument: \
         move each file in it ending in .{1} to the subfolder {2} of this folder, making {2} if \
         it is not there, touch nothing else, and at the end print the word moved, a space and \
         how many were moved.",
    ],
    make: |values, random| {
        let (tool, ext, old) = (format!("{}.sh", values[0]), values[1], values[2]);
        let names = things(random, 6, &[old]);
        let mut files = |names: &[String]| -> Vec<(String, String)> {
            names
                .iter()
                .map(|name| {
                    let lines = random.within(1..=4);
                    (name.clone(), lines_of(random, lines))
                })
                .collect()
        };
        let seen = files(&[
            format!("{}.{ext}", names[0]),
            format!("{} {}.{ext}", names[1], names[2]),
            format!("{}.keep", names[3]),
        ]);
        let moved = [
            format!("-{}.{ext}", names[0]),
            format!("{}  {}.{ext}", names[4], names[1]),
            format!("{} b.{ext}", names[2]),
            format!("{}.{ext}", names[5]),
        ];
        let more = files(&moved);
        let kept = files(&[format!("{}.{ext}x", names[3]), format!("{} c.keep", names[0])]);
        let of = |loop_before: &str, pattern: &str, body: &str| {
            filled(
                "
#!/bin/bash
# Usage: @tool FOLDER
@before
for file in @pattern; do
  @body
  count=$((count + 1))
done
echo \"moved $count\"
",
                &[
                    ("@before", loop_before),
                    ("@pattern", pattern),
                    ("@body", body),
                    ("@tool", &tool),
                    ("@ext", ext),
                    ("@old", old),
                ],
            )
        };
        let broken = of("cd $1\nmkdir @old", "*.@ext", "mv $file @old");
        let fixed = of(
            "shopt -s nullglob\ncd \"$1\" || exit\nmkdir -p @old\ncount=0",
            "*.@ext",
            "mv -- \"$file\" @old",
        );
        let near =
            of("cd \"$1\" || exit\nmkdir -p @old\ncount=0", "*.@ext", "mv -- \"$file\" @old");
        let (full, bare) = (format!("{ELSEWHERE}/a  full"), format!("{ELSEWHERE}/bare"));
        let listed = |folder: &str| format!("cd '{folder}' && find . -type f | LC_ALL=C sort");
        let mut there: Vec<String> = moved.iter().map(|name| format!("./{old}/{name}")).collect();
        there.extend(kept.iter().map(|(name, _)| format!("./{name}")));
        there.sort_unstable();
        let mut rest: Vec<String> = kept.iter().map(|(name, _)| format!("./{name}")).collect();
        rest.sort_unstable();
        let mut laid = lay(&full, &[more.clone(), kept.clone()].concat());
        laid.extend(lay(&bare, &kept));
        laid.push(format!("mkdir '{bare}/{old}'"));
        let same = more.iter().map(|(name, text)| {
            let text = text.trim_end();
            output(&format!("cat '{full}/{old}/{name}'"), text)
        });
        let mut end = vec![
            holds("files laid out", &laid.join(" && ")),
            output(&format!("timeout 5 bash {tool} '{full}'"), &format!("moved {}", moved.len())),
            output(&listed(&full), &there.join("\n")),
            output(&format!("timeout 5 bash {tool} '{bare}'"), "moved 0"),
            output(&listed(&bare), &rest.join("\n")),
        ];
        end.extend(same);
        Made {
            start: vec![has(&tool, &broken)],
            setup: lay("example", &seen),
            end,
            solution: vec![write(&tool, &fixed)],
            hard_coded: vec![says_only(&tool, "moved 2")],
            near_miss: vec![write(&tool, &near)],
            ..Made::default()
        }
    },
};

const KEPT: Parameter = Parameter { values: &["3", "4", "5", "6", "7", "8"] };

pub(super) const ROTATE: Template = Template {
    name: "rotate",
    difficulty: Hard,
    parameters: &[TOOL, KEPT, THING],
    phrasings: &[
        "The script {0}.sh rotates the file that it gets as its argument, for example {2}.log. \
         Repair it: the old versions FILE.1 (the newest), FILE.2 and so on are to move on by \
         one, FILE itself becomes FILE.1, and a new empty FILE is made. There are never more \
         than {1} old versions: what was FILE.{1} is lost. A missing version in between is no \
         error: the others still move on by one. If FILE is not there, the script changes \
         nothing and ends with status 1. Names may have spaces.",
        "{0}.sh loses logs. bash {0}.sh FILE should rename FILE.1 to FILE.2, FILE.2 to FILE.3, \
         ..., then FILE to FILE.1, and create FILE again, empty. At most {1} numbered files are \
         kept, so that the old FILE.{1} goes away and no FILE with a higher number is ever made. \
         Not all numbers have to be there; those that are move up by one. If FILE does not \
         exist, leave everything alone and exit with 1. Make it work, also for names with \
         spaces; {2}.log is there to try it.",
        "Please repair the log rotation in {0}.sh. Try it with bash {0}.sh {2}.log. With {1} as \
         the number of old versions to keep, one run shifts each FILE.N there is to FILE.N+1, \
         drops FILE.{1}, turns FILE into FILE.1 and leaves an empty FILE. Gaps in the numbers \
         shift like the rest. File names can have spaces. When the FILE given is not there, the \
         exit status is 1 and no file is touched.",
    ],
    make: |values, random| {
        let (tool, keep, thing) = (format!("{}.sh", values[0]), values[1], values[2]);
        let kept: usize = keep.parse().unwrap_or(0);
        let mut version = |at: usize| format!("{} {at}", random.pick(THING.values));
        let named = |at: usize| {
            if at == 0 { format!("{thing} b.log") } else { format!("{thing} b.log.{at}") }
        };
        let all: Vec<(String, String)> = (0..=kept).map(|at| (named(at), version(at))).collect();
        let seen = [0, 1, 2].map(|at: usize| (named(at).replace(" b", ""), version(at) + "\n"));
        // The last but one is missing, which would have overwritten the last.
        let gap: Vec<(String, String)> = all
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != kept - 1)
            .map(|(_, file)| file.clone())
            .collect();
        let of = |check: &str, order: &str| {
            filled(
                r#"
#!/bin/bash
# Usage: @tool FILE
keep=@keep
file=$1
@check
for n in $(@order); do
  if [ -f "$file.$n" ]; then
    mv "$file.$n" "$file.$((n + 1))"
  fi
done
mv "$file" "$file.1"
: > "$file"
"#,
                &[("@tool", &*tool), ("@keep", keep), ("@check", check), ("@order", order)],
            )
        };
        let broken = of("[ -f \"$file\" ] || exit", "seq 1 $keep").replace('"', "");
        let check = "[ -f \"$file\" ] || exit 1";
        let fixed = of(&format!("{check}\nrm -f \"$file.$keep\""), "seq $((keep - 1)) -1 1");
        let near = of(check, "seq $keep -1 1");
        // What is there after a run, and what is in it.
        let shown = |folder: &str| format!("cd '{folder}' && grep '' * | LC_ALL=C sort");
        let after = |files: &[(String, String)]| {
            let number = |name: &str| -> usize {
                name.rsplit_once("log.").and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
            };
            let on = |(name, text): &(String, String)| (number(name) + 1, text.clone());
            let moved = files.iter().map(on).filter(|(at, _)| *at <= kept);
            let mut lines: Vec<String> =
                moved.map(|(at, text)| format!("{}:{text}", named(at))).collect();
            lines.sort_unstable();
            lines.join("\n")
        };
        let (one, two, none) = ("/tmp/of tests/one", "/tmp/of tests/two", "/tmp/of tests/none");
        let mut laid = lay(one, &all);
        laid.extend(lay(two, &gap));
        laid.extend(lay(none, &gap[1..]));
        let run = |folder: &str| format!("timeout 5 bash {tool} '{folder}/{}'", named(0));
        let left: Vec<String> = {
            let mut left: Vec<String> =
                gap[1..].iter().map(|(name, text)| format!("{name}:{text}")).collect();
            left.sort_unstable();
            left
        };
        Made {
            start: vec![has(&tool, &broken)],
            setup: lay(".", &seen),
            end: vec![
                holds("files laid out", &laid.join(" && ")),
                holds("a run", &run(one)),
                output(&shown(one), &after(&all)),
                holds(
                    "a new file",
                    &format!("cd '{one}' && [ -f '{0}' ] && [ ! -s '{0}' ]", named(0)),
                ),
                holds("a run with a gap", &run(two)),
                output(&shown(two), &after(&gap)),
                holds("status without a file", &format!("{}; [ $? = 1 ]", run(none))),
                output(&shown(none), &left.join("\n")),
                holds("no new file", &format!("[ ! -e '{none}/{}' ]", named(0))),
            ],
            solution: vec![write(&tool, &fixed)],
            hard_coded: vec![write(
                &tool,
                &filled(
                    "
#!/bin/bash
mv @t.log.2 @t.log.3
mv @t.log.1 @t.log.2
mv @t.log @t.log.1
touch @t.log
",
                    &[("@t", thing)],
                ),
            )],
            near_miss: vec![write(&tool, &near)],
            ..Made::default()
        }
    },
};
