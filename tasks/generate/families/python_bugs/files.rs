//! Functions on text: of amounts of money, and in files.

use crate::generate::Difficulty::Medium;
use crate::generate::families::programs::{THING, TOOL, filled};
use crate::generate::families::python_bugs::{check, checked};
use crate::generate::random::Random;
use crate::generate::template::{Made, Parameter, Template, has, write};

/// Of each there are amounts for which floats go wrong.
const RATE: Parameter =
    Parameter { values: &["5", "10", "13", "15", "17", "18", "19", "21", "22", "23", "25", "26"] };

pub(super) const MONEY: Template = Template {
    name: "money",
    difficulty: Medium,
    parameters: &[TOOL, RATE],
    phrasings: &[
        "gross(amount) in {0}.py gets an amount as text, such as \"12.30\" (0 or more, always \
         with two decimals), and should return it with {1} percent added, again as text with two \
         decimals. The exact result is to be rounded to whole cents, half a cent always up. It \
         is a cent off for some amounts, and sometimes lacks a decimal. Repair it.",
        "Repair the function gross in {0}.py: it adds {1} percent to an amount of money. \
         Argument and result are strings with exactly two decimals (\"0.50\", \"1200.00\"), \
         never negative. There must be no error from binary fractions: the true value counts, \
         and exactly half a cent is rounded up.",
        "Some results of gross in {0}.py are wrong by one cent. The function takes a string like \
         \"99.95\" and returns the string of that amount plus {1} percent, both with two digits \
         after the point. Make it exact: compute without rounding errors, then round to the \
         cent, with halves going up. Amounts are not negative.",
    ],
    make: |values, random| {
        let (module, rate) = (values[0], values[1]);
        let percent: usize = rate.parse().unwrap_or(0);
        let file = format!("{module}.py");
        let shown = |cents: usize| format!("{}.{:02}", cents / 100, cents % 100);
        let exact = |cents: usize| (cents * (100 + percent) + 50) / 100;
        let is_half = |cents: &usize| cents * (100 + percent) % 100 == 50;
        // Floats come out below the half.
        let is_off = |cents: &usize| {
            let amount: f64 = shown(*cents).parse().unwrap_or(0.0);
            let float = (amount * (1.0 + percent as f64 / 100.0) * 100.0 + 0.5).floor();
            is_half(cents) && float as usize != exact(*cents)
        };
        let mut amounts: Vec<usize> = (1..90_000).filter(is_off).take(8).collect();
        // Among these are some that rounding to even would round down.
        amounts.extend((1..90_000).filter(is_half).take(10));
        amounts.extend([0, 50, 150, 1000, 120_000]);
        amounts.extend((0..20).map(|_| random.within(1..=99_999)));
        let calls: Vec<String> = amounts
            .iter()
            .map(|cents| {
                format!("assert gross(\"{}\") == \"{}\"", shown(*cents), shown(exact(*cents)))
            })
            .collect();
        let of = |head: &str, body: &str| {
            filled(
                "
@headdef gross(amount):
    \"\"\"The amount with @rate percent added.\"\"\"
    return @body
",
                &[("@head", head), ("@body", body), ("@rate", rate)],
            )
        };
        let broken = of("", &format!("str(round(float(amount) * (1 + {rate} / 100), 2))"));
        let near = of(
            "import math\n\n\n",
            &format!(
                "f\"{{math.floor(float(amount) * (1 + {rate} / 100) * 100 + 0.5) / 100:.2f}}\""
            ),
        );
        let fixed = of(
            "from decimal import ROUND_HALF_UP, Decimal\n\n\n",
            &format!(
                "str((Decimal(amount) * {} / 100).quantize(Decimal(\"0.01\"), ROUND_HALF_UP))",
                100 + percent
            ),
        );
        let fixed_answer = of("", &format!("\"{}\"", shown(exact(1230))));
        Made {
            start: vec![has(&file, &broken)],
            hidden: vec![check(module, "gross", &calls.join("\n"))],
            end: vec![checked()],
            solution: vec![write(&file, &fixed)],
            hard_coded: vec![write(&file, &fixed_answer)],
            near_miss: vec![write(&file, &near)],
            ..Made::default()
        }
    },
};

/// Between a name and its number.
const MARK: Parameter = Parameter { values: &[";", "|", "=", ":"] };

/// Their bytes read as Latin 1 are other names.
const NAMES: [&str; 10] =
    ["Zoë", "Łódź", "Jürgen", "東京", "naïve", "façade", "Æon", "Ñandú", "smörgås", "Škoda"];

