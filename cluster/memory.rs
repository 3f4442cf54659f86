//! Links within a process, for tests of what uses links: no sockets, no certificates, no loss.
//!
//! They behave as real ones do where users could notice: streams have windows and are few, the peer
//! hears of one with its first byte, ends of streams and links are told with their reasons.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::address::{NodeId, PeerIdentity};
use crate::caps::{INCOMING_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX};
use crate::link::{CloseReason, Link, LinkError, Priority, Purpose, Stream, Transport};
use crate::memory_pipe::Pipe;

/// The two ends of one link: the first belongs to `one`, and its peer is `other`.
pub fn pair(
    one: PeerIdentity,
    other: PeerIdentity,
    purpose: Purpose,
) -> (Arc<dyn Link>, Arc<dyn Link>) {
    let (one, other) = pair_of([Some(other), Some(one)], purpose);
    (Arc::new(one), Arc::new(other))
}

/// Processes that reach each other by address.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    listeners: Arc<Mutex<BTreeMap<SocketAddr, Listener>>>,
}

struct Listener {
    identity: PeerIdentity,
    accepted: mpsc::Sender<Arc<dyn Link>>,
    /// Of each link that it has an end of, and which end.
    links: Vec<(Weak<Shared>, usize)>,
}

impl MemoryNetwork {
    /// A process at an address, in the place of any that was there.
    pub fn transport(&self, identity: PeerIdentity, at: SocketAddr) -> MemoryTransport {
        let (accepted, incoming) = mpsc::channel(INCOMING_MAX);
        let listener = Listener { identity: identity.clone(), accepted, links: Vec::new() };
        lock(&self.listeners).insert(at, listener);
        let incoming = tokio::sync::Mutex::new(incoming);
        MemoryTransport { network: self.clone(), identity, at, incoming }
    }

    /// The process at an address is gone without a word: its peers' links end as timed out.
    pub fn crash(&self, at: SocketAddr) {
        self.remove(at, &Ended::Lost);
    }

    fn remove(&self, at: SocketAddr, ended: &Ended) {
        let listener = lock(&self.listeners).remove(&at);
        for (link, side) in listener.iter().flat_map(|listener| &listener.links) {
            link.upgrade().inspect(|link| link.close(Some(*side), ended.clone()));
        }
    }
}

pub struct MemoryTransport {
    network: MemoryNetwork,
    identity: PeerIdentity,
    at: SocketAddr,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Arc<dyn Link>>>,
}

impl Transport for MemoryTransport {
    fn dial<'a>(
        &'a self,
        node: &'a NodeId,
        at: SocketAddr,
        purpose: Purpose,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let mut listeners = lock(&self.network.listeners);
            if !listeners.contains_key(&self.at) {
                return Err(LinkError::Transport("this transport is closed".to_owned()));
            }
            let nobody = || LinkError::TimedOut(format!("nobody is at {at}"));
            let listener = listeners.get_mut(&at).ok_or_else(nobody)?;
            if listener.identity.node != *node {
                let said = format!("{} is at {at}, not {node}", listener.identity);
                return Err(LinkError::Untrusted(said));
            }
            let me = (purpose != Purpose::Join).then(|| self.identity.clone());
            let (mine, theirs) = pair_of([Some(listener.identity.clone()), me], purpose);
            let shared = Arc::downgrade(&mine.shared);
            listener.links.retain(|(link, _)| link.strong_count() > 0);
            listener.links.push((shared.clone(), 1));
            listener.accepted.try_send(Arc::new(theirs)).map_err(|_| nobody())?;
            if let Some(me) = listeners.get_mut(&self.at) {
                me.links.retain(|(link, _)| link.strong_count() > 0);
                me.links.push((shared, 0));
            }
            Ok(Arc::new(mine) as Arc<dyn Link>)
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Link>>> {
        Box::pin(async { self.incoming.lock().await.recv().await })
    }

    fn local_addr(&self) -> SocketAddr {
        self.at
    }

    fn close(&self, reason: CloseReason) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.network.remove(self.at, &Ended::Closed(reason)) })
    }
}

struct MemoryLink {
    shared: Arc<Shared>,
    side: usize,
}

/// What both ends of a link know. Each side has an index, 0 or 1.
struct Shared {
    purpose: Purpose,
    /// Whom each side sees.
    peers: [Option<PeerIdentity>; 2],
    /// How it ended, and for which side that was its own doing.
    ended: watch::Sender<Option<(Option<usize>, Ended)>>,
    pipes: Mutex<Vec<Weak<Pipe>>>,
    /// Streams that each side may still open.
    streams: [Arc<Semaphore>; 2],
    /// To each side.
    announce: [mpsc::UnboundedSender<Stream>; 2],
    announced: [tokio::sync::Mutex<mpsc::UnboundedReceiver<Stream>>; 2],
}

