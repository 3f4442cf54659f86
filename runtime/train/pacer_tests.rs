use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const PACE: Pace =
    Pace { batch_groups: 2, group_size: 3, max_off_policy_steps: 1, groups: 100, candidates: 100 };

/// The next groups, all of them wanted.
fn admit(pacer: &mut Pacer<()>) -> Vec<u32> {
    pacer.admit(|_| true)
}

fn graded(oldest: u64) -> End<()> {
    End::Graded { reward: 1.0, samples: (), oldest: Some(oldest) }
}

fn end_group(pacer: &mut Pacer<()>, group: u32, version: u64) {
    for rollout in group * 3..group * 3 + 3 {
        pacer.ended(rollout, graded(version));
    }
}

fn numbers(batch: Option<Vec<Group<()>>>) -> Option<Vec<u32>> {
    batch.map(|groups| groups.iter().map(|group| group.number).collect())
}

#[test]
fn no_more_than_the_bound_is_admitted_while_the_trainer_stands_still() {
    let mut pacer = Pacer::new(PACE);
    assert_eq!(admit(&mut pacer), [0, 1, 2, 3]);
    for group in 0..4 {
        end_group(&mut pacer, group, 0);
        assert!(admit(&mut pacer).is_empty());
    }
    assert_eq!(numbers(pacer.batch()), Some(vec![0, 1]));
    // The step is under way: still nothing.
    assert!(admit(&mut pacer).is_empty());
    pacer.stepped();
    assert!(admit(&mut pacer).is_empty());
    pacer.delivered(1);
    assert_eq!(admit(&mut pacer), [4, 5]);
}

#[test]
fn a_batch_is_of_the_first_groups_that_are_complete() {
    let mut pacer = Pacer::new(PACE);
    admit(&mut pacer);
    end_group(&mut pacer, 3, 0);
    assert_eq!(numbers(pacer.batch()), None);
    end_group(&mut pacer, 1, 0);
    assert_eq!(numbers(pacer.batch()), Some(vec![3, 1]));
    assert_eq!((pacer.open.len(), pacer.complete.len()), (2, 0));
}

#[test]
fn a_synchronous_batch_is_of_the_next_groups_by_number() {
    let mut pacer = Pacer::new(Pace { max_off_policy_steps: 0, ..PACE });
    assert_eq!(admit(&mut pacer), [0, 1]);
    end_group(&mut pacer, 1, 0);
    end_group(&mut pacer, 0, 0);
    assert_eq!(numbers(pacer.batch()), Some(vec![0, 1]));
    pacer.stepped();
    assert!(admit(&mut pacer).is_empty());
    pacer.delivered(1);
    assert_eq!(admit(&mut pacer), [2, 3]);
}

#[test]
fn a_group_that_waited_too_long_is_dropped_and_another_takes_its_place() {
    let mut pacer = Pacer::new(PACE);
    let mut admitted = admit(&mut pacer);
    end_group(&mut pacer, 0, 0);
    end_group(&mut pacer, 1, 0);
    end_group(&mut pacer, 2, 0);
    for version in 1..=2 {
        assert!(pacer.batch().is_some());
        pacer.stepped();
        pacer.delivered(version);
        for group in admit(&mut pacer) {
            end_group(&mut pacer, group, version);
            admitted.push(group);
        }
    }
    // Group 3, of version 0, ends only now that the policy is version 2.
    admitted.extend(admit(&mut pacer));
    end_group(&mut pacer, 3, 0);
    assert!(numbers(pacer.batch()).unwrap().iter().all(|number| *number != 3));
    assert_eq!(pacer.dropped(), Dropped { stale: 1, lost: 0 });
    let more = admit(&mut pacer);
    assert_eq!(more, [admitted.last().unwrap() + 1], "one group more");
}

#[test]
fn lost_members_are_left_out_and_a_group_of_nothing_else_is_dropped() {
    let mut pacer = Pacer::new(PACE);
    admit(&mut pacer);
    pacer.ended(1, End::Lost);
    pacer.ended(2, graded(0));
    pacer.ended(0, graded(0));
    (3..6).for_each(|rollout| pacer.ended(rollout, End::Lost));
    end_group(&mut pacer, 2, 0);
    let batch = pacer.batch().unwrap();
    assert_eq!(batch.iter().map(|group| group.number).collect::<Vec<_>>(), [0, 2]);
    let rollouts: Vec<u32> = batch[0].members.iter().map(|member| member.rollout).collect();
    assert_eq!((rollouts, batch[0].lost), (vec![0, 2], 1));
    assert_eq!(pacer.dropped(), Dropped { stale: 0, lost: 1 });
}

#[test]
fn a_step_that_was_begun_before_gets_the_same_groups_again() {
    let mut pacer = Pacer::new(PACE);
    admit(&mut pacer);
    (0..4).for_each(|group| end_group(&mut pacer, group, 0));
    let rollouts = [9, 10, 11, 3, 4, 5];
    assert_eq!(numbers(pacer.replay(&rollouts)), Some(vec![3, 1]));
    assert_eq!(numbers(pacer.replay(&rollouts)), None);
    assert_eq!(numbers(pacer.batch()), Some(vec![0, 2]));
}

