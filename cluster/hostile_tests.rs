//! Doors for hostile bytes, for tests and fuzzers: what a peer may send, read as the program reads
//! it; and good frames of each kind, to be spoiled.

use bincode::{Decode, Encode};
use tokio::io::AsyncRead;

use crate::address::{Incarnation, NodeId, Role};
use crate::caps::CONTROL_MESSAGE_BYTES_MAX;
use crate::codec;
use crate::join;
use crate::lane_reader::{LaneError, LaneReceiver};
use crate::lease::{Beat, Epoch, Grant, Renewal};
use crate::remote::{Class, DownReason};
use crate::renewal;
use crate::session_wire::{First, Hello, LaneHead, Message, PROTOCOL, Side};
use crate::token::{JoinToken, Refusal};

/// Reads a frame as each kind of message of this crate. How many kinds it is a message of.
pub fn decode_all(frame: &[u8]) -> usize {
    fn is<T: Decode<()>>(frame: &[u8], bytes_max: usize) -> usize {
        usize::from(codec::decode::<T>(frame, bytes_max).is_ok())
    }
    const CONTROL: usize = CONTROL_MESSAGE_BYTES_MAX;
    is::<First>(frame, CONTROL)
        + is::<Message>(frame, CONTROL)
        + is::<join::Request>(frame, join::REQUEST_BYTES_MAX)
        + is::<join::Answer>(frame, join::ANSWER_BYTES_MAX)
        + is::<renewal::Request>(frame, CONTROL)
        + is::<renewal::Answer>(frame, CONTROL)
        + is::<Grant>(frame, CONTROL)
        + is::<Beat>(frame, CONTROL)
        + is::<Renewal>(frame, CONTROL)
        + is::<Epoch>(frame, CONTROL)
}

/// Reads a lane to its end: the messages, and how it ended.
pub async fn read_lane(
    stream: impl AsyncRead + Send + Unpin + 'static,
    message_bytes_max: usize,
) -> (usize, Result<(), LaneError>) {
    let mut lane = LaneReceiver::new(Box::new(stream), message_bytes_max);
    let mut messages = 0;
    loop {
        match lane.receive().await {
            Ok(Some(_)) => messages += 1,
            Ok(None) => return (messages, Ok(())),
            Err(error) => return (messages, Err(error)),
        }
    }
}

fn frame(message: &impl Encode) -> Vec<u8> {
    codec::encode(message, CONTROL_MESSAGE_BYTES_MAX).unwrap()
}

/// What a node that dials says first.
pub fn hello(cluster: &str, to: &NodeId, node: &NodeId, process: u64) -> Vec<u8> {
    frame(&First::Hello(greeting(cluster, to, node, process)))
}

fn greeting(cluster: &str, to: &NodeId, node: &NodeId, process: u64) -> Hello {
    Hello {
        protocol: PROTOCOL,
        cluster: cluster.to_owned(),
        to: to.clone(),
        node: node.clone(),
        role: Role::Worker,
        incarnation: Incarnation(1),
        process,
        listens: false,
    }
}

/// The session that a welcome opens.
pub fn session(welcome: &[u8]) -> Option<u64> {
    match Message::decode(welcome) {
        Ok(Message::Welcome { session, .. }) => Some(session),
        _ => None,
    }
}

/// The first message of the data connection of a session.
pub fn bind(session: u64) -> Vec<u8> {
    frame(&First::Bind { session })
}

/// Good messages of each kind that is said in a session or before it.
pub fn good_frames() -> Vec<Vec<u8>> {
    let id = |text: &str| -> NodeId { text.parse().unwrap() };
    let head = |from, class| frame(&First::Lane(LaneHead { actor: 1, from, class }));
    let hello = || greeting("c", &id("n0"), &id("n8"), 8);
    let down = |reason| frame(&Message::Down { actor: 1, reason, sent: [1, 2, 3] });
    let token = JoinToken::draw(crate::identity_certificate::Pin([7; 32])).unwrap();
    let renewal = renewal::Renewal::new().unwrap();
    let request = join::Request {
        token: token.id,
        secret: token.secret,
        node: Some(id("n8")),
        request: renewal.request().to_vec(),
    };
    let granted = join::Answer::Granted {
        certificate: vec![1; 400],
        authority: vec![2; 300],
        revocations: vec![3; 200],
    };
    let spawn = |kind: &str, bytes| {
        frame(&Message::Spawn { actor: 1, kind: kind.to_owned(), args: vec![4; bytes] })
    };
    let mut frames = vec![
        frame(&First::Hello(hello())),
        bind(1),
        frame(&Message::Welcome { hello: hello(), session: 1 }),
        frame(&Message::Bound),
        frame(&Message::Ping { number: 1 }),
        frame(&Message::Pong { number: 1 }),
        spawn("echo", 0),
        spawn("echo", 40 << 10),
        spawn("", 3),
        spawn("nothing", 3),
        frame(&Message::Spawned { actor: 1, id: 2 }),
        frame(&Message::Stop { actor: 1 }),
        down(DownReason::Finished),
        down(DownReason::Failed("x".repeat(300))),
        down(DownReason::NodeLost),
        frame(&request),
        frame(&granted),
        frame(&join::Answer::Refused(Refusal::OtherNode { node: id("n7") })),
        renewal.request().to_vec(),
    ];
    for class in Class::ALL {
        frames.extend([head(Side::Watcher, class), head(Side::Host, class)]);
    }
    frames
}

#[test]
fn good_frames_are_good() {
    for frame in good_frames() {
        assert!(decode_all(&frame) > 0, "{frame:?}");
    }
}
