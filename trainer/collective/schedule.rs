//! What a rank of a ring sends and receives, in which order, and what has to wait for what: pure.
//!
//! The values are cut into one chunk for each rank, chunk r being rank r's own, and each chunk into
//! segments. A *reduce-scatter* takes n - 1 steps, in each of which a rank sends one chunk to the
//! next rank and adds what comes from the previous one to another. Chunk c starts at rank c + 1 and
//! goes once around, so its sum is `((v[c+1] + v[c+2]) + ...) + v[c]`, on whichever rank it ends.
//! An *all-gather* takes n - 1 more, in which finished chunks go around from their owners. An
//! *all-reduce* is the two in a row (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce
//! algorithms"): each rank sends 2 (n - 1) / n of the values.
//!
//! In each step a rank sends the chunk that it received in the step before. So a segment may be
//! sent on as soon as it has been received; and in the second half, a segment may be overwritten
//! once its sum of before has been sent on. A [`Move`] says so in numbers: how many moves of the
//! other direction come before it.

use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    AllReduce,
    ReduceScatter,
    AllGather,
}

impl Operation {
    pub const ALL: [Self; 3] = [Self::AllReduce, Self::ReduceScatter, Self::AllGather];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllReduce => "all-reduce",
            Self::ReduceScatter => "reduce-scatter",
            Self::AllGather => "all-gather",
        }
    }
}

/// What the receiver does with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It adds it to its own values.
    Add,
    /// It puts it in their place.
    Copy,
}

/// One segment, sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub chunk: usize,
    /// Of the segment, in its chunk.
    pub number: usize,
    /// Of the segment, in [`Schedule::segments`].
    pub index: usize,
    pub purpose: Use,
    /// So many moves of the other direction must have been made before this one.
    pub after: usize,
}

/// Of one call on one rank.
#[derive(Clone, Debug)]
pub struct Schedule {
    operation: Operation,
    rank: usize,
    /// Of each chunk, in the values.
    chunks: Vec<Range<usize>>,
    /// The first segment of each chunk, and the number of all.
    firsts: Vec<usize>,
    segment_len: usize,
}

impl Schedule {
    /// `chunks` cover the values in order, one for each rank; a segment has at most `segment_len`
    /// of them, which is not 0.
    pub fn new(
        operation: Operation,
        rank: usize,
        chunks: Vec<Range<usize>>,
        segment_len: usize,
    ) -> Self {
        let mut firsts = vec![0];
        let mut first = 0;
        for chunk in &chunks {
            first += chunk.len().div_ceil(segment_len);
            firsts.push(first);
        }
        Self { operation, rank, chunks, firsts, segment_len }
    }

    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Of all ranks.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |chunk| chunk.end)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where each segment is in the values, in order.
    pub fn segments(&self) -> impl Iterator<Item = Range<usize>> {
        self.chunks.iter().flat_map(move |chunk| {
            let starts = chunk.clone().step_by(self.segment_len);
            starts.map(move |start| start..chunk.end.min(start + self.segment_len))
        })
    }

    /// What this rank sends, in order.
    pub fn sends(&self) -> impl Iterator<Item = Move> {
        let mut received = 0;
        (0..self.steps()).flat_map(move |step| {
            let chunk = self.sent(step);
            let before = received;
            // What is sent in this step was received in the last one.
            received += if step == 0 { 0 } else { self.count(chunk) };
            self.moves(step, chunk).map(move |(number, index, purpose)| {
                let after = if step == 0 { 0 } else { before + number + 1 };
                Move { chunk, number, index, purpose, after }
            })
        })
    }

    /// What this rank receives, in order.
    pub fn receives(&self) -> impl Iterator<Item = Move> {
        let half = self.ranks() - 1;
        let mut sent = 0;
        (0..self.steps()).flat_map(move |step| {
            let chunk = self.received(step);
            // In the second half it overwrites what was sent half of the steps ago.
            let overwrites = self.operation == Operation::AllReduce && step >= half;
            let before = sent;
            sent += if overwrites { self.count(chunk) } else { 0 };
            self.moves(step, chunk).map(move |(number, index, purpose)| {
                let after = if overwrites { before + number + 1 } else { 0 };
                Move { chunk, number, index, purpose, after }
            })
        })
    }

    fn ranks(&self) -> usize {
        self.chunks.len()
    }

    fn steps(&self) -> usize {
        match self.operation {
            Operation::AllReduce => 2 * (self.ranks() - 1),
            Operation::ReduceScatter | Operation::AllGather => self.ranks() - 1,
        }
    }

    /// The chunk that is sent in a step.
    fn sent(&self, step: usize) -> usize {
        let first = match self.operation {
            Operation::AllGather => self.rank,
            Operation::AllReduce | Operation::ReduceScatter => self.rank + self.ranks() - 1,
        };
        (first + 2 * self.ranks() - step) % self.ranks()
    }

    fn received(&self, step: usize) -> usize {
        self.sent(step + 1)
    }

    /// Segments of a chunk.
    fn count(&self, chunk: usize) -> usize {
        self.firsts[chunk + 1] - self.firsts[chunk]
    }

    fn moves(&self, step: usize, chunk: usize) -> impl Iterator<Item = (usize, usize, Use)> {
        let purpose = match self.operation {
            Operation::AllGather => Use::Copy,
            Operation::AllReduce if step >= self.ranks() - 1 => Use::Copy,
            Operation::AllReduce | Operation::ReduceScatter => Use::Add,
        };
        let first = self.firsts[chunk];
        (0..self.count(chunk)).map(move |number| (number, first + number, purpose))
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
