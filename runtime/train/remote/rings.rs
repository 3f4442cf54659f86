//! How the ranks of an epoch come together, whatever nodes they are on: those of one node in
//! memory, the nodes' first ranks in a ring.

use std::ops::Range;
use std::time::Duration;

use futures_util::future::BoxFuture;
use orcapack_cluster::address::NodeId;
use orcapack_cluster::link::Stream;
use orcapack_trainer::collective::ring::{Neighbours, Ring, RingSettings, Wire};
use orcapack_trainer::collective::two_level::TwoLevel;
use orcapack_trainer::collective::{Abort, CollectiveError, Collectives, Formed, Member, Place};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::train::remote::lobby::{Hello, Lobby, Seat, introduce};

/// Longer than a leader waits for a ring: it knows first who is dead, and forms another.
const FORM_LIMIT: Duration = Duration::from_secs(60);
/// Before a node that could not be reached is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The collectives of one rank.
pub struct Rings {
    seat: Seat,
    me: NodeId,
    wire: Wire,
    /// For a neighbour to do its part of a call.
    patience: Duration,
}

impl Rings {
    /// For a rank on node `me`, of a run's coordinator in its life `life`.
    ///
    /// # Errors
    /// The run has ranks of a later coordinator here.
    pub fn enter(
        lobby: &Lobby,
        me: NodeId,
        (run, life): (&str, u64),
        wire: Wire,
        patience: Duration,
    ) -> Result<Self, String> {
        Ok(Self { seat: lobby.enter(run, life, patience)?, me, wire, patience })
    }

    async fn meet(&self, place: &Place) -> Formed {
        let Place { epoch, rank, ref members } = *place;
        let mismatch = |what: String| CollectiveError::Mismatch { rank, what };
        let nodes = nodes(members).map_err(mismatch)?;
        let mine = nodes.iter().position(|node| node.ranks.contains(&rank));
        let mine = mine.ok_or_else(|| mismatch(format!("rank {rank} of {}", members.len())))?;
        let Node { name, ranks } = &nodes[mine];
        if *name != self.me {
            return Err(mismatch(format!("it is on {}, not on {name}", self.me)));
        }
        self.seat.begin(epoch).map_err(mismatch)?;
        if nodes.len() == 1 {
            return self.seat.exchange.form(place).await;
        }
        let ring = async {
            match ranks.start == rank {
                true => self.ring(epoch, &nodes, mine).await.map(Some),
                false => Ok(None),
            }
        };
        if nodes.iter().all(|node| node.ranks.len() == 1) {
            let alone = || mismatch("a ring without its rank".to_owned());
            let (ring, abort) = ring.await?.ok_or_else(alone)?;
            return Ok((Box::new(ring), abort));
        }
        let own = members.get(ranks.clone()).unwrap_or_default().to_vec();
        let local = Place { epoch, rank: rank - ranks.start, members: own };
        let local = self.seat.exchange.meet(&local, ranks.start);
        let ((local, abort), ring) = tokio::try_join!(local, ring)?;
        let (ring, abort) = match ring {
            Some((ring, of_ring)) => (Some(ring), abort.and(of_ring)),
            None => (None, abort),
        };
        let counts: Vec<usize> = nodes.iter().map(|node| node.ranks.len()).collect();
        Ok((Box::new(TwoLevel::new(&counts, mine, local, ring)?), abort))
    }

    /// Between the first ranks of the nodes.
    async fn ring(
        &self,
        epoch: u64,
        nodes: &[Node],
        mine: usize,
    ) -> Result<(Ring, Abort), CollectiveError> {
        let next = &nodes[(mine + 1) % nodes.len()];
        let previous = &nodes[(mine + nodes.len() - 1) % nodes.len()];
        let hello = |from: &Node, to: &Node| Hello {
            run: self.seat.run.clone(),
            life: self.seat.life,
            epoch,
            from: from.ranks.start as u32,
            to: to.ranks.start as u32,
        };
        let (there, back) = (hello(&nodes[mine], next), hello(previous, &nodes[mine]));
        let taken = async {
            let taken = timeout(FORM_LIMIT, self.seat.take(&previous.name, &back)).await;
            let why = format!("{} has not called in {FORM_LIMIT:?}", previous.name);
            taken.map_err(|_| CollectiveError::PeerLost { rank: previous.ranks.start, why })
        };
        let reached = async {
            let mut last = String::new();
            let reached = timeout(FORM_LIMIT, self.reach(&next.name, &there, &mut last)).await;
            let lost = |_| CollectiveError::PeerLost { rank: next.ranks.start, why: last };
            reached.map_err(lost)
        };
        let (to_next, from_previous) = tokio::try_join!(reached, taken)?;
        let neighbours = Neighbours::over(to_next, from_previous);
        let settings = RingSettings { wire: self.wire, ..RingSettings::new(epoch, self.patience) };
        Ok(Ring::new(mine, nodes.len(), neighbours, settings, Handle::current()))
    }

    /// A stream that another node has taken; `last` is why there is none yet.
    async fn reach(&self, node: &NodeId, hello: &Hello, last: &mut String) -> Stream {
        loop {
            match self.offer(node, hello).await {
                Ok(stream) => return stream,
                Err(why) => {
                    tracing::debug!(%node, why, "no stream for gradients");
                    *last = why;
                }
            }
            sleep(RETRY_AFTER).await;
        }
    }

    async fn offer(&self, node: &NodeId, hello: &Hello) -> Result<Stream, String> {
        let mesh = self.seat.mesh().await.ok_or_else(|| "this node is ending".to_owned())?;
        let opened = mesh.open_gradients(node).await;
        let mut stream = opened.map_err(|error| error.to_string())?;
        introduce(&mut stream, hello).await?;
        Ok(stream)
    }
}

impl Collectives for Rings {
    fn form<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Formed> {
        Box::pin(self.meet(place))
    }
}

/// A node, and which ranks it has.
struct Node {
    name: NodeId,
    ranks: Range<usize>,
}

/// # Errors
/// Members that are on no node, or not beside those of their node.
fn nodes(members: &[Member]) -> Result<Vec<Node>, String> {
    let mut nodes: Vec<Node> = Vec::new();
    for (rank, member) in members.iter().enumerate() {
        let name: NodeId = member
            .node
            .parse()
            .map_err(|error| format!("rank {rank} is on node `{}`: {error}", member.node))?;
        let last = nodes.len().wrapping_sub(1);
        match nodes.iter().position(|node| node.name == name) {
            Some(at) if at == last => nodes[at].ranks.end += 1,
            Some(_) => return Err(format!("the ranks of {name} do not stand beside each other")),
            None => nodes.push(Node { name, ranks: rank..rank + 1 }),
        }
    }
    Ok(nodes)
}
