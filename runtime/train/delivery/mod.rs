//! New weights to everything that samples.
//!
//! ```text
//! Snapshot ── Deliveries ── Embedded      engines of this process, through their shelves
//!                        ├─ Broadcast     engines on the nodes of a cluster
//!                        └─ Servers       vLLM and SGLang, from a directory
//! ```
//! A delivery is over when every target that is there has the weights: they are brought to all side
//! by side. What comes later gets the newest before it samples, and nothing goes back to an older
//! version (see [`shelf`](crate::shelf)).

pub mod broadcast;
mod broadcast_board;
pub mod embedded;
pub mod node;
pub mod server;
pub mod servers;
mod sglang;
mod vllm;
pub mod weights_dir;
pub mod weights_wire;

use std::fmt;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use orcapack_trainer::snapshot::Snapshot;

use crate::shelf::PutError;
use crate::train::delivery::server::ServerError;

/// A way to bring weights to targets.
pub trait Delivery: Send + Sync {
    /// Resolves when every target that is there samples with these weights, or newer ones. To
    /// deliver the same again is no error.
    ///
    /// # Errors
    /// Weights that are older than what was delivered, or a target that cannot have them.
    fn deliver<'a>(
        &'a self,
        weights: &'a Snapshot,
    ) -> BoxFuture<'a, Result<Delivered, DeliveryError>>;
}

/// Who has the weights now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivered {
    pub targets: Vec<Reached>,
    /// Targets that went away meanwhile, and why. They get the newest before they sample again.
    pub lost: Vec<(String, String)>,
}

/// A target that has the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    pub target: String,
    /// From the delivery's begin.
    pub after: Duration,
}

/// Why weights were not delivered. What was reached before keeps them.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("version {version} was to be delivered after version {newest}")]
    Older { version: u64, newest: u64 },
    #[error("the engine of this process: {0}")]
    Embedded(PutError),
    #[error("the weights cannot be prepared: {0}")]
    Prepare(String),
    /// Every server that has failed.
    #[error("{}", Lines(.0))]
    Servers(Vec<ServerError>),
}

struct Lines<'e>(&'e [ServerError]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if at > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// Several ways at once.
#[derive(Default)]
pub struct Deliveries(pub Vec<Box<dyn Delivery>>);

impl Delivery for Deliveries {
    /// All are gone to their ends, whatever becomes of one.
    fn deliver<'a>(
        &'a self,
        weights: &'a Snapshot,
    ) -> BoxFuture<'a, Result<Delivered, DeliveryError>> {
        Box::pin(async move {
            let ways = join_all(self.0.iter().map(|way| way.deliver(weights))).await;
            let mut all = Delivered::default();
            for delivered in ways {
                let Delivered { targets, lost } = delivered?;
                all.targets.extend(targets);
                all.lost.extend(lost);
            }
            Ok(all)
        })
    }
}
