//! What a rank that fails still says to the next one, so that all know who was to blame.
//!
//! Without it each rank of a ring would blame the one before it, which has itself only waited. What
//! comes from the previous rank is closer to the cause than what a rank has seen itself, unless
//! that was the cause: so a rank that is not sure passes on what it hears, at most once around.
//!
//! | bytes | of the payload |
//! |---|---|
//! | 0 | 1 lost, 2 timed out, 3 corrupt, 4 aborted, 5 mismatch |
//! | 1 | 0 |
//! | 2..4 | ranks that it has passed |
//! | 4..8 | the rank that is to blame |
//! | 8..16 | milliseconds that were waited |
//! | 16.. | why, in UTF-8 |

use std::time::Duration;

use crate::caps::FAREWELL_BYTES_MAX;
use crate::collective::CollectiveError;

const FIXED_BYTES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    pub cause: CollectiveError,
    /// Ranks that have passed it on, with the first.
    pub hops: u16,
}

impl Farewell {
    /// A text that is too long is cut.
    #[expect(clippy::cast_possible_truncation, reason = "no rank is so large, no wait so long")]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, rank, after, text) = match &self.cause {
            CollectiveError::PeerLost { rank, why } => (1, *rank, 0, why.as_str()),
            CollectiveError::TimedOut { rank, after } => (2, *rank, after.as_millis() as u64, ""),
            CollectiveError::Corrupt { rank, what } => (3, *rank, 0, what.as_str()),
            CollectiveError::Aborted(reason) => (4, 0, 0, reason.as_str()),
            CollectiveError::Mismatch { rank, what } => (5, *rank, 0, what.as_str()),
        };
        let most = text.len().min(FAREWELL_BYTES_MAX - FIXED_BYTES);
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
        let text = &text[..end.unwrap_or_default()];
        let mut bytes = vec![kind, 0];
        bytes.extend(self.hops.to_le_bytes());
        bytes.extend((rank as u32).to_le_bytes());
        bytes.extend(after.to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    /// `None` if nobody has encoded it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (fixed, text) = bytes.split_at_checked(FIXED_BYTES)?;
        let text = std::str::from_utf8(text).ok()?.to_owned();
        let [kind, 0, hops @ .., _, _, _, _, _, _, _, _, _, _, _, _] = fixed else { return None };
        let hops = u16::from_le_bytes(hops.try_into().ok()?);
        let rank = u32::from_le_bytes(fixed[4..8].try_into().ok()?) as usize;
        let after = Duration::from_millis(u64::from_le_bytes(fixed[8..16].try_into().ok()?));
        let cause = match kind {
            1 => CollectiveError::PeerLost { rank, why: text },
            2 => CollectiveError::TimedOut { rank, after },
            3 => CollectiveError::Corrupt { rank, what: text },
            4 => CollectiveError::Aborted(text),
            5 => CollectiveError::Mismatch { rank, what: text },
            _ => return None,
        };
        Some(Self { cause, hops })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn causes(rank: usize, text: &str) -> [CollectiveError; 5] {
        let text = || text.to_owned();
        [
            CollectiveError::PeerLost { rank, why: text() },
            CollectiveError::TimedOut { rank, after: Duration::from_millis(1500) },
            CollectiveError::Corrupt { rank, what: text() },
            CollectiveError::Aborted(text()),
            CollectiveError::Mismatch { rank, what: text() },
        ]
    }

    #[test]
    fn the_bytes_of_one() {
        let cause = CollectiveError::PeerLost { rank: 3, why: "dead".to_owned() };
        let bytes = [1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'd', b'e', b'a', b'd'];
        assert_eq!(Farewell { cause, hops: 2 }.encode(), bytes);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        for cause in causes(1, &"ü".repeat(FAREWELL_BYTES_MAX)) {
            let bytes = Farewell { cause, hops: 1 }.encode();
            assert!(bytes.len() <= FAREWELL_BYTES_MAX);
            assert!(Farewell::decode(&bytes).is_some());
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(rank in 0..9_usize, hops: u16, text in ".{0,40}") {
            for cause in causes(rank, &text) {
                let farewell = Farewell { cause, hops };
                prop_assert_eq!(Farewell::decode(&farewell.encode()), Some(farewell));
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(farewell) = Farewell::decode(&bytes) {
                prop_assert!(farewell.encode().len() <= bytes.len());
            }
        }
    }
}
