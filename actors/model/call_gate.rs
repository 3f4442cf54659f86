//! Whether an endpoint may be given one more call now: its cap and its breaker, which must agree.
//!
//! Pure: `now` in, decisions out.

use std::time::{Duration, Instant};

use crate::breaker::{Breaker, BreakerConfig, Pass};
use crate::model::in_flight::{InFlight, Load, TryEnd, Window};

/// Transient failures in a row, over all calls, that open the breaker. An endpoint that answers
/// only every other call has so many in a row once in 256 calls; one that is down, at once.
const FAILURES: u32 = 8;

/// Short at first, since a dropped connection takes many calls with it and means nothing.
const COOLDOWN: Duration = Duration::from_secs(2);

/// The longest that an endpoint which has come back is left unused.
const COOLDOWN_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct CallGate {
    cap: InFlight,
    breaker: Breaker,
}

/// A call under way, to be given back at its end.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    window: Window,
    trial: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Admission {
    Go(Started),
    /// Ask again when a call has ended.
    WaitForEnd,
    /// The breaker is open: ask again at this time.
    WaitUntil(Instant),
}

impl CallGate {
    pub fn new(in_flight_max: usize) -> Self {
        let breaker =
            BreakerConfig { failures: FAILURES, cooldown: COOLDOWN, cooldown_max: COOLDOWN_MAX };
        Self { cap: InFlight::new(in_flight_max), breaker: Breaker::new(breaker) }
    }

    pub fn try_start(&mut self, now: Instant) -> Admission {
        if !self.cap.has_room() {
            return Admission::WaitForEnd;
        }
        if let Pass::OpenUntil(at) = self.breaker.pass() {
            if now < at {
                return Admission::WaitUntil(at);
            }
            self.breaker.half_open();
        }
        let trial = match self.breaker.pass() {
            Pass::Yes => false,
            Pass::AsTrial => true,
            Pass::WaitForTrial => return Admission::WaitForEnd,
            Pass::OpenUntil(at) => return Admission::WaitUntil(at),
        };
        self.breaker.passed();
        Admission::Go(Started { window: self.cap.started(), trial })
    }

    pub fn ended(&mut self, started: Started, end: TryEnd, now: Instant) {
        self.cap.ended(started.window, end);
        match end {
            TryEnd::GivenUp => {}
            // Whatever went wrong with the request: the endpoint is there.
            TryEnd::Answered => self.breaker.succeeded(),
            TryEnd::Failed(kind) if !kind.is_transient() => self.breaker.succeeded(),
            // While a trial is awaited, calls from before say what is known already.
            TryEnd::Failed(_) => {
                if started.trial || self.breaker.is_closed() {
                    self.breaker.failed(now);
                }
            }
        }
        if started.trial {
            self.breaker.trial_ended();
        }
    }

    pub fn loaded(&mut self, load: Load) {
        self.cap.loaded(load);
    }

    /// The endpoint is believed to be there.
    pub fn is_closed(&self) -> bool {
        self.breaker.is_closed()
    }

    pub fn cap(&self) -> usize {
        self.cap.cap()
    }

    pub fn in_flight(&self) -> usize {
        self.cap.in_flight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelErrorKind;

    const DOWN: TryEnd = TryEnd::Failed(ModelErrorKind::Unreachable);

    fn start(gate: &mut CallGate, now: Instant) -> Started {
        match gate.try_start(now) {
            Admission::Go(started) => started,
            other => panic!("{other:?}"),
        }
    }

    /// A gate whose breaker has opened at `now` with one call from before still in flight.
    fn opened(now: Instant) -> (CallGate, Started) {
        let mut gate = CallGate::new(4);
        let late = start(&mut gate, now);
        for _ in 0..FAILURES {
            let started = start(&mut gate, now);
            gate.ended(started, DOWN, now);
        }
        assert!(!gate.is_closed());
        (gate, late)
    }

    #[test]
    fn an_endpoint_that_is_down_is_tried_by_one_call_after_the_cool_down() {
        let now = Instant::now();
        let (mut gate, late) = opened(now);
        assert!(matches!(gate.try_start(now), Admission::WaitUntil(at) if at == now + COOLDOWN));
        let later = now + COOLDOWN;
        let trial = start(&mut gate, later);
        assert!(matches!(gate.try_start(later), Admission::WaitForEnd));
        gate.ended(late, DOWN, later);
        assert!(matches!(gate.try_start(later), Admission::WaitForEnd), "old news");
        gate.ended(trial, DOWN, later);
        let next = later + COOLDOWN * 2;
        assert!(matches!(gate.try_start(later), Admission::WaitUntil(at) if at == next));
    }

    #[test]
    fn any_answer_closes_it_and_a_refused_request_is_an_answer() {
        for end in [TryEnd::Answered, TryEnd::Failed(ModelErrorKind::Rejected)] {
            let now = Instant::now();
            let (mut gate, late) = opened(now);
            gate.ended(late, end, now);
            assert!(gate.is_closed());
            start(&mut gate, now);
        }
    }

    #[test]
    fn fatal_errors_do_not_open_it() {
        let (mut gate, now) = (CallGate::new(1), Instant::now());
        for _ in 0..100 {
            let started = start(&mut gate, now);
            gate.ended(started, TryEnd::Failed(ModelErrorKind::Unauthorized), now);
        }
        assert!(gate.is_closed());
    }

    #[test]
    fn a_trial_that_its_caller_gave_up_is_followed_by_another() {
        let now = Instant::now();
        let (mut gate, _late) = opened(now);
        let later = now + COOLDOWN;
        let trial = start(&mut gate, later);
        gate.ended(trial, TryEnd::GivenUp, later);
        start(&mut gate, later);
    }
}
