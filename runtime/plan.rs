//! What a run is going to do: its effective configuration and its tasks, read and judged before
//! anything starts.

use orcapack_tasks::dataset::DataSet;
use orcapack_tasks::{Digest, Task};
use serde::Serialize;

use crate::cli::EvalArgs;
use crate::cluster_config::ClusterConfig;
use crate::config::EvalConfig;
use crate::config_layers::{self, Host, Loaded};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::policy_flag::Named;
use crate::tasks_command::{self, Listed};
use crate::team_plan::TeamPlan;

/// A run that can start.
#[derive(Debug)]
pub struct Plan {
    pub config: EvalConfig,
    /// Of agent `team`.
    pub team: Option<TeamPlan>,
    /// The checkpoint that `--policy` has named.
    pub policy: Option<Named>,
    /// The cluster to run on, instead of this machine.
    pub cluster: Option<ClusterConfig>,
    /// The selected tasks, sorted by name, at least one, and the defects of those left out.
    pub set: DataSet,
}

#[derive(Serialize)]
struct PlanJson<'a> {
    config: &'a EvalConfig,
    tasks_digest: String,
    tasks: Vec<Listed<'a>>,
    rollouts: usize,
}

impl Plan {
    /// # Errors
    /// The configuration or the data set cannot be used; no task of it can be.
    pub fn make(args: &EvalArgs, host: &Host) -> Result<Self, Failure> {
        let cluster = args.on.cluster.as_deref();
        let cluster = cluster.map(|file| ClusterConfig::load(file, host)).transpose()?;
        let slots = cluster.as_ref().map(|cluster| cluster.slots() as usize);
        let Loaded { config, team, policy } = config_layers::load(args, host, slots)?;
        let set = tasks_command::load(&config.run.dataset, &config.select)?;
        if set.tasks.is_empty() {
            return Err(Failure::bad_input(tasks_command::defects_text(&set.defects)));
        }
        Ok(Self { config, team, policy, cluster, set })
    }

    /// Of the selected tasks: what a resumed run must share with the one before.
    pub fn tasks_digest(&self) -> Digest {
        tasks_digest(&self.set.tasks)
    }

    pub fn rollouts(&self) -> usize {
        self.set.tasks.len() * self.config.rollouts.n_attempts
    }

    /// Tells on standard error which tasks are left out, and why.
    pub fn warn_of_defects(&self) {
        if !self.set.defects.is_empty() {
            eprintln!("warning: {}", tasks_command::defects_text(&self.set.defects));
        }
    }

    /// Tells on standard error which checkpoint was taken, and what it does not have as it had when
    /// it was trained.
    pub fn tell_policy(&self) {
        let Some(policy) = &self.policy else { return };
        eprintln!("policy: {policy}");
        for difference in policy.differences(&self.config) {
            eprintln!("warning: the policy was trained with {difference}");
        }
    }

    /// `--dry-run`: prints what would be run, as a configuration file with the tasks in comments.
    pub fn print(&self, json: bool) -> Result<Exit, Failure> {
        if json {
            output::print_json(&PlanJson {
                config: &self.config,
                tasks_digest: self.tasks_digest().to_string(),
                tasks: self.set.tasks.iter().map(Listed::of).collect(),
                rollouts: self.rollouts(),
            })?;
            return Ok(Exit::Done);
        }
        let config =
            self.config.to_toml().map_err(|error| Failure::bad_input(error.to_string()))?;
        let about = format!(
            "{}{} each: {}\n",
            tasks_command::table(&self.set),
            output::plural(self.config.rollouts.n_attempts, "attempt"),
            output::plural(self.rollouts(), "rollout"),
        );
        output::print_plan(&config, &about)?;
        Ok(Exit::Done)
    }
}

pub(crate) fn tasks_digest(tasks: &[Task]) -> Digest {
    let digests: Vec<u8> = tasks.iter().flat_map(|task| task.digest.0).collect();
    Digest::of(&digests)
}
