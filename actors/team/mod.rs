//! The agent team: an orchestrator that only delegates, explorers that read and run, coders that
//! implement, and the contexts through which they share what they know.

pub mod action;
#[cfg(test)]
mod corpus_tests;
pub mod fault;
mod fields;
pub mod grammar;
mod lenient_repair;
mod lenient_yaml;
pub mod prompts;
pub mod read_action;
pub mod record;
pub mod role;
#[cfg(test)]
mod round_trip_tests;
mod schema;
pub mod settings;
mod tag;
pub mod write_action;
