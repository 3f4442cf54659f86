//! A team's work as an ATIF trajectory, and as text for the log of its attempt.
//!
//! The orchestrator's record is the root, its subagents' are inside it, and the observation of the
//! action that launched them names them. How an answer is written, `replay` has to read:
//! [`orcapack_actors::model::recorded`] says it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use orcapack_actors::model::Message;
use orcapack_actors::model::recorded::{self, Place as AnswerPlace};
use orcapack_actors::team::calls::Calls;
use orcapack_actors::team::figures;
use orcapack_actors::team::record::{
    AgentFigures, AgentId, Brief, Entry, Event, Observation, TeamRun,
};
use orcapack_actors::team::role::Role;
use orcapack_actors::team::sent::{self, Sent};
use orcapack_tasks::trajectory::{
    Agent, Extra, Observation as Observed, ObservationResult, Source, Step, SubagentRef, ToolCall,
    Trajectory,
};
use serde_json::{Value, json};

use crate::record::timestamp;
use crate::summary_team::{Spent, cut};

/// Of which step of a task it is the work.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub rollout: u32,
    pub attempt: u32,
    /// 0 for the first.
    pub step: u32,
    pub started: SystemTime,
}

/// Adds a team's work on one step of the task to the attempt's trajectory.
pub fn append(root: &mut Trajectory, instruction: &str, run: &TeamRun, place: Place) {
    let figures = figures::agents(&run.record);
    let ids = figures.iter().filter(|agent| agent.agent != AgentId::ORCHESTRATOR);
    let ids: BTreeSet<AgentId> = ids.map(|agent| agent.agent).collect();
    let mut writer = Writer { place, ids, turns: BTreeMap::new(), sent: BTreeMap::new() };
    if figures.is_empty() {
        root.append(Step::new(Source::User, timestamp(place.started), instruction));
    }
    for agent in &figures {
        let sent = sent::of_agent(run, agent.agent, agent.role).into_iter();
        writer.sent = sent.map(|sent| (sent.turn, sent)).collect();
        let own = run.record.iter().filter(|entry| entry.agent == agent.agent);
        if agent.agent == AgentId::ORCHESTRATOR {
            root.agent.model_name = named(agent).or(root.agent.model_name.take());
            own.for_each(|entry| writer.entry(root, agent.role, entry));
        } else {
            let mut trajectory = writer.subagent(root.session_id.as_deref(), agent);
            own.for_each(|entry| writer.entry(&mut trajectory, agent.role, entry));
            trajectory.total();
            root.subagent_trajectories.push(trajectory);
        }
    }
}

struct Writer {
    place: Place,
    /// Of the subagents that have a trajectory.
    ids: BTreeSet<AgentId>,
    /// Where the answer to each turn stands in its trajectory.
    turns: BTreeMap<(AgentId, u32), usize>,
    /// What was asked in each turn of the agent whose entries are written.
    sent: BTreeMap<u32, Sent>,
}

impl Writer {
    fn id(&self, agent: AgentId) -> String {
        let Place { rollout, attempt, step, .. } = self.place;
        recorded::subagent_id(rollout, attempt, step, agent.0)
    }

    fn subagent(&self, session: Option<&str>, figures: &AgentFigures) -> Trajectory {
        let agent = Agent {
            name: figures.role.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model_name: named(figures),
            tool_definitions: None,
            extra: None,
        };
        let id = self.id(figures.agent);
        let mut trajectory = Trajectory::new(session.unwrap_or_default(), &id, agent);
        trajectory.notes = Some(figures.end.message().to_owned()).filter(|text| !text.is_empty());
        trajectory.extra = Some(extra([
            ("task", json!(figures.task)),
            ("title", json!(figures.title)),
            ("ended", json!(figures.end.as_str())),
            ("takeovers", json!(figures.takeovers)),
        ]));
        trajectory
    }

    fn entry(&mut self, trajectory: &mut Trajectory, role: Role, entry: &Entry) {
        let at = timestamp(self.place.started + entry.at);
        match &entry.event {
            Event::Began(brief) => {
                let Brief { system, first, .. } = &**brief;
                trajectory.append(Step::new(Source::System, &at, &**system));
                trajectory.append(Step::new(Source::User, at, &**first));
            }
            Event::Answered { turn, answer, call } => {
                let place = AnswerPlace { step: self.place.step, turn: *turn };
                let mut step = recorded::to_step(answer, place, call.cost_usd, at);
                if let Some(sent) = self.sent.get(turn) {
                    step.extra.get_or_insert_default().insert("prompt".to_owned(), prompt(sent));
                }
                let appended = trajectory.append(Step { llm_call_count: Some(1), ..step });
                let id = appended.step_id;
                let Calls { actions, complaint } = Calls::read(role, answer);
                appended.tool_calls = actions
                    .into_iter()
                    .zip(0..)
                    .map(|((function_name, arguments), index)| {
                        let tool_call_id = call_id(id, index);
                        ToolCall { tool_call_id, function_name, arguments, extra: None }
                    })
                    .collect();
                // No call asked for it, and it is what was told last.
                appended.observation = complaint.map(|complaint| {
                    let content = Some(complaint);
                    Observed { results: vec![ObservationResult { content, ..Default::default() }] }
                });
                let index = trajectory.steps.len() - 1;
                self.turns.insert((entry.agent, *turn), index);
            }
            Event::Acted { turn, index, observation, took } => {
                let place = self.turns.get(&(entry.agent, *turn));
                if let Some(step) = place.and_then(|at| trajectory.steps.get_mut(*at)) {
                    let result = self.result(step, *index, observation, *took);
                    let observed = step.observation.get_or_insert_with(Observed::default);
                    let at = (*index).min(observed.results.len());
                    observed.results.insert(at, result);
                }
            }
            Event::Stored(context) => {
                let extra = trajectory.extra.get_or_insert_default();
                let stored = extra.entry("contexts").or_insert_with(|| json!([]));
                if let Some(stored) = stored.as_array_mut() {
                    stored.push(json!({
                        "id": context.id, "version": context.version, "turn": context.turn,
                    }));
                }
            }
            Event::Asked { .. }
            | Event::Overflowed { .. }
            | Event::TaskCreated(_)
            | Event::TakenOver
            | Event::Ended(_) => {}
        }
    }

