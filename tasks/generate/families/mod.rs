//! The families, a file each.

mod files;
mod logs;
mod tables;
mod text;
mod words;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 4] = [files::FAMILY, logs::FAMILY, tables::FAMILY, text::FAMILY];
