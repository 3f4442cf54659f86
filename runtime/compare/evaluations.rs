//! Which rollouts of a run of train are its evaluations, by what its ledger has of the plan.
//!
//! A block of evaluation is admitted whole, and so is in the ledger whole or not at all. How many
//! tasks it has is nowhere else: their names recur with the next attempt at them, or the next
//! block.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::compare::asked::At;
use crate::train::layout::Layout;

/// Those of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluations(Layout);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Of the optimizer, made before it.
    pub step: u64,
    pub rollouts: Range<u32>,
}

impl Evaluations {
    /// `tasks` are those of the rollouts in the ledger. Evaluated is before step 1, then each
    /// `every` steps, which are at least one, and after the last.
    pub fn find(tasks: &BTreeMap<u32, &str>, steps: u64, every: u64, attempts: u32) -> Self {
        let from_0 = (0u32..).zip(tasks.iter()).take_while(|(place, (id, _))| place == *id);
        let from_0: Vec<&str> = from_0.map(|(_, (_, task))| *task).collect();
        let again = from_0.iter().skip(1).position(|task| *task == from_0[0]);
        let held_out_tasks = again.map_or(from_0.len(), |place| place + 1) as u32;
        // Rollouts have numbers of 32 bits: what needs more is no run's plan.
        let rollouts = (steps / every + 2)
            .saturating_mul(held_out_tasks.into())
            .saturating_mul(attempts.into());
        let held_out_tasks = if rollouts > u32::MAX.into() { 0 } else { held_out_tasks };
        Self(Layout {
            steps,
            evaluate_every: every,
            held_out_tasks,
            held_out_attempts: attempts,
            // Of what is trained on, nothing is asked.
            tasks: 1,
            group_size: 1,
            groups: 0,
            candidates: 0,
            seed: 0,
        })
    }

    /// The one that is meant, of those that have begun; the last is one that has ended.
    ///
    /// # Errors
    /// What there is instead.
    pub fn at(
        &self,
        at: At,
        has_begun: impl Fn(u32) -> bool,
        has_ended: impl Fn(u32) -> bool,
    ) -> Result<Evaluation, String> {
        let blocks = (0..).zip(self.0.evaluations());
        let all = blocks.map(|(index, step)| Evaluation { step, rollouts: self.0.block(index) });
        let begun = all.filter(|it| it.rollouts.clone().all(&has_begun) && !it.rollouts.is_empty());
        let begun: Vec<Evaluation> = begun.collect();
        let found = match at {
            At::First => begun.first(),
            At::Last => begun.iter().rev().find(|it| it.rollouts.clone().all(&has_ended)),
            At::Step(step) => begun.iter().find(|it| it.step == step),
        };
        found.cloned().ok_or_else(|| {
            let steps: Vec<String> = begun.iter().map(|it| it.step.to_string()).collect();
            if steps.is_empty() { "none".to_owned() } else { format!("steps {}", steps.join(", ")) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Before step 1 and after steps 2, 4 and 5, of 2 tasks; then 4 rollouts that are trained on.
    fn ledger(blocks: u32, attempts: u32) -> BTreeMap<u32, &'static str> {
        let size = 2 * attempts;
        let held_out = (0..blocks * size).map(|id| (id, ["x", "y"][(id % 2) as usize]));
        let training = (4 * size..4 * size + 4).map(|id| (id, "a"));
        held_out.chain(training).collect()
    }

    fn found(blocks: u32, attempts: u32, at: At) -> Result<(u64, Range<u32>), String> {
        let tasks = ledger(blocks, attempts);
        let evaluations = Evaluations::find(&tasks, 5, 2, attempts);
        let ended = |id: u32| id < 3 * 2 * attempts;
        let found = evaluations.at(at, |id| tasks.contains_key(&id), ended);
        found.map(|it| (it.step, it.rollouts))
    }

    #[test]
    fn an_evaluation_is_found_by_its_step() {
        for attempts in [1, 3] {
            let size = 2 * attempts;
            assert_eq!(found(4, attempts, At::First), Ok((0, 0..size)));
            assert_eq!(found(4, attempts, At::Step(4)), Ok((4, 2 * size..3 * size)));
            assert_eq!(found(4, attempts, At::Last), Ok((4, 2 * size..3 * size)), "that has ended");
            assert_eq!(found(1, attempts, At::Last), Ok((0, 0..size)));
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        assert_eq!(found(4, 1, At::Step(3)), Err("steps 0, 2, 4, 5".to_owned()));
        assert_eq!(found(2, 1, At::Step(5)), Err("steps 0, 2".to_owned()));
        assert_eq!(found(0, 1, At::First), Err("none".to_owned()), "nothing is held out");
        let tasks = ledger(4, 1);
        let wild = Evaluations::find(&tasks, u64::MAX / 2, 1, u32::MAX);
        assert_eq!(wild.at(At::First, |_| true, |_| true), Err("none".to_owned()));
    }
}
