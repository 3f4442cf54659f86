//! Honest ranks around the leader's mind, in a world that loses, delays and damages.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::ranks::group_events::RestartSettings;

const MS: Duration = Duration::from_millis(1);

fn settings() -> GroupSettings {
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
enum Order {
    Form(u64),
    Begin(u64, u64),
    Commit(u64, u64),
    Abort(u64),
    Load(Vec<u64>),
}

/// A rank's life.
#[derive(Default)]
struct Life {
    is_alive: bool,
    /// It does nothing any more, and nobody knows.
    is_stuck: bool,
    applied: Vec<u64>,
    prepared: Option<(u64, u64)>,
    orders: VecDeque<Order>,
    events: VecDeque<Event>,
}

/// What happened in an epoch.
#[derive(Default)]
struct Ring {
    members: Vec<RankId>,
    entered: BTreeSet<RankId>,
    reducing: BTreeSet<RankId>,
    ready: BTreeSet<RankId>,
    committed: BTreeSet<RankId>,
    aborted: BTreeSet<RankId>,
    is_broken: bool,
}

struct World {
    group: Group,
    now: Duration,
    lives: BTreeMap<RankId, Life>,
    rings: BTreeMap<u64, Ring>,
    is_started: bool,
    done: Vec<Done>,
    failed: Vec<GroupError>,
    /// Without which nothing is lost.
    initial: Vec<u64>,
}

/// Of what was applied.
fn digest(applied: &[u64]) -> u64 {
    applied.iter().fold(7, |all, step| all * 31 + step)
}

impl World {
    fn new(count: u32, shards_optimizer: bool) -> Self {
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
    fn started(count: u32) -> Self {
        let mut world = Self::new(count, false);
        world.settle();
        assert!(world.is_started);
        world
    }

    fn obey(&mut self, effects: Vec<Effect>) {
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

    fn check_done(&mut self, done: Done) {
        for member in &done.members {
            let applied = &self.lives[member].applied;
            assert_eq!(applied, &(1..=done.step).collect::<Vec<_>>(), "TR-2: {member:?}");
            assert_eq!(digest(applied), done.digest);
        }
        assert!(!done.members.is_empty());
        self.done.push(done);
    }

    fn give(&mut self, members: &[RankId], order: &Order) {
        for member in members {
            self.lives.get_mut(member).unwrap().orders.push_back(order.clone());
        }
    }

    fn hear(&mut self, event: Event) {
        let effects = self.group.handle(self.now, event);
        self.obey(effects);
    }

    fn end(&mut self, rank: RankId) {
        if let Some(life) = self.lives.get_mut(&rank) {
            *life = Life { applied: std::mem::take(&mut life.applied), ..Life::default() };
        }
        self.rings.values_mut().filter(|ring| ring.members.contains(&rank)).for_each(|ring| {
            ring.is_broken = true;
        });
    }

    /// The leader is told at once, before all that the rank had said and nobody has heard.
    fn kill(&mut self, rank: RankId) {
        if self.lives[&rank].is_alive {
            self.end(rank);
            self.hear(Event::Down { rank, why: "killed".to_owned() });
        }
    }

    /// Of all that can go on, the `nth`.
    fn act(&mut self, nth: usize) -> bool {
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

    fn say(&mut self, rank: RankId, event: Event) {
        self.lives.get_mut(&rank).unwrap().events.push_back(event);
    }

    fn work(&mut self, rank: RankId, order: Order) {
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
    fn blame(&mut self, rank: RankId, peer: usize, is_corrupt: bool) {
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

    fn pass_time(&mut self) -> bool {
        let Some(at) = self.group.deadline() else { return false };
        self.now = self.now.max(at);
        let effects = self.group.tick(self.now);
        self.obey(effects);
        true
    }

    /// Whatever can go on does, but for time.
    fn settle(&mut self) {
        let mut nth = 0;
        while self.act(nth) {
            nth += 3;
            assert!(nth < 100_000, "an endless talk");
        }
    }

    /// Until the step that is asked for has ended, as time goes by.
    fn end_step(&mut self, ended: usize) {
        for _ in 0..200 {
            self.settle();
            if self.done.len() + self.failed.len() > ended || !self.pass_time() {
                return;
            }
        }
        panic!("a step without an end");
    }

    fn step(&mut self, step: u64) -> Done {
        let ended = self.done.len() + self.failed.len();
        self.hear(Event::Step(step));
        self.end_step(ended);
        assert_eq!(self.failed, []);
        self.done.last().cloned().unwrap()
    }

    /// Goes on until `is_there`, and no further.
    fn until(&mut self, is_there: impl Fn(&Self) -> bool) {
        let mut nth = 0;
        while !is_there(self) {
            assert!(self.act(nth), "it never comes to that");
            nth += 1;
        }
    }

    fn ring(&self) -> Option<&Ring> {
        self.rings.get(&self.group.epoch())
    }
}

fn ranks(of: &[u32]) -> Vec<RankId> {
    of.iter().copied().map(RankId).collect()
}

#[test]
fn steps_follow_each_other_in_one_epoch() {
    let mut world = World::started(3);
    for step in 1..4 {
        let done = world.step(step);
        assert_eq!((done.epoch, done.members, done.aborts), (1, ranks(&[0, 1, 2]), vec![]));
    }
}

#[test]
fn a_rank_that_dies_before_the_commit_costs_the_step_a_new_epoch_and_nothing_else() {
    type At = fn(&World) -> bool;
    let places: [(&str, At); 4] = [
        ("forming", |world| world.ring().is_some()),
        ("computing", |world| world.ring().is_some_and(|it| it.entered.len() == 3)),
        ("reducing", |world| world.ring().is_some_and(|it| it.reducing.len() == 2)),
        ("ready", |world| world.ring().is_some_and(|it| it.ready.len() == 3)),
    ];
    for (place, at) in places {
        for victim in ranks(&[0, 1, 2]) {
            let mut world = World::started(3);
            world.hear(Event::Step(1));
            world.until(at);
            world.kill(victim);
            world.end_step(0);
            let [done] = &world.done[..] else { panic!("{place}: {:?}", world.failed) };
            assert_eq!((done.epoch, done.members.len(), done.aborts.len()), (2, 2, 1), "{place}");
            assert!(done.aborts[0].contains("killed"), "{place}: {:?}", done.aborts);
            // It comes back at the next boundary, with all that it has missed.
            world.pass_time();
            world.settle();
            let done = world.step(2);
            assert_eq!((done.epoch, done.members.len(), done.aborts.len()), (3, 3, 0), "{place}");
        }
    }
}

#[test]
fn a_rank_that_loses_its_commit_is_out_and_the_step_counts() {
    for is_stuck in [false, true] {
        let mut world = World::started(3);
        world.hear(Event::Step(1));
        world.until(|world| !world.ring().is_none_or(|it| it.committed.is_empty()));
        match is_stuck {
            true => world.lives.get_mut(&RankId(1)).unwrap().is_stuck = true,
            false => world.kill(RankId(1)),
        }
        world.end_step(0);
        let done = world.done.last().unwrap();
        assert_eq!((done.step, done.epoch, &done.members), (1, 1, &ranks(&[0, 2])));
        world.pass_time();
        world.settle();
        assert_eq!(world.step(2).members, ranks(&[0, 1, 2]));
    }
}

#[test]
fn a_slow_rank_is_lost_at_the_deadline_and_the_others_are_not() {
    let mut world = World::started(3);
    world.hear(Event::Step(1));
    world.until(|world| world.ring().is_some_and(|it| it.entered.len() == 3));
    world.lives.get_mut(&RankId(2)).unwrap().is_stuck = true;
    let before = world.now;
    world.end_step(0);
    let done = world.done.last().unwrap();
    assert_eq!(
        (done.members.clone(), &done.aborts[..]),
        (ranks(&[0, 1]), &["rank 2 is late".to_owned()][..])
    );
    assert_eq!(world.now - before, settings().step_timeout);
}

#[test]
fn who_sends_what_it_cannot_have_is_out_and_who_is_not_heard_is_tried_again() {
    let mut world = World::started(3);
    world.hear(Event::Step(1));
    world.until(|world| world.ring().is_some_and(|it| it.reducing.len() == 2));
    let blocked = *world.ring().unwrap().reducing.first().unwrap();
    let other = world.ring().unwrap().members.iter().position(|it| *it != blocked).unwrap();
    world.blame(blocked, other, true);
    world.end_step(0);
    assert_eq!(world.done.last().unwrap().members.len(), 2);

    let mut world = World::started(3);
    world.hear(Event::Step(1));
    for _ in 0..2 {
        world.until(|world| world.ring().is_some_and(|it| it.reducing.len() == 2));
        let blocked = *world.ring().unwrap().reducing.first().unwrap();
        let epoch = world.group.epoch();
        world.blame(blocked, 1, false);
        world.until(|world| world.group.epoch() > epoch);
    }
    world.end_step(0);
    let done = world.done.last().unwrap();
    assert_eq!((done.members.len(), done.epoch, done.aborts.len()), (3, 3, 2));
}

#[test]
fn a_step_that_is_aborted_again_and_again_without_a_loss_fails_and_the_next_may_not() {
    let mut world = World::started(2);
    world.hear(Event::Step(1));
    for _ in 0..3 {
        world.until(|world| world.ring().is_some_and(|it| it.reducing.len() == 1));
        let blocked = *world.ring().unwrap().reducing.first().unwrap();
        let epoch = world.group.epoch();
        world.blame(blocked, 0, false);
        world.until(|world| world.group.epoch() > epoch || !world.failed.is_empty());
    }
    let [GroupError::Aborts { step: 1, why }] = &world.failed[..] else { panic!() };
    assert_eq!(why.len(), 3);
    world.failed.clear();
    assert_eq!(world.step(1).members.len(), 2);
}

#[test]
fn a_step_that_cannot_be_made_fails_at_once_and_leaves_the_group_as_it_was() {
    let mut world = World::started(2);
    world.hear(Event::Step(1));
    world.until(|world| world.ring().is_some_and(|it| it.entered.len() == 2));
    let rank = RankId(1);
    let cause = Cause::Step("the loss: it is NaN".to_owned());
    world.say(rank, Event::Aborted { rank, epoch: 1, cause });
    world.end_step(0);
    let why = "the loss: it is NaN".to_owned();
    assert_eq!(world.failed, [GroupError::Step { rank, why }]);
    world.failed.clear();
    assert_eq!(world.step(1).members.len(), 2);
}

#[test]
fn ranks_that_differ_are_named() {
    let mut world = World::started(3);
    world.hear(Event::Step(1));
    world.until(|world| world.ring().is_some_and(|it| it.ready.len() == 3));
    world.lives.get_mut(&RankId(2)).unwrap().applied.push(9);
    world.end_step(0);
    let [error @ GroupError::Differ { step: 1, ranks, .. }] = &world.failed[..] else { panic!() };
    assert_eq!(*ranks, (RankId(0), RankId(2)));
    assert!(error.is_end());
    world.hear(Event::Step(2));
    assert_eq!(world.failed[1], world.failed[0]);
}

#[test]
fn without_a_rank_the_step_fails_and_says_why() {
    let mut world = World::started(2);
    world.hear(Event::Step(1));
    world.kill(RankId(0));
    world.kill(RankId(1));
    let told = world.failed[0].to_string();
    assert_eq!(told, "no rank is left: rank 0: killed; rank 1: killed");
}

#[test]
fn a_part_of_the_optimizer_that_is_lost_ends_the_group() {
    let mut world = World::new(3, true);
    world.settle();
    world.step(1);
    world.hear(Event::Step(2));
    world.kill(RankId(1));
    world.end_step(1);
    assert!(matches!(world.failed[..], [GroupError::ShardLost { rank: RankId(1), .. }]));
}

#[test]
fn a_rank_that_does_not_start_fails_the_start() {
    let mut world = World::new(2, false);
    world.hear(Event::Down { rank: RankId(1), why: "no such file".to_owned() });
    assert_eq!(world.failed[0].to_string(), "rank 1 does not start: no such file");
}

#[test]
fn whoever_starts_behind_the_others_catches_up_first() {
    let mut world = World::new(2, false);
    let applied = vec![1, 2, 3];
    world.initial.clone_from(&applied);
    let life = world.lives.get_mut(&RankId(1)).unwrap();
    life.applied.clone_from(&applied);
    let (rank, digest) = (RankId(1), digest(&applied));
    life.events = [Event::Came { rank, steps: 3, digest }].into();
    world.settle();
    assert_eq!(world.step(4).members, ranks(&[0, 1]));
}

#[test]
fn steps_are_asked_for_in_their_order() {
    let mut world = World::started(1);
    for asked in [0, 2] {
        world.hear(Event::Step(asked));
        assert_eq!(world.failed.pop(), Some(GroupError::Order { asked, done: 0 }));
    }
    world.hear(Event::Step(1));
    world.hear(Event::Step(1));
    assert_eq!(world.failed.pop(), Some(GroupError::Order { asked: 1, done: 0 }));
    world.end_step(0);
    assert_eq!(world.done.len(), 1);
}

#[derive(Clone, Debug)]
enum Chance {
    Act(usize),
    Kill(u32),
    Stick(u32),
    Blame(u32, usize, bool),
    PassTime,
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        40 => any::<usize>().prop_map(Chance::Act),
        2 => (0_u32..4).prop_map(Chance::Kill),
        1 => (0_u32..4).prop_map(Chance::Stick),
        2 => (0_u32..4, any::<usize>(), any::<bool>())
            .prop_map(|(rank, peer, is_corrupt)| Chance::Blame(rank, peer, is_corrupt)),
        1 => Just(Chance::PassTime),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_no_step_is_applied_in_part_and_every_step_ends(
        count in 1_u32..5,
        shards_optimizer in prop::bool::weighted(0.2),
        chances in prop::collection::vec(chance(), 0..300),
    ) {
        let mut world = World::new(count, shards_optimizer);
        world.settle();
        let mut chances = chances.into_iter();
        for step in 1..6 {
            let ended = world.done.len() + world.failed.len();
            world.hear(Event::Step(step));
            for chance in chances.by_ref() {
                if world.done.len() + world.failed.len() > ended {
                    break;
                }
                let rank = |rank| RankId(rank % count);
                match chance {
                    Chance::Act(nth) => drop(world.act(nth)),
                    Chance::Kill(it) => world.kill(rank(it)),
                    Chance::Stick(it) => {
                        world.lives.get_mut(&rank(it)).unwrap().is_stuck = true;
                    }
                    Chance::Blame(it, peer, is_corrupt) => {
                        world.blame(rank(it), peer, is_corrupt);
                    }
                    Chance::PassTime => drop(world.pass_time()),
                }
            }
            world.end_step(ended);
            prop_assert_eq!(world.done.len() + world.failed.len(), ended + 1, "no end of a step");
            if !world.failed.is_empty() {
                break;
            }
        }
    }
}
