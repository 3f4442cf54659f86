//! Words that several families draw from, and how they look at tables and at what scripts print.

use crate::generate::template::{self, End, holds, output, text};

/// All begin with a capital, so that every locale sorts them alike.
pub(super) const PEOPLE: [&str; 30] = [
    "Ada", "Ben", "Cleo", "Dora", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jade", "Karl", "Lena",
    "Milo", "Nora", "Otto", "Pia", "Quin", "Rosa", "Sven", "Tara", "Ugo", "Vera", "Walt", "Xena",
    "Yuri", "Zoe", "Abel", "Bea", "Cara", "Dirk",
];

pub(super) const CITIES: [&str; 12] = [
    "Oslo", "Lima", "Cairo", "Kyoto", "Quito", "Perth", "Turin", "Delhi", "Malmo", "Tunis",
    "Porto", "Dakar",
];

pub(super) const GOODS: [&str; 24] = [
    "anvil", "basket", "candle", "drill", "easel", "funnel", "goblet", "hammer", "inkpot",
    "jigsaw", "kettle", "ladder", "mirror", "needle", "oven", "pillow", "quilt", "rope", "saddle",
    "table", "umbrella", "vase", "wrench", "zither",
];

pub(super) const COLORS: [&str; 10] =
    ["amber", "black", "coral", "green", "ivory", "olive", "pink", "red", "teal", "white"];

/// The lines of these, with an end after each but the last.
pub(super) fn lines<T: AsRef<str>>(of: impl IntoIterator<Item = T>) -> String {
    of.into_iter().map(|line| line.as_ref().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Files at the start are still as they were.
pub(super) fn untouched(start: &[(String, String)]) -> Vec<End> {
    start.iter().map(|(path, content)| text(path, content)).collect()
}

/// A command that an agent wrote prints this; what it exits with is not asked.
pub(super) fn prints(command: &str, text: &str) -> End {
    output(&format!("timeout 5 {command} < /dev/null 2> /dev/null || true"), text)
}

/// The commands of a solution that runs this program of Python.
pub(super) fn python(program: &str) -> Vec<String> {
    vec![template::python(program)]
}

/// A line of CSV: fields are quoted where they must be.
pub(super) fn csv_line<T: AsRef<str>>(fields: &[T]) -> String {
    let field = |field: &T| {
        let field = field.as_ref();
        let quote = field.contains([',', '"']);
        if quote { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
    };
    fields.iter().map(field).collect::<Vec<_>>().join(",")
}

pub(super) fn csv(rows: &[Vec<String>]) -> String {
    lines(rows.iter().map(|row| csv_line(row)))
}

/// A row of a table.
pub(super) fn row(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|&field| field.to_owned()).collect()
}

/// The hidden program of [`rows`].
pub(super) fn rows_program() -> (String, String) {
    let program = r#"import csv, sys
with open(sys.argv[1], newline="") as file:
    for row in csv.reader(file):
        print("|".join(row))
"#;
    ("rows.py".to_owned(), program.to_owned())
}

/// A CSV file with these rows, quoted or not, with either kind of line ends. No field has a bar.
pub(super) fn rows(file: &str, rows: &[Vec<String>]) -> End {
    let wanted = lines(rows.iter().map(|row| row.join("|")));
    output(&format!("python3 /tests/rows.py {file}"), &wanted)
}

/// A file with one JSON value, that of the hidden file, however it is laid out.
pub(super) fn json(file: &str, hidden: &str) -> End {
    let command = format!("jq -es --slurpfile want /tests/{hidden} '. == $want' {file}");
    holds(&format!("{file} has the right JSON value"), &command)
}
