//! The mesh's actor: supervises the peers' actors, and holds what outlives them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::address::{Incarnation, NodeId, PeerIdentity, Role};
use crate::caps::{CALL_AFTER, PEERS_MAX, REDIAL_AFTER_MAX};
use crate::link::{CloseReason, Link, LinkError, Transport};
use crate::mesh::{Admits, Board, Entry, MeshConfig, MeshEvent, PeerAddress, PeerState, PeerView};
use crate::mesh_events::Events;
use crate::mesh_greet::{Bound, Greeted, accept_all};
use crate::peer::{Begin, Life, Me, PeerActor};
use crate::peer_rules::{Backoff, Lives, Refusal, Verdict, dials, split_mix};
use crate::remote::{DownReason, Kinds};
use crate::session::Session;
use crate::session_run::{Host, Pulse};

pub(crate) enum MeshMessage {
    SetPeers(Vec<PeerAddress>),
    Greeted(Box<Greeted>),
    Refused {
        peer: PeerIdentity,
        link: Arc<dyn Link>,
        why: Refusal,
    },
    Bound {
        peer: PeerIdentity,
        session: u64,
        bound: Box<Bound>,
    },
    /// Who was dialled has said who it is.
    Judge {
        node: NodeId,
        incarnation: Incarnation,
        process: u64,
        reply: RpcReplyPort<Verdict>,
    },
    Up {
        node: NodeId,
        life: u64,
        session: Arc<Session>,
    },
    Pulse {
        node: NodeId,
        life: u64,
        pulse: Pulse,
    },
    Redial(NodeId),
    Close {
        node: NodeId,
        reason: CloseReason,
    },
    Stop(RpcReplyPort<()>),
    /// The transport is closed.
    Stopped,
}

pub(crate) struct MeshActor;

