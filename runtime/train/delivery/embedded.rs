//! Weights to an engine of this process.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use orcapack_trainer::engine::weights::EngineWeights;
use orcapack_trainer::snapshot::Snapshot;
use tokio::time::Instant;

use crate::shelf::{PutError, Shelf};
use crate::train::delivery::{Delivered, Delivery, DeliveryError, Reached};

/// As targets are named.
const HERE: &str = "this process";

/// The engine of one policy of this process, running or not.
pub struct Embedded {
    shelf: Arc<Shelf>,
}

impl Embedded {
    /// Of [`RunEngines::shelf`](crate::embedded::RunEngines::shelf). As long as this is there, an
    /// engine that starts does so with what was delivered last.
    pub fn new(shelf: Arc<Shelf>) -> Self {
        Self { shelf }
    }

    async fn put(&self, weights: &Snapshot) -> Result<Delivered, DeliveryError> {
        let begun = Instant::now();
        let weights = pack(weights.clone()).await.map_err(DeliveryError::Prepare)?;
        // A process has one life.
        match self.shelf.put(0, weights).await {
            Ok(()) => {
                let reached = Reached { target: HERE.to_owned(), after: begun.elapsed() };
                Ok(Delivered { targets: vec![reached], lost: Vec::new() })
            }
            Err(PutError::Older(late, newer)) => {
                Err(DeliveryError::Older { version: late.version, newest: newer.version })
            }
            Err(error) => Err(DeliveryError::Embedded(error)),
        }
    }
}

impl Delivery for Embedded {
    fn deliver<'a>(
        &'a self,
        weights: &'a Snapshot,
    ) -> BoxFuture<'a, Result<Delivered, DeliveryError>> {
        Box::pin(self.put(weights))
    }
}

/// As an engine wants them; away from threads that others wait for.
pub(super) async fn pack(weights: Snapshot) -> Result<Arc<EngineWeights>, String> {
    let packing = tokio::task::spawn_blocking(move || EngineWeights::of_snapshot(&weights));
    let packed = packing.await.map_err(|error| error.to_string())?;
    packed.map(Arc::new).map_err(|error| error.to_string())
}
