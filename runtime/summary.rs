//! A run in figures: what the terminal table, `--json` and the HTML report are made from.
//!
//! [`RunSummary::new`] is pure: rows of rollouts in, figures out. Infrastructure failures have no
//! reward and are in no rate (AC-2); how many there were is always said beside the rates.

use std::collections::BTreeMap;

use jiff::Timestamp;
use orcapack_actors::phase::{Phase, PhaseTimes};
use orcapack_tasks::grading::is_pass;
use orcapack_tasks::outcome::{FailureClass, Outcome};
use orcapack_tasks::pass_at_k::mean_pass_at_k;
use serde::{Deserialize, Serialize};

use crate::summary_team::{AgentSummary, RoleSummary, Spent};

/// Two-sided 95% point of the normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    pub run: RunInfo,
    pub totals: Totals,
    /// In the data set's order.
    pub tasks: Vec<TaskSummary>,
    /// By rollout id.
    pub rollouts: Vec<RolloutSummary>,
}

/// What was asked for, and where it ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    pub name: String,
    pub dataset: String,
    pub agent: String,
    /// `None` for agents that need none.
    pub model: Option<String>,
    pub sandbox: String,
    pub started: Timestamp,
    /// The last rollout's end so far, where the run was stopped.
    pub ended: Timestamp,
    /// Rollouts at once.
    pub concurrent: u64,
    /// Rollouts per task.
    pub k: u64,
    /// As typed.
    pub command: String,
    /// The effective configuration, TOML, without secrets.
    pub config: String,
    /// The most environments that were alive at one time.
    pub environments_peak: u64,
    /// The most memory that this process held, without the environments' own.
    pub rss_bytes_peak: u64,
    /// Who ran the attempts, on a cluster.
    pub nodes: Vec<NodeSummary>,
}

/// What a node did for a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSummary {
    pub node: String,
    /// Those that ended.
    pub attempts: u64,
    /// Of them, infrastructure failures.
    pub lost: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskInfo {
    pub name: String,
    pub difficulty: Option<String>,
    pub category: Option<String>,
}

/// One rollout that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutSummary {
    pub rollout: u64,
    pub task: String,
    /// 1 without retries; 0 when it was cancelled before its first.
    pub attempts: u64,
    pub outcome: Outcome,
    /// Of the last attempt, seconds.
    pub phases: PhaseSeconds,
    /// Infrastructure failures of the attempts before the last.
    pub retries: BTreeMap<FailureClass, u64>,
    pub note: Option<String>,
    /// Relative to the run's directory.
    pub trajectory: Option<String>,
    /// Of its teams: those of every attempt that has left a record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentSummary>,
}

/// Where time goes, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseSeconds {
    pub queue: f64,
    pub image: f64,
    pub create: f64,
    pub exec: f64,
    pub model: f64,
    pub grade: f64,
    pub cleanup: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSummary {
    #[serde(rename = "task")]
    pub info: TaskInfo,
    /// Rollouts that ended.
    pub ended: u64,
    /// Those with a reward.
    pub graded: u64,
    pub passed: u64,
    /// Over the graded ones.
    pub mean_reward: Option<f64>,
    /// Sums over its rollouts.
    pub phases: PhaseSeconds,
    /// Rollouts that ended in an infrastructure failure.
    pub failures: BTreeMap<FailureClass, u64>,
    pub retries: u64,
    /// Sums over the agents of its rollouts; `None` where no team worked on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    pub planned: u64,
    pub ended: u64,
    pub outcomes: OutcomeCounts,
    /// Passed, of the graded rollouts.
    pub resolved: Share,
    pub mean_reward: Option<f64>,
    /// For every k from 1 to the run's.
    pub pass_at: Vec<PassAt>,
    pub failures: BTreeMap<FailureClass, u64>,
    pub retries: BTreeMap<FailureClass, u64>,
    pub wall_sec: f64,
    pub rollouts_per_minute: f64,
    pub phases: Vec<PhaseStats>,
    /// Sums over all agents of teams, those of lost attempts too, by role; empty without teams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<RoleSummary>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeCounts {
    pub passed: u64,
    /// Graded, and not a pass.
    pub failed: u64,
    /// Graded too: the agent ran out of its budget, or crashed. Those that passed all the same are
    /// in `passed`.
    pub agent_failed: u64,
    pub infrastructure_failed: u64,
}

