//! The families, a file each.

mod checksums;
mod files;
mod logs;
mod sqlite;
mod tables;
mod text;
mod words;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 6] =
    [checksums::FAMILY, files::FAMILY, logs::FAMILY, sqlite::FAMILY, tables::FAMILY, text::FAMILY];
