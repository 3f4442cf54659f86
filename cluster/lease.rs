//! A node's lease: the right to run attempts for a coordinator, which ends by itself.
//!
//! Two small state machines, one for each side. The node has a [`Lessee`]. It sends a [`Beat`]
//! every so often and keeps when it did; the [`Renewal`] that answers it makes the right last until
//! that time plus the lease. The coordinator has a [`Lessor`] for each node. It answers beats, and
//! knows from when on the node has surely stopped. Pure: `now` in, answers out.
//!
//! - **LE-1** No two nodes have a right to the same rollout at one time. The node's right ends
//!   `lease` after it *sent* a beat. The coordinator lets go of the node `lease + margin` after it
//!   *handled* that beat, which was later. No two clocks are compared: each side measures a span of
//!   its own clock. Only their rates matter, and the margin is for them: where it is a tenth of the
//!   lease, the coordinator's clock may run a tenth faster than the node's.
//! - **LE-2** What was lost is not found again. When the coordinator lets go, a new *term* begins.
//!   Every assignment carries the [`Grant`] (epoch and term) under which it was sent, and a node
//!   starts nothing under another one; so a late assignment does no harm, in whatever order
//!   messages arrive. A node that was paused and wakes with a renewal in its queue has lapsed all
//!   the same: no renewal is taken until [`Lessee::expired`] was asked, and attempts were stopped.
//! - **LE-3** A coordinator's *epoch* is which life of its run's ledger it is. A higher one takes
//!   over, a lower one is refused. The right that a node has from the predecessor lasts till its
//!   end: the predecessor handled no beat after its successor's start, so the successor lets go of
//!   a node that has not come `lease + margin` after its own start. It must not use a shorter lease
//!   than its predecessor did.
//!
//! What this rests on: two coordinators of one ledger never live at one time (its directory has a
//! lock), and messages reach only the life of the node that they were for (links are of an
//! incarnation). What it does not cover: a machine that was suspended, whose clock stood still, and
//! processes in a sandbox that run on while the node's own process is stopped. In both cases the
//! fence refuses the result.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bincode::{Decode, Encode};

/// Beats whose time is kept. An answer to an older one has come too late to be of use.
const BEATS_MAX: usize = 32;

/// Which life of a coordinator: grows with every start on the same ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Epoch(pub u64);

/// The same for all nodes of a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseConfig {
    /// A node's right lasts so long from each beat that is answered.
    pub lease: Duration,
    /// The coordinator waits so much longer, since its clock may run faster than the node's.
    pub margin: Duration,
}

impl LeaseConfig {
    /// With the usual margin.
    pub fn of(lease: Duration) -> Self {
        Self { lease, margin: lease / 10 }
    }
}

/// Under which right something was assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Grant {
    pub epoch: Epoch,
    /// Counts how often the coordinator let go of the node, in this epoch.
    pub term: u64,
}

/// From a node: it is alive, and wants its lease renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Beat {
    pub epoch: Epoch,
    /// Grows over all epochs in the life of the node.
    pub seq: u64,
}

/// The answer to a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Renewal {
    pub grant: Grant,
    /// Of the beat.
    pub seq: u64,
    pub lease: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a coordinator of epoch {} came after one of epoch {}", theirs.0, ours.0)]
pub struct StaleEpoch {
    pub theirs: Epoch,
    pub ours: Epoch,
}

/// The node's side of one coordinator's lease.
///
/// [`Self::attach`], then [`Self::beat`] every so often and [`Self::renewed`] with the answers.
/// After each event, and at [`Self::deadline`], ask [`Self::expired`] first; when it says so, stop
/// every attempt before anything else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lessee {
    epoch: Option<Epoch>,
    /// The latest term heard of, in this epoch.
    term: Option<u64>,
    right: Right,
    seq: u64,
    /// When the beats of this epoch were sent that may still be answered.
    sent: BTreeMap<u64, Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Right {
    #[default]
    None,
    Until(Instant),
    /// Its end was seen, and the owner has not been told yet.
    Lapsed,
}

impl Lessee {
    /// A coordinator came. One of a higher epoch takes over; the right that there is goes on, and
    /// is renewed by the newcomer. The same one may come again over another link.
    ///
    /// # Errors
    /// [`StaleEpoch`], and nothing changes.
    pub fn attach(&mut self, epoch: Epoch, now: Instant) -> Result<(), StaleEpoch> {
        self.settle(now);
        if let Some(ours) = self.epoch {
            if epoch < ours {
                return Err(StaleEpoch { theirs: epoch, ours });
            }
            if epoch == ours {
                return Ok(());
            }
        }
        self.epoch = Some(epoch);
        self.term = None;
        self.sent.clear();
        Ok(())
    }

