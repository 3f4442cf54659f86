//! Weights to vLLM and SGLang servers, all of which read them from one directory.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use orcapack_trainer::model::weights_write::WeightsFormat;
use orcapack_trainer::policy::Policy;
use orcapack_trainer::snapshot::Snapshot;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::train::delivery::server::{ServerError, WeightServer};
use crate::train::delivery::{Delivered, Delivery, DeliveryError, Reached, weights_dir};

/// The servers of a run.
pub struct Servers {
    config: Arc<ServersConfig>,
    servers: Vec<WeightServer>,
    /// Whoever has it brings weights.
    newest: Mutex<Option<Written>>,
}

/// Where their weights are written, and how.
pub struct ServersConfig {
    /// On a file system that the servers see at the same path.
    pub folder: PathBuf,
    /// What the weights are of, but for its own.
    pub policy: Policy,
    pub format: WeightsFormat,
}

/// The weights that were delivered last.
struct Written {
    version: u64,
    dir: PathBuf,
    /// Of each server, whether it has taken them.
    taken: Vec<bool>,
}

impl Servers {
    pub fn new(config: ServersConfig, servers: Vec<WeightServer>) -> Self {
        Self { config: Arc::new(config), servers, newest: Mutex::default() }
    }

    /// Brings the newest weights to the servers that have not taken them, or say that they have
    /// others: a server that was started anew samples with those of its command line, and nobody
    /// else tells.
    ///
    /// # Errors
    /// Every server that has not taken them.
    pub async fn refresh(&self) -> Result<Delivered, DeliveryError> {
        match &mut *self.newest.lock().await {
            Some(written) => self.bring(written).await,
            None => Ok(Delivered::default()),
        }
    }

    async fn deliver(&self, weights: &Snapshot) -> Result<Delivered, DeliveryError> {
        let version = weights.version;
        let mut newest = self.newest.lock().await;
        let known = newest.as_ref().map(|written| written.version);
        match known {
            Some(newest) if newest > version => {
                return Err(DeliveryError::Older { version, newest });
            }
            Some(same) if same == version => {}
            _ => {
                let dir = self.write(weights.clone()).await.map_err(DeliveryError::Prepare)?;
                let taken = vec![false; self.servers.len()];
                *newest = Some(Written { version, dir, taken });
            }
        }
        match &mut *newest {
            Some(written) => self.bring(written).await,
            None => Ok(Delivered::default()),
        }
    }

    async fn write(&self, weights: Snapshot) -> Result<PathBuf, String> {
        let config = self.config.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let ServersConfig { folder, policy, format } = &*config;
            let written = weights_dir::write(folder, policy, &weights, *format);
            written.map_err(|error| format!("{}: {error}", folder.display()))
        });
        writing.await.map_err(|error| error.to_string())?
    }

    /// To all at once; each is gone to its end, whatever becomes of another.
    async fn bring(&self, written: &mut Written) -> Result<Delivered, DeliveryError> {
        let begun = Instant::now();
        let Written { version, dir, taken } = written;
        let (version, dir) = (*version, &*dir);
        let bringing = self.servers.iter().zip(taken).map(|(server, taken)| async move {
            if !*taken || server.has_another_than(version).await {
                *taken = false;
                server.bring(dir, version).await?;
                *taken = true;
            }
            let target = server.name().to_owned();
            Ok::<_, ServerError>(Reached { target, after: begun.elapsed() })
        });
        let (mut targets, mut failed) = (Vec::new(), Vec::new());
        for server in join_all(bringing).await {
            match server {
                Ok(reached) => targets.push(reached),
                Err(error) => failed.push(error),
            }
        }
        if failed.is_empty() {
            Ok(Delivered { targets, lost: Vec::new() })
        } else {
            Err(DeliveryError::Servers(failed))
        }
    }
}

impl Delivery for Servers {
    fn deliver<'a>(
        &'a self,
        weights: &'a Snapshot,
    ) -> BoxFuture<'a, Result<Delivered, DeliveryError>> {
        Box::pin(self.deliver(weights))
    }
}
