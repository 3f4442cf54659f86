//! The families, a file each.

mod files;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 1] = [files::FAMILY];
