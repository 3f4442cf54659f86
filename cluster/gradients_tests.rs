//! Streams for gradients, over each kind of network.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::address::{NodeId, Role};
use crate::gradients::GradientsError;
use crate::link::{Priority, Purpose, Stream};
use crate::mesh::{Mesh, MeshEvent};
use crate::mesh_fixture_tests::{Net, Node, Start, at, id, over_each_network};

over_each_network! {
    both_sides_open_streams_and_know_who_the_other_is
    without_a_session_there_is_no_stream
    they_end_with_the_session
    who_cannot_be_dialled_is_reached_once_it_has_called
    operators_have_no_gradients
}

const SOON: Duration = Duration::from_secs(20);

async fn two(net: &Net) -> (Node, Node) {
    let mut one = net.start(1, &[2]).await;
    let mut two = net.start(2, &[1]).await;
    up(&mut one).await;
    up(&mut two).await;
    (one, two)
}

async fn up(node: &mut Node) {
    let event = timeout(SOON, node.events.recv()).await;
    assert!(matches!(event, Ok(Some(MeshEvent::Up { .. }))), "{event:?}");
}

/// Opens a stream, says who it is, and is answered.
async fn talk(from: &Mesh, to: &Mesh, node: &NodeId, me: &NodeId) -> (Stream, Stream) {
    let mut opened = from.open_gradients(node).await.unwrap();
    opened.send.write_all(b"hello").await.unwrap();
    opened.send.flush().await.unwrap();
    let (peer, mut taken) = timeout(SOON, to.accept_gradients()).await.unwrap().unwrap();
    assert_eq!(peer.node, *me);
    let mut heard = [0; 5];
    taken.receive.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
    taken.send.write_all(b"!").await.unwrap();
    taken.send.flush().await.unwrap();
    assert_eq!(opened.receive.read_u8().await.unwrap(), b'!');
    (opened, taken)
}

async fn both_sides_open_streams_and_know_who_the_other_is(net: Net) {
    let (one, two) = two(&net).await;
    for _ in 0..3 {
        talk(&one.mesh, &two.mesh, &two.id, &one.id).await;
        talk(&two.mesh, &one.mesh, &one.id, &two.id).await;
    }
    let (opened, other) =
        tokio::join!(one.mesh.open_gradients(&two.id), two.mesh.open_gradients(&one.id));
    assert!(opened.is_ok() && other.is_ok());
}

async fn without_a_session_there_is_no_stream(net: Net) {
    let (one, _two) = two(&net).await;
    let nobody = one.mesh.open_gradients(&id(7)).await.err();
    assert_eq!(nobody, Some(GradientsError::NotConnected(id(7))));
    // One that has a certificate, and no session.
    let intruder = net.transport(9, Role::Worker, 9);
    let link = intruder.dial(&one.id, at(one.place), Purpose::Gradients).await.unwrap();
    let stream = link.open(Priority::Bulk).await;
    if let Ok(mut stream) = stream {
        // The other side may have closed it by now.
        let _ = stream.send.write_all(b"hello").await;
        let _ = stream.send.flush().await;
    }
    assert!(timeout(SOON, link.closed()).await.is_ok(), "it was let in");
}

async fn they_end_with_the_session(net: Net) {
    let (mut one, two) = two(&net).await;
    let (mut opened, _taken) = talk(&one.mesh, &two.mesh, &two.id, &one.id).await;
    two.mesh.clone().stop().await;
    let event = timeout(SOON, one.events.recv()).await;
    assert!(matches!(event, Ok(Some(MeshEvent::Down { .. }))), "{event:?}");
    let heard = timeout(SOON, opened.receive.read_u8()).await;
    assert!(heard.unwrap().is_err());
    let gone = one.mesh.open_gradients(&two.id).await.err();
    assert_eq!(gone, Some(GradientsError::NotConnected(two.id.clone())));
}

async fn who_cannot_be_dialled_is_reached_once_it_has_called(net: Net) {
    let mut node = net.start(1, &[]).await;
    let caller = Start { listens: false, role: Role::Coordinator, ..Start::new(2, &[1]) };
    let mut caller = net.start_with(caller).await;
    up(&mut node).await;
    up(&mut caller).await;
    let early = node.mesh.open_gradients(&caller.id).await.err();
    assert_eq!(early, Some(GradientsError::NoAddress(caller.id.clone())));
    talk(&caller.mesh, &node.mesh, &node.id, &caller.id).await;
    talk(&node.mesh, &caller.mesh, &caller.id, &node.id).await;
}

async fn operators_have_no_gradients(net: Net) {
    let (one, _two) = two(&net).await;
    let operator = net.transport(9, Role::Operator, 9);
    let link = operator.dial(&one.id, at(one.place), Purpose::Gradients).await;
    match link {
        Err(_) => {}
        Ok(link) => assert!(timeout(SOON, link.closed()).await.is_ok(), "it was let in"),
    }
}
