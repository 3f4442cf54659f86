use proptest::prelude::*;

use super::*;
use crate::ranks::group_world_tests::{World, digest, ranks, settings};

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
