//! Which rollouts may begin, and which make the next batch: a pure state machine.
//!
//! Rollouts are numbered group by group, `group_size` to a group. A group is *on its way* from its
//! admission until the samplers have the policy that was made of it. With `K` the versions that a
//! sample may lie behind, and `B` the groups of a batch, groups are admitted as long as
//!
//! ```text
//! groups on their way <= (K + 1) B
//! ```
//!
//! (the rate limit of AReaL, Fu et al. 2025, arXiv:2505.24298, eq. 3, counted from the other end).
//! So however long the trainer stands still, nothing grows. With `K = 0` training is synchronous:
//! every batch is sampled by the newest policy alone, and made of the next groups by number;
//! otherwise of the first that are complete.
//!
//! There may be more candidates than groups that are to be admitted: who admits says which of them
//! are wanted, until as many are left as are still needed.
//!
//! - PA-1: a group is in one batch at most, as a whole.
//! - PA-2: no sample of a batch lies more than `K` versions behind the policy that is trained: a
//!   group that waited too long is dropped, and counted.
//! - PA-3: groups on their way are at most `(K + 1) B`.
//! - PA-4: with `K = 0`, each batch is the next `B` of the admitted groups, whatever ends first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Of a batch; at least 1.
    pub batch_groups: u32,
    /// Rollouts of a group; at least 1.
    pub group_size: u32,
    /// 0: synchronous.
    pub max_off_policy_steps: u64,
    /// That are admitted, in the end.
    pub groups: u32,
    /// That there are to choose from; at least as many.
    pub candidates: u32,
}

/// How a rollout ended, as far as it matters here. `S` is what it gives to be trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum End<S> {
    Graded {
        reward: f64,
        samples: S,
        /// The oldest policy that has sampled a trained token; `None` where there are none.
        oldest: Option<u64>,
    },
    /// An infrastructure failure: no reward, in no advantage.
    Lost,
}

/// A complete group: its graded members in the order of their numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<S> {
    pub number: u32,
    pub members: Vec<Member<S>>,
    /// Members that were lost.
    pub lost: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Member<S> {
    pub rollout: u32,
    pub reward: f64,
    pub samples: S,
    pub oldest: Option<u64>,
}

/// What came of groups that are in no batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// They waited for so long that they lay too far behind.
    pub stale: u64,
    /// All of their members were lost.
    pub lost: u64,
}

#[derive(Debug)]
pub struct Pacer<S> {
    pace: Pace,
    /// Steps done: the version of the policy that is trained.
    version: u64,
    /// Batches that were taken.
    taken: u64,
    /// The version that the samplers have.
    delivered: u64,
    /// The next candidate.
    next: u32,
    /// Groups that were admitted.
    admitted: u32,
    /// By number: the ends of their rollouts.
    open: BTreeMap<u32, BTreeMap<u32, End<S>>>,
    /// Complete, in the order in which they are to be taken.
    complete: VecDeque<Group<S>>,
    dropped: Dropped,
    is_held: bool,
}

impl<S> Pacer<S> {
    pub fn new(pace: Pace) -> Self {
        Self::resume(pace, 0, &BTreeSet::new(), &BTreeSet::new())
    }

