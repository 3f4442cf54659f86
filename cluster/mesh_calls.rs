//! Of the mesh's actor: who is known, who is dialled, and whose call is taken.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::address::{NodeId, PeerIdentity, Role};
use crate::caps::PEERS_MAX;
use crate::link::{CloseReason, Link};
use crate::mesh::{Admits, Entry, PeerAddress, PeerState, PeerView};
use crate::mesh_actor::{Live, MeshMessage, Peer, State};
use crate::mesh_greet::{Bound, Greeted};
use crate::peer::{Begin, Life, PeerActor};
use crate::peer_rules::{Backoff, Lives, Refusal, Verdict, dials};
use crate::remote::DownReason;

impl State {
    pub(crate) async fn set_peers(
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
    pub(crate) fn peer(&mut self, node: &NodeId, role: Role, at: Option<PeerAddress>) -> &mut Peer {
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
            Entry { view, session: None, cancel: None }
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
    pub(crate) fn has_room(&mut self) -> bool {
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
    pub(crate) async fn dial(
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

    pub(crate) async fn begin(
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
        if let Some(entry) = self.board.peers().get_mut(node) {
            entry.cancel = Some(cancel.clone());
        }
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
    pub(crate) fn greeted(&mut self, greeted: Box<Greeted>) -> Option<Box<Greeted>> {
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

    pub(crate) fn admit(&mut self, greeted: &Greeted) -> Result<(), Refusal> {
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

    pub(crate) fn dials(&self, node: &NodeId) -> bool {
        dials(&self.me.node, self.me.listens, node)
    }

    pub(crate) async fn answer(
        &mut self,
        myself: &ActorRef<MeshMessage>,
        greeted: Box<Greeted>,
    ) -> Result<(), ActorProcessingErr> {
        let node = greeted.peer.node.clone();
        let (bind, bound) = oneshot::channel();
        self.begin(myself, &node, Begin::Called { greeted, bound }, Some(bind)).await
    }

    pub(crate) fn refuse(&mut self, node: &NodeId, link: &dyn Link, why: Refusal) {
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
    pub(crate) fn bound(&mut self, from: &PeerIdentity, session: u64, bound: Box<Bound>) {
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
}
