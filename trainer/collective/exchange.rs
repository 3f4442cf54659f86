//! Where the ranks of one process find each other, epoch by epoch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::collective::memory::{MemoryRank, MemorySettings, group};
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
    first_rank: usize,
    members: Vec<Member>,
    /// By rank: who waits.
    seats: Vec<Option<Seat>>,
}

/// Where a member that waits is told of its collective.
type Seat = oneshot::Sender<Met>;

/// A rank in memory, and the way to end it.
pub type Met = Result<(MemoryRank, Abort), CollectiveError>;

impl Exchange {
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, meetings: Arc::default() }
    }

    fn meetings(&self) -> MutexGuard<'_, BTreeMap<u64, Meeting>> {
        self.meetings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rank in memory for a place among the members of this process, which errors call by
    /// their places after `first_rank`.
    ///
    /// # Errors
    /// As for [`Collectives::form`].
    pub async fn meet(&self, place: &Place, first_rank: usize) -> Met {
        let Place { epoch, rank, ref members } = *place;
        let mismatch =
            |what: String| Err(CollectiveError::Mismatch { rank: first_rank + rank, what });
        if rank >= members.len() {
            return mismatch(format!("rank {rank} of {}", members.len()));
        }
        let (seat, mut formed) = oneshot::channel();
        {
            let meetings = &mut *self.meetings();
            let meeting = meetings.entry(epoch).or_insert_with(|| Meeting {
                first_rank,
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
        let Meeting { first_rank, .. } = meeting;
        let settings = MemorySettings { timeout: self.timeout, first_rank };
        let ranks = group(meeting.members.len(), settings);
        for (seat, rank) in meeting.seats.into_iter().flatten().zip(ranks) {
            // Who is gone has dropped its rank, and so ends the group for the others.
            drop(seat.send(Ok(rank)));
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
        let late = meeting.first_rank + late;
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
        Box::pin(async move {
            if let [_] = place.members[..] {
                let (solo, abort) = Solo::create();
                return Ok((Box::new(solo) as Box<dyn Collective>, abort));
            }
            let (rank, abort) = self.meet(place, 0).await?;
            Ok((Box::new(rank) as Box<dyn Collective>, abort))
        })
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
