//! Nodes in one process, and how ranks on them find each other.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use orcapack::train::remote::lobby::{HELLO_BYTES_MAX, Hello, Lobby, TAKEN, WAIT_LIMIT};
use orcapack::train::remote::node::{RankHost, ranks};
use orcapack::train::remote::rings::Rings;
use orcapack_cluster::address::{Incarnation, NodeId, PeerIdentity, Role};
use orcapack_cluster::codec;
use orcapack_cluster::link::Stream;
use orcapack_cluster::memory::MemoryNetwork;
use orcapack_cluster::mesh::{Admits, Kinds, Mesh, MeshConfig, PeerAddress};
use orcapack_trainer::collective::ring::Wire;
use orcapack_trainer::collective::{CollectiveError, Collectives, Member, Place, RankId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(100);

/// A coordinator, which is node 0, and nodes 1, 2, ...
pub struct Nodes {
    network: MemoryNetwork,
    pub coordinator: Mesh,
    nodes: Vec<Node>,
}

pub struct Node {
    pub mesh: Mesh,
    pub lobby: Lobby,
    serving: JoinHandle<()>,
}

pub fn id(place: u8) -> NodeId {
    format!("n{place}").parse().unwrap()
}

fn at(place: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, place), 4000))
}

impl Nodes {
    pub async fn start(count: u8, cache: &Path) -> Self {
        let network = MemoryNetwork::default();
        let peers = || (1..=count).collect::<Vec<u8>>();
        let coordinator = start(&network, 0, 1, peers(), Kinds::default()).await;
        let mut nodes = Self { network, coordinator, nodes: Vec::new() };
        for place in peers() {
            let node = nodes.begin(place, count, 1, cache).await;
            nodes.nodes.push(node);
        }
        nodes
    }

    async fn begin(&self, place: u8, count: u8, incarnation: u64, cache: &Path) -> Node {
        let (lobby, me, cache_dir) = (Lobby::default(), id(place), cache.to_owned());
        let host = RankHost { me, cpus: 2, cache_dir, lobby: lobby.clone(), pins: false };
        let kinds = ranks(Kinds::default(), host);
        let peers = (1..=count).filter(|other| *other != place).collect();
        let mesh = start(&self.network, place, incarnation, peers, kinds).await;
        let serving = tokio::spawn(lobby.clone().serve(mesh.clone()));
        Node { mesh, lobby, serving }
    }

    pub fn node(&self, place: u8) -> &Node {
        &self.nodes[usize::from(place) - 1]
    }

    /// Without a word.
    pub fn crash(&self, place: u8) {
        self.network.crash(at(place));
        self.node(place).mesh.kill();
        self.node(place).serving.abort();
    }

    /// The next life of a node that has crashed.
    pub async fn restart(&mut self, place: u8, cache: &Path) {
        let node = self.begin(place, self.nodes.len() as u8, 2, cache).await;
        self.nodes[usize::from(place) - 1] = node;
    }
}

async fn start(
    network: &MemoryNetwork,
    place: u8,
    incarnation: u64,
    peers: Vec<u8>,
    kinds: Kinds,
) -> Mesh {
    let role = if place == 0 { Role::Coordinator } else { Role::Worker };
    let transport = network.transport(PeerIdentity { node: id(place), role }, at(place));
    let peer = |place| PeerAddress { node: id(place), role: Role::Worker, at: at(place) };
    let config = MeshConfig {
        me: id(place),
        role,
        cluster: "c".to_owned(),
        incarnation: Incarnation(incarnation),
        peers: peers.into_iter().map(peer).collect(),
        listens: place > 0,
        admits: Admits::Certified,
        seed: place.into(),
        guests: None,
    };
    let transport = std::sync::Arc::new(transport);
    let (mesh, _events) = Mesh::start(config, transport, kinds, None).await.unwrap();
    mesh
}

/// Ranks on these nodes, in their order.
fn place(epoch: u64, rank: usize, on: &[u8]) -> Place {
    let ranks = (0..).zip(on);
    let member =
        |(rank, node): (u32, &u8)| Member { id: RankId(rank), node: id(*node).to_string() };
    Place { epoch, rank, members: ranks.map(member).collect() }
}

