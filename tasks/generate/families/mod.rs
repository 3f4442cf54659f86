//! The families, a file each.

mod files;
mod tables;
mod text;
mod words;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 3] = [files::FAMILY, tables::FAMILY, text::FAMILY];
