//! AC-5: a rollout is in the batch of at most one training step. A pure state machine.
//!
//! A batch is taken down before its step begins, so that a run that was killed makes the same steps
//! of the same rollouts again: the very same batch may be asked for again, and is then as it is.

use std::collections::{BTreeMap, HashMap};

/// Why rollouts cannot be the batch of a step. Nothing has been written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    #[error("the batch of step {step} holds rollout {rollout} already")]
    Twice { rollout: u32, step: u64 },
    #[error("rollout {0} has not ended, and cannot be in a batch")]
    NotEnded(u32),
    #[error("the batch of step {0} has been taken down with other rollouts")]
    OtherBatch(u64),
    #[error("the batch of step {0} has no rollouts")]
    Empty(u64),
    #[error("the batch of step {step} cannot be written: {why}")]
    NotWritten { step: u64, why: String },
}

/// The batches of all steps so far.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    /// Each in its order.
    by_step: BTreeMap<u64, Vec<u32>>,
    step_of: HashMap<u32, u64>,
}

impl Batches {
    /// As they were read back.
    pub fn of(by_step: BTreeMap<u64, Vec<u32>>) -> Self {
        let pairs = by_step.iter().flat_map(|(step, batch)| batch.iter().map(|it| (*it, *step)));
        let step_of = pairs.collect();
        Self { by_step, step_of }
    }

    /// Takes down the batch of a step. Whether it is new: `false` where it is there already, the
    /// very same.
    ///
    /// # Errors
    /// Another batch is there, or a rollout is in one; nothing changes then.
    pub fn take(&mut self, step: u64, rollouts: &[u32]) -> Result<bool, ConsumeError> {
        match self.by_step.get(&step) {
            Some(batch) if batch == rollouts => return Ok(false),
            Some(_) => return Err(ConsumeError::OtherBatch(step)),
            None if rollouts.is_empty() => return Err(ConsumeError::Empty(step)),
            None => {}
        }
        let mut new: HashMap<u32, u64> = HashMap::with_capacity(rollouts.len());
        for &rollout in rollouts {
            let known = self.step_of.get(&rollout).copied();
            if let Some(step) = known.or_else(|| new.insert(rollout, step)) {
                return Err(ConsumeError::Twice { rollout, step });
            }
        }
        self.step_of.extend(new);
        self.by_step.insert(step, rollouts.to_vec());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac5_a_rollout_is_in_one_batch_and_a_refused_batch_leaves_nothing() {
        let mut batches = Batches::default();
        assert_eq!(batches.take(1, &[4, 2]), Ok(true));
        assert_eq!(batches.take(2, &[3, 2]), Err(ConsumeError::Twice { rollout: 2, step: 1 }));
        assert_eq!(batches.take(2, &[5, 5]), Err(ConsumeError::Twice { rollout: 5, step: 2 }));
        assert_eq!(batches.take(2, &[]), Err(ConsumeError::Empty(2)));
        assert_eq!(batches.take(2, &[3, 5]), Ok(true), "the refused batches left nothing");
    }

    #[test]
    fn ac5_the_very_same_batch_may_be_asked_for_again_and_no_other() {
        let mut batches = Batches::of(BTreeMap::from([(1, vec![4, 2]), (2, vec![7])]));
        assert_eq!(batches.take(1, &[4, 2]), Ok(false));
        for other in [&[2, 4][..], &[4], &[4, 2, 9], &[]] {
            assert_eq!(batches.take(1, other), Err(ConsumeError::OtherBatch(1)));
        }
        assert_eq!(batches.take(3, &[7]), Err(ConsumeError::Twice { rollout: 7, step: 2 }));
    }
}
