use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::address::Role;

fn identity(name: &str, role: Role) -> PeerIdentity {
    PeerIdentity { node: name.parse().unwrap(), role }
}

fn links() -> (Arc<dyn Link>, Arc<dyn Link>) {
    pair(identity("a", Role::Coordinator), identity("b", Role::Worker), Purpose::Data)
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

#[tokio::test]
async fn a_peer_hears_of_a_stream_with_its_first_byte() {
    let (a, b) = links();
    let mut silent = a.open(Priority::Normal).await.unwrap();
    let mut heard = a.open(Priority::Normal).await.unwrap();
    heard.send.write_all(b"2").await.unwrap();
    let mut first = b.accept().await.unwrap();
    assert_eq!(first.receive.read_u8().await.unwrap(), b'2');
    silent.send.write_all(b"1").await.unwrap();
    let mut second = b.accept().await.unwrap();
    assert_eq!(second.receive.read_u8().await.unwrap(), b'1');
}

#[tokio::test]
async fn the_ends_of_streams_and_links_are_told() {
    let (a, b) = links();
    assert_eq!(a.peer().map(|peer| peer.node.as_str()), Some("b"));
    let mut one = a.open(Priority::Normal).await.unwrap();
    one.send.write_all(b"x").await.unwrap();
    one.send.shutdown().await.unwrap();
    let mut there = b.accept().await.unwrap();
    let mut read = Vec::new();
    there.receive.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"x");
    drop(there.send);
    let reset = one.receive.read_u8().await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);

    b.close(CloseReason::Fenced);
    assert_eq!(a.closed().await, LinkError::ClosedByPeer(CloseReason::Fenced));
    assert_eq!(b.closed().await, LinkError::Closed(CloseReason::Fenced));
    let ended = LinkError::ClosedByPeer(CloseReason::Fenced);
    assert_eq!(a.open(Priority::Normal).await.err(), Some(ended.clone()));
    assert_eq!(a.accept().await.err(), Some(ended));
}

#[tokio::test]
async fn streams_are_few_and_come_back() {
    let (a, b) = links();
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX {
        let mut stream = a.open(Priority::Normal).await.unwrap();
        stream.send.write_all(b"x").await.unwrap();
        streams.push((stream, b.accept().await.unwrap()));
    }
    let mut waiting = a.open(Priority::Normal);
    assert!((&mut waiting).now_or_never().is_none());
    streams.pop();
    assert!(waiting.await.is_ok());
}

#[tokio::test]
async fn a_network_connects_by_address_and_proves_who_answers() {
    let network = MemoryNetwork::default();
    let a = network.transport(identity("a", Role::Coordinator), at(1));
    let b = network.transport(identity("b", Role::Worker), at(2));
    let node: NodeId = "b".parse().unwrap();
    let link = a.dial(&node, at(2), Purpose::Control).await.unwrap();
    let accepted = b.accept().await.unwrap();
    assert_eq!(accepted.peer(), Some(&identity("a", Role::Coordinator)));
    assert_eq!(accepted.purpose(), Purpose::Control);
    let stranger = a.dial(&node, at(2), Purpose::Join).await.unwrap();
    assert_eq!(b.accept().await.unwrap().peer(), None);

    assert!(matches!(a.dial(&node, at(3), Purpose::Data).await, Err(LinkError::TimedOut(_))));
    let wrong = "c".parse().unwrap();
    assert!(matches!(a.dial(&wrong, at(2), Purpose::Data).await, Err(LinkError::Untrusted(_))));

    network.crash(at(2));
    assert!(matches!(link.closed().await, LinkError::TimedOut(_)));
    assert!(matches!(stranger.closed().await, LinkError::Transport(_)), "b let go of it before");
    assert!(b.accept().await.is_none());
}

#[tokio::test]
async fn a_transport_that_closes_tells_all_peers() {
    let network = MemoryNetwork::default();
    let a = network.transport(identity("a", Role::Coordinator), at(1));
    let b = network.transport(identity("b", Role::Worker), at(2));
    let link = a.dial(&"b".parse().unwrap(), at(2), Purpose::Data).await.unwrap();
    let _accepted = b.accept().await.unwrap();
    b.close(CloseReason::Leaving).await;
    assert_eq!(link.closed().await, LinkError::ClosedByPeer(CloseReason::Leaving));
}
