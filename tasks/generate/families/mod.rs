//! The families, a file each.

mod builds;
mod files;
mod processes;
mod python_bugs;
mod schedules;
mod shell_bugs;
mod words;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 6] = [
    files::FAMILY,
    shell_bugs::FAMILY,
    python_bugs::FAMILY,
    schedules::FAMILY,
    processes::FAMILY,
    builds::FAMILY,
];
