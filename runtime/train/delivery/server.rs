//! One vLLM or SGLang server that samples, and the tries to bring it weights.

use std::path::Path;
use std::time::Duration;

use orcapack_actors::model::ModelError;
use orcapack_actors::model::backoff::{self, Next};
use orcapack_actors::model::control::{Control, ControlError};
use orcapack_actors::model::settings::{EndpointKind, EndpointSettings};

use crate::files;
use crate::train::delivery::{sglang, vllm};

/// A server, as the endpoint of its name is configured.
pub struct WeightServer {
    name: String,
    protocol: Protocol,
    control: Control,
    tries_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Vllm,
    Sglang,
}

/// A server that has not taken weights. It may be paused: until it has taken some, it is not to
/// sample.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{server}: version {version} not taken in {tries} tries: {error}")]
pub struct ServerError {
    pub server: String,
    pub version: u64,
    pub tries: u32,
    pub error: ModelError,
}

impl WeightServer {
    /// `None` for an endpoint of a kind that takes no weights. Each order is to be answered within
    /// `limit`, which covers the reading of the weights; transient failures only are tried again.
    ///
    /// # Errors
    /// A URL or key with which nothing could ever be ordered.
    pub fn new(
        settings: &EndpointSettings,
        limit: Duration,
        tries_max: u32,
    ) -> Result<Option<Self>, ModelError> {
        let protocol = match settings.kind {
            EndpointKind::Vllm => Protocol::Vllm,
            EndpointKind::Sglang => Protocol::Sglang,
            _ => return Ok(None),
        };
        let control = Control::new(settings, limit)?;
        Ok(Some(Self { name: settings.name.clone(), protocol, control, tries_max }))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Resolves when the server samples with the weights in `dir`. Tries begin at the beginning:
    /// every order may come again.
    ///
    /// # Errors
    /// What the last try failed with.
    pub async fn bring(&self, dir: &Path, version: u64) -> Result<(), ServerError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let Err(failed) = self.try_once(dir, &version.to_string()).await else { return Ok(()) };
            let error = failed.error;
            match backoff::next(tries, self.tries_max, &error, jitter(), Duration::MAX) {
                Next::TryIn(delay) => {
                    let server = &self.name;
                    tracing::warn!(server, version, %error, ?delay, "weights are brought again");
                    tokio::time::sleep(delay).await;
                }
                Next::GiveUp(_) => {
                    let server = self.name.clone();
                    return Err(ServerError { server, version, tries, error });
                }
            }
        }
    }

    /// Whether the server says that it samples with another version: it has started anew since.
    /// One that tells no versions, or nothing at all, is believed.
    pub async fn has_another_than(&self, version: u64) -> bool {
        let told = match self.protocol {
            Protocol::Vllm => vllm::version(&self.control).await,
            Protocol::Sglang => sglang::version(&self.control).await,
        };
        match told {
            Ok(told) => told.is_some_and(|told| told != version.to_string()),
            Err(error) => {
                tracing::debug!(server = self.name, %error, "no word of its weights");
                false
            }
        }
    }

    async fn try_once(&self, dir: &Path, version: &str) -> Result<(), ControlError> {
        match self.protocol {
            Protocol::Vllm => vllm::bring(&self.control, dir, version).await,
            Protocol::Sglang => sglang::bring(&self.control, dir, version).await,
        }
    }
}

/// From 0 up to 1.
fn jitter() -> f64 {
    // Without random numbers, all who failed together come back together.
    let random = files::random::<4>().map_or(0, u32::from_le_bytes);
    f64::from(random) / (f64::from(u32::MAX) + 1.0)
}
