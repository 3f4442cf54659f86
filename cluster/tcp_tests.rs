use tokio::io::AsyncReadExt as _;

use super::*;
use crate::address::Role;
use crate::fixture::{Flaw, TestAuthority, TestCredentials};
use crate::lane;
use crate::link::Priority;

async fn transport(credentials: Arc<TestCredentials>) -> TcpTransport {
    let config = TcpConfig {
        // A busy machine must not look like a dead peer.
        idle_timeout: Duration::from_secs(60),
        ..TcpConfig::new(([127, 0, 0, 1], 0).into())
    };
    TcpTransport::bind(config, credentials).await.unwrap()
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

async fn connect(a: &TcpTransport, b: &TcpTransport) -> (Arc<dyn Link>, Arc<dyn Link>) {
    let node = node("b");
    let accepted = async { Ok(b.accept().await.unwrap()) };
    tokio::try_join!(a.dial(&node, b.local_addr(), Purpose::Data), accepted).unwrap()
}

async fn pair() -> (TcpTransport, TcpTransport, TestAuthority) {
    let authority = TestAuthority::default();
    let a = transport(authority.issue("a", Role::Coordinator)).await;
    let b = transport(authority.issue("b", Role::Worker)).await;
    (a, b, authority)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_over_tcp() {
    let (a, b, _) = pair().await;
    let (link, accepted) = connect(&a, &b).await;
    assert_eq!(link.peer().map(|peer| peer.node.clone()), Some(node("b")));
    assert_eq!(accepted.peer().map(|peer| peer.node.clone()), Some(node("a")));
    lane::tests::suite(&*link, &*accepted).await;
}

#[tokio::test]
async fn reasons_arrive() {
    let (a, b, _) = pair().await;
    let (link, accepted) = connect(&a, &b).await;
    link.close(CloseReason::Fenced);
    assert_eq!(accepted.closed().await, LinkError::ClosedByPeer(CloseReason::Fenced));
    assert_eq!(link.closed().await, LinkError::Closed(CloseReason::Fenced));
    let opened = accepted.open(Priority::Normal).await.err();
    assert_eq!(opened, Some(LinkError::ClosedByPeer(CloseReason::Fenced)));

    let (link, accepted) = connect(&a, &b).await;
    drop(link);
    assert!(matches!(accepted.closed().await, LinkError::Transport(_)));

    let (link, _accepted) = connect(&a, &b).await;
    b.close(CloseReason::Leaving).await;
    assert_eq!(link.closed().await, LinkError::ClosedByPeer(CloseReason::Leaving));
    assert!(b.accept().await.is_none());
}

#[tokio::test]
async fn a_stream_of_a_link_that_has_ended_fails_however_often_it_is_asked() {
    let (a, b, _) = pair().await;
    let (link, accepted) = connect(&a, &b).await;
    let (stream, theirs) = tokio::join!(link.open(Priority::Normal), accepted.accept());
    let (mut stream, _theirs) = (stream.unwrap(), theirs.unwrap());
    link.close(CloseReason::Fenced);
    for _ in 0..3 {
        let error = stream.receive.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
    }
}

#[tokio::test]
async fn who_is_not_trusted_is_told_so_when_it_dials() {
    let (a, b, authority) = pair().await;
    let refused = async |credentials, name: &str| {
        let dialler = transport(credentials).await;
        dialler.dial(&node(name), b.local_addr(), Purpose::Data).await.err().unwrap()
    };
    let flawed = |flaw| authority.issue_flawed("c", Role::Worker, flaw);
    let other_name = refused(flawed(Flaw::None), "z").await;
    assert!(matches!(&other_name, LinkError::Untrusted(_)), "{other_name}");
    let other_protocol = refused(flawed(Flaw::OtherProtocol), "b").await;
    assert!(matches!(&other_protocol, LinkError::Untrusted(_)), "{other_protocol}");
    let foreign = refused(TestAuthority::default().issue("c", Role::Worker), "b").await;
    assert!(matches!(&foreign, LinkError::Untrusted(_)), "{foreign}");
    for flaw in [Flaw::NoCertificate, Flaw::Nameless] {
        assert!(matches!(refused(flawed(flaw), "b").await, LinkError::Reset), "{flaw:?}");
    }
    let strict = transport(flawed(Flaw::NoJoin)).await;
    let bare = transport(flawed(Flaw::NoCertificate)).await;
    let bare = bare.dial(&node("c"), strict.local_addr(), Purpose::Data).await.err().unwrap();
    assert!(matches!(&bare, LinkError::Untrusted(it) if it.contains("no certificate")), "{bare}");
    assert!(a.dial(&node("b"), b.local_addr(), Purpose::Join).await.is_err());
}

#[tokio::test]
async fn a_stranger_cannot_add_to_anothers_link() {
    let (a, b, authority) = pair().await;
    let (_link, accepted) = connect(&a, &b).await;
    let shared = transport(authority.issue("c", Role::Worker)).await.shared.clone();
    let at = b.local_addr();
    let thief = Dialler { shared, node: node("b"), at, purpose: Purpose::Data };
    for writes in [true, false] {
        let hello = Hello::stream(1, 3, writes);
        let (mut stream, _) = super::connect(&thief, hello).await.unwrap();
        assert!(stream.read_u8().await.is_err());
    }
    let stream = timeout(Duration::from_millis(50), accepted.accept()).await;
    assert!(stream.is_err());
}
