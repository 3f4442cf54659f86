//! The lines of `metrics.jsonl` of a run that trains: one for each step, one for each evaluation.

use std::path::Path;
use std::{fs, io};

use orcapack_trainer::ranks::StepReport;
use serde::{Deserialize, Serialize};

use crate::summary::Share;
use crate::train::batch::GroupFigures;
use crate::train::curriculum::Pools;
use crate::train::pacer::Dropped;

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stepped {
    /// 1 is the first.
    pub step: u64,
    /// Over the graded rollouts of its groups.
    pub reward_mean: f64,
    pub pass_rate: f64,
    pub groups: u64,
    /// Groups with nothing to learn from.
    pub groups_all_passed: u64,
    pub groups_all_failed: u64,
    /// Since the run began: dropped for their age, and because all of their members were lost.
    pub groups_dropped_stale: u64,
    pub groups_dropped_lost: u64,
    pub rollouts: u64,
    pub rollouts_lost: u64,
    /// That were trained on.
    pub samples: u64,
    pub samples_too_long: u64,
    /// Versions between the policy and the oldest token of a group.
    pub staleness_mean: f64,
    pub staleness_max: u64,
    /// Where the tasks are; `None` without a curriculum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<Pools>,
    /// `None` where no group had anything to learn from, and no step of the optimizer was made.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub learnt: Option<Learnt>,
    pub seconds: Seconds,
    pub tokens_per_sec: f64,
    /// Rollouts that ended, since the step before.
    pub rollouts_per_min: f64,
}

/// What the optimizer's step was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learnt {
    pub loss: f64,
    /// Of the policy's distribution at the trained tokens, mean, in nats.
    pub entropy: f64,
    /// Before clipping.
    pub grad_norm: f64,
    pub clip_fraction: f64,
    pub ratio_mean: f64,
    pub ratio_max: f64,
    pub tis_cap_fraction: f64,
    /// Of the policy from its samplers.
    pub kl_to_sampler: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_to_reference: Option<f64>,
    pub learning_rate: f64,
    /// All of the batch, prompts too.
    pub tokens: u64,
    pub trained_tokens: u64,
    pub world_size: u64,
    /// Of the ring; each abort of a step adds one.
    pub epoch: u64,
    pub aborts: u64,
}

/// Where the time of a step went. The first five add up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// The trainer waited for rollouts.
    pub waiting_for_batch: f64,
    /// It made the step: `reduce` is the part in which it waited for other ranks.
    pub train: f64,
    /// The samplers got the weights, and the trainer waited for that.
    pub deliver: f64,
    pub evaluate: f64,
    pub checkpoint: f64,
    pub reduce: f64,
    /// No rollout ran, because all that could be admitted had ended.
    pub waiting_for_policy: f64,
}

/// One evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Steps before it.
    pub step: u64,
    /// Rollouts that passed, of those graded, with its 95% interval.
    pub held_out: Share,
    pub lost: u64,
}

impl Learnt {
    pub fn of(report: &StepReport, learning_rate: f64) -> Self {
        let metrics = &report.metrics;
        Self {
            loss: report.loss,
            entropy: report.entropy,
            grad_norm: report.grad_norm,
            clip_fraction: metrics.clip_fraction(),
            ratio_mean: metrics.ratio_mean(),
            ratio_max: metrics.ratio_max(),
            tis_cap_fraction: metrics.tis_cap_fraction(),
            kl_to_sampler: metrics.kl_to_sampler_k3(),
            kl_to_reference: metrics.kl_to_reference_k3(),
            learning_rate,
            tokens: report.tokens as u64,
            trained_tokens: report.trained_tokens as u64,
            world_size: report.world_size as u64,
            epoch: report.epoch,
            aborts: report.aborts.len() as u64,
        }
    }
}

impl Stepped {
    /// Of the groups; what the optimizer did is still to come.
    pub fn of(step: u64, figures: &GroupFigures, dropped: Dropped) -> Self {
        let graded = figures.rollouts.max(1) as f64;
        Self {
            step,
            reward_mean: figures.reward_mean,
            pass_rate: figures.passed as f64 / graded,
            groups: figures.groups,
            groups_all_passed: figures.all_passed,
            groups_all_failed: figures.all_failed,
            groups_dropped_stale: dropped.stale,
            groups_dropped_lost: dropped.lost,
            rollouts: figures.rollouts,
            rollouts_lost: figures.lost,
            samples_too_long: figures.too_long,
            staleness_mean: figures.staleness_mean,
            staleness_max: figures.staleness_max,
            ..Self::default()
        }
    }
}

/// All lines of a run, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    pub steps: Vec<Stepped>,
    pub evaluations: Vec<Evaluated>,
}

impl History {
    /// A file that is absent holds none.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is of another kind.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut history = Self::default();
        for line in text.lines() {
            match serde_json::from_str(line)? {
                Line::Evaluated(line) => history.evaluations.push(line),
                Line::Stepped(line) => history.steps.push(*line),
            }
        }
        Ok(history)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Evaluated(Evaluated),
    Stepped(Box<Stepped>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics_file::MetricsFile;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert_eq!(History::read(&path).unwrap(), History::default());
        let evaluated = Evaluated { step: 0, held_out: Share::wilson(1, 4), lost: 1 };
        let mut figures = GroupFigures { groups: 2, rollouts: 3, ..GroupFigures::default() };
        figures.passed = 1;
        let empty = Stepped::of(1, &figures, Dropped { stale: 1, lost: 2 });
        let learnt = Some(Learnt { loss: -0.5, kl_to_reference: Some(0.25), ..Learnt::default() });
        let curriculum = Some(Pools { hard: 3, ..Pools::default() });
        let full = Stepped { step: 2, learnt, curriculum, ..empty.clone() };
        let mut file = MetricsFile::open(&path, 0).unwrap();
        file.write(&evaluated).unwrap();
        file.write(&empty).unwrap();
        file.write(&full).unwrap();
        let history = History::read(&path).unwrap();
        assert_eq!(history, History { steps: vec![empty, full], evaluations: vec![evaluated] });
    }
}
