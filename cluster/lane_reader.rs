//! The receiving side of a lane: chunks to messages.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::caps::CHUNK_BYTES_MAX;
use crate::lane::{HEADER_BYTES, MORE};

/// What a lane reads into at first. It grows with what comes, up to a chunk.
const BUFFER_BYTES_MIN: usize = 2 << 10;
const BUFFER_BYTES_MAX: usize = CHUNK_BYTES_MAX + HEADER_BYTES;

/// How a lane ended before its time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    #[error("a message of more than {bytes_max} bytes")]
    TooLong { bytes_max: usize },
    /// No writer of ours writes this.
    #[error("not a lane: {0}")]
    Malformed(&'static str),
    #[error("the stream ended within a message")]
    Cut,
    /// The peer dropped its sender's stream, or its process gave it up.
    #[error("reset by the peer")]
    Reset,
    /// The connection is gone.
    #[error("broken: {0}")]
    Broken(String),
}

/// Takes messages off the lane. Dropping it tells the peer, whose senders then end.
pub struct LaneReceiver {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    message_bytes_max: usize,
    /// What was read; of it, the bytes before `start` are done with.
    buffer: Vec<u8>,
    start: usize,
    /// The chunks of a message whose last one has not come.
    parts: Vec<u8>,
    end: Option<Result<(), LaneError>>,
}

impl LaneReceiver {
    pub(crate) fn new(stream: Box<dyn AsyncRead + Send + Unpin>, message_bytes_max: usize) -> Self {
        let (buffer, parts) = (Vec::new(), Vec::new());
        Self { stream, message_bytes_max, buffer, start: 0, parts, end: None }
    }

    /// The next message; `None` when the peer has finished, in order. What it answers last, it
    /// answers ever after. Dropped before it is done, it has lost nothing.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, LaneError> {
        while self.end.is_none() {
            match self.parse() {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => match self.read().await {
                    Ok(0) if self.start == self.buffer.len() && self.parts.is_empty() => {
                        self.end(Ok(()));
                    }
                    Ok(0) => self.end(Err(LaneError::Cut)),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                        self.end(Err(LaneError::Reset));
                    }
                    Err(error) => self.end(Err(LaneError::Broken(error.to_string()))),
                },
                Err(error) => self.end(Err(error)),
            }
        }
        self.end.clone().unwrap_or(Ok(())).map(|()| None)
    }

    /// From the next message on, so long ones may come; for who learns from the first message what
    /// the lane is for.
    pub fn raise_message_bytes_max(&mut self, bytes_max: usize) {
        self.message_bytes_max = self.message_bytes_max.max(bytes_max);
    }

    fn end(&mut self, end: Result<(), LaneError>) {
        self.end = Some(end);
        (self.buffer, self.start, self.parts) = (Vec::new(), 0, Vec::new());
    }

    /// The next message, if all of it has been read.
    fn parse(&mut self) -> Result<Option<Vec<u8>>, LaneError> {
        loop {
            let unread = self.buffer.get(self.start..).unwrap_or_default();
            let Some((header, rest)) = unread.split_first_chunk::<HEADER_BYTES>() else {
                return Ok(None);
            };
            let header = u32::from_le_bytes(*header);
            let (bytes, has_more) = ((header & !MORE) as usize, header & MORE != 0);
            // A peer that writes other chunks could make us work for nothing.
            match bytes {
                0..CHUNK_BYTES_MAX if has_more => {
                    return Err(LaneError::Malformed("a short chunk that others follow"));
                }
                ..=CHUNK_BYTES_MAX => {}
                _ => return Err(LaneError::Malformed("a chunk that is too long")),
            }
            if bytes > self.message_bytes_max - self.parts.len() {
                return Err(LaneError::TooLong { bytes_max: self.message_bytes_max });
            }
            let Some(chunk) = rest.get(..bytes) else { return Ok(None) };
            self.start += HEADER_BYTES + bytes;
            if self.parts.is_empty() && !has_more {
                return Ok(Some(chunk.to_vec()));
            }
            grow(&mut self.parts, bytes, self.message_bytes_max);
            self.parts.extend_from_slice(chunk);
            if !has_more {
                return Ok(Some(std::mem::take(&mut self.parts)));
            }
        }
    }

    /// Reads what is there, at least a byte; 0 at the end of the stream.
    async fn read(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let (length, capacity) = (self.buffer.len(), self.buffer.capacity());
        if length == capacity {
            let wanted = (capacity * 2).clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
            self.buffer.reserve_exact(wanted.saturating_sub(length).max(1));
        }
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// Makes room for a chunk, in steps that keep the copying within a few times the message and the
/// room within half as much again as what has come.
fn grow(parts: &mut Vec<u8>, bytes: usize, bytes_max: usize) {
    let needed = parts.len() + bytes;
    if needed > parts.capacity() {
        let ahead = (needed + parts.len() / 2).min(bytes_max);
        parts.reserve_exact(ahead.max(needed) - parts.len());
    }
}
