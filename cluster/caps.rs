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
/// A stranger who joins has one stream, and little to say.
pub const JOIN_STREAMS_MAX: u32 = 1;
pub const JOIN_WINDOW_BYTES: u32 = 128 << 10;
/// What has been written and the peer has not acknowledged, on one connection.
pub const SEND_WINDOW_BYTES: u64 = 16 << 20;
pub const CONTROL_SEND_WINDOW_BYTES: u64 = 4 << 20;
/// Handshakes that are under way on one endpoint, and connections that nobody has taken yet.
pub const INCOMING_MAX: usize = 256;
/// From so many on, whoever connects must first show that its address is its own.
pub const INCOMING_UNVALIDATED_MAX: usize = 32;
/// Packets of a connection that is not looked at yet.
pub const INCOMING_BUFFER_BYTES: u64 = 64 << 10;
/// What a socket holds while this process is busy.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// A quiet connection is kept alive by a packet every so often.
pub const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// A peer that has said nothing for this long is gone.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// From the first packet to a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the peers of a process that ends are waited for.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// To a peer and back, before it is known.
pub const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(20);

// A connection goes on while all of its streams but one are stalled.
const _: () = assert!(CONNECTION_WINDOW_BYTES > STREAMS_MAX * STREAM_WINDOW_BYTES);
const _: () = assert!(CONTROL_WINDOW_BYTES > STREAMS_MAX * CONTROL_STREAM_WINDOW_BYTES);
