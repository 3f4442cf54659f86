//! The mesh: this process's links to all of its peers.
//!
//! ```text
//! Mesh                   knows the peers, and who they were last; decides who replaces whom
//! ├─ Gradients           with each peer a connection for these, beside the session
//! └─ Peer                one for each peer at a time: from a dial or a call to the session's end
//!      └─ remote actors  that this node hosts for the peer
//! ```
//! In go the peers' addresses ([`Mesh::set_peers`]) and what peers may spawn here
//! ([`Kinds`]). Out come [`MeshEvent`]s, and [ports](Port) to actors on peers ([`Mesh::spawn`]).
//!
//! - **MS-1** With each peer there is at most one session, and its two connections both belong to
//!   it. A session begins when all of the one before it has ended.
//! - **MS-2** Of two processes with one identity the newer has the session, and the older learns
//!   that it is fenced, by whomever it talks to.
//! - **MS-3** Events of a peer are told in order, `Up` and `Down` in turns, and their reader may be
//!   as slow as it likes: see `mesh_events.rs`.
//! - **MS-4** Whatever a peer sends ends its own connections at worst.
//!
//! The end of a peer's actor, in any way, is followed by a redial with back-off where we are the
//! ones who dial. The end of the mesh is the end of everything below.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorRef};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::address::{Address, Incarnation, NodeId, PeerIdentity, Role};
use crate::caps::EVENTS_MAX;
use crate::gradients::{Gradients, GradientsError};
use crate::link::{CloseReason, Link, Stream, Transport};
use crate::mesh_actor::{MeshActor, MeshMessage};
pub use crate::remote::{Class, DownReason, Kinds, Port, PortSender, Received, SendError, Spawned};
use crate::session::Session;
pub use crate::session::SpawnError;

/// How long [`Mesh::stop`] waits for actors to be dropped and for peers to be told.
const STOP_LIMIT: Duration = Duration::from_secs(5);

pub struct MeshConfig {
    pub me: NodeId,
    pub role: Role,
    pub cluster: String,
    pub incarnation: Incarnation,
    pub peers: Vec<PeerAddress>,
    /// Whether peers can dial this process.
    pub listens: bool,
    pub admits: Admits,
    /// Of the jitter in back-offs. It also tells this process from a clone of it, so outside of a
    /// simulation it is drawn anew by each process.
    pub seed: u64,
    /// Where those go who only call, or ask to join. Without it they are refused.
    pub guests: Option<mpsc::Sender<Arc<dyn Link>>>,
}

/// A peer that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    pub node: NodeId,
    pub role: Role,
    pub at: SocketAddr,
}

/// Which peers may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// Those with a certificate of the cluster.
    Certified,
    /// Of those, the ones that are among the peers that we were told of.
    Listed,
}

/// What happens to peers. See MS-3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeshEvent {
    /// There is a session with it.
    Up { peer: PeerIdentity, incarnation: Incarnation },
    /// Its process has said nothing for a while.
    Suspect { node: NodeId },
    /// It has spoken again.
    Heard { node: NodeId },
    /// The session has ended: [`DownReason::NodeLost`], or [`DownReason::Left`] in order, or
    /// [`DownReason::Fenced`] by the next life of the node, or [`DownReason::Refused`] by us.
    Down { node: NodeId, incarnation: Incarnation, reason: DownReason },
    /// Someone newer has our identity. All sessions are closed, and this process must end.
    Fenced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// There is no session.
    Down,
    Up,
    /// There is a session, and nothing was heard from it for a while.
    Suspect,
}

/// A peer, as a status shows it.
#[derive(Clone, Debug)]
pub struct PeerView {
    pub node: NodeId,
    /// As its certificate says, or before that as we were told.
    pub role: Role,
    /// Where it can be dialled, if it can.
    pub at: Option<SocketAddr>,
    pub state: PeerState,
    /// The newest life that was met.
    pub incarnation: Option<Incarnation>,
    pub round_trip: Option<Duration>,
    /// When the state began.
    pub since: Instant,
    /// What ended the last session, or prevents the next.
    pub problem: Option<String>,
}

/// A mesh's address. It ends with [`Mesh::stop`] or with its supervisor, not with its handles.
#[derive(Clone)]
pub struct Mesh {
    actor: ActorRef<MeshMessage>,
    board: Arc<Board>,
    gradients: Arc<Gradients>,
}

/// What the handles of a mesh see; its actor writes it.
#[derive(Default)]
pub(crate) struct Board(Mutex<BTreeMap<NodeId, Entry>>);

pub(crate) struct Entry {
    pub view: PeerView,
    pub session: Option<Arc<Session>>,
    /// Ends what the peer's actor is at.
    pub cancel: Option<watch::Sender<Option<CloseReason>>>,
}