#[test]
fn a_resumed_run_goes_on_with_what_it_had_admitted_and_not_consumed() {
    let admitted = BTreeSet::from([0, 1, 2, 3, 4]);
    let mut pacer = Pacer::resume(PACE, 1, &admitted, &BTreeSet::from([0, 2]));
    assert_eq!(pacer.not_ended().collect::<Vec<_>>(), [3, 4, 5, 9, 10, 11, 12, 13, 14]);
    end_group(&mut pacer, 3, 0);
    assert_eq!(pacer.not_ended().count(), 6);
    assert_eq!(admit(&mut pacer), [5]);
    assert_eq!(numbers(pacer.replay(&[9, 10, 11])), Some(vec![3]));
    assert_eq!(pacer.version(), 1);
}

#[test]
fn nothing_is_admitted_while_it_is_held_and_the_plans_end_is_seen() {
    let mut pacer = Pacer::new(Pace { groups: 3, ..PACE });
    pacer.hold(true);
    assert!(admit(&mut pacer).is_empty());
    pacer.hold(false);
    assert_eq!(admit(&mut pacer), [0, 1, 2]);
    assert!(!pacer.is_exhausted());
    (0..3).for_each(|group| end_group(&mut pacer, group, 0));
    assert!(pacer.batch().is_some());
    assert!(pacer.is_exhausted() && pacer.batch().is_none());
}

#[test]
fn only_wanted_groups_are_admitted_until_all_that_are_left_are_needed() {
    let pace = Pace { groups: 6, candidates: 12, max_off_policy_steps: 0, ..PACE };
    let mut pacer: Pacer<()> = Pacer::new(pace);
    assert_eq!(pacer.admit(|group| group % 3 == 1), [1, 4]);
    end_group(&mut pacer, 4, 0);
    assert_eq!(numbers(pacer.batch()), None, "in order of their numbers");
    end_group(&mut pacer, 1, 0);
    assert_eq!(numbers(pacer.batch()), Some(vec![1, 4]));
    pacer.stepped();
    pacer.delivered(1);
    assert_eq!(pacer.admit(|_| false), [8, 9], "4 are needed, and 4 are left");
    // The same after a resume.
    let admitted = BTreeSet::from([1, 4]);
    let mut pacer: Pacer<()> = Pacer::resume(pace, 1, &admitted, &admitted);
    assert_eq!(pacer.admit(|group| group == 5), [5, 9]);
    end_group(&mut pacer, 5, 1);
    end_group(&mut pacer, 9, 1);
    assert!(pacer.batch().is_some() && !pacer.is_exhausted());
    pacer.stepped();
    pacer.delivered(2);
    assert_eq!(pacer.admit(|_| true), [10, 11]);
}

proptest! {
    /// PA-1 to PA-4, whatever ends first and however slow the trainer and the samplers are.
    #[test]
    fn bounds_hold_in_any_order(
        behind in 0_u64..4,
        batch_groups in 1_u32..4,
        refused in prop::collection::btree_set(0_u32..100, 0..60),
        choices in prop::collection::vec((0_u8..5, any::<prop::sample::Index>()), 0..300),
    ) {
        let pace = Pace { batch_groups, max_off_policy_steps: behind, groups: 40, ..PACE };
        let mut pacer: Pacer<()> = Pacer::new(pace);
        let mut running: Vec<(u32, u64)> = Vec::new();
        let (mut taken, mut admitted) = (BTreeSet::new(), Vec::new());
        let (mut is_training, mut delivered) = (false, 0);
        for (choice, index) in choices {
            match choice {
                0 => for group in pacer.admit(|group| !refused.contains(&group)) {
                    admitted.push(group);
                    running.extend(pacer.rollouts(group).map(|rollout| (rollout, delivered)));
                },
                1 | 2 if !running.is_empty() => {
                    let (rollout, oldest) = running.swap_remove(index.index(running.len()));
                    pacer.ended(rollout, graded(oldest));
                }
                3 if is_training => {
                    is_training = false;
                    pacer.stepped();
                }
                3 => if let Some(batch) = pacer.batch() {
                    is_training = true;
                    let version = pacer.version();
                    prop_assert_eq!(batch.len(), batch_groups as usize);
                    for (place, group) in batch.iter().enumerate() {
                        prop_assert!(taken.insert(group.number), "PA-1");
                        prop_assert!(version - group.oldest().unwrap() <= behind, "PA-2");
                        let by_number = version as usize * batch_groups as usize + place;
                        prop_assert!(behind > 0 || admitted[by_number] == group.number, "PA-4");
                    }
                },
                4 => {
                    delivered = pacer.version();
                    pacer.delivered(delivered);
                }
                _ => {}
            }
            let on_their_way = pacer.open.len() + pacer.complete.len();
            prop_assert!(on_their_way as u64 <= (behind + 1) * u64::from(batch_groups), "PA-3");
        }
    }
}
