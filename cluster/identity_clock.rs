//! The time of day, as certificates are judged by it. It is given in, so that tests and simulations
//! have days in seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

pub type Clock = Arc<dyn TimeProvider>;

pub fn system_clock() -> Clock {
    Arc::new(DefaultTimeProvider)
}

/// A clock that goes when it is told to.
#[derive(Debug)]
pub struct SetClock {
    seconds: AtomicU64,
}

impl SetClock {
    pub fn new(seconds: u64) -> Arc<Self> {
        Arc::new(Self { seconds: AtomicU64::new(seconds) })
    }

    pub fn advance(&self, by: Duration) {
        self.seconds.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    pub fn set(&self, seconds: u64) {
        self.seconds.store(seconds, Ordering::Relaxed);
    }
}

impl TimeProvider for SetClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.seconds.load(Ordering::Relaxed);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// A clock that has no answer stands at 1970: nothing is valid then.
pub(crate) fn now(clock: &Clock) -> UnixTime {
    clock.current_time().unwrap_or(UnixTime::since_unix_epoch(Duration::ZERO))
}
