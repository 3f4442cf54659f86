//! The rollouts of a training run and their numbers: first those of the evaluations, block by
//! block, then those of the training groups. Pure, and the same at each start of a run.

use std::ops::Range;

use orcapack_trainer::random;

/// How many there are of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of the optimizer.
    pub steps: u64,
    /// Steps between two evaluations; 0: there are none.
    pub evaluate_every: u64,
    pub held_out_tasks: u32,
    /// Attempts at each of them.
    pub held_out_attempts: u32,
    /// That are trained on; at least 1.
    pub tasks: u32,
    /// Rollouts of a group.
    pub group_size: u32,
    /// Training groups that may be admitted.
    pub groups: u32,
    /// Training groups that there are to choose from; at least as many.
    pub candidates: u32,
    /// Of the order of the tasks.
    pub seed: u64,
}

/// What a rollout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Of the held-out task with this index, in an evaluation.
    Evaluation { task: u32 },
    /// Of the training task with this index.
    Training { group: u32, task: u32 },
}

impl Layout {
    /// The steps before which, or after the last of which, the policy is evaluated.
    pub fn evaluations(&self) -> Vec<u64> {
        if self.evaluate_every == 0 || self.held_out_tasks == 0 {
            return Vec::new();
        }
        let mut at: Vec<u64> = (0..=self.steps).step_by(self.evaluate_every as usize).collect();
        if at.last() != Some(&self.steps) {
            at.push(self.steps);
        }
        at
    }

    /// The rollouts of the evaluation with this index in [`Layout::evaluations`].
    pub fn block(&self, index: usize) -> Range<u32> {
        let size = self.held_out_tasks * self.held_out_attempts;
        let first = index as u32 * size;
        first..first + size
    }

    /// Before it are the evaluations.
    pub fn first_training(&self) -> u32 {
        self.block(self.evaluations().len()).start
    }

    /// All of them, in order.
    pub fn roles(&self) -> impl Iterator<Item = Role> {
        let evaluations = (0..self.evaluations().len()).flat_map(|_| {
            let tasks = 0..self.held_out_tasks;
            (0..self.held_out_attempts)
                .flat_map(move |_| tasks.clone().map(|task| Role::Evaluation { task }))
        });
        let training = (0..).zip(self.visits()).flat_map(|(group, task)| {
            (0..self.group_size).map(move |_| Role::Training { group, task })
        });
        evaluations.chain(training)
    }

    /// The tasks of the candidates: all of them in an order of the seed's, then all in another.
    pub fn visits(&self) -> impl Iterator<Item = u32> {
        let (tasks, seed) = (self.tasks as usize, self.seed);
        (0..)
            .flat_map(move |epoch| random::permutation(tasks, random::bits(seed, epoch)))
            .map(|task| task as u32)
            .take(self.candidates as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        steps: 5,
        evaluate_every: 2,
        held_out_tasks: 3,
        held_out_attempts: 2,
        tasks: 4,
        group_size: 2,
        groups: 6,
        candidates: 6,
        seed: 7,
    };

    #[test]
    fn evaluations_come_first_and_the_last_is_after_the_last_step() {
        assert_eq!(LAYOUT.evaluations(), [0, 2, 4, 5]);
        assert_eq!(Layout { steps: 4, ..LAYOUT }.evaluations(), [0, 2, 4]);
        assert!(Layout { evaluate_every: 0, ..LAYOUT }.evaluations().is_empty());
        assert_eq!((LAYOUT.block(1), LAYOUT.first_training()), (6..12, 24));
        let roles: Vec<Role> = LAYOUT.roles().collect();
        let block: Vec<Role> =
            [0, 1, 2, 0, 1, 2].map(|task| Role::Evaluation { task }).into_iter().collect();
        assert_eq!(roles[6..12], block);
    }

    #[test]
    fn each_task_is_visited_once_before_any_is_visited_again() {
        let roles: Vec<Role> = LAYOUT.roles().skip(24).collect();
        assert_eq!(roles.len(), 12);
        let mut groups = roles.chunks(2).enumerate().map(|(number, group)| {
            let Role::Training { group: found, task } = group[0] else { panic!("{group:?}") };
            assert_eq!((group[0], found), (group[1], number as u32));
            task
        });
        let mut first: Vec<u32> = groups.by_ref().take(4).collect();
        assert_ne!(first, [0, 1, 2, 3]);
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3]);
        assert_eq!(groups.count(), 2);
        assert_eq!(LAYOUT.roles().collect::<Vec<_>>(), LAYOUT.roles().collect::<Vec<_>>());
    }
}
