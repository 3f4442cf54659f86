//! What a connection to a peer can do, whatever carries it.
//!
//! Implementations: QUIC over sockets or over a simulated network (`quic*.rs`), TLS over TCP for
//! bulk (`tcp.rs`), memory within a process (`memory.rs`). What goes over a stream is
//! [`lane`](crate::lane)'s matter.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::address::{NodeId, PeerIdentity};

/// What a connection is for. Peers agree on it in the handshake (ALPN), with the version of the
/// protocol, so that one of another version is refused before it says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Heartbeats, leases, spawns: small messages that nothing may delay.
    Control,
    /// Lanes between actors, and bulk.
    Data,
    /// One question and its answer, of whoever has a certificate: no session comes of it.
    Call,
    /// A stranger with a token that asks for a certificate.
    Join,
    /// Sums between ranks: nothing but them, so that they are in nobody's way.
    Gradients,
}

impl Purpose {
    pub const COUNT: usize = 5;
    pub const ALL: [Self; Self::COUNT] =
        [Self::Control, Self::Data, Self::Call, Self::Join, Self::Gradients];

    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Control => b"orcapack-control/1",
            Self::Data => b"orcapack-data/1",
            Self::Call => b"orcapack-call/1",
            Self::Join => b"orcapack-join/1",
            Self::Gradients => b"orcapack-gradients/1",
        }
    }
}

/// Which of a connection's streams goes first when the wire is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    Bulk,
    Normal,
    Urgent,
}

/// A stream of a link: bytes both ways, in order, with a window of its own.
pub struct Stream {
    /// Shutting it down ends what the peer reads; dropping it resets it.
    pub send: Box<dyn AsyncWrite + Send + Unpin>,
    /// Dropping it tells the peer that nobody reads any more.
    pub receive: Box<dyn AsyncRead + Send + Unpin>,
}

/// A connection to one peer, who has proved who it is.
pub trait Link: Send + Sync + 'static {
    /// Who is at the other end. `None` where that is a stranger who asks to join, and has no
    /// certificate yet: with [`Purpose::Join`] on the side that was dialled, and nowhere else.
    fn peer(&self) -> Option<&PeerIdentity>;

    fn purpose(&self) -> Purpose;

    /// Opens a stream; waits while the peer allows no more of them. The peer hears of it with the
    /// first byte that is written.
    fn open(&self, priority: Priority) -> BoxFuture<'_, Result<Stream, LinkError>>;

    /// The next stream that the peer opens.
    fn accept(&self) -> BoxFuture<'_, Result<Stream, LinkError>>;

    /// Resolves with the end of the connection.
    fn closed(&self) -> BoxFuture<'_, LinkError>;

    /// Ends it at once; the peer is told the reason.
    fn close(&self, reason: CloseReason);

    /// The time to the peer and back, where the transport measures it.
    fn round_trip(&self) -> Option<Duration>;

    /// Whether the certificate by which the peer was let in has been revoked since.
    fn is_revoked(&self) -> bool {
        false
    }
}

/// Where connections come from. One for each process.
pub trait Transport: Send + Sync + 'static {
    /// Connects, and proves that `node` is who answers.
    fn dial<'a>(
        &'a self,
        node: &'a NodeId,
        at: SocketAddr,
        purpose: Purpose,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>>;

    /// The next peer that has connected and proved who it is. A peer that fails to is not seen
    /// here. `None` when the transport is closed.
    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Link>>>;

    /// Where it listens.
    fn local_addr(&self) -> SocketAddr;

    /// Ends all connections, and waits until the peers have been told, for a second or so.
    fn close(&self, reason: CloseReason) -> BoxFuture<'_, ()>;
}

/// Why one side ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseReason {
    /// The process ends, in order.
    Leaving,
    /// A newer connection of the same node has taken its place.
    Fenced,
    /// It broke the protocol.
    Protocol,
    /// Its certificate was revoked.
    Revoked,
    /// It is not for this cluster, or this node, or this role.
    Refused,
}

impl CloseReason {
    pub const ALL: [Self; 5] =
        [Self::Leaving, Self::Fenced, Self::Protocol, Self::Revoked, Self::Refused];

    /// The number on the wire, 1 to 5.
    pub fn code(self) -> u32 {
        self as u32 + 1
    }

    pub fn of_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| u64::from(reason.code()) == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::Fenced => "fenced: a newer connection of this node has taken its place",
            Self::Protocol => "protocol broken",
            Self::Revoked => "certificate revoked",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a connection failed or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nobody answered in time, or nothing was heard for the idle timeout.
    #[error("no answer: {0}")]
    TimedOut(String),
    /// The peer has no such connection any more: it was restarted.
    #[error("reset by the peer")]
    Reset,
    /// The peer's certificate, or ours, was refused.
    #[error("not trusted: {0}")]
    Untrusted(String),
    #[error("closed by the peer: {0}")]
    ClosedByPeer(CloseReason),
    #[error("closed: {0}")]
    Closed(CloseReason),
    #[error("{0}")]
    Transport(String),
}
