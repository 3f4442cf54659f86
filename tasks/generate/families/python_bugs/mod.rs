//! Python modules with mistakes that Python modules have: mutable defaults, ranges that end too
//! early, ties in the wrong order, floats for money, encodings, recursion that runs out. The tests
//! call the repaired functions with other values than those that the agent sees.

mod files;
mod sequences;
mod trees;

use crate::generate::Family;
use crate::generate::families::programs::filled;
use crate::generate::template::{End, Template, output};

pub(super) const FAMILY: Family = Family {
    name: "python-bugs",
    about: "repair Python modules: defaults, ranges, ties, rounding, encoding, recursion",
    templates: &TEMPLATES,
};

static TEMPLATES: [Template; 7] = [
    sequences::DEFAULT,
    sequences::WINDOWS,
    sequences::RANKING,
    files::MONEY,
    files::ENCODING,
    trees::TREE,
    trees::MERGE,
];

/// A program of the tests that calls a module's functions.
fn check(module: &str, functions: &str, calls: &str) -> (String, String) {
    let program = filled(
        "
import sys
sys.path.insert(0, \"/app\")
from @module import @functions
@calls
print(\"right\")
",
        &[("@module", module), ("@functions", functions), ("@calls", calls.trim_matches('\n'))],
    );
    ("check.py".to_owned(), program + "\n")
}

/// That program comes to its end. What a module prints by itself is nobody's business.
fn checked() -> End {
    output("timeout 10 python3 -B /tests/check.py | tail -n 1", "right")
}
