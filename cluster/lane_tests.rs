//! The suite runs over every kind of link (LA-1, LA-2); what is hostile, over memory (LA-3).

use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use super::*;
use crate::address::{PeerIdentity, Role};
use crate::caps::{STREAM_WINDOW_BYTES, STREAMS_MAX};
use crate::codec::tests::allocated_and_kept;
use crate::link::{CloseReason, Link, Priority, Purpose};
use crate::memory;

type Links<'a> = (&'a dyn Link, &'a dyn Link);

const CONFIG: LaneConfig = LaneConfig { message_bytes_max: 4 << 20, queue_bytes_max: 1 << 20 };

/// Everything that a lane promises, over a pair of connected data links. Ends with the first one
/// closed.
pub(crate) async fn suite(one: &dyn Link, other: &dyn Link) {
    messages_of_all_lengths_arrive_whole_and_in_order((one, other)).await;
    messages_of_all_lengths_arrive_whole_and_in_order((other, one)).await;
    both_sides_send_at_once((one, other)).await;
    a_stalled_reader_stops_its_sender((one, other)).await;
    a_receiver_that_is_dropped_ends_the_peers_sender((one, other)).await;
    a_stream_that_is_dropped_or_cut_is_no_end_in_order((one, other)).await;
    stalled_readers_are_in_nobodys_way((one, other)).await;
    streams_come_back((one, other)).await;
    the_end_of_the_link_ends_its_lanes((one, other)).await;
}

/// A lane from the first link to the second, with a message that has gone over it.
async fn lanes((one, other): Links<'_>, config: LaneConfig) -> (Lane, Lane) {
    let from = Lane::new(one.open(Priority::Normal).await.unwrap(), config);
    from.sender.send(b"hello".to_vec()).await.unwrap();
    let mut to = Lane::new(other.accept().await.unwrap(), config);
    assert_eq!(to.receiver.receive().await, Ok(Some(b"hello".to_vec())));
    (from, to)
}

/// A message that shows where it was cut or mixed up.
fn message(number: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 7 + at + number * 31) as u8).collect()
}

const LENGTHS: [usize; 12] = [
    0,
    1,
    100,
    CHUNK_BYTES_MAX - 5,
    CHUNK_BYTES_MAX,
    0,
    CHUNK_BYTES_MAX + 1,
    7,
    2 * CHUNK_BYTES_MAX,
    (1 << 20) + 7,
    0,
    4 << 20,
];

async fn messages_of_all_lengths_arrive_whole_and_in_order(links: Links<'_>) {
    let (from, mut to) = lanes(links, CONFIG).await;
    let send = async {
        for (number, bytes) in LENGTHS.into_iter().enumerate() {
            from.sender.send(message(number, bytes)).await.unwrap();
        }
        // All clones count.
        drop((from.sender.clone(), from.sender));
    };
    let receive = async {
        for (number, bytes) in LENGTHS.into_iter().enumerate() {
            let received = to.receiver.receive().await.unwrap();
            assert!(received == Some(message(number, bytes)), "message {number} of {bytes} bytes");
        }
        assert_eq!(to.receiver.receive().await, Ok(None));
        assert_eq!(to.receiver.receive().await, Ok(None), "and ever after");
    };
    tokio::join!(send, receive);
}

async fn both_sides_send_at_once(links: Links<'_>) {
    let (mut from, mut to) = lanes(links, CONFIG).await;
    let send = async |sender: &LaneSender| {
        for number in 0..2000 {
            sender.send(message(number, number % 300)).await.unwrap();
        }
    };
    let receive = async |receiver: &mut LaneReceiver| {
        for number in 0..2000 {
            let received = receiver.receive().await;
            assert_eq!(received, Ok(Some(message(number, number % 300))));
        }
    };
    tokio::join!(
        send(&from.sender),
        send(&to.sender),
        receive(&mut from.receiver),
        receive(&mut to.receiver)
    );
}

async fn a_stalled_reader_stops_its_sender(links: Links<'_>) {
    let (from, mut to) = lanes(links, CONFIG).await;
    let mut sent = fill(&from.sender, 10_000).await;
    let bytes = sent * 10_000;
    assert!(bytes >= CONFIG.queue_bytes_max / 2, "{bytes} bytes");
    assert!(bytes <= CONFIG.queue_bytes_max + SLACK_BYTES, "{bytes} bytes");
    let queued = from.sender.queued_bytes();
    assert!(queued <= CONFIG.queue_bytes_max, "{queued} bytes");
    // One waits, and goes when the reader reads.
    let last = async {
        from.sender.send(message(sent, 10_000)).await.unwrap();
        drop(from.sender);
        sent += 1;
    };
    let receive = async {
        let mut received = 0;
        while let Some(next) = to.receiver.receive().await.unwrap() {
            assert!(next == message(received, 10_000), "message {received}");
            received += 1;
        }
        received
    };
    let ((), received) = tokio::join!(last, receive);
    assert_eq!(received, sent);
}

