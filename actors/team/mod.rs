//! The agent team: an orchestrator that only delegates, explorers that read and run, coders that
//! implement, and the contexts through which they share what they know.
//!
//! `record.rs` is what happened; `agent.rs` and `conductor.rs` are the pure state machines over it;
//! `member.rs`, `context_store.rs` and `stage.rs` are the actors around them.

pub mod action;
pub mod contexts;
pub mod figures;
pub mod record;
pub mod role;
pub mod sample;
pub mod sent;
pub mod settings;

mod acts;
pub mod agent;
pub mod conductor;
mod delegation;
mod messages;
mod op;
mod opening;
pub mod prompts;
pub mod protocol;
mod view;

pub mod context_store;
pub mod member;
pub mod stage;

pub mod calls;
#[cfg(test)]
mod compact_tests;
#[cfg(test)]
mod corpus_tests;
pub mod fault;
mod fields;
pub mod grammar;
mod lenient_repair;
mod lenient_yaml;
pub mod read_action;
#[cfg(test)]
mod round_trip_tests;
mod schema;
mod tag;
pub mod write_action;
mod written;

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
