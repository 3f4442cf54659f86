//! Nodes in one process for tests, on a network that can be cut.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{mpsc, watch};

use crate::address::{Incarnation, NodeId, PeerIdentity, Role};
use crate::fixture::TestAuthority;
use crate::link::{CloseReason, Link, LinkError, Priority, Purpose, Stream, Transport};
use crate::memory::MemoryNetwork;
use crate::mesh::*;
use crate::quic::{QuicConfig, ResetKey};
use crate::quic_sim::{SimFaults, SimNetwork};

pub(crate) fn id(index: u8) -> NodeId {
    format!("n{index}").parse().unwrap()
}

pub(crate) fn at(place: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, place), 4000))
}

/// A network: each scenario runs over both kinds.
pub(crate) enum Net {
    Memory {
        network: MemoryNetwork,
        /// By place.
        faults: Mutex<BTreeMap<u8, Arc<Fault>>>,
    },
    /// Real QUIC and TLS, over a network that is simulated.
    Quic { network: SimNetwork, authority: Box<TestAuthority> },
}

/// Makes tests of scenarios, over each kind of network.
macro_rules! over_each_network {
    ($($scenario:ident)*) => {
        mod over_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $scenario() {
                super::$scenario(crate::mesh_fixture_tests::Net::memory()).await;
            })*
        }
        mod over_quic {
            $(#[tokio::test(start_paused = true)]
            async fn $scenario() {
                super::$scenario(crate::mesh_fixture_tests::Net::quic(1)).await;
            })*
        }
    };
}
pub(crate) use over_each_network;

/// Where scenarios have nodes.
const PLACES: RangeInclusive<u8> = 0..=30;

/// What is wrong with a place's network in memory.
pub(crate) struct Fault {
    /// Counts cuts; odd while it is cut.
    cuts: watch::Sender<u64>,
    /// What comes is not read.
    is_stalled: AtomicBool,
    stalled: Mutex<Vec<Waker>>,
}

pub(crate) struct Start {
    pub index: u8,
    pub peers: Vec<u8>,
    pub incarnation: u64,
    pub seed: u64,
    pub listens: bool,
    pub place: u8,
    pub role: Role,
    pub cluster: &'static str,
    pub admits: Admits,
    pub kinds: Kinds,
}

impl Start {
    pub(crate) fn new(index: u8, peers: &[u8]) -> Self {
        Self {
            index,
            peers: peers.to_vec(),
            incarnation: 1,
            seed: u64::from(index),
            listens: true,
            place: index,
            role: Role::Worker,
            cluster: "c",
            admits: Admits::Certified,
            kinds: Kinds::default(),
        }
    }
}

pub(crate) struct Node {
    pub id: NodeId,
    pub place: u8,
    pub mesh: Mesh,
    pub events: mpsc::Receiver<MeshEvent>,
}

impl Net {
    pub(crate) fn memory() -> Self {
        Self::Memory { network: MemoryNetwork::default(), faults: Mutex::default() }
    }

    pub(crate) fn quic(seed: u64) -> Self {
        let network = SimNetwork::new(seed, SimFaults::default());
        Self::Quic { network, authority: Box::default() }
    }

    /// Another, of the same kind.
    pub(crate) fn another(&self) -> Self {
        match self {
            Self::Memory { .. } => Self::memory(),
            Self::Quic { .. } => Self::quic(1),
        }
    }

    pub(crate) async fn start(&self, index: u8, peers: &[u8]) -> Node {
        self.start_with(Start::new(index, peers)).await
    }

    pub(crate) async fn start_with(&self, start: Start) -> Node {
        let transport = self.transport(start.index, start.role, start.place);
        let role = Role::Worker;
        let address = |peer: &u8| PeerAddress { node: id(*peer), role, at: at(*peer) };
        let config = MeshConfig {
            me: id(start.index),
            role: start.role,
            cluster: start.cluster.to_owned(),
            incarnation: Incarnation(start.incarnation),
            peers: start.peers.iter().map(address).collect(),
            listens: start.listens,
            admits: start.admits,
            seed: start.seed,
            guests: None,
        };
        let (mesh, events) = Mesh::start(config, transport, start.kinds, None).await.unwrap();
        Node { id: id(start.index), place: start.place, mesh, events }
    }

    pub(crate) fn transport(&self, index: u8, role: Role, place: u8) -> Arc<dyn Transport> {
        match self {
            Self::Memory { network, .. } => {
                let identity = PeerIdentity { node: id(index), role };
                let inner = Arc::new(network.transport(identity, at(place)));
                Arc::new(FaultyTransport { inner, fault: self.fault(place) })
            }
            Self::Quic { network, authority } => {
                let key = ResetKey::new([place; ResetKey::BYTES]);
                let credentials = authority.issue(id(index).as_str(), role);
                let config = QuicConfig::new(at(place), key);
                Arc::new(network.transport(at(place), credentials, &config).unwrap())
            }
        }
    }

    /// The process is gone without a word.
    pub(crate) fn crash(&self, node: &Node) {
        match self {
            Self::Memory { network, .. } => network.crash(at(node.place)),
            Self::Quic { network, .. } => network.crash(at(node.place)),
        }
        node.mesh.kill();
    }

    /// A place can be reached by nobody, and reaches nobody.
    pub(crate) fn cut(&self, place: u8) {
        match self {
            Self::Memory { .. } => self.fault(place).cuts.send_modify(|cuts| *cuts |= 1),
            Self::Quic { network, .. } => {
                let others: Vec<SocketAddr> = PLACES.filter(|it| *it != place).map(at).collect();
                network.part(&[at(place)], &others);
            }
        }
    }

