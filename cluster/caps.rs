//! Limits on everything that comes from a peer, or waits for one. Units are last in the names.

use std::time::Duration;

/// A message of control: leases, spawns, the end of an actor. They are small, so that none is ever
/// long in another's way.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Any other message, such as a task with its files or the record of an attempt.
pub const MESSAGE_BYTES_MAX: usize = 320 << 20;
/// A long message goes over the wire in pieces of this size.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;
/// What a writer gathers before it writes.
pub const COALESCE_BYTES_MAX: usize = 64 << 10;
/// Streams that a peer may have open on one connection.
pub const STREAMS_MAX: u32 = 256;
/// What is on its way to one stream's reader.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// More than all stalled readers together can hold, or they would block the others for good.
pub const CONNECTION_WINDOW_BYTES: u32 = 96 << 20;
/// The same for a control connection, whose messages are small.
pub const CONTROL_STREAM_WINDOW_BYTES: u32 = 64 << 10;
pub const CONTROL_WINDOW_BYTES: u32 = 20 << 20;
/// A guest has one stream, and little to say.
pub const GUEST_STREAMS_MAX: u32 = 1;
pub const GUEST_WINDOW_BYTES: u32 = 128 << 10;
/// Of a connection for gradients: one stream for each ring that is formed or not quite gone.
pub const GRADIENT_STREAMS_MAX: u32 = 32;
/// Some segments of a ring are on their way while one is added up.
pub const GRADIENT_STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Streams for gradients that were opened here and wait to be taken.
pub const GRADIENT_STREAMS_WAITING_MAX: usize = 64;
/// What has been written and the peer has not acknowledged, on one connection.
pub const SEND_WINDOW_BYTES: u64 = 16 << 20;
pub const CONTROL_SEND_WINDOW_BYTES: u64 = 4 << 20;
/// Handshakes that are under way on one endpoint, and connections that nobody has taken yet.
pub const INCOMING_MAX: usize = 256;
/// First packets that are not looked at yet. What comes on top is lost: a burst of strangers should
/// not be enough for that.
pub const INCOMING_QUEUE_MAX: usize = 1024;
/// From so many handshakes on, whoever connects must first show that its address is its own.
pub const INCOMING_UNVALIDATED_MAX: usize = 32;
/// What follows the first packet of a connection that is not looked at yet.
pub const INCOMING_BUFFER_BYTES: u64 = 16 << 10;
/// What a socket holds while this process is busy.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// A quiet connection is kept alive by a packet every so often.
pub const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// A peer that has said nothing for this long is gone. A loss is to be known within 3 s: the first
/// packet after the last that was heard starts this anew, and a busy machine looks late.
pub const IDLE_TIMEOUT: Duration = Duration::from_millis(2250);
/// From the first packet to a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// From an accepted connection to its first message, and between the steps of a handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Each side of a session asks the other for a sign of life this often.
pub const PING_INTERVAL: Duration = Duration::from_millis(500);
/// A peer whose process has said nothing for this long may be on its way out.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(1500);
/// The first redial after a failure comes about this soon; the wait doubles with each that fails.
pub const REDIAL_AFTER: Duration = Duration::from_millis(100);
pub const REDIAL_AFTER_MAX: Duration = Duration::from_secs(3);
/// Who is to be called waits this long before it calls itself: the other may not know it.
pub const CALL_AFTER: Duration = Duration::from_secs(3);
/// Nodes that a process remembers: those that it was told of, and those that came by themselves.
pub const PEERS_MAX: usize = 4096;
/// Actors that one side of a session may have on the other. Each can take two of a connection's
/// streams in one direction, so they are fewer than half of [`STREAMS_MAX`].
pub const ACTORS_MAX: usize = 120;
/// What an actor is told at its start, so that a spawn is a message of control.
pub const SPAWN_ARGS_BYTES_MAX: usize = 48 << 10;
/// The name of a kind of actor.
pub const KIND_BYTES_MAX: usize = 128;
/// Why an actor failed: what is longer is cut.
pub const DOWN_TEXT_BYTES_MAX: usize = 4 << 10;
/// What waits to be written to one lane between actors, of each class, beside one message.
pub const CONTROL_QUEUE_BYTES_MAX: usize = 256 << 10;
pub const DATA_QUEUE_BYTES_MAX: usize = 1 << 20;
/// Events of membership that wait for their reader. More are not lost but made fewer.
pub const EVENTS_MAX: usize = 64;
/// How long the peers of a process that ends are waited for.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// To a peer and back, before it is known.
pub const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(20);

// A connection goes on while all of its streams but one are stalled.
const _: () = assert!(CONNECTION_WINDOW_BYTES > STREAMS_MAX * STREAM_WINDOW_BYTES);
const _: () =
    assert!(CONNECTION_WINDOW_BYTES > GRADIENT_STREAMS_MAX * GRADIENT_STREAM_WINDOW_BYTES);
const _: () = assert!(CONTROL_WINDOW_BYTES > STREAMS_MAX * CONTROL_STREAM_WINDOW_BYTES);
