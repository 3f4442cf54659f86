//! The coordinator's picture of its nodes, and where the next attempt goes. A pure state machine.
//!
//! What happens to nodes goes in ([`Fleet::attached`], [`Fleet::beat`], [`Fleet::link_lost`], ..),
//! then attempts: [`Fleet::place`] chooses a node, [`Fleet::placed`] books it there, and
//! [`Fleet::ended`] takes it off. A run without a cluster is a fleet of one node whose lease is
//! endless.
//!
//! - **FL-1** Credits out are credits in: an attempt takes one slot of one node, and gives it back
//!   exactly once: by `ended`, or when its node is given up (`expired`, `attached`, `left` name
//!   it).
//! - **FL-2** What a node had goes to others only after it was given up: its
//!   [lease](orcapack_cluster::lease) has surely ended, or its process has.
//! - **FL-3** A node that fails starts, or that dies with what it had, gets nothing but now and
//!   then one trial, however little else it has to do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use orcapack_actors::breaker::BreakerConfig;
use orcapack_cluster::address::{Incarnation, NodeId};
use orcapack_cluster::lease::{Beat, Epoch, Grant, LeaseConfig, Lessor, Renewal};
use orcapack_tasks::outcome::{FailureClass, Outcome};

use crate::fleet_node::{Node, NodeLink};

/// Nodes that are named in one line that tells why all wait.
const NAMES_MAX: usize = 4;

#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Which life of its ledger this coordinator is.
    pub epoch: Epoch,
    /// `None`: the only node is this process, and has its right as long as it lives.
    pub lease: Option<LeaseConfig>,
    /// Of each node.
    pub breaker: BreakerConfig,
}

/// What is to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// A hash of what its image is made of: a node that has had it starts sooner.
    pub image: u64,
}

/// What the end of an attempt says about its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// No environment could be started or used.
    EngineFailed,
    /// Nothing: another's fault, or stopped.
    Neutral,
}

impl Verdict {
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Graded { .. } | Outcome::AgentFailure { .. } => Self::Ok,
            Outcome::InfrastructureFailure { class, .. } => match class {
                FailureClass::Daemon | FailureClass::StartTimeout | FailureClass::ExecTransport => {
                    Self::EngineFailed
                }
                FailureClass::Image
                | FailureClass::Oom
                | FailureClass::NodeLost
                | FailureClass::ModelEndpoint
                | FailureClass::Grader
                | FailureClass::Internal => Self::Neutral,
            },
        }
    }
}

/// How a node came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    New,
    /// The same process, after a lost link. It keeps what it has.
    Again,
    /// Another process. These fences were its predecessor's, and are not on the node any more.
    Restarted(Vec<u64>),
    /// A process that has a successor already. It is to be turned away.
    Stale,
}

/// A node that was given up, and the fences that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub node: NodeId,
    pub fences: Vec<u64>,
}

#[derive(Debug)]
pub struct Fleet {
    config: FleetConfig,
    /// Also those that left: their terms must not begin anew.
    nodes: BTreeMap<NodeId, Node>,
}

impl Fleet {
    /// Of this process alone, whose own pool keeps it from a broken engine.
    pub fn local(epoch: Epoch) -> Self {
        let never = Duration::from_secs(1);
        let breaker = BreakerConfig { failures: u32::MAX, cooldown: never, cooldown_max: never };
        Self::new(FleetConfig { epoch, lease: None, breaker })
    }

    /// Whether this process is all of it.
    pub fn is_local(&self) -> bool {
        self.config.lease.is_none()
    }

    pub fn new(config: FleetConfig) -> Self {
        Self { config, nodes: BTreeMap::new() }
    }

    /// A node that has attempts by the ledger, and has not come yet. Book them as
    /// [`Self::placed`]; if it does not come before its lease has ended, it is given up.
    pub fn expected(&mut self, node: &NodeId, now: Instant) {
        if !self.nodes.contains_key(node) {
            self.nodes.insert(node.clone(), Node::new(&self.config, now));
        }
    }

    /// A node came, with so many slots. It gets nothing before its first [beat](Self::beat): by
    /// then it has a right to start something.
    pub fn attached(
        &mut self,
        node: &NodeId,
        incarnation: Incarnation,
        slots: u32,
        now: Instant,
    ) -> Arrival {
        let Some(known) = self.nodes.get_mut(node) else {
            let mut new = Node::new(&self.config, now);
            new.arrive(incarnation, slots, now);
            self.nodes.insert(node.clone(), new);
            return Arrival::New;
        };
        let arrival = match known.incarnation {
            Some(before) if incarnation < before => return Arrival::Stale,
            Some(before) if before < incarnation => {
                known.lessor.iter_mut().for_each(Lessor::restarted);
                Arrival::Restarted(known.give_up(now))
            }
            Some(_) => Arrival::Again,
            None => Arrival::New,
        };
        known.arrive(incarnation, slots, now);
        arrival
    }

    /// A node renews its lease. The answer is for it; there is none if the beat is not of the
    /// process that is attached, not for this coordinator, or not the newest.
    pub fn beat(
        &mut self,
        node: &NodeId,
        incarnation: Incarnation,
        beat: Beat,
        now: Instant,
    ) -> Option<Renewal> {
        let node = self.nodes.get_mut(node)?;
        let current = node.incarnation == Some(incarnation) && node.link == NodeLink::Up;
        if current { node.beat(beat, now) } else { None }
    }

