//! The mesh on real sockets, with threads.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::address::{Incarnation, Role};
use crate::credentials::Credentials;
use crate::fixture::TestAuthority;
use crate::link::Transport;
use crate::mesh::*;
use crate::mesh_fixture_tests::id;
use crate::quic::{QuicConfig, QuicTransport, ResetKey};
use crate::split::SplitTransport;
use crate::tcp::{TcpConfig, TcpTransport};

const SOON: Duration = Duration::from_secs(60);

async fn quic(index: u8, credentials: Arc<dyn Credentials>) -> Arc<dyn Transport> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = QuicConfig::new(listen, ResetKey::new([index; ResetKey::BYTES]));
    Arc::new(QuicTransport::bind(config, credentials).unwrap())
}

/// Over both; TCP has the port that QUIC has got.
async fn split(index: u8, credentials: Arc<dyn Credentials>) -> Arc<dyn Transport> {
    loop {
        let main = quic(index, credentials.clone()).await;
        let tcp = TcpTransport::bind(TcpConfig::new(main.local_addr()), credentials.clone()).await;
        // Somebody may have it already.
        if let Ok(tcp) = tcp {
            return Arc::new(SplitTransport::new(main, Arc::new(tcp)));
        }
    }
}

async fn start(
    authority: &TestAuthority,
    index: u8,
    peers: Vec<PeerAddress>,
    over_tcp: bool,
) -> (Mesh, mpsc::Receiver<MeshEvent>, SocketAddr) {
    let credentials = authority.issue(id(index).as_str(), Role::Worker);
    let transport = match over_tcp {
        true => split(index, credentials).await,
        false => quic(index, credentials).await,
    };
    let at = transport.local_addr();
    let config = MeshConfig {
        me: id(index),
        role: Role::Worker,
        cluster: "c".to_owned(),
        incarnation: Incarnation(1),
        peers,
        listens: true,
        admits: Admits::Certified,
        seed: u64::from(index),
        guests: None,
    };
    let kinds = Kinds::default().on("echo", &Role::ALL, |mut spawned: Spawned| async move {
        while let Received::Message(class, message) = spawned.port.receive().await {
            spawned.port.send(class, message).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    let (mesh, events) = Mesh::start(config, transport, kinds, None).await.unwrap();
    (mesh, events, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actors_on_real_sockets_come_and_go_from_many_threads() {
    come_and_go(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_data_may_go_over_tcp() {
    come_and_go(true).await;
}

async fn come_and_go(over_tcp: bool) {
    let authority = TestAuthority::default();
    let (one, _events, at) = start(&authority, 0, Vec::new(), over_tcp).await;
    let peer = PeerAddress { node: id(0), role: Role::Worker, at };
    let (two, mut events, _) = start(&authority, 1, vec![peer], over_tcp).await;
    assert!(matches!(timeout(SOON, events.recv()).await, Ok(Some(MeshEvent::Up { .. }))));
    let mut talks = JoinSet::new();
    for talk in 0..16_usize {
        let mesh = two.clone();
        talks.spawn(async move {
            for round in 0..20 {
                let (_, mut port) = mesh.spawn(&id(0), "echo", Vec::new(), SOON).await.unwrap();
                let class = Class::ALL[(talk + round) % 3];
                let long = if class == Class::Bulk && talk < 4 { 1 << 20 } else { 100 };
                let message = vec![talk as u8; long];
                port.send(class, message.clone()).await.unwrap();
                let back = timeout(SOON, port.receive()).await.unwrap();
                assert_eq!(back, Received::Message(class, message));
            }
        });
    }
    for _ in 0..3 {
        sum(&two, &one).await;
    }
    while let Some(talked) = talks.join_next().await {
        talked.unwrap();
    }
    one.stop().await;
    let down = timeout(SOON, events.recv()).await.unwrap();
    assert!(matches!(down, Some(MeshEvent::Down { reason: DownReason::Left, .. })), "{down:?}");
    two.stop().await;
}

/// A few MiB on a stream for gradients, of which only one direction is used in the end.
async fn sum(from: &Mesh, to: &Mesh) {
    let (values, mut found) = (vec![7; 3 << 20], Vec::new());
    let mut opened = from.open_gradients(&id(0)).await.unwrap();
    opened.send.write_u8(1).await.unwrap();
    opened.send.flush().await.unwrap();
    let (peer, mut taken) = timeout(SOON, to.accept_gradients()).await.unwrap().unwrap();
    assert_eq!((peer.node, taken.receive.read_u8().await.unwrap()), (id(1), 1));
    taken.send.write_u8(2).await.unwrap();
    taken.send.shutdown().await.unwrap();
    drop(taken.send);
    assert_eq!(opened.receive.read_u8().await.unwrap(), 2);
    let (send, receive) = (&mut opened.send, &mut taken.receive);
    let write = async {
        send.write_all(&values).await.unwrap();
        send.shutdown().await.unwrap();
    };
    let (_, read) = tokio::join!(write, receive.read_to_end(&mut found));
    assert!(read.is_ok() && found == values);
}
