//! What an orchestrator can bring about: tasks, contexts, and subagents that work on tasks. A part
//! of the [conductor](crate::team::conductor).
//!
//! An action that is refused has changed nothing: no task in the tree, no subagent, no context.

use std::sync::Arc;
use std::time::Duration;

use crate::team::action::{CreateTask, OrchestratorAction};
use crate::team::agent::Ending;
use crate::team::conductor::Conductor;
use crate::team::contexts::{Context, NewContext, Provenance};
use crate::team::messages::{TOKENS_TOLD_BELOW, clock};
use crate::team::op::{Closing, Op};
use crate::team::opening::{self, Given};
use crate::team::prompts::Style;
use crate::team::protocol::{Done, Effect, Looked};
use crate::team::record::{AgentEnd, AgentId, Brief, Entry, Event, ForcedBy, Observation, Task};
use crate::team::text::{count, cut_middle};

/// Of a team. An orchestrator has 50 turns; more tasks than this are a loop.
const TASKS_MAX: usize = 200;
/// Of a team, each launch of a task counted.
const SUBAGENTS_MAX: u32 = 400;
/// Of one subagent's comments and contexts together, in what the orchestrator is told; observations
/// of other actions have half of it.
const REPORT_CHARS_MAX: usize = 24_000;

/// The action of the orchestrator that waits for subagents.
#[derive(Debug)]
pub(super) struct Delegation {
    turn: u32,
    index: usize,
    since: Duration,
    /// What the orchestrator is told before the reports.
    head: String,
    launches: Vec<Launch>,
}

/// One task on its way to a subagent, and the subagent on its way to its end.
#[derive(Debug)]
struct Launch {
    task: Arc<Task>,
    contexts: Vec<Context>,
    /// Given at the launch, whatever is ready first: the same in every run of the same plan.
    agent: AgentId,
    began: bool,
    /// What came of it, in words.
    outcome: Option<String>,
}

/// Which action it is, and since when it is being done.
type At = (u32, usize, Duration);

impl Conductor {
    pub(super) fn orchestrate(
        &mut self,
        now: Duration,
        turn: u32,
        index: usize,
        action: OrchestratorAction,
    ) {
        let at = (turn, index, now);
        match action {
            OrchestratorAction::CreateTask(spec) if self.tasks.len() >= TASKS_MAX => {
                let text = format!(
                    "task not created: there are {TASKS_MAX} tasks already, which is the most \
                     ({:?})",
                    spec.title
                );
                self.refused(now, at, text);
            }
            OrchestratorAction::CreateTask(spec) if spec.context_refs.is_empty() => {
                self.create(now, at, spec);
            }
            OrchestratorAction::CreateTask(spec) => {
                let (refs, tasks) = (spec.context_refs.clone(), self.task_ids());
                let op = self.op(Op::Check { turn, index, since: now, spec: Box::new(spec) });
                self.effects.push(Effect::Resolve { op, refs, tasks, for_task: None });
            }
            OrchestratorAction::Launch { task } => self.launch_named(now, at, vec![task]),
            OrchestratorAction::LaunchParallel { tasks } => self.launch_named(now, at, tasks),
            OrchestratorAction::AddContext { id, content } => {
                let contexts = vec![NewContext { id, content: content.into() }];
                self.store(now, AgentId::ORCHESTRATOR, at, contexts, None);
            }
            // An ending; agents say so by `Want::End`.
            OrchestratorAction::Finish { message } => {
                self.ended(now, AgentId::ORCHESTRATOR, AgentEnd::Finished { message });
            }
        }
    }

    /// What an agent ends itself with.
    pub(super) fn end_agent(
        &mut self,
        now: Duration,
        agent: AgentId,
        turn: u32,
        index: usize,
        ending: Ending,
        forced: Option<ForcedBy>,
    ) {
        match ending {
            Ending::Finish { message } => self.ended(now, agent, end(message, forced)),
            Ending::Report(report) if report.contexts.is_empty() => {
                self.ended(now, agent, end(report.comments, forced));
            }
            Ending::Report(report) => {
                let contexts = report.contexts.into_iter();
                let contexts = contexts
                    .map(|new| NewContext { id: new.id, content: new.content.into() })
                    .collect();
                let closing = Closing { comments: report.comments, forced };
                self.store(now, agent, (turn, index, now), contexts, Some(closing));
            }
        }
    }

