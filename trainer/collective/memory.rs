//! Ranks of one process: each sums its part of everybody's buffer, and writes it to all.
//!
//! A call is two meetings. At the first, each rank lends its buffer to the group; once all are
//! there, each works on its own region of all of them, in the order of the ranks. At the second,
//! the last one to be done takes the loans back, and nobody leaves before. So a buffer is touched
//! by others only while its owner waits, and each of its values by one rank only: that is what the
//! unsafe code in this file rests on.
//!
//! A rank waits for others at the first meeting alone, until its deadline, an abort, or the end of
//! another rank; nobody has touched a buffer by then. Who has begun to work never waits, and looks
//! at every block whether the group has ended.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{ptr, slice};

use crate::collective::{Abort, Collective, CollectiveError, part, sums};

/// Values that are summed at once: with their sum they stay in the nearest cache.
const BLOCK: usize = 2048;

#[derive(Clone, Copy, Debug)]
pub struct MemorySettings {
    /// How long after the first rank the last one may begin a call.
    pub timeout: Duration,
    /// What errors call the first rank; the others follow.
    pub first_rank: usize,
}

/// The ranks of a group, in order, each with a way to end it for all.
pub fn group(world_size: usize, settings: MemorySettings) -> Vec<(MemoryRank, Abort)> {
    let group = Arc::new(Group {
        settings,
        state: Mutex::new(State {
            loans: vec![None; world_size],
            calls: 0,
            working: 0,
            outcome: Ok(()),
            ended: None,
        }),
        changed: Condvar::new(),
        has_ended: AtomicBool::new(false),
    });
    let ranks = (0..world_size).map(|rank| {
        let aborted = group.clone();
        let abort =
            Abort::new(move |reason| aborted.end(CollectiveError::Aborted(reason.to_owned())));
        (MemoryRank { group: group.clone(), rank, world_size, buffers: Vec::new() }, abort)
    });
    ranks.collect()
}

pub struct MemoryRank {
    group: Arc<Group>,
    rank: usize,
    world_size: usize,
    /// Of the call under way.
    buffers: Vec<Buffer>,
}

struct Group {
    settings: MemorySettings,
    state: Mutex<State>,
    changed: Condvar,
    /// The same as `ended` in the state, for those who work.
    has_ended: AtomicBool,
}

struct State {
    /// By rank: of those who are at the first meeting.
    loans: Vec<Option<Loan>>,
    /// Calls whose work has begun.
    calls: u64,
    /// Ranks that work.
    working: usize,
    /// Of the last call that nobody works on any more.
    outcome: Result<(), CollectiveError>,
    ended: Option<CollectiveError>,
}

#[derive(Clone, Debug)]
struct Loan {
    buffer: Buffer,
    len: usize,
    job: Job,
    /// Where this rank works, in all buffers.
    region: Range<usize>,
}

/// The start of somebody's values.
#[derive(Clone, Copy, Debug)]
struct Buffer(*mut f32);

// SAFETY: what may be done with it, and when, is said at the head of this file.
unsafe impl Send for Buffer {}

/// What each rank does with its region of the buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// The sum over all, to all.
    Sum,
    /// The sum over all, to its own.
    SumToOwn,
    /// The sum over all, to rank 0's.
    SumToFirst,
    /// Its own, to all.
    Own,
    /// Its own, to rank 0's.
    OwnToFirst,
    /// Rank 0's, to all.
    First,
    /// Rank 0's, to its own.
    FirstToOwn,
}

impl MemoryRank {
    /// One call. The regions of the ranks are in order, and apart. With `is_patient` it waits for
    /// the others as long as they live.
    pub(super) fn call(
        &mut self,
        job: Job,
        region: Range<usize>,
        is_patient: bool,
        values: &mut [f32],
    ) -> Result<(), CollectiveError> {
        let buffer = Buffer(values.as_mut_ptr());
        let loan = Loan { buffer, len: values.len(), job, region: region.clone() };
        let call = self.meet(loan, is_patient)?;
        // Whatever happens in between, this rank is counted out, and waits for the others.
        let leave = Leave { group: &self.group, call };
        let is_done = self.work(job, region);
        leave.leave(is_done)
    }

    /// The group ends for all, for this reason.
    pub(super) fn fail(&self, error: CollectiveError) {
        self.group.end(error);
    }

