//! The trials of admission, run on the engine that `eval` uses, with a ledger that nobody keeps.

use std::fs;
use std::io;
use std::sync::Arc;

use orcapack_actors::agent::Solver;
use orcapack_actors::team::text::cut_start;
use orcapack_tasks::Task;
use orcapack_tasks::admission::{self, Trial, TrialKind};

use crate::config::EvalConfig;
use crate::embedded::Engines;
use crate::engine::{Engine, Site};
use crate::exit::Failure;
use crate::record::Folders;
use crate::work::{Rollout, RunEnd};
use crate::{progress, sandboxes, store_rows};

/// What is tried, on which task; a rollout each.
pub struct Planned {
    pub task: Arc<Task>,
    pub kind: TrialKind,
}

/// How one ended.
pub struct Done {
    /// Its place in what was planned.
    pub planned: usize,
    pub trial: Trial,
    /// The end of its log.
    pub log: String,
}

/// How trials are run.
pub struct Bench<'a> {
    pub config: &'a EvalConfig,
    /// Label of everything that is created.
    pub run_id: String,
    pub progress: progress::Mode,
    /// Of each log; `None`: no logs are kept.
    pub log_chars_max: Option<usize>,
}

/// The trials that a task needs.
pub fn of(task: &Arc<Task>) -> impl Iterator<Item = Planned> {
    let task = task.clone();
    let kinds = admission::trials(&task).into_iter();
    kinds.map(move |kind| Planned { task: task.clone(), kind })
}

impl Bench<'_> {
    /// Runs them side by side. `None`: a signal has stopped them.
    ///
    /// # Errors
    /// No sandbox is to be had, or a part of the node ended.
    pub async fn run(self, planned: &[Planned]) -> Result<Option<Vec<Done>>, Failure> {
        let io = |error: io::Error| Failure::internal(error.to_string());
        let scratch = tempfile::tempdir().map_err(io)?;
        let folder = |name: &str| {
            let folder = scratch.path().join(name);
            fs::create_dir(&folder).map(|()| folder)
        };
        let folders = match self.log_chars_max {
            None => None,
            Some(_) => Some(Folders {
                trajectories: folder("trajectories").map_err(io)?,
                logs: folder("logs").map_err(io)?,
            }),
        };
        let ledger = scratch.path().join("run.db");
        let engine = Engine {
            config: self.config,
            team: None,
            engines: &Engines::default(),
            site: Site::Here(sandboxes::choose(&self.config.sandbox).await?),
            weights: None,
            run_id: self.run_id,
            ledger: ledger.clone(),
            folders: folders.clone(),
        };
        let rollout = |Planned { task, kind }: &Planned| Rollout {
            task: task.clone(),
            agent: Solver::Trial(kind.clone()),
        };
        let finished = engine.run(planned.iter().map(rollout).collect(), self.progress).await?;
        if finished.end == RunEnd::Drained {
            return Ok(None);
        }
        let (_, ended) = store_rows::read(&ledger)?;
        let done = ended.into_iter().filter_map(|ended| {
            let index = ended.rollout as usize;
            let kind = planned.get(index)?.kind.clone();
            let name = format!("attempt_{}.{}.log", ended.rollout, ended.attempt);
            let log = folders.as_ref().map(|folders| fs::read(folders.logs.join(name)));
            let log = log.transpose().unwrap_or_default().unwrap_or_default();
            let chars_max = self.log_chars_max.unwrap_or_default();
            let log = cut_start(&String::from_utf8_lossy(&log), chars_max);
            Some(Done { planned: index, trial: Trial { kind, outcome: ended.outcome }, log })
        });
        Ok(Some(done.collect()))
    }
}
