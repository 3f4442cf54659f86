//! SHA-256 sums of files: lists of them, what is damaged, what is twice, what has moved.

mod folders;
mod lists;

use sha2::{Digest as _, Sha256};

use crate::file_tree::hex;
use crate::generate::Difficulty::{Easy, Hard, Medium};
use crate::generate::Family;
use crate::generate::families::words::{COLORS, GOODS, PEOPLE, lines};
use crate::generate::random::Random;
use crate::generate::template::{Parameter, Template};

pub(super) const FAMILY: Family = Family {
    name: "checksums",
    about: "SHA-256 sums of files: lists of them, what is damaged, what is twice, what has moved",
    templates: &TEMPLATES,
};

const FOLDER: Parameter =
    Parameter { values: &["data", "files", "docs", "store", "photos", "parts", "media", "assets"] };

const MANIFEST: Parameter = Parameter {
    values: &["SHA256SUMS", "sums.txt", "manifest.txt", "hashes.txt", "checksums.txt", "all.sums"],
};

const OUTPUT: Parameter = Parameter {
    values: &["result.txt", "report.txt", "list.txt", "found.txt", "out.txt", "names.txt"],
};

const DAMAGED: Parameter = Parameter { values: &["changed.txt", "damaged.txt", "broken.txt"] };

const ABSENT: Parameter = Parameter { values: &["missing.txt", "absent.txt", "gone.txt"] };

const KEPT: Parameter = Parameter { values: &["first", "last"] };

const LENGTH: Parameter = Parameter { values: &["8", "10", "12", "16", "20", "24"] };

const LIST: Parameter = Parameter {
    values: &["monday.sums", "friday.sums", "may.sums", "june.sums", "office.sums", "home.sums"],
};

const CHANGED: Parameter = Parameter { values: &["changed", "broken", "bad"] };

const MISSING: Parameter = Parameter { values: &["missing", "lost", "gone"] };

const EXTRA: Parameter = Parameter { values: &["extra", "new", "unknown"] };

const SCRIPT: Parameter =
    Parameter { values: &["verify.sh", "check.sh", "audit.sh", "compare.sh", "look.sh"] };

const BACKUP: Parameter = Parameter { values: &["backup", "copies", "mirror", "spare"] };

