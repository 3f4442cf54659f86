//! What peers that break the protocol get: the end of their own connections, and of nothing else.

use std::sync::atomic::AtomicU8;
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::*;
use crate::address::{NodeId, Role};
use crate::codec;
use crate::lane::{Lane, LaneConfig};
use crate::link::{Priority, Purpose, Stream, Transport};
use crate::mesh::{Mesh, MeshEvent};
use crate::mesh_fixture_tests::{Net, Node, Start as Begin, at, both_up, id, over_each_network};
use crate::remote::{Class, Kinds, Received, Spawned};
use crate::session_wire::{First, Hello, PROTOCOL};

const SOON: Duration = Duration::from_secs(20);

/// A peer with a good certificate that says whatever it likes.
struct Intruder {
    transport: Arc<dyn Transport>,
    control: Arc<dyn Link>,
    lane: Lane,
    data: Option<Arc<dyn Link>>,
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        cluster: "c".to_owned(),
        to: id(0),
        node: id(8),
        role: Role::Worker,
        incarnation: Incarnation(1),
        process: 8,
        listens: false,
    }
}

fn lane_of(stream: Stream) -> Lane {
    Lane::new(stream, LaneConfig { message_bytes_max: 1 << 20, queue_bytes_max: 1 << 20 })
}

/// Each has a place of its own: some are there at the same time.
fn transport(net: &Net) -> Arc<dyn Transport> {
    static PLACE: AtomicU8 = AtomicU8::new(0);
    let place = 20 + PLACE.fetch_add(1, Ordering::Relaxed) % 200;
    net.transport(8, Role::Worker, place)
}

impl Intruder {
    /// Has said nothing yet.
    async fn connect(net: &Net) -> Self {
        let transport = transport(net);
        let control = transport.dial(&id(0), at(0), Purpose::Control).await.unwrap();
        let lane = lane_of(control.open(Priority::Urgent).await.unwrap());
        Self { transport, control, lane, data: None }
    }

    async fn greet(net: &Net) -> (Self, u64) {
        let mut intruder = Self::connect(net).await;
        intruder.say(First::Hello(hello()).encode().unwrap()).await;
        let welcome = intruder.lane.receiver.receive().await.unwrap().unwrap();
        let Message::Welcome { session, .. } = Message::decode(&welcome).unwrap() else {
            panic!("no welcome");
        };
        (intruder, session)
    }

    /// Has a session.
    async fn join(net: &Net) -> Self {
        let (mut intruder, session) = Self::greet(net).await;
        let data = intruder.transport.dial(&id(0), at(0), Purpose::Data).await.unwrap();
        let mut lane = lane_of(data.open(Priority::Urgent).await.unwrap());
        lane.sender.send(First::Bind { session }.encode().unwrap()).await.unwrap();
        lane.receiver.receive().await.unwrap().unwrap();
        intruder.data = Some(data);
        intruder
    }

    async fn say(&self, bytes: Vec<u8>) {
        let _ = self.lane.sender.send(bytes).await;
    }

    /// As the bytes of a stream of its own, with what a lane would put before a message.
    async fn open(&self, on_control: bool, message: &[u8]) -> Stream {
        let mut bytes = u32::try_from(message.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend_from_slice(message);
        self.open_raw(on_control, &bytes).await
    }

    async fn open_raw(&self, on_control: bool, bytes: &[u8]) -> Stream {
        let link = if on_control { &self.control } else { self.data.as_ref().unwrap() };
        let mut stream = link.open(Priority::Normal).await.unwrap();
        let _ = stream.send.write_all(bytes).await;
        let _ = stream.send.flush().await;
        stream
    }

    /// Both of its connections are closed, for what it did.
    async fn is_thrown_out(&self, why: CloseReason) {
        for link in [Some(&self.control), self.data.as_ref()].into_iter().flatten() {
            let closed = timeout(SOON, link.closed()).await.expect("still connected");
            assert_eq!(closed, LinkError::ClosedByPeer(why));
        }
    }
}

/// A node with a peer of good manners that has an actor on it.
struct Town {
    net: Net,
    node: Node,
    other: Node,
    port: Port,
}

impl Town {
    async fn new(net: Net) -> Self {
        let kinds = Kinds::default().on("echo", &Role::ALL, |mut spawned: Spawned| async move {
            while let Received::Message(class, message) = spawned.port.receive().await {
                let _ = spawned.port.send(class, message).await;
            }
            Ok(())
        });
        let mut node = net.start_with(Begin { kinds, ..Begin::new(0, &[1]) }).await;
        let mut other = net.start(1, &[0]).await;
        both_up(&mut node, &mut other).await;
        let port = spawn(&other.mesh, &id(0)).await;
        Self { net, node, other, port }
    }

