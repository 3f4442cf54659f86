//! What a task is.
//!
//! This crate knows the formats in which terminal tasks are written, and everything about a task
//! that needs no container: reading and refusing, selecting, admitting, grading rules, and the
//! records of what happened. It does no I/O beyond reading and writing task files, starts no
//! process, and knows no other crate of Orcapack.
//!
//! - [`Task`] is the one shape that every format is read into; [`FileTree`] holds its files.
//! - [`dataset::load`] reads a data set and reports every [`Defect`] in it at once; the good tasks
//!   go on.
//! - [`grading`] turns a verifier's report into a reward; [`outcome`] names how a rollout can end.

pub mod admission;
pub mod authoring;
pub mod curriculum;
pub mod defect;
pub mod dockerfile;
mod dockerfile_lines;
mod dockerfile_plan;
mod dockerfile_words;
pub mod file_tree;
mod file_tree_wire;
pub mod grading;
pub mod outcome;
pub mod pass_at_k;
pub mod planted;
pub mod pytest_report;
pub mod similarity;
pub mod task;
pub mod task_digest;
pub mod trajectory;

pub mod caps;
pub mod env_template;
pub mod folder;
pub mod near;
pub mod splitmix;
pub mod toml_doc;
pub mod toml_section;
pub mod yaml_doc;

mod compose;
pub mod harbor;
mod harbor_environment;
mod harbor_toml;
mod harbor_verifier;
pub mod orca_csv;
pub mod terminal_bench;

pub mod dataset;
pub mod generate;
pub mod import;
pub mod manifest;
pub mod select;

#[cfg(test)]
mod bad_input_tests;
#[cfg(test)]
mod fixture;

pub use dataset::DataSet;
pub use defect::{Defect, Defects};
pub use file_tree::{Digest, FileEntry, FileTree};
pub use outcome::{AgentFailure, FailureClass, Outcome};
pub use select::Selection;
pub use task::Task;
