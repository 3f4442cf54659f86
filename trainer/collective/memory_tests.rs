use std::thread;

use super::*;
use crate::collective::fixture_tests::{TIMEOUT, bits_of, sum_in_order, values};

fn ranks(world_size: usize, timeout: Duration) -> Vec<(MemoryRank, Abort)> {
    group(world_size, MemorySettings { timeout, first_rank: 0 })
}

/// Every rank in a thread of its own.
fn each<T: Send>(
    ranks: Vec<(MemoryRank, Abort)>,
    act: impl Fn(usize, MemoryRank) -> T + Sync,
) -> Vec<T> {
    thread::scope(|scope| {
        let (act, ranks) = (&act, ranks.into_iter().enumerate());
        let threads = ranks.map(|(rank, (it, _))| scope.spawn(move || act(rank, it)));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn every_rank_has_the_sum_in_the_order_of_the_ranks() {
    for world_size in 1..=8 {
        each(ranks(world_size, TIMEOUT), |rank, mut it| {
            for len in [0, 1, 2, world_size - 1, world_size, 37, 3 * BLOCK * world_size + 5] {
                let mut values = values(rank, len);
                it.all_reduce(&mut values).unwrap();
                assert!(bits_of(&values) == bits_of(&sum_in_order(world_size, len)));
            }
        });
    }
}

#[test]
fn the_two_halves_alone_give_own_parts_and_take_them_to_all() {
    for (world_size, len) in [(1, 3), (2, 1), (3, 10), (4, 9 * BLOCK), (8, 5)] {
        each(ranks(world_size, TIMEOUT), |rank, mut it| {
            let (sum, mut mine) = (sum_in_order(world_size, len), values(rank, len));
            let own = it.reduce_scatter(&mut mine).unwrap();
            assert_eq!(own, part(len, rank, world_size));
            assert!(bits_of(&mine[own.clone()]) == bits_of(&sum[own]));
            it.all_gather(&mut mine).unwrap();
            assert!(bits_of(&mine) == bits_of(&sum));
        });
    }
}

#[test]
fn who_does_not_come_is_named_by_all() {
    let timeout = Duration::from_millis(50);
    let mut ranks = ranks(3, timeout);
    let late = ranks.remove(1);
    let errors = each(ranks, |_, mut it| {
        let first = it.all_reduce(&mut [1.0; 9]).unwrap_err();
        assert_eq!(it.all_gather(&mut [1.0; 9]), Err(first.clone()));
        first
    });
    let expected = CollectiveError::TimedOut { rank: 1, after: timeout };
    assert_eq!(errors, [expected.clone(), expected.clone()]);
    let (mut late, _) = late;
    assert_eq!(late.all_reduce(&mut [1.0; 9]), Err(expected), "it came too late");
}

#[test]
fn who_ends_is_named_by_those_who_wait() {
    for settings in [0, 4] {
        let settings = MemorySettings { timeout: TIMEOUT, first_rank: settings };
        let errors = each(group(3, settings), |rank, mut it| match rank {
            2 => None,
            _ => Some(it.all_reduce(&mut [1.0; 9])),
        });
        for error in errors.into_iter().flatten() {
            let expected = settings.first_rank + 2;
            let Err(CollectiveError::PeerLost { rank, .. }) = error else { panic!("{error:?}") };
            assert_eq!(rank, expected);
        }
    }
}

#[test]
fn who_is_done_may_go_while_others_come_out_of_the_call() {
    for _ in 0..200 {
        each(ranks(4, TIMEOUT), |rank, mut it| {
            let mut values = values(rank, 100);
            it.all_reduce(&mut values).unwrap();
            assert!(bits_of(&values) == bits_of(&sum_in_order(4, 100)));
        });
    }
}

#[test]
fn an_abort_ends_all_of_them_for_good() {
    let mut ranks = ranks(3, TIMEOUT);
    let (_absent, abort) = ranks.pop().unwrap();
    let aborted = Err(CollectiveError::Aborted("enough".to_owned()));
    thread::scope(|scope| {
        let blocked = scope.spawn(|| {
            each(ranks, |_, mut it| [it.all_reduce(&mut [1.0; 9]), it.all_gather(&mut [])])
        });
        abort.abort("enough");
        abort.abort("too late");
        for results in blocked.join().unwrap() {
            assert_eq!(results, [aborted.clone(), aborted.clone()]);
        }
    });
}

/// Whenever it comes: a call ends with the right sum on all, or with the abort on all.
#[test]
fn an_abort_in_the_middle_of_the_work_is_one_for_all() {
    let (world_size, len) = (3, 200 * BLOCK);
    let expected = bits_of(&sum_in_order(world_size, len));
    for spins in (0..40).map(|case| case * 40) {
        let ranks = ranks(world_size, TIMEOUT);
        let abort = ranks[0].1.clone();
        let ended = each(ranks, |rank, mut it| {
            let mut values = values(rank, len);
            if rank == 1 {
                let abort = abort.clone();
                thread::spawn(move || {
                    (0..spins).for_each(|_| std::hint::spin_loop());
                    abort.abort("enough");
                });
            }
            it.all_reduce(&mut values).map(|()| bits_of(&values) == expected)
        });
        let aborted = Err(CollectiveError::Aborted("enough".to_owned()));
        assert!(ended == vec![Ok(true); 3] || ended == vec![aborted; 3], "{ended:?}");
    }
}

#[test]
fn who_makes_another_call_is_a_mismatch_on_all() {
    for case in 0..3 {
        let errors = each(ranks(3, TIMEOUT), |rank, mut it| match (rank, case) {
            (1, 0) => it.all_reduce(&mut [1.0; 8]),
            (1, 1) => it.all_gather(&mut [1.0; 9]),
            (1, _) => it.call(Job::Sum, 0..6, false, &mut [1.0; 9]),
            _ => it.all_reduce(&mut [1.0; 9]),
        });
        for error in errors {
            assert!(matches!(error, Err(CollectiveError::Mismatch { .. })), "{error:?}");
        }
    }
}
