//! What the two halves of a rank's ring share during one call: the segments, how far each half is,
//! and why the call fails if it does. Both halves are polled by one task.

use std::cell::RefCell;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::collective::CollectiveError;
use crate::collective::farewell::Farewell;
use crate::collective::schedule::{Move, Schedule};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Sender,
    Receiver,
}

pub(super) struct Flow<'v> {
    state: RefCell<State<'v>>,
    to_sender: Notify,
    to_receiver: Notify,
    to_caller: Notify,
    world_size: usize,
}

struct State<'v> {
    /// Those that no half has in its hands.
    segments: Vec<Option<&'v mut [f32]>>,
    sent: usize,
    received: usize,
    /// Since when each half waits for a neighbour.
    since: [Option<Instant>; 2],
    /// Which half has made all of its moves.
    complete: [bool; 2],
    cause: Option<Cause>,
    /// Nothing more is heard from the previous rank.
    is_deaf: bool,
    /// Nothing more is told to the next one.
    is_mute: bool,
}

struct Cause {
    farewell: Farewell,
    /// The previous rank cannot know better.
    is_certain: bool,
    /// The next rank has been told.
    is_told: bool,
}

impl<'v> Flow<'v> {
    pub(super) fn new(values: &'v mut [f32], schedule: &Schedule, world_size: usize) -> Self {
        let mut rest = values;
        let segments = schedule.segments().map(|range| rest.split_off_mut(..range.len()));
        let state = State {
            segments: segments.collect(),
            sent: 0,
            received: 0,
            since: [None; 2],
            complete: [false; 2],
            cause: None,
            is_deaf: false,
            is_mute: false,
        };
        let [to_sender, to_receiver, to_caller] = [(); 3].map(|()| Notify::new());
        Self { state: RefCell::new(state), to_sender, to_receiver, to_caller, world_size }
    }

    /// The segment of a move, once its turn has come; `None` once the call has failed.
    pub(super) async fn take(&self, half: Half, of: &Move) -> Option<&'v mut [f32]> {
        loop {
            {
                let state = &mut *self.state.borrow_mut();
                let done = match half {
                    Half::Sender => state.received,
                    Half::Receiver => state.sent,
                };
                if state.cause.is_some() {
                    return None;
                }
                if done >= of.after {
                    state.since[half as usize] = Some(Instant::now());
                    return state.segments.get_mut(of.index)?.take();
                }
            }
            self.notify(half).notified().await;
        }
    }

    /// The move is made.
    pub(super) fn give_back(&self, half: Half, of: &Move, segment: &'v mut [f32]) {
        let state = &mut *self.state.borrow_mut();
        state.segments[of.index] = Some(segment);
        state.since[half as usize] = None;
        match half {
            Half::Sender => {
                state.sent += 1;
                self.to_receiver.notify_one();
            }
            Half::Receiver => {
                state.received += 1;
                self.to_sender.notify_one();
            }
        }
    }

    /// From now on this half waits for its neighbour, or no more.
    pub(super) fn waits(&self, half: Half, waits: bool) {
        self.state.borrow_mut().since[half as usize] = waits.then(Instant::now);
    }

    /// All moves of this half are made.
    pub(super) fn complete(&self, half: Half) {
        self.state.borrow_mut().complete[half as usize] = true;
        self.notify_both();
    }

    /// Who has waited for longest, and since when.
    pub(super) fn waiting(&self) -> Option<(Instant, Half)> {
        let since = self.state.borrow().since;
        let of = |half: Half| since[half as usize].map(|since| (since, half));
        // The receiver first: what does not come is nearer to the cause than what is not taken.
        let halves = [Half::Receiver, Half::Sender].into_iter().filter_map(of);
        halves.min_by_key(|(since, _)| *since)
    }

    /// The call fails. What was known before is nearer to the cause.
    pub(super) fn fail(&self, cause: CollectiveError, is_certain: bool) {
        let state = &mut *self.state.borrow_mut();
        if state.cause.is_none() {
            let farewell = Farewell { cause, hops: 0 };
            state.cause = Some(Cause { farewell, is_certain, is_told: false });
            self.notify_both();
            self.to_caller.notify_one();
        }
    }

    /// The previous rank has failed, and says why. It may learn more.
    pub(super) fn heard(&self, farewell: Farewell) {
        let state = &mut *self.state.borrow_mut();
        let is_certain = state.cause.as_ref().is_some_and(|cause| cause.is_certain);
        // What has been around comes from here.
        let is_news = usize::from(farewell.hops) < self.world_size || state.cause.is_none();
        if is_news && !is_certain {
            state.cause = Some(Cause { farewell, is_certain: false, is_told: false });
            self.notify_both();
            self.to_caller.notify_one();
        }
    }

    /// Resolves once the call has failed.
    pub(super) async fn failed(&self) {
        while self.state.borrow().cause.is_none() {
            self.to_caller.notified().await;
        }
    }

    pub(super) fn cause(&self) -> Option<CollectiveError> {
        self.state.borrow().cause.as_ref().map(|cause| cause.farewell.cause.clone())
    }

    /// What the next rank has to be told, once for each new cause; `None` once there can be no
    /// more.
    pub(super) async fn to_tell(&self) -> Option<Farewell> {
        loop {
            {
                let state = &mut *self.state.borrow_mut();
                match &mut state.cause {
                    None if state.complete == [true; 2] => return None,
                    Some(cause) if !cause.is_told => {
                        cause.is_told = true;
                        let hops = cause.farewell.hops.saturating_add(1);
                        return Some(Farewell { cause: cause.farewell.cause.clone(), hops });
                    }
                    Some(_) if state.is_deaf => return None,
                    _ => {}
                }
            }
            self.to_sender.notified().await;
        }
    }

    /// Resolves once nothing more has to be received: whether the previous rank may know better why
    /// the call has failed.
    pub(super) async fn in_doubt(&self) -> bool {
        loop {
            {
                let state = self.state.borrow();
                match &state.cause {
                    None if state.complete == [true; 2] => return false,
                    None => {}
                    Some(cause) => return !cause.is_certain,
                }
            }
            self.to_receiver.notified().await;
        }
    }

    /// Nothing more is heard from the previous rank.
    pub(super) fn deaf(&self) {
        self.state.borrow_mut().is_deaf = true;
        self.to_sender.notify_one();
    }

    /// Nothing more is told to the next rank.
    pub(super) fn mute(&self) {
        self.state.borrow_mut().is_mute = true;
        self.to_receiver.notify_one();
    }

    pub(super) async fn is_mute(&self) {
        while !self.state.borrow().is_mute {
            self.to_receiver.notified().await;
        }
    }

    /// The deadline of the half that waits, if it has passed; else when to ask again.
    pub(super) fn overdue(&self, timeout: Duration) -> Result<Half, Instant> {
        let now = Instant::now();
        match self.waiting() {
            Some((since, half)) if now >= since + timeout => Ok(half),
            Some((since, _)) => Err(since + timeout),
            None => Err(now + timeout),
        }
    }

    fn notify(&self, half: Half) -> &Notify {
        match half {
            Half::Sender => &self.to_sender,
            Half::Receiver => &self.to_receiver,
        }
    }

    fn notify_both(&self) {
        self.to_sender.notify_one();
        self.to_receiver.notify_one();
    }
}
