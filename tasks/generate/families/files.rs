//! Simple work with files: one to three shell commands. Names and words are few and short, since
//! copying them is what small models find hardest.

use std::ops::RangeInclusive;

use crate::generate::Difficulty::{Easy, Medium};
use crate::generate::Family;
use crate::generate::random::Random;
use crate::generate::template::{Made, Parameter, Template, gone, has, number, text};

pub(super) const FAMILY: Family = Family {
    name: "files",
    about: "simple work with files: one to three shell commands",
    templates: &TEMPLATES,
};

/// Of what is there. What is not among these names is free for solutions.
const FILE: Parameter = Parameter {
    values: &["log", "map", "key", "pen", "cup", "box", "car", "bus", "hat", "jar", "net", "pin"],
};

/// Of what is to be made: other names, so that which is which is seen without counting.
const TARGET: Parameter = Parameter {
    values: &["out", "raw", "far", "odd", "low", "big", "tan", "dry", "hot", "wet", "dim", "icy"],
};

/// None is a part of another.
const WORD: Parameter = Parameter {
    values: &[
        "red", "blue", "cat", "dog", "sun", "moon", "tree", "fish", "milk", "rice", "king", "ship",
        "door", "lamp", "bell", "rain", "wolf", "rock", "gold", "leaf",
    ],
};

const COUNT: Parameter = Parameter { values: &["1", "2", "3"] };

/// What fixed answers say: no word of the above.
const FIXED: &str = "hello";

