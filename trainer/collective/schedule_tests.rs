use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::collective::fixture_tests::{bits_of, sum_of_ring, values};
use crate::collective::part;

/// A ring whose ranks make their moves in any order that the schedule allows.
struct World {
    schedules: Vec<Schedule>,
    values: Vec<Vec<f32>>,
    /// What is on its way to each rank, with what it was sent as.
    pipes: Vec<VecDeque<(Move, Vec<f32>)>>,
    sends: Vec<VecDeque<Move>>,
    receives: Vec<VecDeque<Move>>,
    /// Moves made, by rank.
    sent: Vec<usize>,
    received: Vec<usize>,
    pipe_max: usize,
}

impl World {
    fn new(
        operation: Operation,
        ranks: usize,
        len: usize,
        segment_len: usize,
        pipe_max: usize,
    ) -> Self {
        let chunks: Vec<Range<usize>> = (0..ranks).map(|rank| part(len, rank, ranks)).collect();
        let schedule = |rank| Schedule::new(operation, rank, chunks.clone(), segment_len);
        let schedules: Vec<Schedule> = (0..ranks).map(schedule).collect();
        Self {
            values: (0..ranks).map(|rank| values(rank, len)).collect(),
            pipes: vec![VecDeque::new(); ranks],
            sends: schedules.iter().map(|schedule| schedule.sends().collect()).collect(),
            receives: schedules.iter().map(|schedule| schedule.receives().collect()).collect(),
            sent: vec![0; ranks],
            received: vec![0; ranks],
            schedules,
            pipe_max,
        }
    }

    fn place(&self, rank: usize, of: &Move) -> Range<usize> {
        self.schedules[rank].segments().nth(of.index).unwrap()
    }

    fn may_send(&self, rank: usize) -> bool {
        let next = (rank + 1) % self.values.len();
        let is_due = |of: &Move| self.received[rank] >= of.after;
        self.pipes[next].len() < self.pipe_max && self.sends[rank].front().is_some_and(is_due)
    }

    fn may_receive(&self, rank: usize) -> bool {
        let is_due = |of: &Move| self.sent[rank] >= of.after;
        !self.pipes[rank].is_empty() && self.receives[rank].front().is_some_and(is_due)
    }

    fn send(&mut self, rank: usize) {
        let of = self.sends[rank].pop_front().unwrap();
        let values = self.values[rank][self.place(rank, &of)].to_vec();
        let next = (rank + 1) % self.values.len();
        self.pipes[next].push_back((of, values));
        self.sent[rank] += 1;
    }

    fn receive(&mut self, rank: usize) {
        let of = self.receives[rank].pop_front().unwrap();
        let (sent_as, values) = self.pipes[rank].pop_front().unwrap();
        // What comes is what is expected.
        assert_eq!(Move { after: of.after, ..sent_as }, of);
        let place = self.place(rank, &of);
        for (mine, theirs) in self.values[rank][place].iter_mut().zip(values) {
            *mine = if of.purpose == Use::Add { *mine + theirs } else { theirs };
        }
        self.received[rank] += 1;
    }

    /// Until nobody can move: all moves have been made then, or they wait for each other.
    fn run(&mut self, mut choice: impl FnMut(usize) -> usize) {
        loop {
            let ranks = 0..self.values.len();
            let moves: Vec<(usize, bool)> = ranks
                .flat_map(|rank| {
                    let (sends, receives) = (self.may_send(rank), self.may_receive(rank));
                    [(sends, true), (receives, false)]
                        .into_iter()
                        .filter(|(may, _)| *may)
                        .map(move |(_, is_send)| (rank, is_send))
                })
                .collect();
            if moves.is_empty() {
                break;
            }
            match moves[choice(moves.len())] {
                (rank, true) => self.send(rank),
                (rank, false) => self.receive(rank),
            }
        }
        let left = self.sends.iter().chain(&self.receives).map(VecDeque::len).sum::<usize>();
        assert_eq!(left, 0, "ranks wait for each other");
    }
}

proptest! {
    /// Whatever the order in which ranks move, and however little is on its way.
    #[test]
    fn every_rank_gets_its_sums_in_any_order_of_moves(
        operation in proptest::sample::select(&Operation::ALL[..]),
        ranks in 1..=8_usize,
        len in 0..60_usize,
        segment_len in 1..9_usize,
        pipe_max in 1..4_usize,
        seed: u64,
    ) {
        let mut world = World::new(operation, ranks, len, segment_len, pipe_max);
        let mut moves = 0;
        world.run(|count| {
            moves += 1;
            crate::random::below(seed, moves, count as u64) as usize
        });
        let sum = sum_of_ring(ranks, len);
        for rank in 0..ranks {
            let own = part(len, rank, ranks);
            let of = &world.values[rank];
            match operation {
                Operation::AllReduce => prop_assert_eq!(bits_of(of), bits_of(&sum)),
                Operation::ReduceScatter => {
                    prop_assert_eq!(bits_of(&of[own.clone()]), bits_of(&sum[own]));
                }
                Operation::AllGather => {
                    for other in 0..ranks {
                        let place = part(len, other, ranks);
                        let theirs = values(other, len);
                        prop_assert_eq!(bits_of(&of[place.clone()]), bits_of(&theirs[place]));
                    }
                }
            }
        }
    }
}

#[test]
fn nobody_sends_more_than_its_share() {
    for (operation, halves) in
        [(Operation::AllReduce, 2), (Operation::ReduceScatter, 1), (Operation::AllGather, 1)]
    {
        let chunks: Vec<Range<usize>> = (0..4).map(|rank| part(400, rank, 4)).collect();
        let schedule = Schedule::new(operation, 1, chunks, 25);
        let segments: Vec<Range<usize>> = schedule.segments().collect();
        let sent: usize = schedule.sends().map(|of| segments[of.index].len()).sum();
        assert_eq!(sent, halves * 300);
    }
}

/// What rank 1 of 3 does in a small all-reduce, to be read.
#[test]
fn the_moves_of_one_rank() {
    let schedule = Schedule::new(Operation::AllReduce, 1, vec![0..4, 4..6, 6..8], 2);
    let show = |of: Move| format!("{}.{} {:?} after {}", of.chunk, of.number, of.purpose, of.after);
    let sends: Vec<String> = schedule.sends().map(show).collect();
    let expected = [
        "0.0 Add after 0",
        "0.1 Add after 0",
        "2.0 Add after 1",
        "1.0 Copy after 2",
        "0.0 Copy after 3",
        "0.1 Copy after 4",
    ];
    assert_eq!(sends, expected);
    let receives: Vec<String> = schedule.receives().map(show).collect();
    let expected = [
        "2.0 Add after 0",
        "1.0 Add after 0",
        "0.0 Copy after 1",
        "0.1 Copy after 2",
        "2.0 Copy after 3",
    ];
    assert_eq!(receives, expected);
}
