//! How many calls an endpoint is given at one time: a cap that follows what it can take.
//!
//! Additive increase, multiplicative decrease. Pure, and without a clock: time is counted in calls.
//! Before a call [`InFlight::has_room`] is asked, then [`InFlight::started`] counts it; its
//! [`Window`] travels with the call and comes back with its outcome in [`InFlight::ended`].
//!
//! - **Increase.** While answers come and the cap is really used, it grows. Until the first
//!   refusal it doubles in each round of calls, since nothing is known yet; then it grows by one
//!   call in a round.
//! - **Decrease.** A refusal (rate limited, overloaded, timed out) cuts it, once for all calls that
//!   were in flight at that moment: what they are told after the cut is old news.
//!   So it swings between 0.7 of what the endpoint takes and just above.
//! - **Hold.** An endpoint that tells its load is believed before it refuses.
//!
//! What a call took and how many tokens it was are no input. An answer of 4,000 tokens takes a
//! hundred times as long as one of 40 on an idle endpoint; time tells load only where prompts and
//! answers are alike, which those of a team are not.

use crate::model::ModelErrorKind;

/// The cap of an endpoint about which nothing is known: what the smallest server takes without
/// harm. Doubling makes it 256 in five rounds.
const FIRST: f64 = 8.0;

/// A cut keeps this share. Half, as in TCP, would leave the endpoint idle for the many rounds that
/// it takes to grow again, and a round is as long as an answer; much more would need several cuts,
/// each paid with refused calls, to find an endpoint that has become half as large.
const CUT: f64 = 0.7;

/// Calls that a round adds to the cap, a round being as many answers as the cap.
const PER_ROUND: f64 = 1.0;

/// A round adds at least this share of the cap. Where it is more than [`PER_ROUND`], so above 32
/// calls, one by one would take hours: a cap doubles in about 23 rounds, however large.
const PER_ROUND_SHARE: f64 = 1.0 / 32.0;

/// The cap counts as used when this share of it is in flight; less says nothing about what more
/// would do. Not all of it: there is a moment between one call's end and the next one's start.
const USED: f64 = 0.9;

/// With more of its cache in use than this an inference server is about to evict what it works on.
const CACHE_FULL: f64 = 0.95;

/// More calls waiting inside the endpoint than this share of those in flight: they would wait here
/// as well, where others could be served first and the queue can be seen.
const QUEUED_SHARE_MAX: f64 = 0.25;

/// See the module.
#[derive(Debug)]
pub struct InFlight {
    cap: f64,
    max: f64,
    in_flight: usize,
    /// Of those in flight: started before the last cut.
    from_before: usize,
    window: u64,
    /// Nothing has been refused yet.
    finding: bool,
    held: bool,
    queued_before: bool,
}

/// Since which cut a call is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(u64);

/// How a call's try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryEnd {
    Answered,
    Failed(ModelErrorKind),
    /// By its caller: dropped, or cut at the caller's deadline. It says nothing about the endpoint.
    GivenUp,
}

/// What an endpoint says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Calls that wait inside it.
    pub queued: u64,
    /// Of its key-value cache in use, 0 to 1.
    pub cache_used: f64,
}

impl InFlight {
    /// A cap that stays within 1 and `max`.
    pub fn new(max: usize) -> Self {
        let max = max.max(1) as f64;
        Self {
            cap: FIRST.min(max),
            max,
            in_flight: 0,
            from_before: 0,
            window: 0,
            finding: true,
            held: false,
            queued_before: false,
        }
    }

    pub fn has_room(&self) -> bool {
        self.in_flight < self.cap()
    }

    pub fn started(&mut self) -> Window {
        self.in_flight += 1;
        Window(self.window)
    }

    /// A call that [`Self::started`] counted is over.
    pub fn ended(&mut self, window: Window, end: TryEnd) {
        debug_assert!(self.in_flight > 0, "more calls ended than began");
        let used = self.in_flight as f64 >= USED * self.cap.floor();
        let old = window.0 < self.window;
        match end {
            TryEnd::Answered if used && !self.held => self.grow(),
            TryEnd::Failed(kind) if is_refusal(kind) && !old => self.cut(),
            TryEnd::Answered | TryEnd::Failed(_) | TryEnd::GivenUp => {}
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        // A call that has just caused the cut was in flight then.
        if window.0 < self.window {
            self.from_before = self.from_before.saturating_sub(1);
        }
    }

    /// The endpoint told its load. One look with a queue may be a moment's; two in a row are not.
    pub fn loaded(&mut self, load: Load) {
        let queued = load.queued > 0 && self.queued_before;
        self.queued_before = load.queued > 0;
        self.held = queued || load.cache_used >= CACHE_FULL;
        let too_many = load.queued as f64 > QUEUED_SHARE_MAX * self.in_flight as f64;
        // Calls from before the last cut still fill the endpoint's queue; the cut shows after them.
        if queued && too_many && self.from_before == 0 {
            self.cut();
        }
    }

    /// Calls that may be in flight: at least 1.
    pub fn cap(&self) -> usize {
        self.cap as usize
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn grow(&mut self) {
        let by = if self.finding { 1.0 } else { (PER_ROUND / self.cap).max(PER_ROUND_SHARE) };
        self.cap = (self.cap + by).min(self.max);
    }

    /// Cuts what is really in flight, if that is less than the cap: the rest was not tried. But a
    /// call that was refused while it was nearly alone tells little about many.
    fn cut(&mut self) {
        let tried = (self.in_flight as f64).clamp(self.cap / 2.0, self.cap);
        self.cap = (tried * CUT).max(1.0);
        self.finding = false;
        self.window += 1;
        self.from_before = self.in_flight;
    }
}

/// The endpoint has said that it is given too much.
fn is_refusal(kind: ModelErrorKind) -> bool {
    match kind {
        ModelErrorKind::RateLimited | ModelErrorKind::Overloaded | ModelErrorKind::TimedOut => true,
        // Nothing was heard, or what was heard is about the request.
        ModelErrorKind::Unreachable
        | ModelErrorKind::Malformed
        | ModelErrorKind::ContextOverflow
        | ModelErrorKind::Unauthorized
        | ModelErrorKind::Rejected
        | ModelErrorKind::NotRecorded => false,
    }
}

#[cfg(test)]
#[path = "in_flight_tests.rs"]
mod tests;
