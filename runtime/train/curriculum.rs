//! Which visits to tasks are worth their rollouts, while a policy learns: the band rule of
//! [`orcapack_tasks::curriculum`], measured anew with every batch.
//!
//! A task is *in the band* when of its last `of` rollouts at least `min` and at most `max` passed;
//! otherwise it is easy or hard. A visit to one in the band is always taken, one to another with
//! the probability that is its pool's weight, so that what has become hard or easy is measured
//! again now and then. A task that was never measured is taken. Pure, and a function of the seed
//! and of the batches so far: with `train.max_off_policy_steps = 0` the same each time.

use std::collections::VecDeque;

use orcapack_tasks::curriculum::{Band, NoBand, Pool};
use orcapack_tasks::toml_section::Section;
use orcapack_trainer::random;
use serde::{Deserialize, Serialize};

use crate::config_read::small_or;

/// Visits that are planned for each that may be taken.
pub const CANDIDATES: u64 = 8;

/// `[curriculum]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurriculumConfig {
    /// Whether tasks are chosen; all are visited equally often otherwise.
    pub enabled: bool,
    pub min: u32,
    pub max: u32,
    pub of: u32,
    /// How often an easy task is visited, for each time that one in the band is; 0 to 1.
    pub easy_weight: f64,
    pub hard_weight: f64,
}

impl CurriculumConfig {
    /// Where nothing is said: off, and a group of 8 that has anything to learn from.
    pub const DEFAULTS: Self =
        Self { enabled: false, min: 1, max: 7, of: 8, easy_weight: 0.1, hard_weight: 0.1 };

    pub(crate) fn read(section: &Section<'_>, base: Self) -> Self {
        let count = |key, base| small_or(section, key, base, 0..=10_000);
        let weight = |key, base| section.f64_or(key, base, 0.0..=1.0);
        let read = Self {
            enabled: section.bool_or("enabled", base.enabled),
            min: count("min", base.min),
            max: count("max", base.max),
            of: count("of", base.of),
            easy_weight: weight("easy_weight", base.easy_weight),
            hard_weight: weight("hard_weight", base.hard_weight),
        };
        if let Err(NoBand { min, max, of }) = Band::new(read.min, read.max, read.of) {
            let found = format!("min {min}, max {max}, of {of}");
            section.refuse("of", "min <= max <= of, and of at least 1", found);
        }
        read
    }
}

/// How many tasks are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools {
    pub unmeasured: u64,
    pub easy: u64,
    pub in_band: u64,
    pub hard: u64,
}

#[derive(Clone, Debug)]
pub struct Curriculum {
    config: CurriculumConfig,
    band: Band,
    seed: u64,
    /// The task of each candidate group.
    visits: Vec<u32>,
    /// By task: how its newest rollouts ended, at most `of`, the newest last.
    recent: Vec<VecDeque<bool>>,
}

impl Curriculum {
    /// `None`: it is not enabled. `visits` has the task, below `tasks`, of each candidate.
    ///
    /// # Errors
    /// No band.
    pub fn new(
        config: CurriculumConfig,
        seed: u64,
        visits: Vec<u32>,
        tasks: u32,
    ) -> Result<Option<Self>, NoBand> {
        let band = Band::new(config.min, config.max, config.of)?;
        let recent = vec![VecDeque::new(); tasks as usize];
        Ok(config.enabled.then_some(Self { config, band, seed, visits, recent }))
    }

    /// Whether this candidate is to be visited.
    pub fn wants(&self, group: u32) -> bool {
        let weight = match self.pool(self.visits[group as usize]) {
            None | Some(Pool::InBand) => return true,
            Some(Pool::Easy) => self.config.easy_weight,
            Some(Pool::Hard) => self.config.hard_weight,
        };
        let bits = random::bits(self.seed ^ STREAM, group.into());
        (bits >> 11) as f64 * 2_f64.powi(-53) < weight
    }

    /// How the rollouts of a group ended that were graded.
    pub fn measured(&mut self, group: u32, passed: impl Iterator<Item = bool>) {
        let recent = &mut self.recent[self.visits[group as usize] as usize];
        recent.extend(passed);
        let old = recent.len().saturating_sub(self.band.of as usize);
        recent.drain(..old);
    }

