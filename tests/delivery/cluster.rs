//! To the engines on nodes, over sessions within this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use orcapack::embedded::Engines;
use orcapack::train::delivery::broadcast::{Broadcast, Courier};
use orcapack::train::delivery::node::weights;
use orcapack::train::delivery::weights_wire::{
    CHUNK_BYTES_MAX, FromSampler, Supply, ToSampler, WEIGHTS,
};
use orcapack::train::delivery::{Delivered, Delivery, DeliveryError};
use orcapack_cluster::address::{Incarnation, NodeId, PeerIdentity, Role};
use orcapack_cluster::codec;
use orcapack_cluster::memory::MemoryNetwork;
use orcapack_cluster::mesh::{
    Admits, Class, Kinds, Mesh, MeshConfig, MeshEvent, PeerAddress, Port, PortSender, Received,
    Spawned,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;

const RUN: &str = "run-1";
/// No test waits for it.
const LIMIT: Duration = Duration::from_secs(300);

/// A coordinator and its nodes.
pub struct Lab {
    network: MemoryNetwork,
    pub mesh: Mesh,
    events: tokio::sync::mpsc::Receiver<MeshEvent>,
    nodes: Vec<Node>,
}

pub struct Node {
    pub id: NodeId,
    at: SocketAddr,
    mesh: Mesh,
}

fn at(place: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, place), 4000))
}

impl Lab {
    pub async fn new() -> Self {
        let network = MemoryNetwork::default();
        let (mesh, events) = start(&network, 0, Role::Coordinator, Kinds::default()).await;
        Self { network, mesh, events, nodes: Vec::new() }
    }

    /// A node, as soon as there is a session with it.
    pub async fn node(&mut self, kinds: Kinds) -> NodeId {
        let place = self.nodes.len() as u8 + 1;
        let (mesh, _) = start(&self.network, place, Role::Worker, kinds).await;
        let (id, at) = (name(place), at(place));
        self.nodes.push(Node { id: id.clone(), at, mesh });
        let peer =
            |node: &Node| PeerAddress { node: node.id.clone(), role: Role::Worker, at: node.at };
        self.mesh.set_peers(self.nodes.iter().map(peer).collect());
        loop {
            match self.events.recv().await.expect("the mesh goes on") {
                MeshEvent::Up { peer, .. } if peer.node == id => return id,
                _ => {}
            }
        }
    }

    /// Without a word.
    pub fn crash(&self, id: &NodeId) {
        let node = self.nodes.iter().find(|node| node.id == *id).unwrap();
        self.network.crash(node.at);
        node.mesh.kill();
    }

    /// A courier that has come to a node, and goes on.
    async fn courier(&self, broadcast: &Broadcast, node: &NodeId) -> JoinHandle<String> {
        let courier = broadcast.open(&self.mesh, node).await.unwrap();
        tokio::spawn(carry(courier))
    }
}

async fn carry(mut courier: Courier) -> String {
    courier.carry().await
}

fn name(place: u8) -> NodeId {
    format!("n{place}").parse().unwrap()
}

async fn start(
    network: &MemoryNetwork,
    place: u8,
    role: Role,
    kinds: Kinds,
) -> (Mesh, tokio::sync::mpsc::Receiver<MeshEvent>) {
    let identity = PeerIdentity { node: name(place), role };
    let transport = Arc::new(network.transport(identity, at(place)));
    let config = MeshConfig {
        me: name(place),
        role,
        cluster: "c".to_owned(),
        incarnation: Incarnation(1),
        peers: Vec::new(),
        listens: true,
        admits: Admits::Certified,
        seed: place.into(),
        guests: None,
    };
    Mesh::start(config, transport, kinds, None).await.unwrap()
}

fn broadcast(dir: &Path, life: u64) -> Broadcast {
    Broadcast::new(RUN.to_owned(), life, dir.to_owned(), LIMIT)
}

/// A node with real engines.
fn real() -> (Arc<Engines>, Kinds) {
    let engines = Arc::<Engines>::default();
    (engines.clone(), weights(Kinds::default(), engines))
}

/// A node that answers as it is told to: nothing where that is `None`.
pub fn told(
    answer: impl Fn(&ToSampler) -> Option<FromSampler> + Clone + Send + Sync + 'static,
) -> Kinds {
    Kinds::default().on(WEIGHTS, &[Role::Coordinator], move |spawned: Spawned| {
        let answer = answer.clone();
        async move {
            let mut port = spawned.port;
            let sender = port.sender();
            say(&sender, &FromSampler::Ready { version: None }).await;
            while let Received::Message(class, bytes) = port.receive().await {
                let message = codec::decode(&bytes, class.bytes_max()).unwrap();
                if let Some(answer) = answer(&message) {
                    say(&sender, &answer).await;
                }
            }
            Ok(())
        }
    })
}

async fn say(port: &PortSender, message: &FromSampler) {
    let bytes = codec::encode(message, Class::Control.bytes_max()).unwrap();
    drop(port.send(Class::Control, bytes).await);
}

