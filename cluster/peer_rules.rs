//! Who dials whom, who replaces whom, and when to try again. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::address::{Incarnation, NodeId, PeerIdentity};
use crate::caps::{REDIAL_AFTER, REDIAL_AFTER_MAX};
use crate::session_wire::{Hello, PROTOCOL};

/// Whether it is for `me` to dial `peer`: of two that both can be dialled, the larger id does, so
/// that they do not do it both; who cannot be dialled does it always.
///
/// The other one of two waits for [`CALL_AFTER`](crate::caps::CALL_AFTER), and then dials too, or a
/// node that has just joined could not be met by those who do not know of it.
pub(crate) fn dials(me: &NodeId, i_listen: bool, peer: &NodeId) -> bool {
    !i_listen || me > peer
}

/// Why a connection is refused, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Protocol,
    Cluster,
    /// It was meant for another node.
    NotMe,
    /// It says something else than its certificate.
    NotItself,
    /// It has our own name.
    MyName,
    Unlisted,
    TooManyPeers,
    /// We are dialling it, as is ours to do, or have a session with it.
    WrongWay,
    /// An older life of its node, or one that a clone has replaced.
    Stale,
    Stopping,
}

impl Refusal {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "speaks another version of the protocol",
            Self::Cluster => "belongs to another cluster",
            Self::NotMe => "was looking for another node",
            Self::NotItself => "is not who its certificate says",
            Self::MyName => "has this node's own name",
            Self::Unlisted => "is not one of the nodes of this cluster",
            Self::TooManyPeers => "is one more than this node remembers",
            Self::WrongWay => "dials, where it is to be dialled",
            Self::Stale => "is older than what is known of its node",
            Self::Stopping => "comes while this node leaves",
        }
    }
}

/// Whether a hello is from whom the certificate names, and for us.
pub(crate) fn check_hello(
    hello: &Hello,
    me: &NodeId,
    cluster: &str,
    peer: &PeerIdentity,
) -> Result<(), Refusal> {
    let faults = [
        (hello.protocol != PROTOCOL, Refusal::Protocol),
        (hello.cluster != cluster, Refusal::Cluster),
        (hello.node != peer.node || hello.role != peer.role, Refusal::NotItself),
        (hello.node == *me, Refusal::MyName),
        (hello.to != *me, Refusal::NotMe),
    ];
    faults.into_iter().find(|(is_fault, _)| *is_fault).map_or(Ok(()), |(_, why)| Err(why))
}

/// Processes of one life that were replaced by another. More clones than this at a time would
/// replace each other in turns.
const REPLACED_MAX: usize = 16;

/// What is known of a node's lives.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    newest: Option<(Incarnation, u64)>,
    /// Processes of the newest incarnation that have been replaced.
    replaced: VecDeque<u64>,
}

/// What a connection with an identity is, beside those that there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same process again: it has lost its earlier connection.
    Same,
    /// A newer life, or the first. What there was of an older one is fenced.
    Newer,
    /// Fenced itself.
    Stale,
}

impl Lives {
    pub(crate) fn is_newest(&self, incarnation: Incarnation, process: u64) -> bool {
        self.newest == Some((incarnation, process))
    }

    /// The higher incarnation wins; of two processes that claim one incarnation, the later comer.
    /// Who has lost once does not come back.
    pub(crate) fn judge(&mut self, incarnation: Incarnation, process: u64) -> Verdict {
        match self.newest {
            Some((newest, _)) if incarnation < newest => return Verdict::Stale,
            Some((newest, known)) if incarnation == newest => {
                if known == process {
                    return Verdict::Same;
                }
                if self.replaced.contains(&process) {
                    return Verdict::Stale;
                }
                self.replaced.push_back(known);
                if self.replaced.len() > REPLACED_MAX {
                    self.replaced.pop_front();
                }
            }
            _ => self.replaced.clear(),
        }
        self.newest = Some((incarnation, process));
        Verdict::Newer
    }
}

/// Waits between tries: each twice as long as the one before, and less by up to half, by chance, so
/// that many who lost the same peer do not come back at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    random: u64,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(seed: u64, peer: &NodeId) -> Self {
        let mix = |random: u64, byte: u8| split_mix(random ^ u64::from(byte));
        let random = peer.as_str().bytes().fold(seed, mix);
        Self { random, next: REDIAL_AFTER }
    }

    /// How long to wait before the next try.
    pub(crate) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(REDIAL_AFTER_MAX);
        self.random = split_mix(self.random);
        let part = (self.random >> 40) as f64 / (1_u64 << 24) as f64;
        whole.mul_f64(1.0 - part / 2.0)
    }

    /// The peer was there.
    pub(crate) fn reset(&mut self) {
        self.next = REDIAL_AFTER;
    }

    /// It is no use to try soon.
    pub(crate) fn slow(&mut self) {
        self.next = REDIAL_AFTER_MAX;
    }
}

/// The next of SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "peer_rules_tests.rs"]
mod tests;
