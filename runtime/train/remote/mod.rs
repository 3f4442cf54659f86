//! Ranks on the nodes of a cluster.
//!
//! ```text
//! coordinator: Ranks ── Nodal (a home) ── port of the remote actor `rank` ── node: its thread
//!                                                                              │ Rings
//!                                          other nodes' ranks ── gradients ────┘
//! ```
//! - [`home`]: where a rank lives, as its leader sees it.
//! - [`node`]: the remote actor, which runs the rank there.
//! - [`rings`]: how the ranks of an epoch find each other; [`lobby`] is where those who call wait.

pub mod home;
pub mod lobby;
pub mod node;
pub mod rings;

use std::path::Path;

use bincode::{Decode, Encode};
use orcapack_cluster::address::NodeId;
use orcapack_tasks::Defects;
use orcapack_tasks::toml_doc::TomlDoc;

use crate::train::config::TrainConfig;

/// The kind of the remote actor.
pub const RANK: &str = "rank";

/// A coordinator wants a rank to live here.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Berth {
    /// The run's id.
    pub run: String,
    /// The epoch of its coordinator.
    pub life: u64,
    pub rank: u32,
    /// What it learns with: see [`text`]. The policy's directory is a path on the node.
    pub config: String,
    /// At which what it learns from was sampled.
    pub temperature: f32,
}

/// Sections of a configuration that ranks need. Without tasks, it is none.
const SECTIONS: [&str; 5] = ["run", "policy", "train", "loss", "ranks"];

/// Of a configuration, what a node needs to make a rank's learner.
///
/// # Errors
/// It cannot be written as TOML: a defect of ours.
pub fn text(config: &TrainConfig) -> Result<String, toml::ser::Error> {
    let mut table = toml::Table::try_from(config)?;
    table.retain(|section, _| SECTIONS.contains(&section));
    toml::to_string(&table)
}

/// What [`text`] has written; `base` has this machine's defaults.
///
/// # Errors
/// Whatever does not fit, told by its key.
pub fn read(text: &str, base: TrainConfig) -> Result<TrainConfig, Defects> {
    let doc = TomlDoc::parse(Path::new("the run's configuration"), text)?;
    let config = TrainConfig::of(&doc.root(), base);
    doc.finish(config)
}

/// On which node each rank lives. They are dealt to the nodes in turn, and numbered node by node,
/// so that those of one node stand beside each other.
pub fn deal(count: u32, nodes: &[NodeId]) -> Vec<NodeId> {
    let place = |node: &NodeId| nodes.iter().position(|other| other == node);
    let mut dealt: Vec<NodeId> = nodes.iter().cycle().take(count as usize).cloned().collect();
    dealt.sort_by_key(place);
    dealt
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