    fn result(
        &self,
        step: &Step,
        index: usize,
        observation: &Observation,
        took: Duration,
    ) -> ObservationResult {
        let launched = observation.subagents.iter().filter(|agent| self.ids.contains(agent));
        let reference = |agent: &AgentId| SubagentRef {
            trajectory_id: Some(self.id(*agent)),
            ..SubagentRef::default()
        };
        let mut more = extra([("done", json!(observation.done))]);
        more.insert("took_sec".to_owned(), json!(took.as_secs_f64()));
        let called = step.tool_calls.get(index);
        ObservationResult {
            source_call_id: called.map(|call| call.tool_call_id.clone()),
            content: Some(observation.text.clone()),
            subagent_trajectory_ref: launched.map(reference).collect(),
            extra: Some(more),
        }
    }
}

/// The prompt that was answered; [`recorded`] says how it is read.
fn prompt(Sent { kept, added, .. }: &Sent) -> Value {
    let message = |Message { role, content }: &Message| json!({"role": role, "content": **content});
    json!({"kept": kept, "added": added.iter().map(message).collect::<Vec<_>>()})
}

fn call_id(step: u64, index: usize) -> String {
    format!("call_{step}_{index}")
}

fn named(figures: &AgentFigures) -> Option<String> {
    Some(figures.model.clone()).filter(|model| !model.is_empty())
}

fn extra<const N: usize>(entries: [(&str, Value); N]) -> Extra {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Of an answer or an observation in the log; the trajectory has all of it.
const LOGGED_CHARS_MAX: usize = 4000;

/// Who was on the team and what it took, then everything that happened, in order.
pub fn log_text(run: &TeamRun) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    for agent in figures::agents(&run.record) {
        let _ = writeln!(text, "{}", line(&agent));
    }
    let roles: BTreeMap<AgentId, Role> = run
        .record
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Began(brief) => Some((entry.agent, brief.role)),
            _ => None,
        })
        .collect();
    for entry in &run.record {
        let Entry { at, agent, event } = &**entry;
        let role = roles.get(agent).map_or("agent", |role| role.as_str());
        let _ = write!(text, "\n[{:9.3}] {role} {} ", at.as_secs_f64(), agent.0);
        let said = match event {
            Event::Began(brief) if brief.title.is_empty() => "begins".to_owned(),
            Event::Began(brief) => format!("begins: {} ({})", brief.title, brief.task),
            Event::Asked { turn, forced: None, .. } => format!("asks, turn {turn}"),
            Event::Asked { turn, forced: Some(by), .. } => format!("must end, turn {turn}: {by}"),
            Event::Answered { turn, answer, call } => {
                let (usage, tries) = (answer.usage, call.tries);
                let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
                let heading = format!("turn {turn}, {prompt} + {completion} tokens, try {tries}:");
                let complaint =
                    roles.get(agent).and_then(|role| Calls::read(*role, answer).complaint);
                let complaint = complaint.map(|said| format!("\n  not done:{}", indented(&said)));
                format!("{heading}{}{}", indented(&answer.text), complaint.unwrap_or_default())
            }
            Event::Acted { turn, index, observation, took } => {
                let done = if observation.done { "done" } else { "not done" };
                let took = took.as_secs_f64();
                let heading = format!("turn {turn}, action {}, {done}, {took:.3} s:", index + 1);
                format!("{heading}{}", indented(&observation.text))
            }
            Event::Overflowed { turn } => format!("turn {turn} does not fit the context window"),
            Event::TaskCreated(task) => format!("makes {}: {}", task.id, task.spec.title),
            Event::Stored(context) => format!("stores context {}", context.exact_ref()),
            Event::TakenOver => "is taken over by a new actor".to_owned(),
            Event::Ended(end) => format!("{}:{}", end.as_str(), indented(end.message())),
        };
        text.push_str(&said);
    }
    text.push('\n');
    text
}

fn line(figures: &AgentFigures) -> String {
    let AgentFigures { agent, role, title, model, turns, usage, .. } = figures;
    let spent = Spent {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        ..Spent::default()
    };
    let cost = figures.cost_usd.map(|cost| format!(", ${cost:.4}")).unwrap_or_default();
    let indent = if figures.parent.is_some() { "  " } else { "" };
    let title = if title.is_empty() { String::new() } else { format!(" \"{title}\"") };
    format!(
        "{indent}{role} {}{title}: {} after {turns} turns of {model}, {} tokens{cost}, \
         {:.1} to {:.1} s",
        agent.0,
        figures.end.as_str(),
        spent.tokens(),
        figures.began.as_secs_f64(),
        figures.ended.as_secs_f64(),
    )
}

fn indented(text: &str) -> String {
    let lines = cut(text, LOGGED_CHARS_MAX);
    lines.lines().map(|line| format!("\n    {line}")).collect()
}

#[cfg(test)]
#[path = "record_team_tests.rs"]
mod tests;
