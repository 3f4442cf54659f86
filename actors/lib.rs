//! The actors of a rollout, and the sandboxes they work in.

pub mod archive;
pub mod fake;
pub mod sandbox;

pub mod agent;
pub mod attempt;
pub mod environment;
pub mod phase;
pub mod pool;
pub mod rollout;
pub mod start_gate;
pub mod verifier;
