//! The actors of a rollout, and the sandboxes they work in.

pub mod archive;
mod cgroup;
pub mod docker;
mod docker_container;
mod docker_context;
mod docker_engine;
pub mod docker_facts;
mod docker_image;
mod docker_sandbox;
pub mod fake;
pub mod guest;
mod guest_setup;
mod guest_wire;
#[cfg(test)]
mod guest_wire_tests;
pub mod process;
mod process_build;
mod process_filter;
mod process_image;
mod process_rootfs;
mod process_state;
pub mod sandbox;

pub mod agent;
mod alarm;
pub mod attempt;
pub mod breaker;
pub mod census;
pub mod clock;
pub mod environment;
pub mod model;
pub mod phase;
pub mod pool;
pub mod reaper;
mod rollout;
pub mod rollout_supervisor;
pub mod start_gate;
pub mod team;
pub mod verifier;

/// The guest agent is a program of its own; here its parts are only formatted, linted and tested.
#[cfg(test)]
#[path = "guest_agent.rs"]
mod guest_agent;
