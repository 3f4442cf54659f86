//! Texts that end an answer, while the answer comes in pieces. Pure.

/// Gives text out as far as it can be no part of a stop text, and nothing from a stop text on.
#[derive(Clone, Debug, Default)]
pub(super) struct StopText {
    stops: Vec<String>,
    /// May be the beginning of one.
    held: String,
    found: bool,
}

impl StopText {
    /// `stops` are not empty texts.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new(), found: false }
    }

    /// The text that can be given out after this piece.
    pub fn push(&mut self, piece: &str) -> String {
        if self.found {
            return String::new();
        }
        self.held.push_str(piece);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop)).min();
        self.found = first.is_some();
        let end = first.unwrap_or_else(|| self.held.len() - self.begun());
        let rest = self.held.split_off(end);
        std::mem::replace(&mut self.held, rest)
    }

    /// The rest, at the end of the answer.
    pub fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        if self.found { String::new() } else { held }
    }

    /// Bytes at the end that a stop text may begin with; a whole one is not among them.
    fn begun(&self) -> usize {
        let begins = |at: &usize| {
            let tail = &self.held[*at..];
            self.stops.iter().any(|stop| stop.starts_with(tail))
        };
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let mut starts = self.held.char_indices().map(|(at, _)| at).filter(|at| *at >= from);
        starts.find(begins).map_or(0, |at| self.held.len() - at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stops(texts: &[&str]) -> StopText {
        StopText::new(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn what_may_become_a_stop_text_is_held_until_it_does_not() {
        let mut text = stops(&["END", "\n\n"]);
        assert_eq!(text.push("a E"), "a ");
        assert_eq!(text.push("N"), "");
        assert_eq!(text.push("O\n"), "ENO");
        assert_eq!(text.push("b\n"), "\nb");
        assert_eq!(text.push("\nEND more"), "");
        assert_eq!(text.push("still more"), "");
        assert_eq!(text.finish(), "");
    }

    #[test]
    fn an_answer_that_only_begins_a_stop_text_is_whole() {
        let mut text = stops(&["END"]);
        assert_eq!(text.push("the EN"), "the ");
        assert_eq!(text.finish(), "EN");
    }

    proptest! {
        #[test]
        fn pieces_come_to_what_the_whole_text_is_up_to_the_first_stop(
            pieces in prop::collection::vec("[ab\u{e9}]{0,3}", 0..12),
            texts in prop::collection::vec("[ab\u{e9}]{1,4}", 0..4),
        ) {
            let mut text = StopText::new(texts.clone());
            let mut said: String = pieces.iter().map(|piece| text.push(piece)).collect();
            said.push_str(&text.finish());
            // The stop text that is whole first, as a reader of pieces sees it.
            let whole = pieces.concat();
            let mut so_far = String::new();
            let mut expected = whole.clone();
            for piece in &pieces {
                so_far.push_str(piece);
                if let Some(at) = texts.iter().filter_map(|stop| so_far.find(stop)).min() {
                    expected.truncate(at);
                    break;
                }
            }
            prop_assert_eq!(said, expected);
        }
    }
}
