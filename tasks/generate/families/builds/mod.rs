//! Small C programs and their Makefiles. The tests build anew and run what was built.

mod make;
mod sources;

use crate::generate::Family;
use crate::generate::template::Template;

pub(super) const FAMILY: Family = Family {
    name: "builds",
    about: "C and make: libraries, dependencies, Makefiles, compile errors, small bugs",
    templates: &TEMPLATES,
};

static TEMPLATES: [Template; 6] = [
    sources::LIBRARY,
    sources::COMPILE,
    make::HEADER,
    sources::STATISTICS,
    make::FROM_SCRATCH,
    make::ARCHIVE,
];

/// A command that makes all targets, without a word.
const MAKE: &str = "timeout 20 make > /dev/null 2>&1";

/// Makes all that is there older than what is changed from now on, all by the same time.
const AGE: &str = "find . -type f -exec touch -d '2020-01-01 00:00:00' {} +";
