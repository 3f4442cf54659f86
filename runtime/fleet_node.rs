//! One node in the [fleet](crate::fleet): what it has, and whether it may get more.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use orcapack_actors::breaker::{Breaker, Pass};
use orcapack_cluster::address::Incarnation;
use orcapack_cluster::lease::{Beat, Grant, Lessor, Renewal};

use crate::fleet::{FleetConfig, Verdict, Want};

/// Images that are remembered of a node. It is a hint, so that forgetting one costs little.
const IMAGES_MAX: usize = 1024;
/// Nodes are as full as each other if they are in the same tenth; then their images decide.
const BANDS: u64 = 10;

#[derive(Debug)]
pub struct Node {
    /// `None`: it has not come since this coordinator started.
    pub incarnation: Option<Incarnation>,
    pub link: NodeLink,
    /// When `link` changed.
    pub since: Instant,
    /// It gets nothing more.
    pub draining: bool,
    /// As it said last. They may be fewer than what is placed.
    pub slots: u32,
    /// How busy its processors are, in percent, as it said last.
    pub load_percent: u32,
    /// The fences of the attempts that are on it.
    pub placed: BTreeSet<u64>,
    pub breaker: Breaker,
    pub(crate) lessor: Option<Lessor>,
    /// It has a right that began after it came: before its first beat it has none to start with.
    beaten: bool,
    trial: Option<u64>,
    images: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeLink {
    Up,
    /// What it has may still run.
    Lost,
    /// It went in order.
    Left,
}

/// Why a node gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    Left,
    /// Since this coordinator started, so long ago.
    NotBack(Duration),
    NoLink(Duration),
    Draining,
    NoLease,
    /// For so long from now.
    Broken(Duration),
    OnTrial,
    Full,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("left"),
            Self::NotBack(span) => write!(f, "not back for {} s", span.as_secs()),
            Self::NoLink(span) => write!(f, "no link for {} s", span.as_secs()),
            Self::Draining => f.write_str("draining"),
            Self::NoLease => f.write_str("its lease has to be renewed"),
            Self::Broken(span) => write!(f, "its starts fail; next trial in {} s", span.as_secs()),
            Self::OnTrial => f.write_str("its starts failed; a trial is under way"),
            Self::Full => f.write_str("full"),
        }
    }
}

impl Node {
    pub(crate) fn new(config: &FleetConfig, now: Instant) -> Self {
        Self {
            incarnation: None,
            link: NodeLink::Lost,
            since: now,
            draining: false,
            slots: 0,
            load_percent: 0,
            placed: BTreeSet::new(),
            breaker: Breaker::new(config.breaker.clone()),
            lessor: config.lease.map(|lease| Lessor::new(lease, config.epoch, now)),
            beaten: config.lease.is_none(),
            trial: None,
            images: BTreeSet::new(),
        }
    }

    pub(crate) fn arrive(&mut self, incarnation: Incarnation, slots: u32, now: Instant) {
        let again = self.incarnation.replace(incarnation) == Some(incarnation);
        self.draining &= again && self.link != NodeLink::Left;
        self.beaten = self.lessor.is_none();
        self.slots = slots;
        self.enter(NodeLink::Up, now);
    }

    pub(crate) fn enter(&mut self, link: NodeLink, now: Instant) {
        (self.link, self.since) = (link, now);
    }

    pub(crate) fn beat(&mut self, beat: Beat, now: Instant) -> Option<Renewal> {
        let renewal = self.lessor.as_mut()?.heard(beat, now)?;
        self.beaten = true;
        Some(renewal)
    }

    pub(crate) fn lapsed(&mut self) {
        self.beaten = self.lessor.is_none();
    }

    /// It died, or cannot be reached any more: what it had is lost.
    pub(crate) fn give_up(&mut self, now: Instant) -> Vec<u64> {
        if !self.placed.is_empty() {
            // A node that dies of its work must not attract more of it.
            self.breaker.failed(now);
        }
        self.take_all()
    }

    pub(crate) fn take_all(&mut self) -> Vec<u64> {
        if self.trial.take().is_some() {
            self.breaker.trial_ended();
        }
        std::mem::take(&mut self.placed).into_iter().collect()
    }

