//! The queue of a lane: messages that wait to be written, bounded in bytes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use tokio::sync::{Semaphore, TryAcquireError};

use crate::lane::{LaneEnded, TrySendError};

/// What a message costs beside its bytes, so that empty ones are bounded too.
const OVERHEAD_BYTES: usize = 64;

/// Many put in, one takes out. Room is given out in the order in which it was asked for, and a
/// message's part of it comes back when it has been written, not when it has been taken out.
pub(crate) struct Queue {
    bytes_max: usize,
    /// A permit for each byte.
    room: Semaphore,
    state: Mutex<State>,
}

struct State {
    messages: VecDeque<Vec<u8>>,
    senders: usize,
    is_ended: bool,
    /// Of the writer, while it waits for messages.
    writer: Option<Waker>,
}

impl Queue {
    /// With one sender.
    pub(crate) fn new(bytes_max: usize) -> Self {
        // Permits are asked for in numbers of 32 bits.
        let bytes_max = bytes_max.clamp(1, u32::MAX as usize);
        let (messages, writer) = (VecDeque::new(), None);
        let state = State { messages, senders: 1, is_ended: false, writer };
        Self { bytes_max, room: Semaphore::new(bytes_max), state: Mutex::new(state) }
    }

    /// What a message of so many bytes takes of the room: no more than there is, or a long one
    /// could never be sent. It waits for the queue to be empty.
    pub(crate) fn cost(&self, message_bytes: usize) -> usize {
        message_bytes.saturating_add(OVERHEAD_BYTES).min(self.bytes_max)
    }

    pub(crate) async fn push(&self, message: Vec<u8>) -> Result<(), LaneEnded> {
        let message = match self.try_push(message) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Ended) => return Err(LaneEnded),
            Err(TrySendError::Full(message)) => message,
        };
        let room = self.room.acquire_many(self.cost(message.len()) as u32).await;
        room.map_err(|_| LaneEnded)?.forget();
        self.put(message)
    }

    pub(crate) fn try_push(&self, message: Vec<u8>) -> Result<(), TrySendError> {
        match self.room.try_acquire_many(self.cost(message.len()) as u32) {
            Ok(room) => room.forget(),
            Err(TryAcquireError::NoPermits) => return Err(TrySendError::Full(message)),
            Err(TryAcquireError::Closed) => return Err(TrySendError::Ended),
        }
        self.put(message).map_err(|LaneEnded| TrySendError::Ended)
    }

    fn put(&self, message: Vec<u8>) -> Result<(), LaneEnded> {
        let writer = {
            let mut state = self.state();
            if state.is_ended {
                return Err(LaneEnded);
            }
            state.messages.push_back(message);
            state.writer.take()
        };
        // Outside the lock, which the writer asks for first of all.
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(())
    }

    /// Moves all messages into `batch`, which is empty, once there are some. `false` when no more
    /// will come.
    pub(crate) async fn take(&self, batch: &mut VecDeque<Vec<u8>>) -> bool {
        poll_fn(|context| {
            let mut state = self.state();
            if !state.messages.is_empty() {
                std::mem::swap(&mut state.messages, batch);
                return Poll::Ready(true);
            }
            if state.senders == 0 || state.is_ended {
                return Poll::Ready(false);
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// So much has been written, as [`Self::cost`] counts.
    pub(crate) fn release(&self, cost: usize) {
        self.room.add_permits(cost);
    }

    /// Nothing goes in any more, and nothing that is in comes out.
    pub(crate) fn end(&self) {
        let (writer, messages) = {
            let mut state = self.state();
            state.is_ended = true;
            (state.writer.take(), std::mem::take(&mut state.messages))
        };
        drop(messages);
        // Last, so that who hears of it by this finds that it is so.
        self.room.close();
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state().is_ended
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state().messages.is_empty()
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.bytes_max - self.room.available_permits().min(self.bytes_max)
    }

    pub(crate) fn add_sender(&self) {
        self.state().senders += 1;
    }

    pub(crate) fn remove_sender(&self) {
        let writer = {
            let mut state = self.state();
            state.senders -= 1;
            if state.senders > 0 {
                return;
            }
            state.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// No code panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
