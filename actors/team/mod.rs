//! The agent team: an orchestrator that only delegates, explorers that read and run, coders that
//! implement, and the contexts through which they share what they know.

pub mod action;
pub mod contexts;
pub mod figures;
pub mod record;
pub mod role;
pub mod sample;
pub mod settings;