    async fn is_undisturbed(&mut self) {
        for class in Class::ALL {
            self.port.send(class, vec![3; 10]).await.unwrap();
            let back = timeout(SOON, self.port.receive()).await.unwrap();
            assert_eq!(back, Received::Message(class, vec![3; 10]));
        }
        assert!(self.other.events.try_recv().is_err());
        while let Ok(event) = self.node.events.try_recv() {
            let about = match event {
                MeshEvent::Up { peer, .. } => peer.node,
                MeshEvent::Down { node, .. } => node,
                other => panic!("{other:?}"),
            };
            assert_eq!(about, id(8));
        }
    }
}

async fn spawn(mesh: &Mesh, node: &NodeId) -> Port {
    mesh.spawn(node, "echo", Vec::new(), SOON).await.unwrap().1
}

over_each_network! {
    who_begins_with_something_else_than_a_hello_is_thrown_out
    who_says_nothing_or_stops_in_the_handshake_is_not_waited_for
    a_data_connection_of_another_session_is_refused
    messages_that_nobody_sends_end_the_session_of_who_sends_them
    streams_that_nobody_opens_end_the_session_of_who_opens_them
    words_about_actors_that_are_not_there_are_no_harm
}

async fn who_begins_with_something_else_than_a_hello_is_thrown_out(net: Net) {
    let mut town = Town::new(net).await;
    let head = LaneHead { actor: 1, from: Side::Watcher, class: Class::Control };
    let garbage = [
        vec![],
        vec![0],
        vec![codec::VERSION],
        vec![codec::VERSION, 200],
        vec![codec::VERSION, 0, 255, 255, 255],
        vec![0x55; 60 << 10],
        First::Bind { session: 1 }.encode().unwrap(),
        First::Lane(head).encode().unwrap(),
        [First::Hello(hello()).encode().unwrap(), vec![0]].concat(),
    ];
    for bytes in garbage {
        let intruder = Intruder::connect(&town.net).await;
        intruder.say(bytes).await;
        intruder.is_thrown_out(CloseReason::Protocol).await;
        town.is_undisturbed().await;
    }
    for header in [u32::MAX, 1 << 30, (64 << 10) + 1, 1 << 31] {
        let transport = transport(&town.net);
        let control = transport.dial(&id(0), at(0), Purpose::Control).await.unwrap();
        let mut stream = control.open(Priority::Normal).await.unwrap();
        stream.send.write_all(&header.to_le_bytes()).await.unwrap();
        let closed = timeout(SOON, control.closed()).await.expect("still connected");
        assert_eq!(closed, LinkError::ClosedByPeer(CloseReason::Protocol));
        town.is_undisturbed().await;
    }
}

async fn who_says_nothing_or_stops_in_the_handshake_is_not_waited_for(net: Net) {
    let mut town = Town::new(net).await;
    let silent = Intruder::connect(&town.net).await;
    silent.is_thrown_out(CloseReason::Refused).await;
    let (half, _) = Intruder::greet(&town.net).await;
    half.is_thrown_out(CloseReason::Refused).await;
    town.is_undisturbed().await;
}

async fn a_data_connection_of_another_session_is_refused(net: Net) {
    let mut town = Town::new(net).await;
    let (old, session) = Intruder::greet(&town.net).await;
    let (new, _) = Intruder::greet(&town.net).await;
    old.is_thrown_out(CloseReason::Refused).await;
    let data = new.transport.dial(&id(0), at(0), Purpose::Data).await.unwrap();
    let lane = lane_of(data.open(Priority::Urgent).await.unwrap());
    lane.sender.send(First::Bind { session }.encode().unwrap()).await.unwrap();
    let closed = timeout(SOON, data.closed()).await.unwrap();
    assert_eq!(closed, LinkError::ClosedByPeer(CloseReason::Refused));
    town.is_undisturbed().await;
}

async fn messages_that_nobody_sends_end_the_session_of_who_sends_them(net: Net) {
    let mut town = Town::new(net).await;
    let spawn = |actor, bytes| {
        let (kind, args) = ("echo".to_owned(), vec![0; bytes]);
        Message::Spawn { actor, kind, args }.encode().unwrap()
    };
    let welcome = Message::Welcome { hello: hello(), session: 1 };
    let bad = [
        vec![vec![]],
        vec![vec![9, 9, 9]],
        vec![vec![codec::VERSION, 100]],
        vec![welcome.encode().unwrap()],
        vec![Message::Bound.encode().unwrap()],
        vec![First::Hello(hello()).encode().unwrap()],
        vec![spawn(1, SPAWN_ARGS_BYTES_MAX + 1)],
        vec![spawn(1, 0), spawn(1, 0)],
        (0..=2 * ACTORS_MAX as u64).map(|actor| spawn(actor, 0)).collect(),
    ];
    for (case, messages) in bad.into_iter().enumerate() {
        let intruder = Intruder::join(&town.net).await;
        for message in messages {
            intruder.say(message).await;
        }
        timeout(SOON, intruder.control.closed()).await.unwrap_or_else(|_| panic!("case {case}"));
        intruder.is_thrown_out(CloseReason::Protocol).await;
        town.is_undisturbed().await;
    }
}

async fn streams_that_nobody_opens_end_the_session_of_who_opens_them(net: Net) {
    let mut town = Town::new(net).await;
    let lane =
        |class| First::Lane(LaneHead { actor: 1, from: Side::Watcher, class }).encode().unwrap();
    let cases = [
        (true, vec![]),
        (false, vec![1, 77]),
        (true, lane(Class::Data)),
        (false, lane(Class::Control)),
        (true, First::Hello(hello()).encode().unwrap()),
        (false, First::Bind { session: 1 }.encode().unwrap()),
        (false, vec![7; 100 << 10]),
    ];
    for (on_control, bytes) in cases {
        let intruder = Intruder::join(&town.net).await;
        let _stream = intruder.open(on_control, &bytes).await;
        intruder.is_thrown_out(CloseReason::Protocol).await;
        town.is_undisturbed().await;
    }
    // A lane of an actor: its head is good, what follows is not.
    let intruder = Intruder::join(&town.net).await;
    let (kind, args) = ("echo".to_owned(), Vec::new());
    intruder.say(Message::Spawn { actor: 1, kind, args }.encode().unwrap()).await;
    let mut stream = intruder.open(false, &lane(Class::Data)).await;
    stream.send.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    intruder.is_thrown_out(CloseReason::Protocol).await;
    town.is_undisturbed().await;
}

async fn words_about_actors_that_are_not_there_are_no_harm(net: Net) {
    let mut town = Town::new(net).await;
    let intruder = Intruder::join(&town.net).await;
    let down = Message::Down { actor: 7, reason: DownReason::Finished, sent: [1, 2, 3] };
    for message in [Message::Stop { actor: 9 }, Message::Spawned { actor: 7, id: 1 }, down] {
        intruder.say(message.encode().unwrap()).await;
    }
    let lane = First::Lane(LaneHead { actor: 5, from: Side::Host, class: Class::Data });
    let _stream = intruder.open(false, &lane.encode().unwrap()).await;
    assert!(timeout(Duration::from_millis(400), intruder.control.closed()).await.is_err());
    town.is_undisturbed().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is said in a session: nobody else hears anything of it.
    #[test]
    fn random_bytes_disturb_nobody(
        messages in prop::collection::vec(
            (0..4_u8, prop::collection::vec(any::<u8>(), 0..80)), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut town = Town::new(Net::memory()).await;
            let intruder = Intruder::join(&town.net).await;
            let mut streams = Vec::new();
            for (way, mut bytes) in messages {
                match way {
                    0 => intruder.say(bytes).await,
                    1 => {
                        bytes.insert(0, codec::VERSION);
                        intruder.say(bytes).await;
                    }
                    _ if intruder.control.closed().now_or_never().is_some() => {}
                    _ => streams.push(intruder.open_raw(way == 2, &bytes).await),
                }
            }
            town.is_undisturbed().await;
        });
    }
}
