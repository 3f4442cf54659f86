//! One task from the idea to its end: a pure state machine.
//!
//! ```text
//! idea ── compared ── files ── tried ── review ──► accepted
//!   ▲         │         ▲ ▲      │       │ │ │
//!   └─ faults ┴─ faults ┘ └──────┼─ patch┘ │ └──► rejected
//!                                └◄─ files ┘
//! ```
//!
//! [`Life::want`] says what is to be done next, [`Life::hear`] what came of it. Whatever has to be
//! done once more costs a round, be it a fault in an answer or a patch: a life has a bound on them,
//! and so comes to an end. What holds:
//!
//! - AU-1: accepted is only what has been tried as it is, was admitted, is too much like nothing,
//!   and was accepted by the reviewer afterwards.
//! - AU-2: at most `rounds_max` rounds are used; every life ends.
//! - AU-3: a life is a function of what it has heard.

use std::collections::BTreeSet;

use crate::authoring::Author;
use crate::authoring::draft::{Change, Draft};
use crate::authoring::evidence::Evidence;
use crate::authoring::idea::Idea;
use crate::authoring::line::{Answer, Event, Why};
use crate::authoring::messages;
use crate::authoring::verdict::Verdict;
use crate::authoring::wish::Wish;

/// See the module.
#[derive(Clone, Debug)]
pub struct Life {
    rounds_max: u32,
    rounds: u32,
    want: Want,
    idea: Option<Idea>,
    draft: Draft,
    /// Whose files were the last.
    changed_by: Author,
    /// Of the files as they are now.
    evidence: Option<Evidence>,
    /// With each author: what it was told and what it said, in turns.
    talks: [Vec<String>; 3],
    /// Paths of files that it has not seen as they are now.
    unseen: [BTreeSet<String>; 3],
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// Have an author go on with its [conversation](Life::talk).
    Ask(Author),
    /// Compare the idea with what there is.
    Compare,
    /// Write the files, read them as a task, compare it, and run its trials.
    Try,
    Nothing(Ending),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Accepted,
    Rejected { why: Why, reasons: Vec<String> },
}

/// Something was heard that nobody had asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfPlace {
    pub expected: String,
}

const CUT: &str = "it was cut at its length limit; write less, or large files by a script";

impl Life {
    /// `titles` are those of the tasks before it.
    pub fn new(wish: &Wish, titles: &[String], rounds_max: u32) -> Self {
        let mut life = Self {
            rounds_max,
            rounds: 0,
            want: Want::Ask(Author::Idea),
            idea: None,
            draft: Draft::default(),
            changed_by: Author::Builder,
            evidence: None,
            talks: Default::default(),
            unseen: Default::default(),
        };
        life.ask(Author::Idea, messages::wish(wish, titles));
        life
    }

    pub fn want(&self) -> &Want {
        &self.want
    }

    /// What has been said to an author and by it, in turns; the author's turn comes next.
    pub fn talk(&self, author: Author) -> &[String] {
        &self.talks[author as usize]
    }

    /// The number of the author's next answer, 1 for its first.
    pub fn turn(&self, author: Author) -> u32 {
        self.talk(author).len().div_ceil(2) as u32
    }

    /// Once one could be read.
    pub fn idea(&self) -> Option<&Idea> {
        self.idea.as_ref()
    }

    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// That have been used.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Goes on with what came of what was wanted.
    ///
    /// # Errors
    /// It was not wanted; nothing has changed then.
    pub fn hear(&mut self, event: &Event) -> Result<(), OutOfPlace> {
        match (&self.want, event) {
            (Want::Ask(author), Event::Answer(answer))
                if answer.author == *author && answer.turn == self.turn(*author) =>
            {
                self.answered(answer);
            }
            (Want::Ask(wanted), Event::Unanswered { author, reason }) if author == wanted => {
                self.reject(Why::Unanswered, vec![format!("{}: {reason}", author.as_str())]);
            }
            (Want::Compare, Event::Compared { taken, findings }) => {
                self.compared(taken.as_deref(), findings);
            }
            (Want::Try, Event::Unreadable { faults }) => {
                self.faulty(self.changed_by, Why::Files, faults);
            }
            (Want::Try, Event::Tried(evidence)) => self.tried(evidence),
            _ => return Err(OutOfPlace { expected: self.expected() }),
        }
        Ok(())
    }

    fn expected(&self) -> String {
        match &self.want {
            Want::Ask(author) => {
                format!("answer {} of the {}", self.turn(*author), author.as_str())
            }
            Want::Compare => "the idea to be compared".to_owned(),
            Want::Try => "the task to be tried".to_owned(),
            Want::Nothing(_) => "nothing more of the task".to_owned(),
        }
    }

