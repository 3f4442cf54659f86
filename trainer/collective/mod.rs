//! Sums over ranks: what data-parallel training does with its gradients.
//!
//! A [`Collective`] belongs to one rank in one *epoch*, a membership that does not change: who dies
//! ends it for all, and the survivors form the next one. Two algorithms are behind it, and one made
//! of both:
//!
//! - [`memory`]: ranks of one process. Rank r sums part r of everybody's buffer.
//! - [`ring`]: ranks that reach each other by streams of bytes, whatever carries them. Its
//!   [`schedule`] is pure; a [`frame`] is what goes over the wire, and a [`farewell`] what a rank
//!   that fails still says.
//! - [`two_level`]: memory within a node, a ring between the nodes.
//! - [`solo`]: one rank alone.
//!
//! What holds for all of them:
//!
//! - After a call that succeeds on every rank, every rank has the same bits.
//! - A call never hangs and never gives a wrong sum: it ends with a [`CollectiveError`] on every
//!   rank that cannot complete it. Another rank may have completed it, so who applies a sum asks
//!   first whether all have it. After an error the contents of the buffer are unspecified, and
//!   every later call fails with the same error.
//! - An error names who is to blame as the first to notice it saw it: ranks tell each other.

pub mod exchange;
pub mod memory;
pub mod ring;
pub mod solo;
pub mod two_level;

pub mod farewell;
mod flow;
pub mod frame;
mod ring_halves;
pub mod schedule;
mod sums;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

/// Sums and copies over the ranks of one epoch. Calls block their thread, which must not be one
/// that polls futures. All ranks make the same calls in the same order.
pub trait Collective: Send {
    fn rank(&self) -> usize;

    fn world_size(&self) -> usize;

    /// The sum over the ranks, in place, with the same bits on every rank.
    ///
    /// # Errors
    /// See the [module](self); so for all calls.
    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CollectiveError>;

    /// The sum over the ranks as far as this rank's own [`part`], whose place is answered. The rest
    /// is unspecified afterwards.
    ///
    /// # Errors
    /// See the [module](self).
    fn reduce_scatter(&mut self, values: &mut [f32]) -> Result<Range<usize>, CollectiveError>;

    /// Every rank's own [`part`] to all, bit for bit.
    ///
    /// # Errors
    /// See the [module](self).
    fn all_gather(&mut self, values: &mut [f32]) -> Result<(), CollectiveError>;
}

/// The part of `len` values that is rank `rank`'s own. Parts are contiguous, in the order of the
/// ranks, and their sizes differ by at most 1: the first ones are the longer.
pub fn part(len: usize, rank: usize, world_size: usize) -> Range<usize> {
    let (each, longer) = (len / world_size, len % world_size);
    let start = |rank: usize| rank * each + rank.min(longer);
    start(rank)..start(rank + 1)
}

/// Why a call has failed. Ranks are those of the epoch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectiveError {
    /// It is dead, or its connection is.
    #[error("rank {rank} is lost: {why}")]
    PeerLost { rank: usize, why: String },
    /// It lives, for all we know, and did not do its part in time.
    #[error("rank {rank} has not come within {} ms", after.as_millis())]
    TimedOut { rank: usize, after: Duration },
    /// It sent bytes that are not those that it meant to send.
    #[error("what rank {rank} sent is corrupt: {what}")]
    Corrupt { rank: usize, what: String },
    /// [`Abort::abort`] was called, on this rank or on another.
    #[error("aborted: {0}")]
    Aborted(String),
    /// It makes another call than this rank, or belongs to another epoch.
    #[error("rank {rank} does something else: {what}")]
    Mismatch { rank: usize, what: String },
}

/// Ends a collective from elsewhere: the call that is blocked in it and every later one fail with
/// [`CollectiveError::Aborted`], within milliseconds.
#[derive(Clone)]
pub struct Abort(Arc<dyn Fn(&str) + Send + Sync>);

impl Abort {
    pub(crate) fn new(abort: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(abort))
    }

    /// This one and another.
    pub fn and(self, other: Self) -> Self {
        Self::new(move |reason| {
            self.abort(reason);
            other.abort(reason);
        })
    }

    /// The first reason is the one that is told.
    pub fn abort(&self, reason: &str) {
        (self.0)(reason);
    }
}

/// A rank over all epochs: the place that it has in one changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RankId(pub u32);

/// Where a rank stands in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub epoch: u64,
    pub rank: usize,
    /// By rank. Those of one node stand beside each other.
    pub members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: RankId,
    /// The name of its node; empty for this process.
    pub node: String,
}

/// Where collectives come from.
pub trait Collectives: Send + Sync {
    /// The collective of one rank for one epoch. Waits until all members are there.
    ///
    /// # Errors
    /// A member that does not come in time, or that has another idea of the epoch.
    fn form<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Formed>;
}

/// A collective, and the way to end it.
pub type Formed = Result<(Box<dyn Collective>, Abort), CollectiveError>;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod fixture_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_in_order_and_differ_by_at_most_one() {
        for (len, world_size) in (0..40).flat_map(|len| (1..=8).map(move |world| (len, world))) {
            let parts: Vec<_> = (0..world_size).map(|rank| part(len, rank, world_size)).collect();
            assert_eq!((parts[0].start, parts[world_size - 1].end), (0, len));
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            let sizes = parts.iter().map(Range::len);
            assert!(sizes.clone().max() <= sizes.min().map(|least| least + 1), "{parts:?}");
        }
    }
}
