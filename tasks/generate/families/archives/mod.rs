//! Archives: taken from, made, changed, put together again.

mod make;
mod restore;

use crate::generate::Difficulty::{Easy, Hard, Medium};
use crate::generate::Family;
use crate::generate::families::trees::{FOLDER, NEW_FOLDER, RESULT};
use crate::generate::template::{Parameter, Template};

pub(super) const FAMILY: Family = Family {
    name: "archives",
    about: "archives of tar, gzip, xz, bzip2 and zip: packed, unpacked, repaired, pieced together",
    templates: &TEMPLATES,
};

const ARCHIVE: Parameter = Parameter {
    values: &[
        "backup.tar.gz",
        "site.tar.xz",
        "photos.tar.bz2",
        "project.tar.gz",
        "release.tar.xz",
        "mail.tar.bz2",
        "wiki.tar.gz",
        "records.tar.xz",
    ],
};

const MEMBER: Parameter = Parameter {
    values: &["invoice", "contract", "manual", "recipe", "budget", "minutes", "lecture", "resume"],
};

/// Endings of what is not to be packed.
const TRASH: Parameter =
    Parameter { values: &["tmp", "bak", "log", "rej", "orig", "part", "dump", "lock"] };

/// Folders that are not to be packed.
const SKIPPED: Parameter =
    Parameter { values: &["cache", "build", "target", "vendor", "logs", "scratch"] };

const SECRET: Parameter = Parameter {
    values: &["secrets.env", "password.txt", "private.key", "token.txt", "credentials.json"],
};

const DAY: Parameter = Parameter { values: &["6", "7", "8", "9", "10", "11"] };

const KIND: Parameter =
    Parameter { values: &["txt", "csv", "log", "conf", "yaml", "sql", "xml", "ini"] };

