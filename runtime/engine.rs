//! Runs a set of rollouts on this node from start to end: ledger, actors, progress, signals, sweep.
//!
//! `eval` and `tasks check` are two users of it: they differ in who solves the tasks, and in what
//! they print.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orcapack_actors::sandbox::{Driver, SandboxError, Swept};
use orcapack_cluster::address::NodeId;
use orcapack_cluster::lease::Epoch;
use orcapack_tasks::outcome::FailureClass;
use tokio::sync::watch;

use crate::cluster_site::ClusterSite;
use crate::config::EvalConfig;
use crate::embedded::Engines;
use crate::exit::{Exit, Failure};
use crate::fleet::Fleet;
use crate::ledger::{Ledger, Past};
use crate::node::NodeConfig;
use crate::node_run::node_config;
use crate::progress;
use crate::record::Folders;
use crate::run::Run;
use crate::signals::Signals;
use crate::status::RunStatus;
use crate::store::{PlannedRollout, Store, StoreError, Writing};
use crate::team_plan::TeamPlan;
use crate::work::{Rollout, RunEnd, Tally, Work};

/// Between two looks at the board for the progress display.
const STATUS_EVERY: Duration = Duration::from_millis(200);
/// Between two looks at which nodes a cluster has.
const NODES_EVERY: Duration = Duration::from_secs(1);

/// What is to be run, and where its records go.
pub struct Engine<'a> {
    pub config: &'a EvalConfig,
    /// For rollouts that a team solves.
    pub team: Option<TeamPlan>,
    pub site: Site,
    /// Label of everything that is created.
    pub run_id: String,
    /// The path of the ledger; one that is there is resumed.
    pub ledger: PathBuf,
    /// By rollout id. Rollouts of one task are a group.
    pub rollouts: Vec<Rollout>,
    pub folders: Option<Folders>,
    pub progress: progress::Mode,
}

/// Where the rollouts are run.
pub enum Site {
    Here(Arc<dyn Driver>),
    Cluster(Box<ClusterSite>),
}

/// How it went, beside what the ledger says.
#[derive(Debug)]
pub struct Finished {
    pub end: RunEnd,
    /// What the last sweep still had to remove. Nothing, if all went as it should (AC-6).
    pub swept: Swept,
    pub environments_peak: u64,
}

impl Engine<'_> {
    /// # Errors
    /// The ledger cannot be opened, the sandbox engine is away, or a part of the node ended.
    pub async fn run(self) -> Result<Finished, Failure> {
        let mut signals = Signals::listen()?;
        let planned = planned(&self.rollouts);
        let opened = Store::open(&self.ledger, &planned, Writing::Thread)?;
        let groups = planned.iter().map(|rollout| rollout.group).collect();
        let mut ledger = Ledger::new(groups, self.config.retries.clone());
        let orphans = ledger.resume(&opened.past);
        let tally = Arc::new(tally(&opened.past));
        let total = self.rollouts.len();
        let keep_files = self.folders.is_some();
        let epoch = Epoch(opened.incarnation);
        let fleet = match &self.site {
            Site::Here(_) => Fleet::local(epoch),
            Site::Cluster(site) => site.fleet(epoch),
        };
        let work = Work {
            rollouts: self.rollouts,
            concurrent_max: self.config.rollouts.n_concurrent,
            store: opened.store,
            ledger,
            fleet,
            orphans,
            folders: self.folders,
            tally: tally.clone(),
        };
        let mut run = match self.site {
            Site::Here(driver) => {
                let engines = Engines::default();
                let team = self.team.as_ref().map(|team| team.connect(&engines)).transpose()?;
                let local = NodeId::local().to_string();
                let node = node_config(self.config, team, self.run_id, local, opened.incarnation);
                Run::start(driver, NodeConfig { keep_files, ..node }, work).await?
            }
            Site::Cluster(site) => site.start(self.run_id, epoch, self.config, work, None).await?,
        };
        let (publish, status) = watch::channel(status(&run, &tally, total));
        let shown = tokio::spawn(progress::show(self.progress, status));
        let drain_limit = self.config.timeouts.drain;
        let end = watch_run(&mut run, &mut signals, drain_limit, &publish, &tally, total).await;
        drop(publish);
        // The display ends with its channel; a panic in it has no bearing on the run.
        let _ = shown.await;
        let environments_peak = run.environments_peak();
        let is_fenced = run.is_fenced();
        let swept = run.stop().await?;
        match end {
            RunEnd::Failed(message) => Err(Failure::internal(message)),
            RunEnd::Drained if is_fenced => Err(Failure::new(
                Exit::Fenced,
                "a newer process coordinates with this identity, and the nodes listen to it; \
                 `--resume` runs what is missing",
            )),
            end => Ok(Finished { end, swept, environments_peak }),
        }
    }
}

