//! What came of it, in figures and in words: pure functions of the journal's events.

use std::collections::BTreeMap;
use std::path::Path;

use orcapack_tasks::authoring::Author;
use orcapack_tasks::authoring::life::{Ending, Life, Want};
use orcapack_tasks::authoring::line::{Answer, Event, Tokens, Why};
use serde::Serialize;

use crate::output;

/// Over all starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// By number.
    tasks: BTreeMap<u32, Told>,
    tokens: Tokens,
    /// `None` where no endpoint has a price.
    cost_usd: Option<f64>,
}

/// One task.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Told {
    slug: Option<String>,
    patch_rounds: u32,
    accepted: bool,
    /// Where it was rejected.
    why: Option<Why>,
    reasons: Vec<String>,
}

#[derive(Serialize)]
struct Json<'a> {
    folder: &'a Path,
    ideas: usize,
    accepted: u32,
    rejected: BTreeMap<&'static str, usize>,
    unfinished: usize,
    patch_rounds: u32,
    tokens: Tokens,
    cost_usd: Option<f64>,
    tasks: Vec<&'a Told>,
}

impl Tally {
    /// Counts an event of a task; `life` has heard it.
    pub fn note(&mut self, number: u32, life: &Life, event: &Event) {
        let told = self.tasks.entry(number).or_default();
        told.slug = life.idea().map(|idea| idea.slug.clone());
        told.patch_rounds = life.rounds();
        match event {
            Event::Answer(Answer { tokens, cost_usd, .. }) => {
                self.tokens += *tokens;
                if let Some(cost_usd) = cost_usd {
                    *self.cost_usd.get_or_insert_default() += cost_usd;
                }
            }
            Event::Accepted => told.accepted = true,
            Event::Rejected { why, reasons } => {
                (told.why, told.reasons) = (Some(*why), reasons.clone());
            }
            _ => {}
        }
    }

    pub fn ideas(&self) -> u32 {
        self.tasks.len() as u32
    }

    /// The number of the next task.
    pub fn next(&self) -> u32 {
        self.tasks.last_key_value().map_or(1, |(last, _)| last + 1)
    }

    pub fn accepted(&self) -> u32 {
        self.tasks.values().filter(|told| told.accepted).count() as u32
    }

    pub fn tokens(&self) -> u64 {
        self.tokens.total()
    }

    fn rejected(&self) -> BTreeMap<&'static str, usize> {
        let mut rejected = BTreeMap::new();
        for why in self.tasks.values().filter_map(|told| told.why) {
            *rejected.entry(why.as_str()).or_default() += 1;
        }
        rejected
    }

    fn unfinished(&self) -> usize {
        self.tasks.values().filter(|told| !told.accepted && told.why.is_none()).count()
    }

    fn patch_rounds(&self) -> u32 {
        self.tasks.values().map(|told| told.patch_rounds).sum()
    }

    /// For a terminal.
    pub fn table(&self) -> String {
        let row = |what: &str, count: u64| [what.to_owned(), count.to_string()];
        let mut rows = vec![row("ideas", self.ideas().into())];
        rows.push(row("accepted", self.accepted().into()));
        let rejected = self.rejected().into_iter();
        rows.extend(rejected.map(|(why, n)| row(&format!("rejected, {why}"), n as u64)));
        if self.unfinished() > 0 {
            rows.push(row("unfinished", self.unfinished() as u64));
        }
        rows.push(row("patch rounds", self.patch_rounds().into()));
        let Tokens { prompt, completion, cached } = self.tokens;
        rows.push(row("prompt tokens", prompt));
        rows.push(row("of these from a cache", cached));
        rows.push(row("completion tokens", completion));
        rows.extend(self.cost_usd.map(|cost| ["US dollars".to_owned(), format!("{cost:.4}")]));
        output::table(["", "count"], rows, None)
    }

    /// The same and every task, as JSON.
    pub fn json<'t>(&'t self, folder: &'t Path) -> impl Serialize + use<'t> {
        Json {
            folder,
            ideas: self.tasks.len(),
            accepted: self.accepted(),
            rejected: self.rejected(),
            unfinished: self.unfinished(),
            patch_rounds: self.patch_rounds(),
            tokens: self.tokens,
            cost_usd: self.cost_usd,
            tasks: self.tasks.values().collect(),
        }
    }
}

