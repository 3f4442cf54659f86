//! Files that are meant by a pattern: found by name, size and depth, renamed and moved in masses.

mod make;

use crate::generate::Difficulty::{Easy, Hard, Medium};
use crate::generate::Family;
use crate::generate::families::trees::{FOLDER, NEW_FOLDER, RESULT};
use crate::generate::template::{Parameter, Template};

pub(super) const FAMILY: Family = Family {
    name: "globs",
    about: "files found by pattern, size and depth; renamed, moved and deleted in masses",
    templates: &TEMPLATES,
};

const EXTENSION: Parameter = Parameter {
    values: &["txt", "csv", "log", "json", "html", "conf", "yaml", "sql", "xml", "ini"],
};

/// Of what is not needed.
const TRASH: Parameter = Parameter {
    values: &["tmp", "bak", "old", "rej", "orig", "cache", "part", "dump", "lock", "stale"],
};

const DEPTH: Parameter = Parameter { values: &["2", "3"] };

const SIZE: Parameter = Parameter { values: &["200", "250", "300", "350", "400"] };

/// For files without an extension.
const REST: Parameter =
    Parameter { values: &["misc", "plain", "other", "rest", "bare", "unsorted", "unknown"] };

const PREFIX: Parameter =
    Parameter { values: &["page", "scan", "photo", "track", "slide", "sheet", "frame", "plate"] };

const WIDTH: Parameter = Parameter { values: &["3", "4", "5"] };

/// None is a part of another, of a folder's name or of the words that files are named by.
const WORD: Parameter =
    Parameter { values: &["draft", "pilot", "trial", "rough", "final", "ready", "solid", "fresh"] };

const KEEP: Parameter = Parameter { values: &["2", "3"] };

