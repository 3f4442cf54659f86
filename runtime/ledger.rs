//! The ledger: what was assigned, how it ended, and what has to happen next. A pure state machine.
//!
//! Events go in ([`Ledger::assign`], [`Ledger::report`], [`Ledger::interrupt`]), [`Record`]s come
//! out. The records are committed by the [store](crate::store) before anything that follows from
//! them is done.
//!
//! - AC-1: `assign` gives an [`Record::Assigned`] to commit before the attempt is dispatched;
//!   `report` gives a [`Record::Terminal`] to commit before the result counts.
//! - AC-2: a rollout gets exactly one `Terminal`; an infrastructure failure has no reward and is
//!   retried within the limit of its class.
//! - AC-3: a report whose fence is not the current one is refused ([`Stale`]).
//! - AC-4: the rollouts of a task, or of one visit to it, are a group, which the plan says. A lost
//!   member alone is run again; a group whose image cannot be made is cancelled once, as a whole.
//! - AC-5: [`Ledger::consume`] gives a [`Record::Consumed`] to commit before a step begins.
//!
//! Rollouts are held until they are [admitted](Ledger::admit), and start in the order of that; one
//! that is run again keeps its place. A new [`Ledger`] has admitted all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use orcapack_tasks::outcome::{FailureClass, Outcome};

use crate::batches::{Batches, ConsumeError};
use crate::config::RetryLimits;

/// The first retry waits this long, each further one twice as long as the one before.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// An engine that restarts is back within a minute or so; waiting longer would only waste slots.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Something that must be committed.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Assigned {
        rollout: u32,
        attempt: u32,
        fence: u64,
        /// Who is to run it.
        node: String,
    },
    AttemptEnded {
        rollout: u32,
        attempt: u32,
        fence: u64,
        outcome: Outcome,
    },
    /// The attempt was stopped, or its process died; it does not count against any limit.
    Interrupted {
        rollout: u32,
        attempt: u32,
        fence: u64,
    },
    /// The one and only end of a rollout. A cancelled rollout may have had no attempt at all.
    Terminal {
        rollout: u32,
        attempt: u32,
        outcome: Outcome,
    },
    /// The batch of a training step, in its order.
    Consumed {
        step: u64,
        rollouts: Vec<u32>,
    },
}

/// How a rollout ended, by its terminal record.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub rollout: u32,
    /// 0: cancelled before its first attempt.
    pub attempt: u32,
    pub outcome: Outcome,
}

impl Record {
    /// Of a terminal record.
    pub fn ended(&self) -> Option<Ended> {
        let Self::Terminal { rollout, attempt, outcome } = self else { return None };
        Some(Ended { rollout: *rollout, attempt: *attempt, outcome: outcome.clone() })
    }
}

/// A report that came too late: the rollout has ended, or another attempt has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a report with fence {fence} for rollout {rollout} is stale")]
pub struct Stale {
    pub rollout: u32,
    pub fence: u64,
}

/// What is known of a past run when its ledger is opened again.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The rollouts whose part of the plan is on disk, in their order.
    pub planned: Vec<u32>,
    pub attempts: Vec<PastAttempt>,
    /// The rollouts that have their terminal record, in their order.
    pub ended: Vec<Ended>,
    /// The batches of training steps, each in its order.
    pub batches: BTreeMap<u64, Vec<u32>>,
}

#[derive(Clone, Debug)]
pub struct PastAttempt {
    pub rollout: u32,
    pub attempt: u32,
    pub fence: u64,
    pub node: String,
    /// `None`: it was running when the process died.
    pub end: Option<PastEnd>,
}

/// An attempt that was assigned in a past life of this process, and of whose end nothing is known.
/// Until it is [reported](Ledger::report) or [interrupted](Ledger::interrupt), it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub rollout: u32,
    pub attempt: u32,
    pub fence: u64,
    pub node: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastEnd {
    Graded,
    Failed(FailureClass),
    Interrupted,
}

#[derive(Debug)]
pub struct Ledger {
    limits: RetryLimits,
    group_of: Vec<u32>,
    rollouts: Vec<Rollout>,
    /// Admitted rollouts that may start now, by their places; and those that wait for a time.
    ready: BTreeMap<u32, u32>,
    backing_off: BTreeSet<(Instant, u32)>,
    batches: Batches,
    next_place: u32,
    next_fence: u64,
    /// Whether a report must have the current fence.
    is_fenced: bool,
    running: usize,
    ended: usize,
    /// Admitted, and not ended.
    open: usize,
    closed: bool,
}