    /// A beat to send now; none before a coordinator has come. The time must be taken before the
    /// beat is sent, never after.
    pub fn beat(&mut self, now: Instant) -> Option<Beat> {
        let epoch = self.epoch?;
        self.seq += 1;
        self.sent.insert(self.seq, now);
        if self.sent.len() > BEATS_MAX {
            self.sent.pop_first();
        }
        Some(Beat { epoch, seq: self.seq })
    }

    /// A beat was answered. Says whether the answer gave anything: it does not if it is of another
    /// epoch or an older term, to a beat that is forgotten, too late, or if the end of the right
    /// has not been [taken note of](Self::expired).
    pub fn renewed(&mut self, renewal: &Renewal, now: Instant) -> bool {
        self.settle(now);
        let Renewal { grant, seq, lease } = *renewal;
        let term = self.term.unwrap_or(grant.term);
        if Some(grant.epoch) != self.epoch || grant.term < term || self.right == Right::Lapsed {
            return false;
        }
        let Some(sent) = self.sent.remove(&seq) else { return false };
        // Answers to earlier beats would only give less.
        self.sent = self.sent.split_off(&seq);
        let held = match self.right {
            Right::Until(_) if grant.term > term => {
                // The coordinator has let go of us: others may have what we run.
                self.right = Right::Lapsed;
                return false;
            }
            Right::Until(until) => Some(until),
            Right::None | Right::Lapsed => None,
        };
        self.term = Some(grant.term);
        let until = sent.checked_add(lease).filter(|until| *until > now);
        let Some(until) = until.max(held) else { return false };
        self.right = Right::Until(until);
        true
    }

    /// Whether attempts that run may go on.
    pub fn valid(&self, now: Instant) -> bool {
        matches!(self.right, Right::Until(until) if now < until)
    }

    /// Whether an attempt that was assigned under this grant may start.
    pub fn may_start(&self, grant: Grant, now: Instant) -> bool {
        self.valid(now) && self.epoch == Some(grant.epoch) && self.term == Some(grant.term)
    }

    /// When the right ends, if nothing renews it.
    pub fn deadline(&self) -> Option<Instant> {
        match self.right {
            Right::Until(until) => Some(until),
            Right::None | Right::Lapsed => None,
        }
    }

    /// Says once that the right has ended: no attempt may go on. A later renewal is for new ones.
    pub fn expired(&mut self, now: Instant) -> bool {
        self.settle(now);
        let lapsed = self.right == Right::Lapsed;
        if lapsed {
            self.right = Right::None;
        }
        lapsed
    }

    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// An end that has come stays, whatever comes later.
    fn settle(&mut self, now: Instant) {
        if matches!(self.right, Right::Until(until) if until <= now) {
            self.right = Right::Lapsed;
        }
    }
}

/// The coordinator's side, for one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lessor {
    config: LeaseConfig,
    grant: Grant,
    free_at: Instant,
    free: bool,
    /// The latest beat's.
    seq: u64,
}

impl Lessor {
    /// The node may have a right from a predecessor of this coordinator, which handled its last
    /// beat before `now`.
    pub fn new(config: LeaseConfig, epoch: Epoch, now: Instant) -> Self {
        let grant = Grant { epoch, term: 1 };
        Self { config, grant, free_at: now + config.lease + config.margin, free: false, seq: 0 }
    }

    /// A beat came; the answer to send, unless the beat is of another epoch or is not the newest.
    pub fn heard(&mut self, beat: Beat, now: Instant) -> Option<Renewal> {
        if beat.epoch != self.grant.epoch || beat.seq <= self.seq {
            return None;
        }
        self.seq = beat.seq;
        self.free = false;
        self.free_at = now + self.config.lease + self.config.margin;
        Some(Renewal { grant: self.grant, seq: beat.seq, lease: self.config.lease })
    }

    /// Says once that the node's right has surely ended: what it ran may be given to others. From
    /// then on a new term is granted.
    pub fn expired(&mut self, now: Instant) -> bool {
        let expired = !self.free && self.free_at <= now;
        if expired {
            self.let_go();
        }
        expired
    }

    /// The node is a new process, which has removed what its predecessor ran: what that had may be
    /// given to others at once.
    pub fn restarted(&mut self) {
        self.let_go();
        self.seq = 0;
    }

    /// What an assignment must carry.
    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// When the node's right will surely have ended, if nothing is heard; `None` if it has.
    pub fn free_at(&self) -> Option<Instant> {
        (!self.free).then_some(self.free_at)
    }

    fn let_go(&mut self) {
        self.free = true;
        self.grant.term += 1;
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "lease_world_tests.rs"]
mod world;

#[cfg(test)]
#[path = "lease_model_tests.rs"]
mod model;
