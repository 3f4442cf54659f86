//! Of the mesh's actor: sessions that come up and go down, and what follows.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ractor::{ActorCell, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, sleep};

use crate::address::NodeId;
use crate::caps::{CALL_AFTER, REDIAL_AFTER_MAX};
use crate::link::{CloseReason, LinkError};
use crate::mesh::{Entry, PeerState};
use crate::mesh_actor::{Live, MeshMessage, Peer, State};
use crate::mesh_events::Events;
use crate::remote::DownReason;
use crate::session::Session;
use crate::session_run::Pulse;

impl State {
    pub(crate) fn up(&mut self, node: &NodeId, life: u64, session: Arc<Session>) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let Some(live) = peer.live.as_mut().filter(|live| live.number == life) else { return };
        if live.cancel.borrow().is_some() {
            return;
        }
        (live.session, live.since, live.was_up) = (Some(session.clone()), Instant::now(), true);
        let (identity, incarnation) = (session.peer().clone(), session.incarnation());
        tracing::info!(peer = %identity, %incarnation, "up");
        metrics::gauge!("orcapack_cluster_sessions").increment(1.0);
        self.show(node, PeerState::Up, |entry| {
            (entry.view.role, entry.view.incarnation) = (identity.role, Some(incarnation));
            (entry.view.problem, entry.session) = (None, Some(session));
        });
        self.tell(|events| events.up(life, identity, incarnation));
    }

    pub(crate) fn pulse(&mut self, node: &NodeId, life: u64, pulse: Pulse) {
        let live = self.peers.get(node).and_then(|peer| peer.live.as_ref());
        if live.is_none_or(|live| live.number != life || live.session.is_none()) {
            return;
        }
        let state = match pulse {
            Pulse::Suspect => PeerState::Suspect,
            Pulse::Heard => PeerState::Up,
        };
        tracing::info!(%node, ?state, "pulse");
        self.show(node, state, |_| {});
        self.tell(|events| events.suspect(node, pulse == Pulse::Suspect));
    }

    /// The end of a peer's session, once.
    pub(crate) fn went_down(&mut self, node: &NodeId, reason: DownReason) {
        let live = self.peers.get_mut(node).and_then(|peer| peer.live.as_mut());
        if live.and_then(|live| live.session.take()).is_none() {
            return;
        }
        tracing::info!(%node, %reason, "down");
        metrics::gauge!("orcapack_cluster_sessions").decrement(1.0);
        let problem = reason.to_string();
        self.show(node, PeerState::Down, |entry| {
            (entry.view.problem, entry.session) = (Some(problem), None);
        });
        self.tell(|events| events.down(node, reason));
    }

    /// Ends a peer's life at once; its actor ends a moment later.
    pub(crate) fn end_life(&mut self, node: &NodeId, close: CloseReason, down: DownReason) {
        let Some(live) = self.peers.get(node).and_then(|peer| peer.live.as_ref()) else { return };
        live.cancel.send_if_modified(|wanted| wanted.replace(close).is_none());
        if let Some(session) = &live.session {
            session.close(close);
        }
        self.went_down(node, down);
    }

    pub(crate) fn end_all(&mut self) {
        self.is_over = true;
        let nodes: Vec<NodeId> = self.peers.keys().cloned().collect();
        for node in nodes {
            if let Some(next) = self.peers.get_mut(&node).and_then(|peer| peer.next.take()) {
                next.control.close(CloseReason::Leaving);
            }
            self.end_life(&node, CloseReason::Leaving, DownReason::Left);
        }
    }

    /// A peer's actor has ended, and with it all that it held.
    pub(crate) async fn life_ended(
        &mut self,
        myself: &ActorRef<MeshMessage>,
        cell: &ActorCell,
    ) -> Result<(), ActorProcessingErr> {
        let is_it = |peer: &Peer| {
            peer.live.as_ref().is_some_and(|live| live.cell.get_id() == cell.get_id())
        };
        let found = self.peers.iter().find(|(_, peer)| is_it(peer)).map(|(node, _)| node.clone());
        let Some(node) = found else { return Ok(()) };
        let error = self.peers.get(&node).and_then(|peer| peer.live.as_ref()?.ended.get().cloned());
        let error = error.unwrap_or_else(|| LinkError::Transport("its actor died".to_owned()));
        self.went_down(&node, down_reason(&error));
        let Some(peer) = self.peers.get_mut(&node) else { return Ok(()) };
        let live = peer.live.take();
        let next = peer.next.take();
        if error == LinkError::ClosedByPeer(CloseReason::Fenced) && !self.is_over {
            tracing::error!(by = %node, "fenced: a newer process has this node's identity");
            self.end_all();
            self.tell(Events::fenced);
        }
        if self.is_over {
            if let Some(next) = next {
                next.control.close(CloseReason::Leaving);
            }
            return Ok(());
        }
        match next {
            Some(greeted) => self.answer(myself, greeted).await,
            None => {
                self.try_later(myself, &node, &error, live.as_ref());
                Ok(())
            }
        }
    }

    pub(crate) fn try_later(
        &mut self,
        myself: &ActorRef<MeshMessage>,
        node: &NodeId,
        error: &LinkError,
        live: Option<&Live>,
    ) {
        let was_up = live.is_some_and(|live| live.was_up);
        if !was_up {
            self.problem(node, error);
        }
        let Some(peer) = self.peers.get_mut(node) else { return };
        if was_up && live.is_some_and(|live| live.since.elapsed() >= REDIAL_AFTER_MAX) {
            peer.backoff.reset();
        }
        let is_refused = matches!(error, LinkError::Untrusted(_) | LinkError::ClosedByPeer(_));
        if is_refused && !was_up {
            peer.backoff.slow();
        }
        self.set_timer(myself, node);
    }

    /// A dial after the back-off, if it is ours to dial, and else some time later, if nobody has
    /// called by then.
    pub(crate) fn set_timer(&mut self, myself: &ActorRef<MeshMessage>, node: &NodeId) {
        let is_ours = self.dials(node);
        let Some(peer) = self.peers.get_mut(node) else { return };
        if peer.at.is_none() || peer.has_timer {
            return;
        }
        peer.has_timer = true;
        let wait = peer.backoff.wait() + if is_ours { Duration::ZERO } else { CALL_AFTER };
        let (mesh, node) = (myself.clone(), node.clone());
        self.work.spawn(async move {
            sleep(wait).await;
            let _ = mesh.cast(MeshMessage::Redial(node));
        });
    }

    /// Why there is no session: into the status, and into the log when it is another than before.
    pub(crate) fn problem(&self, node: &NodeId, error: &LinkError) {
        let problem = Some(error.to_string());
        if let Some(entry) = self.board.peers().get_mut(node)
            && entry.view.problem != problem
        {
            tracing::warn!(%node, %error, "no session");
            entry.view.problem = problem;
        }
    }

    pub(crate) fn show(&self, node: &NodeId, state: PeerState, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.board.peers().get_mut(node) {
            (entry.view.state, entry.view.since) = (state, Instant::now());
            change(entry);
        }
    }

    pub(crate) fn tell(&self, change: impl FnOnce(&mut Events)) {
        let (events, changed) = &*self.events;
        change(&mut events.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_one();
    }

    pub(crate) fn stop_if_idle(&mut self, myself: &ActorRef<MeshMessage>) {
        if self.stopping.is_none() || self.peers.values().any(|peer| peer.live.is_some()) {
            return;
        }
        let (transport, mesh) = (self.transport.clone(), myself.clone());
        self.work.spawn(async move {
            transport.close(CloseReason::Leaving).await;
            let _ = mesh.cast(MeshMessage::Stopped);
        });
    }
}

fn down_reason(error: &LinkError) -> DownReason {
    match error {
        LinkError::ClosedByPeer(CloseReason::Leaving) => DownReason::Left,
        LinkError::Closed(reason @ (CloseReason::Protocol | CloseReason::Revoked)) => {
            DownReason::Refused(reason.to_string())
        }
        _ => DownReason::NodeLost,
    }
}
