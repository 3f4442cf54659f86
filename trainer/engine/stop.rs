//! Texts that end an answer.

/// Watches a text that comes in pieces for the first of some texts.
///
/// What may be the beginning of such a text is held back until more has come. Where the pieces are
/// cut makes no difference to the text as a whole: the text that is complete first ends it, and of
/// those that are complete at the same place the longest.
#[derive(Clone, Debug, Default)]
pub struct StopTexts {
    texts: Vec<String>,
    held: String,
    stopped: bool,
}

/// What came of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What belongs to the answer for certain, and was not given out before.
    pub text: String,
    /// Index of the text that ended it.
    pub stopped: Option<usize>,
}

impl StopTexts {
    /// An empty text among `texts` is never found.
    pub fn new(texts: &[String]) -> Self {
        Self { texts: texts.to_vec(), ..Self::default() }
    }

    /// After the end, nothing more comes out.
    pub fn push(&mut self, piece: &str) -> Held {
        if self.stopped {
            return Held { text: String::new(), stopped: None };
        }
        self.held.push_str(piece);
        let found = self.texts.iter().enumerate().filter(|(_, stop)| !stop.is_empty());
        let found = found.filter_map(|(index, stop)| {
            let start = self.held.find(stop)?;
            Some((start + stop.len(), start, index))
        });
        if let Some((_, start, index)) = found.min() {
            self.stopped = true;
            self.held.truncate(start);
            return Held { text: std::mem::take(&mut self.held), stopped: Some(index) };
        }
        let kept = self.held.split_off(self.certain());
        Held { text: std::mem::replace(&mut self.held, kept), stopped: None }
    }

    /// What was held back, where nothing more comes.
    pub fn finish(self) -> String {
        self.held
    }

    /// Bytes of what is held that cannot belong to a stop text.
    fn certain(&self) -> usize {
        let may_begin = |rest: &str| self.texts.iter().any(|stop| stop.starts_with(rest));
        let longest = self.texts.iter().map(String::len).max().unwrap_or(0);
        let starts = self.held.char_indices().map(|(start, _)| start);
        let mut starts = starts.filter(|start| self.held.len() - start < longest);
        starts.find(|start| may_begin(&self.held[*start..])).unwrap_or(self.held.len())
    }
}

#[cfg(test)]
#[path = "stop_tests.rs"]
mod tests;
