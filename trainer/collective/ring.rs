//! A ring over streams of bytes: each rank writes to the next one and reads from the previous.
//!
//! A call is two halves side by side, in the thread that makes it: one sends, one receives and
//! adds. Values go out from where they lie and come in to where they belong, without a copy beside
//! those of the streams; only what is to be added comes into a scratch segment first.
//!
//! How a call fails: the half that notices says so, the other one ends its frame, and the next rank
//! is told why in a [`farewell`](crate::collective::farewell). Then the streams are closed, so that
//! both neighbours notice whatever they do. A rank that is not sure of the cause (it has only
//! waited, or its stream to the next rank has failed) listens a while to what the previous one
//! says.

use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use orcapack_cluster::link::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use crate::caps::{RING_CLOSE_TIMEOUT, RING_DOUBT_TIMEOUT, SEGMENT_BYTES_MAX};
use crate::collective::flow::Flow;
use crate::collective::ring_halves::{Call, Receiver, Sender};
use crate::collective::schedule::{Operation, Schedule};
use crate::collective::{Abort, Collective, CollectiveError, part};

/// What an aborted rank has to tell the next one, at most.
const ABORT_TIMEOUT: Duration = Duration::from_millis(5);

/// The streams of one rank.
pub struct Neighbours {
    pub to_next: Box<dyn AsyncWrite + Send + Unpin>,
    pub from_previous: Box<dyn AsyncRead + Send + Unpin>,
}

impl Neighbours {
    /// Over links: one direction of each stream is used.
    pub fn over(to_next: Stream, from_previous: Stream) -> Self {
        Self { to_next: to_next.send, from_previous: from_previous.receive }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    F32,
    /// What an all-reduce adds travels as f32, its sums as bf16: every rank has the same rounded
    /// ones. An all-gather alone stays exact.
    Bf16,
}

#[derive(Clone, Copy, Debug)]
pub struct RingSettings {
    /// Of the membership. A frame of another one is refused.
    pub epoch: u64,
    /// What is sent on at once; the same on every rank. Small ones cost a write each, large ones
    /// fill the processor's cache and start the next rank late.
    pub segment_bytes: usize,
    pub wire: Wire,
    /// For a neighbour to send or take one segment, so also for how long after the first rank the
    /// last one may begin a call.
    pub timeout: Duration,
}

impl RingSettings {
    pub fn new(epoch: u64, timeout: Duration) -> Self {
        Self { epoch, segment_bytes: 256 << 10, wire: Wire::F32, timeout }
    }
}

pub struct Ring {
    rank: usize,
    world_size: usize,
    /// What errors call the ranks.
    names: Vec<usize>,
    settings: RingSettings,
    handle: Handle,
    /// Of the call that comes next.
    call: u64,
    /// Until it has failed.
    halves: Result<(Sender, Receiver), CollectiveError>,
    aborted: watch::Receiver<Option<String>>,
}

impl Ring {
    /// Rank `rank` of `world_size`. The streams are polled by the runtime of `handle`, whose clock
    /// and I/O must be enabled.
    pub fn new(
        rank: usize,
        world_size: usize,
        neighbours: Neighbours,
        settings: RingSettings,
        handle: Handle,
    ) -> (Self, Abort) {
        let (abort, aborted) = watch::channel(None);
        let abort = Abort::new(move |reason| {
            abort.send_if_modified(|aborted| {
                let is_first = aborted.is_none();
                aborted.get_or_insert_with(|| reason.to_owned());
                is_first
            });
        });
        let segment_bytes = settings.segment_bytes.clamp(size_of::<f32>(), SEGMENT_BYTES_MAX);
        let settings = RingSettings { segment_bytes, ..settings };
        let receiver = Receiver::new(neighbours.from_previous, segment_bytes / size_of::<f32>());
        let halves = Ok((Sender::new(neighbours.to_next), receiver));
        let names = (0..world_size).collect();
        (Self { rank, world_size, names, settings, handle, call: 0, halves, aborted }, abort)
    }

    /// Errors call the ranks so, on all of them.
    pub(super) fn numbered(mut self, names: Vec<usize>) -> Self {
        self.names = names;
        self
    }

    /// Ends for a cause outside, which the next rank is told.
    pub(super) fn fail(&mut self, cause: CollectiveError) {
        self.end(cause.clone(), Some(cause));
    }

