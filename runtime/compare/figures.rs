//! From what came of runs to the figures of a comparison.

use std::collections::{BTreeMap, BTreeSet};

use orcapack_tasks::pass_at_k::pass_at_k;
use serde::Serialize;

use crate::compare::bootstrap::{Estimate, Grid, RESAMPLES};
use crate::compare::conditions::Conditions;

/// A task as it is in a ledger: of two with other files, neither says anything of the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskKey {
    pub name: String,
    pub digest: String,
}

/// What came of a task's rollouts in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Its family, where that is known.
    pub category: Option<String>,
    pub planned: u64,
    /// With a reward.
    pub scored: u64,
    pub passed: u64,
    /// Infrastructure failures, which are in no rate (AC-2).
    pub lost: u64,
}

/// One run, or one evaluation of a run of train.
#[derive(Clone, Debug)]
pub struct Run {
    pub label: String,
    /// Who was measured.
    pub policy: String,
    pub conditions: Conditions,
    pub tasks: BTreeMap<TaskKey, Tally>,
}

/// A row: a run, or several that differ by chance alone.
#[derive(Clone, Debug)]
pub struct Arm {
    pub name: String,
    /// At least one.
    pub runs: Vec<Run>,
}

/// Everything that is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub k: u64,
    pub resamples: usize,
    pub arms: Vec<ArmFigures>,
    /// By family, then in the order of the arms; empty where no family is known.
    pub families: Vec<FamilyFigures>,
    /// Each arm against the first.
    pub differences: Vec<DifferenceFigures>,
    pub notes: Vec<Note>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmFigures {
    pub arm: String,
    pub policy: String,
    pub tasks: usize,
    /// At each task, in each run; the fewest and the most.
    pub attempts: (u64, u64),
    pub scored: u64,
    pub lost: u64,
    pub pass_at_1: Option<Estimate>,
    /// `None` where no task has so many attempts with a reward.
    pub pass_at_k: Option<Estimate>,
    pub runs: Vec<RunFigures>,
    /// Standard deviation of the runs' pass@1, of two or more.
    pub spread: Option<f64>,
    /// Whether notes speak of it: it can be compared with reserve only.
    pub is_marked: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunFigures {
    pub run: String,
    pub pass_at_1: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FamilyFigures {
    pub family: Option<String>,
    pub arm: String,
    pub tasks: usize,
    pub pass_at_1: Option<Estimate>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DifferenceFigures {
    pub arm: String,
    pub reference: String,
    /// That both have rewards for.
    pub tasks: usize,
    /// Of pass rates, task by task.
    pub difference: Option<Estimate>,
    /// Tasks that are passed more often, as often, and less often than by the reference.
    pub wins: usize,
    pub ties: usize,
    pub losses: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    pub arm: String,
    pub run: String,
    pub what: String,
}

impl Report {
    /// `arms` are at least one. `k` is of pass@k; where it is not given, the most that every arm
    /// has attempts for.
    pub fn of(arms: &[Arm], k: Option<u64>) -> Self {
        let most = arms.iter().map(|arm| arm.attempts().1).min().unwrap_or(1);
        let k = k.unwrap_or(most).max(1);
        let notes = notes(arms);
        let reference = arms.first();
        Self {
            k,
            resamples: RESAMPLES,
            arms: arms.iter().map(|arm| arm.figures(k, &notes)).collect(),
            families: families(arms),
            differences: reference.map_or(Vec::new(), |reference| {
                arms.iter().skip(1).map(|arm| arm.against(reference)).collect()
            }),
            notes,
        }
    }
}

impl Arm {
    fn figures(&self, k: u64, notes: &[Note]) -> ArmFigures {
        let tallies = || self.runs.iter().flat_map(|run| run.tasks.values());
        let keys = self.keys();
        let grid = self.grid(&keys, 1);
        let pass_at_1 = |run: &Run| {
            let rates: Vec<f64> = run.tasks.values().filter_map(|it| it.pass_at(1)).collect();
            (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64)
        };
        let runs = self.runs.iter();
        let runs = runs.map(|run| RunFigures { run: run.label.clone(), pass_at_1: pass_at_1(run) });
        ArmFigures {
            arm: self.name.clone(),
            policy: self.policies(),
            tasks: keys.len(),
            attempts: self.attempts(),
            scored: tallies().map(|it| it.scored).sum(),
            lost: tallies().map(|it| it.lost).sum(),
            pass_at_1: grid.estimate(RESAMPLES),
            pass_at_k: self.grid(&keys, k).estimate(RESAMPLES),
            runs: runs.collect(),
            spread: spread(&grid.run_means()),
            is_marked: notes.iter().any(|note| note.arm == self.name),
        }
    }

    fn against(&self, reference: &Self) -> DifferenceFigures {
        let has = |arm: &Self, key: &TaskKey| {
            let mut tallies = arm.runs.iter().filter_map(|run| run.tasks.get(key));
            tallies.any(|tally| tally.scored > 0)
        };
        let keys = self.keys().into_iter().filter(|key| has(self, key) && has(reference, key));
        let keys: Vec<&TaskKey> = keys.collect();
        let (grid, other) = (self.grid(&keys, 1), reference.grid(&keys, 1));
        let pairs = || grid.task_means().zip(other.task_means());
        let wins = pairs().filter(|(one, other)| one - other > SAME).count();
        let losses = pairs().filter(|(one, other)| other - one > SAME).count();
        DifferenceFigures {
            arm: self.name.clone(),
            reference: reference.name.clone(),
            tasks: keys.len(),
            difference: grid.difference(&other, RESAMPLES),
            wins,
            ties: keys.len() - wins - losses,
            losses,
        }
    }

    /// Each once.
    fn policies(&self) -> String {
        let mut policies: Vec<&str> = self.runs.iter().map(|run| run.policy.as_str()).collect();
        policies.dedup();
        policies.join("; ")
    }

    fn keys(&self) -> Vec<&TaskKey> {
        let keys: BTreeSet<&TaskKey> = self.runs.iter().flat_map(|run| run.tasks.keys()).collect();
        keys.into_iter().collect()
    }

    fn grid(&self, keys: &[&TaskKey], k: u64) -> Grid {
        let value = |run: &Run, key| run.tasks.get(key).and_then(|tally: &Tally| tally.pass_at(k));
        let runs = self.runs.iter();
        let runs = runs.map(|run| keys.iter().map(|key| value(run, *key)).collect());
        Grid::new(&runs.collect::<Vec<Vec<_>>>())
    }

    fn attempts(&self) -> (u64, u64) {
        let planned = || self.runs.iter().flat_map(|run| run.tasks.values()).map(|it| it.planned);
        (planned().min().unwrap_or(0), planned().max().unwrap_or(0))
    }
}

/// Rates of tasks that differ by less are the same, but for rounding.
const SAME: f64 = 1e-9;

impl Tally {
    fn pass_at(&self, k: u64) -> Option<f64> {
        pass_at_k(self.scored, self.passed, k)
    }

    fn missing(&self) -> u64 {
        self.planned.saturating_sub(self.scored + self.lost)
    }
}

/// The standard deviation of a sample.
fn spread(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

fn families(arms: &[Arm]) -> Vec<FamilyFigures> {
    let tallies = arms.iter().flat_map(|arm| &arm.runs).flat_map(|run| run.tasks.values());
    let names: BTreeSet<Option<&String>> = tallies.map(|tally| tally.category.as_ref()).collect();
    if names.iter().all(Option::is_none) {
        return Vec::new();
    }
    let of = |family: Option<&String>, arm: &Arm| {
        let mut arm = arm.clone();
        for run in &mut arm.runs {
            run.tasks.retain(|_, tally| tally.category.as_ref() == family);
        }
        let keys = arm.keys();
        (!keys.is_empty()).then(|| FamilyFigures {
            family: family.cloned(),
            arm: arm.name.clone(),
            tasks: keys.len(),
            pass_at_1: arm.grid(&keys, 1).estimate(RESAMPLES),
        })
    };
    names.into_iter().flat_map(|name| arms.iter().filter_map(move |arm| of(name, arm))).collect()
}

/// What keeps each run from being compared with the first without reserve.
fn notes(arms: &[Arm]) -> Vec<Note> {
    let Some(reference) = arms.first().and_then(|arm| arm.runs.first()) else { return Vec::new() };
    let runs = arms.iter().flat_map(|arm| arm.runs.iter().map(move |run| (arm, run)));
    let notes = runs.flat_map(|(arm, run)| {
        let missing: u64 = run.tasks.values().map(Tally::missing).sum();
        let unfinished = (missing > 0).then(|| {
            let planned: u64 = run.tasks.values().map(|tally| tally.planned).sum();
            format!("not finished: {missing} of {planned} rollouts have not ended")
        });
        let differences = run.conditions.differences(&reference.conditions);
        let differences = differences.into_iter().map(|difference| difference.to_string());
        let whats = unfinished.into_iter().chain(differences).chain(other_tasks(run, reference));
        let note = |what| Note { arm: arm.name.clone(), run: run.label.clone(), what };
        whats.map(note).collect::<Vec<_>>()
    });
    notes.collect()
}

fn other_tasks(run: &Run, reference: &Run) -> Option<String> {
    let names =
        |run: &Run| -> BTreeSet<String> { run.tasks.keys().map(|key| key.name.clone()).collect() };
    let (own, other) = (names(run), names(reference));
    let same = run.tasks.keys().filter(|key| reference.tasks.contains_key(key)).count();
    let counts = [
        (own.intersection(&other).count().saturating_sub(same), "with other files"),
        (own.difference(&other).count(), "more"),
        (other.difference(&own).count(), "missing"),
    ];
    let told = counts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> = told.map(|(count, what)| format!("{count} {what}")).collect();
    let label = &reference.label;
    (!told.is_empty()).then(|| format!("other tasks than {label}: {}", told.join(", ")))
}

#[cfg(test)]
#[path = "figures_tests.rs"]
pub(crate) mod tests;
