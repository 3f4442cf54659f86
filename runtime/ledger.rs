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
//! - AC-4: the rollouts of a task are a group. A lost member alone is run again; a group whose
//!   image cannot be made is cancelled once, as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use orcapack_tasks::outcome::{FailureClass, Outcome};

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
    pub attempts: Vec<PastAttempt>,
    /// The rewards of the rollouts that have their terminal record; `None` after an infrastructure
    /// failure.
    pub ended: BTreeMap<u32, Option<f64>>,
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
    /// Pending rollouts that may start now, in their order; and those that wait for a time.
    ready: BTreeSet<u32>,
    backing_off: BTreeSet<(Instant, u32)>,
    next_fence: u64,
    /// Whether a report must have the current fence.
    is_fenced: bool,
    running: usize,
    ended: usize,
}

#[derive(Clone, Debug, Default)]
struct Rollout {
    state: State,
    attempts: u32,
    failures: [u32; FailureClass::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Pending,
    Running {
        fence: u64,
    },
    Ended,
}

impl Ledger {
    /// A ledger of rollouts `0..groups.len()`, where `groups[i]` is the group of rollout `i`. The
    /// order is that of assignment.
    pub fn new(groups: Vec<u32>, limits: RetryLimits) -> Self {
        let rollouts = vec![Rollout::default(); groups.len()];
        let ready = (0..).zip(&groups).map(|(rollout, _)| rollout).collect();
        Self {
            limits,
            group_of: groups,
            rollouts,
            ready,
            backing_off: BTreeSet::new(),
            next_fence: 1,
            is_fenced: true,
            running: 0,
            ended: 0,
        }
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
                    self.ready.remove(&rollout);
                    orphans.push(Orphan { rollout, attempt, fence, node: node.clone() });
                }
            }
        }
        for &rollout in past.ended.keys() {
            if let Some(state) = self.rollouts.get_mut(rollout as usize) {
                state.state = State::Ended;
                self.ended += 1;
                self.ready.remove(&rollout);
            }
        }
        orphans
    }

    /// The next rollout that may start at `now`, if there is one.
    pub fn next(&mut self, now: Instant) -> Option<u32> {
        while let Some(&(at, rollout)) = self.backing_off.first()
            && at <= now
        {
            self.backing_off.pop_first();
            self.ready.insert(rollout);
        }
        self.ready.first().copied()
    }

    /// Starts [the next rollout](Self::next) on `node`: its number, attempt and fence, and the
    /// record of it.
    pub fn assign(&mut self, node: &str, now: Instant) -> Option<(u32, u32, u64, Record)> {
        let rollout = self.next(now)?;
        self.ready.remove(&rollout);
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
        let failures = &mut self.rollouts[rollout as usize].failures[class as usize];
        *failures += 1;
        if *failures <= self.limits.of(class) {
            if class == FailureClass::NodeLost {
                // It says nothing of the rollout, which keeps its place before those that have not
                // begun: they would take the room that it had.
                self.ready.insert(rollout);
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
        self.ready.insert(rollout);
        Ok(Record::Interrupted { rollout, attempt, fence })
    }

    pub fn running(&self) -> usize {
        self.running
    }

    pub fn ended(&self) -> usize {
        self.ended
    }

    pub fn is_complete(&self) -> bool {
        self.ended == self.rollouts.len()
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

    fn end(&mut self, rollout: u32, outcome: Outcome) -> Record {
        let state = &mut self.rollouts[rollout as usize];
        state.state = State::Ended;
        self.ended += 1;
        Record::Terminal { rollout, attempt: state.attempts, outcome }
    }

    /// Ends the pending members of a group whose image cannot be made: they could only fail the
    /// same way.
    fn cancel_group(&mut self, rollout: u32, outcome: &Outcome, records: &mut Vec<Record>) {
        let group = self.group_of[rollout as usize];
        let members = (0..).zip(&self.group_of).filter(|(_, of)| **of == group);
        let pending: Vec<u32> = members
            .map(|(member, _)| member)
            .filter(|member| self.rollouts[*member as usize].state == State::Pending)
            .collect();
        for member in pending {
            self.ready.remove(&member);
            self.backing_off.retain(|(_, waiting)| *waiting != member);
            records.push(self.end(member, outcome.clone()));
        }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
