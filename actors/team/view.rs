//! What a `stateless` orchestrator is shown each turn: task tree, contexts, history, environment.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::team::contexts::Contexts;
use crate::team::messages::join;
use crate::team::record::{AgentEnd, AgentId, Entry, Event};
use crate::team::text::{cut_middle, cut_start};

/// Of its own answers, and of what came of them, in the history.
const ANSWER_CHARS_MAX: usize = 500;
const OUTCOME_CHARS_MAX: usize = 2_000;
/// Turns in the history, the latest.
const TURNS_MAX: usize = 100;
/// Of all contexts together; about a quarter of the context window of the models that are used.
const CONTEXTS_CHARS_MAX: usize = 120_000;
/// Of contexts and history, after a view that did not fit the context window.
const SHORT_CHARS_MAX: usize = 8_000;

#[derive(Debug, Default)]
pub(crate) struct View {
    /// In the order in which they were created: id, title, and how far it is.
    tasks: Vec<(String, String, String)>,
    contexts: Contexts,
    /// Answers and what came of them.
    history: Vec<(String, String)>,
    /// Which task a subagent works on.
    agents: BTreeMap<AgentId, String>,
    /// Only what is needed for a last answer.
    pub(crate) short: bool,
}

impl View {
    pub(crate) fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::TaskCreated(task) => {
                let title = format!("{} ({})", task.spec.title, task.spec.agent.role());
                self.tasks.push((task.id.clone(), title, "created".to_owned()));
            }
            Event::Began(brief) => {
                self.contexts.mark_used(&brief.contexts, &brief.task);
                self.agents.insert(entry.agent, brief.task.clone());
                self.set_state(&brief.task, "running");
            }
            Event::Stored(context) => self.contexts.insert((**context).clone()),
            Event::Ended(end) => {
                if let Some(task) = self.agents.get(&entry.agent).cloned() {
                    self.set_state(&task, how(end));
                }
            }
            _ => {}
        }
    }

    pub(crate) fn answered(&mut self, text: &str) {
        self.history.push((cut_middle(text, ANSWER_CHARS_MAX), String::new()));
        if self.history.len() > TURNS_MAX {
            self.history.remove(0);
        }
    }

    pub(crate) fn told(&mut self, outcome: &str) {
        // A turn that had no answer has no outcome.
        if outcome.is_empty() {
            return;
        }
        if let Some((_, told)) = self.history.last_mut() {
            *told = cut_middle(outcome, OUTCOME_CHARS_MAX);
        }
    }

    /// `first` is what the agent was told when it began; `status` varies most and comes last.
    pub(crate) fn render(&self, first: &str, snapshot: Option<&str>, status: &str) -> String {
        let mut tasks = String::new();
        for (id, title, state) in &self.tasks {
            // Writing into a string cannot fail.
            let _ = writeln!(tasks, "- {id}: {title}: {state}");
        }
        let mut history = String::new();
        for (answer, outcome) in &self.history {
            let _ = writeln!(history, "You answered:\n{answer}\n\nWhat came of it:\n{outcome}\n");
        }
        let mut contexts_max = CONTEXTS_CHARS_MAX;
        if self.short {
            contexts_max = SHORT_CHARS_MAX;
            history = cut_start(&history, SHORT_CHARS_MAX);
        }
        let part = |title: &str, text: &str| match text.is_empty() {
            true => format!("# {title}\n\nNone yet."),
            false => format!("# {title}\n\n{}", text.trim_end()),
        };
        join(&[
            first,
            &part("Tasks", &tasks),
            &part("Contexts", &self.contexts.render(contexts_max)),
            &part("History", &history),
            &snapshot.map(|text| part("Environment now", text)).unwrap_or_default(),
            status,
        ])
    }

    fn set_state(&mut self, task: &str, state: &str) {
        if let Some((.., current)) = self.tasks.iter_mut().find(|(id, ..)| id == task) {
            state.clone_into(current);
        }
    }
}

fn how(end: &AgentEnd) -> &'static str {
    match end {
        AgentEnd::Finished { .. } => "reported",
        AgentEnd::Forced { .. } => "reported when told to end",
        AgentEnd::Synthetic { .. } => "ended without a report",
        AgentEnd::Refused { .. } => "refused",
        AgentEnd::Failed { .. } => "failed",
        AgentEnd::Cancelled => "cancelled",
    }
}
