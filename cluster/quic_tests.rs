use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::*;
use crate::address::{PeerIdentity, Role};
use crate::caps::{IDLE_TIMEOUT, INCOMING_MAX};
use crate::fixture::{Flaw, TestAuthority, TestCredentials};
use crate::lane;
use crate::link::Priority;
use crate::quic_sim::{SimFaults, SimNetwork};

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 4433))
}

fn config(host: u8) -> QuicConfig {
    QuicConfig::new(at(host), ResetKey::new([host; ResetKey::BYTES]))
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn identity(name: &str, role: Role) -> PeerIdentity {
    PeerIdentity { node: node(name), role }
}

/// A coordinator `a` at 1 and a worker `b` at 2, on a network of a seed.
struct Pair {
    network: SimNetwork,
    authority: TestAuthority,
    a: QuicTransport,
    b: QuicTransport,
}

impl Pair {
    fn new(faults: SimFaults) -> Self {
        let (network, authority) = (SimNetwork::new(7, faults), TestAuthority::default());
        let transport = |host, credentials: Arc<TestCredentials>| {
            network.transport(at(host), credentials, &config(host)).unwrap()
        };
        let a = transport(1, authority.issue("a", Role::Coordinator));
        let b = transport(2, authority.issue("b", Role::Worker));
        Self { network, authority, a, b }
    }

    /// A third process at 3.
    fn third(&self, credentials: Arc<TestCredentials>) -> QuicTransport {
        self.network.transport(at(3), credentials, &config(3)).unwrap()
    }

    async fn links(&self, purpose: Purpose) -> (Arc<dyn Link>, Arc<dyn Link>) {
        connect(&self.a, &self.b, purpose).await
    }
}

async fn connect(
    a: &QuicTransport,
    b: &QuicTransport,
    purpose: Purpose,
) -> (Arc<dyn Link>, Arc<dyn Link>) {
    let node = node("b");
    // A dial that fails is not followed by a link.
    let accepted = async { Ok(b.accept().await.unwrap()) };
    tokio::try_join!(a.dial(&node, b.local_addr(), purpose), accepted).unwrap()
}

#[tokio::test(start_paused = true)]
async fn both_sides_know_each_other_and_what_for() {
    let pair = Pair::new(SimFaults::default());
    for purpose in [Purpose::Control, Purpose::Data] {
        let (a, b) = pair.links(purpose).await;
        assert_eq!(a.peer(), Some(&identity("b", Role::Worker)));
        assert_eq!(b.peer(), Some(&identity("a", Role::Coordinator)));
        assert_eq!((a.purpose(), b.purpose()), (purpose, purpose));
        let round_trip = a.round_trip().unwrap();
        assert!(round_trip < Duration::from_millis(10), "{round_trip:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_may_join_and_nothing_else() {
    let pair = Pair::new(SimFaults::default());
    let (a, b) = pair.links(Purpose::Join).await;
    assert_eq!(a.peer(), Some(&identity("b", Role::Worker)));
    assert_eq!(b.peer(), None);
    let mut stream = a.open(Priority::Normal).await.unwrap();
    stream.send.write_all(b"let me in").await.unwrap();
    stream.send.shutdown().await.unwrap();
    let mut said = Vec::new();
    b.accept().await.unwrap().receive.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"let me in");

    let stranger = pair.authority.issue_flawed("c", Role::Worker, Flaw::NoCertificate);
    let stranger = pair.third(stranger);
    let refused = stranger.dial(&node("b"), at(2), Purpose::Control).await.err();
    assert_eq!(refused, Some(LinkError::ClosedByPeer(CloseReason::Refused)));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_trusted_is_told_so_when_it_dials() {
    let pair = Pair::new(SimFaults::default());
    let refused = async |flaw, purpose, name: &str| {
        let third = pair.third(pair.authority.issue_flawed("c", Role::Worker, flaw));
        third.dial(&node(name), at(2), purpose).await.err().unwrap()
    };
    let no_protocol = refused(Flaw::OtherProtocol, Purpose::Control, "b").await;
    assert!(matches!(&no_protocol, LinkError::Untrusted(it) if it.contains("another protocol")));
    let nobody = refused(Flaw::Nameless, Purpose::Data, "b").await;
    assert_eq!(nobody, LinkError::ClosedByPeer(CloseReason::Refused));
    let other_name = refused(Flaw::None, Purpose::Data, "z").await;
    assert!(matches!(&other_name, LinkError::Untrusted(_)), "{other_name}");

    // Of another authority: refused by the side that dials, and, if it does not care, by the other.
    let foreign = pair.third(TestAuthority::default().issue("c", Role::Worker));
    let unknown = foreign.dial(&node("b"), at(2), Purpose::Data).await.err().unwrap();
    assert!(matches!(&unknown, LinkError::Untrusted(it) if it.contains("the peer shows")));
    let unknown = pair.a.dial(&node("c"), at(3), Purpose::Data).await.err().unwrap();
    assert!(matches!(&unknown, LinkError::Untrusted(_)), "{unknown}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_demands_certificates_says_so_in_the_handshake() {
    let pair = Pair::new(SimFaults::default());
    let strict = pair.third(pair.authority.issue_flawed("c", Role::Worker, Flaw::NoJoin));
    let join = pair.a.dial(&node("c"), strict.local_addr(), Purpose::Join).await.err().unwrap();
    assert!(matches!(&join, LinkError::Untrusted(it) if it.contains("we show")), "{join}");
    let bare = pair.authority.issue_flawed("d", Role::Worker, Flaw::NoCertificate);
    let bare = pair.network.transport(at(4), bare, &config(4)).unwrap();
    let bare = bare.dial(&node("c"), at(3), Purpose::Data).await.err().unwrap();
    assert!(matches!(&bare, LinkError::Untrusted(it) if it.contains("no certificate")), "{bare}");
}

#[tokio::test(start_paused = true)]
async fn reasons_arrive() {
    let pair = Pair::new(SimFaults::default());
    for reason in CloseReason::ALL {
        let (a, b) = pair.links(Purpose::Control).await;
        a.close(reason);
        a.close(CloseReason::Leaving);
        assert_eq!(b.closed().await, LinkError::ClosedByPeer(reason));
        assert_eq!(a.closed().await, LinkError::Closed(reason));
        assert_eq!(b.accept().await.err(), Some(LinkError::ClosedByPeer(reason)));
        assert_eq!(b.open(Priority::Normal).await.err(), Some(LinkError::ClosedByPeer(reason)));
    }
    let (a, b) = pair.links(Purpose::Control).await;
    drop(a);
    assert!(matches!(b.closed().await, LinkError::Transport(_)));
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_closes_tells_all_peers_and_accepts_no_more() {
    let pair = Pair::new(SimFaults::default());
    let (control, b_control) = pair.links(Purpose::Control).await;
    let (data, _b_data) = pair.links(Purpose::Data).await;
    let begin = Instant::now();
    pair.b.close(CloseReason::Leaving).await;
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    assert_eq!(control.closed().await, LinkError::ClosedByPeer(CloseReason::Leaving));
    assert_eq!(data.closed().await, LinkError::ClosedByPeer(CloseReason::Leaving));
    assert_eq!(b_control.closed().await, LinkError::Closed(CloseReason::Leaving));
    assert!(pair.b.accept().await.is_none());
    assert!(pair.a.dial(&node("b"), at(2), Purpose::Data).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_noticed_within_the_idle_timeout() {
    let pair = Pair::new(SimFaults::default());
    let (a, _b) = pair.links(Purpose::Control).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    pair.network.crash(at(2));
    let begin = Instant::now();
    assert!(matches!(a.closed().await, LinkError::TimedOut(_)));
    let noticed = begin.elapsed();
    assert!(noticed <= IDLE_TIMEOUT + Duration::from_millis(100), "{noticed:?}");
    let nobody = pair.a.dial(&node("b"), at(2), Purpose::Control).await.err();
    assert!(matches!(nobody, Some(LinkError::TimedOut(_))));
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_noticed_at_once() {
    let pair = Pair::new(SimFaults::default());
    let (control, _b) = pair.links(Purpose::Control).await;
    let (data, _b_data) = pair.links(Purpose::Data).await;
    pair.network.crash(at(2));
    let credentials = pair.authority.issue("b", Role::Worker);
    let again = pair.network.transport(at(2), credentials, &config(2)).unwrap();
    let begin = Instant::now();
    for link in [control, data] {
        assert_eq!(link.closed().await, LinkError::Reset);
    }
    // As soon as something is sent, which the next keep-alive is.
    let noticed = begin.elapsed();
    assert!(noticed <= crate::caps::KEEP_ALIVE + Duration::from_millis(50), "{noticed:?}");
    connect(&pair.a, &again, Purpose::Control).await;
}

#[tokio::test(start_paused = true)]
async fn lanes_over_a_good_network_and_a_bad_one() {
    let bad = SimFaults {
        loss: 0.05,
        duplication: 0.05,
        delay: Duration::from_millis(2),
        jitter: Duration::from_millis(5),
        bytes_per_sec: None,
    };
    for faults in [SimFaults::default(), bad] {
        let pair = Pair::new(faults);
        let (a, b) = pair.links(Purpose::Data).await;
        lane::tests::suite(&*a, &*b).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_over_sockets() {
    let authority = TestAuthority::default();
    let transport = |name: &str, role| {
        let config = QuicConfig {
            // A busy machine must not look like a dead peer.
            idle_timeout: Duration::from_secs(60),
            ..QuicConfig::new(([127, 0, 0, 1], 0).into(), ResetKey::new([1; ResetKey::BYTES]))
        };
        QuicTransport::bind(config, authority.issue(name, role)).unwrap()
    };
    let (a, b) = (transport("a", Role::Coordinator), transport("b", Role::Worker));
    let (link, accepted) = connect(&a, &b, Purpose::Data).await;
    lane::tests::suite(&*link, &*accepted).await;
    tokio::join!(a.close(CloseReason::Leaving), b.close(CloseReason::Leaving));
}

/// QU-1: more dials than may be under way, from an address that nothing comes back to.
#[tokio::test(start_paused = true)]
async fn strangers_who_never_finish_are_in_nobodys_way_and_leave_nothing_behind() {
    let pair = Pair::new(SimFaults::default());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let stranger = pair.third(pair.authority.issue("c", Role::Worker));
    pair.network.cut(at(2), at(3));
    let name = node("b");
    let dials = (0..INCOMING_MAX * 2).map(|_| stranger.dial(&name, at(2), Purpose::Control));
    let dials = futures_util::future::join_all(dials);
    let honest = async {
        tokio::time::advance(Duration::from_millis(100)).await;
        let at_work = tasks() - before;
        // The stranger's own, a connection and a handshake for each that is let in.
        let most = 3 + 2 * INCOMING_MAX + 2 * INCOMING_MAX;
        assert!(at_work <= most, "{at_work} tasks");
        pair.links(Purpose::Control).await
    };
    let (dialled, links) = tokio::join!(dials, honest);
    assert!(dialled.iter().all(|it| matches!(it, Err(LinkError::TimedOut(_)))));
    drop((stranger, links));
    pair.network.crash(at(3));
    // What is over goes when its timers say so, for which there is no event.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(tasks() <= before, "{} tasks were {before}", tasks());
}

/// QU-2.
#[tokio::test(start_paused = true)]
async fn garbage_does_no_harm() {
    let pair = Pair::new(SimFaults::default());
    let (a, b) = pair.links(Purpose::Data).await;
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as u8
    };
    for number in 0..3000_usize {
        let mut bytes: Vec<u8> = (0..number % 1300).map(|_| random()).collect();
        // Long and short headers, of this version and of others, from strangers and in a's name.
        if let [first, version @ .., _] = &mut bytes[..] {
            *first = [0xc0, 0x40, 0xff, *first][number % 4];
            if number % 3 == 0 && version.len() > 4 {
                version[..4].copy_from_slice(&[0, 0, 0, 1]);
            }
        }
        let from = if number % 2 == 0 { at(9) } else { at(1) };
        pair.network.inject(from, at(2), &bytes);
        if number % 100 == 0 {
            tokio::time::advance(Duration::from_millis(10)).await;
        }
    }
    let mut stream = a.open(Priority::Normal).await.unwrap();
    stream.send.write_all(b"x").await.unwrap();
    assert_eq!(b.accept().await.unwrap().receive.read_u8().await.unwrap(), b'x');
    pair.links(Purpose::Control).await;
}
