//! What a model is told of an answer that cannot be run.

use std::fmt;

use crate::team::lenient_yaml::shortened;

/// Something in an answer that cannot be run, in the words that the model is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// 1 for the answer's first; 0 where it is the answer as a whole.
    pub line: usize,
    /// The action that it is about, or what stands in its place.
    pub tag: String,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.tag.as_str()) {
            (0, _) => write!(f, "your answer: {}", self.message),
            (line, "") => write!(f, "line {line}: {}", self.message),
            (line, tag) => write!(f, "line {line}, `{}`: {}", shortened(tag), self.message),
        }
    }
}
