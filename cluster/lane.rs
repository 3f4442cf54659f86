//! A lane: whole messages over one stream, in order, with a bound on what waits.
//!
//! Senders put messages into a queue that is bounded in bytes. A task of the lane's own, its
//! writer, takes all that is there into writes of [`COALESCE_BYTES_MAX`] or so: that costs a cast a
//! fraction of what a write of its own would. While the peer does not read, the writer stands, the
//! queue fills, and [`LaneSender::send`] waits: there is no other place where messages could pile
//! up.
//!
//! On the wire a message is one or more chunks, each behind four bytes: its length, least byte
//! first, and in the highest bit whether more chunks of the message follow. A chunk that others
//! follow is [`CHUNK_BYTES_MAX`] long.
//!
//! - **LA-1** Messages arrive whole, once and in order, or the lane ends with an error.
//! - **LA-2** A sender holds no more than its queue's bound, a message that was let in when the
//!   queue was empty, and one write.
//! - **LA-3** A receiver allocates for a message what of it has arrived, half as much again, and a
//!   chunk; never what a peer only claims.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::caps::{CHUNK_BYTES_MAX, COALESCE_BYTES_MAX};
use crate::lane_queue::Queue;
pub use crate::lane_reader::{LaneError, LaneReceiver};
use crate::link::Stream;

/// Bytes before each chunk.
pub(crate) const HEADER_BYTES: usize = 4;
/// In a chunk's header: the message goes on in the next one.
pub(crate) const MORE: u32 = 1 << 31;
/// A writer that has nothing to do keeps this much of its buffer.
const BUFFER_KEPT_BYTES: usize = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneConfig {
    /// Of one message, either way. Below 2 GiB.
    pub message_bytes_max: usize,
    /// Of all messages that wait to be written.
    pub queue_bytes_max: usize,
}

pub struct Lane {
    pub sender: LaneSender,
    pub receiver: LaneReceiver,
}

impl Lane {
    /// Starts the writer: needs a tokio runtime.
    pub fn new(stream: Stream, config: LaneConfig) -> Self {
        let queue = Arc::new(Queue::new(config.queue_bytes_max));
        tokio::spawn(write_all(stream.send, queue.clone()));
        let message_bytes_max = config.message_bytes_max;
        Self {
            sender: LaneSender { queue, message_bytes_max },
            receiver: LaneReceiver::new(stream.receive, message_bytes_max),
        }
    }
}

/// Puts messages on the lane. When all clones of it are gone, the lane ends for the peer in order,
/// after what was sent.
pub struct LaneSender {
    queue: Arc<Queue>,
    message_bytes_max: usize,
}

/// The peer reads no more, or the connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lane has ended")]
pub struct LaneEnded;

/// A message that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError {
    #[error("no room in the lane's queue")]
    Full(Vec<u8>),
    #[error("the lane has ended")]
    Ended,
}

impl LaneSender {
    /// Waits for room in the queue, in the order of the calls. Dropped before it is done, it has
    /// sent nothing. A message that is longer than the lane's bound ends the lane, as a message
    /// that the peer would refuse: whoever sends checks lengths before.
    pub async fn send(&self, message: Vec<u8>) -> Result<(), LaneEnded> {
        if message.len() > self.message_bytes_max {
            return Err(self.refuse(message.len()));
        }
        self.queue.push(message).await
    }

    pub fn try_send(&self, message: Vec<u8>) -> Result<(), TrySendError> {
        if message.len() > self.message_bytes_max {
            let LaneEnded = self.refuse(message.len());
            return Err(TrySendError::Ended);
        }
        self.queue.try_push(message)
    }

    /// Whether nothing can be sent any more.
    pub fn is_ended(&self) -> bool {
        self.queue.is_ended()
    }

    /// Bytes that wait to be written, with what each message costs beside its own.
    pub fn queued_bytes(&self) -> usize {
        self.queue.used_bytes()
    }

    fn refuse(&self, bytes: usize) -> LaneEnded {
        tracing::warn!(bytes, bytes_max = self.message_bytes_max, "message too long for its lane");
        self.queue.end();
        LaneEnded
    }
}

impl Clone for LaneSender {
    fn clone(&self) -> Self {
        self.queue.add_sender();
        Self { queue: self.queue.clone(), message_bytes_max: self.message_bytes_max }
    }
}

impl Drop for LaneSender {
    fn drop(&mut self) {
        self.queue.remove_sender();
    }
}

/// The writer: ends when the senders are gone and all is written, or when the stream ends.
async fn write_all(mut stream: Box<dyn AsyncWrite + Send + Unpin>, queue: Arc<Queue>) {
    // Whatever ends this task, its senders hear of it.
    let _end = EndOnDrop(queue.clone());
    let (mut batch, mut buffer) = (VecDeque::new(), Vec::new());
    while queue.take(&mut batch).await {
        if write_batch(&mut stream, &mut buffer, &mut batch, &queue).await.is_err() {
            return;
        }
        if buffer.capacity() > BUFFER_KEPT_BYTES && queue.is_empty() {
            buffer = Vec::new();
        }
    }
    if !queue.is_ended() {
        // The peer hears of the end, or is gone.
        let _ = stream.shutdown().await;
    }
}

async fn write_batch(
    stream: &mut (dyn AsyncWrite + Send + Unpin),
    buffer: &mut Vec<u8>,
    batch: &mut VecDeque<Vec<u8>>,
    queue: &Queue,
) -> io::Result<()> {
    let mut held = 0;
    while let Some(message) = batch.pop_front() {
        write_message(stream, buffer, &message).await?;
        held += queue.cost(message.len());
        if buffer.len() >= COALESCE_BYTES_MAX || batch.is_empty() {
            write_buffer(stream, buffer).await?;
            // Only now: what is in the buffer still waits.
            queue.release(held);
            held = 0;
        }
    }
    stream.flush().await
}

struct EndOnDrop(Arc<Queue>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Appends a message to the buffer, which is written out each time that it is full.
async fn write_message(
    stream: &mut (dyn AsyncWrite + Send + Unpin),
    buffer: &mut Vec<u8>,
    message: &[u8],
) -> io::Result<()> {
    let mut rest = message;
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK_BYTES_MAX));
        let more = if after.is_empty() { 0 } else { MORE };
        buffer.extend_from_slice(&(chunk.len() as u32 | more).to_le_bytes());
        buffer.extend_from_slice(chunk);
        if after.is_empty() {
            return Ok(());
        }
        write_buffer(stream, buffer).await?;
        rest = after;
    }
}

async fn write_buffer(
    stream: &mut (dyn AsyncWrite + Send + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    stream.write_all(buffer).await?;
    buffer.clear();
    Ok(())
}

#[cfg(test)]
#[path = "lane_tests.rs"]
pub(crate) mod tests;
