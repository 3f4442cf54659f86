//! Nodes that know and trust each other, and what passes between them.
//!
//! From the wire upwards: [`codec`] makes bytes of messages and back, [`link`] is what a connection
//! to a peer can do, [`lane`] carries whole messages over one of its streams. This crate knows no
//! other of ours: what a message means is its users' business.

pub mod address;
pub mod caps;

pub mod codec;
pub mod link;

pub mod lane;
mod lane_queue;
mod lane_reader;

pub mod credentials;

mod admission;
#[cfg(any(test, feature = "sim"))]
#[path = "fixture_tests.rs"]
pub mod fixture;
pub mod memory;
mod memory_pipe;
pub mod mesh;
mod mesh_actor;
mod mesh_calls;
mod mesh_events;
#[cfg(test)]
mod mesh_fixture_tests;
mod mesh_greet;
mod mesh_lives;
#[cfg(test)]
mod mesh_sim_tests;
#[cfg(test)]
mod mesh_socket_tests;
mod peer;
mod peer_rules;
pub mod quic;
mod quic_accept;
mod quic_config;
mod quic_error;
mod quic_link;
#[cfg(any(test, feature = "sim"))]
pub mod quic_sim;
pub mod remote;
mod remote_port;
pub mod session;
mod session_run;
mod session_wire;
