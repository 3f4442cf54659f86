//! The families, a file each.

mod archives;
mod files;
mod git;
mod globs;
mod words;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 4] = [files::FAMILY, archives::FAMILY, git::FAMILY, globs::FAMILY];
