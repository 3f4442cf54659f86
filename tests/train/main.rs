//! A policy that learns from the rollouts of its own agents.

#[path = "../support/policy.rs"]
mod policy;
mod ranks_there;
mod rings;
mod rollouts;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "of what all scenarios share, these need the task alone")]
mod support;
