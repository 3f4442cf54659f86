//! Runs a set of rollouts from start to end: ledger, actors, progress, signals, sweep.
//!
//! `eval` and `tasks check` are two users of it: they differ in who solves the tasks, and in what
//! they print. A run that trains begins the same way, and goes on in
//! [`rollouts`](crate::train::rollouts).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orcapack_actors::sandbox::{Driver, SandboxError};
use orcapack_cluster::address::NodeId;
use orcapack_cluster::lease::Epoch;
use orcapack_tasks::outcome::FailureClass;
use tokio::sync::mpsc::UnboundedSender;

use crate::cluster_site::ClusterSite;
use crate::config::EvalConfig;
use crate::embedded::Engines;
use crate::exit::{Exit, Failure};
use crate::fleet::Fleet;
use crate::ledger::{Ended, Ledger, Past};
use crate::node::NodeConfig;
use crate::node_run::node_config;
use crate::progress;
use crate::record::Folders;
use crate::run::Run;
use crate::stops::{Stop, Stops};
use crate::store::{Opened, PlannedRollout, Store, StoreError, Writing};
use crate::team_plan::TeamPlan;
use crate::train::delivery::broadcast::Broadcast;
use crate::under_way::{Finished, UnderWay};
use crate::work::{Rollout, Tally, Work};

/// How rollouts are run, and where their records go.
pub struct Engine<'a> {
    pub config: &'a EvalConfig,
    /// For rollouts that a team solves.
    pub team: Option<TeamPlan>,
    /// Of the policies that play in this process.
    pub engines: &'a Engines,
    pub site: Site,
    /// The directory of the policy whose weights are brought to the nodes of a cluster; of a run
    /// that trains one.
    pub weights: Option<PathBuf>,
    /// Label of everything that is created.
    pub run_id: String,
    /// The path of the ledger; one that is there is resumed.
    pub ledger: PathBuf,
    pub folders: Option<Folders>,
}

/// One version of a policy's weights has come to a node in this time, or never.
const WEIGHTS_LIMIT: Duration = Duration::from_secs(600);

/// Where the rollouts are run.
pub enum Site {
    Here(Arc<dyn Driver>),
    Cluster(Box<ClusterSite>),
}

impl Engine<'_> {
    /// Runs all of these, which are by rollout id; those of one task are a group. Signals stop it.
    ///
    /// # Errors
    /// The ledger cannot be opened, the sandbox engine is away, or a part of the node ended.
    pub async fn run(
        self,
        rollouts: Vec<Rollout>,
        progress: progress::Mode,
    ) -> Result<Finished, Failure> {
        let mut stops = Stops::listen(self.config.timeouts.drain)?;
        let planned = planned(&rollouts);
        let opened = Store::open(&self.ledger, &planned, Writing::Thread)?;
        let groups = planned.iter().map(|rollout| rollout.group).collect();
        let ledger = Ledger::new(groups, self.config.retries.clone());
        let mut run = self.begin(rollouts, ledger, opened, None).await?;
        let shown = tokio::spawn(progress::show(progress, run.status()));
        loop {
            tokio::select! {
                biased;
                () = run.wait() => break,
                stop = stops.next() => match stop {
                    Stop::Drain => run.drain(),
                    Stop::Kill => run.kill(),
                },
            }
        }
        // The display ends with its channel; a panic in it has no bearing on the run.
        let _ = shown.await;
        run.stop().await
    }

    /// Begins, or goes on with, what the ledger says of these rollouts. `ended` is told how each
    /// one ends from now on, once that is on disk.
    ///
    /// # Errors
    /// The sandbox engine is away, or the actor system refuses.
    pub(crate) async fn begin(
        self,
        rollouts: Vec<Rollout>,
        mut ledger: Ledger,
        opened: Opened,
        ended: Option<UnboundedSender<Ended>>,
    ) -> Result<UnderWay, Failure> {
        let orphans = ledger.resume(&opened.past);
        let tally = Arc::new(tally(&opened.past));
        let keep_files = self.folders.is_some();
        let epoch = Epoch(opened.incarnation);
        let fleet = match &self.site {
            Site::Here(_) => Fleet::local(epoch),
            Site::Cluster(site) => site.fleet(epoch),
        };
        let work = Work {
            rollouts,
            concurrent_max: self.config.rollouts.n_concurrent,
            store: opened.store,
            ledger,
            fleet,
            orphans,
            folders: self.folders,
            tally: tally.clone(),
            ended,
        };
        let mut weights = None;
        let run = match self.site {
            Site::Here(driver) => {
                let team = self.team.as_ref().map(|team| team.connect(self.engines)).transpose()?;
                let local = NodeId::local().to_string();
                let node = node_config(self.config, team, self.run_id, local, opened.incarnation);
                Run::start(driver, NodeConfig { keep_files, ..node }, work).await?
            }
            Site::Cluster(site) => {
                weights = self.weights.map(|checkpoint| {
                    Broadcast::new(self.run_id.clone(), epoch.0, checkpoint, WEIGHTS_LIMIT)
                });
                site.start(self.run_id, epoch, self.config, work, weights.clone()).await?
            }
        };
        Ok(UnderWay::new(run, tally, weights))
    }
}

/// The rollouts as the ledger keeps them: those of one task are a group.
pub fn planned(rollouts: &[Rollout]) -> Vec<PlannedRollout> {
    let mut groups = std::collections::HashMap::new();
    let planned = rollouts.iter().map(|rollout| {
        let next = groups.len() as u32;
        rollout.planned(*groups.entry(rollout.task.name.as_str()).or_insert(next))
    });
    planned.collect()
}

/// Starts from what was done before a resume.
fn tally(past: &Past) -> Tally {
    let tally = Tally::default();
    past.ended.iter().for_each(|ended| tally.count(ended.outcome.reward()));
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
