//! What a `train` run is going to do: its tasks, its policy and its rollouts, read and judged
//! before anything starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use orcapack_actors::agent::Solver;
use orcapack_actors::model::settings::EndpointSettings;
use orcapack_cluster::address::NodeId;
use orcapack_tasks::curriculum::NoBand;
use orcapack_tasks::dataset::DataSet;
use orcapack_tasks::{Defect, Defects, Digest, Task};
use orcapack_trainer::learner::Learner;
use orcapack_trainer::policy::Policy;
use orcapack_trainer::policy_step::RlSettings;
use serde::Serialize;

use crate::cli_train::TrainArgs;
use crate::cluster_config::ClusterConfig;
use crate::config::SelectConfig;
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::learning_config;
use crate::output;
use crate::plan::tasks_digest;
use crate::run_kind::RunKind;
use crate::tasks_command;
use crate::team_plan::TeamPlan;
use crate::train::config::TrainConfig;
use crate::train::curriculum::{CANDIDATES, Curriculum};
use crate::train::layers::{self, Loaded};
use crate::train::layout::{Layout, Role};
use crate::train::learner;
use crate::train::pacer::Pace;
use crate::train::rollouts::Planned;
use crate::work::Rollout;

/// A run that can start.
pub struct TrainPlan {
    pub config: TrainConfig,
    pub team: TeamPlan,
    /// The cluster to run on, instead of this machine.
    pub cluster: Option<ClusterConfig>,
    /// The nodes that the ranks live on, in turn; none: this process.
    pub rank_nodes: Vec<NodeId>,
    /// At least one task, and the defects of those left out.
    pub set: DataSet,
    pub held_out: Option<DataSet>,
    pub policy: Policy,
    pub layout: Layout,
}

impl TrainPlan {
    /// # Errors
    /// The configuration, the tasks or the policy cannot be used.
    pub fn make(args: &TrainArgs, host: &Host) -> Result<Self, Failure> {
        let cluster = args.on.cluster.as_deref();
        let cluster = cluster.map(|file| ClusterConfig::load(file, host)).transpose()?;
        let slots = cluster.as_ref().map(|cluster| cluster.slots() as usize);
        let Loaded { config, team } = layers::load(args, host, slots)?;
        let rank_nodes = rank_nodes(&config.ranks.nodes, cluster.as_ref())?;
        let set =
            at_least_one(tasks_command::load(&config.eval.run.dataset, &config.eval.select)?)?;
        let held_out = match &config.evaluation.dataset {
            Some(dataset) => {
                Some(at_least_one(tasks_command::load(dataset, &SelectConfig::default())?)?)
            }
            None => None,
        };
        if let Some(held_out) = &held_out {
            are_apart(&set, held_out)?;
        }
        let policy = Policy::open(&config.policy.base)?;
        let layout = layout(&config, &set, held_out.as_ref())?;
        Ok(Self { config, team, cluster, rank_nodes, set, held_out, policy, layout })
    }

    pub fn pace(&self) -> Pace {
        let Layout { group_size, groups, candidates, .. } = self.layout;
        Pace {
            batch_groups: self.config.train.groups_per_step,
            group_size,
            max_off_policy_steps: self.config.train.max_off_policy_steps,
            groups,
            candidates,
        }
    }

    /// `None`: all tasks are visited equally often.
    ///
    /// # Errors
    /// No band, which a configuration that was read does not have.
    pub fn curriculum(&self) -> Result<Option<Curriculum>, NoBand> {
        let (layout, config) = (&self.layout, self.config.curriculum);
        Curriculum::new(config, layout.seed, layout.visits().collect(), layout.tasks)
    }

    /// Who samples.
    pub fn orchestrator(&self) -> &EndpointSettings {
        let name = &self.team.roles.orchestrator;
        let mut endpoints = self.team.endpoints.iter();
        // Each role's is among them: a plan of a team is made of them.
        endpoints.find(|it| it.name == *name).unwrap_or(&self.team.endpoints[0])
    }