pub(crate) struct State {
    me: Arc<Me>,
    host: Arc<Host>,
    transport: Arc<dyn Transport>,
    admits: Admits,
    seed: u64,
    board: Arc<Board>,
    events: Arc<(Mutex<Events>, Notify)>,
    peers: BTreeMap<NodeId, Peer>,
    /// Lives so far.
    lives: u64,
    /// Who was refused, and why: told once each.
    refused: BTreeSet<(NodeId, &'static str)>,
    /// The teller of events, the accepter of calls, timers.
    work: JoinSet<()>,
    /// No sessions any more: it leaves, or is fenced.
    is_over: bool,
    stopping: Option<RpcReplyPort<()>>,
}

/// What is known of a peer, whether or not it has an actor.
struct Peer {
    at: Option<PeerAddress>,
    lives: Lives,
    backoff: Backoff,
    live: Option<Live>,
    /// The call that comes after the life that is ending.
    next: Option<Box<Greeted>>,
    has_timer: bool,
}

/// A peer's actor.
struct Live {
    number: u64,
    cell: ActorCell,
    cancel: watch::Sender<Option<CloseReason>>,
    /// While it waits for its data connection.
    bound: Option<oneshot::Sender<Box<Bound>>>,
    session: Option<Arc<Session>>,
    since: Instant,
    was_up: bool,
    ended: Arc<OnceLock<LinkError>>,
}

type Arguments = (MeshConfig, Arc<dyn Transport>, Kinds, Arc<Board>, mpsc::Sender<MeshEvent>);

impl Actor for MeshActor {
    type Msg = MeshMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<MeshMessage>,
        (config, transport, kinds, board, told): Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let me = Arc::new(Me {
            node: config.me.clone(),
            role: config.role,
            cluster: config.cluster,
            incarnation: config.incarnation,
            process: split_mix(!config.seed),
            listens: config.listens,
        });
        let (node, incarnation) = (config.me, config.incarnation);
        let host = Arc::new(Host { node, incarnation, kinds, spawned: AtomicU64::new(0) });
        let events = Arc::new((Mutex::default(), Notify::new()));
        let mut work = JoinSet::new();
        work.spawn(tell_all(events.clone(), told));
        work.spawn(accept_all(me.clone(), transport.clone(), config.join, myself.clone()));
        myself.cast(MeshMessage::SetPeers(config.peers))?;
        Ok(State {
            me,
            host,
            transport,
            admits: config.admits,
            seed: config.seed,
            board,
            events,
            peers: BTreeMap::new(),
            lives: 0,
            refused: BTreeSet::new(),
            work,
            is_over: false,
            stopping: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<MeshMessage>,
        message: MeshMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        while state.work.try_join_next().is_some() {}
        match message {
            MeshMessage::SetPeers(peers) => state.set_peers(&myself, peers).await?,
            MeshMessage::Greeted(greeted) => {
                if let Some(greeted) = state.greeted(greeted) {
                    state.answer(&myself, greeted).await?;
                }
            }
            MeshMessage::Refused { peer, link, why } => state.refuse(&peer.node, &*link, why),
            MeshMessage::Bound { peer, session, bound } => state.bound(&peer, session, bound),
            MeshMessage::Judge { node, incarnation, process, reply } => {
                let peer = state.peers.get_mut(&node);
                let verdict = peer.map_or(Verdict::Stale, |p| p.lives.judge(incarnation, process));
                let _ = reply.send(verdict);
            }
            MeshMessage::Up { node, life, session } => state.up(&node, life, session),
            MeshMessage::Pulse { node, life, pulse } => state.pulse(&node, life, pulse),
            MeshMessage::Redial(node) => {
                if let Some(peer) = state.peers.get_mut(&node) {
                    peer.has_timer = false;
                    metrics::counter!("orcapack_cluster_redials_total").increment(1);
                }
                state.dial(&myself, &node).await?;
            }
            MeshMessage::Close { node, reason } => {
                if let Some(peer) = state.peers.get_mut(&node) {
                    peer.backoff.slow();
                }
                state.end_life(&node, reason, DownReason::Refused(reason.to_string()));
            }
            MeshMessage::Stop(reply) => {
                state.stopping = Some(reply);
                state.end_all();
                state.stop_if_idle(&myself);
            }
            MeshMessage::Stopped => {
                if let Some(reply) = state.stopping.take() {
                    let _ = reply.send(());
                }
                myself.stop(None);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<MeshMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorTerminated(cell, ..)
        | SupervisionEvent::ActorFailed(cell, _) = event
        {
            state.life_ended(&myself, &cell).await?;
            state.stop_if_idle(&myself);
        }
        Ok(())
    }
}

impl State {
    async fn set_peers(
        &mut self,
        myself: &ActorRef<MeshMessage>,
        listed: Vec<PeerAddress>,
    ) -> Result<(), ActorProcessingErr> {
        let mut listed: BTreeMap<NodeId, PeerAddress> =
            listed.into_iter().map(|peer| (peer.node.clone(), peer)).collect();
        listed.remove(&self.me.node);
        for (node, peer) in &mut self.peers {
            peer.at = listed.get(node).cloned();
            if let Some(entry) = self.board.peers().get_mut(node) {
                entry.view.at = peer.at.as_ref().map(|at| at.at);
            }
        }
        for (node, at) in listed {
            if !self.peers.contains_key(&node) && !self.has_room() {
                tracing::warn!(%node, "more than {PEERS_MAX} peers: this one is left out");
                continue;
            }
            let role = at.role;
            self.peer(&node, role, Some(at));
            if self.dials(&node) {
                self.dial(myself, &node).await?;
            } else {
                self.set_timer(myself, &node);
            }
        }
        Ok(())
    }

    /// Finds or makes a peer.
    fn peer(&mut self, node: &NodeId, role: Role, at: Option<PeerAddress>) -> &mut Peer {
        self.board.peers().entry(node.clone()).or_insert_with(|| {
            let view = PeerView {
                node: node.clone(),
                role,
                at: at.as_ref().map(|at| at.at),
                state: PeerState::Down,
                incarnation: None,
                round_trip: None,
                since: Instant::now(),
                problem: None,
            };
            Entry { view, session: None }
        });
        let seed = self.seed;
        self.peers.entry(node.clone()).or_insert_with(|| Peer {
            at,
            lives: Lives::default(),
            backoff: Backoff::new(seed, node),
            live: None,
            next: None,
            has_timer: false,
        })
    }

    /// Whether one more peer can be remembered, if need be in the place of one that came by itself
    /// and is gone.
    fn has_room(&mut self) -> bool {
        if self.peers.len() < PEERS_MAX {
            return true;
        }
        let is_idle = |peer: &Peer| peer.at.is_none() && peer.live.is_none();
        let idle = self.peers.iter().find(|(_, peer)| is_idle(peer)).map(|(node, _)| node.clone());
        idle.inspect(|node| {
            self.peers.remove(node);
            self.board.peers().remove(node);
        })
        .is_some()
    }

    /// Dials a peer, if it has no actor.
    async fn dial(
        &mut self,
        myself: &ActorRef<MeshMessage>,
        node: &NodeId,
    ) -> Result<(), ActorProcessingErr> {
        let Some(peer) = self.peers.get(node) else { return Ok(()) };
        let Some(at) = peer.at.as_ref().map(|at| at.at) else { return Ok(()) };
        if self.is_over || peer.live.is_some() || peer.has_timer {
            return Ok(());
        }
        self.begin(myself, node, Begin::Dial(at), None).await
    }

    async fn begin(
        &mut self,
        myself: &ActorRef<MeshMessage>,
        node: &NodeId,
        begin: Begin,
        bound: Option<oneshot::Sender<Box<Bound>>>,
    ) -> Result<(), ActorProcessingErr> {
        self.lives += 1;
        let (cancel, cancelled) = watch::channel(None);
        let ended = Arc::new(OnceLock::new());
        let life = Life {
            me: self.me.clone(),
            host: self.host.clone(),
            transport: self.transport.clone(),
            mesh: myself.clone(),
            node: node.clone(),
            number: self.lives,
            cancel: cancelled,
            ended: ended.clone(),
        };
        let parent = myself.get_cell();
        let (actor, _) = Actor::spawn_linked(None, PeerActor, (life, begin), parent).await?;
        if let Some(peer) = self.peers.get_mut(node) {
            peer.live = Some(Live {
                number: self.lives,
                cell: actor.get_cell(),
                cancel,
                bound,
                session: None,
                since: Instant::now(),
                was_up: false,
                ended,
            });
        }
        Ok(())
    }

    /// A call from who says it is a peer, as its certificate does: answered now, or when the life
    /// before it has ended, or not.
    fn greeted(&mut self, greeted: Box<Greeted>) -> Option<Box<Greeted>> {
        let (node, control) = (greeted.peer.node.clone(), greeted.control.clone());
        if let Err(why) = self.admit(&greeted) {
            self.refuse(&node, &*control, why);
            return None;
        }
        let (incarnation, process) = (greeted.hello.incarnation, greeted.hello.process);
        let peer = self.peer(&node, greeted.peer.role, None);
        let (close, down) = match peer.lives.judge(incarnation, process) {
            Verdict::Stale => {
                self.refuse(&node, &*control, Refusal::Stale);
                return None;
            }
            Verdict::Newer => (CloseReason::Fenced, DownReason::Fenced),
            // It must not take this for its own end.
            Verdict::Same => (CloseReason::Refused, DownReason::NodeLost),
        };
        if let Some(next) = peer.next.take() {
            next.control.close(close);
        }
        if peer.live.is_none() {
            return Some(greeted);
        }
        peer.next = Some(greeted);
        self.end_life(&node, close, down);
        None
    }

    fn admit(&mut self, greeted: &Greeted) -> Result<(), Refusal> {
        let (node, hello) = (&greeted.peer.node, &greeted.hello);
        let known = self.peers.get(node);
        let is_listed = known.is_some_and(|peer| peer.at.is_some());
        // Of two that call each other, one must give way, and not both.
        let is_called = |peer: &Peer| {
            peer.live.as_ref().is_some_and(|live| {
                live.session.is_none() || peer.lives.is_newest(hello.incarnation, hello.process)
            })
        };
        let is_wrong_way = is_listed && hello.listens && self.dials(node);
        if self.is_over {
            Err(Refusal::Stopping)
        } else if !is_listed && self.admits == Admits::Listed {
            Err(Refusal::Unlisted)
        } else if is_wrong_way && known.is_some_and(is_called) {
            Err(Refusal::WrongWay)
        } else if known.is_none() && !self.has_room() {
            Err(Refusal::TooManyPeers)
        } else {
            Ok(())
        }
    }

    fn dials(&self, node: &NodeId) -> bool {
        dials(&self.me.node, self.me.listens, node)
    }

    async fn answer(
        &mut self,
        myself: &ActorRef<MeshMessage>,
        greeted: Box<Greeted>,
    ) -> Result<(), ActorProcessingErr> {
        let node = greeted.peer.node.clone();
        let (bind, bound) = oneshot::channel();
        self.begin(myself, &node, Begin::Called { greeted, bound }, Some(bind)).await
    }

    fn refuse(&mut self, node: &NodeId, link: &dyn Link, why: Refusal) {
        metrics::counter!("orcapack_cluster_refused_total", "why" => format!("{why:?}"))
            .increment(1);
        if self.refused.len() >= PEERS_MAX {
            self.refused.clear();
        }
        if self.refused.insert((node.clone(), why.as_str())) {
            tracing::warn!(%node, "refused: it {}", why.as_str());
        }
        link.close(match why {
            Refusal::Stale => CloseReason::Fenced,
            _ => CloseReason::Refused,
        });
    }

    /// A data connection goes to the session under way that it names, or nowhere.
    fn bound(&mut self, from: &PeerIdentity, session: u64, bound: Box<Bound>) {
        let live = self.peers.get_mut(&from.node).and_then(|peer| peer.live.as_mut());
        let live = live.filter(|live| live.number == session);
        let refused = match live.and_then(|live| live.bound.take()) {
            Some(bind) => bind.send(bound).err(),
            None => Some(bound),
        };
        if let Some(refused) = refused {
            tracing::debug!(%from, session, "a data connection of no session under way");
            refused.data.close(CloseReason::Refused);
        }
    }

    fn up(&mut self, node: &NodeId, life: u64, session: Arc<Session>) {
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

    fn pulse(&mut self, node: &NodeId, life: u64, pulse: Pulse) {
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
    fn went_down(&mut self, node: &NodeId, reason: DownReason) {
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
    fn end_life(&mut self, node: &NodeId, close: CloseReason, down: DownReason) {
        let Some(live) = self.peers.get(node).and_then(|peer| peer.live.as_ref()) else { return };
        live.cancel.send_if_modified(|wanted| wanted.replace(close).is_none());
        if let Some(session) = &live.session {
            session.close(close);
        }
        self.went_down(node, down);
    }

    fn end_all(&mut self) {
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
    async fn life_ended(
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

    fn try_later(
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
    fn set_timer(&mut self, myself: &ActorRef<MeshMessage>, node: &NodeId) {
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
    fn problem(&self, node: &NodeId, error: &LinkError) {
        let problem = Some(error.to_string());
        if let Some(entry) = self.board.peers().get_mut(node)
            && entry.view.problem != problem
        {
            tracing::warn!(%node, %error, "no session");
            entry.view.problem = problem;
        }
    }

    fn show(&self, node: &NodeId, state: PeerState, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.board.peers().get_mut(node) {
            (entry.view.state, entry.view.since) = (state, Instant::now());
            change(entry);
        }
    }

    fn tell(&self, change: impl FnOnce(&mut Events)) {
        let (events, changed) = &*self.events;
        change(&mut events.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_one();
    }

    fn stop_if_idle(&mut self, myself: &ActorRef<MeshMessage>) {
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

/// Tells events as fast as they are read.
async fn tell_all(events: Arc<(Mutex<Events>, Notify)>, told: mpsc::Sender<MeshEvent>) {
    let (events, changed) = &*events;
    while let Ok(room) = told.reserve().await {
        let event = loop {
            let next = events.lock().unwrap_or_else(PoisonError::into_inner).next();
            match next {
                Some(event) => break event,
                None => changed.notified().await,
            }
        };
        room.send(event);
    }
}
