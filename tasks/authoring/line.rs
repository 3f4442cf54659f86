//! What is written down of tasks that models write: a line of JSON for each event, before the next
//! step is taken.
//!
//! A task's lines, heard in their order, bring its [`Life`](crate::authoring::life::Life) to where
//! it stood: so nobody is asked twice after a stop, and a file of lines can answer once more in the
//! place of the models.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::authoring::Author;
use crate::authoring::evidence::Evidence;
use crate::defect::{Defect, Defects};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// When it was written, ISO 8601.
    #[serde(default)]
    pub at: String,
    /// The task's number, 1 for the first.
    pub task: u32,
    /// For who reads along: the idea's, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    Answer(Answer),
    /// The endpoint will never answer in this conversation.
    Unanswered {
        author: Author,
        reason: String,
    },
    /// The idea was compared with what there is.
    Compared {
        /// Who has its name, among the tasks of this folder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        taken: Option<String>,
        findings: Vec<String>,
    },
    /// The files are no task that can be read.
    Unreadable {
        faults: Vec<String>,
    },
    Tried(Evidence),
    /// It is in its place.
    Accepted,
    /// It is in quarantine.
    Rejected {
        why: Why,
        reasons: Vec<String>,
    },
}

/// One answer of an author.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub author: Author,
    /// 1 for the author's first on the task.
    pub turn: u32,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// It ends at its length limit.
    #[serde(default)]
    pub is_cut: bool,
    #[serde(default)]
    pub tokens: Tokens,
    /// The name that the endpoint gave.
    #[serde(default)]
    pub model: String,
    /// US dollars; `None` where the endpoint has no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// Of one call, or a sum over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// Those read from a cache included.
    pub prompt: u64,
    pub completion: u64,
    /// Of the prompt.
    #[serde(default)]
    pub cached: u64,
}

/// What a task failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No idea that could be read, and had a name of its own.
    Idea,
    /// Too much like another task.
    Similar,
    /// No files that are a task.
    Files,
    /// Its tests grade wrongly.
    NotAdmitted,
    /// The reviewer did not want it.
    Reviewer,
    /// A model could not go on with its conversation.
    Unanswered,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idea => "no idea",
            Self::Similar => "too similar",
            Self::Files => "no task",
            Self::NotAdmitted => "not admitted",
            Self::Reviewer => "by the reviewer",
            Self::Unanswered => "unanswered",
        }
    }
}

impl std::ops::AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        self.prompt += other.prompt;
        self.completion += other.completion;
        self.cached += other.cached;
    }
}

impl Tokens {
    pub fn total(self) -> u64 {
        self.prompt + self.completion
    }
}

/// All lines of a file's text, each with its number. Empty ones are passed over.
///
/// # Errors
/// Those that are no line of ours.
pub fn read(file: &Path, text: &str) -> Result<Vec<(usize, Line)>, Defects> {
    let (mut lines, mut defects) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(line) => lines.push((number, line)),
            Err(error) => {
                let expected = "an event of a task that a model writes, as JSON";
                defects.push(Defect::new(file, expected, error.to_string()).at_line(number));
            }
        }
    }
    Defects(defects).into_result(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(text: &str) -> Result<Vec<(usize, Line)>, Defects> {
        read(Path::new("pipeline.jsonl"), text)
    }

    #[test]
    fn every_event_is_read_as_it_was_written() {
        let answer = Answer {
            author: Author::Builder,
            turn: 2,
            text: "a\n\"b\"".into(),
            reasoning: Some("hm".into()),
            is_cut: true,
            tokens: Tokens { prompt: 9, completion: 3, cached: 4 },
            model: "m".into(),
            cost_usd: Some(0.1),
        };
        let events = [
            Event::Answer(answer),
            Event::Unanswered { author: Author::Idea, reason: "too long".into() },
            Event::Compared { taken: Some("task 3".into()), findings: vec!["x".into()] },
            Event::Unreadable { faults: vec!["y".into()] },
            Event::Tried(Evidence { reasons: vec!["z".into()], ..Evidence::default() }),
            Event::Accepted,
            Event::Rejected { why: Why::NotAdmitted, reasons: vec![] },
        ];
        for event in events {
            let line = Line { at: "2026-01-02T03:04:05Z".into(), task: 1, slug: None, event };
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(read_one(&text), Ok(vec![(1, line)]), "{text}");
        }
    }

    #[test]
    fn a_line_by_hand_says_no_more_than_it_must() {
        let event = r#"{"kind": "answer", "author": "idea", "turn": 1, "text": "x"}"#;
        let text = format!("\n{{\"task\": 3, \"event\": {event}}}\n");
        let lines = read_one(&text).unwrap();
        assert_eq!((lines.len(), lines[0].0, lines[0].1.task), (1, 2, 3));
    }

    #[test]
    fn lines_that_are_none_of_ours_are_told_all_at_once() {
        let error = read_one("{}\nnonsense\n{\"task\": 1, \"event\": {\"kind\": \"odd\"}}\n");
        let Defects(defects) = error.expect_err("refused");
        assert_eq!(
            defects.iter().map(|it| it.line).collect::<Vec<_>>(),
            [Some(1), Some(2), Some(3)]
        );
    }
}
