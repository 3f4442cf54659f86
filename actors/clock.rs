//! The clock of actors: tokio's, so that simulated time counts.

use std::time::Instant;

pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