#[derive(Clone, Debug, Default)]
struct Rollout {
    state: State,
    /// In the order of admission; `None` as long as it is held.
    place: Option<u32>,
    attempts: u32,
    failures: [u32; FailureClass::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Held, or waiting for its turn.
    #[default]
    Pending,
    Running {
        fence: u64,
    },
    Ended,
}

impl Ledger {
    /// A ledger of rollouts `0..groups.len()`, where `groups[i]` is the group of rollout `i`. All
    /// are admitted, in their order.
    pub fn new(groups: Vec<u32>, limits: RetryLimits) -> Self {
        let mut ledger = Self::held(groups, limits);
        ledger.admit(0..u32::MAX);
        ledger.close();
        ledger
    }

    /// The same of rollouts that are still to be admitted.
    pub fn held(groups: Vec<u32>, limits: RetryLimits) -> Self {
        Self {
            limits,
            rollouts: vec![Rollout::default(); groups.len()],
            group_of: groups,
            ready: BTreeMap::new(),
            backing_off: BTreeSet::new(),
            batches: Batches::default(),
            next_place: 0,
            next_fence: 1,
            is_fenced: true,
            running: 0,
            ended: 0,
            open: 0,
            closed: false,
        }
    }

    /// Lets these run, after all that were admitted before. Those that were admitted or have ended
    /// already, and those that there are not, change nothing. Nothing is admitted after
    /// [`Self::close`].
    pub fn admit(&mut self, rollouts: Range<u32>) {
        let end = rollouts.end.min(self.rollouts.len() as u32);
        for rollout in rollouts.start..end {
            let state = &mut self.rollouts[rollout as usize];
            if self.closed || state.place.is_some() || state.state == State::Ended {
                continue;
            }
            state.place = Some(self.next_place);
            if state.state == State::Pending {
                self.ready.insert(self.next_place, rollout);
            }
            self.next_place += 1;
            self.open += 1;
        }
    }

    /// Nothing more will be admitted: the run is complete when all that was has ended.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// A ledger with a flaw, which a simulation must find.
    #[doc(hidden)]
    pub fn without_fences(self) -> Self {
        Self { is_fenced: false, ..self }
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.is_fenced
    }

    /// Goes on where a past process stopped. What was running then may run still, on another node.
    /// Of rollouts that are held, what has not ended stays so, whoever admitted it then.
    pub fn resume(&mut self, past: &Past) -> Vec<Orphan> {
        let mut orphans = Vec::new();
        for PastAttempt { rollout, attempt, fence, node, end } in &past.attempts {
            let (rollout, attempt, fence) = (*rollout, *attempt, *fence);
            self.next_fence = self.next_fence.max(fence + 1);
            let Some(state) = self.rollouts.get_mut(rollout as usize) else { continue };
            state.attempts = state.attempts.max(attempt);
            match end {
                Some(PastEnd::Failed(class)) => state.failures[*class as usize] += 1,
                Some(PastEnd::Graded | PastEnd::Interrupted) => {}
                None => {
                    state.state = State::Running { fence };
                    self.running += 1;
                    if let Some(place) = state.place {
                        self.ready.remove(&place);
                    }
                    orphans.push(Orphan { rollout, attempt, fence, node: node.clone() });
                }
            }
        }
        for Ended { rollout, .. } in &past.ended {
            if let Some(state) = self.rollouts.get_mut(*rollout as usize) {
                state.state = State::Ended;
                self.ended += 1;
                self.leave(*rollout);
            }
        }
        self.batches = Batches::of(past.batches.clone());
        orphans
    }

    /// The next rollout that may start at `now`, if there is one.
    pub fn next(&mut self, now: Instant) -> Option<u32> {
        while let Some(&(at, rollout)) = self.backing_off.first()
            && at <= now
        {
            self.backing_off.pop_first();
            self.wait_for_turn(rollout);
        }
        self.ready.first_key_value().map(|(_, rollout)| *rollout)
    }

    /// Starts [the next rollout](Self::next) on `node`: its number, attempt and fence, and the
    /// record of it.
    pub fn assign(&mut self, node: &str, now: Instant) -> Option<(u32, u32, u64, Record)> {
        self.next(now)?;
        let (_, rollout) = self.ready.pop_first()?;
        let fence = self.next_fence;
        self.next_fence += 1;
        let state = &mut self.rollouts[rollout as usize];
        state.attempts += 1;
        state.state = State::Running { fence };
        self.running += 1;
        let attempt = state.attempts;
        let node = node.to_owned();
        Some((rollout, attempt, fence, Record::Assigned { rollout, attempt, fence, node }))
    }