/// What may be on the way beside the queue: windows, sockets' buffers, one write.
const SLACK_BYTES: usize = 12 << 20;

/// Sends until there is no room for a while, and tells how many messages went.
async fn fill(sender: &LaneSender, bytes: usize) -> usize {
    let mut sent = 0;
    loop {
        let send = sender.send(message(sent, bytes));
        match tokio::time::timeout(Duration::from_millis(300), send).await {
            Ok(result) => result.unwrap(),
            Err(_) => return sent,
        }
        sent += 1;
    }
}

async fn a_receiver_that_is_dropped_ends_the_peers_sender(links: Links<'_>) {
    let (from, to) = lanes(links, CONFIG).await;
    drop(to.receiver);
    while from.sender.send(vec![0; 1000]).await.is_ok() {}
    assert!(from.sender.is_ended());
    assert_eq!(from.sender.try_send(Vec::new()), Err(TrySendError::Ended));
}

async fn a_stream_that_is_dropped_or_cut_is_no_end_in_order((one, other): Links<'_>) {
    for shuts_down in [true, false] {
        let mut stream = one.open(Priority::Normal).await.unwrap();
        stream.send.write_all(&[3, 0, 0, 0, b'a', b'b', b'c', 2, 0, 0, 0, b'd']).await.unwrap();
        stream.send.flush().await.unwrap();
        let mut to = Lane::new(other.accept().await.unwrap(), CONFIG);
        assert_eq!(to.receiver.receive().await, Ok(Some(b"abc".to_vec())));
        if shuts_down {
            stream.send.shutdown().await.unwrap();
        }
        drop(stream.send);
        let end = if shuts_down { LaneError::Cut } else { LaneError::Reset };
        assert_eq!(to.receiver.receive().await, Err(end.clone()));
        assert_eq!(to.receiver.receive().await, Err(end), "and ever after");
    }
}

/// The rule of the windows: a connection's is more than what its streams can hold together.
async fn stalled_readers_are_in_nobodys_way(links: Links<'_>) {
    let mut stalled = Vec::new();
    for _ in 0..12 {
        let (from, to) = lanes(links, CONFIG).await;
        // More than a stream's window, so that each one is full.
        for _ in 0..8 {
            let sent = from.sender.try_send(vec![0; STREAM_WINDOW_BYTES as usize / 4]);
            assert_eq!(sent, Ok(()));
        }
        stalled.push((from, to));
    }
    let (from, mut to) = lanes(links, CONFIG).await;
    for number in 0..50 {
        from.sender.send(message(number, 20_000)).await.unwrap();
        assert_eq!(to.receiver.receive().await, Ok(Some(message(number, 20_000))));
    }
}

async fn streams_come_back(links: Links<'_>) {
    for _ in 0..STREAMS_MAX * 2 {
        drop(lanes(links, CONFIG).await);
    }
}

async fn the_end_of_the_link_ends_its_lanes((one, other): Links<'_>) {
    let (from, mut to) = lanes((one, other), CONFIG).await;
    one.close(CloseReason::Leaving);
    let end = to.receiver.receive().await;
    assert!(matches!(end, Err(LaneError::Broken(_) | LaneError::Reset)), "{end:?}");
    while from.sender.send(vec![0; 1000]).await.is_ok() {}
    while to.sender.send(vec![0; 1000]).await.is_ok() {}
}

fn links() -> (Arc<dyn Link>, Arc<dyn Link>) {
    let identity = |name: &str| PeerIdentity { node: name.parse().unwrap(), role: Role::Worker };
    memory::pair(identity("a"), identity("b"), Purpose::Data)
}