    fn store(
        &mut self,
        now: Duration,
        agent: AgentId,
        (turn, index, since): At,
        contexts: Vec<NewContext>,
        ending: Option<Closing>,
    ) {
        let task = self.seats.get(&agent).map(|seat| seat.brief.task.clone()).unwrap_or_default();
        let op = self.op(Op::Store { agent, turn, index, since, ending });
        let from = Provenance { by: agent, task, turn, at: now };
        self.effects.push(Effect::Store { op, contexts, from });
    }

    /// After the context store's answer. What of a report could not be stored is told its author,
    /// once it is too late for that its reader.
    pub(super) fn stored(
        &mut self,
        now: Duration,
        agent: AgentId,
        at: At,
        ending: Option<Closing>,
        stored: Vec<Context>,
        refused: &[String],
    ) {
        let told: Vec<String> = stored.iter().map(stored_as).collect();
        for context in stored {
            self.push(now, agent, Event::Stored(Arc::new(context)));
        }
        match ending {
            Some(Closing { comments, forced }) if refused.is_empty() || forced.is_some() => {
                let lost = refused.iter().map(|reason| format!("\n(not stored: {reason})"));
                let message = comments + &lost.collect::<String>();
                self.ended(now, agent, end(message, forced));
            }
            _ => {
                let done = refused.is_empty();
                let lost = refused.iter().map(|reason| format!("not stored: {reason}"));
                let text = told.into_iter().chain(lost).collect::<Vec<_>>().join("\n");
                let observation = Observation { text, done, ..Observation::default() };
                self.acted(now, agent, at, observation);
            }
        }
    }

    fn create(&mut self, now: Duration, at: At, spec: CreateTask) {
        let id = format!("task_{}", self.tasks.len() + 1);
        let launch = spec.auto_launch;
        let head = format!("{id} created ({}).", spec.agent.role());
        let task = Arc::new(Task { id, spec });
        self.tasks.push(task.clone());
        self.push(now, AgentId::ORCHESTRATOR, Event::TaskCreated(task.clone()));
        match (launch, self.no_launch(now)) {
            (true, None) => self.launch(now, at, head, vec![task]),
            (true, Some(reason)) => {
                let text = format!("{head} Not launched: {reason}");
                self.acted_as_orchestrator(now, at, text, true);
            }
            (false, _) => {
                let id = &task.id;
                let text = format!("{head} Launch it with launch_subagent, task_id: {id}.");
                self.acted_as_orchestrator(now, at, text, true);
            }
        }
    }

    fn launch_named(&mut self, now: Duration, at: At, ids: Vec<String>) {
        let unknown: Vec<_> =
            ids.iter().filter(|id| self.task(id).is_none()).map(|id| format!("`{id}`")).collect();
        if !unknown.is_empty() {
            let exist = match self.task_ids().join(", ") {
                none if none.is_empty() => "none; create one with task_create".to_owned(),
                some => some,
            };
            let text = format!(
                "nothing launched: no task {}. Tasks that exist: {exist}",
                unknown.join(", ")
            );
            return self.refused(now, at, text);
        }
        if let Some(reason) = self.no_launch(now) {
            return self.refused(now, at, format!("nothing launched: {reason}"));
        }
        let tasks = ids.iter().filter_map(|id| self.task(id).cloned()).collect();
        self.launch(now, at, String::new(), tasks);
    }

    /// Every task needs its contexts, then a look at the environment, then an actor.
    fn launch(&mut self, now: Duration, (turn, index, _): At, head: String, tasks: Vec<Arc<Task>>) {
        let launches: Vec<_> = tasks
            .into_iter()
            .zip(self.agents..)
            .map(|(task, number)| Launch {
                task,
                contexts: Vec::new(),
                agent: AgentId(number),
                began: false,
                outcome: None,
            })
            .collect();
        self.agents += launches.len() as u32;
        for (launch, Launch { task, .. }) in launches.iter().enumerate() {
            let refs = task.spec.context_refs.clone();
            let (for_task, tasks) = (Some(task.id.clone()), self.task_ids());
            if refs.is_empty() {
                let (op, bootstrap) = (self.op(Op::Look { launch }), task.spec.bootstrap.clone());
                self.look(op, bootstrap);
            } else {
                let op = self.op(Op::Give { launch });
                self.effects.push(Effect::Resolve { op, refs, tasks, for_task });
            }
        }
        self.delegation = Some(Delegation { turn, index, since: now, head, launches });
    }