static TEMPLATES: [Template; 7] = [
    Template {
        name: "manifest",
        difficulty: Easy,
        parameters: &[FOLDER, MANIFEST],
        phrasings: &[
            "Write the SHA-256 sums of all files in the folder {0}, those in folders below it \
             included, into {1} (not inside {0}), as sha256sum prints them: the hash, two spaces, \
             the path. Paths are relative to {0}, without './' in front, and the lines are sorted \
             by path.",
            "Make a file {1} beside the folder {0} that lists each file in {0}, at any depth, with \
             its SHA-256 hash: a line is the hash in hexadecimal, two spaces and the path from \
             inside {0} (like sub/name.txt, with no leading './'). Sort by path.",
            "I need a checksum list {1} of the folder {0}, next to it, in sha256sum format ('hash  \
             path'), covering files in subfolders too. The paths start below {0}, as in a/b.txt \
             and not ./a/b.txt or {0}/a/b.txt, and are in alphabetical order.",
        ],
        make: lists::manifest,
    },
    Template {
        name: "damaged",
        difficulty: Medium,
        parameters: &[FOLDER, DAMAGED, ABSENT],
        phrasings: &[
            "SHA256SUMS lists files of the folder {0} with the sums they should have; paths are \
             relative to {0}. Write the paths of files with another content than that into {1}, \
             and of those that are not there at all into {2}: as in the list, one a line, sorted. \
             Change nothing in {0}.",
            "Check the folder {0} against SHA256SUMS (sha256sum format, paths relative to {0}). \
             {1} is to list the files whose hash is wrong, {2} the files that do not exist, each \
             as a sorted list of paths as written in SHA256SUMS, one per line. Leave {0} alone.",
            "Some files in {0} got damaged and some were lost. The right sums are in SHA256SUMS, \
             where paths begin inside {0}. Put the paths of the damaged ones (there, but with \
             another SHA-256 sum) into {1} and the paths of the lost ones into {2}, a line each in \
             alphabetical order. Do not repair or touch anything in {0}.",
        ],
        make: lists::damaged,
    },
    Template {
        name: "moved",
        difficulty: Medium,
        parameters: &[LIST, LIST, OUTPUT],
        phrasings: &[
            "{0} and {1} are sha256sum lists of the same folder, {0} from before and {1} from \
             after a clean-up. Find the files that were moved or renamed: their hash is in both \
             lists, but with different paths. Write 'old path -> new path' for each into {2}, \
             sorted by old path. No two files have the same hash.",
            "Compare the checksum lists {0} (old) and {1} (new). Each hash occurs at most once in \
             a list. For every hash that both have under different paths, write a line with the \
             old path, ' -> ' and the new path to {2}, in alphabetical order of the old paths. \
             Files that stayed, changed, went or came are not listed.",
            "Which files have a new name in {1} compared to {0}? Both are lists as sha256sum \
             writes them, and a file is recognized by its hash, which is unique within a list. \
             Save lines 'OLD -> NEW' (paths as in the lists) as {2}, ordered by OLD. Leave out \
             files whose path is the same and files that only one list has.",
        ],
        make: lists::moved,
    },
    Template {
        name: "dedup",
        difficulty: Medium,
        parameters: &[KEPT, FOLDER, OUTPUT],
        phrasings: &[
            "Several files in {1}, at any depth, have exactly the same content. Of each such set \
             keep the file whose path comes {0} in alphabetical order and delete the others. Write \
             the paths of the deleted files, beginning with {1}/, into {2}, sorted, one a line.",
            "Remove duplicate files in the folder {1} and the folders in it: where contents are \
             identical, only the file with the alphabetically {0} path stays. List what you \
             removed in {2}, one path per line starting with {1}/, in alphabetical order.",
            "Free space in {1}, subfolders included: files with equal content are to exist only \
             once, namely as the one that is {0} when their paths are sorted. Delete the rest, and \
             record the deleted paths ({1}/...) in {2}, sorted, a line each. Files without a twin \
             are not touched.",
        ],
        make: folders::dedup,
    },
    Template {
        name: "rename",
        difficulty: Medium,
        parameters: &[LENGTH, FOLDER],
        phrasings: &[
            "Rename every file in the folder {1} to the first {0} hexadecimal digits of the \
             SHA-256 sum of its content, followed by its extension: the part of the old name from \
             the last dot on. So a.b.txt may become 0123....txt. There are no folders in {1}.",
            "Give all files in {1} names made from their content: the SHA-256 hash, cut to {0} hex \
             digits (lower case), plus the old extension, which begins at the last dot of the \
             name. Contents stay the same, and the old names go away. {1} has no subfolders.",
            "The files in {1} (a flat folder) shall be named by their hash. New name: the first \
             {0} characters of what sha256sum prints for the file, then the extension as it was, \
             '.' included; only what follows the last dot counts as extension. Rename them all in \
             place.",
        ],
        make: folders::rename,
    },
    Template {
        name: "verify",
        difficulty: Hard,
        parameters: &[CHANGED, MISSING, EXTRA, SCRIPT],
        phrasings: &[
            "Write a Bash script {3}, run as 'bash {3} FOLDER LIST'; sample and sample.sums are \
             examples. LIST is a list in sha256sum format with paths relative to FOLDER. Print a \
             line for each path that is not as it should be: '{0} PATH' for another hash, '{1} \
             PATH' for a listed file that is not there, '{2} PATH' for a file in FOLDER, at any \
             depth, that is not listed. Sort by PATH. Names may have spaces; both arguments may be \
             relative paths.",
            "I want {3}, a Bash script that compares a folder with a checksum list: 'bash {3} \
             sample sample.sums', or with other such pairs, given by absolute or relative paths. \
             The list is from sha256sum, run inside the folder. Report deviations, sorted by path, \
             as '{0} path' (hash differs), '{1} path' (listed but not there) and '{2} path' \
             (there, maybe in a subfolder, but not listed); paths as in the list, without './'. \
             File names can contain spaces. Print nothing for files that are all right.",
            "Make the Bash script {3}. Its arguments are a folder and a list of SHA-256 sums of \
             the files in it (as sha256sum writes it, paths relative to the folder), like sample \
             and sample.sums here; either may be a relative path. It prints to standard output, \
             ordered by path, one line for every difference: the word {0}, {1} or {2}, a space and \
             the path relative to the folder. {0}: the sum is not that of the list. {1}: no such \
             file. {2}: the list lacks this file; look into subfolders too. Expect names with \
             spaces.",
        ],
        make: folders::verify,
    },
    Template {
        name: "restore",
        difficulty: Hard,
        parameters: &[FOLDER, BACKUP, OUTPUT],
        phrasings: &[
            "SHA256SUMS says what the files in {0} should be (paths relative to {0}), but some are \
             damaged or missing. {1}/1, {1}/2 and {1}/3 are old copies of the folder, which are \
             not all good either. Restore each such file in {0} from a copy with the right sum. \
             Where none has it, leave things as they are and write the path, as listed, into {2}, \
             sorted, one a line. Do not change {1} or other files.",
            "Repair the folder {0}. The right SHA-256 sums are in SHA256SUMS, with paths relative \
             to {0}. For a file that is missing or has another sum, look into the backups {1}/1, \
             {1}/2, {1}/3 for the same path and copy one whose sum is right; backups may be \
             damaged or incomplete. Files without any good backup stay as they are (or missing): \
             list their paths as in SHA256SUMS, sorted, one per line in {2}. The backups stay \
             unchanged.",
            "We lost data in {0}: compare it with SHA256SUMS (paths in it start inside {0}). \
             Whatever is damaged or gone must come back from {1}, which holds three generations 1, \
             2 and 3 of the folder, but take only a version that matches its sum, from whichever \
             generation. What cannot be restored is left alone and listed in {2}: sorted paths, \
             written as in SHA256SUMS, a line each. Nothing else in {0} and nothing in {1} may \
             change.",
        ],
        make: folders::restore,
    },
];

