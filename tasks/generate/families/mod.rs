//! The families, a file or a folder each. What several of them draw from is beside them: `words`
//! (data), `trees` (folders of files) and `programs` (what is written or repaired).

mod archives;
mod builds;
mod checksums;
mod config;
mod files;
mod git;
mod globs;
mod logs;
mod permissions;
mod processes;
mod programs;
mod python_bugs;
mod schedules;
mod shell_bugs;
mod sqlite;
mod tables;
mod text;
mod trees;
mod words;

use crate::generate::Family;

/// All there are: the simplest first.
pub static FAMILIES: [Family; 16] = [
    files::FAMILY,
    archives::FAMILY,
    builds::FAMILY,
    checksums::FAMILY,
    config::FAMILY,
    git::FAMILY,
    globs::FAMILY,
    logs::FAMILY,
    permissions::FAMILY,
    processes::FAMILY,
    python_bugs::FAMILY,
    schedules::FAMILY,
    shell_bugs::FAMILY,
    sqlite::FAMILY,
    tables::FAMILY,
    text::FAMILY,
];