static TEMPLATES: [Template; 7] = [
    Template {
        name: "member",
        difficulty: Easy,
        parameters: &[ARCHIVE, MEMBER, RESULT],
        phrasings: &[
            "Somewhere in the archive {0} there is a file called {1}.txt. Write its text into {2}. \
             Unpack nothing else here, and leave the archive as it is.",
            "I need one file from {0}: the one whose name is exactly {1}.txt, in whatever folder \
             it is. Save it as {2}. No other file of the archive should be left in this folder.",
            "Extract {1}.txt (just the one with this very name; I don't know in which folder of \
             the archive it lies) from {0} to {2}, without leaving anything else unpacked.",
        ],
        make: make::member,
    },
    Template {
        name: "pack",
        difficulty: Easy,
        parameters: &[FOLDER, ARCHIVE, TRASH, SKIPPED],
        phrasings: &[
            "Pack the folder {0} into a new archive {1}, compressed as the name says, with paths \
             that start with {0}/. Leave out all files ending in .{2} and, at any depth, all \
             folders called {3} with what is in them. The folder itself stays unchanged.",
            "Make {1} (compression as in its name) from the folder {0}. It should hold {0} with \
             everything in it but the *.{2} files and the directories named {3}, wherever these \
             are. Paths in the archive begin with {0}/. Don't delete anything in {0}.",
            "Archive {0} as {1}, compressed accordingly. Not wanted inside: any file whose name \
             ends in .{2}, and anything in a folder that is named exactly {3}, on any level. In \
             the archive all paths are {0}/...; on disk nothing changes.",
        ],
        make: make::pack,
    },
    Template {
        name: "repack",
        difficulty: Medium,
        parameters: &[ARCHIVE, ARCHIVE, SECRET],
        phrasings: &[
            "We want to hand out {0}, but without any file called {2}. Make {1}, compressed as its \
             name says, with the same paths, texts, permissions and symbolic links, only without \
             the files of that name, in whatever folder they are. {0} stays as it is.",
            "Make a new archive {1} from the archive {0}. Every file named {2}, at any depth, must \
             be missing from it; everything else must be in it under the same path, with the same \
             mode, and symbolic links must still be links. Compress it as the ending of {1} tells. \
             Keep {0}.",
            "{1} should become a copy of the archive {0}, recompressed for its file ending, from \
             which all files called {2} (there may be several) have been taken out. File modes, \
             links and paths are to be preserved, and {0} itself must not change.",
        ],
        make: make::repack,
    },
    Template {
        name: "joined",
        difficulty: Medium,
        parameters: &[FOLDER, ARCHIVE, NEW_FOLDER],
        phrasings: &[
            "The archive {1} was cut into pieces, which are in {0}: {1}.part1, {1}.part2 and so \
             on. Put them together in the order of their numbers and unpack the archive into a new \
             folder {2}. The pieces stay.",
            "In {0} you find {1} in numbered pieces ({1}.part1, {1}.part2, ...). Unpack the whole \
             archive into {2}, a folder that doesn't exist yet, so that what is at the top of the \
             archive is directly in {2}. Don't remove the pieces.",
            "Join the numbered parts {0}/{1}.part* to get {1} back and extract its contents right \
             into the folder {2}, which you must create. Leave the parts where they are.",
        ],
        make: restore::joined,
    },
    Template {
        name: "damaged",
        difficulty: Medium,
        parameters: &[FOLDER, NEW_FOLDER, RESULT],
        phrasings: &[
            "Some of the .gz files in {0} are damaged: they are no gzip files, or end too early, \
             or their checksum is wrong. Move the damaged ones into a new folder {1}. Write the \
             unpacked texts of the good ones, one after the other by file name, into {2}; the good \
             files themselves stay compressed in {0}.",
            "Check all {0}/*.gz with gzip. Files that don't pass go to the folder {1} (make it). \
             All others remain in {0} as they are, and their decompressed contents, in the order \
             of the file names, are to be concatenated into {2}, with nothing of the bad files.",
            "Please separate good from bad: every .gz file in {0} that can't be decompressed \
             without an error is to be moved into {1}, a new folder. {2} should then have the text \
             of all the intact ones, joined in alphabetical order of their names. Don't unpack \
             those in place.",
        ],
        make: restore::damaged,
    },
    Template {
        name: "daily",
        difficulty: Hard,
        parameters: &[FOLDER, DAY, NEW_FOLDER],
        phrasings: &[
            "{0} holds a full backup, full.tar.gz, and what changed each day after: day-N.tar.gz \
             with the files that were new or changed on day N, and, where files were deleted, \
             day-N.deleted with their paths, one a line. Of each day, apply the deletions first, \
             then the archive. Restore the files as they were at the end of day {1} into the new \
             folder {2}.",
            "Bring back the state of day {1} from the backups in {0}, into a new folder {2}. Start \
             with full.tar.gz; then for every day N up to and including {1}: delete the files that \
             day-N.deleted lists (if there is such a file), and unpack day-N.tar.gz over the rest. \
             Paths in lists and archives are relative to the top. Days after {1} don't count.",
            "The folder {0} has a full.tar.gz and, for several days, day-N.tar.gz (files added or \
             changed) and often day-N.deleted (paths of files removed, to be dealt with before \
             that day's archive is unpacked). {2} should be created with exactly the files that \
             existed when day {1} was over.",
        ],
        make: restore::daily,
    },
    Template {
        name: "nested",
        difficulty: Hard,
        parameters: &[ARCHIVE, KIND, NEW_FOLDER],
        phrasings: &[
            "The archive {0} has archives inside (.tar.gz, .tar.xz and .zip), and these again, \
             several levels deep. Collect all files ending in .{1} from all levels in the new \
             folder {2}, without subfolders: no two have the same name. Nothing else should be in \
             {2}.",
            "Find every .{1} file in {0}. Look also into the archives it contains (.zip, .tar.gz, \
             .tar.xz), into the archives in those, and so on. Put these files next to each other \
             into a folder {2}, which is to be made and to hold only them; their names are all \
             different.",
            "Unpack {0} completely, which means also the .tar.gz, .tar.xz and .zip files in it at \
             whatever depth, and copy what ends in .{1} flatly into {2} (create it). File names \
             don't collide. {2} must contain these files and no others.",
        ],
        make: restore::nested,
    },
];
