//! Means with 95% intervals, by the bootstrap.
//!
//! The interval is that of the percentiles (Efron 1979, "Bootstrap methods: another look at the
//! jackknife"; Efron and Tibshirani 1993, section 13.3). What is drawn anew are tasks, not
//! attempts: those of one task are alike, and the question is how a policy fares on tasks of this
//! kind. Of several runs of one arm, runs are drawn too, independently of the tasks (Owen 2007,
//! "The pigeonhole bootstrap").
//!
//! Where all tasks have the same value, such as 0 or 1, all resamples have it too: the interval is
//! that value alone, and says nothing of how rare the others are.
//!
//! The numbers that decide what is drawn follow from a place alone: the same ledgers give the same
//! interval on every machine.

use orcapack_trainer::random;
use serde::Serialize;

pub const RESAMPLES: usize = 10_000;
/// Left out on either side.
const TAIL: f64 = 0.025;
const SEED: u64 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub mean: f64,
    /// `None` of a single task, which says nothing of others.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// A value for each run and task, `None` where a run has none for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    tasks: usize,
    runs: Vec<Vec<Option<f64>>>,
}

/// The numbers that decide, one after the other.
struct Draws {
    index: u64,
}

impl Grid {
    /// Of runs with equally many tasks. Tasks without any value are left out.
    pub fn new(runs: &[Vec<Option<f64>>]) -> Self {
        let all = runs.first().map_or(0, Vec::len);
        let known: Vec<usize> =
            (0..all).filter(|task| runs.iter().any(|run| run[*task].is_some())).collect();
        let runs = runs.iter().map(|run| known.iter().map(|task| run[*task]).collect());
        Self { tasks: known.len(), runs: runs.collect() }
    }

    /// That have a value.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// Each task's mean over the runs.
    pub fn task_means(&self) -> impl Iterator<Item = f64> {
        (0..self.tasks).map(|task| {
            let values = self.runs.iter().filter_map(|run| run[task]);
            values.clone().sum::<f64>() / values.count() as f64
        })
    }

    /// The mean over tasks of each run that has any.
    pub fn run_means(&self) -> Vec<f64> {
        let tasks: Vec<usize> = (0..self.tasks).collect();
        (0..self.runs.len()).filter_map(|run| self.mean_of(run, &tasks)).collect()
    }

    /// The mean of the runs' means. `None` without values.
    pub fn estimate(&self, resamples: usize) -> Option<Estimate> {
        let drawn =
            |draws: &mut Draws, tasks: &[usize]| self.mean(&draws.of(self.runs.len()), tasks);
        estimate(self.tasks, resamples, self.whole(), drawn)
    }

    /// How much more than the reference, a grid of the same tasks. The tasks of a resample are the
    /// same in both, so that what is hard for both is no noise.
    pub fn difference(&self, reference: &Self, resamples: usize) -> Option<Estimate> {
        let drawn = |draws: &mut Draws, tasks: &[usize]| {
            let (runs, others) = (draws.of(self.runs.len()), draws.of(reference.runs.len()));
            Some(self.mean(&runs, tasks)? - reference.mean(&others, tasks)?)
        };
        let whole = self.whole().zip(reference.whole()).map(|(one, other)| one - other);
        estimate(self.tasks, resamples, whole, drawn)
    }

