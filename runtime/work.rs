//! What a coordinator works on, and how its run ends.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use orcapack_actors::agent::Solver;
use orcapack_tasks::{Task, grading};
use tokio::sync::mpsc::UnboundedSender;

use crate::fleet::Fleet;
use crate::ledger::{Ended, Ledger, Orphan};
use crate::record::Folders;
use crate::store::{PlannedRollout, Store};

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Every rollout that was admitted has its terminal record, and nothing more is admitted.
    Complete,
    /// Stopped by the user; what is missing can be resumed.
    Drained,
    /// The ledger cannot be written any more.
    Failed(String),
}

/// What the coordinator works on.
pub struct Work {
    /// By rollout id.
    pub rollouts: Vec<Rollout>,
    /// At most this many attempts at one time, whatever room the nodes have.
    pub concurrent_max: usize,
    pub store: Store,
    pub ledger: Ledger,
    pub fleet: Fleet,
    /// What the ledger found running when it was resumed.
    pub orphans: Vec<Orphan>,
    /// Where trajectories and logs go; `None` keeps none.
    pub folders: Option<Folders>,
    pub tally: Arc<Tally>,
    /// Who is told how each rollout ended, once that is on disk. Never more than were admitted.
    pub ended: Option<UnboundedSender<Ended>>,
}

/// One rollout that is to be done: a task, and who solves it.
#[derive(Clone, Debug)]
pub struct Rollout {
    pub task: Arc<Task>,
    pub agent: Solver,
}

impl Rollout {
    /// As the ledger keeps it.
    pub fn planned(&self, group: u32) -> PlannedRollout {
        PlannedRollout {
            task: self.task.name.clone(),
            task_digest: self.task.digest.to_string(),
            group,
            agent: self.agent.to_string(),
        }
    }
}

/// Running totals, for the progress display.
#[derive(Debug, Default)]
pub struct Tally {
    /// Rollouts that were admitted, or ended before a resume.
    pub total: AtomicU64,
    pub done: AtomicU64,
    pub passed: AtomicU64,
    pub infra_failures: AtomicU64,
    pub retries: AtomicU64,
}

impl Tally {
    /// Counts a terminal record by its reward.
    pub fn count(&self, reward: Option<f64>) {
        self.done.fetch_add(1, Ordering::Relaxed);
        match reward {
            Some(reward) if grading::is_pass(reward) => self.passed.fetch_add(1, Ordering::Relaxed),
            Some(_) => 0,
            None => self.infra_failures.fetch_add(1, Ordering::Relaxed),
        };
    }
}

/// The tasks of a run in the order of their first rollouts, which numbers them. The same plan gives
/// the same numbers, so that they hold over a resume.
pub fn tasks(rollouts: &[Rollout]) -> Vec<Arc<Task>> {
    // Of a hundred thousand rollouts, few have a task whose name must be compared.
    let (mut seen, mut names) = (HashSet::new(), BTreeSet::new());
    let is_new = |rollout: &&Rollout| seen.insert(Arc::as_ptr(&rollout.task));
    let first = rollouts.iter().filter(is_new);
    let first = first.filter(|rollout| names.insert(&rollout.task.name));
    first.map(|rollout| rollout.task.clone()).collect()
}
