//! Many things at once, over QUIC on a simulated network: whatever happens, what must hold holds,
//! and a seed that is run again gives the same run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::address::{NodeId, Role};
use crate::mesh::{Class, Kinds, Mesh, MeshEvent, PeerState, Received, Spawned};
use crate::mesh_fixture_tests::{Net, Node, Start, at, id};
use crate::peer_rules::split_mix;
use crate::quic_sim::SimFaults;

const NODES: u8 = 5;
const SOON: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn note(&self, began: Instant, what: String) {
        self.0.lock().unwrap().push(format!("{:?} {what}", began.elapsed()));
    }
}

/// Counts actors that live.
struct Alive(Arc<AtomicI64>);

impl Alive {
    fn new(count: &Arc<AtomicI64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn kinds(alive: &Arc<AtomicI64>) -> Kinds {
    let alive = alive.clone();
    Kinds::default().on("echo", &Role::ALL, move |mut spawned: Spawned| {
        let alive = Alive::new(&alive);
        async move {
            let _alive = alive;
            while let Received::Message(class, message) = spawned.port.receive().await {
                let _ = spawned.port.send(class, message).await;
            }
            Ok(())
        }
    })
}

/// Spawns an actor on a peer, talks with it, and leaves it, over and over. What comes back is what
/// was sent, in order, or the end.
async fn talk(mesh: Mesh, to: NodeId, echoed: Arc<AtomicI64>) {
    for round in 0_u64.. {
        let spawned = mesh.spawn(&to, "echo", Vec::new(), Duration::from_secs(5)).await;
        let Ok((_, mut port)) = spawned else {
            // The scenario's own time.
            sleep(Duration::from_millis(300)).await;
            continue;
        };
        for number in 0..6 {
            let class = Class::ALL[(round + number) as usize % 3];
            let message = vec![number as u8; 1 + (number as usize * 997) % 5000];
            if port.send(class, message.clone()).await.is_err() {
                break;
            }
            match timeout(SOON, port.receive()).await.expect("neither an answer nor an end") {
                Received::Message(of, back) => assert_eq!((of, back), (class, message)),
                Received::Down(_) => break,
            }
            echoed.fetch_add(1, Ordering::Relaxed);
        }
        sleep(Duration::from_secs(1)).await; // the scenario's own time
    }
}

/// Tells each event, and checks that they alternate.
async fn watch(mut node: Node, log: Arc<Log>, began: Instant) {
    let mut up = BTreeMap::new();
    while let Some(event) = node.events.recv().await {
        log.note(began, format!("{}: {event:?}", node.id));
        match event {
            MeshEvent::Up { peer, incarnation } => {
                assert_eq!(up.insert(peer.node, incarnation), None);
            }
            MeshEvent::Down { node, incarnation, .. } => {
                assert_eq!(up.remove(&node), Some(incarnation));
            }
            MeshEvent::Suspect { node } | MeshEvent::Heard { node } => {
                assert!(up.contains_key(&node));
            }
            MeshEvent::Fenced => panic!("{} is fenced by its own successor only", node.id),
        }
    }
}

fn others(node: u8) -> Vec<u8> {
    (0..NODES).filter(|other| *other != node).collect()
}

async fn scenario(seed: u64) -> (u64, Vec<String>, i64) {
    let net = Net::quic(seed);
    let Net::Quic { network, .. } = &net else { unreachable!() };
    let (log, began) = (Arc::new(Log::default()), Instant::now());
    let (alive, echoed) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let mut meshes = BTreeMap::new();
    let mut lives = [0; NODES as usize];
    let mut tasks = tokio::task::JoinSet::new();
    let mut random = seed;
    let mut next = |below: u64| {
        random = split_mix(random);
        (random >> 20) % below
    };
    macro_rules! start {
        ($index:expr) => {{
            let index: u8 = $index;
            lives[index as usize] += 1;
            let incarnation = lives[index as usize];
            let seed = seed ^ incarnation << 8 ^ u64::from(index);
            let kinds = kinds(&alive);
            let start = Start { incarnation, seed, kinds, ..Start::new(index, &others(index)) };
            let node = net.start_with(start).await;
            meshes.insert(index, node.mesh.clone());
            for other in others(index) {
                tasks.spawn(talk(node.mesh.clone(), id(other), echoed.clone()));
            }
            tasks.spawn(watch(node, log.clone(), began));
        }};
    }
    for index in 0..NODES {
        start!(index);
    }
    network.set_faults(SimFaults {
        loss: next(20) as f64 / 100.0,
        duplication: next(10) as f64 / 100.0,
        delay: Duration::from_millis(1 + next(5)),
        jitter: Duration::from_millis(next(20)),
        bytes_per_sec: Some(20_000_000),
    });
    for _ in 0..12 {
        sleep(Duration::from_millis(500 + next(3000))).await; // the scenario's own time
        let (one, other) = (next(u64::from(NODES)) as u8, next(u64::from(NODES)) as u8);
        match next(6) {
            0 => network.cut(at(one), at(other)),
            1 => {
                let rest: Vec<SocketAddr> = others(one).into_iter().map(at).collect();
                network.part(&[at(one)], &rest);
            }
            2 => network.heal_all(),
            3 => {
                network.pause(at(one));
                sleep(Duration::from_millis(next(5000))).await; // the scenario's own time
                network.resume(at(one));
            }
            _ => {
                network.crash(at(one));
                if let Some(mesh) = meshes.remove(&one) {
                    mesh.kill();
                }
                start!(one);
            }
        }
    }
    network.heal_all();
    network.set_faults(SimFaults::default());
    sleep(Duration::from_secs(20)).await; // all can meet again by then
    for (index, mesh) in &meshes {
        let peers = mesh.peers();
        let is_up = peers.iter().all(|peer| {
            let newest = peer.node.as_str().as_bytes()[1] - b'0';
            let newest = lives[newest as usize];
            peer.state == PeerState::Up && peer.incarnation.is_some_and(|it| it.0 == newest)
        });
        assert!(is_up && peers.len() == others(*index).len(), "seed {seed}: n{index}: {peers:#?}");
    }
    let hash = network.hash();
    for mesh in meshes.into_values() {
        mesh.stop().await;
    }
    tasks.abort_all();
    while let Some(ended) = tasks.join_next().await {
        assert!(ended.is_ok() || ended.is_err_and(|error| error.is_cancelled()), "seed {seed}");
    }
    assert_eq!(alive.load(Ordering::Relaxed), 0, "seed {seed}: actors outlive their sessions");
    let log = std::mem::take(&mut *log.0.lock().unwrap());
    (hash, log, echoed.load(Ordering::Relaxed))
}

fn run(seed: u64) -> (u64, Vec<String>, i64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(scenario(seed))
}

#[test]
fn whatever_the_network_does_all_meet_again() {
    for seed in 1..=3 {
        let (_, log, echoed) = run(seed);
        assert!(echoed > 50 && log.len() > 20, "seed {seed}: {echoed}, {}", log.len());
    }
}

#[test]
fn a_seed_run_twice_is_the_same_run() {
    let (one, other) = (run(4), run(4));
    let differ = one.1.iter().zip(&other.1).find(|(one, other)| one != other);
    assert_eq!(differ, None);
    assert_eq!((one.0, one.2), (other.0, other.2));
}
