//! A session: what two lives of nodes have between them, from their handshake to the loss of either
//! of its two connections.
//!
//! It holds the remote actors of both sides: those that we *watch*, and those that we *host* for
//! the peer. With it they all end, at once and whatever they await (RA-3).
//!
//! Bounds: at most [`ACTORS_MAX`] actors are watched. An actor's number is free again only when the
//! word that frees it at the other side is on its way, so the peer hosts no more than that for us,
//! give or take those whose end is on its way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::address::{Address, Incarnation, PeerIdentity};
use crate::caps::{ACTORS_MAX, KIND_BYTES_MAX, SPAWN_ARGS_BYTES_MAX};
use crate::lane::{LaneEnded, LaneReceiver, LaneSender};
use crate::link::{CloseReason, Link, LinkError};
use crate::remote::{DownReason, Port};
use crate::remote_port::{Ending, PortHandle, port};
use crate::session_wire::{LaneHead, Message, Side};

/// What a handshake has made.
pub(crate) struct Joined {
    pub peer: PeerIdentity,
    pub incarnation: Incarnation,
    pub control: Arc<dyn Link>,
    pub data: Arc<dyn Link>,
    pub sender: LaneSender,
}

pub(crate) struct Session {
    joined: Joined,
    table: Mutex<Table>,
    /// Watched actors whose port was dropped. As long as there may be of them.
    gone: mpsc::Sender<u64>,
    /// Why we ended it, if we did.
    ended: watch::Sender<Option<LinkError>>,
    round_trip_us: AtomicU64,
}

#[derive(Default)]
struct Table {
    is_ended: bool,
    next: u64,
    watched: BTreeMap<u64, Watched>,
    hosted: BTreeMap<u64, Hosted>,
}

struct Watched {
    handle: PortHandle,
    /// Whoever waits for it to start.
    started: Option<oneshot::Sender<Result<u64, DownReason>>>,
}

struct Hosted {
    handle: PortHandle,
    task: AbortHandle,
}

/// Why there is no actor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    #[error("no session with {0}")]
    NotConnected(crate::address::NodeId),
    /// The peer's answer, or its loss.
    #[error("{0}")]
    Down(DownReason),
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    #[error("{what} of {bytes} bytes, where {bytes_max} are the most")]
    TooLong { what: &'static str, bytes: usize, bytes_max: usize },
    #[error("has {ACTORS_MAX} actors there, which are the most")]
    TooMany,
}

impl Session {
    /// And where to learn of ports that were dropped.
    pub(crate) fn new(joined: Joined) -> (Arc<Self>, mpsc::Receiver<u64>) {
        let (gone, dropped) = mpsc::channel(ACTORS_MAX);
        let session = Self {
            joined,
            table: Mutex::default(),
            gone,
            ended: watch::Sender::new(None),
            round_trip_us: AtomicU64::new(0),
        };
        (Arc::new(session), dropped)
    }

    pub(crate) fn peer(&self) -> &PeerIdentity {
        &self.joined.peer
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.joined.incarnation
    }

    pub(crate) fn control(&self) -> &dyn Link {
        &*self.joined.control
    }

    pub(crate) fn data(&self) -> &dyn Link {
        &*self.joined.data
    }