/// A line of progress, of an event that `life` has heard.
pub fn progress(number: u32, life: &Life, event: &Event) -> String {
    let slug = life.idea().map(|idea| format!(" {}", idea.slug)).unwrap_or_default();
    format!("task {number}{slug}: {}", happened(life, event))
}

fn happened(life: &Life, event: &Event) -> String {
    match event {
        Event::Answer(answer) => said(life, answer.author),
        Event::Unanswered { author, reason } => {
            format!("the {} cannot be asked any more: {reason}", author.as_str())
        }
        Event::Compared { taken: Some(other), .. } => format!("the name is that of {other}"),
        Event::Compared { taken: None, findings } => match findings.first() {
            Some(finding) => format!("the idea is not new: {finding}"),
            None => "the idea is new".to_owned(),
        },
        Event::Unreadable { faults } => format!("no task: {}", faults.join("; ")),
        Event::Tried(evidence) if evidence.is_clean() => "admitted".to_owned(),
        Event::Tried(evidence) if evidence.reasons.is_empty() => {
            format!("admitted, but {}", evidence.findings.join("; "))
        }
        Event::Tried(evidence) => format!("not admitted: {}", evidence.against().join("; ")),
        Event::Accepted => format!("accepted, patch rounds used: {}", life.rounds()),
        Event::Rejected { why, reasons } => {
            format!("rejected, {}: {}", why.as_str(), reasons.join("; "))
        }
    }
}

fn said(life: &Life, author: Author) -> String {
    match (author, life.want()) {
        (Author::Idea, Want::Compare) => {
            format!("idea: {}", life.idea().map_or("", |idea| &idea.title))
        }
        (Author::Builder, Want::Try) => {
            format!("built, {}", output::plural(life.draft().file_count(), "file"))
        }
        (Author::Reviewer, Want::Try) => "patched by the reviewer".to_owned(),
        (Author::Reviewer, Want::Ask(Author::Builder)) => "to be patched".to_owned(),
        (Author::Reviewer, Want::Nothing(Ending::Accepted)) => "good for the reviewer".to_owned(),
        (Author::Reviewer, Want::Nothing(_)) => "given up by the reviewer".to_owned(),
        (author, _) => format!("an answer of the {} that cannot be used", author.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use orcapack_tasks::authoring::wish::Wishes;

    use super::*;

    #[test]
    fn a_tally_adds_up_what_was_done_over_all_starts() {
        let wish = Wishes::new(None, None, 0).unwrap().of(1);
        let mut life = Life::new(&wish, &[], 0);
        let mut tally = Tally::default();
        let answer = Event::Answer(Answer {
            author: Author::Idea,
            turn: 1,
            text: "none".into(),
            reasoning: None,
            is_cut: false,
            tokens: Tokens { prompt: 5, completion: 2, cached: 1 },
            model: String::new(),
            cost_usd: Some(0.25),
        });
        assert_eq!((tally.next(), tally.ideas()), (1, 0));
        life.hear(&answer).unwrap();
        tally.note(3, &life, &answer);
        let text = progress(3, &life, &answer);
        assert_eq!(text, "task 3: an answer of the idea that cannot be used");
        let rejected = Event::Rejected { why: Why::Idea, reasons: vec!["none".into()] };
        tally.note(3, &life, &rejected);
        assert_eq!(progress(3, &life, &rejected), "task 3: rejected, no idea: none");
        tally.note(4, &life, &answer);
        assert_eq!((tally.next(), tally.ideas(), tally.tokens()), (5, 2, 14));
        let table = tally.table();
        for row in
            ["ideas                  2", "rejected, no idea      1", "unfinished             1"]
        {
            assert!(table.contains(row), "{table}");
        }
        assert!(table.contains("0.5000"), "{table}");
        let json = serde_json::to_value(tally.json(Path::new("out"))).unwrap();
        assert_eq!(json["rejected"]["no idea"], 1);
        assert_eq!(json["tasks"][0]["why"], "idea");
    }
}
