//! A breaker: who fails several times in a row is left in peace for a while, and then asked with
//! one trial.
//!
//! Pure: `now` in, decisions out. It stands before an engine's starts and before a model endpoint's
//! calls. Whoever uses it calls [`Breaker::pass`] before each use, [`Breaker::passed`] when the use
//! begins, then [`Breaker::succeeded`] or [`Breaker::failed`] if the use says something about the
//! other side, and [`Breaker::trial_ended`] when a trial is over in any way.

use std::time::{Duration, Instant};

#[derive(Clone, Debug, PartialEq)]
pub struct BreakerConfig {
    /// Failures in a row that open it. At least 1.
    pub failures: u32,
    /// From opening to the first trial or probe. It doubles with each one that fails.
    pub cooldown: Duration,
    /// Where the doubling ends.
    pub cooldown_max: Duration,
}

#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    /// The next cool-down.
    cooldown: Duration,
}

#[derive(Debug, PartialEq)]
enum State {
    Closed {
        failures_in_row: u32,
    },
    /// Nothing goes through until then.
    Open {
        until: Instant,
    },
    /// One use goes through, and decides.
    HalfOpen {
        trial_under_way: bool,
    },
}

/// The answer to "may one more go through?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Yes,
    /// Yes, and its end decides whether others may.
    AsTrial,
    /// Ask again when the trial has ended.
    WaitForTrial,
    /// Closed off until then.
    OpenUntil(Instant),
}

impl Breaker {
    pub fn new(config: BreakerConfig) -> Self {
        let cooldown = config.cooldown;
        Self { config, state: State::Closed { failures_in_row: 0 }, cooldown }
    }

    pub fn pass(&self) -> Pass {
        match self.state {
            State::Closed { .. } => Pass::Yes,
            State::Open { until } => Pass::OpenUntil(until),
            State::HalfOpen { trial_under_way: true } => Pass::WaitForTrial,
            State::HalfOpen { trial_under_way: false } => Pass::AsTrial,
        }
    }

    /// A use that [`Self::pass`] allowed begins.
    pub fn passed(&mut self) {
        if let State::HalfOpen { trial_under_way } = &mut self.state {
            *trial_under_way = true;
        }
    }

    /// The trial is over. If nothing was learnt from it, the next use is the trial.
    pub fn trial_ended(&mut self) {
        if let State::HalfOpen { trial_under_way } = &mut self.state {
            *trial_under_way = false;
        }
    }

    pub fn succeeded(&mut self) {
        self.state = State::Closed { failures_in_row: 0 };
        self.cooldown = self.config.cooldown;
    }

    pub fn failed(&mut self, now: Instant) {
        let open = match &mut self.state {
            State::Closed { failures_in_row } => {
                *failures_in_row += 1;
                *failures_in_row >= self.config.failures
            }
            State::HalfOpen { .. } => true,
            State::Open { .. } => false,
        };
        if open {
            self.open(now);
        }
    }

    /// The cool-down is over, and a probe, where there is one, was answered: a trial may go
    /// through.
    pub fn half_open(&mut self) {
        if self.is_open() {
            self.state = State::HalfOpen { trial_under_way: false };
        }
    }

    /// A probe of an open breaker was not answered: another cool-down.
    pub fn stay_open(&mut self, now: Instant) {
        if self.is_open() {
            self.open(now);
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open { until: now + self.cooldown };
        self.cooldown = self.cooldown.saturating_mul(2).min(self.config.cooldown_max);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(BreakerConfig { failures: 3, cooldown: SECOND, cooldown_max: SECOND * 5 })
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (mut breaker, now) = (breaker(), Instant::now());
        breaker.failed(now);
        breaker.failed(now);
        breaker.succeeded();
        breaker.failed(now);
        breaker.failed(now);
        assert_eq!(breaker.pass(), Pass::Yes);
        breaker.failed(now);
        assert_eq!(breaker.pass(), Pass::OpenUntil(now + SECOND));
    }

    #[test]
    fn one_trial_decides_and_failed_trials_lengthen_the_cool_down_up_to_its_limit() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for _ in 0..3 {
            breaker.failed(now);
        }
        for seconds in [1, 2, 4, 5, 5] {
            assert_eq!(breaker.pass(), Pass::OpenUntil(now + SECOND * seconds));
            breaker.half_open();
            assert_eq!(breaker.pass(), Pass::AsTrial);
            breaker.passed();
            assert_eq!(breaker.pass(), Pass::WaitForTrial);
            breaker.failed(now);
            breaker.trial_ended();
        }
        breaker.half_open();
        breaker.passed();
        breaker.succeeded();
        breaker.trial_ended();
        assert_eq!(breaker.pass(), Pass::Yes);
        for _ in 0..3 {
            breaker.failed(now);
        }
        let first_again = Pass::OpenUntil(now + SECOND);
        assert_eq!(breaker.pass(), first_again, "an answer forgets earlier cool-downs");
    }

    #[test]
    fn a_trial_that_was_given_up_leaves_its_place_to_the_next() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for _ in 0..3 {
            breaker.failed(now);
        }
        breaker.half_open();
        breaker.passed();
        breaker.trial_ended();
        assert_eq!(breaker.pass(), Pass::AsTrial);
    }

    proptest! {
        /// Whatever happens, somebody may go through in the end: now, after the trial that is under
        /// way, or after a cool-down within its limit.
        #[test]
        fn it_never_shuts_for_good(history in prop::collection::vec(0..6_u8, 0..200)) {
            let (mut breaker, now) = (breaker(), Instant::now());
            let mut trial = false;
            for event in history {
                match event {
                    0 => breaker.succeeded(),
                    1 => breaker.failed(now),
                    2 => breaker.half_open(),
                    3 => breaker.stay_open(now),
                    4 if matches!(breaker.pass(), Pass::Yes | Pass::AsTrial) => {
                        trial |= breaker.pass() == Pass::AsTrial;
                        breaker.passed();
                    }
                    4 => {}
                    _ => {
                        breaker.trial_ended();
                        trial = false;
                    }
                }
                match breaker.pass() {
                    Pass::Yes | Pass::AsTrial => {}
                    Pass::WaitForTrial => prop_assert!(trial),
                    Pass::OpenUntil(until) => prop_assert!(until <= now + SECOND * 5),
                }
            }
        }
    }
}