#[tokio::test(start_paused = true)]
async fn lanes_over_memory() {
    let (one, other) = links();
    suite(&*one, &*other).await;
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_lane_on_either_side() {
    let (one, other) = links();
    let small = LaneConfig { message_bytes_max: 10, ..CONFIG };
    let (from, _to) = lanes((&*one, &*other), small).await;
    assert_eq!(from.sender.send(vec![0; 10]).await, Ok(()));
    assert_eq!(from.sender.send(vec![0; 11]).await, Err(LaneEnded));
    assert_eq!(from.sender.send(vec![0; 10]).await, Err(LaneEnded));

    for bytes in [11, 3 * CHUNK_BYTES_MAX] {
        let from = Lane::new(one.open(Priority::Normal).await.unwrap(), CONFIG);
        from.sender.send(vec![0; bytes]).await.unwrap();
        let mut to = Lane::new(other.accept().await.unwrap(), small);
        let too_long = LaneError::TooLong { bytes_max: 10 };
        assert_eq!(to.receiver.receive().await, Err(too_long));
    }
}

#[tokio::test]
async fn a_message_longer_than_the_queue_goes_when_it_is_empty() {
    let (one, other) = links();
    let narrow = LaneConfig { queue_bytes_max: 1000, ..CONFIG };
    let (from, mut to) = lanes((&*one, &*other), narrow).await;
    let send = async {
        from.sender.send(message(0, 100_000)).await.unwrap();
        from.sender.send(message(1, 5)).await.unwrap();
    };
    let receive = async {
        assert_eq!(to.receiver.receive().await, Ok(Some(message(0, 100_000))));
        assert_eq!(to.receiver.receive().await, Ok(Some(message(1, 5))));
    };
    tokio::join!(send, receive);
}

/// No writer runs while this test does not wait, so nothing leaves the queue.
#[tokio::test]
async fn a_full_queue_gives_the_message_back_and_empty_messages_count_too() {
    let (one, _other) = links();
    let narrow = LaneConfig { queue_bytes_max: 640, ..CONFIG };
    let lane = Lane::new(one.open(Priority::Normal).await.unwrap(), narrow);
    for _ in 0..10 {
        assert_eq!(lane.sender.try_send(Vec::new()), Ok(()));
    }
    assert_eq!(lane.sender.try_send(vec![7]), Err(TrySendError::Full(vec![7])));
    assert_eq!(lane.sender.queued_bytes(), 640);
}

async fn received(bytes: &[u8], shuts_down: bool) -> (Vec<Vec<u8>>, LaneError) {
    let (one, other) = links();
    let mut stream = one.open(Priority::Normal).await.unwrap();
    let write = async {
        // The reader may be gone before all is written.
        let _ = stream.send.write_all(bytes).await;
        if shuts_down {
            let _ = stream.send.shutdown().await;
        }
        let _ = stream.receive.read_u8().await;
    };
    let read = async {
        let mut to = Lane::new(other.accept().await.unwrap(), CONFIG);
        let mut messages = Vec::new();
        loop {
            match to.receiver.receive().await {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return (messages, LaneError::Broken("in order".to_owned())),
                Err(error) => return (messages, error),
            }
        }
    };
    tokio::join!(write, read).1
}

#[tokio::test]
async fn chunks_that_no_writer_of_ours_makes_are_refused() {
    let header = |bytes: u32| bytes.to_le_bytes().to_vec();
    for refused in [header(MORE), header(MORE | 5), header(CHUNK_BYTES_MAX as u32 + 1)] {
        let (messages, error) = received(&refused, false).await;
        assert!(messages.is_empty() && matches!(error, LaneError::Malformed(_)), "{error:?}");
    }
}

/// LA-3: what a poll of the receiver holds at most, against what has come.
#[tokio::test]
async fn memory_follows_what_has_arrived_and_not_what_is_claimed() {
    let (one, other) = links();
    let config = LaneConfig { message_bytes_max: 64 << 20, ..CONFIG };
    let mut stream = one.open(Priority::Normal).await.unwrap();
    let header = (MORE | CHUNK_BYTES_MAX as u32).to_le_bytes();
    let chunk = [&header[..], &[1; CHUNK_BYTES_MAX]].concat();
    stream.send.write_all(&chunk[..5]).await.unwrap();
    let mut to = Lane::new(other.accept().await.unwrap(), config);
    let mut arrived = 1;
    let mut held = 0;
    let mut check = |arrived: usize| {
        let (polled, most, kept) = allocated_and_kept(|| to.receiver.receive().now_or_never());
        assert!(polled.is_none());
        let most = held as usize + most;
        assert!(most <= arrived * 3 / 2 + CHUNK_BYTES_MAX + 1024, "{most} of {arrived}");
        held += kept;
    };
    check(arrived);
    stream.send.write_all(&chunk[5..]).await.unwrap();
    for _ in 0..100 {
        arrived += CHUNK_BYTES_MAX;
        check(arrived);
        stream.send.write_all(&chunk).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the bytes, and whether they end or not: messages, then one end. No panic.
    #[test]
    fn any_bytes_do_no_harm(
        bytes in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..3000),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (messages, _) = runtime.block_on(received(&bytes, true));
        let whole: usize = messages.iter().map(|message| message.len() + HEADER_BYTES).sum();
        prop_assert!(whole <= bytes.len());
    }
}
