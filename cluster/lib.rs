//! Nodes that know and trust each other, and what passes between them.
//!
//! From the wire upwards: [`codec`] makes bytes of messages and back, [`link`] is what a connection
//! to a peer can do, [`lane`] carries whole messages over one of its streams. A
//! [`mesh`] keeps a session with each peer, and [`remote`] actors run in sessions. This crate knows
//! no other of ours: what a message means is its users' business.
//!
//! Beside it, who may talk at all: an [`authority`] gives certificates to nodes, a [`token`] lets a
//! stranger [`join`], and an [`identity`] proves who a node is and judges its peers.

pub mod address;
pub mod caps;

pub mod codec;
pub mod link;

pub mod lane;
mod lane_queue;
mod lane_reader;

pub mod credentials;
#[cfg(any(test, feature = "sim"))]
#[path = "fixture_tests.rs"]
pub mod fixture;
#[cfg(any(test, feature = "sim"))]
#[path = "hostile_tests.rs"]
pub mod hostile;
pub mod identity;
pub mod identity_certificate;
pub mod identity_clock;
pub mod identity_error;
mod identity_files;
pub mod identity_folder;
pub mod identity_names;
pub mod identity_tls;

pub mod authority;
pub mod authority_books;
mod authority_forms;
pub mod authority_tokens;
pub mod join;
#[cfg(test)]
mod join_cases_tests;
#[cfg(test)]
mod join_fixture_tests;
#[cfg(test)]
mod join_links_tests;
pub mod join_trust;
pub mod renewal;
pub mod token;

mod admission;
pub mod memory;
mod memory_pipe;
pub mod quic;
mod quic_accept;
mod quic_config;
mod quic_error;
mod quic_link;
#[cfg(any(test, feature = "sim"))]
pub mod quic_sim;
pub mod split;
pub mod tcp;
mod tcp_head;
mod tcp_link;

pub mod gradients;
pub mod lease;
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
pub mod remote;
mod remote_port;
mod session;
mod session_run;
mod session_wire;
