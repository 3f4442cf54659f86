//! What happens when a rank fails, at every byte where that could matter: a typed error on every
//! rank that cannot complete the call, all of them with the same one to blame, in time; and a right
//! sum on every other.

use std::time::Duration;

use crate::caps::RING_DOUBT_TIMEOUT;
use crate::collective::CollectiveError;
use crate::collective::fixture_tests::{
    Ended, Fault, TIMEOUT, bits_of, pipes, sockets, struck, sum_of_ring,
};
use crate::collective::frame::HEADER_BYTES;
use crate::collective::ring::{RingSettings, Wire};
use crate::collective::schedule::Operation;

/// Two values a segment, so that each chunk has two.
const SEGMENT_BYTES: usize = 8;
const FRAME_BYTES: usize = HEADER_BYTES + SEGMENT_BYTES;

fn settings() -> RingSettings {
    RingSettings { segment_bytes: SEGMENT_BYTES, wire: Wire::F32, ..RingSettings::new(7, TIMEOUT) }
}

/// Each frame of an all-reduce: before it, in its header, before its payload, and in that.
fn places(world_size: usize) -> impl Iterator<Item = usize> {
    let frames = 2 * 2 * (world_size - 1);
    (0..frames)
        .flat_map(|frame| [0, 9, HEADER_BYTES, HEADER_BYTES + 5].map(|at| frame * FRAME_BYTES + at))
}

/// All ranks of rings of 2, 3, 4 and 8, struck in turn, with pipes that hold much or little.
async fn strike_everywhere(
    fault: Fault,
    until: Duration,
    check: impl Fn(usize, usize, &CollectiveError) -> bool,
) {
    let (mut cases, mut failed) = (0, 0);
    for world_size in [2, 3, 4, 8] {
        let (len, expected) = (4 * world_size, sum_of_ring(world_size, 4 * world_size));
        for (at, victim) in places(world_size).flat_map(|at| {
            let victims = if world_size < 8 { 0..world_size } else { at % 8..at % 8 + 1 };
            victims.map(move |victim| (at, victim))
        }) {
            for pipe_bytes in [3, 64, 1 << 16] {
                let strike = (victim, at, fault);
                let pipes = pipes(world_size, pipe_bytes);
                let ended = struck(pipes, settings(), Operation::AllReduce, len, strike).await;
                let case = format!(
                    "{fault:?}, {world_size} ranks, {victim} struck at {at}, pipes of {pipe_bytes}: \
                     {ended:?}"
                );
                for (rank, ended) in ended.iter().enumerate() {
                    let Some((result, after)) = ended else { continue };
                    match result {
                        Ok(sum) => assert_eq!(bits_of(sum), bits_of(&expected), "{rank}: {case}"),
                        Err(error) => assert!(check(rank, victim, error), "{rank}: {case}"),
                    }
                    assert!(*after <= until, "{rank}: {case}");
                }
                cases += 1;
                failed += usize::from(has_failed(&ended));
            }
        }
    }
    // Where all was on its way already, a strike may come too late to harm this call.
    assert!(failed > cases * 8 / 10, "only {failed} of {cases} have failed");
}

fn has_failed(ended: &[Ended]) -> bool {
    ended.iter().any(|ended| ended.as_ref().is_none_or(|(result, _)| result.is_err()))
}

#[tokio::test(start_paused = true)]
async fn a_rank_that_dies_is_named_by_all_within_the_doubt() {
    strike_everywhere(Fault::Kill, RING_DOUBT_TIMEOUT, |_, victim, error| {
        matches!(error, CollectiveError::PeerLost { rank, .. } if *rank == victim)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rank_that_stands_still_is_named_by_all_within_the_deadline_and_the_doubt() {
    strike_everywhere(Fault::Freeze, TIMEOUT + RING_DOUBT_TIMEOUT, |_, victim, error| {
        matches!(error, CollectiveError::TimedOut { rank, .. } if *rank == victim)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_frame_is_noticed_and_its_sender_named_by_all() {
    strike_everywhere(Fault::Flip, RING_DOUBT_TIMEOUT, |rank, victim, error| match error {
        CollectiveError::Corrupt { rank: named, .. } => *named == victim,
        // The one before the sender had all that it wanted, so nobody tells the sender why.
        CollectiveError::PeerLost { rank: left, .. } => rank == victim && *left != victim,
        _ => false,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_all_within_milliseconds() {
    let until = Duration::from_millis(20);
    strike_everywhere(Fault::Abort, until, |rank, victim, error| match error {
        CollectiveError::Aborted(reason) => reason == "struck",
        // It was in the middle of a frame that nobody took.
        CollectiveError::PeerLost { rank: lost, .. } => rank != victim && *lost == victim,
        _ => false,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rank_that_is_late_but_in_time_harms_nothing() {
    for (world_size, at) in [(2, 0), (3, 130), (4, 61), (8, 700)] {
        let len = 4 * world_size;
        let strike = (1, at, Fault::Delay(TIMEOUT - Duration::from_millis(1)));
        let pipes = pipes(world_size, 64);
        let ended = struck(pipes, settings(), Operation::AllReduce, len, strike).await;
        for (result, _) in ended.into_iter().flatten() {
            assert_eq!(bits_of(&result.unwrap()), bits_of(&sum_of_ring(world_size, len)));
        }
    }
}

/// The same over real sockets, whose ends are told by the kernel. In real time, so less of it.
#[tokio::test]
async fn over_sockets_a_rank_that_fails_is_named_by_all() {
    let timeout = Duration::from_millis(300);
    for (world_size, fault) in [2, 3, 4, 8].into_iter().flat_map(|world_size| {
        [Fault::Kill, Fault::Flip, Fault::Freeze].map(|fault| (world_size, fault))
    }) {
        for at in [0, FRAME_BYTES + 9, 2 * FRAME_BYTES * (world_size - 1) + 60] {
            let settings = RingSettings { timeout, ..settings() };
            let (len, strike) = (4 * world_size, (1, at, fault));
            let sockets = sockets(world_size).await;
            let ended = struck(sockets, settings, Operation::AllReduce, len, strike).await;
            let case = format!("{fault:?}, {world_size} ranks, at {at}: {ended:?}");
            for (result, _) in ended.iter().flatten() {
                match (result, fault) {
                    (Ok(sum), _) => {
                        assert_eq!(bits_of(sum), bits_of(&sum_of_ring(world_size, len)), "{case}");
                    }
                    (Err(CollectiveError::PeerLost { rank: 1, .. }), Fault::Kill)
                    | (Err(CollectiveError::Corrupt { rank: 1, .. }), Fault::Flip)
                    | (Err(CollectiveError::TimedOut { rank: 1, .. }), Fault::Freeze) => {}
                    _ => panic!("{case}"),
                }
            }
            assert!(has_failed(&ended), "{case}");
        }
    }
}