    /// By rollout id. A group is one visit to a task.
    pub fn rollouts(&self) -> Vec<Planned> {
        let tasks = |set: &DataSet| set.tasks.iter().cloned().map(Arc::new).collect();
        let train: Vec<Arc<Task>> = tasks(&self.set);
        let held_out: Vec<Arc<Task>> = self.held_out.as_ref().map(tasks).unwrap_or_default();
        let evaluations = self.layout.evaluations().len() as u32;
        let block = self.layout.held_out_tasks * self.layout.held_out_attempts;
        let roles = (0_u32..).zip(self.layout.roles());
        let planned = roles.map(|(rollout, role)| {
            let (task, group) = match role {
                Role::Evaluation { task } => {
                    let evaluation = rollout / block.max(1);
                    (&held_out[task as usize], evaluation * self.layout.held_out_tasks + task)
                }
                Role::Training { group, task } => {
                    (&train[task as usize], evaluations * self.layout.held_out_tasks + group)
                }
            };
            Planned { what: Rollout { task: task.clone(), agent: Solver::Team }, group }
        });
        planned.collect()
    }

    /// Of each rank.
    pub fn settings(&self) -> RlSettings {
        learner::settings(&self.config, self.temperature())
    }

    /// At which the orchestrator's answers are sampled.
    pub fn temperature(&self) -> f32 {
        let sampled = self.config.orchestrator().and_then(|model| model.sampling.temperature);
        sampled.unwrap_or(1.0) as f32
    }

    /// A copy of the policy that learns: as it is in a checkpoint, or at its beginning.
    ///
    /// # Errors
    /// Faults of the weights' files.
    pub fn learner(&self, checkpoint: Option<(u64, &Path)>) -> Result<Learner, Defects> {
        learner::make(&self.config, &self.policy, checkpoint)
    }

    /// What a resumed run must share with the one before: all that its steps depend on.
    pub fn kind(&self) -> RunKind {
        let config = &self.config;
        let digest = tasks_digest(&self.set.tasks);
        let mut kind = RunKind::of_team("train", &config.eval, &digest);
        if let Some(held_out) = &self.held_out {
            kind.put("held-out tasks", tasks_digest(&held_out.tasks));
        }
        kind.put_section("policy", &config.policy, &[]);
        kind.put_section("train", &config.train, &learning_config::FREE);
        kind.put_section("loss", &config.loss, &[]);
        kind.put_section("curriculum", &config.curriculum, &[]);
        kind.put_section("evaluation", &config.evaluation, &["dataset"]);
        kind.put("ranks.count", config.ranks.count);
        kind
    }

    /// Tells on standard error which tasks are left out, and why.
    pub fn warn_of_defects(&self) {
        for set in [Some(&self.set), self.held_out.as_ref()].into_iter().flatten() {
            if !set.defects.is_empty() {
                eprintln!("warning: {}", tasks_command::defects_text(&set.defects));
            }
        }
    }

    /// `--dry-run`: what would be trained, as a configuration file with the plan in comments.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn print(&self, json: bool) -> Result<Exit, Failure> {
        if json {
            #[derive(Serialize)]
            struct PlanJson<'a> {
                config: &'a TrainConfig,
                tasks: usize,
                held_out_tasks: u32,
                parameters: usize,
                rollouts_max: u64,
            }
            output::print_json(&PlanJson {
                config: &self.config,
                tasks: self.set.tasks.len(),
                held_out_tasks: self.layout.held_out_tasks,
                parameters: self.policy.config.parameters(),
                rollouts_max: self.rollouts_max(),
            })?;
            return Ok(Exit::Done);
        }
        let config =
            self.config.to_toml().map_err(|error| Failure::bad_input(error.to_string()))?;
        output::print_plan(&config, &self.about())?;
        Ok(Exit::Done)
    }

    /// Policy, tasks and rollouts in a few lines.
    pub fn about(&self) -> String {
        let TrainConfig { train, ranks, eval, .. } = &self.config;
        format!(
            "{} parameters on {}; {}, {} held out\n{} of {} of {} rollouts, {} at a time, {}\n",
            self.policy.config.parameters(),
            output::plural(ranks.count as usize, "rank"),
            output::plural(self.set.tasks.len(), "task"),
            self.layout.held_out_tasks,
            output::plural(train.steps as usize, "step"),
            output::plural(train.groups_per_step as usize, "group"),
            eval.rollouts.n_attempts,
            eval.rollouts.n_concurrent,
            match train.max_off_policy_steps {
                0 => "synchronous".to_owned(),
                behind => format!("at most {} behind", output::plural(behind as usize, "version")),
            },
        )
    }

    fn rollouts_max(&self) -> u64 {
        let Layout { group_size, groups, .. } = self.layout;
        u64::from(self.layout.first_training()) + u64::from(groups) * u64::from(group_size)
    }
}

