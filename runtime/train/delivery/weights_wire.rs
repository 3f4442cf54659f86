//! What a coordinator and a node say to each other over the [port] of the remote actor `weights`.
//!
//! The coordinator spawns one on each node of its run, with [`Supply`]. The node says what it has;
//! from then on weights come in chunks, each version after the one before it, and the node says of
//! each what became of it. All chunks are of class `Bulk`, and so is what stands before them, so
//! that they stay in order and are in nobody's way.
//!
//! [port]: orcapack_cluster::remote::Port

use bincode::{Decode, Encode};

/// The kind of the remote actor.
pub const WEIGHTS: &str = "weights";

/// Of the stream of weights, in one message.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A coordinator wants to bring weights here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Supply {
    /// The run's id.
    pub run: String,
    /// Which life of the run's coordinator this is.
    pub life: u64,
    /// The policy's directory, as the run's configuration names it.
    pub checkpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToSampler {
    /// Weights come; whatever is still missing of those before is not to come.
    Begin {
        version: u64,
        /// SHA-256, as [`Snapshot::digest`](orcapack_trainer::snapshot::Snapshot::digest).
        digest: [u8; 32],
        /// Of the whole stream.
        bytes: u64,
    },
    Chunk(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FromSampler {
    /// The first message: the version that it has of this life, if it has one.
    Ready { version: Option<u64> },
    /// Whatever samples does so with this version, or a newer one.
    Has { version: u64 },
    /// It came, and was not taken.
    Refused { version: u64, why: String },
}