    fn answered(&mut self, answer: &Answer) {
        let Answer { author, text, is_cut, .. } = answer;
        self.talks[*author as usize].push(text.clone());
        let cut = is_cut.then(|| vec![CUT.to_owned()]);
        match author {
            Author::Idea => match cut.map_or_else(|| Idea::read(text), Err) {
                Ok(idea) => {
                    self.idea = Some(idea);
                    self.want = Want::Compare;
                }
                Err(faults) => self.faulty(Author::Idea, Why::Idea, &faults),
            },
            Author::Builder => match cut.map_or_else(|| Change::read(text), Err) {
                Ok(change) => self.change(Author::Builder, &change),
                Err(faults) => self.faulty(Author::Builder, Why::Files, &faults),
            },
            Author::Reviewer => match cut.map_or_else(|| Verdict::read(text), Err) {
                Ok(verdict) => self.judged(verdict),
                Err(faults) => self.faulty(Author::Reviewer, self.fault().0, &faults),
            },
        }
    }

    fn compared(&mut self, taken: Option<&str>, findings: &[String]) {
        match (taken, &self.idea) {
            (Some(other), _) => {
                let fault = format!("slug: expected a name of its own, found that of {other}");
                self.faulty(Author::Idea, Why::Idea, &[fault]);
            }
            (None, Some(idea)) if findings.is_empty() => {
                let message = messages::idea(idea);
                self.ask(Author::Builder, message);
            }
            (None, _) => self.reject(Why::Similar, findings.to_vec()),
        }
    }

    fn tried(&mut self, evidence: &Evidence) {
        let is_first = self.talk(Author::Reviewer).is_empty();
        let files = self.show_unseen(Author::Reviewer);
        let new = self.idea.as_ref().filter(|_| is_first);
        let message = messages::review(new, &files, evidence, self.left());
        self.evidence = Some(evidence.clone());
        self.ask(Author::Reviewer, message);
    }

    fn judged(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Accept if self.is_clean() => self.want = Want::Nothing(Ending::Accepted),
            Verdict::Accept => {
                let (why, against) = self.fault();
                if self.spend(why, &against) {
                    let message = messages::not_acceptable(&against, self.left());
                    self.ask(Author::Reviewer, message);
                }
            }
            Verdict::Reject { reason } => self.reject(Why::Reviewer, vec![reason]),
            Verdict::Patch { reason, change } => {
                let (why, mut against) = self.fault();
                against.push(format!("the reviewer wanted it patched: {reason}"));
                if !self.spend(why, &against) {
                    return;
                }
                if change.is_empty() {
                    let unseen = self.show_unseen(Author::Builder);
                    let message = messages::patch(&reason, &unseen, self.left());
                    self.ask(Author::Builder, message);
                } else {
                    self.change(Author::Reviewer, &change);
                }
            }
        }
    }

    /// Has the files changed, and tried anew.
    fn change(&mut self, author: Author, change: &Change) {
        match self.draft.with(change) {
            Ok(draft) => {
                self.draft = draft;
                self.evidence = None;
                self.changed_by = author;
                let other = match author {
                    Author::Reviewer => Author::Builder,
                    Author::Builder | Author::Idea => Author::Reviewer,
                };
                let changed = change.paths().map(str::to_owned);
                self.unseen[other as usize].extend(changed);
                self.want = Want::Try;
            }
            Err(faults) => self.faulty(author, Why::Files, &faults),
        }
    }

    fn is_clean(&self) -> bool {
        self.evidence.as_ref().is_some_and(Evidence::is_clean)
    }

    /// What stands in the way of the task as it is, beside its reviewer.
    fn fault(&self) -> (Why, Vec<String>) {
        match &self.evidence {
            None => (Why::Files, vec!["it was not tried as it is".to_owned()]),
            Some(evidence) if !evidence.reasons.is_empty() => {
                (Why::NotAdmitted, evidence.against())
            }
            Some(evidence) if !evidence.findings.is_empty() => (Why::Similar, evidence.against()),
            Some(_) => (Why::Reviewer, Vec::new()),
        }
    }

    /// An author's work cannot be used: it is told, and asked again.
    fn faulty(&mut self, author: Author, why: Why, faults: &[String]) {
        if self.spend(why, faults) {
            self.ask(author, messages::faults(faults, self.left()));
        }
    }

    /// Uses a round up; where there is none, the life ends, and this is why.
    fn spend(&mut self, why: Why, reasons: &[String]) -> bool {
        if self.rounds == self.rounds_max {
            self.reject(why, reasons.to_vec());
            return false;
        }
        self.rounds += 1;
        true
    }

    fn left(&self) -> u32 {
        self.rounds_max - self.rounds
    }

    fn reject(&mut self, why: Why, reasons: Vec<String>) {
        self.want = Want::Nothing(Ending::Rejected { why, reasons });
    }

    fn ask(&mut self, author: Author, message: String) {
        self.talks[author as usize].push(message);
        self.want = Want::Ask(author);
    }

    fn show_unseen(&mut self, author: Author) -> String {
        let unseen = std::mem::take(&mut self.unseen[author as usize]);
        self.draft.show(unseen.iter().map(String::as_str))
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
