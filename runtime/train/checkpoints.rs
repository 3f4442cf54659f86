//! The checkpoints of a run that trains: where it goes on after it was killed.

use std::path::{Path, PathBuf};

use orcapack_trainer::checkpoint::{self, Checkpoint, CheckpointWriter};
use orcapack_trainer::ranks::Ranks;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use crate::train::config::CheckpointConfig;

/// What one holds of the run, beside weights and optimizer. Where the data and the random numbers
/// stand follows from the step and from the ledger, whose batches are counted by steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// Fewer than steps, where some had nothing to learn from.
    optimizer_steps: u64,
}

/// The folder of a run's checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    every_steps: u64,
    keep: usize,
    newest: Option<(u64, PathBuf)>,
    /// Steps that the optimizer has made.
    pub optimizer_steps: u64,
}

impl Checkpoints {
    /// Tells of those that are damaged, on standard error, and takes the newest that is whole.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(folder: &Path, config: &CheckpointConfig) -> Result<Self, Failure> {
        let found = checkpoint::newest::<State>(folder)?;
        for defect in &found.damaged {
            eprintln!("warning: a checkpoint is damaged, and left out: {defect}");
        }
        let State { optimizer_steps } =
            found.checkpoint.as_ref().map_or(State::default(), |checkpoint| checkpoint.state);
        let newest = found.checkpoint.map(|Checkpoint { step, dir, .. }| (step, dir));
        let CheckpointConfig { every_steps, keep } = *config;
        Ok(Self { folder: folder.to_owned(), every_steps, keep, newest, optimizer_steps })
    }

    /// Its step and its folder.
    pub fn newest(&self) -> Option<(u64, &Path)> {
        self.newest.as_ref().map(|(step, dir)| (*step, dir.as_path()))
    }

    pub fn is_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.every_steps)
    }

    /// Writes one, unless there is one of this step, and removes what is not kept.
    ///
    /// # Errors
    /// The file system's, or the ranks'.
    pub async fn write(&mut self, step: u64, ranks: &Ranks) -> Result<PathBuf, Failure> {
        if let Some((at, dir)) = &self.newest
            && *at == step
        {
            return Ok(dir.clone());
        }
        let writer = CheckpointWriter::begin(&self.folder, step)?;
        let saved = ranks.save(writer.dir().to_owned()).await;
        saved.map_err(|error| Failure::new(Exit::TrainingStopped, error.to_string()))?;
        let (folder, keep) = (self.folder.clone(), self.keep);
        let state = State { optimizer_steps: self.optimizer_steps };
        let finished = tokio::task::spawn_blocking(move || {
            let dir = writer.finish(&state)?;
            checkpoint::prune(&folder, keep).map(|()| dir)
        });
        let dir = finished.await.map_err(|error| Failure::internal(error.to_string()))??;
        self.newest = Some((step, dir.clone()));
        Ok(dir)
    }
}
