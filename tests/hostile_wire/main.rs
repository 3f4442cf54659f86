//! 100,000 hostile frames of a seed, against everything that reads what a peer sends: no panic, no
//! more memory than a frame may have and 64 KiB, and an end of the offender's connection only.

#[path = "../fuzz/bodies.rs"]
mod bodies;
mod frames;
mod measured;
#[path = "../support/random.rs"]
mod random;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use frames::{hostile_frame, hostile_lane};
use orcapack_cluster::address::{Incarnation, NodeId, PeerIdentity, Role};
use orcapack_cluster::caps::CONTROL_MESSAGE_BYTES_MAX;
use orcapack_cluster::hostile;
use orcapack_cluster::lane::{Lane, LaneConfig};
use orcapack_cluster::link::{Link, Priority, Purpose, Stream, Transport};
use orcapack_cluster::memory::MemoryNetwork;
use orcapack_cluster::mesh::{Admits, Mesh, MeshConfig, MeshEvent, PeerAddress};
use orcapack_cluster::remote::{Class, Kinds, Port, Received, Spawned};
use random::Random;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

#[global_allocator]
static ALLOCATOR: measured::Measured = measured::Measured;

const CODEC_FRAMES: usize = 70_000;
const LANES: usize = 15_000;
const SESSION_FRAMES: usize = 15_000;
const SLACK_BYTES: usize = 64 << 10;

#[test]
fn readers_of_frames_neither_panic_nor_take_more_than_a_frame_may_have() {
    let mut random = Random::seeded();
    let good = good_frames();
    let (mut taken, mut most) = (0, 0);
    for number in 0..CODEC_FRAMES {
        let frame = hostile_frame(&mut random, &good);
        let (kinds, bytes) = measured::peak(|| bodies::codec(&frame));
        taken += usize::from(kinds > 0);
        most = most.max(bytes);
        let bytes_max = CONTROL_MESSAGE_BYTES_MAX + SLACK_BYTES;
        assert!(bytes <= bytes_max, "frame {number}: {bytes} bytes for {} of it", frame.len());
    }
    eprintln!("{taken} of {CODEC_FRAMES} are messages of some kind; at most {most} bytes for one");
    assert!(taken > CODEC_FRAMES / 100, "the frames are too far from good ones");
}

#[test]
fn lanes_neither_panic_nor_hold_more_than_a_message_may_have() {
    let mut random = Random::seeded();
    let (mut messages, mut most) = (0, 0);
    for number in 0..LANES {
        let bytes = hostile_lane(&mut random);
        let before = bytes.len();
        let (count, peak) = measured::peak(|| bodies::lane(&bytes));
        // The bytes themselves are copied into the stream that gives them.
        let held = peak.saturating_sub(before);
        (messages, most) = (messages + count, most.max(held));
        // Half as much again as has come, where a message is in many chunks.
        let of_message = (before + before / 2).min(bodies::LANE_MESSAGE_BYTES_MAX);
        let bytes_max = of_message + SLACK_BYTES + 1024;
        assert!(held <= bytes_max, "lane {number}: {held} bytes for {before}");
    }
    eprintln!("{messages} messages in {LANES} lanes; at most {most} bytes for one");
    assert!(messages > LANES / 10, "the lanes are too far from good ones");
}

/// Frames of this crate's and of the program's.
fn good_frames() -> Vec<Vec<u8>> {
    let mut frames = hostile::good_frames();
    frames.extend(frames::good());
    frames.iter().for_each(|frame| assert!(bodies::codec(frame) > 0, "{frame:?}"));
    frames
}

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn at(place: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, place), 4000))
}

fn transport(network: &MemoryNetwork, name: &str, place: u8) -> Arc<dyn Transport> {
    let identity = PeerIdentity { node: id(name), role: Role::Worker };
    Arc::new(network.transport(identity, at(place)))
}