    /// The first meeting. Resolves with the number of the call whose work has begun.
    fn meet(&mut self, loan: Loan, is_patient: bool) -> Result<u64, CollectiveError> {
        let Group { settings, changed, .. } = &*self.group;
        let mut state = self.group.state();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let deadline = Instant::now() + settings.timeout;
        let call = state.calls + 1;
        state.loans[self.rank] = Some(loan);
        if state.loans.iter().all(Option::is_some) {
            if let Some((rank, what)) = state.disagreement() {
                let rank = settings.first_rank + rank;
                let error = CollectiveError::Mismatch { rank, what };
                self.group.end_with(&mut state, error.clone());
                return Err(error);
            }
            (state.calls, state.working) = (call, self.world_size);
            changed.notify_all();
        }
        while state.calls < call {
            if let Some(error) = &state.ended {
                return Err(error.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if is_patient {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else if left.is_zero() {
                let late = state.loans.iter().position(Option::is_none).unwrap_or_default();
                let (rank, after) = (settings.first_rank + late, settings.timeout);
                self.group.end_with(&mut state, CollectiveError::TimedOut { rank, after });
            } else {
                let waited = changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        self.buffers.clear();
        self.buffers.extend(state.loans.iter().flatten().map(|loan| loan.buffer));
        Ok(call)
    }

    /// This rank's region of all buffers; false if the group has ended meanwhile.
    fn work(&self, job: Job, region: Range<usize>) -> bool {
        let first = 0..1;
        let own = self.rank..self.rank + 1;
        let (from, to) = match job {
            Job::Sum => (None, 0..self.world_size),
            Job::SumToOwn => (None, own),
            Job::SumToFirst => (None, first),
            Job::Own => (Some(self.rank), 0..self.world_size),
            Job::OwnToFirst => (Some(self.rank), first),
            Job::First => (Some(0), 0..self.world_size),
            Job::FirstToOwn => (Some(0), own),
        };
        let mut sum = [0.0; BLOCK];
        for start in region.clone().step_by(BLOCK) {
            if self.group.has_ended.load(Ordering::Relaxed) {
                return false;
            }
            let len = BLOCK.min(region.end - start);
            let at = |rank: usize| self.buffers[rank].0.wrapping_add(start);
            let sum = &mut sum[..len];
            let source = match from {
                Some(rank) => at(rank).cast_const(),
                None => {
                    for rank in 0..self.world_size {
                        // SAFETY: all are lent until this rank leaves; the region lies within each
                        // buffer and is no other rank's, which `disagreement` has checked.
                        let values = unsafe { slice::from_raw_parts(at(rank), len) };
                        match rank {
                            0 => sum.copy_from_slice(values),
                            _ => sums::add(sum, values),
                        }
                    }
                    sum.as_ptr()
                }
            };
            for rank in to.clone().filter(|rank| from != Some(*rank)) {
                // SAFETY: as above; the source is another buffer, or the sum.
                unsafe { ptr::copy_nonoverlapping(source, at(rank), len) };
            }
        }
        true
    }
}

impl State {
    /// A rank that does not do what rank 0 does, or whose region is not where it has to be.
    fn disagreement(&self) -> Option<(usize, String)> {
        let loans: Vec<&Loan> = self.loans.iter().flatten().collect();
        let first = loans.first()?;
        let mut end = 0;
        for (rank, loan) in loans.iter().enumerate() {
            if (loan.job, loan.len) != (first.job, first.len) {
                let Loan { job, len, .. } = loan;
                let expected = format!("{:?} of {} values", first.job, first.len);
                return Some((rank, format!("{job:?} of {len} values instead of {expected}")));
            }
            let Range { start, end: next } = loan.region;
            if start < end || next < start || next > loan.len {
                return Some((rank, format!("values {start} to {next} are not its own")));
            }
            end = next;
        }
        None
    }
}

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, error: CollectiveError) {
        self.end_with(&mut self.state(), error);
    }

    fn end_with(&self, state: &mut State, error: CollectiveError) {
        if state.ended.is_none() {
            state.ended = Some(error);
            self.has_ended.store(true, Ordering::Relaxed);
            self.changed.notify_all();
        }
    }
}

/// A rank that works. Left or dropped, it waits until all have.
struct Leave<'g> {
    group: &'g Group,
    call: u64,
}

impl Leave<'_> {
    /// The second meeting: the outcome of the call, the same for all.
    fn leave(self, is_done: bool) -> Result<(), CollectiveError> {
        let outcome = self.count_out(is_done);
        std::mem::forget(self);
        outcome
    }

    fn count_out(&self, is_done: bool) -> Result<(), CollectiveError> {
        let mut state = self.group.state();
        if !is_done {
            let why = "a rank has failed at its part".to_owned();
            self.group.end_with(&mut state, CollectiveError::Aborted(why));
            state.outcome = state.ended.clone().map_or(Ok(()), Err);
        }
        state.working -= 1;
        if state.working == 0 {
            state.loans.fill(None);
            self.group.changed.notify_all();
        }
        // The next call begins when all have come to it, so it cannot have begun yet.
        while state.calls == self.call && state.working > 0 {
            state = self.group.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.outcome.clone()
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        // It has not come to its end: a panic. The others must not take its part for done.
        let _ = self.count_out(false);
    }
}

impl Drop for MemoryRank {
    fn drop(&mut self) {
        let (rank, why) = (self.group.settings.first_rank + self.rank, "it has left the group");
        self.group.end(CollectiveError::PeerLost { rank, why: why.to_owned() });
    }
}

impl Collective for MemoryRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.call(Job::Sum, part(values.len(), self.rank, self.world_size), false, values)
    }

    fn reduce_scatter(&mut self, values: &mut [f32]) -> Result<Range<usize>, CollectiveError> {
        let own = part(values.len(), self.rank, self.world_size);
        self.call(Job::SumToOwn, own.clone(), false, values)?;
        Ok(own)
    }

    fn all_gather(&mut self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.call(Job::Own, part(values.len(), self.rank, self.world_size), false, values)
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
