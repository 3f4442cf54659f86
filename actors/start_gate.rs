//! When an environment may be started: a limit on concurrent starts, a limit on their rate, and a
//! breaker.
//!
//! A pure state machine: it reads no clock and does no I/O. An engine does a fixed amount of work
//! per second however many starts it is given at once (on two cores 2.8 trials/s at 16 and at 64 at
//! a time); more only lengthens the queue inside it, where nobody can see it. So the queue is kept
//! here, and starts are let through near the core count.

use std::time::{Duration, Instant};

use crate::breaker::{Breaker, BreakerConfig, Pass};

#[derive(Clone, Debug, PartialEq)]
pub struct StartGateConfig {
    /// Starts under way at one time, image builds included. At least 1.
    pub concurrency: usize,
    /// `None` is no limit.
    pub rate_per_sec: Option<f64>,
    /// Engine failures in a row that open the breaker. At least 1.
    pub breaker_failures: u32,
    /// From opening to the first probe, and from one probe to the next.
    pub breaker_cooldown: Duration,
}

/// The three limits in one place, because all of them must agree before a start goes through.
#[derive(Debug)]
pub struct StartGate {
    config: StartGateConfig,
    under_way: usize,
    /// The next time at which the rate lets a start through.
    next_start: Option<Instant>,
    breaker: Breaker,
}

/// The answer to "may one more start now?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes, and it is counted as under way.
    Go,
    /// Ask again when a start has ended.
    WaitForEnd,
    /// Ask again at this time (rate).
    WaitUntil(Instant),
    /// The breaker is open: probe the engine at this time.
    ProbeAt(Instant),
}

impl StartGate {
    pub fn new(config: StartGateConfig) -> Self {
        // An engine is probed before a start is risked, so its cool-down need not grow.
        let breaker = Breaker::new(BreakerConfig {
            failures: config.breaker_failures,
            cooldown: config.breaker_cooldown,
            cooldown_max: config.breaker_cooldown,
        });
        Self { config, under_way: 0, next_start: None, breaker }
    }

    pub fn try_start(&mut self, now: Instant) -> Admission {
        match self.breaker.pass() {
            Pass::OpenUntil(at) => return Admission::ProbeAt(at),
            Pass::WaitForTrial => return Admission::WaitForEnd,
            Pass::Yes | Pass::AsTrial => {}
        }
        if self.under_way >= self.config.concurrency {
            return Admission::WaitForEnd;
        }
        if let Some(at) = self.next_start
            && at > now
        {
            return Admission::WaitUntil(at);
        }
        if let Some(rate) = self.config.rate_per_sec {
            self.next_start = Some(now + Duration::from_secs_f64(1.0 / rate));
        }
        self.breaker.passed();
        self.under_way += 1;
        Admission::Go
    }

    /// A start ended, well or not; what the engine had to do with it comes by [`Self::succeeded`]
    /// and [`Self::engine_failed`] before.
    pub fn ended(&mut self) {
        debug_assert!(self.under_way > 0, "more starts ended than began");
        self.under_way = self.under_way.saturating_sub(1);
        self.breaker.trial_ended();
    }

    pub fn succeeded(&mut self) {
        self.breaker.succeeded();
    }

    /// The engine, not the task, failed a start.
    pub fn engine_failed(&mut self, now: Instant) {
        self.breaker.failed(now);
    }

    /// The engine was asked whether it is there.
    pub fn probed(&mut self, answered: bool, now: Instant) {
        if answered {
            self.breaker.half_open();
        } else {
            self.breaker.stay_open(now);
        }
    }

    pub fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// Starts under way. 0 when nothing runs (AC-6).
    pub fn under_way(&self) -> usize {
        self.under_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(concurrency: usize, rate_per_sec: Option<f64>) -> StartGate {
        StartGate::new(StartGateConfig {
            concurrency,
            rate_per_sec,
            breaker_failures: 3,
            breaker_cooldown: Duration::from_secs(10),
        })
    }

    #[test]
    fn no_more_than_the_limit_are_under_way() {
        let (mut gate, now) = (gate(2, None), Instant::now());
        assert_eq!(gate.try_start(now), Admission::Go);
        assert_eq!(gate.try_start(now), Admission::Go);
        assert_eq!(gate.try_start(now), Admission::WaitForEnd);
        gate.ended();
        assert_eq!(gate.try_start(now), Admission::Go);
        assert_eq!(gate.under_way(), 2);
    }

    #[test]
    fn the_rate_spaces_starts() {
        let (mut gate, now) = (gate(10, Some(4.0)), Instant::now());
        assert_eq!(gate.try_start(now), Admission::Go);
        let next = now + Duration::from_millis(250);
        assert_eq!(gate.try_start(now), Admission::WaitUntil(next));
        assert_eq!(gate.try_start(next), Admission::Go);
    }

    #[test]
    fn failures_in_a_row_open_the_breaker_and_a_success_in_between_does_not_count() {
        let (mut gate, now) = (gate(10, None), Instant::now());
        gate.engine_failed(now);
        gate.engine_failed(now);
        gate.succeeded();
        gate.engine_failed(now);
        gate.engine_failed(now);
        assert!(!gate.is_open());
        gate.engine_failed(now);
        let probe_at = now + Duration::from_secs(10);
        assert_eq!(gate.try_start(now), Admission::ProbeAt(probe_at));
    }

    #[test]
    fn after_an_answered_probe_one_start_decides() {
        let (mut gate, now) = (gate(10, None), Instant::now());
        for _ in 0..3 {
            gate.engine_failed(now);
        }
        gate.probed(false, now);
        assert!(gate.is_open());
        gate.probed(true, now);
        assert_eq!(gate.try_start(now), Admission::Go);
        assert_eq!(gate.try_start(now), Admission::WaitForEnd);
        gate.engine_failed(now);
        gate.ended();
        assert!(gate.is_open(), "the trial start failed");
        gate.probed(true, now);
        assert_eq!(gate.try_start(now), Admission::Go);
        gate.succeeded();
        gate.ended();
        assert_eq!(gate.try_start(now), Admission::Go);
        assert_eq!(gate.try_start(now), Admission::Go);
    }
}
