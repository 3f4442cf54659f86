//! A policy that learns from the rollouts of its own agents.

mod learning;
mod policy;
#[path = "../support/policy.rs"]
mod random_policy;
mod ranks_there;
mod ring_processes;
mod rings;
mod rollouts;
mod served;
mod stalled;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "of what all scenarios share, these need the task alone")]
mod support;
