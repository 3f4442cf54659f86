//! What a leader and its ranks say to each other, and where a rank lives.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Tensor;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::collective::{Place, RankId};
use crate::learner::LearnerState;
use crate::model::parameters::Parameters;
use crate::policy_step::StepBatch;
use crate::ranks::group_events::Cause;
use crate::ranks::replica::Prepared;

/// What a rank is told. Orders are carried out in their order, but for [`Order::Abort`], which
/// overtakes those of its epoch.
pub enum Order {
    /// Joins the ring of an epoch.
    Form(Place),
    /// Prepares a step.
    Begin {
        epoch: u64,
        batch: Arc<StepBatch>,
    },
    /// Applies what it has prepared.
    Commit {
        epoch: u64,
    },
    /// Lets go what it does in the epoch, and leaves its ring.
    Abort {
        epoch: u64,
        reason: String,
    },
    /// Becomes a copy of another.
    Load(Arc<LearnerState>),
    State(Reply<LearnerState>),
    /// The policy's weights, adapters merged, and the steps that they have had.
    Weights(Reply<(u64, Parameters)>),
    /// Fills a checkpoint's folder, which is of this process; with the optimizer's state where
    /// each rank has a part of it.
    Save {
        dir: PathBuf,
        optimizer: Option<Arc<HashMap<String, Tensor>>>,
        reply: Reply<()>,
    },
}

/// Dropped where the rank is gone.
pub type Reply<T> = oneshot::Sender<Result<T, String>>;

/// What a rank says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// It is there: the first of a life.
    Came {
        steps: u64,
        digest: u64,
    },
    Formed {
        epoch: u64,
    },
    /// It waits for its peers only.
    Computed {
        epoch: u64,
    },
    Ready {
        epoch: u64,
        prepared: Prepared,
    },
    Applied {
        epoch: u64,
        digest: u64,
    },
    Aborted {
        epoch: u64,
        cause: Cause,
    },
    CaughtUp {
        steps: u64,
        digest: u64,
    },
    /// The last of a life.
    Down(String),
}

/// Tells the leader, from any thread.
pub type Say = Arc<dyn Fn(Said) + Send + Sync>;

/// Where a rank lives: in this process, or elsewhere.
pub trait Home: Send + Sync {
    /// Begins a life of the rank, which says [`Said::Came`] when it is there. May wait for
    /// the place where it is to live.
    ///
    /// # Errors
    /// It cannot be: this life is over.
    fn start(&self, rank: RankId, say: Say) -> BoxFuture<'_, Result<Box<dyn Life>, String>>;

    /// The node; empty for this process.
    fn node(&self) -> &str;
}

/// The way to a rank that lives. Dropping it ends the life at once, as far as others can tell.
pub trait Life: Send {
    /// Waits for nothing.
    fn order(&mut self, order: Order);
}
