//! What follows a try that failed: another one, and when, or the end of the call.
//!
//! Pure: randomness and the time that is left come in. The delay is exponential with full jitter:
//! anything from nothing to a bound that doubles with each try, so that callers who failed together
//! do not come back together.

use std::time::Duration;

use crate::model::ModelError;

/// The bound after the first failure: what a connection or a moment's overload takes to pass.
const BASE: Duration = Duration::from_secs(1);

/// The longest bound. A server that restarts is back within a minute or two, and whoever waits much
/// longer than that holds an environment for nothing.
const BOUND_MAX: Duration = Duration::from_secs(30);

/// The longest `Retry-After` that is heeded. Limits are counted by the minute, and by the day: a
/// minute is waited for with room to spare, a day by nobody.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    TryIn(Duration),
    GiveUp(GaveUp),
}

/// Why a call has no further try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GaveUp {
    /// It would fare no better.
    Fatal,
    TriesUsedUp,
    /// The deadline is over, or would be before the next try.
    Deadline,
    /// The endpoint's gateway has ended, and with it all calls.
    GatewayGone,
}

impl GaveUp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "not to be tried again",
            Self::TriesUsedUp => "tries used up",
            Self::Deadline => "deadline over",
            Self::GatewayGone => "gateway gone",
        }
    }
}

/// After the try number `tries` (1 for the first) failed with `error`, with time `left` until the
/// deadline. `random` is from 0 up to 1.
pub fn next(tries: u32, tries_max: u32, error: &ModelError, random: f64, left: Duration) -> Next {
    if !error.kind.is_transient() {
        return Next::GiveUp(GaveUp::Fatal);
    }
    if left.is_zero() {
        return Next::GiveUp(GaveUp::Deadline);
    }
    if tries >= tries_max {
        return Next::GiveUp(GaveUp::TriesUsedUp);
    }
    let delay = delay(tries, error.retry_after, random);
    if delay >= left { Next::GiveUp(GaveUp::Deadline) } else { Next::TryIn(delay) }
}

/// The jitter comes on top of the endpoint's wish: many callers are told the same one.
fn delay(tries: u32, retry_after: Option<Duration>, random: f64) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    let bound = BASE.saturating_mul(1 << doublings).min(BOUND_MAX);
    let wish = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
    wish + bound.mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::ModelErrorKind;

    const LONG: Duration = Duration::from_secs(1 << 20);

    fn error(kind: ModelErrorKind, retry_after: Option<Duration>) -> ModelError {
        ModelError { retry_after, ..ModelError::new(kind, "no") }
    }

    #[test]
    fn the_bound_doubles_up_to_its_limit() {
        let overloaded = error(ModelErrorKind::Overloaded, None);
        let bounds: Vec<Next> = (1..=7).map(|n| next(n, 99, &overloaded, 1.0, LONG)).collect();
        let expected = [1, 2, 4, 8, 16, 30, 30].map(|s| Next::TryIn(Duration::from_secs(s)));
        assert_eq!(bounds, expected);
        assert_eq!(
            next(u32::MAX - 1, u32::MAX, &overloaded, 0.0, LONG),
            Next::TryIn(Duration::ZERO)
        );
    }

    #[test]
    fn what_would_fare_no_better_is_not_tried_again() {
        for kind in [ModelErrorKind::Unauthorized, ModelErrorKind::ContextOverflow] {
            let next = next(1, 9, &error(kind, Some(BASE)), 0.5, LONG);
            assert_eq!(next, Next::GiveUp(GaveUp::Fatal));
        }
    }

    proptest! {
        #[test]
        fn no_wait_reaches_the_deadline_and_none_undercuts_the_endpoints_wish(
            tries in 1..50_u32,
            tries_max in 1..50_u32,
            wish in prop::option::of(0..1_000_000_u64),
            random in 0.0..1.0,
            left in 0..1_000_000_u64,
        ) {
            let (wish, left) = (wish.map(Duration::from_millis), Duration::from_millis(left));
            let limited = error(ModelErrorKind::RateLimited, wish);
            let heeded = wish.unwrap_or_default().min(RETRY_AFTER_MAX);
            match next(tries, tries_max, &limited, random, left) {
                Next::TryIn(delay) => {
                    prop_assert!(tries < tries_max && delay < left);
                    prop_assert!(delay >= heeded && delay <= heeded + BOUND_MAX);
                }
                Next::GiveUp(GaveUp::TriesUsedUp) => prop_assert!(tries >= tries_max),
                Next::GiveUp(why) => {
                    prop_assert_eq!(why, GaveUp::Deadline);
                    prop_assert!(left <= heeded + BOUND_MAX);
                }
            }
        }
    }
}