static TEMPLATES: [Template; 7] = [
    Template {
        name: "count",
        difficulty: Easy,
        parameters: &[FOLDER, EXTENSION, RESULT],
        phrasings: &[
            "How many files below the folder {0}, at any depth, have a name that ends in .{1}? \
             Write the number into {2}. Hidden files count too, folders don't, and neither do \
             endings in capital letters.",
            "Count the regular files in {0} and all its subfolders whose name ends in .{1} (lower \
             case only; hidden files included; folders with such a name are not files). Put just \
             the number into {2}.",
            "{2} should hold one number: of how many files with the ending .{1} there are anywhere \
             under {0}. Count hidden ones as well. Don't count folders, or files where the ending \
             is not exactly .{1} in lower case.",
        ],
        make: make::count,
    },
    Template {
        name: "delete",
        difficulty: Easy,
        parameters: &[FOLDER, TRASH],
        phrasings: &[
            "Delete all files below {0}, at any depth, whose name ends in .{1} (in lower case), \
             hidden ones too. Folders stay, whatever they are called, and so do all other files.",
            "Clean up the folder {0}: every regular file ending in .{1} (lower case) has to go, in \
             all subfolders and including hidden files. Keep every other file, and keep all \
             folders, even one whose own name ends in .{1}.",
            "Remove the *.{1} files from {0} and everything under it (case matters; hidden files \
             as well). Nothing else may be removed: no folder and no other file.",
        ],
        make: make::delete,
    },
    Template {
        name: "large",
        difficulty: Medium,
        parameters: &[FOLDER, DEPTH, SIZE, RESULT],
        phrasings: &[
            "List the files under {0} that are larger than {2} bytes and lie at most {1} levels \
             deep, where a file directly in {0} is at level 1. Write their paths into {3}, one a \
             line, each starting with {0}/, sorted as LC_ALL=C sort does.",
            "Which files below {0} have more than {2} bytes? Look no deeper than level {1}: files \
             right in {0} are level 1, those in its subfolders level 2, and so on. Put the paths, \
             such as {0}/x/y, into {3}, one per line in byte order (LC_ALL=C).",
            "Into {3}, please write the path (beginning with {0}/) of every regular file of more \
             than {2} bytes within {1} levels of {0}; a file whose path is {0}/NAME is on the \
             first level. One path a line, sorted by LC_ALL=C sort.",
        ],
        make: make::large,
    },
    Template {
        name: "sort-into",
        difficulty: Medium,
        parameters: &[FOLDER, REST],
        phrasings: &[
            "Tidy up {0}: move each file that lies directly in it into a subfolder of {0} named \
             after the file's extension in lower case, so that {0}/Plan.TXT goes to \
             {0}/txt/Plan.TXT. The extension is what follows the last dot. Files without a dot go \
             into {0}/{1}. File names don't change, and what already is in subfolders stays there.",
            "Sort the files of the folder {0} (only those directly in it) into subfolders by \
             extension: NAME.EXT moves to {0}/EXT/NAME.EXT, with the folder's name, but not the \
             file's, in lower case. For several dots the part after the last counts. Files with no \
             dot in the name belong into {0}/{1}. Leave existing subfolders and their files alone.",
            "Each file at the top of {0} should move one folder down: into {0}/EXT, where EXT is \
             the text after the last dot of its name, made lower case, or into {0}/{1} if there is \
             no dot. Make the folders that are missing, rename no files, and touch nothing that is \
             in a subfolder already.",
        ],
        make: make::sort_into,
    },
    Template {
        name: "padded",
        difficulty: Medium,
        parameters: &[FOLDER, PREFIX, EXTENSION, WIDTH],
        phrasings: &[
            "The files in {0} that are called {1}-NUMBER.{2} don't sort well. Rename them so that \
             the number has exactly {3} digits, with zeros in front as needed; some have a zero in \
             front already. Leave alone all other files and those in subfolders.",
            "Rename {1}-N.{2} in the folder {0}, for every number N, such that N is written with \
             {3} digits (zeros in front). N may be given with a leading zero at present and is \
             always decimal. Other names and subfolders stay as they are.",
            "Pad the numbers in {0}: a file named {1}-7.{2} or {1}-07.{2} shall carry the same \
             number filled up to {3} digits with zeros. That concerns only files directly in {0} \
             named {1}-, digits, .{2}; nothing else is to be renamed.",
        ],
        make: make::padded,
    },
    Template {
        name: "word",
        difficulty: Hard,
        parameters: &[FOLDER, WORD, WORD],
        phrasings: &[
            "Below {0}, at any depth, rename every file and every folder with {1} in its name: \
             each occurrence of {1} becomes {2}. Capitals matter: a name with only, say, an upper \
             case form of the word stays. What is inside of files does not change.",
            "We now say {2} instead of {1}. Please apply that to all names of files and folders \
             under {0} (not to the text in the files): replace {1} by {2} wherever it occurs in a \
             name, as often as it occurs, in lower case only.",
            "In the tree {0}, replace the word {1} by {2} in the names of all files and \
             directories, however deep, every time it appears in a name. It is a case-sensitive \
             replacement, and file contents are left as they are.",
        ],
        make: make::word,
    },
    Template {
        name: "versions",
        difficulty: Hard,
        parameters: &[FOLDER, KEEP, NEW_FOLDER],
        phrasings: &[
            "In {0} and its subfolders there are files called NAME-vNUMBER.EXT. Files in the same \
             folder with the same NAME and EXT are versions of one thing. Keep the {1} highest \
             version numbers of each and move all lower ones to the new folder {2}, under the same \
             path relative to it: {0}/a/x-v1.txt becomes {2}/a/x-v1.txt. Other files stay.",
            "Retire old versions below {0}: a series is all files of one folder that are named \
             NAME-vN.EXT with equal NAME and EXT. By number, the {1} newest of each series remain; \
             the older ones move into {2} (make it), where they keep the subfolder they had inside \
             of {0}. Files without -vN before the extension are none of our business.",
            "Of every group of files NAME-v<number>.EXT (same folder, same NAME, same EXT) under \
             {0}, only the {1} with the greatest numbers should be left. The rest are to be found \
             at the same relative path under {2} afterwards, so {0}/b/y-v3.csv would be moved to \
             {2}/b/y-v3.csv. Don't touch files that have no version in their name.",
        ],
        make: make::versions,
    },
];
