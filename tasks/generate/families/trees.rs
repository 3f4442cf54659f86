//! What families of folders share: names of folders and files, lines to fill files with, and what
//! must hold of a folder as a whole.

use std::ops::RangeInclusive;

use crate::generate::random::Random;
use crate::generate::template::{End, Parameter, output};

pub(super) const FOLDER: Parameter = Parameter {
    values: &[
        "docs", "data", "store", "media", "depot", "office", "garden", "studio", "harbor",
        "museum", "kitchen", "library",
    ],
};

/// Folders that are to be made: none of the above.
pub(super) const NEW_FOLDER: Parameter = Parameter {
    values: &["attic", "cellar", "vault", "annex", "hangar", "pantry", "closet", "loft"],
};

/// Files that are to be written.
pub(super) const RESULT: Parameter = Parameter {
    values: &[
        "result.txt",
        "answer.txt",
        "found.txt",
        "list.txt",
        "report.txt",
        "summary.txt",
        "output.txt",
        "reply.txt",
    ],
};

/// Of names and lines; none holds a word that a family's parameters have.
pub(super) const STEMS: [&str; 40] = [
    "amber", "birch", "cedar", "daisy", "ember", "fjord", "grove", "hazel", "iris", "jade", "kelp",
    "lilac", "maple", "nectar", "olive", "pebble", "quartz", "ridge", "sable", "tulip", "umber",
    "violet", "willow", "yarrow", "zinnia", "basil", "clover", "dune", "fern", "glade", "heron",
    "ivory", "juniper", "lotus", "moss", "opal", "poppy", "reed", "sorrel", "thyme",
];

/// Of folders inside of folders.
pub(super) const ROOMS: [&str; 12] = [
    "east", "west", "upper", "lower", "inner", "outer", "left", "right", "front", "back", "spring",
    "autumn",
];

/// Files by path, with what is in them, line ends at the end aside.
pub(super) type Files = Vec<(String, String)>;

/// Lines of a few words and a number.
pub(super) fn prose(random: &mut Random, lines: RangeInclusive<usize>) -> String {
    let count = random.within(lines);
    let line = |_| {
        let words = random.within(2..=4);
        format!("{} {}", random.some(&STEMS, words).join(" "), random.within(10..=999))
    };
    (0..count).map(line).collect::<Vec<_>>().join("\n")
}

/// A folder and four inside of it, down to the third level.
pub(super) fn rooms(random: &mut Random, root: &str) -> Vec<String> {
    let names = random.some(&ROOMS, 4);
    vec![
        root.to_owned(),
        format!("{root}/{}", names[0]),
        format!("{root}/{}", names[1]),
        format!("{root}/{}/{}", names[0], names[2]),
        format!("{root}/{}/{}/{}", names[0], names[2], names[3]),
    ]
}

/// So many files, one in each folder in turn; each folder has some of each extension once there
/// are enough.
pub(super) fn grow(
    random: &mut Random,
    folders: &[String],
    extensions: &[&str],
    count: usize,
) -> Files {
    let stems = random.some(&STEMS, count.min(STEMS.len()));
    let file = |(at, stem): (usize, &str)| {
        let folder = &folders[at % folders.len()];
        let extension = extensions[(at / folders.len()) % extensions.len()];
        (format!("{folder}/{stem}.{extension}"), prose(random, 1..=4))
    };
    stems.into_iter().enumerate().map(file).collect()
}

/// As a template's `start` wants them.
pub(super) fn lying(files: &[(String, String)]) -> Files {
    files.iter().map(|(path, text)| (path.clone(), format!("{text}\n"))).collect()
}

/// All files below the folder, seen from where `at` is: these and no others.
pub(super) fn tree(at: &str, folder: &str, files: &[(String, String)]) -> End {
    let mut files = files.to_vec();
    files.sort_unstable();
    let shown = |(path, text): &(String, String)| format!("== {path}\n{text}\n");
    output(
        &format!(
            "cd {at} && find {folder} -type f | LC_ALL=C sort | while IFS= read -r f; do printf \
             '%s\\n' \"== $f\" \"$(<\"$f\")\"; done"
        ),
        &files.iter().map(shown).collect::<String>(),
    )
}

/// The values of a kind but this one.
pub(super) fn others(kind: &Parameter, value: &str) -> Vec<&'static str> {
    kind.values.iter().copied().filter(|other| *other != value).collect()
}

/// Commands from a script: its lines.
pub(super) fn commands(script: &str) -> Vec<String> {
    script.lines().map(ToOwned::to_owned).collect()
}