    /// One call, in which rank r's own chunk is `chunks[r]`; they cover the values in order.
    pub(super) fn call(
        &mut self,
        operation: Operation,
        chunks: Vec<Range<usize>>,
        values: &mut [f32],
    ) -> Result<(), CollectiveError> {
        let handle = self.handle.clone();
        handle.block_on(self.run(operation, chunks, values))
    }

    pub(super) async fn run(
        &mut self,
        operation: Operation,
        chunks: Vec<Range<usize>>,
        values: &mut [f32],
    ) -> Result<(), CollectiveError> {
        if let Some(reason) = &*self.aborted.borrow() {
            return Err(CollectiveError::Aborted(reason.clone()));
        }
        let (sender, receiver) = self.halves.as_mut().map_err(|ended| ended.clone())?;
        let segment_len = self.settings.segment_bytes / size_of::<f32>();
        let call = Call {
            epoch: self.settings.epoch,
            number: self.call,
            previous: self.names[(self.rank + self.world_size - 1) % self.world_size],
            next: self.names[(self.rank + 1) % self.world_size],
            wire: self.settings.wire,
            schedule: Schedule::new(operation, self.rank, chunks, segment_len),
        };
        let flow = Flow::new(values, &call.schedule, self.world_size);
        let mut aborted = self.aborted.clone();
        {
            let both = async { tokio::join!(receiver.run(&flow, &call), sender.run(&flow, &call)) };
            let mut both = pin!(both);
            let is_over = tokio::select! {
                biased;
                _ = &mut both => true,
                () = flow.failed() => false,
                () = keep_watch(&flow, &call, self.settings.timeout, &mut aborted) => false,
            };
            if !is_over {
                let farewells = timeout(RING_DOUBT_TIMEOUT, &mut both);
                let reason = tokio::select! {
                    biased;
                    // They have ended, or time is up: what they have told is told.
                    _ = farewells => None,
                    reason = reason(&mut aborted) => Some(reason),
                };
                if let Some(reason) = reason {
                    flow.fail(CollectiveError::Aborted(reason), true);
                    let _ = timeout(ABORT_TIMEOUT, &mut both).await;
                }
            }
        }
        self.call += 1;
        let Some(cause) = flow.cause() else { return Ok(()) };
        drop(flow);
        self.end(cause.clone(), None);
        Err(cause)
    }

    /// Closes both streams. What has been written still arrives, and so does what is to be told.
    fn end(&mut self, cause: CollectiveError, told: Option<CollectiveError>) {
        if let Ok((mut sender, receiver)) = std::mem::replace(&mut self.halves, Err(cause)) {
            drop(receiver);
            let epoch = self.settings.epoch;
            self.handle.spawn(async move {
                // The next rank may be gone.
                let _ = timeout(RING_CLOSE_TIMEOUT, sender.close(told, epoch)).await;
            });
        }
    }

    fn even(&self, len: usize) -> Vec<Range<usize>> {
        (0..self.world_size).map(|rank| part(len, rank, self.world_size)).collect()
    }
}

/// Resolves when the call has to fail for what neither half notices, and has it fail.
async fn keep_watch(
    flow: &Flow<'_>,
    call: &Call,
    timeout: Duration,
    aborted: &mut watch::Receiver<Option<String>>,
) {
    loop {
        let until = match flow.overdue(timeout) {
            Ok(half) => {
                let rank = call.neighbour(half);
                return flow.fail(CollectiveError::TimedOut { rank, after: timeout }, false);
            }
            Err(until) => until,
        };
        tokio::select! {
            biased;
            reason = reason(aborted) => {
                return flow.fail(CollectiveError::Aborted(reason), true);
            }
            () = sleep_until(until) => {}
        }
    }
}

/// Resolves when the ring is aborted.
async fn reason(aborted: &mut watch::Receiver<Option<String>>) -> String {
    let reason = aborted.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    match reason {
        Some(reason) => reason,
        // Nobody can abort it any more.
        None => std::future::pending().await,
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.end(CollectiveError::Aborted("its rank has let go of it".to_owned()), None);
    }
}

impl Collective for Ring {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.call(Operation::AllReduce, self.even(values.len()), values)
    }

    fn reduce_scatter(&mut self, values: &mut [f32]) -> Result<Range<usize>, CollectiveError> {
        self.call(Operation::ReduceScatter, self.even(values.len()), values)?;
        Ok(part(values.len(), self.rank, self.world_size))
    }

    fn all_gather(&mut self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.call(Operation::AllGather, self.even(values.len()), values)
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
