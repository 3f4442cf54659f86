//! Events of membership, in a space that does not grow with their number. Pure.
//!
//! Whoever reads events may be slow, and the mesh must not wait for it. So there is no queue of
//! events, but for each peer what was *told* last and what is *now*; an event is the next step from
//! the one to the other, made when there is room for it. A session that came and went unseen is not
//! told at all, a suspicion that has passed neither. What is told of a peer is always
//! `Up (Suspect Heard)* Suspect? Down`, over and over, each of one session.

use std::collections::{BTreeMap, VecDeque};

use crate::address::{Incarnation, NodeId, PeerIdentity};
use crate::mesh::MeshEvent;
use crate::remote::DownReason;

#[derive(Default)]
pub(crate) struct Events {
    fenced: Fenced,
    peers: BTreeMap<NodeId, Steps>,
    /// Peers with something to tell, in the order in which that began.
    turns: VecDeque<NodeId>,
}

#[derive(Default, PartialEq, Eq)]
enum Fenced {
    #[default]
    No,
    ToTell,
    Told,
}

#[derive(Default)]
struct Steps {
    told: Option<View>,
    now: Option<View>,
    /// Why the session that was told ended.
    why: Option<DownReason>,
    has_turn: bool,
}

#[derive(Clone, PartialEq, Eq)]
struct View {
    session: u64,
    peer: PeerIdentity,
    incarnation: Incarnation,
    is_suspect: bool,
}

impl Events {
    pub(crate) fn up(&mut self, session: u64, peer: PeerIdentity, incarnation: Incarnation) {
        self.change(&peer.node.clone(), |steps| {
            steps.now = Some(View { session, peer, incarnation, is_suspect: false });
        });
    }

    pub(crate) fn suspect(&mut self, node: &NodeId, is_suspect: bool) {
        self.change(node, |steps| {
            if let Some(now) = &mut steps.now {
                now.is_suspect = is_suspect;
            }
        });
    }

    pub(crate) fn down(&mut self, node: &NodeId, reason: DownReason) {
        self.change(node, |steps| {
            let ended = steps.now.take().map(|view| view.session);
            if ended.is_some() && ended == steps.told.as_ref().map(|told| told.session) {
                steps.why = Some(reason);
            }
        });
    }

    pub(crate) fn fenced(&mut self) {
        if self.fenced == Fenced::No {
            self.fenced = Fenced::ToTell;
        }
    }

    /// The next thing to tell. What it answers counts as told.
    pub(crate) fn next(&mut self) -> Option<MeshEvent> {
        if self.fenced == Fenced::ToTell {
            self.fenced = Fenced::Told;
            return Some(MeshEvent::Fenced);
        }
        while let Some(node) = self.turns.pop_front() {
            let Some(steps) = self.peers.get_mut(&node) else { continue };
            let event = steps.step();
            if event.is_some() && steps.told != steps.now {
                self.turns.push_front(node);
            } else {
                steps.has_turn = false;
                if steps.told.is_none() && steps.now.is_none() {
                    self.peers.remove(&node);
                }
            }
            if event.is_some() {
                return event;
            }
        }
        None
    }

    fn change(&mut self, node: &NodeId, change: impl FnOnce(&mut Steps)) {
        let steps = self.peers.entry(node.clone()).or_default();
        change(steps);
        if steps.told != steps.now {
            if !std::mem::replace(&mut steps.has_turn, true) {
                self.turns.push_back(node.clone());
            }
        } else if steps.told.is_none() && !steps.has_turn {
            self.peers.remove(node);
        }
    }
}

impl Steps {
    fn step(&mut self) -> Option<MeshEvent> {
        let node = |view: &View| view.peer.node.clone();
        match (&mut self.told, &self.now) {
            (None, None) => None,
            (None, Some(now)) => {
                self.told = Some(View { is_suspect: false, ..now.clone() });
                Some(MeshEvent::Up { peer: now.peer.clone(), incarnation: now.incarnation })
            }
            (Some(told), Some(now)) if told.session == now.session => {
                if told.is_suspect == now.is_suspect {
                    return None;
                }
                told.is_suspect = now.is_suspect;
                let node = node(now);
                Some(match now.is_suspect {
                    true => MeshEvent::Suspect { node },
                    false => MeshEvent::Heard { node },
                })
            }
            (Some(told), _) => {
                let (node, incarnation) = (node(told), told.incarnation);
                let reason = self.why.take().unwrap_or(DownReason::NodeLost);
                self.told = None;
                Some(MeshEvent::Down { node, incarnation, reason })
            }
        }
    }
}

#[cfg(test)]
#[path = "mesh_events_tests.rs"]
mod tests;