    pub(crate) fn heal(&self, place: u8) {
        match self {
            Self::Memory { .. } => {
                self.fault(place).cuts.send_modify(|cuts| *cuts = (*cuts | 1) + 1);
            }
            Self::Quic { network, .. } => network.heal_all(),
        }
    }

    /// A process stands still, or at least reads nothing.
    pub(crate) fn stall(&self, place: u8, is_stalled: bool) {
        match self {
            Self::Memory { .. } => {
                let fault = self.fault(place);
                fault.is_stalled.store(is_stalled, Ordering::SeqCst);
                fault.stalled.lock().unwrap().drain(..).for_each(Waker::wake);
            }
            Self::Quic { network, .. } if is_stalled => network.pause(at(place)),
            Self::Quic { network, .. } => network.resume(at(place)),
        }
    }

    fn fault(&self, place: u8) -> Arc<Fault> {
        let Self::Memory { faults, .. } = self else { panic!("faults are the simulation's") };
        let fault = || {
            Arc::new(Fault {
                cuts: watch::Sender::new(0),
                is_stalled: AtomicBool::new(false),
                stalled: Mutex::default(),
            })
        };
        faults.lock().unwrap().entry(place).or_insert_with(fault).clone()
    }
}

impl Node {
    pub(crate) async fn event(&mut self) -> MeshEvent {
        let event = tokio::time::timeout(Duration::from_secs(100), self.events.recv()).await;
        event.expect("no event in time").expect("the mesh has ended")
    }

    pub(crate) async fn up(&mut self) -> (NodeId, Incarnation) {
        match self.event().await {
            MeshEvent::Up { peer, incarnation } => (peer.node, incarnation),
            other => panic!("{}: expected an up, found {other:?}", self.id),
        }
    }

    /// Of somebody who may have been a suspect before.
    pub(crate) async fn down(&mut self) -> (NodeId, Incarnation, DownReason) {
        loop {
            match self.event().await {
                MeshEvent::Suspect { .. } => {}
                MeshEvent::Down { node, incarnation, reason } => {
                    return (node, incarnation, reason);
                }
                other => panic!("{}: expected a down, found {other:?}", self.id),
            }
        }
    }

    /// Waits until the status shows the problem with a peer.
    pub(crate) async fn problem(&self, peer: u8, problem: &str) {
        for _ in 0..1000 {
            let peers = self.mesh.peers();
            let view = peers.iter().find(|view| view.node == id(peer));
            if view.and_then(|view| view.problem.as_deref()) == Some(problem) {
                return;
            }
            // The status has no event; time is paused.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no such problem: {:?}", self.mesh.peers());
    }
}

pub(crate) async fn both_up(one: &mut Node, other: &mut Node) {
    one.up().await;
    other.up().await;
}

struct FaultyTransport {
    inner: Arc<dyn Transport>,
    fault: Arc<Fault>,
}

impl FaultyTransport {
    fn wrap(&self, inner: Arc<dyn Link>) -> Option<Arc<dyn Link>> {
        let cuts = *self.fault.cuts.borrow();
        if cuts % 2 == 1 {
            inner.close(CloseReason::Refused);
            return None;
        }
        Some(Arc::new(FaultyLink { inner, fault: self.fault.clone(), cuts }))
    }
}

impl Transport for FaultyTransport {
    fn dial<'a>(
        &'a self,
        node: &'a NodeId,
        at: SocketAddr,
        purpose: Purpose,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let lost = || LinkError::TimedOut("cut".to_owned());
            if *self.fault.cuts.borrow() % 2 == 1 {
                return Err(lost());
            }
            self.wrap(self.inner.dial(node, at, purpose).await?).ok_or_else(lost)
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Link>>> {
        Box::pin(async {
            loop {
                let link = self.inner.accept().await?;
                if let Some(link) = self.wrap(link) {
                    return Some(link);
                }
            }
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    fn close(&self, reason: CloseReason) -> BoxFuture<'_, ()> {
        self.inner.close(reason)
    }
}

struct FaultyLink {
    inner: Arc<dyn Link>,
    fault: Arc<Fault>,
    /// At its beginning.
    cuts: u64,
}

impl Link for FaultyLink {
    fn peer(&self) -> Option<&PeerIdentity> {
        self.inner.peer()
    }

    fn purpose(&self) -> Purpose {
        self.inner.purpose()
    }

    fn open(&self, priority: Priority) -> BoxFuture<'_, Result<Stream, LinkError>> {
        Box::pin(async move { Ok(self.wrap(self.inner.open(priority).await?)) })
    }

    fn accept(&self) -> BoxFuture<'_, Result<Stream, LinkError>> {
        Box::pin(async move { Ok(self.wrap(self.inner.accept().await?)) })
    }

    fn closed(&self) -> BoxFuture<'_, LinkError> {
        Box::pin(async {
            let mut cuts = self.fault.cuts.subscribe();
            tokio::select! {
                biased;
                _ = cuts.wait_for(|cuts| *cuts != self.cuts) => {
                    self.inner.close(CloseReason::Refused);
                    LinkError::TimedOut("cut".to_owned())
                }
                error = self.inner.closed() => error,
            }
        })
    }

    fn close(&self, reason: CloseReason) {
        self.inner.close(reason);
    }

    fn round_trip(&self) -> Option<Duration> {
        self.inner.round_trip()
    }
}

impl FaultyLink {
    fn wrap(&self, stream: Stream) -> Stream {
        let (inner, fault) = (stream.receive, self.fault.clone());
        Stream { send: stream.send, receive: Box::new(FaultyReader { inner, fault }) }
    }
}

struct FaultyReader {
    inner: Box<dyn AsyncRead + Send + Unpin>,
    fault: Arc<Fault>,
}

impl AsyncRead for FaultyReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.fault.is_stalled.load(Ordering::SeqCst) {
            self.fault.stalled.lock().unwrap().push(context.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}
