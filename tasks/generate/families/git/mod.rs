//! Repositories: what their history tells, and mending it.

mod bring;
mod history;
mod search;

use crate::generate::Difficulty::{Easy, Hard, Medium};
use crate::generate::Family;
use crate::generate::families::trees::RESULT;
use crate::generate::template::{Parameter, Template};

pub(super) const FAMILY: Family = Family {
    name: "git",
    about: "git: find commits, restore, revert, pick, merge, ignore, recover",
    templates: &TEMPLATES,
};

const REPOSITORY: Parameter = Parameter {
    values: &["ledger", "atlas", "beacon", "kettle", "lantern", "pylon", "quiver", "rudder"],
};

/// None of the words that files are filled with.
const WORD: Parameter = Parameter {
    values: &[
        "walrus", "otter", "badger", "lemur", "ferret", "bison", "gecko", "tapir", "marmot",
        "ocelot",
    ],
};

const BRANCH: Parameter = Parameter {
    values: &["feature", "topic", "redesign", "prototype", "upgrade", "spike", "cleanup", "next"],
};

const FILE: Parameter = Parameter {
    values: &[
        "budget.txt",
        "contacts.txt",
        "schedule.txt",
        "prices.txt",
        "glossary.txt",
        "roadmap.txt",
    ],
};

const SCRIPT: Parameter =
    Parameter { values: &["total.sh", "tally.sh", "yield.sh", "count.sh", "score.sh", "sum.sh"] };

/// Endings of what is built or written by programs.
const PRODUCT: Parameter = Parameter { values: &["log", "tmp", "o", "pyc", "bin", "cache"] };

/// Folders whose products are kept.
const KEPT: Parameter = Parameter { values: &["samples", "fixtures", "golden", "examples"] };

/// Folders of products.
const OUTPUT: Parameter = Parameter { values: &["build", "dist", "target", "out"] };

/// Whose value is taken where both have changed it.
const WINNER: Parameter = Parameter { values: &["main", "the other branch"] };

