//! Data-parallel training: ranks that each have a copy of what learns, and step as one.
//!
//! ```text
//! Ranks ─ leader (actor) ─┬─ rank 0 (actor) ─ its home ─ thread: replica ─ communication thread
//!           group (pure)  ├─ rank 1 (actor) ─ ...                            │ buckets
//!                         └─ ...                                  collective of the epoch
//! ```
//!
//! A rank computes the gradients of its [shard](shards) of a step's samples, and sums them with the
//! others', bucket by bucket, while earlier layers still compute. What comes out is the same on
//! all, bit for bit, and is applied when all have it: the [group] says how that holds,
//! whoever dies.

mod actor;
mod ask;
pub mod buckets;
mod bulk;
mod digest;
#[cfg(test)]
mod faults_tests;
#[cfg(test)]
mod fixture_tests;
pub mod group;
mod group_abort;
mod group_events;
#[cfg(test)]
mod group_world_tests;
pub mod home;
mod leader;
mod pin;
mod reducer;
pub mod remote;
mod replica;
mod report;
mod restarts;
pub mod served;
pub mod shards;
pub mod thread;
pub mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use ractor::{Actor, ActorRef};
use tokio::sync::oneshot;

pub use ask::Snapshot;
pub use group_events::{GroupError, GroupSettings, RestartSettings};
pub use replica::Prepared;
pub use report::StepReport;

use crate::collective::RankId;
use crate::policy_step::{RlSettings, StepBatch};
use home::Home;
use leader::{Answer, LeaderActor, LeaderMessage};

/// Who trains, and where.
#[derive(Clone)]
pub struct RanksSetup {
    /// Of ranks 0, 1, ...; at least one. Those of one node stand beside each other.
    pub homes: Vec<Arc<dyn Home>>,
    /// Those that the homes have.
    pub settings: RlSettings,
    pub group: GroupSettings,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RanksError {
    /// No step of it has been applied. After some, none can be: [`GroupError::is_end`].
    #[error(transparent)]
    Group(#[from] GroupError),
    #[error("step {step} has no token to train; {too_long} samples are longer than a row")]
    Empty { step: u64, too_long: usize },
    #[error("step {step} was asked for while another is made")]
    Busy { step: u64 },
    /// It could not give what it was asked for.
    #[error("rank {}: {why}", rank.0)]
    Rank { rank: RankId, why: String },
    #[error("the ranks have ended")]
    Ended,
}

/// All ranks, which end when this is dropped.
pub struct Ranks {
    leader: ActorRef<LeaderMessage>,
    ended: Option<tokio::task::JoinHandle<()>>,
}

impl Ranks {
    /// Resolves when every rank is there. The ring is formed with the first step.
    ///
    /// # Errors
    /// A rank that does not start, or copies that differ.
    pub async fn start(setup: RanksSetup) -> Result<Self, RanksError> {
        let (started, answer) = oneshot::channel();
        let spawned = Actor::spawn(None, LeaderActor, (setup, started)).await;
        let (leader, ended) = spawned.map_err(|_| RanksError::Ended)?;
        let ranks = Self { leader, ended: Some(ended) };
        answer.await.map_err(|_| RanksError::Ended)??;
        Ok(ranks)
    }

    /// Makes one step: when it resolves, every rank of the last epoch has applied it. Where the
    /// future is dropped, the step is made all the same.
    ///
    /// # Errors
    /// A step that was not made: nothing of it is applied.
    pub async fn step(&self, batch: StepBatch) -> Result<StepReport, RanksError> {
        self.ask(|answer| LeaderMessage::Step(batch, answer)).await
    }

    /// The policy as it is.
    ///
    /// # Errors
    /// No rank that can give it.
    pub async fn snapshot(&self) -> Result<Snapshot, RanksError> {
        self.ask(LeaderMessage::Snapshot).await
    }

    /// Fills a checkpoint's folder, as [`Learner::save`](crate::learner::Learner::save). Between
    /// steps.
    ///
    /// # Errors
    /// The file system's, or no rank that lives long enough; the folder may have some files then.
    pub async fn save(&self, dir: PathBuf) -> Result<(), RanksError> {
        self.ask(|answer| LeaderMessage::Save(dir, answer)).await
    }

    /// Ends a rank's life, as a fault would.
    pub async fn kill(&self, rank: RankId) {
        // Of ranks that have ended, none is left to kill.
        let _ = self.leader.cast(LeaderMessage::Kill(rank));
    }

    /// Ends all ranks.
    pub async fn stop(mut self) {
        self.leader.stop(None);
        if let Some(ended) = self.ended.take() {
            // It ends in whatever way.
            let _ = ended.await;
        }
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(Answer<T>) -> LeaderMessage,
    ) -> Result<T, RanksError> {
        let (answer, answered) = oneshot::channel();
        self.leader.cast(message(answer)).map_err(|_| RanksError::Ended)?;
        answered.await.map_err(|_| RanksError::Ended)?
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        self.leader.stop(None);
    }
}

#[cfg(test)]
#[path = "ranks_tests.rs"]
mod tests;