static TEMPLATES: [Template; 16] = [
    Template {
        name: "write",
        difficulty: Easy,
        parameters: &[WORD, TARGET],
        phrasings: &[
            "Write the word {0} into the file {1}.",
            "Make a file {1} with the word {0} in it.",
            "Put {0} into a new file {1}.",
            "Create {1}. Its text is {0}.",
        ],
        make: |values, _| {
            let (word, file) = (values[0], values[1]);
            Made {
                end: vec![text(file, word)],
                solution: vec![format!("echo {word} > {file}")],
                hard_coded: vec![format!("echo {FIXED} > {file}")],
                near_miss: vec![format!("echo {word} > {file}.txt")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "append",
        difficulty: Easy,
        parameters: &[WORD, FILE],
        phrasings: &[
            "Add the line {0} at the end of {1}.",
            "Append the word {0} to the file {1}.",
            "The last line of {1} is to be {0}: add it.",
        ],
        make: |values, random| {
            let (word, file) = (values[0], values[1]);
            let before = words(random, 2, &[word]).join("\n");
            Made {
                start: vec![has(file, &before)],
                end: vec![text(file, &format!("{before}\n{word}"))],
                solution: vec![format!("echo {word} >> {file}")],
                hard_coded: vec![format!("echo {FIXED} >> {file}")],
                near_miss: vec![format!("echo {word} > {file}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "copy",
        difficulty: Easy,
        parameters: &[FILE, TARGET],
        phrasings: &[
            "Copy the file {0} to {1}.",
            "Make a copy of {0} called {1}.",
            "{1} is to be a copy of {0}.",
        ],
        make: |values, random| {
            let (from, to) = (values[0], values[1]);
            let content = words(random, 2, &[]).join(" ");
            Made {
                start: vec![has(from, &content)],
                end: vec![text(to, &content), text(from, &content)],
                solution: vec![format!("cp {from} {to}")],
                hard_coded: vec![format!("echo {FIXED} > {to}")],
                near_miss: vec![format!("mv {from} {to}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "rename",
        difficulty: Easy,
        parameters: &[FILE, TARGET],
        phrasings: &[
            "Rename the file {0} to {1}.",
            "Give the file {0} the name {1}.",
            "The file {0} is to be called {1} instead.",
        ],
        make: |values, random| {
            let (from, to) = (values[0], values[1]);
            let content = words(random, 2, &[]).join(" ");
            Made {
                start: vec![has(from, &content)],
                end: vec![text(to, &content), gone(from)],
                solution: vec![format!("mv {from} {to}")],
                hard_coded: vec![format!("echo {FIXED} > {to}")],
                near_miss: vec![format!("cp {from} {to}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "remove",
        difficulty: Easy,
        parameters: &[FILE, FILE],
        phrasings: &[
            "Remove the files {0} and {1}.",
            "Delete {0} and {1}.",
            "The files {0} and {1} are not needed: remove them.",
        ],
        make: |values, random| {
            let (one, two) = (values[0], values[1]);
            let contents = words(random, 3, &[]);
            Made {
                start: vec![has(one, contents[0]), has(two, contents[1]), has("z", contents[2])],
                end: vec![gone(one), gone(two), text("z", contents[2])],
                solution: vec![format!("rm {one} {two}")],
                hard_coded: vec!["rm z".to_owned()],
                near_miss: vec![format!("rm {one}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "lines",
        difficulty: Easy,
        parameters: &[FILE, TARGET],
        phrasings: &[
            "Count the lines of {0}. Write the number into {1}.",
            "Write the number of lines in {0} into {1}.",
            "How many lines has {0}? Put the number into {1}.",
        ],
        make: |values, random| {
            let (from, to) = (values[0], values[1]);
            let lines = some_words(random, 2..=6, &[]);
            let content = lines.join("\n");
            Made {
                start: vec![has(from, &content)],
                end: vec![number(to, lines.len()), text(from, &content)],
                solution: vec![format!("wc -l < {from} > {to}")],
                hard_coded: vec![format!("echo 1 > {to}")],
                near_miss: vec![format!("wc -l {from} > {to}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "words",
        difficulty: Easy,
        parameters: &[FILE, TARGET],
        phrasings: &[
            "Count the words of {0}. Write the number into {1}.",
            "Write the number of words in {0} into {1}.",
            "How many words has {0}? Put the number into {1}.",
        ],
        make: |values, random| {
            let (from, to) = (values[0], values[1]);
            let lines = pairs(random, 2..=4, &[]);
            let content = lines.join("\n");
            Made {
                start: vec![has(from, &content)],
                end: vec![number(to, 2 * lines.len()), text(from, &content)],
                solution: vec![format!("wc -w < {from} > {to}")],
                hard_coded: vec![format!("echo 1 > {to}")],
                near_miss: vec![format!("wc -l < {from} > {to}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "join",
        difficulty: Easy,
        parameters: &[FILE, FILE, TARGET],
        phrasings: &[
            "Join {0} and {1} into {2}, in this order.",
            "Write the text of {0}, then that of {1}, into {2}.",
            "{2} is to be {0} followed by {1}.",
        ],
        make: |values, random| {
            let (one, two, to) = (values[0], values[1], values[2]);
            let contents = words(random, 2, &[]);
            Made {
                start: vec![has(one, contents[0]), has(two, contents[1])],
                end: vec![text(to, &contents.join("\n"))],
                solution: vec![format!("cat {one} {two} > {to}")],
                hard_coded: vec![format!("echo {FIXED} > {to}")],
                near_miss: vec![format!("cat {two} {one} > {to}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "sort",
        difficulty: Easy,
        parameters: &[FILE, TARGET],
        phrasings: &[
            "Sort the lines of {0} into {1}.",
            "Write the lines of {0} into {1}, sorted.",
            "{1} is to have the lines of {0} in alphabetical order.",
        ],
        make: |values, random| {
            let (from, to) = (values[0], values[1]);
            let mut lines = some_words(random, 3..=5, &[]);
            let content = lines.join("\n");
            lines.sort_unstable();
            Made {
                start: vec![has(from, &content)],
                end: vec![text(to, &lines.join("\n")), text(from, &content)],
                solution: vec![format!("sort {from} > {to}")],
                hard_coded: vec![format!("echo {FIXED} > {to}")],
                near_miss: vec![format!("sort -r {from} > {to}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "keep",
        difficulty: Easy,
        parameters: &[WORD, FILE, TARGET],
        phrasings: &[
            "Write the lines of {1} with the word {0} into {2}.",
            "{2} is to have only the lines of {1} that hold {0}.",
            "Find the lines with {0} in {1} and put them into {2}.",
        ],
        make: |values, random| {
            let (word, from, to) = (values[0], values[1], values[2]);
            let mut lines = pairs(random, 4..=5, &[word]);
            let kept = [0, 2].map(|at: usize| format!("{word} {}", lines[at]));
            lines[0].clone_from(&kept[0]);
            lines[2].clone_from(&kept[1]);
            Made {
                start: vec![has(from, &lines.join("\n"))],
                end: vec![text(to, &kept.join("\n"))],
                solution: vec![format!("grep {word} {from} > {to}")],
                hard_coded: vec![format!("echo {word} > {to}")],
                near_miss: vec![format!("grep -v {word} {from} > {to}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "first",
        difficulty: Easy,
        parameters: &[COUNT, FILE, TARGET],
        phrasings: &[
            "Write the first lines of {1} into {2}: {0} of them.",
            "Put the top {0} of the lines of {1} into {2}.",
            "{2} is to have the lines of {1} up to number {0}.",
        ],
        make: |values, random| {
            let (count, from, to) = (values[0], values[1], values[2]);
            let lines = words(random, 5, &[]);
            let first = count.parse().unwrap_or(0);
            Made {
                start: vec![has(from, &lines.join("\n"))],
                end: vec![text(to, &lines[..first].join("\n"))],
                solution: vec![format!("head -n {count} {from} > {to}")],
                hard_coded: vec![format!("echo {FIXED} > {to}")],
                near_miss: vec![format!("tail -n {count} {from} > {to}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "replace",
        difficulty: Easy,
        parameters: &[WORD, WORD, FILE],
        phrasings: &[
            "Replace every {0} by {1} in the file {2}.",
            "In {2}, write {1} wherever it says {0}.",
            "Change all {0} in {2} to {1}.",
        ],
        make: |values, random| {
            let (old, new, file) = (values[0], values[1], values[2]);
            let other = words(random, 2, &[old, new]);
            let content = format!("{old} {} {old}\n{}", other[0], other[1]);
            Made {
                start: vec![has(file, &content)],
                end: vec![text(file, &content.replace(old, new))],
                solution: vec![format!("sed -i s/{old}/{new}/g {file}")],
                hard_coded: vec![format!("echo {new} > {file}")],
                near_miss: vec![format!("sed -i s/{old}/{new}/ {file}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "folder",
        difficulty: Medium,
        parameters: &[TARGET, FILE, WORD],
        phrasings: &[
            "Make a folder {0} and in it a file {1} with the word {2}.",
            "Write {2} into the file {1} in a new folder {0}.",
            "Create {0}/{1} with the text {2}. {0} is a new folder.",
        ],
        make: |values, _| {
            let (folder, file, word) = (values[0], values[1], values[2]);
            let new = || format!("mkdir {folder}");
            Made {
                end: vec![text(&format!("{folder}/{file}"), word)],
                solution: vec![new(), format!("echo {word} > {folder}/{file}")],
                hard_coded: vec![new(), format!("echo {FIXED} > {folder}/{file}")],
                near_miss: vec![new(), format!("echo {word} > {file}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "into",
        difficulty: Medium,
        parameters: &[TARGET, FILE],
        phrasings: &[
            "Make a folder {0} and move the file {1} into it.",
            "Move {1} into a new folder {0}.",
            "The file {1} belongs into a folder {0}, which is not there yet.",
        ],
        make: |values, random| {
            let (folder, file) = (values[0], values[1]);
            let content = words(random, 2, &[]).join(" ");
            let new = || format!("mkdir {folder}");
            Made {
                start: vec![has(file, &content)],
                end: vec![text(&format!("{folder}/{file}"), &content), gone(file)],
                solution: vec![new(), format!("mv {file} {folder}")],
                hard_coded: vec![new(), format!("echo {FIXED} > {folder}/{file}")],
                near_miss: vec![new(), format!("cp {file} {folder}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "swap",
        difficulty: Medium,
        parameters: &[FILE, FILE],
        phrasings: &[
            "Swap the files {0} and {1}.",
            "{0} is to have the text of {1}, and {1} that of {0}.",
            "Exchange the texts of {0} and {1}.",
        ],
        make: |values, random| {
            let (one, two) = (values[0], values[1]);
            let contents = words(random, 2, &[]);
            let fixed = |file: &str| format!("echo {FIXED} > {file}");
            Made {
                start: vec![has(one, contents[0]), has(two, contents[1])],
                end: vec![text(one, contents[1]), text(two, contents[0])],
                solution: vec![
                    format!("mv {one} z"),
                    format!("mv {two} {one}"),
                    format!("mv z {two}"),
                ],
                hard_coded: vec![fixed(one), fixed(two)],
                near_miss: vec![format!("cp {one} {two}"), format!("cp {two} {one}")],
                ..Made::default()
            }
        },
    },
    Template {
        name: "save",
        difficulty: Medium,
        parameters: &[FILE, TARGET, WORD],
        phrasings: &[
            "Copy {0} to {1}, then write {2} into {0}.",
            "Save {0} as {1}. Then let the text of {0} be {2}.",
            "Write {2} into {0}, but keep its old text in {1}.",
        ],
        make: |values, random| {
            let (file, saved, word) = (values[0], values[1], values[2]);
            let content = words(random, 2, &[word]).join(" ");
            let write = || format!("echo {word} > {file}");
            Made {
                start: vec![has(file, &content)],
                end: vec![text(file, word), text(saved, &content)],
                solution: vec![format!("cp {file} {saved}"), write()],
                hard_coded: vec![format!("echo {FIXED} > {saved}"), write()],
                near_miss: vec![write(), format!("cp {file} {saved}")],
                ..Made::default()
            }
        },
    },
];

/// So many words, each another, and none of `but`.
fn words(random: &mut Random, count: usize, but: &[&str]) -> Vec<&'static str> {
    let mut left: Vec<&str> =
        WORD.values.iter().filter(|word| !but.contains(word)).copied().collect();
    let mut draw = || left.swap_remove(random.below(left.len() as u64) as usize);
    (0..count).map(|_| draw()).collect()
}

fn some_words(
    random: &mut Random,
    counts: RangeInclusive<usize>,
    but: &[&str],
) -> Vec<&'static str> {
    let count = counts.start() + random.below((counts.end() - counts.start() + 1) as u64) as usize;
    words(random, count, but)
}

/// Lines of two words.
fn pairs(random: &mut Random, counts: RangeInclusive<usize>, but: &[&str]) -> Vec<String> {
    let count = some_words(random, counts, &[]).len();
    (0..count).map(|_| words(random, 2, but).join(" ")).collect()
}