/// Publishes the status until the run has ended. The first signal drains, a second one, or the
/// drain's time limit, ends what runs; further ones change nothing.
async fn watch_run(
    run: &mut Run,
    signals: &mut Signals,
    drain_limit: Duration,
    publish: &watch::Sender<RunStatus>,
    tally: &Tally,
    total: usize,
) -> RunEnd {
    let coordinator = run.coordinator();
    let end = coordinator.wait_end();
    tokio::pin!(end);
    let mut ticks = tokio::time::interval(STATUS_EVERY);
    let mut look_for_nodes = tokio::time::interval(NODES_EVERY);
    let mut kill_at = None;
    loop {
        tokio::select! {
            biased;
            end = &mut end => return end,
            _ = look_for_nodes.tick() => run.look_for_nodes(),
            _ = ticks.tick() => {
                if run.is_fenced() {
                    run.drain();
                }
                let status = status(run, tally, total);
                publish.send_if_modified(|shown| *shown != status && { *shown = status; true });
            }
            () = signals.next() => {
                run.drain();
                if kill_at.is_none() {
                    let limit = drain_limit.as_secs();
                    eprintln!("draining for up to {limit} s; once more to stop now");
                    kill_at = Some(tokio::time::Instant::now() + drain_limit);
                } else {
                    run.kill();
                }
            }
            () = sleep_until(kill_at) => {
                run.kill();
                // Not again; the kills are quick, but their clean-up takes the engine some time.
                kill_at = Some(tokio::time::Instant::now() + Duration::from_secs(24 * 3600));
            }
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn status(run: &Run, tally: &Tally, total: usize) -> RunStatus {
    let count = |value: &AtomicU64| value.load(Ordering::Relaxed) as usize;
    let mut status = RunStatus {
        total,
        done: count(&tally.done),
        passed: count(&tally.passed),
        infra_failures: count(&tally.infra_failures),
        retries: count(&tally.retries),
        ..RunStatus::default()
    };
    run.read(&mut status);
    status
}

/// The rollouts as the ledger keeps them.
pub fn planned(rollouts: &[Rollout]) -> Vec<PlannedRollout> {
    let mut names: Vec<&str> = Vec::new();
    let mut planned = Vec::with_capacity(rollouts.len());
    let mut groups = std::collections::HashMap::new();
    for Rollout { task, agent } in rollouts {
        let group = *groups.entry(task.name.as_str()).or_insert_with(|| {
            names.push(&task.name);
            names.len() as u32 - 1
        });
        planned.push(PlannedRollout {
            task: task.name.clone(),
            task_digest: task.digest.to_string(),
            group,
            agent: agent.to_string(),
        });
    }
    planned
}

/// Starts from what was done before a resume.
fn tally(past: &Past) -> Tally {
    let tally = Tally::default();
    past.ended.values().for_each(|reward| tally.count(*reward));
    tally
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::bad_input(error.to_string())
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        let exit = match error.class {
            FailureClass::Internal => Exit::Internal,
            _ => Exit::NoSandbox,
        };
        Self::new(exit, error.message)
    }
}
