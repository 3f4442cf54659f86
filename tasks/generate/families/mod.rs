//! The families, a file each.

mod files;
mod shell_bugs;
mod words;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 2] = [files::FAMILY, shell_bugs::FAMILY];
