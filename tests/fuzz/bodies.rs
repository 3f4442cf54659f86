//! What is done with hostile bytes, by the fuzzers of this folder and by `tests/hostile_wire`: the
//! program's own readers, which must neither panic nor hold more than they may.

use bincode::Decode;
use orcapack::calls::{Answer, Question};
use orcapack::train::delivery::weights_wire::{FromSampler, Supply, ToSampler};
use orcapack::train::remote::Berth;
use orcapack::train::remote::lobby::Hello;
use orcapack::wire::{Attach, FromNode, ToNode};
use orcapack_cluster::caps::CONTROL_MESSAGE_BYTES_MAX;
use orcapack_cluster::{codec, hostile};

/// One frame, as each kind of message that there is. How many kinds it is a message of.
pub fn codec(frame: &[u8]) -> usize {
    fn is<T: Decode<()>>(frame: &[u8]) -> usize {
        usize::from(codec::decode::<T>(frame, CONTROL_MESSAGE_BYTES_MAX).is_ok())
    }
    hostile::decode_all(frame)
        + is::<Question>(frame)
        + is::<Answer>(frame)
        + is::<Attach>(frame)
        + is::<ToNode>(frame)
        + is::<FromNode>(frame)
        + is::<Supply>(frame)
        + is::<ToSampler>(frame)
        + is::<FromSampler>(frame)
        + is::<Berth>(frame)
        + is::<Hello>(frame)
}

/// Messages on a lane may have so many bytes here.
pub const LANE_MESSAGE_BYTES_MAX: usize = 256 << 10;

/// A lane's bytes, which come in pieces as the first of them say. How many messages they are.
pub fn lane(bytes: &[u8]) -> usize {
    let (piece, bytes) = bytes.split_first().map_or((1, bytes), |(piece, rest)| (*piece, rest));
    let pieces = Pieces { bytes: bytes.to_vec(), at: 0, piece: 1 + 64 * usize::from(piece) };
    let reading = std::pin::pin!(hostile::read_lane(pieces, LANE_MESSAGE_BYTES_MAX));
    // It waits for nothing: the stream has its bytes.
    match reading.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready((messages, _)) => messages,
        std::task::Poll::Pending => panic!("a lane that waits"),
    }
}

/// A stream that gives so many bytes at a time.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    piece: usize,
}

impl tokio::io::AsyncRead for Pieces {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let rest = &self.bytes[self.at..];
        let count = rest.len().min(self.piece).min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.at += count;
        std::task::Poll::Ready(Ok(()))
    }
}