fn rings(nodes: &Nodes, node: u8, life: u64) -> Rings {
    let lobby = &nodes.node(node).lobby;
    Rings::enter(lobby, id(node), ("r", life), Wire::F32, PATIENCE).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ranks_of_an_epoch_find_each_other_wherever_they_are() {
    let cache = tempfile::tempdir().unwrap();
    let nodes = Nodes::start(3, cache.path()).await;
    // One after the other, as ranks are lost and come back.
    for (epoch, on) in
        [(1, &[1, 2][..]), (2, &[1, 1, 2, 3, 3]), (3, &[2]), (5, &[3, 3]), (6, &[1, 2, 3])]
    {
        let formed = on.iter().enumerate().map(|(rank, node)| {
            let (rings, place) = (rings(&nodes, *node, 7), place(epoch, rank, on));
            tokio::spawn(async move {
                let (mut collective, _abort) = rings.form(&place).await.unwrap();
                assert_eq!(collective.rank(), rank);
                let summed = tokio::task::spawn_blocking(move || {
                    let mut values: Vec<f32> = (0..1000).map(|it| (it + rank) as f32).collect();
                    collective.all_reduce(&mut values).unwrap();
                    values
                });
                summed.await.unwrap()
            })
        });
        let formed: Vec<_> = formed.collect();
        let count = on.len();
        let sum = |it: usize| (it * count + count * (count - 1) / 2) as f32;
        let expected: Vec<f32> = (0..1000).map(sum).collect();
        for values in formed {
            assert_eq!(values.await.unwrap(), expected);
        }
    }
}

/// Says hello on a stream of its own.
async fn call(from: &Mesh, to: u8, hello: &Hello) -> Stream {
    let mut stream = from.open_gradients(&id(to)).await.unwrap();
    let bytes = codec::encode(hello, HELLO_BYTES_MAX).unwrap();
    stream.send.write_u16(bytes.len() as u16).await.unwrap();
    stream.send.write_all(&bytes).await.unwrap();
    stream.send.flush().await.unwrap();
    stream
}

#[tokio::test(start_paused = true)]
async fn who_calls_for_another_ring_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let nodes = Nodes::start(3, cache.path()).await;
    while nodes.coordinator.peers().iter().any(|it| it.incarnation.is_none())
        || nodes.node(1).mesh.open_gradients(&id(2)).await.is_err()
        || nodes.node(3).mesh.open_gradients(&id(2)).await.is_err()
    {
        tokio::time::sleep(Duration::from_millis(10)).await; // Of paused time.
    }
    let right = Hello { run: "r".to_owned(), life: 7, epoch: 4, from: 0, to: 1 };
    let one = nodes.node(1).mesh.clone();
    let refused = async |stream: &mut Stream| {
        let heard = tokio::time::timeout(WAIT_LIMIT * 2, stream.receive.read_u8()).await;
        assert!(heard.unwrap().is_err());
    };
    // Nobody of the run is here.
    refused(&mut call(&one, 2, &right).await).await;

    let second = rings(&nodes, 2, 7);
    let waits = tokio::spawn(async move { second.form(&place(4, 1, &[1, 2])).await.map(drop) });
    let mut early = call(&one, 2, &Hello { epoch: 5, ..right.clone() }).await;
    tokio::task::yield_now().await;
    for wrong in [
        Hello { run: "s".to_owned(), ..right.clone() },
        Hello { life: 6, ..right.clone() },
        Hello { life: 8, ..right.clone() },
        Hello { epoch: 3, ..right.clone() },
    ] {
        refused(&mut call(&one, 2, &wrong).await).await;
    }
    let mut long = one.open_gradients(&id(2)).await.unwrap();
    long.send.write_u16(u16::MAX).await.unwrap();
    long.send.flush().await.unwrap();
    refused(&mut long).await;
    let mut silent = one.open_gradients(&id(2)).await.unwrap();
    silent.send.write_u8(0).await.unwrap();
    silent.send.flush().await.unwrap();
    refused(&mut silent).await;
    // Nobody asks for these: another node than the rank's, another rank, an epoch that never comes.
    refused(&mut call(&nodes.node(3).mesh, 2, &right).await).await;
    refused(&mut call(&one, 2, &Hello { from: 2, ..right.clone() }).await).await;
    refused(&mut early).await;
    assert!(!waits.is_finished());
    // And the right one is taken.
    let mut taken = call(&one, 2, &right).await;
    assert_eq!(taken.receive.read_u8().await.unwrap(), TAKEN);
    let missing = waits.await.unwrap().unwrap_err();
    assert!(matches!(missing, CollectiveError::PeerLost { rank: 0, .. }), "{missing}");
}

#[tokio::test]
async fn an_older_coordinator_has_no_ranks_beside_those_of_a_newer() {
    let cache = tempfile::tempdir().unwrap();
    let nodes = Nodes::start(1, cache.path()).await;
    let newer = rings(&nodes, 1, 8);
    let older = Rings::enter(&nodes.node(1).lobby, id(1), ("r", 7), Wire::F32, PATIENCE);
    assert!(older.err().unwrap().contains("life 8"));
    assert!(newer.form(&place(1, 0, &[1])).await.is_ok());
    let gone_back = newer.form(&place(3, 0, &[1])).await.and(newer.form(&place(2, 0, &[1])).await);
    assert!(matches!(gone_back.err(), Some(CollectiveError::Mismatch { .. })));
    let elsewhere = newer.form(&place(4, 0, &[2])).await.err();
    assert!(matches!(elsewhere, Some(CollectiveError::Mismatch { .. })));
    let apart = newer.form(&place(4, 0, &[1, 2, 1])).await.err();
    assert!(matches!(apart, Some(CollectiveError::Mismatch { .. })));
}
