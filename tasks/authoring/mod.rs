//! Tasks that models write: what is asked of them, how their answers are read, and when a task is
//! good enough.
//!
//! Three authors share the work. One has the *idea*; the *builder* makes files of it; the
//! *reviewer* sees these and what came of trying them, and accepts, rejects or patches. A
//! [`Life`](life::Life) is one task from the idea to its end: a pure state machine over the
//! [lines](line::Line) that are written down of it.

mod blocks;
pub mod draft;
pub mod evidence;
pub mod idea;
pub mod life;
pub mod line;
mod messages;
pub mod verdict;
pub mod wish;

use serde::{Deserialize, Serialize};

/// Whom a question goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    Idea,
    Builder,
    Reviewer,
}

impl Author {
    pub const ALL: [Self; 3] = [Self::Idea, Self::Builder, Self::Reviewer];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idea => "idea",
            Self::Builder => "builder",
            Self::Reviewer => "reviewer",
        }
    }

    /// What it is told once and for all: nothing in it varies, so that a prefix cache serves all
    /// tasks.
    pub fn system(self) -> &'static str {
        match self {
            Self::Idea => include_str!("prompts/idea.md"),
            Self::Builder => include_str!("prompts/builder.md"),
            Self::Reviewer => include_str!("prompts/reviewer.md"),
        }
    }
}
