//! Shell scripts with mistakes that shell scripts have: names with spaces, patterns that match
//! nothing, comparison as text, variables lost in a subshell, statuses overwritten. The tests run
//! the repaired script on other input than the one that the agent sees.

mod folders;
mod lines;
mod strict;

use crate::generate::Family;
use crate::generate::template::Template;

pub(super) const FAMILY: Family = Family {
    name: "shell-bugs",
    about: "repair shell scripts: quoting, comparison, subshells, statuses, patterns",
    templates: &TEMPLATES,
};

static TEMPLATES: [Template; 7] = [
    folders::SPACES,
    lines::AT_LEAST,
    lines::SUBSHELL,
    strict::STATUS,
    folders::NO_MATCH,
    folders::ROTATE,
    strict::STRICT,
];
