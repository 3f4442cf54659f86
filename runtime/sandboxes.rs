//! Which driver a run uses: the one that was asked for, or the best that this machine has.

use std::sync::Arc;

use orcapack_actors::docker::DockerDriver;
use orcapack_actors::process::{ProcessConfig, ProcessDriver};
use orcapack_actors::sandbox::{Driver, SandboxError};

use crate::config::{SandboxConfig, SandboxDriver};

/// The driver for a configuration. `auto` is docker when its engine answers, else process.
///
/// # Errors
/// The driver that was asked for cannot be used here; the message says why.
pub async fn choose(config: &SandboxConfig) -> Result<Arc<dyn Driver>, SandboxError> {
    let docker = DockerDriver::from_env();
    match config.driver {
        SandboxDriver::Docker => {
            docker.ping().await?;
            Ok(Arc::new(docker))
        }
        SandboxDriver::Auto if docker.ping().await.is_ok() => Ok(Arc::new(docker)),
        SandboxDriver::Auto | SandboxDriver::Process => {
            Ok(Arc::new(ProcessDriver::open(ProcessConfig { cache: config.cache_dir.clone() })?))
        }
    }
}
