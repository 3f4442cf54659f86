//! The composition root: reports.

pub mod report;
pub mod summary;
pub mod table;
