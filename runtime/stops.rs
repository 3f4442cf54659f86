//! What signals ask of a run: the first one to drain, a second one, or the drain's time limit, to
//! end what runs; further ones change nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::exit::Failure;
use crate::signals::Signals;

/// Hears them from the moment that it is made.
pub struct Stops {
    signals: Signals,
    drain_limit: Duration,
    kill_at: Option<Instant>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Begin nothing more; what runs may end.
    Drain,
    /// End what runs.
    Kill,
}

/// The kills are quick, but their clean-up takes the engine some time.
const NOT_AGAIN: Duration = Duration::from_secs(24 * 3600);

impl Stops {
    /// # Errors
    /// The system refuses.
    pub fn listen(drain_limit: Duration) -> Result<Self, Failure> {
        Ok(Self { signals: Signals::listen()?, drain_limit, kill_at: None })
    }

    /// The next one. Nothing is lost where it is dropped before.
    pub async fn next(&mut self) -> Stop {
        let limit_is_over = async {
            match self.kill_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let is_over = tokio::select! {
            biased;
            () = self.signals.next() => false,
            () = limit_is_over => true,
        };
        let now = Instant::now();
        if is_over {
            self.kill_at = Some(now + NOT_AGAIN);
            return Stop::Kill;
        }
        if self.kill_at.is_some() {
            return Stop::Kill;
        }
        let limit = self.drain_limit;
        eprintln!("draining for up to {} s; once more to stop now", limit.as_secs());
        self.kill_at = Some(now + limit);
        Stop::Drain
    }
}
