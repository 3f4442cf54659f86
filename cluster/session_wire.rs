//! What the two ends of a session say to each other.
//!
//! Every stream begins with a [`First`] of whoever opened it. On the control connection's first
//! stream, [`Message`]s follow, both ways; the first of them is the accepting side's
//! [`Message::Welcome`]. On the data connection's first stream follows [`Message::Bound`], and then
//! nothing. What follows on a stream between actors is theirs.

use bincode::{Decode, Encode};

use crate::address::{Incarnation, NodeId, Role};
use crate::caps::CONTROL_MESSAGE_BYTES_MAX;
use crate::codec::{self, CodecError};
use crate::remote::{Class, DownReason};

/// Grows with each change that an older peer would not understand and a newer one can do without.
/// What nobody can do without is a new ALPN.
pub(crate) const PROTOCOL: u16 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum First {
    Hello(Hello),
    /// This data connection belongs to that session.
    Bind {
        session: u64,
    },
    Lane(LaneHead),
}

/// Who speaks, and whom it means to speak to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Hello {
    pub protocol: u16,
    pub cluster: String,
    pub to: NodeId,
    pub node: NodeId,
    pub role: Role,
    pub incarnation: Incarnation,
    /// Tells two processes apart that claim to be the same life of a node.
    pub process: u64,
    /// Whether it can be dialled.
    pub listens: bool,
}

/// A stream that carries one class of messages in one direction between two ends of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct LaneHead {
    pub actor: u64,
    pub from: Side,
    pub class: Class,
}

/// The ends of a remote actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Side {
    /// Who spawned it.
    Watcher,
    /// Where it runs.
    Host,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Message {
    Welcome {
        hello: Hello,
        session: u64,
    },
    Bound,
    Ping {
        number: u64,
    },
    Pong {
        number: u64,
    },
    /// `actor` is the watcher's number for it in this session.
    Spawn {
        actor: u64,
        kind: String,
        args: Vec<u8>,
    },
    /// It runs, and `id` is its part of the [address](crate::address::Address).
    Spawned {
        actor: u64,
        id: u64,
    },
    /// The watcher does not want it any more.
    Stop {
        actor: u64,
    },
    /// It has ended. Streams overtake each other, so it says how many messages of each class it
    /// sent before.
    Down {
        actor: u64,
        reason: DownReason,
        sent: [u64; Class::COUNT],
    },
}

impl First {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, CONTROL_MESSAGE_BYTES_MAX)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, CONTROL_MESSAGE_BYTES_MAX)
    }
}

impl Message {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, CONTROL_MESSAGE_BYTES_MAX)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, CONTROL_MESSAGE_BYTES_MAX)
    }
}

#[cfg(test)]
#[path = "session_wire_tests.rs"]
mod tests;