fn reached(delivered: &Delivered) -> Vec<&str> {
    let mut names: Vec<&str> = delivered.targets.iter().map(|it| it.target.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn every_node_samples_with_what_was_delivered_when_the_delivery_is_over() {
    let (dir, mut lab) = (policy_dir(1), Lab::new().await);
    let broadcast = broadcast(dir.path(), 1);
    let mut samplers = Vec::new();
    let mut couriers = Vec::new();
    for _ in 0..2 {
        let (engines, kinds) = real();
        let node = lab.node(kinds).await;
        couriers.push(lab.courier(&broadcast, &node).await);
        let sampler = sampler(&engines.of_run(RUN), dir.path());
        assert_eq!(version(&sample(&sampler).await), 0);
        samplers.push(sampler);
    }
    for (seed, number) in [(2, 1), (3, 4)] {
        let weights = snapshot(dir.path(), seed, number);
        let delivered = broadcast.deliver(&weights).await.unwrap();
        assert_eq!((reached(&delivered), delivered.lost.len()), (vec!["n1", "n2"], 0));
        for sampler in &samplers {
            let sampled = sample(sampler).await;
            assert_eq!((version(&sampled), tokens(&sampled)), (number, sampled_with(seed).await));
        }
    }
    let late = broadcast.deliver(&snapshot(dir.path(), 4, 3)).await.unwrap_err();
    assert!(matches!(late, DeliveryError::Older { version: 3, newest: 4 }), "{late}");
}

#[tokio::test]
async fn a_node_that_joins_later_has_the_newest_before_the_way_to_it_is_open() {
    let (dir, mut lab) = (policy_dir(1), Lab::new().await);
    let broadcast = broadcast(dir.path(), 1);
    let alone = broadcast.deliver(&snapshot(dir.path(), 2, 7)).await.unwrap();
    assert_eq!(alone, Delivered::default(), "nobody is there to wait for");
    let (engines, kinds) = real();
    let node = lab.node(kinds).await;
    let courier = lab.courier(&broadcast, &node).await;
    let first = sample(&sampler(&engines.of_run(RUN), dir.path())).await;
    assert_eq!((version(&first), tokens(&first)), (7, sampled_with(2).await));
    // As any other, it is waited for from now on.
    let delivered = broadcast.deliver(&snapshot(dir.path(), 3, 8)).await.unwrap();
    assert_eq!(reached(&delivered), ["n1"]);
    assert!(!courier.is_finished());
}

#[tokio::test]
async fn a_node_that_is_lost_meanwhile_is_no_failure_of_the_delivery() {
    let (dir, mut lab) = (policy_dir(1), Lab::new().await);
    let broadcast = broadcast(dir.path(), 1);
    let (_engines, kinds) = real();
    let well = lab.node(kinds).await;
    let has_begun = Arc::new(Notify::new());
    let begun = has_begun.clone();
    let silent = lab.node(told(move |message| {
        if matches!(message, ToSampler::Begin { .. }) {
            begun.notify_one();
        }
        None
    }));
    let silent = silent.await;
    let (_one, other) =
        (lab.courier(&broadcast, &well).await, lab.courier(&broadcast, &silent).await);
    let weights = snapshot(dir.path(), 2, 1);
    let (delivered, ()) = tokio::join!(broadcast.deliver(&weights), async {
        has_begun.notified().await;
        lab.crash(&silent);
    });
    let delivered = delivered.unwrap();
    assert_eq!(reached(&delivered), ["n1"]);
    assert_eq!(delivered.lost, [("n2".to_owned(), "node lost".to_owned())]);
    assert_eq!(other.await.unwrap(), "node lost");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_say_that_it_has_them_in_time_is_left() {
    let (dir, mut lab) = (policy_dir(1), Lab::new().await);
    let broadcast = broadcast(dir.path(), 1);
    let silent = lab.node(told(|_| None)).await;
    let courier = lab.courier(&broadcast, &silent).await;
    let begun = tokio::time::Instant::now();
    let delivered = broadcast.deliver(&snapshot(dir.path(), 2, 1)).await.unwrap();
    assert!(begun.elapsed() >= LIMIT);
    let why = "version 1 not taken in 300s".to_owned();
    assert_eq!(delivered.lost, [("n1".to_owned(), why.clone())]);
    assert_eq!(courier.await.unwrap(), why);
    // And it is not let in before it has them.
    let refused = broadcast.open(&lab.mesh, &silent).await.err().unwrap();
    assert_eq!(refused.to_string(), format!("weights: {why}"));
}

#[tokio::test]
async fn weights_that_were_damaged_on_their_way_are_refused_and_come_again() {
    let (dir, mut lab) = (policy_dir(1), Lab::new().await);
    let (engines, kinds) = real();
    let node = lab.node(kinds).await;
    let sampler = sampler(&engines.of_run(RUN), dir.path());
    let checkpoint = dir.path().to_string_lossy().into_owned();
    let supply = Supply { run: RUN.to_owned(), life: 1, checkpoint };
    let args = codec::encode(&supply, Class::Control.bytes_max()).unwrap();
    let (_, mut port) = lab.mesh.spawn(&node, WEIGHTS, args, LIMIT).await.unwrap();
    assert_eq!(hear(&mut port).await, FromSampler::Ready { version: None });
    let weights = snapshot(dir.path(), 2, 1);
    let begin = |bytes| ToSampler::Begin { version: 1, digest: weights.digest().0, bytes };
    let send = async |flips: bool| {
        let mut chunks: Vec<Vec<u8>> = weights.chunks(10_000).collect();
        let middle = chunks.len() / 2;
        chunks[middle][7] ^= u8::from(flips);
        let chunks = chunks.into_iter().map(ToSampler::Chunk);
        let bytes = weights.bytes();
        for message in std::iter::once(begin(bytes)).chain(chunks) {
            tell(&port, &message).await;
        }
    };
    send(true).await;
    let FromSampler::Refused { version: 1, why } = hear(&mut port).await else { panic!("taken") };
    assert!(why.contains("with the digest"), "{why}");
    assert_eq!(version(&sample(&sampler).await), 0);

    let chunk = ToSampler::Chunk(vec![0; CHUNK_BYTES_MAX + 1]);
    for message in [begin(weights.bytes()), chunk] {
        tell(&port, &message).await;
    }
    let FromSampler::Refused { why, .. } = hear(&mut port).await else { panic!("taken") };
    assert!(why.contains("a chunk of"), "{why}");
    tell(&port, &begin(12)).await;
    let FromSampler::Refused { why, .. } = hear(&mut port).await else { panic!("taken") };
    assert!(why.starts_with("12 bytes of weights, where the model here has"), "{why}");

    for message in
        std::iter::once(begin(weights.bytes())).chain(weights.chunks(10_000).map(ToSampler::Chunk))
    {
        tell(&port, &message).await;
    }
    assert_eq!(hear(&mut port).await, FromSampler::Has { version: 1 });
    assert_eq!(version(&sample(&sampler).await), 1);
}

async fn hear(port: &mut Port) -> FromSampler {
    let Received::Message(class, bytes) = port.receive().await else { panic!("down") };
    codec::decode(&bytes, class.bytes_max()).unwrap()
}

async fn tell(port: &Port, message: &ToSampler) {
    let bytes = codec::encode(message, Class::Bulk.bytes_max()).unwrap();
    port.send(Class::Bulk, bytes).await.unwrap();
}

#[tokio::test]
async fn what_is_refused_is_sent_again_and_in_the_end_the_node_is_left() {
    let (dir, mut lab) = (policy_dir(1), Lab::new().await);
    let broadcast = broadcast(dir.path(), 1);
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = begun.clone();
    let node = lab.node(told(move |message| match message {
        ToSampler::Begin { version, .. } => {
            let tries = counted.fetch_add(1, Ordering::Relaxed) + 1;
            Some(match (*version, tries) {
                (1, 3) => FromSampler::Has { version: 1 },
                (version, _) => FromSampler::Refused { version, why: "damaged".to_owned() },
            })
        }
        ToSampler::Chunk(_) => None,
    }));
    let node = node.await;
    let courier = lab.courier(&broadcast, &node).await;
    let delivered = broadcast.deliver(&snapshot(dir.path(), 2, 1)).await.unwrap();
    assert_eq!((reached(&delivered), begun.load(Ordering::Relaxed)), (vec!["n1"], 3));
    let delivered = broadcast.deliver(&snapshot(dir.path(), 3, 2)).await.unwrap();
    assert_eq!(delivered.lost, [("n1".to_owned(), "damaged".to_owned())]);
    assert_eq!((courier.await.unwrap().as_str(), begun.load(Ordering::Relaxed)), ("damaged", 6));
}

#[tokio::test]
async fn a_node_is_not_sent_again_what_it_has_unless_the_run_begins_another_life() {
    let (dir, mut lab) = (policy_dir(1), Lab::new().await);
    let (engines, kinds) = real();
    let node = lab.node(kinds).await;
    let sampler = sampler(&engines.of_run(RUN), dir.path());
    let first = broadcast(dir.path(), 1);
    first.deliver(&snapshot(dir.path(), 2, 7)).await.unwrap();
    drop(first.open(&lab.mesh, &node).await.unwrap());
    assert_eq!(version(&sample(&sampler).await), 7);
    // The same version with other numbers: who has it is not asked to take it.
    let again = broadcast(dir.path(), 1);
    again.deliver(&snapshot(dir.path(), 3, 7)).await.unwrap();
    drop(again.open(&lab.mesh, &node).await.unwrap());
    assert_eq!(tokens(&sample(&sampler).await), sampled_with(2).await);
    // Resumed, a run goes on from its last checkpoint.
    let resumed = broadcast(dir.path(), 2);
    resumed.deliver(&snapshot(dir.path(), 4, 5)).await.unwrap();
    drop(resumed.open(&lab.mesh, &node).await.unwrap());
    let sampled = sample(&sampler).await;
    assert_eq!((version(&sampled), tokens(&sampled)), (5, sampled_with(4).await));
    // What the earlier life still says is not taken.
    let refused = again.open(&lab.mesh, &node).await.err().unwrap();
    assert!(refused.to_string().contains("was delivered after version"), "{refused}");
    assert_eq!(version(&sample(&sampler).await), 5);
}
