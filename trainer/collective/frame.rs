//! What goes over a ring's wire: frames of a header and a payload, all little-endian.
//!
//! | bytes | of the header |
//! |---|---|
//! | 0..4 | `OCR1` |
//! | 4 | kind: 1 f32 to be added, 2 f32 to be copied, 3 bf16 to be copied, 255 a farewell |
//! | 5 | operation: 1 all-reduce, 2 reduce-scatter, 3 all-gather; 0 for a farewell |
//! | 6..8 | 0 |
//! | 8..16 | epoch |
//! | 16..24 | number of the call, from 0 |
//! | 24..32 | values of the call |
//! | 32..36 | chunk |
//! | 36..40 | segment of the chunk |
//! | 40..44 | bytes of the payload |
//! | 44..48 | CRC-32 of the payload |
//! | 48..52 | CRC-32 of the bytes before |
//!
//! A receiver knows which frame has to come: all of the header is compared.

use std::fmt;

use crate::caps::FAREWELL_BYTES_MAX;
use crate::collective::schedule::Operation;

const _: () = assert!(cfg!(target_endian = "little"), "values go over the wire as they lie");

pub const HEADER_BYTES: usize = 52;
const MAGIC: [u8; 4] = *b"OCR1";

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// f32, for the receiver to add.
    Add,
    /// f32, in the place of the receiver's.
    Copy,
    /// The same in bf16.
    CopyBf16,
}

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub kind: Kind,
    pub operation: Operation,
    pub call: u64,
    /// Values of the call.
    pub len: u64,
    pub chunk: u32,
    pub number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Segment(Segment),
    /// Why the sender has failed: a [`farewell`](crate::collective::farewell).
    Farewell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub epoch: u64,
    pub content: Content,
    /// Of the payload.
    pub bytes: u32,
    /// Of the payload.
    pub checksum: u32,
}

/// A header that nobody has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("not a frame")]
    Magic,
    #[error("a header whose checksum is wrong")]
    Checksum,
    #[error("a header of no known kind")]
    Kind,
    #[error("a farewell of {0} bytes")]
    Long(u32),
}

pub fn checksum(payload: &[u8]) -> u32 {
    crc32fast::hash(payload)
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        match self.content {
            Content::Farewell => put(4, &[255]),
            Content::Segment(segment) => {
                put(4, &[segment.kind as u8 + 1, segment.operation as u8 + 1]);
                put(16, &segment.call.to_le_bytes());
                put(24, &segment.len.to_le_bytes());
                put(32, &segment.chunk.to_le_bytes());
                put(36, &segment.number.to_le_bytes());
            }
        }
        put(8, &self.epoch.to_le_bytes());
        put(40, &self.bytes.to_le_bytes());
        put(44, &self.checksum.to_le_bytes());
        let sum = checksum(&bytes[..48]).to_le_bytes();
        bytes[48..].copy_from_slice(&sum);
        bytes
    }

    /// # Errors
    /// Bytes that no [`Header::encode`] gives.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let u32_at = |at: usize| {
            let mut field = [0; 4];
            field.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(field)
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..4] != MAGIC {
            return Err(FrameError::Magic);
        }
        if checksum(&bytes[..48]) != u32_at(48) {
            return Err(FrameError::Checksum);
        }
        let content = match bytes[4..8] {
            [255, 0, 0, 0] if bytes[16..40].iter().all(|byte| *byte == 0) => Content::Farewell,
            [kind @ 1..=3, operation @ 1..=3, 0, 0] => Content::Segment(Segment {
                kind: [Kind::Add, Kind::Copy, Kind::CopyBf16][usize::from(kind - 1)],
                operation: Operation::ALL[usize::from(operation - 1)],
                call: u64_at(16),
                len: u64_at(24),
                chunk: u32_at(32),
                number: u32_at(36),
            }),
            _ => return Err(FrameError::Kind),
        };
        let header = Self { epoch: u64_at(8), content, bytes: u32_at(40), checksum: u32_at(44) };
        match header {
            Self { content: Content::Farewell, bytes, .. }
                if bytes as usize > FAREWELL_BYTES_MAX =>
            {
                Err(FrameError::Long(bytes))
            }
            header => Ok(header),
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, content, bytes, .. } = self;
        match content {
            Content::Farewell => write!(f, "a farewell in epoch {epoch}"),
            Content::Segment(Segment { kind, operation, call, len, chunk, number }) => write!(
                f,
                "call {call} of epoch {epoch}, {} of {len} values, chunk {chunk} segment {number} \
                 of {bytes} bytes ({kind:?})",
                operation.as_str(),
            ),
        }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