    /// Behind `version` steps, for which the groups in `consumed` were taken. Of those that were
    /// admitted and not consumed nothing has ended yet.
    pub fn resume(
        pace: Pace,
        version: u64,
        admitted: &BTreeSet<u32>,
        consumed: &BTreeSet<u32>,
    ) -> Self {
        let open = admitted.difference(consumed);
        Self {
            pace,
            version,
            taken: version,
            delivered: version,
            next: admitted.last().map_or(0, |newest| newest + 1),
            admitted: admitted.len() as u32,
            open: open.map(|group| (*group, BTreeMap::new())).collect(),
            complete: VecDeque::new(),
            dropped: Dropped::default(),
            is_held: false,
        }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Nothing is admitted until it is let go on.
    pub fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// The groups that may begin now: the next candidates that are wanted.
    pub fn admit(&mut self, wanted: impl Fn(u32) -> bool) -> Vec<u32> {
        let Pace { batch_groups, max_off_policy_steps, .. } = self.pace;
        let size = u64::from(batch_groups);
        let bound = max_off_policy_steps.saturating_add(1).saturating_mul(size);
        let mut admitted = Vec::new();
        while !self.is_held && self.on_their_way() < bound && self.left() > 0 {
            let group = self.next;
            let is_needed = self.pace.candidates - group == self.left();
            self.next += 1;
            if is_needed || wanted(group) {
                self.admitted += 1;
                self.open.insert(group, BTreeMap::new());
                admitted.push(group);
            }
        }
        admitted
    }

    /// The rollouts of a group.
    pub fn rollouts(&self, group: u32) -> Range<u32> {
        let size = self.pace.group_size;
        group * size..group * size + size
    }

    /// PA-3.
    fn on_their_way(&self) -> u64 {
        let consumed = self.taken.saturating_sub(self.delivered);
        (self.open.len() + self.complete.len()) as u64
            + consumed * u64::from(self.pace.batch_groups)
    }

    /// Groups that may still be admitted.
    fn left(&self) -> u32 {
        let Pace { groups, candidates, .. } = self.pace;
        groups.saturating_sub(self.admitted).min(candidates.saturating_sub(self.next))
    }

    /// The rollouts of open groups that have not ended.
    pub fn not_ended(&self) -> impl Iterator<Item = u32> {
        self.open.iter().flat_map(|(group, ends)| {
            self.rollouts(*group).filter(|rollout| !ends.contains_key(rollout))
        })
    }

    /// Whether the end of a rollout is waited for.
    pub fn is_open(&self, rollout: u32) -> bool {
        let ends = self.open.get(&(rollout / self.pace.group_size));
        ends.is_some_and(|ends| !ends.contains_key(&rollout))
    }

    /// A rollout has ended. One of no open group changes nothing.
    pub fn ended(&mut self, rollout: u32, end: End<S>) {
        let number = rollout / self.pace.group_size;
        let Some(ends) = self.open.get_mut(&number) else { return };
        ends.insert(rollout, end);
        if ends.len() < self.pace.group_size as usize {
            return;
        }
        let ends = self.open.remove(&number).unwrap_or_default();
        let group = Group::of(number, ends);
        if self.is_synchronous() {
            let at = self.complete.partition_point(|other| other.number < number);
            self.complete.insert(at, group);
        } else {
            self.complete.push_back(group);
        }
    }

    /// The groups of the next step, once there are enough of them.
    pub fn batch(&mut self) -> Option<Vec<Group<S>>> {
        if !self.is_synchronous() {
            self.drop_unfit();
        }
        let size = self.pace.batch_groups as usize;
        if self.complete.len() < size || !self.is_next_in_order(size) {
            return None;
        }
        self.taken += 1;
        Some(self.complete.drain(..size).collect())
    }

    /// The groups of a step that was begun before: those of these rollouts, in their order. `None`
    /// where one is not there.
    pub fn replay(&mut self, rollouts: &[u32]) -> Option<Vec<Group<S>>> {
        let mut numbers: Vec<u32> =
            rollouts.iter().map(|rollout| rollout / self.pace.group_size).collect();
        numbers.dedup();
        let mut batch = Vec::with_capacity(numbers.len());
        for number in numbers {
            let at = self.complete.iter().position(|group| group.number == number)?;
            batch.extend(self.complete.remove(at));
        }
        self.taken += 1;
        Some(batch)
    }

    /// A step of the optimizer was made.
    pub fn stepped(&mut self) {
        self.version += 1;
    }

    /// The samplers have this version.
    pub fn delivered(&mut self, version: u64) {
        self.delivered = self.delivered.max(version);
    }

    /// No batch will come any more: there are too few groups left.
    pub fn is_exhausted(&self) -> bool {
        let left = self.left() as usize + self.open.len() + self.complete.len();
        left < self.pace.batch_groups as usize
    }

    fn is_synchronous(&self) -> bool {
        self.pace.max_off_policy_steps == 0
    }

    /// PA-4.
    fn is_next_in_order(&self, size: usize) -> bool {
        let first_open = self.open.keys().next();
        let last = self.complete.get(size - 1);
        !self.is_synchronous()
            || first_open.is_none_or(|open| last.is_some_and(|last| last.number < *open))
    }

    /// PA-2, and groups without a single graded member.
    fn drop_unfit(&mut self) {
        let (version, behind_max) = (self.version, self.pace.max_off_policy_steps);
        let dropped = &mut self.dropped;
        self.complete.retain(|group| {
            let is_lost = group.members.is_empty();
            let is_stale =
                group.oldest().is_some_and(|oldest| version.saturating_sub(oldest) > behind_max);
            dropped.lost += u64::from(is_lost);
            dropped.stale += u64::from(is_stale);
            !(is_lost || is_stale)
        });
    }
}

impl<S> Group<S> {
    fn of(number: u32, ends: BTreeMap<u32, End<S>>) -> Self {
        let mut group = Self { number, members: Vec::new(), lost: 0 };
        for (rollout, end) in ends {
            match end {
                End::Graded { reward, samples, oldest } => {
                    group.members.push(Member { rollout, reward, samples, oldest });
                }
                End::Lost => group.lost += 1,
            }
        }
        group
    }

    /// The oldest policy that has sampled any of it.
    pub fn oldest(&self) -> Option<u64> {
        self.members.iter().filter_map(|member| member.oldest).min()
    }
}

#[cfg(test)]
#[path = "pacer_tests.rs"]
mod tests;