/// The mean of pass@k over the tasks with at least k graded rollouts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassAt {
    pub k: u64,
    /// `None` where no task has so many.
    pub mean: Option<f64>,
    pub tasks: u64,
}

/// A share with its 95% interval; all `None` of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub count: u64,
    pub of: u64,
    pub share: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// One phase over all rollouts, seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseStats {
    pub phase: String,
    pub sum: f64,
    pub p50: f64,
    pub p99: f64,
}

/// Rollouts that ended in the same way.
#[derive(Serialize)]
pub struct Failure<'a> {
    pub class: FailureClass,
    pub message: &'a str,
    pub rollouts: Vec<u64>,
}

impl RunSummary {
    /// Infrastructure failures by class and message, the most frequent first.
    pub fn failures(&self) -> Vec<Failure<'_>> {
        let mut by_message: BTreeMap<(FailureClass, &str), Vec<u64>> = BTreeMap::new();
        for rollout in &self.rollouts {
            if let Outcome::InfrastructureFailure { class, message } = &rollout.outcome {
                by_message.entry((*class, message)).or_default().push(rollout.rollout);
            }
        }
        let mut failures: Vec<_> = by_message
            .into_iter()
            .map(|((class, message), rollouts)| Failure { class, message, rollouts })
            .collect();
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.rollouts.len()));
        failures
    }

    /// Rollouts of tasks that are not in `tasks` make a task of their own.
    pub fn new(run: RunInfo, tasks: Vec<TaskInfo>, mut rollouts: Vec<RolloutSummary>) -> Self {
        rollouts.sort_by_key(|rollout| rollout.rollout);
        let mut tasks: Vec<TaskSummary> = tasks.into_iter().map(TaskSummary::empty).collect();
        let names = tasks.iter().enumerate().map(|(i, task)| (task.info.name.clone(), i));
        let mut index: BTreeMap<String, usize> = names.collect();
        for rollout in &rollouts {
            let place = *index.entry(rollout.task.clone()).or_insert_with(|| {
                let name = rollout.task.clone();
                tasks.push(TaskSummary::empty(TaskInfo { name, difficulty: None, category: None }));
                tasks.len() - 1
            });
            tasks[place].add(rollout);
        }
        let totals = Totals::new(&run, &tasks, &rollouts);
        Self { run, totals, tasks, rollouts }
    }
}

impl TaskSummary {
    fn empty(info: TaskInfo) -> Self {
        Self {
            info,
            ended: 0,
            graded: 0,
            passed: 0,
            mean_reward: None,
            phases: PhaseSeconds::default(),
            failures: BTreeMap::new(),
            retries: 0,
            spent: None,
        }
    }

    fn add(&mut self, rollout: &RolloutSummary) {
        self.ended += 1;
        self.retries += rollout.retries.values().sum::<u64>();
        self.phases = self.phases.plus(&rollout.phases);
        for agent in &rollout.agents {
            self.spent = Some(self.spent.unwrap_or_default().plus(&agent.spent));
        }
        if let Some(reward) = rollout.outcome.reward() {
            self.graded += 1;
            self.passed += u64::from(is_pass(reward));
            let mean = self.mean_reward.unwrap_or(0.0);
            self.mean_reward = Some(mean + (reward - mean) / self.graded as f64);
        }
        if let Outcome::InfrastructureFailure { class, .. } = &rollout.outcome {
            *self.failures.entry(*class).or_default() += 1;
        }
    }
}

impl Totals {
    fn new(run: &RunInfo, tasks: &[TaskSummary], rollouts: &[RolloutSummary]) -> Self {
        let rewards: Vec<f64> = rollouts.iter().filter_map(|r| r.outcome.reward()).collect();
        let passed = rewards.iter().filter(|reward| is_pass(**reward)).count() as u64;
        let graded = rewards.len() as u64;
        let mut outcomes = OutcomeCounts { passed, ..OutcomeCounts::default() };
        let mut failures = BTreeMap::new();
        let mut retries = BTreeMap::new();
        for rollout in rollouts {
            match &rollout.outcome {
                Outcome::InfrastructureFailure { class, .. } => {
                    outcomes.infrastructure_failed += 1;
                    *failures.entry(*class).or_default() += 1;
                }
                outcome if outcome.reward().is_some_and(is_pass) => {}
                Outcome::Graded { .. } => outcomes.failed += 1,
                Outcome::AgentFailure { .. } => outcomes.agent_failed += 1,
            }
            for (class, count) in &rollout.retries {
                *retries.entry(*class).or_default() += count;
            }
        }
        let ended = rollouts.len() as u64;
        let wall_sec = run.ended.duration_since(run.started).as_secs_f64().max(0.0);
        Self {
            planned: run.k.saturating_mul(tasks.len() as u64),
            ended,
            outcomes,
            resolved: Share::wilson(passed, graded),
            mean_reward: (graded > 0).then(|| rewards.iter().sum::<f64>() / graded as f64),
            pass_at: (1..=run.k).map(|k| PassAt::over(tasks, k)).collect(),
            failures,
            retries,
            wall_sec,
            rollouts_per_minute: if wall_sec > 0.0 { ended as f64 * 60.0 / wall_sec } else { 0.0 },
            phases: PhaseStats::over(rollouts),
            roles: RoleSummary::over(rollouts.iter().flat_map(|rollout| &rollout.agents)),
        }
    }
}

