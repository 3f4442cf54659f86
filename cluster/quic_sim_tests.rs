use super::*;
use crate::address::{NodeId, Role};
use crate::fixture::TestAuthority;
use crate::lane::{Lane, LaneConfig};
use crate::link::{Link, Priority, Purpose, Transport};
use crate::quic::ResetKey;

const CONFIG: LaneConfig = LaneConfig { message_bytes_max: 1 << 20, queue_bytes_max: 1 << 18 };

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 4433))
}

fn transport(network: &SimNetwork, authority: &TestAuthority, host: u8) -> QuicTransport {
    let config = QuicConfig::new(at(host), ResetKey::new([host; ResetKey::BYTES]));
    let credentials = authority.issue(&format!("n{host}"), Role::Worker);
    network.transport(at(host), credentials, &config).unwrap()
}

fn node(host: u8) -> NodeId {
    format!("n{host}").parse().unwrap()
}

fn rough() -> SimFaults {
    SimFaults {
        loss: 0.1,
        duplication: 0.05,
        delay: Duration::from_millis(2),
        jitter: Duration::from_millis(8),
        bytes_per_sec: Some(10_000_000),
    }
}

/// Three processes that send each other messages under faults, for ten seconds.
async fn three(seed: u64) -> (u64, SimCounts, usize) {
    let network = SimNetwork::new(seed, rough());
    let authority = TestAuthority::default();
    let transports: Vec<Arc<QuicTransport>> =
        (1..=3).map(|host| Arc::new(transport(&network, &authority, host))).collect();
    for transport in &transports {
        let transport = transport.clone();
        tokio::spawn(async move {
            while let Some(link) = transport.accept().await {
                tokio::spawn(echo(link));
            }
        });
    }
    let faults = async {
        // The scenario's own times.
        let wait = |millis| tokio::time::sleep(Duration::from_millis(millis));
        wait(2000).await;
        network.cut(at(1), at(2));
        wait(1000).await;
        network.heal_all();
        network.pause(at(3));
        wait(500).await;
        network.resume(at(3));
        wait(1500).await;
        network.part(&[at(1)], &[at(2), at(3)]);
        wait(1000).await;
        network.heal_all();
        wait(4000).await;
    };
    let traffic = async {
        let pairs = [(1, 2), (2, 3), (3, 1)];
        let echoed = pairs.map(|(from, to)| talk(&*transports[from - 1], to as u8));
        futures_util::future::join_all(echoed).await.into_iter().sum::<usize>()
    };
    let ((), echoed) = tokio::join!(faults, traffic);
    (network.hash(), network.counts(), echoed)
}

async fn echo(link: Arc<dyn Link>) {
    while let Ok(stream) = link.accept().await {
        let mut lane = Lane::new(stream, CONFIG);
        while let Ok(Some(message)) = lane.receiver.receive().await {
            if lane.sender.send(message).await.is_err() {
                break;
            }
        }
    }
}

/// Connects, and again after each loss, and tells how many messages came back whole.
async fn talk(transport: &dyn Transport, to: u8) -> usize {
    let (end, node) = (Instant::now() + Duration::from_secs(9), node(to));
    let mut echoed = 0;
    while Instant::now() < end {
        let Ok(link) = transport.dial(&node, at(to), Purpose::Data).await else { continue };
        let Ok(stream) = link.open(Priority::Normal).await else { continue };
        let mut lane = Lane::new(stream, CONFIG);
        for number in 0_usize.. {
            let message = vec![number as u8; number * 97 % 30_000];
            if Instant::now() > end || lane.sender.send(message.clone()).await.is_err() {
                break;
            }
            match lane.receiver.receive().await {
                Ok(Some(back)) => assert!(back == message),
                _ => break,
            }
            echoed += 1;
        }
    }
    echoed
}

/// In a runtime of its own, as every seed of a simulation has.
fn run(seed: u64) -> (u64, SimCounts, usize) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap().block_on(three(seed))
}

#[test]
fn a_seed_that_is_run_twice_gives_the_same_network() {
    let (hash, counts, echoed) = run(1);
    assert_eq!(run(1), (hash, counts, echoed));
    assert_ne!(run(2).0, hash);
    for (what, count) in [
        ("delivered", counts.delivered),
        ("lost", counts.lost),
        ("duplicated", counts.duplicated),
        ("cut", counts.cut),
    ] {
        assert!(count > 10, "{what}: {count} of {counts:?}");
    }
    assert!(echoed > 100, "{echoed} echoed");
}

#[tokio::test(start_paused = true)]
async fn a_way_that_is_cut_comes_back_and_its_connection_with_it() {
    let (network, authority) = (SimNetwork::new(3, SimFaults::default()), TestAuthority::default());
    let (one, two) = (transport(&network, &authority, 1), transport(&network, &authority, 2));
    let node = node(2);
    let (dialled, accepted) = tokio::join!(one.dial(&node, at(2), Purpose::Data), two.accept());
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
    let mut from = Lane::new(dialled.open(Priority::Normal).await.unwrap(), CONFIG);
    from.sender.send(vec![1]).await.unwrap();
    let mut to = Lane::new(accepted.accept().await.unwrap(), CONFIG);
    assert_eq!(to.receiver.receive().await, Ok(Some(vec![1])));

    // One way: what two says arrives, what one says does not.
    network.cut(at(1), at(2));
    to.sender.send(vec![2]).await.unwrap();
    assert_eq!(from.receiver.receive().await, Ok(Some(vec![2])));
    from.sender.send(vec![3]).await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_secs(1), to.receiver.receive()).await;
    assert!(nothing.is_err());
    network.heal(at(1), at(2));
    assert_eq!(to.receiver.receive().await, Ok(Some(vec![3])));

    network.pause(at(2));
    from.sender.send(vec![4]).await.unwrap();
    to.sender.send(vec![5]).await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_secs(1), from.receiver.receive()).await;
    assert!(nothing.is_err());
    network.resume(at(2));
    let begin = Instant::now();
    assert_eq!(from.receiver.receive().await, Ok(Some(vec![5])));
    assert_eq!(to.receiver.receive().await, Ok(Some(vec![4])));
    assert!(begin.elapsed() <= Duration::from_millis(20), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_narrow_link_takes_its_time_and_loses_what_is_too_much() {
    let faults = SimFaults { bytes_per_sec: Some(1_000_000), ..SimFaults::default() };
    let (network, authority) = (SimNetwork::new(3, faults), TestAuthority::default());
    let (one, two) = (transport(&network, &authority, 1), transport(&network, &authority, 2));
    let node = node(2);
    let (dialled, accepted) = tokio::join!(one.dial(&node, at(2), Purpose::Data), two.accept());
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
    let begin = Instant::now();
    let from = Lane::new(dialled.open(Priority::Normal).await.unwrap(), CONFIG);
    let send = async {
        for _ in 0..4 {
            from.sender.send(vec![0; 1 << 20]).await.unwrap();
        }
    };
    let receive = async {
        let mut to = Lane::new(accepted.accept().await.unwrap(), CONFIG);
        for _ in 0..4 {
            assert!(to.receiver.receive().await.unwrap().is_some());
        }
    };
    tokio::join!(send, receive);
    let took = begin.elapsed();
    assert!((4..8).contains(&took.as_secs()), "4 MiB at 1 MB/s took {took:?}");
}
