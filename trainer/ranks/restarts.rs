//! How often a rank may begin a new life. Pure.

use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartSettings {
    /// Restarts of one rank within `within`: who fails more often stays out.
    pub max: usize,
    pub within: Duration,
    /// Before the next life begins.
    pub after: Duration,
}

impl Default for RestartSettings {
    fn default() -> Self {
        Self { max: 5, within: Duration::from_secs(600), after: Duration::from_millis(500) }
    }
}

/// Of one rank, when its lives began but the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts(VecDeque<Duration>);

impl Restarts {
    /// When the next life may begin after one that ended `now`; `None` if never.
    pub fn next(&mut self, now: Duration, settings: &RestartSettings) -> Option<Duration> {
        while self.0.front().is_some_and(|at| *at + settings.within < now) {
            self.0.pop_front();
        }
        if self.0.len() >= settings.max {
            return None;
        }
        let at = now + settings.after;
        self.0.push_back(at);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_too_often_within_the_window_stays_out() {
        let seconds = Duration::from_secs;
        let settings = RestartSettings { max: 2, within: seconds(10), after: seconds(1) };
        let mut restarts = Restarts::default();
        let mut next = |now| restarts.next(seconds(now), &settings);
        assert_eq!(next(0), Some(seconds(1)));
        assert_eq!(next(5), Some(seconds(6)));
        assert_eq!(next(7), None);
        assert_eq!(next(12), Some(seconds(13)));
        assert_eq!(next(13), None);
        let never = RestartSettings { max: 0, ..settings };
        assert_eq!(Restarts::default().next(seconds(0), &never), None);
    }
}
