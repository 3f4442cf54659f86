//! Remote actors, from their spawn to whatever ends them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::address::Role;
use crate::caps::{ACTORS_MAX, SPAWN_ARGS_BYTES_MAX};
use crate::mesh::{Mesh, SpawnError};
use crate::mesh_fixture_tests::{Net, Node, Start as Begin, id, over_each_network};

const SOON: Duration = Duration::from_secs(10);
const ALL: &[Role] = &Role::ALL;

/// Tells when it is dropped.
struct Guard(mpsc::UnboundedSender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn kinds(dropped: &mpsc::UnboundedSender<()>) -> Kinds {
    let dropped = dropped.clone();
    Kinds::default()
        .on("echo", ALL, |mut spawned: Spawned| async move {
            while let Received::Message(class, message) = spawned.port.receive().await {
                if spawned.port.send(class, message).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
        .on("count", ALL, |spawned: Spawned| async move {
            for number in 0..spawned.args[0] {
                for class in Class::ALL {
                    spawned
                        .port
                        .send(class, vec![number; 1000])
                        .await
                        .map_err(|e| e.to_string())?;
                }
            }
            match spawned.args[1] {
                0 => Ok(()),
                1 => Err("its reason".to_owned()),
                _ => panic!("its panic"),
            }
        })
        .on("wait", ALL, move |spawned: Spawned| {
            let guard = Guard(dropped.clone());
            async move {
                let (_guard, _port) = (guard, spawned.port);
                std::future::pending().await
            }
        })
        // Takes one message, then stalls.
        .on("stall", ALL, |mut spawned: Spawned| async move {
            spawned.port.receive().await;
            std::future::pending().await
        })
        .on("coordinators", &[Role::Coordinator], |_| async { Ok(()) })
}

struct Two {
    _net: Net,
    near: Node,
    far: Node,
    dropped: mpsc::UnboundedReceiver<()>,
}

impl Two {
    async fn new(net: Net) -> Self {
        let (drops, dropped) = mpsc::unbounded_channel();
        let mut far = net.start_with(Begin { kinds: kinds(&drops), ..Begin::new(0, &[1]) }).await;
        let mut near = net.start(1, &[0]).await;
        near.up().await;
        far.up().await;
        Self { _net: net, near, far, dropped }
    }

    async fn spawn(&self, kind: &str, args: &[u8]) -> Port {
        spawn(&self.near.mesh, kind, args).await.unwrap()
    }
}

async fn spawn(mesh: &Mesh, kind: &str, args: &[u8]) -> Result<Port, SpawnError> {
    mesh.spawn(&id(0), kind, args.to_vec(), SOON).await.map(|(_, port)| port)
}

async fn receive(port: &mut Port) -> Received {
    timeout(SOON, port.receive()).await.expect("nothing in time")
}

over_each_network! {
    messages_of_each_class_go_there_and_back
    the_real_reason_comes_once_and_after_all_messages
    what_cannot_be_spawned_is_refused_with_the_reason
    a_watcher_that_drops_its_port_ends_the_actor
    a_spawn_that_is_given_up_leaves_no_actor
    the_loss_of_the_node_is_told_to_every_watcher
    the_loss_of_the_watcher_ends_its_actors
    a_stalled_actor_stops_its_sender_and_nobody_else
    a_thousand_spawns_leave_no_lanes
    there_may_be_so_many_actors_and_each_can_use_all_its_lanes
}

async fn messages_of_each_class_go_there_and_back(net: Net) {
    let two = Two::new(net).await;
    let (address, mut port) = two.near.mesh.spawn(&id(0), "echo", Vec::new(), SOON).await.unwrap();
    assert_eq!(address.to_string(), "n0/1/1");
    for (class, bytes) in
        [(Class::Control, 0), (Class::Control, 64 << 10), (Class::Data, 3 << 20), (Class::Bulk, 9)]
    {
        let message = vec![7; bytes];
        let sender = port.sender();
        let sent = message.clone();
        let send = tokio::spawn(async move { sender.send(class, sent).await });
        assert_eq!(receive(&mut port).await, Received::Message(class, message));
        send.await.unwrap().unwrap();
    }
    let long = vec![0; (64 << 10) + 1];
    let too_long = SendError::TooLong { bytes: (64 << 10) + 1, bytes_max: 64 << 10 };
    assert_eq!(port.send(Class::Control, long).await, Err(too_long));
}

async fn the_real_reason_comes_once_and_after_all_messages(net: Net) {
    let two = Two::new(net).await;
    let reasons = [
        DownReason::Finished,
        DownReason::Failed("its reason".to_owned()),
        DownReason::Panicked("its panic".to_owned()),
    ];
    for (how, reason) in reasons.into_iter().enumerate() {
        for count in [0, 1, 100] {
            let mut port = two.spawn("count", &[count, how as u8]).await;
            let mut next = [0; 3];
            loop {
                match receive(&mut port).await {
                    Received::Message(class, message) => {
                        assert_eq!(message, vec![next[class as usize]; 1000]);
                        next[class as usize] += 1;
                    }
                    Received::Down(why) => {
                        assert_eq!((why, next), (reason.clone(), [count; 3]));
                        break;
                    }
                }
            }
            assert_eq!(receive(&mut port).await, Received::Down(reason.clone()), "and ever after");
            assert_eq!(port.send(Class::Data, Vec::new()).await, Err(SendError::Down));
        }
    }
}

async fn what_cannot_be_spawned_is_refused_with_the_reason(net: Net) {
    let two = Two::new(net).await;
    let spawn = |kind: &'static str, bytes| {
        let mesh = two.near.mesh.clone();
        async move { spawn(&mesh, kind, &vec![0; bytes]).await.err().unwrap() }
    };
    assert_eq!(spawn("nothing", 0).await, SpawnError::Down(DownReason::NoSuchKind));
    let role = DownReason::Refused("not for the role worker".to_owned());
    assert_eq!(spawn("coordinators", 0).await, SpawnError::Down(role));
    assert!(matches!(spawn("echo", SPAWN_ARGS_BYTES_MAX + 1).await, SpawnError::TooLong { .. }));
    let nowhere = two.near.mesh.spawn(&id(7), "echo", Vec::new(), SOON).await.err().unwrap();
    assert_eq!(nowhere, SpawnError::NotConnected(id(7)));
}

async fn a_watcher_that_drops_its_port_ends_the_actor(net: Net) {
    let mut two = Two::new(net).await;
    let port = two.spawn("wait", &[]).await;
    let sender = port.sender();
    drop(port);
    assert_eq!(sender.send(Class::Data, Vec::new()).await, Err(SendError::Down));
    timeout(SOON, two.dropped.recv()).await.expect("the actor lives on");
}

async fn a_spawn_that_is_given_up_leaves_no_actor(net: Net) {
    let mut two = Two::new(net).await;
    let spawn = two.near.mesh.spawn(&id(0), "wait", Vec::new(), Duration::ZERO).await;
    assert_eq!(spawn.err(), Some(SpawnError::Deadline(Duration::ZERO)));
    // It may have been stopped before it began: then nothing is dropped, but nothing runs either.
    let begun = timeout(SOON, two.dropped.recv()).await;
    assert!(begun.is_ok() || two.dropped.is_empty());
    for _ in 0..ACTORS_MAX {
        std::mem::forget(two.spawn("wait", &[]).await);
    }
}

async fn the_loss_of_the_node_is_told_to_every_watcher(net: Net) {
    let two = Two::new(net).await;
    let mut ports = Vec::new();
    for _ in 0..20 {
        ports.push(two.spawn("wait", &[]).await);
    }
    two._net.crash(&two.far);
    for port in &mut ports {
        assert_eq!(receive(port).await, Received::Down(DownReason::NodeLost));
    }
}

async fn the_loss_of_the_watcher_ends_its_actors(net: Net) {
    let mut two = Two::new(net).await;
    let mut ports = Vec::new();
    for _ in 0..20 {
        ports.push(two.spawn("wait", &[]).await);
    }
    two._net.crash(&two.near);
    for _ in 0..20 {
        timeout(SOON, two.dropped.recv()).await.expect("an actor lives on");
    }
    two.far.mesh.clone().stop().await;
}

async fn a_stalled_actor_stops_its_sender_and_nobody_else(net: Net) {
    let two = Two::new(net).await;
    let stalled = two.spawn("stall", &[]).await;
    let sent = Arc::new(AtomicUsize::new(0));
    for class in Class::ALL {
        let (sender, sent) = (stalled.sender(), sent.clone());
        tokio::spawn(async move {
            while sender.send(class, vec![0; 32 << 10]).await.is_ok() {
                sent.fetch_add(32 << 10, Ordering::Relaxed);
            }
        });
    }
    // All that can go has gone: time is paused, and moves only when everybody waits.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let held = sent.load(Ordering::Relaxed);
    assert!((1 << 20..4 << 20).contains(&held), "{held}");
    tokio::time::sleep(Duration::from_secs(60)).await; // on paused time
    assert_eq!(sent.load(Ordering::Relaxed), held, "nothing grows");
    let mut echo = two.spawn("echo", &[]).await;
    for class in Class::ALL {
        echo.send(class, vec![1]).await.unwrap();
        assert_eq!(receive(&mut echo).await, Received::Message(class, vec![1]));
    }
    drop(stalled);
    drop(echo);
    two.spawn("count", &[9, 0]).await;
}

async fn a_thousand_spawns_leave_no_lanes(net: Net) {
    let two = Two::new(net).await;
    for _ in 0..1000 {
        let mut port = two.spawn("echo", &[]).await;
        for class in Class::ALL {
            port.send(class, vec![1]).await.unwrap();
            assert_eq!(receive(&mut port).await, Received::Message(class, vec![1]));
        }
    }
    for _ in 0..300 {
        let mut port = two.spawn("count", &[1, 0]).await;
        while let Received::Message(..) = receive(&mut port).await {}
    }
}

async fn there_may_be_so_many_actors_and_each_can_use_all_its_lanes(net: Net) {
    let two = Two::new(net).await;
    let mut ports = Vec::new();
    for _ in 0..ACTORS_MAX {
        ports.push(two.spawn("echo", &[]).await);
    }
    assert_eq!(spawn(&two.near.mesh, "echo", &[]).await.err(), Some(SpawnError::TooMany));
    for port in &mut ports {
        for class in Class::ALL {
            port.send(class, vec![1]).await.unwrap();
            assert_eq!(receive(port).await, Received::Message(class, vec![1]));
        }
    }
    ports.pop();
    // The place is free when the word of the drop is on its way.
    tokio::task::yield_now().await;
    ports.push(timeout(SOON, two.spawn("echo", &[])).await.unwrap());
}