impl PassAt {
    fn over(tasks: &[TaskSummary], k: u64) -> Self {
        let enough = tasks.iter().filter(|task| task.graded >= k);
        let counts: Vec<_> = enough.map(|task| (task.graded, task.passed)).collect();
        Self { k, mean: mean_pass_at_k(&counts, k), tasks: counts.len() as u64 }
    }
}

impl Share {
    /// Wilson's score interval (Wilson 1927), which holds for small counts and for shares near 0
    /// and 1.
    ///
    /// It takes rollouts to be independent. Those of one task are not quite, so it is rather too
    /// narrow.
    pub fn wilson(count: u64, of: u64) -> Self {
        if of == 0 {
            return Self { count, of, share: None, low: None, high: None };
        }
        let n = of as f64;
        let p = count as f64 / n;
        let z2 = Z_95 * Z_95;
        let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z_95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        // At 0 and 1 an end of the interval is the share itself, but for rounding.
        let (low, high) = ((middle - half).clamp(0.0, p), (middle + half).clamp(p, 1.0));
        Self { count, of, share: Some(p), low: Some(low), high: Some(high) }
    }
}

impl PhaseStats {
    fn over(rollouts: &[RolloutSummary]) -> Vec<Self> {
        let each: Vec<_> = rollouts.iter().map(|rollout| rollout.phases.named()).collect();
        let stats = |(place, (phase, _)): (usize, (&str, f64))| {
            let mut seconds: Vec<f64> = each.iter().map(|phases| phases[place].1).collect();
            seconds.sort_by(f64::total_cmp);
            Self {
                phase: phase.to_owned(),
                sum: seconds.iter().sum(),
                p50: quantile(&seconds, 0.5),
                p99: quantile(&seconds, 0.99),
            }
        };
        PhaseSeconds::default().named().into_iter().enumerate().map(stats).collect()
    }
}

impl PhaseSeconds {
    /// With their names, in the order in which they happen.
    pub fn named(&self) -> [(&'static str, f64); Phase::ALL.len()] {
        Phase::ALL.map(|phase| (phase.as_str(), self.of(phase)))
    }

    fn of(&self, phase: Phase) -> f64 {
        match phase {
            Phase::Queue => self.queue,
            Phase::Image => self.image,
            Phase::Create => self.create,
            Phase::Exec => self.exec,
            Phase::Model => self.model,
            Phase::Grade => self.grade,
            Phase::Cleanup => self.cleanup,
        }
    }

    pub fn total(&self) -> f64 {
        self.named().iter().map(|(_, seconds)| seconds).sum()
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            queue: self.queue + other.queue,
            image: self.image + other.image,
            create: self.create + other.create,
            exec: self.exec + other.exec,
            model: self.model + other.model,
            grade: self.grade + other.grade,
            cleanup: self.cleanup + other.cleanup,
        }
    }
}

impl From<PhaseTimes> for PhaseSeconds {
    fn from(times: PhaseTimes) -> Self {
        let seconds = |phase| times.get(phase).as_secs_f64();
        Self {
            queue: seconds(Phase::Queue),
            image: seconds(Phase::Image),
            create: seconds(Phase::Create),
            exec: seconds(Phase::Exec),
            model: seconds(Phase::Model),
            grade: seconds(Phase::Grade),
            cleanup: seconds(Phase::Cleanup),
        }
    }
}

/// Nearest rank; 0 of nothing.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
#[path = "summary_tests.rs"]
pub(crate) mod tests;