/// Nodes of the cluster that the ranks are to live on.
fn rank_nodes(names: &[String], cluster: Option<&ClusterConfig>) -> Result<Vec<NodeId>, Defects> {
    let known = |name: &String| {
        let id = name.parse::<NodeId>().ok();
        id.filter(|id| cluster.is_some_and(|cluster| cluster.nodes.contains_key(id)))
    };
    let unknown: Vec<&str> =
        names.iter().filter(|name| known(name).is_none()).map(String::as_str).collect();
    if unknown.is_empty() {
        return Ok(names.iter().filter_map(known).collect());
    }
    let expected = match cluster {
        Some(cluster) => {
            let nodes: Vec<&str> = cluster.nodes.keys().map(NodeId::as_str).collect();
            format!("nodes of {}, which are {}", cluster.file.display(), nodes.join(", "))
        }
        None => "a cluster that they are of: --cluster FILE".to_owned(),
    };
    let defect = Defect::new(Path::new("configuration"), expected, unknown.join(", "));
    Err(Defects::from(defect.at_key("ranks.nodes")))
}

fn at_least_one(set: DataSet) -> Result<DataSet, Failure> {
    match set.tasks.is_empty() {
        true => Err(Failure::bad_input(tasks_command::defects_text(&set.defects))),
        false => Ok(set),
    }
}

/// A task that is trained on says nothing of what is not.
fn are_apart(set: &DataSet, held_out: &DataSet) -> Result<(), Defects> {
    let trained: BTreeMap<Digest, &Task> = set.tasks.iter().map(|it| (it.digest, it)).collect();
    let both = held_out.tasks.iter().filter_map(|task| Some((task, trained.get(&task.digest)?)));
    let defects = both.map(|(task, trained)| {
        let found = format!("{}, which is trained on ({})", task.name, trained.source.display());
        Defect::new(&task.source, "a task that is not trained on", found)
            .at_key("evaluation.dataset")
    });
    Defects(defects.collect()).into_result(())
}

/// Groups that may be dropped for their age, beyond those that are trained on.
const SPARE_OF: u64 = 2;

fn layout(
    config: &TrainConfig,
    set: &DataSet,
    held_out: Option<&DataSet>,
) -> Result<Layout, Failure> {
    let train = &config.train;
    let batches = train.steps.saturating_add(match train.max_off_policy_steps {
        0 => 0,
        behind => behind.saturating_add(train.steps / SPARE_OF),
    });
    let groups = batches.saturating_mul(train.groups_per_step.into());
    let candidates = if config.curriculum.enabled { CANDIDATES } else { 1 };
    let candidates = groups.saturating_mul(candidates);
    let layout = Layout {
        steps: train.steps,
        evaluate_every: if held_out.is_some() { config.evaluation.every_steps } else { 0 },
        held_out_tasks: held_out.map_or(0, |set| set.tasks.len() as u32),
        held_out_attempts: config.evaluation.n_attempts,
        tasks: set.tasks.len() as u32,
        group_size: config.eval.rollouts.n_attempts as u32,
        groups: u32::try_from(groups).unwrap_or(u32::MAX),
        candidates: u32::try_from(candidates).unwrap_or(u32::MAX),
        seed: train.learning.seed,
    };
    let evaluations = layout.evaluations().len() as u64;
    let held_out = u64::from(layout.held_out_tasks) * u64::from(layout.held_out_attempts);
    let rollouts = candidates
        .saturating_mul(layout.group_size.into())
        .saturating_add(evaluations.saturating_mul(held_out));
    if rollouts > ROLLOUTS_MAX {
        let expected = format!("a plan of at most {ROLLOUTS_MAX} rollouts");
        let defect = Defect::new(Path::new("configuration"), expected, rollouts.to_string());
        return Err(Defects::from(defect.at_key("train.steps")).into());
    }
    Ok(layout)
}

/// Of one run: their numbers are on the wire and in the ledger.
const ROLLOUTS_MAX: u64 = 20_000_000;
