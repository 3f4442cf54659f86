use std::thread;

use tokio::runtime::{Handle, Runtime};

use super::*;
use crate::collective::fixture_tests::{TIMEOUT, bits_of, pipes, values};
use crate::collective::memory::{MemorySettings, group};
use crate::collective::ring::RingSettings;

/// By rank, of nodes with so many ranks each.
fn ranks(counts: &[usize], runtime: &Handle) -> Vec<TwoLevel> {
    let mut neighbours = pipes(counts.len(), 1 << 10).into_iter();
    let mut first_rank = 0;
    let mut ranks = Vec::new();
    for (node, count) in counts.iter().enumerate() {
        let settings = MemorySettings { timeout: TIMEOUT, first_rank };
        first_rank += count;
        let mut neighbours = neighbours.next();
        for (local, _) in group(*count, settings) {
            let neighbours = neighbours.take().filter(|_| counts.len() > 1);
            let settings = RingSettings::new(1, TIMEOUT);
            let ring = neighbours.map(|neighbours| {
                Ring::new(node, counts.len(), neighbours, settings, runtime.clone()).0
            });
            ranks.push(TwoLevel::new(counts, node, local, ring).unwrap());
        }
    }
    ranks
}

fn each<T: Send>(ranks: Vec<TwoLevel>, act: impl Fn(usize, TwoLevel) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let (act, ranks) = (&act, ranks.into_iter().enumerate());
        let threads = ranks.map(|(rank, it)| scope.spawn(move || act(rank, it)));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Whole numbers, whose sums are the same in any order.
fn whole(rank: usize, len: usize) -> Vec<f32> {
    values(rank, len).into_iter().map(f32::round).collect()
}

fn sum(world_size: usize, len: usize) -> Vec<f32> {
    let all: Vec<Vec<f32>> = (0..world_size).map(|rank| whole(rank, len)).collect();
    (0..len).map(|at| all.iter().map(|values| values[at]).sum()).collect()
}

const NODES: [&[usize]; 6] = [&[1, 1], &[2, 2], &[3, 1, 2], &[1, 4], &[3], &[2, 1, 1, 1]];

#[test]
fn every_rank_of_every_node_has_the_sum() {
    let runtime = Runtime::new().unwrap();
    for counts in NODES {
        let world_size = counts.iter().sum();
        each(ranks(counts, runtime.handle()), |rank, mut it| {
            assert_eq!((it.rank(), it.world_size()), (rank, world_size));
            for len in [0, 1, 5, world_size, 1000] {
                let mut values = whole(rank, len);
                it.all_reduce(&mut values).unwrap();
                assert_eq!(values, sum(world_size, len), "{counts:?}");
            }
        });
    }
}

#[test]
fn sums_with_fractions_are_the_same_bits_everywhere() {
    let runtime = Runtime::new().unwrap();
    for counts in NODES {
        let sums = each(ranks(counts, runtime.handle()), |rank, mut it| {
            let mut values = values(rank, 999);
            it.all_reduce(&mut values).unwrap();
            bits_of(&values)
        });
        assert!(sums.iter().all(|sum| *sum == sums[0]), "{counts:?}");
    }
}

#[test]
fn the_two_halves_alone_give_own_parts_and_take_them_to_all() {
    let runtime = Runtime::new().unwrap();
    for counts in NODES {
        let world_size = counts.iter().sum();
        each(ranks(counts, runtime.handle()), |rank, mut it| {
            for len in [0, 1, 5, 1000] {
                let mut values = whole(rank, len);
                let own = it.reduce_scatter(&mut values).unwrap();
                assert_eq!(own, part(len, rank, world_size));
                let expected = sum(world_size, len);
                assert_eq!(values[own.clone()], expected[own], "{counts:?}");
                it.all_gather(&mut values).unwrap();
                assert_eq!(values, expected, "{counts:?}");
            }
        });
    }
}

/// Whoever it is, leader or not: nobody hangs, and on its own node it is known by its number.
#[test]
fn a_rank_that_ends_is_an_error_on_every_node() {
    let runtime = Runtime::new().unwrap();
    let counts = [2, 3, 1];
    for victim in 0..6 {
        let errors = each(ranks(&counts, runtime.handle()), |rank, mut it| {
            let mut values = whole(rank, 50);
            it.all_reduce(&mut values).unwrap();
            (rank != victim).then(|| it.all_reduce(&mut values))
        });
        for (rank, error) in errors.into_iter().enumerate() {
            let Some(error) = error else { continue };
            let Err(CollectiveError::PeerLost { rank: lost, .. }) = error else {
                panic!("{victim} ended, rank {rank} has {error:?}")
            };
            assert_eq!(lost, victim, "told by rank {rank}");
        }
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let local = || group(2, MemorySettings { timeout: TIMEOUT, first_rank: 0 }).remove(0).0;
    for (counts, node) in [(&[2, 2][..], 0), (&[3], 0), (&[2], 1), (&[], 0), (&[2, 0], 0)] {
        let refused = TwoLevel::new(counts, node, local(), None);
        assert!(matches!(refused, Err(CollectiveError::Mismatch { .. })), "{counts:?} {node}");
    }
}
