//! A rank's communication thread: sums one bucket after the other over the ranks, while the rank
//! computes on.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::collective::{Collective, CollectiveError};
use crate::ranks::pin::Before;

/// What the ranks do with a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    AllReduce,
    ReduceScatter,
    AllGather,
}

/// The collective of one epoch, on a thread of its own, which ends when this is dropped: at once if
/// the collective is aborted.
pub struct Reducer {
    rank: usize,
    world_size: usize,
    /// Not more than the buckets of a step.
    calls: Sender<(Call, Vec<f32>)>,
    done: Receiver<Result<Vec<f32>, CollectiveError>>,
}

impl Reducer {
    /// On the cores of `before`, where this thread is pinned: the sums of a rank are made beside
    /// what it computes.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start(mut collective: Box<dyn Collective>, before: Option<Before>) -> io::Result<Self> {
        let (rank, world_size) = (collective.rank(), collective.world_size());
        let (calls, asked) = channel::<(Call, Vec<f32>)>();
        let (tell, done) = channel();
        let work = move || {
            if let Some(before) = before {
                // Where it stays pinned, it is slower, and nothing else.
                let _ = before.restore();
            }
            for (call, mut values) in asked {
                let result = match call {
                    Call::AllReduce => collective.all_reduce(&mut values),
                    Call::ReduceScatter => collective.reduce_scatter(&mut values).map(drop),
                    Call::AllGather => collective.all_gather(&mut values),
                };
                let has_failed = result.is_err();
                if tell.send(result.map(|()| values)).is_err() || has_failed {
                    return;
                }
            }
        };
        thread::Builder::new().name(format!("reduce-{rank}")).spawn(work)?;
        Ok(Self { rank, world_size, calls, done })
    }

    pub fn rank(&self) -> usize {
        self.rank
    }

    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// Asks for one more call; waits for nothing.
    pub fn ask(&self, call: Call, values: Vec<f32>) {
        // Of a thread that has ended, `next` gives the reason.
        let _ = self.calls.send((call, values));
    }

    /// What became of the next bucket, in the order of the calls.
    ///
    /// # Errors
    /// The first failure of the collective, and then that it is of no use any more.
    pub fn next(&self) -> Result<Vec<f32>, CollectiveError> {
        let gone = || CollectiveError::Aborted("the collective has failed before".to_owned());
        self.done.recv().unwrap_or_else(|_| Err(gone()))
    }
}
