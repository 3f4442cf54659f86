//! Honest ranks around the leader's mind, in a world that loses, delays and damages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::collective::{CollectiveError, RankId};
use crate::ranks::group::{Cause, Done, Effect, Event, Group, GroupError, GroupSettings};
use crate::ranks::group_events::RestartSettings;

const MS: Duration = Duration::from_millis(1);

pub fn settings() -> GroupSettings {
    let restarts = RestartSettings { max: 3, within: 1_000_000 * MS, after: 5 * MS };
    GroupSettings {
        form_timeout: 100 * MS,
        step_timeout: 1000 * MS,
        apply_timeout: 200 * MS,
        abort_timeout: 50 * MS,
        catch_up_timeout: 300 * MS,
        aborts_max: 2,
        restarts,
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    Form(u64),
    Begin(u64, u64),
    Commit(u64, u64),
    Abort(u64),
    Load(Vec<u64>),
}

/// A rank's life.
#[derive(Default)]
pub struct Life {
    pub is_alive: bool,
    /// It does nothing any more, and nobody knows.
    pub is_stuck: bool,
    pub applied: Vec<u64>,
    pub prepared: Option<(u64, u64)>,
    pub orders: VecDeque<Order>,
    pub events: VecDeque<Event>,
}

/// What happened in an epoch.
#[derive(Default)]
pub struct Ring {
    pub members: Vec<RankId>,
    pub entered: BTreeSet<RankId>,
    pub reducing: BTreeSet<RankId>,
    pub ready: BTreeSet<RankId>,
    pub committed: BTreeSet<RankId>,
    pub aborted: BTreeSet<RankId>,
    pub is_broken: bool,
}

pub struct World {
    pub group: Group,
    pub now: Duration,
    pub lives: BTreeMap<RankId, Life>,
    pub rings: BTreeMap<u64, Ring>,
    pub is_started: bool,
    pub done: Vec<Done>,
    pub failed: Vec<GroupError>,
    /// Without which nothing is lost.
    pub initial: Vec<u64>,
}

/// Of what was applied.
pub fn digest(applied: &[u64]) -> u64 {
    applied.iter().fold(7, |all, step| all * 31 + step)
}

impl World {
    pub fn new(count: u32, shards_optimizer: bool) -> Self {
        let (group, effects) = Group::new(count, shards_optimizer, settings());
        let mut world = Self {
            group,
            now: Duration::ZERO,
            lives: BTreeMap::new(),
            rings: BTreeMap::new(),
            is_started: false,
            done: Vec::new(),
            failed: Vec::new(),
            initial: Vec::new(),
        };
        world.obey(effects);
        world
    }

    /// With its ring, ready for the first step.
    pub fn started(count: u32) -> Self {
        let mut world = Self::new(count, false);
        world.settle();
        assert!(world.is_started);
        world
    }

    pub fn obey(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Start(rank) => {
                    let applied = self.initial.clone();
                    let (steps, digest) = (applied.len() as u64, digest(&applied));
                    let events = [Event::Came { rank, steps, digest }].into();
                    let life = Life { is_alive: true, applied, events, ..Life::default() };
                    self.lives.insert(rank, life);
                }
                Effect::Kill { rank, .. } => self.end(rank),
                Effect::Started => self.is_started = true,
                Effect::Form { epoch, members } => {
                    self.give(&members, &Order::Form(epoch));
                    let before = self.rings.insert(epoch, Ring { members, ..Ring::default() });
                    assert!(before.is_none(), "an epoch is formed once");
                }
                Effect::Begin { epoch, step, members } => {
                    let ring = self.rings.get_mut(&epoch).unwrap();
                    assert_eq!(members, ring.members);
                    assert!(ring.aborted.is_empty());
                    ring.reducing.clear();
                    ring.ready.clear();
                    ring.committed.clear();
                    self.give(&members, &Order::Begin(epoch, step));
                }
                Effect::Commit { epoch, step, members } => {
                    let ring = self.rings.get_mut(&epoch).unwrap();
                    assert!(ring.aborted.is_empty(), "TR-3");
                    assert_eq!(members, ring.members, "TR-1");
                    assert!(members.iter().all(|member| ring.ready.contains(member)), "TR-1");
                    ring.committed.extend(&members);
                    self.give(&members, &Order::Commit(epoch, step));
                }
                Effect::Abort { epoch, members, .. } => {
                    let ring = self.rings.get_mut(&epoch).unwrap();
                    ring.aborted.extend(&members);
                    ring.is_broken = true;
                    self.give(&members, &Order::Abort(epoch));
                }
                Effect::CatchUp { from, to } => {
                    let applied = self.lives[&from].applied.clone();
                    self.give(&[to], &Order::Load(applied));
                }
                Effect::Done(done) => self.check_done(done),
                Effect::Failed(error) => self.failed.push(error),
            }
        }
    }

    pub fn check_done(&mut self, done: Done) {
        for member in &done.members {
            let applied = &self.lives[member].applied;
            assert_eq!(applied, &(1..=done.step).collect::<Vec<_>>(), "TR-2: {member:?}");
            assert_eq!(digest(applied), done.digest);
        }
        assert!(!done.members.is_empty());
        self.done.push(done);
    }

    pub fn give(&mut self, members: &[RankId], order: &Order) {
        for member in members {
            self.lives.get_mut(member).unwrap().orders.push_back(order.clone());
        }
    }

    pub fn hear(&mut self, event: Event) {
        let effects = self.group.handle(self.now, event);
        self.obey(effects);
    }

    pub fn end(&mut self, rank: RankId) {
        if let Some(life) = self.lives.get_mut(&rank) {
            *life = Life { applied: std::mem::take(&mut life.applied), ..Life::default() };
        }
        self.rings.values_mut().filter(|ring| ring.members.contains(&rank)).for_each(|ring| {
            ring.is_broken = true;
        });
    }

    /// The leader is told at once, before all that the rank had said and nobody has heard.
    pub fn kill(&mut self, rank: RankId) {
        if self.lives[&rank].is_alive {
            self.end(rank);
            self.hear(Event::Down { rank, why: "killed".to_owned() });
        }
    }

    /// Of all that can go on, the `nth`.
    pub fn act(&mut self, nth: usize) -> bool {
        let mut can = Vec::new();
        for (rank, life) in &self.lives {
            if life.is_alive && !life.is_stuck && !life.orders.is_empty() {
                can.push((*rank, true));
            }
            if life.is_alive && !life.events.is_empty() {
                can.push((*rank, false));
            }
        }
        let Some((rank, takes)) = can.get(nth % can.len().max(1)).copied() else { return false };
        let life = self.lives.get_mut(&rank).unwrap();
        match takes {
            true => {
                let order = life.orders.pop_front().unwrap();
                self.work(rank, order);
            }
            false => {
                let event = life.events.pop_front().unwrap();
                self.hear(event);
            }
        }
        true
    }

    pub fn say(&mut self, rank: RankId, event: Event) {
        self.lives.get_mut(&rank).unwrap().events.push_back(event);
    }

    pub fn work(&mut self, rank: RankId, order: Order) {
        let life = self.lives.get_mut(&rank).unwrap();
        match order {
            Order::Form(epoch) => {
                let ring = self.rings.get_mut(&epoch).unwrap();
                ring.entered.insert(rank);
                if ring.entered.len() == ring.members.len() && !ring.is_broken {
                    for rank in ring.members.clone() {
                        self.say(rank, Event::Formed { rank, epoch });
                    }
                }
            }
            Order::Begin(epoch, step) => {
                life.events.push_back(Event::Computed { rank, epoch });
                life.prepared = None;
                let ring = self.rings.get_mut(&epoch).unwrap();
                ring.reducing.insert(rank);
                if ring.reducing.len() == ring.members.len() && !ring.is_broken {
                    for rank in ring.members.clone() {
                        let check = step;
                        self.say(rank, Event::Ready { rank, epoch, check });
                        self.lives.get_mut(&rank).unwrap().prepared = Some((epoch, step));
                        self.rings.get_mut(&epoch).unwrap().ready.insert(rank);
                    }
                }
            }
            Order::Commit(epoch, step) => {
                assert_eq!(life.prepared.take(), Some((epoch, step)), "TR-1");
                life.applied.push(step);
                let digest = digest(&life.applied);
                life.events.push_back(Event::Applied { rank, epoch, digest });
            }
            Order::Abort(epoch) => {
                assert!(!self.rings[&epoch].committed.contains(&rank), "TR-3");
                life.prepared = None;
                life.events.push_back(Event::Aborted { rank, epoch, cause: Cause::Told });
            }
            Order::Load(applied) => {
                life.applied = applied;
                let (steps, digest) = (life.applied.len() as u64, digest(&life.applied));
                life.events.push_back(Event::CaughtUp { rank, steps, digest });
            }
        }
    }

    /// A rank finds that another has sent what it cannot have, or is gone.
    pub fn blame(&mut self, rank: RankId, peer: usize, is_corrupt: bool) {
        let epoch = self.group.epoch();
        let Some(ring) = self.rings.get_mut(&epoch) else { return };
        let is_blocked = ring.reducing.contains(&rank) && !ring.ready.contains(&rank);
        if !is_blocked || !self.lives[&rank].is_alive || ring.aborted.contains(&rank) {
            return;
        }
        ring.is_broken = true;
        let peer = peer % ring.members.len();
        let error = match is_corrupt {
            true => CollectiveError::Corrupt { rank: peer, what: "a sum".to_owned() },
            false => CollectiveError::PeerLost { rank: peer, why: "silence".to_owned() },
        };
        self.say(rank, Event::Aborted { rank, epoch, cause: Cause::Collective(error) });
    }

    pub fn pass_time(&mut self) -> bool {
        let Some(at) = self.group.deadline() else { return false };
        self.now = self.now.max(at);
        let effects = self.group.tick(self.now);
        self.obey(effects);
        true
    }

    /// Whatever can go on does, but for time.
    pub fn settle(&mut self) {
        let mut nth = 0;
        while self.act(nth) {
            nth += 3;
            assert!(nth < 100_000, "an endless talk");
        }
    }

    /// Until the step that is asked for has ended, as time goes by.
    pub fn end_step(&mut self, ended: usize) {
        for _ in 0..200 {
            self.settle();
            if self.done.len() + self.failed.len() > ended || !self.pass_time() {
                return;
            }
        }
        panic!("a step without an end");
    }

    pub fn step(&mut self, step: u64) -> Done {
        let ended = self.done.len() + self.failed.len();
        self.hear(Event::Step(step));
        self.end_step(ended);
        assert_eq!(self.failed, []);
        self.done.last().cloned().unwrap()
    }

    /// Goes on until `is_there`, and no further.
    pub fn until(&mut self, is_there: impl Fn(&Self) -> bool) {
        let mut nth = 0;
        while !is_there(self) {
            assert!(self.act(nth), "it never comes to that");
            nth += 1;
        }
    }

    pub fn ring(&self) -> Option<&Ring> {
        self.rings.get(&self.group.epoch())
    }
}

pub fn ranks(of: &[u32]) -> Vec<RankId> {
    of.iter().copied().map(RankId).collect()
}
