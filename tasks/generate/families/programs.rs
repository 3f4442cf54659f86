//! Words and helpers of the families in which programs are written or repaired.

use crate::generate::random::Random;
use crate::generate::template::{Parameter, quoted, write};

/// Of a program, without its ending. None is a module of Python's.
pub(super) const TOOL: Parameter = Parameter {
    values: &[
        "tally", "sweep", "gather", "pack", "scan", "sift", "relay", "ledger", "beacon", "digest",
        "survey", "clerk",
    ],
};

/// Each begins with another letter, and none is a part of another.
pub(super) const THING: Parameter = Parameter {
    values: &[
        "apple", "brick", "cedar", "delta", "ember", "flint", "grape", "hazel", "ivory", "jade",
        "kelp", "lemon", "maple", "north", "olive", "pearl",
    ],
};

pub(super) const EXTENSION: Parameter =
    Parameter { values: &["txt", "log", "csv", "dat", "cfg", "rec", "tab", "lst"] };

/// Of folders.
pub(super) const FOLDER: Parameter = Parameter {
    values: &["inbox", "stock", "orders", "photos", "notes", "drafts", "letters", "records"],
};

/// The text with its marks, such as `@name`, filled in, and without line ends around it.
pub(super) fn filled(text: &str, marks: &[(&str, &str)]) -> String {
    let text = text.trim_matches('\n').to_owned();
    marks.iter().fold(text, |text, (mark, value)| text.replace(mark, value))
}

/// A shell script that prints what is right for one input, whatever it is given.
pub(super) fn says_only(file: &str, text: &str) -> String {
    write(file, &format!("#!/bin/bash\ncat <<'END'\n{text}\nEND"))
}

/// Commands that make a folder and in it these files: name and content.
pub(super) fn lay(folder: &str, files: &[(String, String)]) -> Vec<String> {
    let make = format!("mkdir -p {}", quoted(folder));
    let file = |(name, text): &(String, String)| {
        format!("printf %s {} > {}", quoted(text), quoted(&format!("{folder}/{name}")))
    };
    std::iter::once(make).chain(files.iter().map(file)).collect()
}

/// So many lines of one word each.
pub(super) fn lines_of(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| format!("{}\n", random.pick(THING.values))).collect()
}

/// Things, each another, and none of `but`.
pub(super) fn things(random: &mut Random, count: usize, but: &[&str]) -> Vec<&'static str> {
    let left = THING.values.iter().filter(|thing| !but.contains(thing)).copied();
    random.some(&left.collect::<Vec<_>>(), count)
}
