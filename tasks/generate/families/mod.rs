//! The families, a file each.

mod files;
mod logs;
mod sqlite;
mod tables;
mod text;
mod words;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 5] =
    [files::FAMILY, logs::FAMILY, sqlite::FAMILY, tables::FAMILY, text::FAMILY];