    /// The operations of tasks and launches.
    pub(super) fn delegation_done(&mut self, now: Duration, op: Op, done: Done) {
        match (op, done) {
            (Op::Check { turn, index, since, spec }, Done::Resolved(result)) => match result {
                Ok(_) => self.create(now, (turn, index, since), *spec),
                Err(reason) => {
                    self.refused(now, (turn, index, since), format!("task not created: {reason}"));
                }
            },
            (Op::Give { launch }, Done::Resolved(result)) => {
                let Some(found) = self.launch_at(launch) else { return };
                match result {
                    Ok(contexts) => {
                        found.contexts = contexts;
                        let bootstrap = found.task.spec.bootstrap.clone();
                        let op = self.op(Op::Look { launch });
                        self.look(op, bootstrap);
                    }
                    Err(reason) => {
                        found.outcome = Some(format!("{}: not launched: {reason}", found.task.id));
                        self.complete(now);
                    }
                }
            }
            (Op::Look { launch }, Done::Looked(Ok(looked))) => {
                let count = self.delegation.as_ref().map_or(1, |all| all.launches.len());
                let deadline = self.assigned.limit.saturating_sub(self.reserve());
                let share = self.settings.tokens_max.saturating_sub(self.tokens) / count as u64;
                let tokens_max = self.settings.subagent_tokens_max.min(share);
                let style = self.settings.prompts.style();
                let Some(found) = self.launch_at(launch) else { return };
                found.began = true;
                let agent = found.agent;
                let brief = brief(style, found, &looked, deadline, tokens_max);
                self.seat(now, agent, brief);
            }
            // Nothing else belongs together, and nobody answers otherwise than asked.
            _ => {}
        }
    }

    fn launch_at(&mut self, launch: usize) -> Option<&mut Launch> {
        self.delegation.as_mut()?.launches.get_mut(launch)
    }

    pub(super) fn subagent_ended(&mut self, now: Duration, agent: AgentId, end: &AgentEnd) {
        let text = self.report(now, agent, end);
        let launches = self.delegation.iter_mut().flat_map(|all| &mut all.launches);
        if let Some(launch) = launches.into_iter().find(|launch| launch.agent == agent) {
            launch.outcome = Some(format!("{} {text}", launch.task.id));
        }
        self.complete(now);
    }

    /// Answers the orchestrator when every launch has come to its end.
    fn complete(&mut self, now: Duration) {
        let open = |all: &Delegation| all.launches.iter().any(|launch| launch.outcome.is_none());
        if self.delegation.as_ref().is_none_or(open) {
            return;
        }
        let Some(Delegation { turn, index, since, head, launches }) = self.delegation.take() else {
            return;
        };
        let subagents: Vec<_> =
            launches.iter().filter(|launch| launch.began).map(|launch| launch.agent).collect();
        let outcomes = launches.into_iter().filter_map(|launch| launch.outcome);
        let mut parts: Vec<_> =
            Some(head).into_iter().filter(|head| !head.is_empty()).chain(outcomes).collect();
        let left = self.settings.tokens_max.saturating_sub(self.tokens);
        if left < TOKENS_TOLD_BELOW {
            parts.push(format!("[{left} tokens left for the team]"));
        }
        let done = !subagents.is_empty();
        let observation = Observation { text: parts.join("\n\n"), done, subagents };
        self.acted(now, AgentId::ORCHESTRATOR, (turn, index, since), observation);
    }