impl Board {
    pub(crate) fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entry>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mesh {
    /// Starts to dial and to accept. The events' receiver may be dropped by who does not need it.
    ///
    /// # Errors
    /// When the actor system refuses.
    pub async fn start(
        config: MeshConfig,
        transport: Arc<dyn Transport>,
        kinds: Kinds,
        supervisor: Option<ActorCell>,
    ) -> Result<(Self, mpsc::Receiver<MeshEvent>), ractor::SpawnErr> {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let board = Arc::new(Board::default());
        let gradients = Arc::new(Gradients::new(transport.clone(), board.clone()));
        let arguments = (config, transport, kinds, board.clone(), gradients.clone(), events);
        let (actor, _) = match supervisor {
            Some(parent) => Actor::spawn_linked(None, MeshActor, arguments, parent).await?,
            None => Actor::spawn(None, MeshActor, arguments).await?,
        };
        Ok((Self { actor, board, gradients }, receiver))
    }

    /// Opens a stream to a peer on a connection that has nothing but gradients, which is made if
    /// there is none. The peer hears of it with the first byte. See
    /// [`gradients`](crate::gradients).
    ///
    /// # Errors
    /// There is no session with the peer, or no connection can be had.
    pub async fn open_gradients(&self, node: &NodeId) -> Result<Stream, GradientsError> {
        self.gradients.open(node).await
    }

    /// The next such stream that a peer has opened. Those that come while nobody waits here, and
    /// are too many, are refused. One process has one who takes them.
    pub async fn accept_gradients(&self) -> Option<(PeerIdentity, Stream)> {
        self.gradients.accept().await
    }

    /// Starts an actor on a peer, and watches it: see [`remote`](crate::remote). Dropping the
    /// future, or its deadline, stops what it may have started.
    ///
    /// # Errors
    /// When there is no session, the peer refuses, or is lost before it answers, or does not answer
    /// in time.
    pub async fn spawn(
        &self,
        node: &NodeId,
        kind: &str,
        args: Vec<u8>,
        deadline: Duration,
    ) -> Result<(Address, Port), SpawnError> {
        let session = self.board.peers().get(node).and_then(|entry| entry.session.clone());
        let session = session.ok_or_else(|| SpawnError::NotConnected(node.clone()))?;
        let spawned = timeout(deadline, session.spawn(kind, args)).await;
        spawned.unwrap_or(Err(SpawnError::Deadline(deadline)))
    }

    /// All peers that we were told of or that came by themselves, by id.
    pub fn peers(&self) -> Vec<PeerView> {
        let peers = self.board.peers();
        let view = |entry: &Entry| {
            let round_trip = entry.session.as_ref().and_then(|session| session.round_trip());
            PeerView { round_trip, ..entry.view.clone() }
        };
        peers.values().map(view).collect()
    }

    /// The peers that can be dialled are these. Sessions with others go on, but are not made anew
    /// by us.
    pub fn set_peers(&self, peers: Vec<PeerAddress>) {
        // Fails only when the mesh has ended.
        let _ = self.actor.cast(MeshMessage::SetPeers(peers));
    }

    /// Ends the session with a peer. Whoever may not come back must be refused by the transport,
    /// as a revoked certificate is.
    pub fn close_peer(&self, node: &NodeId, reason: CloseReason) {
        let _ = self.actor.cast(MeshMessage::Close { node: node.clone(), reason });
    }

    /// Ends the sessions with peers whose certificates have been revoked since they were let in.
    pub fn close_revoked(&self) {
        let is_revoked = |entry: &Entry| {
            let session = entry.session.as_ref();
            session.is_some_and(|it| it.control().is_revoked() || it.data().is_revoked())
        };
        let revoked: Vec<NodeId> = self
            .board
            .peers()
            .iter()
            .filter(|(_, entry)| is_revoked(entry))
            .map(|(node, _)| node.clone())
            .collect();
        for node in revoked {
            tracing::warn!(%node, "a peer's certificate has been revoked");
            self.close_peer(&node, CloseReason::Revoked);
        }
    }

    /// Leaves: peers are told at once, and what ran in the sessions has been dropped when this
    /// resolves. The transport is closed too.
    pub async fn stop(self) {
        if self.actor.call(MeshMessage::Stop, Some(STOP_LIMIT)).await.is_err() {
            tracing::debug!("the mesh had ended before");
        }
        self.kill();
        let _ = self.actor.wait(Some(STOP_LIMIT)).await;
    }

    /// Ends at once. Peers are told, if the process lives long enough for that.
    pub fn kill(&self) {
        // By id, so that a simulation sees the same order each time: a supervisor's children are
        // killed in any.
        let end = |entry: &mut Entry| (entry.session.take(), entry.cancel.take());
        let ended: Vec<_> = self.board.peers().values_mut().map(end).collect();
        for (session, cancel) in ended {
            if let Some(session) = session {
                session.close(CloseReason::Leaving);
            }
            if let Some(cancel) = cancel {
                cancel.send_if_modified(|why| why.replace(CloseReason::Leaving).is_none());
            }
        }
        self.actor.kill();
    }

    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }
}

#[cfg(test)]
#[path = "mesh_tests.rs"]
mod tests;