    fn whole(&self) -> Option<f64> {
        let means = self.run_means();
        (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
    }

    fn mean(&self, runs: &[usize], tasks: &[usize]) -> Option<f64> {
        let means = runs.iter().filter_map(|run| self.mean_of(*run, tasks));
        let (sum, count) = means.fold((0.0, 0), |(sum, count), mean| (sum + mean, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }

    fn mean_of(&self, run: usize, tasks: &[usize]) -> Option<f64> {
        let values = tasks.iter().filter_map(|task| self.runs[run][*task]);
        let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }
}

impl Draws {
    /// As many as there are, each any of them; of one, that one.
    fn of(&mut self, count: usize) -> Vec<usize> {
        if count == 1 {
            return vec![0];
        }
        let first = self.index;
        self.index += count as u64;
        let draws = first..self.index;
        draws.map(|index| random::below(SEED, index, count as u64) as usize).collect()
    }
}

fn estimate(
    tasks: usize,
    resamples: usize,
    whole: Option<f64>,
    mut drawn: impl FnMut(&mut Draws, &[usize]) -> Option<f64>,
) -> Option<Estimate> {
    let mean = whole?;
    if tasks < 2 {
        return Some(Estimate { mean, low: None, high: None });
    }
    let mut draws = Draws { index: 0 };
    let resample = |_| {
        let tasks = draws.of(tasks);
        drawn(&mut draws, &tasks)
    };
    let mut means: Vec<f64> = (0..resamples).filter_map(resample).collect();
    means.sort_by(f64::total_cmp);
    // As many below the interval as above it.
    let outside = ((means.len() as f64 * TAIL) as usize).max(1);
    let low = means.get(outside - 1).copied();
    let high = means.len().checked_sub(outside).and_then(|at| means.get(at).copied());
    Some(Estimate { mean, low, high })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(values: &[f64]) -> Grid {
        Grid::new(&[values.iter().map(|value| Some(*value)).collect()])
    }

    /// The pass rate of a task that is passed with chance `p`, of so many attempts.
    fn rate(p: f64, attempts: u64, index: &mut u64) -> f64 {
        let passes = (0..attempts).filter(|_| {
            *index += 1;
            (random::below(7, *index, 1 << 32) as f64) < p * 2f64.powi(32)
        });
        passes.count() as f64 / attempts as f64
    }

    #[test]
    fn an_interval_covers_the_truth_95_times_of_100() {
        // A task's chance is any of 0 to 1 alike, so that the truth is a half.
        let (mut covered, mut index) = (0, 0);
        const WORLDS: usize = 400;
        for _ in 0..WORLDS {
            let rates: Vec<f64> = (0..60)
                .map(|_| {
                    index += 1;
                    let p = random::below(11, index, 1 << 32) as f64 / 2f64.powi(32);
                    rate(p, 3, &mut index)
                })
                .collect();
            let found = one(&rates).estimate(600).unwrap();
            covered += usize::from(found.low.unwrap() <= 0.5 && 0.5 <= found.high.unwrap());
        }
        let share = covered as f64 / WORLDS as f64;
        // Two standard errors of the share are 0.022, and the percentiles are a bit too narrow.
        assert!((0.91..=0.98).contains(&share), "{share}");
    }

    #[test]
    fn an_interval_of_a_difference_covers_the_truth_and_is_narrower_for_its_pairs() {
        let (mut covered, mut narrower, mut index) = (0, 0, 0);
        const WORLDS: usize = 200;
        for _ in 0..WORLDS {
            let chances: Vec<f64> = (0..60)
                .map(|_| {
                    index += 1;
                    0.8 * random::below(13, index, 1 << 32) as f64 / 2f64.powi(32)
                })
                .collect();
            let before: Vec<f64> = chances.iter().map(|p| rate(*p, 16, &mut index)).collect();
            let after: Vec<f64> = chances.iter().map(|p| rate(p + 0.1, 16, &mut index)).collect();
            let found = one(&after).difference(&one(&before), 600).unwrap();
            let (low, high) = (found.low.unwrap(), found.high.unwrap());
            covered += usize::from((low..=high).contains(&0.1));
            let alone = one(&after).estimate(600).unwrap();
            narrower += usize::from(high - low < alone.high.unwrap() - alone.low.unwrap());
        }
        assert!((0.90..=0.99).contains(&(covered as f64 / WORLDS as f64)), "{covered}");
        assert!(narrower > WORLDS * 9 / 10, "{narrower}");
    }

    #[test]
    fn runs_are_drawn_too_where_there_are_several() {
        // Two runs that agree on every task differ from each other altogether.
        let runs = [vec![Some(0.0); 50], vec![Some(1.0); 50]];
        let found = Grid::new(&runs).estimate(RESAMPLES).unwrap();
        assert_eq!((found.mean, found.low, found.high), (0.5, Some(0.0), Some(1.0)));
        let same = [vec![Some(0.25); 50], vec![Some(0.25); 50]];
        let found = Grid::new(&same).estimate(RESAMPLES).unwrap();
        assert_eq!((found.mean, found.low, found.high), (0.25, Some(0.25), Some(0.25)));
    }

    #[test]
    fn what_is_missing_is_in_no_mean() {
        let grid = Grid::new(&[vec![Some(1.0), None, None], vec![Some(0.0), Some(1.0), None]]);
        assert_eq!((grid.tasks(), grid.run_means()), (2, vec![1.0, 0.5]));
        assert_eq!(grid.task_means().collect::<Vec<_>>(), [0.5, 1.0]);
        assert_eq!(grid.estimate(10).unwrap().mean, 0.75);
        assert_eq!(Grid::new(&[vec![None, None]]).estimate(10), None);
        assert_eq!(Grid::new(&[]).estimate(10), None);
        let single = one(&[0.5]).estimate(10).unwrap();
        assert_eq!(single, Estimate { mean: 0.5, low: None, high: None });
    }

    #[test]
    fn the_figures_of_some_values_are_pinned() {
        let values: Vec<f64> = (0..20).map(|task| f64::from(task % 4) / 3.0).collect();
        let found = one(&values).estimate(RESAMPLES).unwrap();
        assert_eq!(found, one(&values).estimate(RESAMPLES).unwrap());
        assert!((found.mean - 0.5).abs() < 1e-12);
        // The normal approximation has 0.337 to 0.663.
        let (low, high) = (found.low.unwrap(), found.high.unwrap());
        assert!((low - 0.333).abs() < 0.01 && (high - 0.667).abs() < 0.01, "{low} {high}");
    }

    proptest! {
        #[test]
        fn a_difference_turned_round_is_its_negative(
            pairs in prop::collection::vec((0u32..=4, 0u32..=4), 2..30),
        ) {
            let (one_is, other): (Vec<f64>, Vec<f64>) = pairs
                .into_iter()
                .map(|(one, other)| (f64::from(one) / 4.0, f64::from(other) / 4.0))
                .unzip();
            let there = one(&one_is).difference(&one(&other), 200).unwrap();
            let back = one(&other).difference(&one(&one_is), 200).unwrap();
            prop_assert_eq!(there.mean, -back.mean);
            prop_assert_eq!(there.low, back.high.map(|high| -high));
            prop_assert_eq!(there.high, back.low.map(|low| -low));
        }

        #[test]
        fn an_interval_lies_within_its_values(
            values in prop::collection::vec(0.0..=1.0f64, 2..30),
        ) {
            let found = one(&values).estimate(200).unwrap();
            let least = values.iter().copied().fold(1.0, f64::min);
            let most = values.iter().copied().fold(0.0, f64::max);
            let (low, high) = (found.low.unwrap(), found.high.unwrap());
            prop_assert!(least - 1e-9 <= low && low <= high && high <= most + 1e-9);
        }
    }
}
