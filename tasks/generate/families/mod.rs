//! The families, a file each.

mod archives;
mod config;
mod files;
mod git;
mod globs;
mod permissions;
mod words;

use crate::generate::Family;

/// All there are.
pub static FAMILIES: [Family; 6] = [
    files::FAMILY,
    archives::FAMILY,
    config::FAMILY,
    git::FAMILY,
    globs::FAMILY,
    permissions::FAMILY,
];
