//! Modes, symbolic links and hard links.

mod links;
mod modes;

use crate::generate::Difficulty::{Easy, Hard, Medium};
use crate::generate::Family;
use crate::generate::families::trees::{FOLDER, NEW_FOLDER, RESULT};
use crate::generate::template::{Parameter, Template};

pub(super) const FAMILY: Family = Family {
    name: "permissions",
    about: "modes of files and folders, symbolic and hard links",
    templates: &TEMPLATES,
};

const KIND: Parameter =
    Parameter { values: &["txt", "csv", "log", "conf", "yaml", "sql", "xml", "key"] };

const MODE: Parameter =
    Parameter { values: &["640", "600", "750", "700", "660", "440", "400", "664"] };

/// What a bit of a mode allows.
const ALLOWED: Parameter = Parameter {
    values: &[
        "others may write",
        "others may read",
        "others may execute",
        "the group may write",
        "the group may execute",
        "the owner may execute",
    ],
};

const FOLDER_MODE: Parameter = Parameter { values: &["750", "755", "700", "770"] };

const SCRIPT_MODE: Parameter = Parameter { values: &["754", "744", "710", "500"] };

const FILE_MODE: Parameter = Parameter { values: &["640", "600", "604", "660"] };

const MASTER: Parameter = Parameter {
    values: &["master.txt", "original.txt", "pattern.txt", "source.txt", "model.txt", "base.txt"],
};

const LISTING: Parameter = Parameter {
    values: &[
        "modes.lst",
        "rights.lst",
        "listing.lst",
        "manifest.lst",
        "saved.lst",
        "before.lst",
        "tree.lst",
        "inventory.lst",
    ],
};

static TEMPLATES: [Template; 7] = [
    Template {
        name: "ending",
        difficulty: Easy,
        parameters: &[FOLDER, KIND, MODE],
        phrasings: &[
            "Give every file below {0} whose name ends in .{1}, at any depth, the mode {2}. No \
             other file's mode may change, and no folder's.",
            "Set the permissions of all regular files *.{1} in {0} and its subfolders to {2}. \
             Leave folders (whatever their names) and other files as they are.",
            "All .{1} files anywhere in the tree {0} need mode {2}; change nothing else, in \
             particular no directory.",
        ],
        make: modes::ending,
    },
    Template {
        name: "allowed",
        difficulty: Easy,
        parameters: &[FOLDER, ALLOWED, RESULT],
        phrasings: &[
            "Find all regular files below {0} that {1}, going by their mode bits. Write their \
             paths, each starting with {0}/, into {2}, one a line, sorted as LC_ALL=C sort does.",
            "Which files (no folders, no links) under {0} are such that {1}, according to their \
             mode? List the paths in {2}, in the form {0}/..., one per line in byte order \
             (LC_ALL=C).",
            "Into {2}, write one path a line, sorted by LC_ALL=C sort: every regular file in the \
             tree {0} whose mode says that {1}, whatever its other bits are. Paths begin with \
             {0}/.",
        ],
        make: modes::allowed,
    },
    Template {
        name: "policy",
        difficulty: Medium,
        parameters: &[FOLDER, FOLDER_MODE, SCRIPT_MODE, FILE_MODE],
        phrasings: &[
            "Bring the modes in {0} into line: {0} itself and all folders below it get {1}. Files \
             whose first two characters are #! are scripts and get {2}, whatever their name; all \
             other files get {3}, hidden ones too.",
            "Our rule for the tree {0}: directories (including {0}) have mode {1}, scripts {2}, \
             and every other file {3}. A script is a file that starts with #!, the ending of its \
             name says nothing. Apply that to everything, also to hidden files.",
            "Please set the permissions in {0}, at all depths: {1} for each folder, the top one \
             included; {2} for each file that begins with #!; {3} for every remaining file, hidden \
             or not. Note that names are no sign of what is a script.",
        ],
        make: modes::policy,
    },
    Template {
        name: "broken",
        difficulty: Medium,
        parameters: &[FOLDER, RESULT],
        phrasings: &[
            "Some symbolic links below {0} are broken: what they point to does not exist (a link \
             to a broken link is broken too). Write the paths of all broken ones into {1}, \
             starting with {0}/, one a line, sorted as LC_ALL=C sort does, and remove these links. \
             Everything else stays.",
            "Remove every dangling symbolic link in the tree {0}, also those that lead to another \
             dangling link, and keep those that work. {1} should list the paths ({0}/...) of the \
             links you removed, one per line, in byte order (LC_ALL=C).",
            "Clean the symbolic links under {0}: those which in the end lead nowhere are to be \
             deleted and their paths, like {0}/a/b, noted in {1} (a line each, sorted by LC_ALL=C \
             sort). Working links and all files remain untouched.",
        ],
        make: links::broken,
    },
    Template {
        name: "hard-link",
        difficulty: Medium,
        parameters: &[FOLDER, MASTER],
        phrasings: &[
            "Several files below {0}, at any depth, have the very same content as {0}/{1}. Replace \
             each of them by a hard link to {0}/{1}. All other files stay as they are.",
            "Save space in {0}: every file in it or its subfolders that is byte for byte equal to \
             {0}/{1} should become a hard link (not a symbolic one) to that file. Keep all names, \
             and don't touch files that differ.",
            "Look for copies of {0}/{1} anywhere in the tree {0} and turn each copy, under its own \
             name, into a hard link to {0}/{1}. A file is a copy if its content is identical. \
             Leave everything else alone.",
        ],
        make: links::hard_link,
    },
    Template {
        name: "moved",
        difficulty: Hard,
        parameters: &[FOLDER, FOLDER, NEW_FOLDER],
        phrasings: &[
            "The folder /app/{1} has been moved to /app/{2}, so the absolute symbolic links below \
             {0} that point to it or into it are broken. Replace each by a link of the same name \
             with a relative target that leads to the same thing in /app/{2}. Leave all other \
             links as they are.",
            "Since /app/{1} is now called /app/{2}, symbolic links in {0} (at any depth) with \
             targets /app/{1} or /app/{1}/... dangle. Make these links point to the corresponding \
             path in /app/{2} again, now relative to where each link lies. Other links must keep \
             their targets.",
            "Fix the symbolic links in the tree {0}: wherever the target is /app/{1} or a path in \
             it, the link should lead to the same place under /app/{2}, the folder's new name, by \
             a relative path (no target that starts with /). Don't change links to anything else.",
        ],
        make: links::moved,
    },
    Template {
        name: "listing",
        difficulty: Hard,
        parameters: &[FOLDER, LISTING],
        phrasings: &[
            "The modes in {0} were lost. {1} tells what they were: each line has a mode as ls -l \
             shows it, two spaces, and a path relative to {0}. Set them again, with set-user-ID, \
             set-group-ID and sticky bits (s, S, t, T). Ignore lines for paths that no longer \
             exist; what is not listed keeps its mode.",
            "Restore permissions below {0} from {1}. A line there is like -rwxr-x---  some/path: \
             the mode in the notation of ls -l, two spaces, the path inside {0}. Mind the letters \
             s, S, t and T, which stand for special bits. Don't create listed paths that are gone, \
             and don't change files that have no line.",
            "{1} was saved while the permissions of the tree {0} were still right: per line, ls \
             -l's ten characters, then two spaces and the path as seen from {0}. Give every listed \
             file and folder that still exists exactly that mode, special bits (s/S, t/T) \
             included, and leave all others alone.",
        ],
        make: modes::listing,
    },
];
