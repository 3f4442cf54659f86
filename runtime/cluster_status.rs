//! What a node says of itself when it is asked, and what comes of asking all of them.
//!
//! [`NodeStatus`] goes over the wire, so that everything in it is bounded, by who sends it and
//! again by who reads it. [`crate::cluster_table`] shows a [`ClusterStatus`] on a terminal; as JSON
//! it is a document that scripts rely on.

use std::time::{SystemTime, UNIX_EPOCH};

use bincode::{Decode, Encode};
use orcapack_actors::phase::{Board, Phase, Waiting};
use orcapack_cluster::address::{Incarnation, NodeId, Role};
use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Serialize, Serializer};

use crate::cluster_config::ClusterNode;

/// Longer texts are cut.
pub const TEXT_BYTES_MAX: usize = 256;
/// With these, the longest status is a message of control.
pub const WAITING_MAX: usize = 32;
pub const PEERS_MAX: usize = 256;

/// One node, at one moment, by its own clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct NodeStatus {
    #[serde(serialize_with = "text")]
    pub node: NodeId,
    #[serde(serialize_with = "text")]
    pub role: Role,
    #[serde(serialize_with = "number")]
    pub incarnation: Incarnation,
    /// Of the program.
    pub version: String,
    /// When it was started.
    pub since_unix_ms: u64,
    pub slots: u32,
    /// It takes no more attempts.
    pub draining: bool,
    pub rss_bytes: u64,
    /// That are alive.
    pub environments: u32,
    /// In the order of [`Phase::ALL`].
    #[serde(serialize_with = "by_phase")]
    pub attempts_by_phase: [u32; Phase::ALL.len()],
    /// Attempts that wait for the right to start an environment.
    pub start_queue: u32,
    pub waiting: Vec<WaitingRow>,
    /// The run that it works for.
    pub run: Option<RunView>,
    pub peers: Vec<PeerRow>,
}

/// "Waiting for X since T".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Encode, Decode)]
pub struct WaitingRow {
    pub what: String,
    pub since_unix_ms: u64,
}

/// A run, as a node that works for it knows it: the totals are those of the coordinator's last
/// word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct RunView {
    pub run: String,
    pub name: String,
    pub epoch: u64,
    #[serde(serialize_with = "text")]
    pub coordinator: NodeId,
    /// Until the node's right to run the attempts ends. 0 when it has.
    pub lease_left_ms: u64,
    /// Attempts that this node has the right to run.
    pub held: u32,
    /// Results that the coordinator has not acknowledged yet.
    pub reported_unacknowledged: u32,
    /// Of the whole run, as the following.
    pub total: u64,
    pub done: u64,
    pub passed: u64,
    pub infra_failures: u64,
    pub retries: u64,
}

/// A node's link to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct PeerRow {
    #[serde(serialize_with = "text")]
    pub node: NodeId,
    pub state: LinkState,
    pub round_trip_us: Option<u64>,
    /// Since when it is in this state.
    pub since_unix_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    Down,
    /// Nothing has been heard for longer than is usual.
    Suspect,
    Connecting,
    Up,
}

impl LinkState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Suspect => "suspect",
            Self::Connecting => "connecting",
            Self::Up => "up",
        }
    }
}

impl NodeStatus {
    /// Attempts that it has, each of which takes a slot.
    pub fn slots_used(&self) -> u64 {
        self.attempts_by_phase.iter().map(|count| u64::from(*count)).sum()
    }

    pub fn in_phase(&self, phase: Phase) -> u32 {
        self.attempts_by_phase[phase as usize]
    }

    /// Takes phases, environments and what is waited for from the node's board.
    pub fn read_board(&mut self, board: &Board) {
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        self.attempts_by_phase = Phase::ALL.map(|phase| small(board.in_phase(phase)));
        self.environments = small(board.environments());
        self.waiting = board.waiting().iter().map(WaitingRow::of).collect();
    }

    /// The same within the bounds. Of too many rows, those stay that an operator looks for: what is
    /// waited for longest, and links that are not up.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        cut(&mut self.version);
        self.waiting.iter_mut().for_each(|row| cut(&mut row.what));
        if self.waiting.len() > WAITING_MAX {
            self.waiting.sort_by_key(|row| row.since_unix_ms);
            self.waiting.truncate(WAITING_MAX);
        }
        if self.peers.len() > PEERS_MAX {
            self.peers.sort_by_key(|row| row.state);
            self.peers.truncate(PEERS_MAX);
        }
        if let Some(run) = &mut self.run {
            cut(&mut run.run);
            cut(&mut run.name);
        }
        self
    }
}

impl WaitingRow {
    pub fn of(waiting: &Waiting) -> Self {
        Self { what: waiting.what.clone(), since_unix_ms: unix_ms(waiting.since) }
    }
}

/// Milliseconds since 1970; 0 before.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// At a boundary of letters.
fn cut(text: &mut String) {
    let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(end.unwrap_or(0));
    }
}

/// All nodes of a cluster, whether they answered or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    pub cluster: String,
    pub nodes: Vec<NodeRow>,
}

/// A node of the cluster file, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    pub node: NodeId,
    /// As the cluster file says it.
    pub address: String,
    /// Of the cluster file.
    pub slots: u32,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Status(Box<NodeStatus>),
    /// Why there is none.
    Unreachable(String),
}

impl ClusterStatus {
    /// Whether every node answered, for the exit code.
    pub fn all_reachable(&self) -> bool {
        self.nodes.iter().all(|row| row.status().is_some())
    }
}

impl NodeRow {
    /// What a node answered, or why it did not. A peer's answer is bounded here.
    pub fn of(node: &ClusterNode, answer: Result<NodeStatus, String>) -> Self {
        Self {
            node: node.id.clone(),
            address: node.address.to_string(),
            slots: node.slots,
            answer: match answer {
                Ok(status) => Answer::Status(Box::new(status.bounded())),
                Err(mut error) => {
                    cut(&mut error);
                    Answer::Unreachable(error)
                }
            },
        }
    }

    pub fn status(&self) -> Option<&NodeStatus> {
        match &self.answer {
            Answer::Status(status) => Some(status),
            Answer::Unreachable(_) => None,
        }
    }

    /// In one word.
    pub fn state(&self) -> &'static str {
        match &self.answer {
            Answer::Status(status) if status.draining => "draining",
            Answer::Status(_) => "up",
            Answer::Unreachable(_) => "unreachable",
        }
    }
}

/// One object with the same keys for every node, so that a script can ask `.nodes[].state`.
impl Serialize for NodeRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let error = match &self.answer {
            Answer::Status(_) => None,
            Answer::Unreachable(error) => Some(error),
        };
        let mut row = serializer.serialize_struct("NodeRow", 6)?;
        row.serialize_field("node", self.node.as_str())?;
        row.serialize_field("address", &self.address)?;
        row.serialize_field("state", self.state())?;
        row.serialize_field("slots", &self.slots)?;
        row.serialize_field("error", &error)?;
        row.serialize_field("status", &self.status())?;
        row.end()
    }
}

fn text<S: Serializer>(value: &impl std::fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn number<S: Serializer>(value: &Incarnation, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(value.0)
}

fn by_phase<S: Serializer>(counts: &[u32; Phase::ALL.len()], to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(counts.len()))?;
    for (phase, count) in Phase::ALL.iter().zip(counts) {
        map.serialize_entry(phase.as_str(), count)?;
    }
    map.end()
}

#[cfg(test)]
#[path = "cluster_status_tests.rs"]
pub(crate) mod tests;