pub(super) const ENCODING: Template = Template {
    name: "encoding",
    difficulty: Medium,
    parameters: &[TOOL, MARK, THING],
    phrasings: &[
        "read_counts(path) in {0}.py should read a text file in UTF-8 whose lines are a name, \
         the character {1} and a whole number, such as {2}.txt, and return a dict from each name \
         to its number (an int). A name may have {1} in it; the last {1} of a line is the one \
         before the number. Some files begin with a byte order mark, have empty lines, which do \
         not count, or end their lines with CR and LF. Repair the function.",
        "Repair read_counts in {0}.py. Its result is a dict {name: number} of the lines \
         NAME{1}NUMBER in the file at the path it gets; {2}.txt is one. Files are UTF-8, with or \
         without a BOM at the beginning, with LF or CRLF at the ends of lines, and may have \
         empty lines, to be skipped. Numbers become ints. If a name contains {1} itself, only \
         the last {1} in the line separates.",
        "The names that read_counts of {0}.py returns are garbled (see {2}.txt), and for some \
         files it fails. Fix it: a file is UTF-8 text, sometimes with a byte order mark in \
         front, which is not part of the first name, and sometimes with CRLF line ends. Each \
         line that is not empty has a name, then {1}, then an integer; what is before the last \
         {1} is the name, even if that has a {1}. The function returns a dict of names and ints.",
    ],
    make: |values, random| {
        let (module, mark, thing) = (values[0], values[1], values[2]);
        let (file, data) = (format!("{module}.py"), format!("{thing}.txt"));
        let of = |encoding: &str, split: &str, skip: &str| {
            filled(
                "
def read_counts(path):
    \"\"\"The numbers by name.\"\"\"
    counts = {}
    with open(path, encoding=\"@encoding\") as file:
        for line in file:
@skip            name, number = line.strip().@split
            counts[name] = int(number)
    return counts
",
                &[("@encoding", encoding), ("@split", split), ("@skip", skip)],
            )
        };
        let skip = "            if not line.strip():\n                continue\n";
        let once = format!("rsplit(\"{mark}\", 1)");
        let draw = |count: usize, random: &mut Random| -> Vec<(String, usize)> {
            let names = random.some(&NAMES, count);
            let mut pairs: Vec<(String, usize)> =
                names.iter().map(|name| ((*name).to_owned(), random.within(0..=999))).collect();
            pairs.push((random.pick(THING.values).to_string(), random.within(0..=999)));
            pairs
        };
        let seen = draw(6, random);
        let [plain, marked, windows] = [7, 8, 9].map(|count| {
            let mut pairs = draw(count, random);
            pairs.push((format!("a{mark}b"), random.within(0..=99)));
            pairs
        });
        let lines = |pairs: &[(String, usize)], end: &str| -> String {
            pairs.iter().map(|(name, number)| format!("{name}{mark}{number}{end}")).collect()
        };
        let dict = |pairs: &[(String, usize)]| {
            let items: Vec<String> =
                pairs.iter().map(|(name, number)| format!("\"{name}\": {number}")).collect();
            format!("{{{}}}", items.join(", "))
        };
        let read = |path: &str, pairs: &[(String, usize)]| {
            format!("assert read_counts(\"{path}\") == {}", dict(pairs))
        };
        let calls = [
            read(&format!("/app/{data}"), &seen),
            read("/tests/plain.txt", &plain),
            read("/tests/marked.txt", &marked),
            read("/tests/windows.txt", &windows),
        ];
        let fixed_answer = format!("def read_counts(path):\n    return {}", dict(&seen));
        Made {
            start: vec![
                has(&file, &of("latin-1", &format!("split(\"{mark}\")"), "")),
                (data, lines(&seen, "\n")),
            ],
            hidden: vec![
                ("plain.txt".to_owned(), lines(&plain, "\n\n")),
                ("marked.txt".to_owned(), format!("\u{feff}{}", lines(&marked, "\n"))),
                ("windows.txt".to_owned(), lines(&windows, "\r\n") + "\r\n"),
                check(module, "read_counts", &calls.join("\n")),
            ],
            end: vec![checked()],
            solution: vec![write(&file, &of("utf-8-sig", &once, skip))],
            hard_coded: vec![write(&file, &fixed_answer)],
            near_miss: vec![write(&file, &of("utf-8", &once, skip))],
            ..Made::default()
        }
    },
};
