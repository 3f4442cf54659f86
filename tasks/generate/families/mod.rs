//! The families, a file each.

mod files;
mod globs;
mod words;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 2] = [files::FAMILY, globs::FAMILY];
