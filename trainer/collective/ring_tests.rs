//! What a ring promises while nothing fails: the sums, their order, their bits.

use std::thread;
use std::time::Duration;

use orcapack_cluster::address::{PeerIdentity, Role};
use orcapack_cluster::link::{Priority, Purpose};
use orcapack_cluster::memory::pair;
use tokio::runtime::Runtime;

use super::*;
use crate::collective::fixture_tests::{
    TIMEOUT, bits_of, call, even, pipes, rings, sockets, sum_of_ring, values,
};

fn settings(segment_bytes: usize, wire: Wire) -> RingSettings {
    RingSettings { segment_bytes, wire, ..RingSettings::new(7, TIMEOUT) }
}

#[tokio::test(start_paused = true)]
async fn every_rank_has_the_sum_in_the_order_that_the_schedule_says() {
    for world_size in 1..=8 {
        for len in [0, 1, 2, world_size - 1, world_size, world_size + 1, 37, 1000] {
            for (segment_bytes, pipe_bytes) in [(4, 64), (64, 17), (256 << 10, 1 << 20)] {
                let settings = settings(segment_bytes, Wire::F32);
                let pipes = pipes(world_size, pipe_bytes);
                let sums = call(pipes, settings, Operation::AllReduce, len).await;
                let expected = bits_of(&sum_of_ring(world_size, len));
                for sum in sums {
                    assert_eq!(bits_of(&sum), expected, "{world_size} ranks, {len} values");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_two_halves_alone_give_own_parts_and_take_them_to_all() {
    for (world_size, len) in [(1, 5), (2, 1), (3, 10), (8, 3), (8, 100)] {
        let settings = settings(12, Wire::F32);
        let expected = sum_of_ring(world_size, len);
        let scattered = call(pipes(world_size, 64), settings, Operation::ReduceScatter, len).await;
        for (rank, values) in scattered.iter().enumerate() {
            let own = part(len, rank, world_size);
            assert_eq!(bits_of(&values[own.clone()]), bits_of(&expected[own]));
        }
        let gathered = call(pipes(world_size, 64), settings, Operation::AllGather, len).await;
        let own = |rank: usize| values(rank, len)[part(len, rank, world_size)].to_vec();
        let expected: Vec<f32> = (0..world_size).flat_map(own).collect();
        gathered.iter().for_each(|values| assert_eq!(bits_of(values), bits_of(&expected)));
    }
}

#[tokio::test(start_paused = true)]
async fn in_bf16_all_have_the_same_rounded_sums_of_f32_and_gathered_values_stay_exact() {
    for (world_size, len) in [(2, 1), (3, 100), (8, 77)] {
        let settings = settings(40, Wire::Bf16);
        let sums = call(pipes(world_size, 64), settings, Operation::AllReduce, len).await;
        let mut expected = sum_of_ring(world_size, len);
        crate::collective::sums::round_to_bf16(&mut expected, &mut vec![0; len]);
        sums.iter().for_each(|sum| assert_eq!(bits_of(sum), bits_of(&expected)));
        let gathered = call(pipes(world_size, 64), settings, Operation::AllGather, len).await;
        let own = |rank: usize| values(rank, len)[part(len, rank, world_size)].to_vec();
        let expected: Vec<f32> = (0..world_size).flat_map(own).collect();
        gathered.iter().for_each(|values| assert_eq!(bits_of(values), bits_of(&expected)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_number_is_the_same_on_all() {
    let world_size = 3;
    let ranks = rings(pipes(world_size, 64), settings(8, Wire::F32)).into_iter().enumerate();
    let ranks = ranks.map(|(rank, (mut ring, _abort))| async move {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE];
        let mut values: Vec<f32> = (0..15).map(|at| odd[(at * (rank + 1)) % 5]).collect();
        ring.run(Operation::AllReduce, even(15, world_size), &mut values).await.unwrap();
        (ring, bits_of(&values))
    });
    let sums = futures_util::future::join_all(ranks).await;
    assert!(sums.iter().all(|(_, sum)| *sum == sums[0].1));
}

#[tokio::test(start_paused = true)]
async fn many_calls_follow_each_other_and_who_is_done_may_go() {
    let world_size = 4;
    let ranks = rings(pipes(world_size, 100), settings(16, Wire::F32)).into_iter().enumerate();
    let ranks = ranks.map(|(rank, (ring, _abort))| async move {
        let mut ring = ring;
        for len in [9, 0, 64, 1, 33] {
            // Each rank is the late one at times; time is paused.
            tokio::time::sleep(Duration::from_millis((len * (rank + 1) % 5) as u64)).await;
            let mut values = values(rank, len);
            ring.run(Operation::AllReduce, even(len, world_size), &mut values).await.unwrap();
            assert_eq!(bits_of(&values), bits_of(&sum_of_ring(world_size, len)));
        }
        // The ring is dropped here, the others may not be done.
    });
    futures_util::future::join_all(ranks).await;
}

#[tokio::test(start_paused = true)]
async fn who_makes_another_call_is_a_mismatch_on_every_rank() {
    let another = |rank: usize, len: usize| match rank {
        1 => [(Operation::AllReduce, len + 1), (Operation::AllGather, len)],
        _ => [(Operation::AllReduce, len); 2],
    };
    for (case, world_size) in (0..2).flat_map(|case| [2, 4].map(|world| (case, world))) {
        let ranks = rings(pipes(world_size, 64), settings(16, Wire::F32)).into_iter().enumerate();
        let ranks = ranks.map(|(rank, (mut ring, _abort))| async move {
            let (operation, len) = another(rank, 64)[case];
            let chunks = even(len, world_size);
            ring.run(operation, chunks, &mut values(rank, len)).await
        });
        for result in futures_util::future::join_all(ranks).await {
            assert!(matches!(result, Err(CollectiveError::Mismatch { .. })), "{result:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_in_another_epoch_is_a_mismatch_on_every_rank() {
    let neighbours = pipes(3, 64).into_iter().enumerate();
    let ranks = neighbours.map(|(rank, neighbours)| async move {
        let epoch = if rank == 2 { 8 } else { 7 };
        let settings = RingSettings { epoch, ..settings(16, Wire::F32) };
        let (mut ring, _abort) = Ring::new(rank, 3, neighbours, settings, Handle::current());
        let result = ring.run(Operation::AllReduce, even(9, 3), &mut values(rank, 9)).await;
        // Whatever is asked later, the answer is the same.
        assert_eq!(ring.run(Operation::AllGather, even(0, 3), &mut []).await, result);
        result
    });
    for result in futures_util::future::join_all(ranks).await {
        assert!(matches!(result, Err(CollectiveError::Mismatch { .. })), "{result:?}");
    }
}

/// As trainers use it: a thread for each rank, real sockets, calls that block.
#[test]
fn threads_over_sockets_have_the_same_sums() {
    let runtime = Runtime::new().unwrap();
    for (world_size, len) in [(2, 300_000), (3, 100_001), (4, 5), (8, 20_000)] {
        let ranks = runtime
            .block_on(async { rings(sockets(world_size).await, settings(64 << 10, Wire::F32)) });
        let expected = bits_of(&sum_of_ring(world_size, len));
        thread::scope(|scope| {
            for (rank, (mut ring, _abort)) in ranks.into_iter().enumerate() {
                let expected = &expected;
                scope.spawn(move || {
                    for _ in 0..3 {
                        let mut values = values(rank, len);
                        ring.all_reduce(&mut values).unwrap();
                        assert!(bits_of(&values) == *expected, "{world_size} ranks");
                        let own = ring.reduce_scatter(&mut values).unwrap();
                        assert_eq!(own, part(len, rank, world_size));
                        ring.all_gather(&mut values).unwrap();
                    }
                });
            }
        });
    }
}

#[test]
fn a_blocked_call_is_aborted_from_another_thread() {
    let runtime = Runtime::new().unwrap();
    let mut ranks =
        runtime.block_on(async { rings(sockets(2).await, settings(64 << 10, Wire::F32)) });
    let (idle, _) = ranks.pop().unwrap();
    let (mut ring, abort) = ranks.pop().unwrap();
    let blocked = thread::spawn(move || {
        let result = ring.all_reduce(&mut [1.0; 100]);
        (result, ring.all_gather(&mut []))
    });
    abort.abort("enough");
    abort.abort("too late");
    let aborted = Err(CollectiveError::Aborted("enough".to_owned()));
    assert_eq!(blocked.join().unwrap(), (aborted.clone(), aborted));
    drop(idle);
}

#[tokio::test]
async fn it_runs_over_the_links_between_nodes() {
    let identity = |node: &str| PeerIdentity { node: node.parse().unwrap(), role: Role::Worker };
    let (one, other) = pair(identity("a"), identity("b"), Purpose::Data);
    let open = |link: &std::sync::Arc<dyn orcapack_cluster::link::Link>| {
        let link = link.clone();
        async move { link.open(Priority::Bulk).await.unwrap() }
    };
    let (to_other, to_one) = (open(&one).await, open(&other).await);
    // A peer hears of a stream with its first byte, so both sides begin at once.
    let rank = |rank, link: std::sync::Arc<dyn orcapack_cluster::link::Link>, mut to: Stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        to.send.write_all(b"?").await.unwrap();
        let mut from = link.accept().await.unwrap();
        from.receive.read_exact(&mut [0]).await.unwrap();
        let neighbours = Neighbours::over(to, from);
        let settings = settings(64, Wire::F32);
        let (mut ring, _abort) = Ring::new(rank, 2, neighbours, settings, Handle::current());
        let mut values = values(rank, 1001);
        ring.run(Operation::AllReduce, even(1001, 2), &mut values).await.unwrap();
        // The links end with the test.
        (link, ring, values)
    };
    let (a, b) = tokio::join!(rank(0, one, to_other), rank(1, other, to_one));
    assert_eq!(bits_of(&a.2), bits_of(&sum_of_ring(2, 1001)));
    assert_eq!(bits_of(&a.2), bits_of(&b.2));
}
