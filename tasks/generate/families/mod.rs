//! The families, a file each.

mod archives;
mod files;
mod globs;
mod words;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 3] = [files::FAMILY, archives::FAMILY, globs::FAMILY];
