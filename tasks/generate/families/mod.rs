//! The families, a file or a folder each; `trees`, `programs` and `words` are what several of them
//! draw from.

mod archives;
mod builds;
mod config;
mod files;
mod git;
mod globs;
mod permissions;
mod processes;
mod programs;
mod python_bugs;
mod schedules;
mod shell_bugs;
mod trees;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 11] = [
    files::FAMILY,
    archives::FAMILY,
    builds::FAMILY,
    config::FAMILY,
    git::FAMILY,
    globs::FAMILY,
    permissions::FAMILY,
    processes::FAMILY,
    python_bugs::FAMILY,
    schedules::FAMILY,
    shell_bugs::FAMILY,
];
