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
/// A control connection's streams are few.
pub const CONTROL_WINDOW_BYTES: u32 = 4 << 20;
/// Handshakes that are under way on one endpoint.
pub const INCOMING_MAX: usize = 256;

/// A quiet connection is kept alive by a packet every so often.
pub const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// A peer that has said nothing for this long is gone.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// From the first packet to a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
