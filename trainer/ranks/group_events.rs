//! What the leader's [`Group`](super::group::Group) hears, and what it wants done.

use std::time::Duration;

use crate::collective::{CollectiveError, RankId};
pub use crate::ranks::restarts::RestartSettings;

/// How long the leader waits for ranks. A rank that is late is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Until a ring is formed.
    pub form_timeout: Duration,
    /// From the beginning of a step until all have prepared it.
    pub step_timeout: Duration,
    /// From a commit until it is applied.
    pub apply_timeout: Duration,
    /// Until a rank has let go what it is at: it looks up between two passes, so this is longer
    /// than the forward and backward pass of one micro-batch.
    pub abort_timeout: Duration,
    /// Until a rank that came back has what the others have.
    pub catch_up_timeout: Duration,
    /// A step fails where it is aborted more often than this without the loss of a rank.
    pub aborts_max: u32,
    pub restarts: RestartSettings,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            form_timeout: Duration::from_secs(10),
            step_timeout: Duration::from_secs(600),
            apply_timeout: Duration::from_secs(60),
            abort_timeout: Duration::from_secs(10),
            catch_up_timeout: Duration::from_secs(120),
            aborts_max: 3,
            restarts: RestartSettings::default(),
        }
    }
}

/// What the leader hears. All but the first are of the present life of a rank.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Asked for; the step after those that are done.
    Step(u64),
    /// It is there, with so many steps done, and the digest of its weights.
    Came {
        rank: RankId,
        steps: u64,
        digest: u64,
    },
    Down {
        rank: RankId,
        why: String,
    },
    Formed {
        rank: RankId,
        epoch: u64,
    },
    /// It waits for its peers only.
    Computed {
        rank: RankId,
        epoch: u64,
    },
    /// With the digest of what it would apply.
    Ready {
        rank: RankId,
        epoch: u64,
        check: u64,
    },
    Applied {
        rank: RankId,
        epoch: u64,
        digest: u64,
    },
    /// It has let go what it was at.
    Aborted {
        rank: RankId,
        epoch: u64,
        cause: Cause,
    },
    CaughtUp {
        rank: RankId,
        steps: u64,
        digest: u64,
    },
}

/// Why a rank has let a step go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was told to.
    Told,
    Collective(CollectiveError),
    /// The step cannot be made, here or elsewhere.
    Step(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Starts a new life of it.
    Start(RankId),
    /// Ends its life; nothing is heard of it any more.
    Kill {
        rank: RankId,
        why: String,
    },
    /// Every rank is there.
    Started,
    Form {
        epoch: u64,
        members: Vec<RankId>,
    },
    Begin {
        epoch: u64,
        step: u64,
        members: Vec<RankId>,
    },
    Commit {
        epoch: u64,
        step: u64,
        members: Vec<RankId>,
    },
    Abort {
        epoch: u64,
        members: Vec<RankId>,
        reason: String,
    },
    CatchUp {
        from: RankId,
        to: RankId,
    },
    /// The step is applied by all members.
    Done(Done),
    /// The step is not made, and nothing of it is applied.
    Failed(GroupError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub step: u64,
    pub epoch: u64,
    /// By rank.
    pub members: Vec<RankId>,
    /// Why it was begun again, each time.
    pub aborts: Vec<String>,
    /// Of the weights.
    pub digest: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("rank {} does not start: {why}", rank.0)]
    Start { rank: RankId, why: String },
    #[error("step {asked} was asked for after step {done}, or while another was made")]
    Order { asked: u64, done: u64 },
    #[error("rank {}: {why}", rank.0)]
    Step { rank: RankId, why: String },
    #[error("step {step} was aborted {} times without a loss: {}", why.len(), why.join("; "))]
    Aborts { step: u64, why: Vec<String> },
    #[error("no rank is left: {}", why.join("; "))]
    NoRankLeft { why: Vec<String> },
    #[error("ranks {} and {} differ after step {step}: {digests:016x?}", ranks.0.0, ranks.1.0)]
    Differ { step: u64, ranks: (RankId, RankId), digests: (u64, u64) },
    #[error("rank {} is lost, and its part of the optimizer's state with it: {why}", rank.0)]
    ShardLost { rank: RankId, why: String },
}

impl GroupError {
    /// Whether no step can be made any more.
    pub fn is_end(&self) -> bool {
        matches!(
            self,
            Self::Start { .. }
                | Self::NoRankLeft { .. }
                | Self::Differ { .. }
                | Self::ShardLost { .. }
        )
    }
}
