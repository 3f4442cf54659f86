//! Ranks on several nodes: memory within a node, a ring between the nodes.
//!
//! The first rank of each node is its leader. Each node sums in its leader's buffer, the leaders'
//! ring sums over the nodes, and each node copies from its leader. So the network carries each
//! value for a node, and not for each of its ranks. The sum is that over the nodes of their sums.

use std::ops::Range;

#[cfg(doc)]
use crate::collective::Abort;
use crate::collective::memory::{Job, MemoryRank};
use crate::collective::ring::Ring;
use crate::collective::schedule::Operation;
use crate::collective::{Collective, CollectiveError, part};

pub struct TwoLevel {
    /// Of each node, which ranks it has.
    nodes: Vec<Range<usize>>,
    node: usize,
    local: MemoryRank,
    /// Of a leader.
    ring: Option<Ring>,
}

impl TwoLevel {
    /// Of a rank that is `local` in node `node`, where node i has `ranks[i]` ranks, and ranks are
    /// numbered node by node. The leader of a node has the ring, in which it is rank `node`, if
    /// there is another node. Both are aborted by their own means ([`Abort::and`] makes one of
    /// them); an error of the one ends the other.
    ///
    /// # Errors
    /// Parts that do not belong together.
    pub fn new(
        ranks: &[usize],
        node: usize,
        local: MemoryRank,
        ring: Option<Ring>,
    ) -> Result<Self, CollectiveError> {
        let mut nodes: Vec<Range<usize>> = Vec::new();
        for count in ranks {
            let start = nodes.last().map_or(0, |node| node.end);
            nodes.push(start..start + count);
        }
        let mismatch = |what: &str| CollectiveError::Mismatch { rank: 0, what: what.to_owned() };
        let mine = nodes.get(node).ok_or_else(|| mismatch("a node that is not there"))?;
        if mine.len() != local.world_size() || ranks.contains(&0) {
            return Err(mismatch("a node with another number of ranks"));
        }
        if ring.is_some() != (local.rank() == 0 && nodes.len() > 1) {
            return Err(mismatch("the ring is between the leaders of the nodes, of which one is"));
        }
        if ring.as_ref().is_some_and(|it| (it.rank(), it.world_size()) != (node, nodes.len())) {
            return Err(mismatch("a ring of other nodes"));
        }
        let leaders: Vec<usize> = nodes.iter().map(|node| node.start).collect();
        let ring = ring.map(|ring| ring.numbered(leaders));
        Ok(Self { nodes, node, local, ring })
    }

    /// The leader's part, between those of its node. An error ends both.
    fn across(
        &mut self,
        operation: Operation,
        chunks: Vec<Range<usize>>,
        values: &mut [f32],
    ) -> Result<(), CollectiveError> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        let result = ring.call(operation, chunks, values);
        result.inspect_err(|error| self.local.fail(error.clone()))
    }

    /// Within the node. Without its leader the ring can do nothing, nor the leader without its
    /// node.
    fn within(
        &mut self,
        job: Job,
        region: Range<usize>,
        values: &mut [f32],
    ) -> Result<(), CollectiveError> {
        // The leader comes back from the ring, or the node is told that it does not.
        let is_patient = matches!(job, Job::First | Job::FirstToOwn);
        let result = self.local.call(job, region, is_patient, values);
        result.inspect_err(|error| self.ring.iter_mut().for_each(|ring| ring.fail(error.clone())))
    }

    /// What a rank works on where its whole node works on everything.
    fn even(&self, len: usize) -> Range<usize> {
        part(len, self.local.rank(), self.local.world_size())
    }

    fn own(&self, len: usize) -> Range<usize> {
        part(len, self.rank(), self.world_size())
    }

    /// The parts of the ranks of each node, together.
    fn chunks(&self, len: usize) -> Vec<Range<usize>> {
        let world_size = self.world_size();
        let of = |ranks: &Range<usize>| {
            part(len, ranks.start, world_size).start..part(len, ranks.end - 1, world_size).end
        };
        self.nodes.iter().map(of).collect()
    }
}

impl Collective for TwoLevel {
    fn rank(&self) -> usize {
        self.nodes[self.node].start + self.local.rank()
    }

    fn world_size(&self) -> usize {
        self.nodes.last().map_or(0, |node| node.end)
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CollectiveError> {
        let (len, nodes) = (values.len(), self.nodes.len());
        self.within(Job::SumToFirst, self.even(len), values)?;
        let chunks = (0..nodes).map(|node| part(len, node, nodes)).collect();
        self.across(Operation::AllReduce, chunks, values)?;
        self.within(Job::First, self.even(len), values)
    }

    fn reduce_scatter(&mut self, values: &mut [f32]) -> Result<Range<usize>, CollectiveError> {
        let len = values.len();
        self.within(Job::SumToFirst, self.even(len), values)?;
        self.across(Operation::ReduceScatter, self.chunks(len), values)?;
        self.within(Job::FirstToOwn, self.own(len), values)?;
        Ok(self.own(len))
    }

    fn all_gather(&mut self, values: &mut [f32]) -> Result<(), CollectiveError> {
        let len = values.len();
        self.within(Job::OwnToFirst, self.own(len), values)?;
        self.across(Operation::AllGather, self.chunks(len), values)?;
        self.within(Job::First, self.even(len), values)
    }
}

#[cfg(test)]
#[path = "two_level_tests.rs"]
mod tests;
