//! Remote actors: what peers may spawn here, and how an actor on another node ends.
//!
//! An actor is a future that runs within the session of the node that spawned it, its *watcher*.
//! Both have a [`Port`] to the other. What ends:
//!
//! - the future: the watcher gets [`Received::Down`] with the real reason, after all that the actor
//!   had sent before (RA-1);
//! - the watcher drops its port: the future is dropped, at whatever it awaits (RA-2);
//! - the session, with the peer or the network: the watcher gets [`DownReason::NodeLost`], and the
//!   future is dropped (RA-3).
//!
//! So neither outlives the other, and what must outlive a session is not a remote actor but
//! something on its node that actors ask.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bincode::{Decode, Encode};
use futures_util::future::BoxFuture;

use crate::address::{Address, Incarnation, PeerIdentity, Role};
use crate::caps::{CONTROL_MESSAGE_BYTES_MAX, DOWN_TEXT_BYTES_MAX, MESSAGE_BYTES_MAX};
pub use crate::remote_port::{Port, PortSender, Received, SendError};

/// Which way a message goes. Messages of one class arrive in order; classes overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Class {
    /// On the control connection: small, and never behind anything large.
    Control,
    /// On the data connection.
    Data,
    /// On the data connection, after everything else.
    Bulk,
}

impl Class {
    pub const COUNT: usize = 3;
    pub const ALL: [Self; Self::COUNT] = [Self::Control, Self::Data, Self::Bulk];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Data => "data",
            Self::Bulk => "bulk",
        }
    }

    /// Of one message.
    pub fn bytes_max(self) -> usize {
        match self {
            Self::Control => CONTROL_MESSAGE_BYTES_MAX,
            Self::Data | Self::Bulk => MESSAGE_BYTES_MAX,
        }
    }
}

/// Why an actor, or all of a node's actors, are no more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum DownReason {
    Finished,
    Failed(String),
    Panicked(String),
    /// The node knows no such kind of actor.
    NoSuchKind,
    /// Not for our role, or not that many, or a node that we do not talk to any more.
    Refused(String),
    /// Its node is gone, or cannot be reached.
    NodeLost,
    /// A newer life of its node has taken its place.
    Fenced,
    /// The watcher dropped its port.
    Stopped,
    /// Its node has left the cluster in order.
    Left,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Panicked(why) => write!(f, "panicked: {why}"),
            Self::NoSuchKind => f.write_str("no such kind of actor"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::NodeLost => f.write_str("node lost"),
            Self::Fenced => f.write_str("fenced by a newer life of its node"),
            Self::Stopped => f.write_str("stopped"),
            Self::Left => f.write_str("its node has left"),
        }
    }
}

/// An actor at its start.
pub struct Spawned {
    pub address: Address,
    pub peer: PeerIdentity,
    pub peer_incarnation: Incarnation,
    pub args: Vec<u8>,
    pub port: Port,
}

type Start = dyn Fn(Spawned) -> BoxFuture<'static, Result<(), String>> + Send + Sync;

/// What peers may spawn here, and who may: the peer's role is its certificate's.
#[derive(Clone, Default)]
pub struct Kinds(BTreeMap<&'static str, Kind>);

#[derive(Clone)]
struct Kind {
    roles: &'static [Role],
    start: Arc<Start>,
}

impl Kinds {
    /// A peer with one of the roles may spawn actors of this kind. An `Err` is a failure that the
    /// watcher is told.
    #[must_use]
    pub fn on<F, Fut>(mut self, kind: &'static str, roles: &'static [Role], actor: F) -> Self
    where
        F: Fn(Spawned) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        let start: Arc<Start> = Arc::new(move |spawned| Box::pin(actor(spawned)));
        self.0.insert(kind, Kind { roles, start });
        self
    }

    pub(crate) fn find(&self, kind: &str, role: Role) -> Result<Arc<Start>, DownReason> {
        let kind = self.0.get(kind).ok_or(DownReason::NoSuchKind)?;
        if kind.roles.contains(&role) {
            Ok(kind.start.clone())
        } else {
            Err(DownReason::Refused(format!("not for the role {role}")))
        }
    }
}

/// A text that may go into a [`DownReason`].
pub(crate) fn cut(mut text: String) -> String {
    let end = (0..=DOWN_TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
    text
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
