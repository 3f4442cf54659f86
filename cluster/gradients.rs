//! Connections for gradients: between two peers one of its own, so that bulk of that size is in
//! nobody's way.
//!
//! It is made when the first stream is asked for, by whoever can dial the other, and carries
//! streams both ways. It belongs to the session with the peer: who has none is not let in, and it
//! ends when the session does. Where both sides dial at once there are two of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::address::{NodeId, PeerIdentity, Role};
use crate::caps::{GRADIENT_STREAMS_WAITING_MAX, HANDSHAKE_TIMEOUT};
use crate::link::{CloseReason, Link, LinkError, Priority, Purpose, Stream, Transport};
use crate::mesh::Board;
use crate::session::Session;

/// A peer may call a moment before its session is known here: looked for again so often.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why there is no stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GradientsError {
    #[error("no session with {0}")]
    NotConnected(NodeId),
    /// It has to call first.
    #[error("{0} cannot be dialled")]
    NoAddress(NodeId),
    #[error(transparent)]
    Link(#[from] LinkError),
}

pub(crate) struct Gradients {
    transport: Arc<dyn Transport>,
    board: Arc<Board>,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    arrived: mpsc::Sender<(PeerIdentity, Stream)>,
    arriving: tokio::sync::Mutex<mpsc::Receiver<(PeerIdentity, Stream)>>,
}

#[derive(Default)]
struct Peer {
    /// Held by whoever dials.
    dialled: tokio::sync::Mutex<Option<Arc<dyn Link>>>,
    accepted: Mutex<Option<Arc<dyn Link>>>,
}

impl Gradients {
    pub(crate) fn new(transport: Arc<dyn Transport>, board: Arc<Board>) -> Self {
        let (arrived, arriving) = mpsc::channel(GRADIENT_STREAMS_WAITING_MAX);
        let arriving = tokio::sync::Mutex::new(arriving);
        Self { transport, board, peers: Mutex::default(), arrived, arriving }
    }

    /// A stream to a peer.
    pub(crate) async fn open(&self, node: &NodeId) -> Result<Stream, GradientsError> {
        let session = self.session(node);
        let session = session.ok_or_else(|| GradientsError::NotConnected(node.clone()))?;
        let peer = lock(&self.peers).entry(node.clone()).or_default().clone();
        let link = {
            let mut dialled = peer.dialled.lock().await;
            let mut known = dialled.clone().into_iter().chain(lock(&peer.accepted).clone());
            match known.find(|link| is_alive(&**link)) {
                Some(link) => link,
                None => {
                    let at = self.board.peers().get(node).and_then(|entry| entry.view.at);
                    let at = at.ok_or_else(|| GradientsError::NoAddress(node.clone()))?;
                    let link = self.transport.dial(node, at, Purpose::Gradients).await?;
                    tokio::spawn(serve(link.clone(), session, self.arrived.clone()));
                    *dialled = Some(link.clone());
                    link
                }
            }
        };
        Ok(link.open(Priority::Bulk).await?)
    }

    /// The next stream that a peer has opened, and who that is.
    pub(crate) async fn accept(&self) -> Option<(PeerIdentity, Stream)> {
        self.arriving.lock().await.recv().await
    }

    /// Takes in who has called, or not.
    pub(crate) async fn take(&self, link: Arc<dyn Link>) {
        let from = link.peer().filter(|peer| peer.role != Role::Operator).cloned();
        let Some(from) = from else { return link.close(CloseReason::Refused) };
        let until = Instant::now() + HANDSHAKE_TIMEOUT;
        let session = loop {
            match self.session(&from.node) {
                Some(session) => break session,
                None if Instant::now() >= until => {
                    tracing::debug!(%from, "a connection for gradients without a session");
                    return link.close(CloseReason::Refused);
                }
                None => sleep(LOOK_EVERY).await,
            }
        };
        let peer = lock(&self.peers).entry(from.node).or_default().clone();
        // Who dials again has lost the one before.
        if let Some(old) = lock(&peer.accepted).replace(link.clone()) {
            old.close(CloseReason::Fenced);
        }
        tokio::spawn(serve(link, session, self.arrived.clone()));
    }

    fn session(&self, node: &NodeId) -> Option<Arc<Session>> {
        self.board.peers().get(node).and_then(|entry| entry.session.clone())
    }
}

/// Hands on what the peer opens, as long as there is the session. What nobody takes is refused.
async fn serve(
    link: Arc<dyn Link>,
    session: Arc<Session>,
    arrived: mpsc::Sender<(PeerIdentity, Stream)>,
) {
    let Some(peer) = link.peer().cloned() else { return link.close(CloseReason::Refused) };
    loop {
        tokio::select! {
            biased;
            _ = session.over() => return link.close(CloseReason::Leaving),
            stream = link.accept() => match stream {
                Ok(stream) => {
                    if arrived.try_send((peer.clone(), stream)).is_err() {
                        tracing::warn!(%peer, "a stream for gradients that nobody takes");
                    }
                }
                Err(error) => return tracing::debug!(%peer, %error, "a connection has ended"),
            },
        }
    }
}

fn is_alive(link: &dyn Link) -> bool {
    link.closed().now_or_never().is_none()
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "gradients_tests.rs"]
mod tests;