    /// A subagent's end as its orchestrator is told of it, with the contexts that it stored.
    fn report(&self, now: Duration, agent: AgentId, end: &AgentEnd) -> String {
        let own = || self.record.iter().filter(|entry| entry.agent == agent);
        let how = match end {
            AgentEnd::Finished { .. } => "reported".to_owned(),
            AgentEnd::Forced { by, .. } => format!("reported when told to end ({by})"),
            AgentEnd::Synthetic { by, .. } => format!("ended without a report ({by})"),
            AgentEnd::Refused { .. } => "refused".to_owned(),
            AgentEnd::Failed { .. } => "failed".to_owned(),
            AgentEnd::Cancelled => "was cancelled".to_owned(),
        };
        let took = match self.settings.prompts.style().counts {
            true => {
                let asked = |entry: &&Arc<Entry>| matches!(entry.event, Event::Asked { .. });
                let turns = count(own().filter(asked).count(), "turn");
                let began = own().next().map_or(now, |entry| entry.at);
                format!(" after {turns}, {}", clock(now.saturating_sub(began)))
            }
            false => String::new(),
        };
        let mut text = format!("{how}{took}.\n{}", end.message());
        let contexts = own().filter_map(|entry| match &entry.event {
            Event::Stored(context) => Some(context),
            _ => None,
        });
        for context in contexts {
            let Context { id, version, content, .. } = &**context;
            let replaces =
                if *version > 1 { format!(" (version {version})") } else { String::new() };
            text.push_str(&format!("\n\n## context {id}{replaces}\n{content}"));
        }
        cut_middle(&text, REPORT_CHARS_MAX)
    }

    /// Why no subagent can be launched any more.
    fn no_launch(&self, now: Duration) -> Option<String> {
        if self.tokens >= self.settings.tokens_max {
            return Some("all tokens are used up. Finish instead.".to_owned());
        }
        if self.agents > SUBAGENTS_MAX {
            return Some(format!("{SUBAGENTS_MAX} subagents were launched, which is the most"));
        }
        let left = self.assigned.limit.saturating_sub(now);
        let needed = 2 * self.reserve();
        (left < needed).then(|| {
            let (left, needed) = (clock(left), clock(needed));
            format!("{left} left, a subagent needs {needed}. Finish instead.")
        })
    }

    fn task(&self, id: &str) -> Option<&Arc<Task>> {
        self.tasks.iter().find(|task| task.id == id)
    }

    fn task_ids(&self) -> Vec<String> {
        self.tasks.iter().map(|task| task.id.clone()).collect()
    }

    fn refused(&mut self, now: Duration, at: At, text: String) {
        self.acted_as_orchestrator(now, at, text, false);
    }

    fn acted_as_orchestrator(&mut self, now: Duration, at: At, text: String, done: bool) {
        let observation = Observation { text, done, subagents: Vec::new() };
        self.acted(now, AgentId::ORCHESTRATOR, at, observation);
    }
}

fn brief(
    style: &Style,
    launch: &Launch,
    looked: &Looked,
    deadline: Duration,
    tokens_max: u64,
) -> Brief {
    let Task { id, spec } = &*launch.task;
    let given = Given {
        task: id,
        title: &spec.title,
        description: &spec.description,
        contexts: &launch.contexts,
        bootstrap: &looked.bootstrap,
        snapshot: looked.snapshot.as_deref().unwrap_or_default(),
    };
    Brief {
        role: spec.agent.role(),
        task: id.clone(),
        title: spec.title.clone(),
        instruction: spec.description.as_str().into(),
        max_turns: spec.max_turns,
        deadline,
        tokens_max,
        contexts: launch.contexts.iter().map(Context::exact_ref).collect(),
        system: style.system(spec.agent.role()),
        first: opening::of_subagent(style, &given).into(),
    }
}

fn end(message: String, forced: Option<ForcedBy>) -> AgentEnd {
    match forced {
        Some(by) => AgentEnd::Forced { by, message },
        None => AgentEnd::Finished { message },
    }
}

fn stored_as(context: &Context) -> String {
    let Context { id, version, .. } = context;
    match version {
        1 => format!("stored as `{id}`"),
        _ => format!(
            "stored as version {version} of `{id}`; the one before stays as `{id}@{}`",
            version - 1
        ),
    }
}

#[cfg(test)]
#[path = "delegation_tests.rs"]
mod tests;