    pub fn pools(&self) -> Pools {
        let mut pools = Pools::default();
        for task in 0..self.recent.len() as u32 {
            *match self.pool(task) {
                None => &mut pools.unmeasured,
                Some(Pool::Easy) => &mut pools.easy,
                Some(Pool::InBand) => &mut pools.in_band,
                Some(Pool::Hard) => &mut pools.hard,
            } += 1;
        }
        pools
    }

    /// `None`: fewer than `of` rollouts are known.
    fn pool(&self, task: u32) -> Option<Pool> {
        let recent = &self.recent[task as usize];
        let passed = recent.iter().filter(|passed| **passed).count() as u32;
        (recent.len() == self.band.of as usize).then(|| self.band.pool(passed))
    }
}

/// Of the seed: the draws are no others' of this seed.
const STREAM: u64 = 0x6375_7272_6963_756c;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: CurriculumConfig =
        CurriculumConfig { enabled: true, of: 4, max: 3, ..CurriculumConfig::DEFAULTS };

    /// Of `tasks`, visited in turn.
    fn curriculum(config: CurriculumConfig, tasks: u32) -> Curriculum {
        let visits = (0..tasks).cycle().take(10_000).collect();
        Curriculum::new(config, 7, visits, tasks).unwrap().unwrap()
    }

    fn taken(curriculum: &Curriculum, task: u32, tasks: u32) -> usize {
        let visits = (task..10_000).step_by(tasks as usize);
        visits.filter(|group| curriculum.wants(*group)).count()
    }

    #[test]
    fn tasks_in_the_band_and_new_ones_are_always_visited_and_others_by_their_weight() {
        let config = CurriculumConfig { easy_weight: 0.25, hard_weight: 0.0, ..CONFIG };
        let mut curriculum = curriculum(config, 4);
        for (task, passed) in [(0, 4), (1, 2), (2, 0)] {
            curriculum.measured(task, (0..4).map(|at| at < passed));
        }
        let pools = Pools { unmeasured: 1, easy: 1, in_band: 1, hard: 1 };
        assert_eq!(curriculum.pools(), pools);
        let [easy, in_band, hard, new] = [0, 1, 2, 3].map(|task| taken(&curriculum, task, 4));
        assert_eq!((in_band, hard, new), (2500, 0, 2500));
        // 5 standard deviations of a binomial around 625.
        assert!((516..734).contains(&easy), "{easy}");
    }

    #[test]
    fn a_task_is_measured_by_its_newest_rollouts() {
        let mut curriculum = curriculum(CONFIG, 1);
        curriculum.measured(0, [false; 3].into_iter());
        assert_eq!(curriculum.pools().unmeasured, 1, "too few");
        curriculum.measured(1, [false; 3].into_iter());
        assert_eq!(curriculum.pools().hard, 1);
        curriculum.measured(2, [true; 2].into_iter());
        assert_eq!(curriculum.pools().in_band, 1);
        curriculum.measured(3, [true; 4].into_iter());
        assert_eq!(curriculum.pools().easy, 1);
    }

    #[test]
    fn without_it_all_tasks_are_visited() {
        let off = Curriculum::new(CurriculumConfig::DEFAULTS, 0, vec![0], 1);
        assert!(off.unwrap().is_none());
        let no_band = CurriculumConfig { min: 5, ..CONFIG };
        assert!(Curriculum::new(no_band, 0, vec![0], 1).is_err());
    }

    proptest! {
        #[test]
        fn the_same_batches_make_the_same_choices(
            seed: u64,
            batches in prop::collection::vec((0u32..50, prop::collection::vec(any::<bool>(), 0..9)), 0..30),
        ) {
            let visits: Vec<u32> = (0..50).map(|group| group % 7).collect();
            let make = || Curriculum::new(CONFIG, seed, visits.clone(), 7).unwrap().unwrap();
            let (mut one, mut other) = (make(), make());
            for (group, passed) in batches {
                one.measured(group, passed.iter().copied());
                other.measured(group, passed.into_iter());
            }
            let Pools { unmeasured, easy, in_band, hard } = one.pools();
            prop_assert_eq!(unmeasured + easy + in_band + hard, 7);
            for group in 0..50 {
                prop_assert_eq!(one.wants(group), other.wants(group));
            }
        }
    }
}
