//! A tiny random policy, served over real HTTP, and embedded in a run of rollouts.

mod client;
mod http;
mod lab;
mod limits;
#[path = "../support/policy.rs"]
mod policy;
mod program;
mod rollout;
mod sampling;
mod shapes;
#[path = "../support/mod.rs"]
mod support;
mod wrong;
