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

/// What an orchestrator has said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// What it has sampled.
    pub samples: Vec<Sample>,
    /// Actions that it took.
    pub actions: usize,
}

impl Said {
    /// The oldest policy that has sampled a trained token; `None` where there are none.
    pub fn oldest(&self) -> Option<u64> {
        let trained = self.samples.iter().flat_map(|sample| &sample.trained);
        trained.map(|token| token.version).min()
    }
}

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

    /// What the orchestrator of an attempt has said: nothing, where there is no trajectory.
    ///
    /// # Errors
    /// One that cannot be read, or does not fit the policy.
    pub async fn said(&self, rollout: u32, attempt: u32) -> Result<Said, Failure> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read(rollout, attempt)).await;
        let said = read.map_err(|error| Failure::internal(error.to_string()))?;
        Ok(said?)
    }

    fn read(&self, rollout: u32, attempt: u32) -> Result<Said, Defects> {
        let file = self.folder.join(record::trajectory_name(rollout, attempt));
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Said::default());
            }
            Err(error) => {
                return Err(Defect::new(&file, "a readable trajectory", error.to_string()).into());
            }
        };
        let trajectory = Trajectory::from_json(&file, &bytes)?;
        let actions = trajectory.steps.iter().map(|step| step.tool_calls.len()).sum();
        let samples =
            from_trajectory::from_trajectory(&file, &trajectory, &self.renderer, Origin::Sampled)?;
        Ok(Said { samples, actions })
    }
}
