//! The agent team: an orchestrator that only delegates, explorers that read and run, coders that
//! implement, and the contexts through which they share what they know.

pub mod action;
pub mod record;
pub mod role;
pub mod settings;

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

#[cfg(test)]
mod inside_tests;