#[derive(Clone)]
enum Ended {
    Closed(CloseReason),
    Lost,
    /// One side let go of its end.
    Dropped,
}

fn pair_of(peers: [Option<PeerIdentity>; 2], purpose: Purpose) -> (MemoryLink, MemoryLink) {
    // No more streams are in them than may be open.
    let ((to_one, of_one), (to_other, of_other)) =
        (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let streams = || Arc::new(Semaphore::new(STREAMS_MAX as usize));
    let shared = Arc::new(Shared {
        purpose,
        peers,
        ended: watch::Sender::new(None),
        pipes: Mutex::new(Vec::new()),
        streams: [streams(), streams()],
        announce: [to_one, to_other],
        announced: [tokio::sync::Mutex::new(of_one), tokio::sync::Mutex::new(of_other)],
    });
    (MemoryLink { shared: shared.clone(), side: 0 }, MemoryLink { shared, side: 1 })
}

impl Shared {
    fn close(&self, side: Option<usize>, ended: Ended) {
        let is_first = self.ended.send_if_modified(|now| {
            let is_first = now.is_none();
            now.get_or_insert((side, ended));
            is_first
        });
        if is_first {
            self.streams.iter().for_each(|streams| streams.close());
            for pipe in lock(&self.pipes).drain(..) {
                pipe.upgrade().inspect(|pipe| pipe.lose("the connection has ended"));
            }
        }
    }

    fn error(&self, side: usize) -> Option<LinkError> {
        let (by, ended) = self.ended.borrow().clone()?;
        Some(match ended {
            Ended::Lost => LinkError::TimedOut("the peer has gone silent".to_owned()),
            Ended::Dropped => LinkError::Transport("given up without a reason".to_owned()),
            Ended::Closed(reason) if by == Some(side) => LinkError::Closed(reason),
            Ended::Closed(reason) => LinkError::ClosedByPeer(reason),
        })
    }
}

impl MemoryLink {
    fn error(&self) -> LinkError {
        let unknown = || LinkError::Transport("the connection has ended".to_owned());
        self.shared.error(self.side).unwrap_or_else(unknown)
    }

    async fn wait_end(&self) -> LinkError {
        // The sender lives as long as this link does.
        let _ = self.shared.ended.subscribe().wait_for(Option::is_some).await;
        self.error()
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.shared.close(Some(self.side), Ended::Dropped);
    }
}

impl Link for MemoryLink {
    fn peer(&self) -> Option<&PeerIdentity> {
        self.shared.peers[self.side].as_ref()
    }

    fn purpose(&self) -> Purpose {
        self.shared.purpose
    }

    fn open(&self, _: Priority) -> BoxFuture<'_, Result<Stream, LinkError>> {
        Box::pin(async move {
            let permit = self.shared.streams[self.side].clone().acquire_owned().await;
            let permit = Arc::new(permit.map_err(|_| self.error())?);
            let pipe = || Pipe::new(STREAM_WINDOW_BYTES as usize, permit.clone());
            let (there, back) = (pipe(), pipe());
            {
                let mut pipes = lock(&self.shared.pipes);
                pipes.retain(|pipe| pipe.strong_count() > 0);
                pipes.extend([Arc::downgrade(&there), Arc::downgrade(&back)]);
            }
            if self.shared.ended.borrow().is_some() {
                return Err(self.error());
            }
            let theirs =
                Stream { send: Box::new(back.writer(None)), receive: Box::new(there.reader()) };
            let announce = self.shared.announce[1 - self.side].clone();
            // The link may have ended: then nobody wants to know.
            let announce = Box::new(move || drop(announce.send(theirs)));
            let send = Box::new(there.writer(Some(announce)));
            Ok(Stream { send, receive: Box::new(back.reader()) })
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<Stream, LinkError>> {
        Box::pin(async move {
            let mut announced = self.shared.announced[self.side].lock().await;
            tokio::select! {
                biased;
                error = self.wait_end() => Err(error),
                stream = announced.recv() => stream.ok_or_else(|| self.error()),
            }
        })
    }

    fn closed(&self) -> BoxFuture<'_, LinkError> {
        Box::pin(self.wait_end())
    }

    fn close(&self, reason: CloseReason) {
        self.shared.close(Some(self.side), Ended::Closed(reason));
    }

    fn round_trip(&self) -> Option<Duration> {
        None
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