fn sum(content: &str) -> String {
    hex(&Sha256::digest(content))
}

/// As sha256sum writes it.
fn listed(files: &[(String, String)]) -> String {
    lines(files.iter().map(|(path, content)| format!("{}  {path}", sum(content))))
}

/// Files, each with another content, in order of their paths. No folder's name begins like a
/// file's, so that this order is the same whether paths are compared whole or part by part.
fn tree(random: &mut Random, count: usize) -> Vec<(String, String)> {
    let folders = ["", "north/", "south/", "west/deep/"];
    let names = random.some(&GOODS, count);
    let mut files: Vec<(String, String)> = names
        .into_iter()
        .enumerate()
        .map(|(at, name)| {
            let end = *random.pick(&["txt", "md", "csv", "log"]);
            (format!("{}{name}.{end}", folders[at % 4]), content(random, at))
        })
        .collect();
    files.sort_unstable();
    files
}

/// Some lines, of which the first has this number.
fn content(random: &mut Random, number: usize) -> String {
    let mut content = format!("No. {}\n", 100 + number);
    for _ in 0..random.within(1..=4) {
        let (person, color) = (random.pick(&PEOPLE), random.pick(&COLORS));
        content.push_str(&format!("{person} {color} {}\n", random.within(10..=99)));
    }
    content
}

/// With one letter changed, as long as before.
fn spoiled(content: &str) -> String {
    content.replacen("No.", "Mo.", 1)
}

/// The files in a folder.
fn inside(folder: &str, files: &[(String, String)]) -> Vec<(String, String)> {
    files.iter().map(|(path, content)| (format!("{folder}/{path}"), content.clone())).collect()
}