static TEMPLATES: [Template; 8] = [
    Template {
        name: "find",
        difficulty: Easy,
        parameters: &[REPOSITORY, WORD, RESULT],
        phrasings: &[
            "In the git repository {0}, some commit on main removed the line {1} from words.txt. \
             Write the full hash of that commit into /app/{2}.",
            "The file words.txt in the repository {0} (git, branch main) once had a line {1}. \
             Which commit took it out of this file? Put its full 40 digit hash into /app/{2}.",
            "Find the commit in {0}, a git repository, by which the word {1} disappeared from \
             words.txt, and write its complete hash to /app/{2}.",
        ],
        make: search::find,
    },
    Template {
        name: "pick",
        difficulty: Medium,
        parameters: &[REPOSITORY, BRANCH, WORD],
        phrasings: &[
            "In the git repository {0}, the branch {1} has a commit with the subject Add {2} \
             support. Bring the change of this commit, and nothing else from that branch, onto \
             main as one new commit with the same subject. Leave {1} as it is.",
            "Please take the single commit \"Add {2} support\" from branch {1} of the repository \
             {0} over to its main branch: one commit more on main, same subject, none of the other \
             changes of {1}. The branch {1} must not change.",
            "The repository {0} needs one change from its branch {1} on main: that of the commit \
             whose subject is \"Add {2} support\". Main should get exactly one new commit, with \
             this subject and this change only; {1} remains where it is.",
        ],
        make: bring::pick,
    },
    Template {
        name: "undo",
        difficulty: Medium,
        parameters: &[REPOSITORY, WORD],
        phrasings: &[
            "In the git repository {0}, the commit with the subject Switch to {1} layout has to be \
             undone. Do it with one new commit on main (any message), so that all other changes, \
             also the later ones, stay, and so does the history.",
            "Main in the repository {0} has a bad commit, \"Switch to {1} layout\". Take back what \
             it changed, and only that, in a single new commit on top of main. The existing \
             history is not to be rewritten.",
            "Undo the change that \"Switch to {1} layout\" made in {0} (a git repository, branch \
             main) by adding one commit. Later work must be kept, and no existing commit may be \
             dropped or altered.",
        ],
        make: bring::undo,
    },
    Template {
        name: "restore",
        difficulty: Medium,
        parameters: &[REPOSITORY, FILE],
        phrasings: &[
            "In the git repository {0}, the file plans/{1} was deleted by some earlier commit. \
             Bring it back with the text it had just before that, and commit it on main as one new \
             commit that changes nothing else.",
            "Somebody deleted plans/{1} from the repository {0}. Restore its last version and \
             commit this on main: one new commit with this file only, on top of the history as it \
             is.",
            "We need plans/{1} again in {0} (git, branch main), exactly as it was before the \
             commit that removed it. Add it in a single new commit, without touching any other \
             file or older commits.",
        ],
        make: bring::restore,
    },
    Template {
        name: "ignore",
        difficulty: Medium,
        parameters: &[REPOSITORY, PRODUCT, KEPT, OUTPUT],
        phrasings: &[
            "In the git repository {0}, files ending in .{1} should be ignored everywhere, except \
             at any depth below the folder {2} at the top. Ignore the top folder {3} too, but not \
             folders called {3} elsewhere. Files that are tracked now and fall under these rules \
             must leave version control but stay on disk. Keep the rules that exist. Commit all \
             this on main.",
            "Extend the .gitignore of {0}: ignore *.{1} in all folders, though not in the tree \
             {2}/ of the top folder, and ignore {3}/ at the top only. Older rules stay. Then \
             untrack every tracked file that is now ignored, without deleting it from disk, and \
             commit on main.",
            "Repository {0}: no file *.{1} is to be tracked any more, nor anything in the top \
             level folder {3}, but *.{1} files below the top level folder {2} still are, and so \
             are other folders named {3} deeper down. Write that into .gitignore, in addition to \
             what it says, remove such files from the index but not from disk, and commit on main.",
        ],
        make: bring::ignore,
    },
    Template {
        name: "merge",
        difficulty: Hard,
        parameters: &[REPOSITORY, BRANCH, WINNER],
        phrasings: &[
            "Merge the branch {1} into main in the git repository {0}, with a merge commit. In \
             settings.conf there are conflicts. Settle them key by key: a key that only one side \
             changed or added gets that side's value; where main and {1} both changed a key, the \
             value of {2} wins. One line a key, order doesn't matter.",
            "The repository {0}: {1} must be merged into main (a real merge commit), but both \
             sides edited settings.conf. The merged file should have each key once, in any order: \
             changes and new keys of only one side are all kept, and for keys that both sides \
             changed, take {2}'s value.",
            "Bring {1} into main by a merge in the git repository {0}. For settings.conf, look at \
             each key by itself: changed (or added) on one side only means that this change \
             counts; changed on both sides means that {2} decides. Every key has exactly one line \
             in the end, in whatever order.",
        ],
        make: bring::merge,
    },
    Template {
        name: "bisect",
        difficulty: Hard,
        parameters: &[REPOSITORY, SCRIPT, RESULT],
        phrasings: &[
            "In the git repository {0}, sh {1} should print the number that is in expected.txt. It \
             did at first, but some commit on main broke it, and it has been wrong since. Write \
             the full hash of the first bad commit into /app/{2}.",
            "The script {1} in the repository {0} (git, branch main) prints another number than \
             expected.txt says, though it was right in the beginning and wrong ever since one \
             certain commit. Find this commit and put its full hash into /app/{2}.",
            "Find the commit in {0} that broke {1}: from it on, up to the newest one on main, the \
             script no longer prints what is in expected.txt, and before it always did. /app/{2} \
             should have the complete hash of that commit.",
        ],
        make: search::bisect,
    },
    Template {
        name: "lost",
        difficulty: Hard,
        parameters: &[REPOSITORY, BRANCH, WORD],
        phrasings: &[
            "In the git repository {0}, main was reset by mistake, and the commit Add {2} report \
             was lost. It had been amended; what I want is its last version. Make a branch {1} \
             that points to exactly this commit. Leave main where it is.",
            "Somebody ran git reset --hard on main of the repository {0}, and a commit with the \
             subject \"Add {2} report\" is gone. Create the branch {1} at that commit (the commit \
             itself, no copy), and if it was amended, at its newest version. Main must not change.",
            "Recover the dropped commit \"Add {2} report\" in {0} (git). There are several \
             versions, since it was amended: the latest is the right one. A new branch named {1} \
             is to point at it, with its original hash; main stays as it is now.",
        ],
        make: search::lost,
    },
];
