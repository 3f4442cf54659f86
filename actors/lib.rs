//! The actors of a rollout, and the sandboxes they work in.

pub mod sandbox;
