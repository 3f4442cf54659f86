//! From a rollout's trajectory to what it gives to be trained on.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use orcapack_tasks::trajectory::Trajectory;
use orcapack_tasks::{Defect, Defects};
use orcapack_trainer::samples::from_trajectory::{self, Origin, Sample};
use orcapack_trainer::text::conversation::Renderer;

use crate::exit::Failure;
use crate::record;

/// The trajectories of a run.
#[derive(Clone)]
pub struct Trajectories {
    folder: PathBuf,
    renderer: Arc<Renderer>,
}

impl Trajectories {
    pub fn new(folder: PathBuf, renderer: Renderer) -> Self {
        Self { folder, renderer: Arc::new(renderer) }
    }

    /// What the orchestrator of an attempt has sampled. None, where the attempt has no trajectory:
    /// nothing was said.
    ///
    /// # Errors
    /// One that cannot be read, or does not fit the policy.
    pub async fn samples(&self, rollout: u32, attempt: u32) -> Result<Vec<Sample>, Failure> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read(rollout, attempt)).await;
        let samples = read.map_err(|error| Failure::internal(error.to_string()))?;
        Ok(samples?)
    }

    fn read(&self, rollout: u32, attempt: u32) -> Result<Vec<Sample>, Defects> {
        let file = self.folder.join(record::trajectory_name(rollout, attempt));
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(Defect::new(&file, "a readable trajectory", error.to_string()).into());
            }
        };
        let trajectory = Trajectory::from_json(&file, &bytes)?;
        from_trajectory::from_trajectory(&file, &trajectory, &self.renderer, Origin::Sampled)
    }
}
