//! The actors of a rollout, and the sandboxes they work in.

pub mod archive;
pub mod fake;
pub mod guest;
mod guest_wire;
#[cfg(test)]
mod guest_wire_tests;
pub mod sandbox;

pub mod agent;
pub mod attempt;
pub mod environment;
pub mod phase;
pub mod pool;
pub mod rollout;
pub mod start_gate;
pub mod verifier;

/// The guest agent is a program of its own; here its parts are only formatted, linted and tested.
#[cfg(test)]
#[path = "guest_agent.rs"]
mod guest_agent;