    /// As the last answer to a ping took, or as the transport knows.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        match self.round_trip_us.load(Ordering::Relaxed) {
            0 => self.joined.control.round_trip(),
            us => Some(Duration::from_micros(us)),
        }
    }

    pub(crate) fn measured(&self, round_trip: Duration) {
        let us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.round_trip_us.store(us.max(1), Ordering::Relaxed);
    }

    /// Starts an actor of the kind at the peer. Whoever stops waiting has stopped it.
    pub(crate) async fn spawn(
        self: &Arc<Self>,
        kind: &str,
        args: Vec<u8>,
    ) -> Result<(Address, Port), SpawnError> {
        let fits = |what, bytes, bytes_max| match bytes <= bytes_max {
            true => Ok(()),
            false => Err(SpawnError::TooLong { what, bytes, bytes_max }),
        };
        fits("the name of a kind", kind.len(), KIND_BYTES_MAX)?;
        fits("arguments", args.len(), SPAWN_ARGS_BYTES_MAX)?;
        let lost = |_| SpawnError::Down(DownReason::NodeLost);
        let (actor, port, started) = self.watch()?;
        let kind = kind.to_owned();
        self.say(&Message::Spawn { actor, kind, args }).await.map_err(|_| lost(()))?;
        let id = started.await.map_err(|_| lost(()))?.map_err(SpawnError::Down)?;
        let PeerIdentity { node, .. } = self.peer().clone();
        Ok((Address { node, incarnation: self.incarnation(), actor: id }, port))
    }

    /// A new actor's number, port, and start.
    #[expect(clippy::type_complexity, reason = "three parts for one caller")]
    fn watch(
        self: &Arc<Self>,
    ) -> Result<(u64, Port, oneshot::Receiver<Result<u64, DownReason>>), SpawnError> {
        let mut table = self.table();
        if table.is_ended {
            return Err(SpawnError::Down(DownReason::NodeLost));
        }
        if table.watched.len() >= ACTORS_MAX {
            return Err(SpawnError::TooMany);
        }
        table.next += 1;
        let actor = table.next;
        let (port, handle) = port(self, actor, Side::Watcher);
        let (start, started) = oneshot::channel();
        table.watched.insert(actor, Watched { handle, started: Some(start) });
        Ok((actor, port, started))
    }

    /// Waits for room among the messages to the peer.
    pub(crate) async fn say(&self, message: &Message) -> Result<(), LaneEnded> {
        // Only a message of ours that is too long cannot be encoded, and there is none.
        let bytes = message.encode().map_err(|_| LaneEnded)?;
        self.joined.sender.send(bytes).await
    }

    /// Where a missing message is no harm.
    pub(crate) fn try_say(&self, message: &Message) {
        if let Ok(bytes) = message.encode() {
            let _ = self.joined.sender.try_send(bytes);
        }
    }

    /// A watched actor's port was dropped.
    pub(crate) fn watcher_gone(&self, actor: u64) {
        let is_down = {
            let mut table = self.table();
            let Some(watched) = table.watched.get(&actor) else { return };
            let is_down = watched.handle.down.is_none();
            is_down.then(|| table.watched.remove(&actor)).flatten()
        };
        if is_down.is_none() {
            // There is room for each actor that may be watched, and each port is dropped once.
            let _ = self.gone.try_send(actor);
        }
    }

    /// The peer has been told, or need not be, that its actor is not watched any more.
    pub(crate) fn unwatch(&self, actor: u64) {
        let watched = self.table().watched.remove(&actor);
        drop(watched);
    }

    pub(crate) fn started(&self, actor: u64, id: u64) {
        let started = self.table().watched.get_mut(&actor).and_then(|w| w.started.take());
        if let Some(started) = started {
            // Its caller may have stopped waiting: then its port's drop has stopped the actor.
            let _ = started.send(Ok(id));
        }
    }

    /// A watched actor has ended. It stays in the table, for what of its messages is still on its
    /// way, until its port is dropped.
    pub(crate) fn down(&self, actor: u64, ending: Ending) {
        let (started, down) = {
            let mut table = self.table();
            let Some(watched) = table.watched.get_mut(&actor) else { return };
            watched.handle.end.close();
            (watched.started.take(), watched.handle.down.take())
        };
        if let Some(started) = started {
            let _ = started.send(Err(ending.reason.clone()));
        }
        if let Some(down) = down {
            let _ = down.send(ending);
        }
    }

    /// Takes an actor in that the peer asks for. `begin` starts its task.
    pub(crate) fn host(
        self: &Arc<Self>,
        actor: u64,
        begin: impl FnOnce(Port) -> AbortHandle,
    ) -> Result<(), &'static str> {
        let mut table = self.table();
        if table.is_ended {
            return Ok(());
        }
        // Ends cross on the wire, so a peer that keeps to its bound can seem to go beyond it.
        if table.hosted.len() >= 2 * ACTORS_MAX {
            return Err("more actors than one peer may have");
        }
        if table.hosted.contains_key(&actor) {
            return Err("two actors of one number");
        }
        let (port, handle) = port(self, actor, Side::Host);
        // The task looks for itself in the table when it ends, and finds itself behind this lock.
        let task = begin(port);
        table.hosted.insert(actor, Hosted { handle, task });
        Ok(())
    }

    /// A hosted actor has ended: its port sends no more. Answers how much it had sent.
    pub(crate) fn close_hosted(&self, actor: u64) -> [u64; 3] {
        let hosted = self.table().hosted.get(&actor).map(|hosted| hosted.handle.end.clone());
        hosted.map(|end| end.close()).unwrap_or_default()
    }

    /// The watcher has been told of its end.
    pub(crate) fn forget_hosted(&self, actor: u64) {
        let hosted = self.table().hosted.remove(&actor);
        drop(hosted);
    }

    /// The watcher does not want it any more (RA-2).
    pub(crate) fn stop_hosted(&self, actor: u64) {
        let hosted = self.table().hosted.remove(&actor);
        if let Some(hosted) = hosted {
            hosted.stop(Some(DownReason::Stopped));
        }
    }

    /// A lane that the peer has opened. One for an actor that has ended meanwhile is dropped.
    pub(crate) fn arrived(&self, head: LaneHead, lane: LaneReceiver) -> Result<(), &'static str> {
        let arriving = {
            let table = self.table();
            let handle = match head.from {
                Side::Host => table.watched.get(&head.actor).map(|watched| &watched.handle),
                Side::Watcher => table.hosted.get(&head.actor).map(|hosted| &hosted.handle),
            };
            handle.map(|handle| handle.arriving.clone())
        };
        match arriving.map(|arriving| arriving.try_send((head.class, lane))) {
            Some(Err(mpsc::error::TrySendError::Full(_))) => Err("an actor with too many lanes"),
            _ => Ok(()),
        }
    }

    /// The peer has broken the protocol, which ends the session.
    pub(crate) fn violated(&self, what: &str) {
        tracing::warn!(peer = %self.peer(), what, "the peer broke the protocol");
        metrics::counter!("orcapack_cluster_protocol_violations_total").increment(1);
        self.close(CloseReason::Protocol);
    }

    /// Ends it now: connections, ports, and actors. The first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.end(LinkError::Closed(reason), reason);
    }

    /// Ends it because of what has happened to it; `tell` is what the peer hears, if it can.
    pub(crate) fn end(&self, error: LinkError, tell: CloseReason) {
        let is_first = self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert(error);
            is_first
        });
        if !is_first {
            return;
        }
        self.joined.control.close(tell);
        self.joined.data.close(tell);
        let (watched, hosted) = {
            let mut table = self.table();
            table.is_ended = true;
            (std::mem::take(&mut table.watched), std::mem::take(&mut table.hosted))
        };
        for watched in watched.into_values() {
            watched.handle.end.close();
        }
        for hosted in hosted.into_values() {
            hosted.stop(None);
        }
    }

    /// Resolves when it has ended, by us or by the loss of a connection.
    pub(crate) async fn over(&self) -> LinkError {
        let mut ended = self.ended.subscribe();
        tokio::select! {
            biased;
            ended = ended.wait_for(Option::is_some) => {
                let gone = || LinkError::Closed(CloseReason::Leaving);
                ended.ok().and_then(|ended| ended.clone()).unwrap_or_else(gone)
            }
            error = self.joined.control.closed() => error,
            error = self.joined.data.closed() => error,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code panics while it holds the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hosted {
    fn stop(mut self, reason: Option<DownReason>) {
        self.handle.end.close();
        if let (Some(down), Some(reason)) = (self.handle.down.take(), reason) {
            let _ = down.send(Ending { reason, sent: [0; 3] });
        }
        self.task.abort();
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
