//! Messages to bytes and back.
//!
//! A frame is one byte, the version of the format, and then a message as bincode writes it. Nothing
//! else of ours knows of bincode but the messages, by its derives; `codec_tests.rs` holds the bytes
//! down, so that a change of format is seen and becomes a new version.
//!
//! What a peer sends may be anything. So the cap on a frame is checked before anything is allocated
//! for it; bincode refuses a container that claims more memory than `limit` allows; and every byte
//! must be a part of the message. Two kinds of types defeat the limit and must not be on the wire:
//! recursive ones, which can overflow the stack, and a `Vec` of a type without size, which can
//! count for ever.

use bincode::config::{Configuration, standard};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

/// The first byte of every frame.
pub const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// What was to be sent, or what came, is longer than it may be.
    #[error("longer than {bytes_max} bytes")]
    TooLong { bytes_max: usize },
    #[error("nothing, not even a version")]
    Empty,
    #[error("of version {0}, expected version {VERSION}")]
    Version(u8),
    /// It claims to hold more than a frame of its length has room for.
    #[error("claims more memory than its {bytes} bytes may take")]
    TooLarge { bytes: usize },
    #[error("{bytes} bytes after the message")]
    Trailing { bytes: usize },
    #[error("not a message of the expected kind: {0}")]
    Malformed(String),
    #[error("cannot be encoded: {0}")]
    Unencodable(String),
}

/// The frame of a message, if it has `bytes_max` bytes at most.
pub fn encode<T: Encode>(message: &T, bytes_max: usize) -> Result<Vec<u8>, CodecError> {
    let mut bounded = Bounded { bytes: Vec::new(), bytes_max, is_full: false };
    let written = bounded
        .write(&[VERSION])
        .and_then(|()| bincode::encode_into_writer(message, &mut bounded, standard()));
    match written {
        Ok(()) => Ok(bounded.bytes),
        Err(_) if bounded.is_full => Err(CodecError::TooLong { bytes_max }),
        Err(error) => Err(CodecError::Unencodable(error.to_string())),
    }
}

/// The message of a frame.
pub fn decode<T: Decode<()>>(frame: &[u8], bytes_max: usize) -> Result<T, CodecError> {
    if frame.len() > bytes_max {
        return Err(CodecError::TooLong { bytes_max });
    }
    let (version, body) = frame.split_first().ok_or(CodecError::Empty)?;
    if *version != VERSION {
        return Err(CodecError::Version(*version));
    }
    let within = match frame.len() {
        bytes if bytes <= TINY => within::<T, { limit(TINY) }>,
        bytes if bytes <= SMALL => within::<T, { limit(SMALL) }>,
        bytes if bytes <= MEDIUM => within::<T, { limit(MEDIUM) }>,
        bytes if bytes <= LARGE => within::<T, { limit(LARGE) }>,
        _ => within::<T, { limit(HUGE) }>,
    };
    let (message, used) = within(body).map_err(|error| match error {
        DecodeError::LimitExceeded => CodecError::TooLarge { bytes: frame.len() },
        error => CodecError::Malformed(said(&error)),
    })?;
    match body.len() - used {
        0 => Ok(message),
        bytes => Err(CodecError::Trailing { bytes }),
    }
}

// bincode takes its limit as a constant, so lengths of frames fall into classes. Each is what the
// longest frame in it has; what is longer than the last is so by its caller's own cap.
const TINY: usize = 16 << 10;
const SMALL: usize = 64 << 10;
const MEDIUM: usize = 1 << 20;
const LARGE: usize = 16 << 20;
const HUGE: usize = 320 << 20;

/// Bytes of memory that the containers of a message may claim before their contents are there. A
/// string of one byte on the wire has 24 in memory, and an empty one no more than its length.
const fn limit(frame_bytes: usize) -> usize {
    4 * frame_bytes
}

fn within<T: Decode<()>, const LIMIT: usize>(body: &[u8]) -> Result<(T, usize), DecodeError> {
    let config: Configuration = standard();
    bincode::decode_from_slice(body, config.with_limit::<LIMIT>())
}

/// What bincode says of a fault, in few words: it prints all names of an enum's variants.
fn said(error: &DecodeError) -> String {
    match error {
        DecodeError::UnexpectedEnd { additional } => format!("{additional} bytes are missing"),
        DecodeError::UnexpectedVariant { type_name, found, .. } => {
            format!("{type_name} has no variant {found}")
        }
        DecodeError::Utf8 { .. } => "text that is not UTF-8".to_owned(),
        DecodeError::OtherString(said) => said.clone(),
        error => error.to_string(),
    }
}

/// Grows up to a length, so that a message that is too long is not written out to be measured.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_full: bool,
}

impl Writer for Bounded {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() > self.bytes_max - self.bytes.len() {
            self.is_full = true;
            return Err(EncodeError::UnexpectedEnd);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
pub(crate) mod tests;
