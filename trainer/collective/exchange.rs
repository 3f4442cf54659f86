//! Where the ranks of one process find each other, epoch by epoch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::collective::memory::{MemorySettings, group};
use crate::collective::solo::Solo;
use crate::collective::{Abort, Collective, CollectiveError, Collectives, Formed, Member, Place};

/// Collectives in memory. Clones are the same exchange.
#[derive(Clone)]
pub struct Exchange {
    /// How long after the first member the last one may come, and the same for each call.
    timeout: Duration,
    meetings: Arc<Mutex<BTreeMap<u64, Meeting>>>,
}

/// Of an epoch whose members are not all here.
struct Meeting {
    members: Vec<Member>,
    /// By rank: who waits.
    seats: Vec<Option<Seat>>,
}

/// Where a member that waits is told of its collective.
type Seat = oneshot::Sender<Formed>;

impl Exchange {
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, meetings: Arc::default() }
    }

    fn meetings(&self) -> MutexGuard<'_, BTreeMap<u64, Meeting>> {
        self.meetings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn meet(&self, place: &Place) -> Formed {
        let Place { epoch, rank, ref members } = *place;
        let mismatch = |what: String| Err(CollectiveError::Mismatch { rank, what });
        if rank >= members.len() {
            return mismatch(format!("rank {rank} of {}", members.len()));
        }
        if members.len() == 1 {
            let (solo, abort) = Solo::create();
            return Ok((Box::new(solo), abort));
        }
        let (seat, mut formed) = oneshot::channel();
        {
            let meetings = &mut *self.meetings();
            let meeting = meetings.entry(epoch).or_insert_with(|| Meeting {
                members: members.clone(),
                seats: members.iter().map(|_| None).collect(),
            });
            if meeting.members != *members {
                return mismatch(format!("other members in epoch {epoch} than who came first"));
            }
            if meeting.seats[rank].is_some() {
                return mismatch(format!("rank {rank} has come twice in epoch {epoch}"));
            }
            meeting.seats[rank] = Some(seat);
            if meeting.seats.iter().all(Option::is_some)
                && let Some(meeting) = meetings.remove(&epoch)
            {
                self.seat(meeting);
            }
        }
        let leave = Leave { exchange: self, epoch, rank };
        if let Ok(Ok(formed)) = timeout(self.timeout, &mut formed).await {
            return formed;
        }
        leave.give_up();
        // Every seat is told something before it is let go of, and by now this one has been.
        formed.try_recv().unwrap_or_else(|_| mismatch(format!("epoch {epoch} was given up")))
    }

    /// All are here.
    fn seat(&self, meeting: Meeting) {
        let settings = MemorySettings { timeout: self.timeout, first_rank: 0 };
        let ranks = group(meeting.members.len(), settings);
        for (seat, (rank, abort)) in meeting.seats.into_iter().flatten().zip(ranks) {
            let formed: (Box<dyn Collective>, Abort) = (Box::new(rank), abort);
            // Who is gone has dropped its rank, and so ends the group for the others.
            drop(seat.send(Ok(formed)));
        }
    }
}

/// A member that waits. Dropped, its seat is free.
struct Leave<'e> {
    exchange: &'e Exchange,
    epoch: u64,
    rank: usize,
}

impl Leave<'_> {
    /// Time is up. All who wait are told for whom, so that nobody is blamed who has only left.
    fn give_up(&self) {
        let Some(meeting) = self.exchange.meetings().remove(&self.epoch) else { return };
        let late = meeting.seats.iter().position(Option::is_none).unwrap_or(self.rank);
        for seat in meeting.seats.into_iter().flatten() {
            let after = self.exchange.timeout;
            // Who does not listen any more has left just now.
            drop(seat.send(Err(CollectiveError::TimedOut { rank: late, after })));
        }
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut meetings = self.exchange.meetings();
        let Some(meeting) = meetings.get_mut(&self.epoch) else { return };
        if let Some(seat) = meeting.seats.get_mut(self.rank) {
            *seat = None;
        }
        if meeting.seats.iter().all(Option::is_none) {
            meetings.remove(&self.epoch);
        }
    }
}

impl Collectives for Exchange {
    fn form<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Formed> {
        Box::pin(self.meet(place))
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