    /// How a node says that it is. Fewer slots than are in use take nothing away.
    pub fn reported(&mut self, node: &NodeId, slots: u32, load_percent: u32) {
        if let Some(node) = self.nodes.get_mut(node) {
            (node.slots, node.load_percent) = (slots, load_percent);
        }
    }

    /// The link to this life of the node is gone. Its lease runs on.
    pub fn link_lost(&mut self, node: &NodeId, incarnation: Incarnation, now: Instant) {
        if let Some(node) = self.nodes.get_mut(node)
            && node.incarnation == Some(incarnation)
            && node.link == NodeLink::Up
        {
            node.enter(NodeLink::Lost, now);
        }
    }

    /// Whether the node drains: then it gets nothing more, and goes on with what it has.
    pub fn draining(&mut self, node: &NodeId, draining: bool) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.draining = draining;
        }
    }

    /// The node went in order, and runs nothing any more. The fences that it had.
    pub fn left(&mut self, node: &NodeId, now: Instant) -> Vec<u64> {
        let Some(node) = self.nodes.get_mut(node) else { return Vec::new() };
        node.lessor.iter_mut().for_each(Lessor::restarted);
        node.enter(NodeLink::Left, now);
        node.take_all()
    }

    /// The nodes whose leases have ended by now, each once, with the fences that they had. To be
    /// called at [`Self::wake_at`]; then there may be room on a node that was left in peace.
    pub fn expired(&mut self, now: Instant) -> Vec<Lost> {
        let expired = self.nodes.iter_mut().filter_map(|(id, node)| {
            node.cool_down(now);
            let expired = node.lessor.as_mut().is_some_and(|lessor| lessor.expired(now));
            expired.then(|| Lost { node: id.clone(), fences: node.give_up(now) })
        });
        expired.collect()
    }

    /// The node for one more attempt, if there is room: the least full one, by its own size. Of
    /// nodes that are about as full as each other, one that has had the image.
    pub fn place(&mut self, want: &Want, now: Instant) -> Option<NodeId> {
        self.nodes.values_mut().for_each(|node| node.cool_down(now));
        let room = self.nodes.iter().filter(|(_, node)| node.has_room(now));
        // Of equals the first, and they are in the order of their names.
        room.min_by(|(_, a), (_, b)| a.rank(b, want)).map(|(id, _)| id.clone())
    }

    /// An attempt is on its way to the node that [`Self::place`] chose, or is there by the ledger.
    /// The answer is what it must carry there; `None` where no lease is needed.
    pub fn placed(&mut self, node: &NodeId, fence: u64, want: &Want) -> Option<Grant> {
        self.nodes.get_mut(node)?.place(fence, want)
    }

    /// The attempt's environment is up: the node can start some. Its end may be hours away.
    pub fn started(&mut self, node: &NodeId, fence: u64) {
        if let Some(node) = self.nodes.get_mut(node)
            && node.placed.contains(&fence)
        {
            node.breaker.succeeded();
        }
    }

    /// The node says that it has no right to an attempt: its lease ended, by its own clock. It gets
    /// nothing before its next [beat](Self::beat), or it would refuse that too.
    pub fn lapsed(&mut self, node: &NodeId) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.lapsed();
        }
    }

    /// An attempt is not on its node any more. Says whether it was: the end of one that was given
    /// up changes nothing.
    pub fn ended(&mut self, node: &NodeId, fence: u64, verdict: Verdict, now: Instant) -> bool {
        self.nodes.get_mut(node).is_some_and(|node| node.ended(fence, verdict, now))
    }

    /// The next time at which a lease ends, or a node may be tried again. Each event may change it.
    pub fn wake_at(&self) -> Option<Instant> {
        self.nodes.values().flat_map(Node::wakes).min()
    }

    /// Whether a node that is out of reach may still run something.
    pub fn may_run_unseen(&self) -> bool {
        self.nodes.values().any(Node::may_run_unseen)
    }

    pub fn nodes(&self) -> &BTreeMap<NodeId, Node> {
        &self.nodes
    }

    /// Attempts that are on nodes.
    pub fn placed_count(&self) -> usize {
        self.nodes.values().map(|node| node.placed.len()).sum()
    }

    /// Why nothing can be placed, for whoever watches; `None` if something can.
    pub fn waiting(&self, now: Instant) -> Option<String> {
        let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
        for (id, node) in self.nodes.iter().filter(|(_, node)| node.link != NodeLink::Left) {
            let reason = node.obstacle(now)?.to_string();
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, names)) => names.push(id.as_str()),
                None => reasons.push((reason, vec![id.as_str()])),
            }
        }
        if reasons.is_empty() {
            return Some("no node has come yet".to_owned());
        }
        let told = reasons.iter().map(|(reason, names)| {
            let first = names.iter().copied().take(NAMES_MAX).collect::<Vec<_>>().join(", ");
            match names.len().saturating_sub(NAMES_MAX) {
                0 => format!("{first}: {reason}"),
                more => format!("{first} and {more} more: {reason}"),
            }
        });
        Some(told.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
