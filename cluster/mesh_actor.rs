//! The mesh's actor: supervises the peers' actors, and holds what outlives them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::address::{Incarnation, NodeId, PeerIdentity};
use crate::gradients::Gradients;
use crate::link::{CloseReason, Link, LinkError, Transport};
use crate::mesh::{Admits, Board, MeshConfig, MeshEvent, PeerAddress};
use crate::mesh_events::Events;
use crate::mesh_greet::{Bound, Greeted, Greeter, accept_all};
use crate::peer::Me;
use crate::peer_rules::{Backoff, Lives, Refusal, Verdict, split_mix};
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
    pub me: Arc<Me>,
    pub host: Arc<Host>,
    pub transport: Arc<dyn Transport>,
    pub admits: Admits,
    pub seed: u64,
    pub board: Arc<Board>,
    pub events: Arc<(Mutex<Events>, Notify)>,
    pub peers: BTreeMap<NodeId, Peer>,
    /// Lives so far.
    pub lives: u64,
    /// Who was refused, and why: told once each.
    pub refused: BTreeSet<(NodeId, &'static str)>,
    /// The teller of events, the accepter of calls, timers.
    pub work: JoinSet<()>,
    /// No sessions any more: it leaves, or is fenced.
    pub is_over: bool,
    pub stopping: Option<RpcReplyPort<()>>,
}

/// What is known of a peer, whether or not it has an actor.
pub(crate) struct Peer {
    pub at: Option<PeerAddress>,
    pub lives: Lives,
    pub backoff: Backoff,
    pub live: Option<Live>,
    /// The call that comes after the life that is ending.
    pub next: Option<Box<Greeted>>,
    pub has_timer: bool,
}

/// A peer's actor.
pub(crate) struct Live {
    pub number: u64,
    pub cell: ActorCell,
    pub cancel: watch::Sender<Option<CloseReason>>,
    /// While it waits for its data connection.
    pub bound: Option<oneshot::Sender<Box<Bound>>>,
    pub session: Option<Arc<Session>>,
    pub since: Instant,
    pub was_up: bool,
    pub ended: Arc<OnceLock<LinkError>>,
}

type Arguments =
    (MeshConfig, Arc<dyn Transport>, Kinds, Arc<Board>, Arc<Gradients>, mpsc::Sender<MeshEvent>);

impl Actor for MeshActor {
    type Msg = MeshMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<MeshMessage>,
        (config, transport, kinds, board, gradients, told): Arguments,
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
        let greeter = Greeter { me: me.clone(), gradients, mesh: myself.clone() };
        work.spawn(accept_all(greeter, transport.clone(), config.guests));
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
