//! Which tasks are worth training on: those that a policy passes at times.
//!
//! A group of attempts that all pass, or all fail, has no advantage to learn from (DAPO,
//! arXiv:2503.14476, section 3.2). The training of Orca therefore measures tasks with a few
//! attempts first, and keeps those in a band: 1 to 2 passes of 3 for its first stage, 1 to 4 of 5,
//! by the model of the first, for its second.
//!
//! Counting is all that happens here; where the counts come from, a ledger or a training run that
//! is under way, is the caller's matter.

use std::fmt;

/// Keeps the tasks that pass in `min` to `max` of their first `of` scored attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    pub min: u32,
    pub max: u32,
    pub of: u32,
}

/// Where a task lies in relation to a band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pool {
    /// Passes too often: nothing is left to learn.
    Easy,
    InBand,
    /// Passes too rarely: nothing tells good from bad.
    Hard,
}

/// Tasks that were measured, parted by a band.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut<'t> {
    /// How many tasks passed never, once, and so on up to always.
    pub histogram: Vec<usize>,
    /// Those in the band, and how often each passed.
    pub kept: Vec<(&'t str, u32)>,
    /// Those that nothing can be said of, and how many scored attempts each has.
    pub too_few: Vec<(&'t str, usize)>,
}

/// What [`Band::new`] refuses: `min` <= `max` <= `of` and `of` >= 1 must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBand {
    pub min: u32,
    pub max: u32,
    pub of: u32,
}

impl Band {
    /// # Errors
    /// It is no band: see [`NoBand`].
    pub fn new(min: u32, max: u32, of: u32) -> Result<Self, NoBand> {
        if of == 0 || min > max || max > of {
            return Err(NoBand { min, max, of });
        }
        Ok(Self { min, max, of })
    }

    /// Of a task that passed in so many of its first `of` scored attempts.
    pub fn pool(self, passed: u32) -> Pool {
        if passed < self.min {
            Pool::Hard
        } else if passed > self.max {
            Pool::Easy
        } else {
            Pool::InBand
        }
    }

    /// The passes among the first `of` attempts, of which each passed or not, in their order.
    /// `Err`: there are only so many.
    pub fn count(self, passes: &[bool]) -> Result<u32, usize> {
        let first = passes.get(..self.of as usize).ok_or(passes.len())?;
        Ok(first.iter().map(|passed| u32::from(*passed)).sum())
    }

    /// Parts tasks by their scored attempts, of which each passed or not, in their order.
    pub fn cut<'t>(self, tasks: impl IntoIterator<Item = (&'t str, &'t [bool])>) -> Cut<'t> {
        let (kept, too_few) = (Vec::new(), Vec::new());
        let mut cut = Cut { histogram: vec![0; self.of as usize + 1], kept, too_few };
        for (task, passes) in tasks {
            match self.count(passes) {
                Err(scored) => cut.too_few.push((task, scored)),
                Ok(passed) => {
                    cut.histogram[passed as usize] += 1;
                    if self.pool(passed) == Pool::InBand {
                        cut.kept.push((task, passed));
                    }
                }
            }
        }
        cut
    }
}

impl fmt::Display for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} of {}", self.min, self.max, self.of)
    }
}

impl fmt::Display for NoBand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, max, of } = self;
        write!(
            f,
            "expected min <= max <= of, and of at least 1, found min {min}, max {max}, of {of}"
        )
    }
}

impl std::error::Error for NoBand {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_published_stages_keep_what_passes_at_times() {
        let first = Band::new(1, 2, 3).unwrap();
        let pools = [0, 1, 2, 3].map(|passed| first.pool(passed));
        assert_eq!(pools, [Pool::Hard, Pool::InBand, Pool::InBand, Pool::Easy]);
        let second = Band::new(1, 4, 5).unwrap();
        assert_eq!([0, 4, 5].map(|n| second.pool(n)), [Pool::Hard, Pool::InBand, Pool::Easy]);
    }

    #[test]
    fn only_the_first_attempts_count_and_too_few_say_how_many() {
        let band = Band::new(1, 2, 3).unwrap();
        assert_eq!(band.count(&[false, true, false, true, true]), Ok(1));
        assert_eq!(band.count(&[true, true]), Err(2));
        assert_eq!(band.count(&[]), Err(0));
    }

    #[test]
    fn what_is_no_band_is_refused_with_its_numbers() {
        for (min, max, of) in [(0, 0, 0), (2, 1, 3), (1, 4, 3)] {
            let fault = Band::new(min, max, of).unwrap_err();
            assert_eq!(fault, NoBand { min, max, of });
            assert!(fault.to_string().ends_with(&format!("min {min}, max {max}, of {of}")));
        }
    }

    #[test]
    fn a_cut_counts_every_task_once() {
        let tasks: [(&str, &[bool]); 5] = [
            ("always", &[true; 3]),
            ("once", &[false, true, false]),
            ("late", &[false, false, false, true]),
            ("lost", &[true, true]),
            ("twice", &[true, false, true, false]),
        ];
        let cut = Band::new(1, 2, 3).unwrap().cut(tasks);
        let (kept, too_few) = (vec![("once", 1), ("twice", 2)], vec![("lost", 2)]);
        assert_eq!(cut, Cut { histogram: vec![1, 1, 1, 1], kept, too_few });
    }

    proptest! {
        #[test]
        fn pools_part_the_counts_in_three_that_follow_each_other(
            of in 1u32..50, a in 0u32..50, b in 0u32..50,
        ) {
            let (min, max) = (a.min(b).min(of), a.max(b).min(of));
            let band = Band::new(min, max, of).unwrap();
            let pools: Vec<Pool> = (0..=of).map(|passed| band.pool(passed)).collect();
            // Hard, then in the band, then easy.
            prop_assert!(pools.windows(2).all(|pair| pair[0] >= pair[1]));
            let kept = pools.iter().filter(|pool| **pool == Pool::InBand).count();
            prop_assert_eq!(kept as u32, max - min + 1);
        }

        #[test]
        fn more_attempts_change_nothing(
            first in prop::collection::vec(any::<bool>(), 1..20),
            more in prop::collection::vec(any::<bool>(), 0..20),
        ) {
            let band = Band::new(0, 0, first.len() as u32).unwrap();
            let all = [first.clone(), more].concat();
            prop_assert_eq!(band.count(&all), band.count(&first));
        }
    }
}
