//! Scripts that are run on further files.

use std::collections::{BTreeMap, BTreeSet};

use crate::generate::families::words::{CITIES, COLORS, GOODS, PEOPLE, lines, prints, untouched};
use crate::generate::random::Random;
use crate::generate::template::{Made, has, write};

/// What is run, on what, and what a fixed answer to it would be.
struct Trial<'a> {
    script: &'a str,
    sample: String,
    wanted: String,
    hidden: Vec<(String, String)>,
}

impl Trial<'_> {
    fn made(self, solution: &str, near_miss: &str) -> Made {
        let Self { script, sample, wanted, hidden } = self;
        let start = vec![has("sample.txt", &sample)];
        let mut end = vec![prints(&format!("bash {script} sample.txt"), &wanted)];
        let mut files = Vec::new();
        for (at, (input, wanted)) in hidden.into_iter().enumerate() {
            files.push(has(&format!("input{at}.txt"), &input));
            end.push(prints(&format!("bash {script} /tests/input{at}.txt"), &wanted));
        }
        end.extend(untouched(&start));
        Made {
            start,
            hidden: files,
            end,
            solution: vec![write(script, solution)],
            hard_coded: vec![write(script, &format!("cat <<'SAID'\n{wanted}\nSAID"))],
            near_miss: vec![write(script, near_miss)],
            ..Made::default()
        }
    }
}

pub(super) fn records(values: &[&'static str], random: &mut Random) -> Made {
    let (one, two, script) = (values[0], values[1], values[2]);
    let sample = some_records(random, [one, two], 5, "\n\n", false);
    let spaced = some_records(random, [one, two], 12, "\n\n", true);
    let hidden = vec![spaced, some_records(random, [one, two], 9, "\n\n\n\n", true)];
    let program = |missing: &str| {
        format!(
            r#"awk -v RS= -F '\n' '{{
  one = two = "{missing}"
  for (i = 1; i <= NF; i++) {{
    if (index($i, "{one}: ") == 1) one = substr($i, {})
    if (index($i, "{two}: ") == 1) two = substr($i, {})
  }}
  print one "\t" two
}}' "$1""#,
            one.len() + 3,
            two.len() + 3
        )
    };
    let (sample, wanted) = sample;
    Trial { script, sample, wanted, hidden }.made(&program("-"), &program(""))
}

/// So many records, and what is asked of them. The second lacks the one key and the third the
/// other, if any lack one; the first has a value with a colon.
fn some_records(
    random: &mut Random,
    asked: [&str; 2],
    count: usize,
    between: &str,
    lacking: bool,
) -> (String, String) {
    let keys = ["name", "city", "phone", "email", "team", "role", "note"];
    let (mut all, mut wanted) = (Vec::new(), Vec::new());
    for at in 0..count {
        let person = *random.pick(&PEOPLE);
        let value = |key: &str, random: &mut Random| match key {
            "name" => person.to_owned(),
            "city" => (*random.pick(&CITIES)).to_owned(),
            "phone" => format!("0{}", random.within(10_000..=99_999)),
            "email" => format!("{}@mail.test", person.to_lowercase()),
            "team" => format!("{} team", random.pick(&COLORS)),
            "role" => (*random.pick(&["cook", "clerk", "guide", "pilot", "baker"])).to_owned(),
            // Looks like what is asked, but is not at the start of a line.
            _ => format!("no {}: yet", asked[0]),
        };
        let lacks =
            |key: &str| lacking && ((at == 1 && key == asked[0]) || (at == 2 && key == asked[1]));
        let mut record: Vec<(&str, String)> = Vec::new();
        for key in random.shuffled(&keys) {
            let optional = key != asked[0] && key != asked[1];
            if lacks(key) || (optional && random.below(3) == 0) {
                continue;
            }
            let mut value = value(key, random);
            if at == 0 && key == asked[1] {
                value = format!("new: {value}");
            }
            record.push((key, value));
        }
        let of = |asked: &str| {
            let found = record.iter().find(|(key, _)| *key == asked);
            found.map_or("-", |(_, value)| value)
        };
        wanted.push(format!("{}\t{}", of(asked[0]), of(asked[1])));
        all.push(lines(record.iter().map(|(key, value)| format!("{key}: {value}"))));
    }
    (all.join(between), lines(wanted))
}

pub(super) fn pivot(values: &[&'static str], random: &mut Random) -> Made {
    let (row, mark, script) = (values[0], values[1], values[2]);
    let separator = match mark {
        "comma" => ",",
        "semicolon" => ";",
        "colon" => ":",
        _ => "\t",
    };
    let (sample, wanted) = some_amounts(random, row, separator, 3, 12);
    let hidden = vec![
        some_amounts(random, row, separator, 5, 40),
        some_amounts(random, row, separator, 4, 25),
    ];
    let program = |set: &str| {
        format!(
            r#"python3 - "$1" <<'PROGRAM'
import sys
cells, rows, items = {{}}, set(), set()
for line in open(sys.argv[1]):
    row, item, amount = line.split()
    rows.add(row)
    items.add(item)
    {set}
mark = {separator:?}
print(mark.join(["{row}"] + sorted(items)))
for row in sorted(rows):
    print(mark.join([row] + [str(cells.get((row, item), 0)) for item in sorted(items)]))
PROGRAM"#
        )
    };
    let sum = program("cells[row, item] = cells.get((row, item), 0) + int(amount)");
    let last = program("cells[row, item] = int(amount)");
    Trial { script, sample, wanted, hidden }.made(&sum, &last)
}

/// Lines with amounts, and their table. At least one cell has two amounts and one has none.
fn some_amounts(
    random: &mut Random,
    row: &str,
    separator: &str,
    size: usize,
    count: usize,
) -> (String, String) {
    let rows: Vec<String> = (1..=9).map(|at| format!("{row}{at}")).collect();
    let rows = random.some(&rows, size);
    let items = random.some(&GOODS, size);
    let mut entries = vec![(0, 0), (0, 0), (1, 0)];
    entries.extend((1..size).map(|at| (at, at)));
    while entries.len() < count {
        let (row, item) = (random.within(0..=size - 1), random.within(0..=size - 1));
        if (row, item) != (0, size - 1) {
            entries.push((row, item));
        }
    }
    let mut all = Vec::new();
    let mut cells: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (row, item) in random.shuffled(&entries) {
        let (row, item, amount) = (&*rows[row], items[item], random.within(1..=60));
        *cells.entry((row, item)).or_default() += amount;
        all.push(format!("{row} {item} {amount}"));
    }
    let items: BTreeSet<&str> = items.into_iter().collect();
    let rows: BTreeSet<&str> = rows.iter().map(|row| &**row).collect();
    let header = std::iter::once(row.to_owned()).chain(items.iter().map(|item| (*item).to_owned()));
    let mut table = vec![header.collect::<Vec<_>>().join(separator)];
    for row in rows {
        let cells = items.iter().map(|item| cells.get(&(row, *item)).unwrap_or(&0).to_string());
        let line: Vec<String> = std::iter::once(row.to_owned()).chain(cells).collect();
        table.push(line.join(separator));
    }
    (lines(all), lines(table))
}
