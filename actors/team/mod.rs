//! The agent team: an orchestrator that only delegates, explorers that read and run, coders that
//! implement, and the contexts through which they share what they know.

pub mod action;
pub mod contexts;
pub mod figures;
pub mod record;
pub mod role;
pub mod sample;
pub mod settings;

#[cfg(test)]
mod corpus_tests;
mod fields;
pub mod grammar;
mod lenient_repair;
mod lenient_yaml;
pub mod prompts;
pub mod read_action;
#[cfg(test)]
mod round_trip_tests;
mod schema;
pub mod write_action;

pub mod bash;
pub mod bootstrap;
pub mod diff;
pub mod edit;
pub mod files;
pub mod hands;
pub mod nearest;
pub mod notes;
pub mod pattern;
pub mod search;
pub mod shell;
pub mod snapshot;
pub mod text;
