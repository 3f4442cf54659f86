//! From gradients to the next weights.

pub mod adamw;
pub mod schedule;
mod sharded;

pub(crate) use sharded::Proposal;
