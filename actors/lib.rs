//! The actors of a rollout, and the sandboxes they work in.

pub mod archive;
pub mod fake;
pub mod sandbox;

pub mod environment;
pub mod phase;
pub mod pool;
pub mod start_gate;