    pub(crate) fn place(&mut self, fence: u64, want: &Want) -> Option<Grant> {
        if self.breaker.pass() == Pass::AsTrial {
            self.breaker.passed();
            self.trial = Some(fence);
        }
        self.placed.insert(fence);
        self.images.insert(want.image);
        if self.images.len() > IMAGES_MAX {
            self.images.pop_first();
        }
        self.lessor.as_ref().map(Lessor::grant)
    }

    pub(crate) fn ended(&mut self, fence: u64, verdict: Verdict, now: Instant) -> bool {
        if !self.placed.remove(&fence) {
            return false;
        }
        match verdict {
            Verdict::Ok => self.breaker.succeeded(),
            Verdict::EngineFailed => self.breaker.failed(now),
            Verdict::Neutral => {}
        }
        if self.trial == Some(fence) {
            self.trial = None;
            self.breaker.trial_ended();
        }
        true
    }

    /// Lets one trial through if the breaker's cool-down is over.
    pub(crate) fn cool_down(&mut self, now: Instant) {
        if matches!(self.breaker.pass(), Pass::OpenUntil(until) if until <= now) {
            self.breaker.half_open();
        }
    }

    pub(crate) fn has_room(&self, now: Instant) -> bool {
        self.obstacle(now).is_none()
    }

    /// What comes first is best: by how full it would be, in bands, then who has had the image,
    /// then by how full exactly, then by what else its processors do.
    pub(crate) fn rank(&self, other: &Self, want: &Want) -> Ordering {
        let had = |node: &Self| node.images.contains(&want.image);
        let by_band = self.band().cmp(&other.band());
        let by_image = had(other).cmp(&had(self));
        let by_load = self.load_percent.cmp(&other.load_percent);
        by_band.then(by_image).then(self.fuller(other)).then(by_load)
    }

    pub(crate) fn may_run_unseen(&self) -> bool {
        let held = self.lessor.as_ref().is_some_and(|lessor| lessor.free_at().is_some());
        self.link == NodeLink::Lost && held
    }

    /// When it has to be looked at again though nothing happens.
    pub(crate) fn wakes(&self) -> impl Iterator<Item = Instant> {
        let lease = self.lessor.as_ref().and_then(Lessor::free_at);
        let trial = match self.breaker.pass() {
            Pass::OpenUntil(until) if self.link == NodeLink::Up => Some(until),
            _ => None,
        };
        lease.into_iter().chain(trial)
    }

    /// Why it gets nothing now; `None` if it has room.
    pub fn obstacle(&self, now: Instant) -> Option<Obstacle> {
        let since = now.saturating_duration_since(self.since);
        let held = |lessor: &Lessor| lessor.free_at().is_some_and(|at| now < at);
        let has_right = self.beaten && self.lessor.as_ref().is_none_or(held);
        let obstacle = match (self.link, self.breaker.pass()) {
            (NodeLink::Left, _) => Obstacle::Left,
            (NodeLink::Lost, _) if self.incarnation.is_none() => Obstacle::NotBack(since),
            (NodeLink::Lost, _) => Obstacle::NoLink(since),
            (NodeLink::Up, _) if self.draining => Obstacle::Draining,
            (NodeLink::Up, _) if !has_right => Obstacle::NoLease,
            (NodeLink::Up, Pass::OpenUntil(until)) if now < until => {
                Obstacle::Broken(until.saturating_duration_since(now))
            }
            (NodeLink::Up, Pass::WaitForTrial) => Obstacle::OnTrial,
            (NodeLink::Up, _) if self.slots as usize <= self.placed.len() => Obstacle::Full,
            (NodeLink::Up, _) => return None,
        };
        Some(obstacle)
    }

    fn next(&self) -> u64 {
        self.placed.len() as u64 + 1
    }

    fn band(&self) -> u64 {
        self.next() * BANDS / u64::from(self.slots.max(1))
    }

    fn fuller(&self, other: &Self) -> Ordering {
        let (ours, theirs) = (u64::from(self.slots.max(1)), u64::from(other.slots.max(1)));
        (self.next() * theirs).cmp(&(other.next() * ours))
    }
}