    /// The attempt with this fence ended.
    ///
    /// # Errors
    /// [`Stale`], and nothing changes.
    pub fn report(
        &mut self,
        rollout: u32,
        fence: u64,
        outcome: Outcome,
        now: Instant,
    ) -> Result<Vec<Record>, Stale> {
        let attempt = self.stop_running(rollout, fence)?;
        let mut records =
            vec![Record::AttemptEnded { rollout, attempt, fence, outcome: outcome.clone() }];
        let Outcome::InfrastructureFailure { class, .. } = outcome else {
            records.push(self.end(rollout, outcome));
            return Ok(records);
        };
        let Rollout { failures, place, .. } = &mut self.rollouts[rollout as usize];
        let failures = &mut failures[class as usize];
        *failures += 1;
        if *failures <= self.limits.of(class) {
            if class == FailureClass::NodeLost || place.is_none() {
                // A lost node says nothing of the rollout, which keeps its place before those that
                // have not begun: they would take the room that it had. One that a past life
                // admitted is held now.
                self.wait_for_turn(rollout);
                return Ok(records);
            }
            let doublings = (*failures - 1).min(16);
            let wait = (BACKOFF_MIN * 2u32.pow(doublings)).min(BACKOFF_MAX);
            self.backing_off.insert((now + wait, rollout));
            return Ok(records);
        }
        records.push(self.end(rollout, outcome.clone()));
        if class == FailureClass::Image {
            self.cancel_group(rollout, &outcome, &mut records);
        }
        Ok(records)
    }

    /// The attempt with this fence was stopped before its end, by no fault of its own; it may start
    /// again at once.
    ///
    /// # Errors
    /// [`Stale`], and nothing changes.
    pub fn interrupt(&mut self, rollout: u32, fence: u64) -> Result<Record, Stale> {
        let attempt = self.stop_running(rollout, fence)?;
        self.wait_for_turn(rollout);
        Ok(Record::Interrupted { rollout, attempt, fence })
    }

    /// Makes these, in this order, the batch of a training step. `None`: they are it already.
    ///
    /// # Errors
    /// One of them has not ended, or is in a batch already, or the step has another batch; nothing
    /// changes then.
    pub fn consume(
        &mut self,
        step: u64,
        rollouts: Vec<u32>,
    ) -> Result<Option<Record>, ConsumeError> {
        let has_ended = |rollout: &&u32| {
            let state = self.rollouts.get(**rollout as usize);
            state.is_some_and(|state| state.state == State::Ended)
        };
        if let Some(rollout) = rollouts.iter().find(|rollout| !has_ended(rollout)) {
            return Err(ConsumeError::NotEnded(*rollout));
        }
        let is_new = self.batches.take(step, &rollouts)?;
        Ok(is_new.then_some(Record::Consumed { step, rollouts }))
    }

    /// Of a rollout that there is.
    pub fn group_of(&self, rollout: u32) -> Option<u32> {
        self.group_of.get(rollout as usize).copied()
    }

    pub fn running(&self) -> usize {
        self.running
    }

    pub fn ended(&self) -> usize {
        self.ended
    }

    /// Rollouts that have ended, or were admitted and will.
    pub fn total(&self) -> usize {
        self.ended + self.open
    }

    /// Whether all that was admitted has ended, and nothing more will be.
    pub fn is_complete(&self) -> bool {
        self.closed && self.open == 0 && self.running == 0
    }

    /// When a rollout that backs off may start, if none may start now.
    pub fn next_ready_at(&self) -> Option<Instant> {
        if self.ready.is_empty() { self.backing_off.first().map(|(at, _)| *at) } else { None }
    }

    fn stop_running(&mut self, rollout: u32, fence: u64) -> Result<u32, Stale> {
        let stale = Stale { rollout, fence };
        let state = self.rollouts.get_mut(rollout as usize).ok_or(stale)?;
        let State::Running { fence: current } = state.state else { return Err(stale) };
        if current != fence && self.is_fenced {
            return Err(stale);
        }
        state.state = State::Pending;
        self.running -= 1;
        Ok(state.attempts)
    }

    /// A pending rollout may start, unless it is held.
    fn wait_for_turn(&mut self, rollout: u32) {
        if let Some(place) = self.rollouts[rollout as usize].place {
            self.ready.insert(place, rollout);
        }
    }

    fn end(&mut self, rollout: u32, outcome: Outcome) -> Record {
        let state = &mut self.rollouts[rollout as usize];
        state.state = State::Ended;
        let attempt = state.attempts;
        self.ended += 1;
        self.leave(rollout);
        Record::Terminal { rollout, attempt, outcome }
    }

    /// A rollout that has ended is nowhere else.
    fn leave(&mut self, rollout: u32) {
        if let Some(place) = self.rollouts[rollout as usize].place {
            self.ready.remove(&place);
            self.open -= 1;
        }
    }

    /// Ends the pending members of a group whose image cannot be made, those that are held too:
    /// they could only fail the same way.
    fn cancel_group(&mut self, rollout: u32, outcome: &Outcome, records: &mut Vec<Record>) {
        let group = self.group_of[rollout as usize];
        let members = (0..).zip(&self.group_of).filter(|(_, of)| **of == group);
        let pending: Vec<u32> = members
            .map(|(member, _)| member)
            .filter(|member| self.rollouts[*member as usize].state == State::Pending)
            .collect();
        for member in pending {
            self.backing_off.retain(|(_, waiting)| *waiting != member);
            records.push(self.end(member, outcome.clone()));
        }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