async fn start(
    network: &MemoryNetwork,
    (name, place): (&str, u8),
    (peer, its_place): (&str, u8),
    kinds: Kinds,
) -> (Mesh, mpsc::Receiver<MeshEvent>) {
    let config = MeshConfig {
        me: id(name),
        role: Role::Worker,
        cluster: "c".to_owned(),
        incarnation: Incarnation(1),
        peers: vec![PeerAddress { node: id(peer), role: Role::Worker, at: at(its_place) }],
        listens: true,
        admits: Admits::Certified,
        seed: u64::from(place),
        guests: None,
    };
    Mesh::start(config, transport(network, name, place), kinds, None).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn sessions_end_for_the_offender_only() {
    const SOON: Duration = Duration::from_secs(20);
    let mut random = Random::seeded();
    let good = good_frames();
    let network = MemoryNetwork::default();
    let echo = Kinds::default().on("echo", &Role::ALL, |mut spawned: Spawned| async move {
        while let Received::Message(class, message) = spawned.port.receive().await {
            let _ = spawned.port.send(class, message).await;
        }
        Ok(())
    });
    let (node, mut events) = start(&network, ("n0", 0), ("n1", 1), echo).await;
    let (other, mut others) = start(&network, ("n1", 1), ("n0", 0), Kinds::default()).await;
    assert!(matches!(others.recv().await, Some(MeshEvent::Up { .. })));
    let (_, mut port) = other.spawn(&id("n0"), "echo", Vec::new(), SOON).await.unwrap();
    let intruder = transport(&network, "n8", 8);
    let (mut said, mut sessions, mut thrown_out) = (0, 0, 0);
    while said < SESSION_FRAMES {
        sessions += 1;
        let (frames, was_thrown_out) = intrude(&mut random, &good, &*intruder, sessions).await;
        said += frames;
        thrown_out += usize::from(was_thrown_out);
        if sessions % 16 == 0 {
            echoes(&mut port).await;
            assert!(others.try_recv().is_err(), "the other has noticed");
        }
        while let Ok(event) = events.try_recv() {
            let about = match event {
                MeshEvent::Up { peer, .. } => peer.node,
                MeshEvent::Down { node, .. } | MeshEvent::Suspect { node } => node,
                other => panic!("{other:?}"),
            };
            assert!(about == id("n8") || sessions == 1, "{about}");
        }
    }
    echoes(&mut port).await;
    eprintln!("{said} frames in {sessions} sessions, {thrown_out} of them thrown out");
    assert!(thrown_out > sessions as usize / 2);
    drop((node, other));
}

async fn echoes(port: &mut Port) {
    for class in Class::ALL {
        port.send(class, vec![3; 10]).await.unwrap();
        let back = timeout(Duration::from_secs(20), port.receive()).await.unwrap();
        assert_eq!(back, Received::Message(class, vec![3; 10]));
    }
}

fn lane_of(stream: Stream) -> Lane {
    Lane::new(stream, LaneConfig { message_bytes_max: 1 << 20, queue_bytes_max: 1 << 20 })
}

/// One connection of a node with a good certificate and bad manners. How many frames it said, and
/// whether it was thrown out.
async fn intrude(
    random: &mut Random,
    good: &[Vec<u8>],
    transport: &dyn Transport,
    process: u64,
) -> (usize, bool) {
    const MANNERS: Duration = Duration::from_secs(1);
    let Ok(control) = transport.dial(&id("n0"), at(0), Purpose::Control).await else {
        return (0, false);
    };
    let mut lane = lane_of(control.open(Priority::Urgent).await.unwrap());
    let mut said = 1;
    let first = match random.below(8) {
        0 => hostile_frame(random, good),
        _ => hostile::hello("c", &id("n0"), &id("n8"), process),
    };
    let _ = lane.sender.send(first).await;
    let welcome = timeout(MANNERS, lane.receiver.receive()).await;
    let mut data = None;
    if let Ok(Ok(Some(welcome))) = &welcome
        && let Some(session) = hostile::session(welcome)
        && random.below(8) > 0
        && let Ok(link) = transport.dial(&id("n0"), at(0), Purpose::Data).await
    {
        let mut bound = lane_of(link.open(Priority::Urgent).await.unwrap());
        let _ = bound.sender.send(hostile::bind(session)).await;
        let _ = timeout(MANNERS, bound.receiver.receive()).await;
        data = Some(link);
    }
    let mut streams = Vec::new();
    for _ in 0..64 {
        let is_over = timeout(Duration::from_millis(1), control.closed()).await.is_ok();
        if is_over {
            return (said, true);
        }
        said += 1;
        let link = data.as_ref().filter(|_| random.below(2) == 0).unwrap_or(&control);
        match random.below(4) {
            0 => streams.push(raw(&**link, &hostile_lane(random)).await),
            1 => {
                let frame = hostile_frame(random, good);
                let header = (frame.len() as u32).to_le_bytes();
                streams.push(raw(&**link, &[&header[..], &frame].concat()).await);
            }
            _ => drop(lane.sender.try_send(hostile_frame(random, good))),
        }
    }
    (said, timeout(MANNERS, control.closed()).await.is_ok())
}

/// A stream of these bytes, as far as they go in at once.
async fn raw(link: &dyn Link, bytes: &[u8]) -> Option<Stream> {
    let mut stream =
        timeout(Duration::from_millis(1), link.open(Priority::Normal)).await.ok()?.ok()?;
    let _ = timeout(Duration::from_millis(1), stream.send.write_all(bytes)).await;
    let _ = timeout(Duration::from_millis(1), stream.send.flush()).await;
    Some(stream)
}
