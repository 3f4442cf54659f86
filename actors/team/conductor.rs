//! A team's work on one step of a task, as a pure state machine: what its members want, what was
//! done and who died go in, what is to be done comes out.
//!
//! The conductor owns the [record](crate::team::record) and is the only one to write it. Everything
//! that is done for an agent is done once, whoever asks how often: an agent that was taken over
//! asks again for what its predecessor waited for, and gets it when it is there (a model call that
//! is under way is not made again, a command not run again).
//!
//! Order of calls: [`Conductor::start`], then [`Conductor::handle`] for every [`Input`], carrying
//! out the [`Effect`]s in their order, until [`Effect::End`]; inputs after that change nothing.
//! Delegation (tasks, contexts, subagents) is in `delegation.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use orcapack_tasks::outcome::FailureClass;

use crate::model::{Answer, CallKey, Request};
use crate::sandbox::SandboxError;
use crate::team::action::Bootstrap;
use crate::team::delegation::Delegation;
use crate::team::messages;
use crate::team::op::Op;
use crate::team::opening;
use crate::team::protocol::{Assigned, CallFailure, Done, Effect, Input, Looked, OpId, Want};
use crate::team::record::{
    AgentEnd, AgentId, Brief, CallFacts, Entry, Event, ForcedBy, Observation, Task, TeamRun,
};
use crate::team::role::Role;
use crate::team::settings::{Mode, TeamSettings};

#[derive(Debug)]
pub struct Conductor {
    pub(super) settings: Arc<TeamSettings>,
    pub(super) assigned: Assigned,
    pub(super) record: Vec<Arc<Entry>>,
    pub(super) tasks: Vec<Arc<Task>>,
    pub(super) seats: BTreeMap<AgentId, Seat>,
    pub(super) ops: BTreeMap<OpId, Op>,
    pub(super) delegation: Option<Delegation>,
    pub(super) effects: Vec<Effect>,
    next_op: u64,
    /// Agents that were given a number.
    pub(super) agents: u32,
    /// Of all calls.
    pub(super) tokens: u64,
    ended: bool,
}

/// One agent, alive or ended.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) brief: Arc<Brief>,
    /// Counts its actors.
    life: u32,
    /// Its actor waits for entries.
    waiting: bool,
    /// Something is being done for it.
    busy: bool,
    /// Entries of the record that its actor has seen.
    seen: usize,
    deaths: VecDeque<Duration>,
    /// Why it has no actor any more. It ends when what is being done for it is done, so that this
    /// is in the record too.
    failed: Option<String>,
    pub(super) ended: bool,
}

impl Conductor {
    pub fn new(settings: Arc<TeamSettings>, assigned: Assigned) -> Self {
        Self {
            settings,
            assigned,
            record: Vec::new(),
            tasks: Vec::new(),
            seats: BTreeMap::new(),
            ops: BTreeMap::new(),
            delegation: None,
            effects: Vec::new(),
            next_op: 0,
            agents: 1,
            tokens: 0,
            ended: false,
        }
    }

    /// Times given to [`Self::handle`] count from here.
    pub fn start(&mut self) -> Vec<Effect> {
        let op = self.op(Op::Begin);
        self.look(op, Vec::new());
        std::mem::take(&mut self.effects)
    }

    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Effect> {
        if self.ended {
            return Vec::new();
        }
        match input {
            Input::Wants { agent, life, want } => self.wants(now, agent, life, *want),
            Input::Done(op, done) => {
                if let Some(op) = self.ops.remove(&op) {
                    self.done(now, op, *done);
                }
            }
            Input::Died { agent, life, reason } => self.died(now, agent, life, &reason),
            Input::TimeOver => self.time_over(now),
        }
        std::mem::take(&mut self.effects)
    }

    /// Ends everything for a reason that lies outside.
    pub fn lose(&mut self, now: Duration, error: SandboxError) -> Vec<Effect> {
        self.fail(now, error);
        std::mem::take(&mut self.effects)
    }

    /// Everything so far.
    pub fn record(&self) -> &[Arc<Entry>] {
        &self.record
    }

    fn wants(&mut self, now: Duration, agent: AgentId, life: u32, want: Want) {
        let Some(seat) = self.seats.get_mut(&agent).filter(|seat| seat.life == life) else {
            return;
        };
        seat.waiting = true;
        if seat.busy {
            return;
        }
        let ended = seat.ended;
        // Of an ask whose answer was lost with a predecessor: the record has gone on meanwhile.
        let news = self.news(agent);
        if !news.is_empty() {
            self.reply(agent, news);
        } else if !ended {
            self.serve(now, agent, want);
        }
    }

    fn serve(&mut self, now: Duration, agent: AgentId, want: Want) {
        let Some(seat) = self.seats.get_mut(&agent) else { return };
        seat.busy = true;
        let (role, brief) = (seat.brief.role, seat.brief.clone());
        let time_left = brief.deadline.saturating_sub(now);
        match want {
            Want::Ask { turn, forced } => self.ask(now, agent, turn, forced),
            Want::Call { turn, messages, max_tokens } => {
                let op = self.op(Op::Call { agent, turn });
                let request = Box::new(Request {
                    key: CallKey { agent: agent.0, turn, ..self.assigned.key.clone() },
                    messages,
                    max_tokens,
                    instruction: brief.instruction.clone(),
                    policy_version: 0,
                    // Not a conductor's to know.
                    scripts: None,
                });
                self.effects.push(Effect::Call { op, role, request, time_left });
            }
            Want::Orchestrate { turn, index, action } => {
                self.orchestrate(now, turn, index, action);
            }
            Want::Tool { turn, index, tool } => {
                let op = self.op(Op::Act { agent, turn, index, since: now });
                self.effects.push(Effect::Tool { op, agent, role, tool, time_left });
            }
            Want::Change { turn, index, change } => {
                let op = self.op(Op::Act { agent, turn, index, since: now });
                self.effects.push(Effect::Change { op, agent, change, time_left });
            }
            Want::End { turn, index, ending, forced } => {
                self.end_agent(now, agent, turn, index, ending, forced);
            }
            Want::GiveUp { by } => {
                let reason = messages::reason(by);
                let ending = messages::ending(role);
                let message = format!(
                    "No `{ending}` came: it was asked for because {reason}. This line stands in \
                     for it; what was done is in the environment."
                );
                self.ended(now, agent, AgentEnd::Synthetic { by, message });
            }
            Want::Refused { message } => self.ended(now, agent, AgentEnd::Refused { message }),
        }
    }

    fn ask(&mut self, now: Duration, agent: AgentId, turn: u32, forced: Option<ForcedBy>) {
        let is_orchestrator = agent == AgentId::ORCHESTRATOR;
        let spent = is_orchestrator && self.tokens >= self.settings.tokens_max;
        let forced = forced.or(spent.then_some(ForcedBy::TokensUsedUp));
        if is_orchestrator && self.settings.mode == Mode::Stateless && turn > 1 {
            let op = self.op(Op::Ask { turn, forced });
            self.look(op, Vec::new());
            return;
        }
        self.happened(now, agent, Event::Asked { turn, forced, snapshot: None });
    }

    fn done(&mut self, now: Duration, op: Op, done: Done) {
        let agent = op.agent();
        match (op, done) {
            (_, Done::Acted(Err(error)) | Done::Looked(Err(error))) => self.fail(now, error),
            (Op::Begin, Done::Looked(Ok(looked))) => self.begin(now, &looked),
            (Op::Ask { turn, forced }, Done::Looked(Ok(looked))) => {
                let snapshot = looked.snapshot.map(Arc::from);
                let event = Event::Asked { turn, forced, snapshot };
                self.happened(now, AgentId::ORCHESTRATOR, event);
            }
            (Op::Call { agent, turn }, Done::Called(result)) => {
                self.called(now, agent, turn, *result);
            }
            (Op::Act { agent, turn, index, since }, Done::Acted(Ok(observation))) => {
                self.acted(now, agent, (turn, index, since), observation);
            }
            (Op::Store { agent, turn, index, since, ending }, Done::Stored { stored, refused }) => {
                self.stored(now, agent, (turn, index, since), ending, stored, &refused);
            }
            (op, done) => self.delegation_done(now, op, done),
        }
        if let Some(agent) = agent {
            self.end_failed(now, agent);
        }
    }

    /// Ends an agent whose actor died too often, as soon as nothing is being done for it.
    fn end_failed(&mut self, now: Duration, agent: AgentId) {
        let idle = |seat: &&mut Seat| !seat.busy && !seat.ended;
        let seat = self.seats.get_mut(&agent).filter(idle);
        if let Some(message) = seat.and_then(|seat| seat.failed.take())
            && !self.ended
        {
            self.ended(now, agent, AgentEnd::Failed { message });
        }
    }

    fn begin(&mut self, now: Duration, looked: &Looked) {
        let Assigned { instruction, limit, .. } = self.assigned.clone();
        let style = self.settings.prompts.style();
        let snapshot = looked.snapshot.as_deref().unwrap_or_default();
        let brief = Brief {
            role: Role::Orchestrator,
            task: String::new(),
            title: String::new(),
            max_turns: self.settings.orchestrator_turns_max,
            deadline: limit,
            tokens_max: self.settings.tokens_max,
            contexts: Vec::new(),
            system: style.system(Role::Orchestrator),
            first: opening::of_orchestrator(style, &instruction, snapshot).into(),
            instruction,
        };
        self.seat(now, AgentId::ORCHESTRATOR, brief);
    }

    /// Gives an agent its place, and its first actor.
    pub(super) fn seat(&mut self, now: Duration, agent: AgentId, brief: Brief) {
        let brief = Arc::new(brief);
        let seat = Seat {
            brief: brief.clone(),
            life: 0,
            waiting: false,
            busy: false,
            seen: 0,
            deaths: VecDeque::new(),
            failed: None,
            ended: false,
        };
        self.seats.insert(agent, seat);
        self.push(now, agent, Event::Began(brief));
        self.spawn(agent);
    }

    fn spawn(&mut self, agent: AgentId) {
        let Some(seat) = self.seats.get_mut(&agent) else { return };
        seat.life += 1;
        seat.waiting = false;
        seat.seen = 0;
        let (life, role) = (seat.life, seat.brief.role);
        let entries = self.news(agent);
        self.effects.push(Effect::Spawn { agent, life, role, entries });
    }

    fn called(
        &mut self,
        now: Duration,
        agent: AgentId,
        turn: u32,
        result: Result<(Answer, CallFacts), CallFailure>,
    ) {
        match result {
            Ok((answer, call)) => {
                self.tokens += answer.usage.prompt_tokens + answer.usage.completion_tokens;
                let answer = Arc::new(answer);
                self.happened(now, agent, Event::Answered { turn, answer, call });
            }
            Err(CallFailure::ContextOverflow) => {
                self.happened(now, agent, Event::Overflowed { turn });
            }
            Err(CallFailure::TimeOver) if agent == AgentId::ORCHESTRATOR => self.time_over(now),
            Err(CallFailure::TimeOver) => {
                let message = "Its time was over before its model had answered. What was done is \
                               in the environment.";
                let (by, message) = (ForcedBy::DeadlineNear, message.to_owned());
                self.ended(now, agent, AgentEnd::Synthetic { by, message });
            }
            Err(CallFailure::Endpoint(message)) => {
                self.fail(now, SandboxError::new(FailureClass::ModelEndpoint, message));
            }
        }
    }

    pub(super) fn acted(
        &mut self,
        now: Duration,
        agent: AgentId,
        (turn, index, since): (u32, usize, Duration),
        observation: Observation,
    ) {
        let (observation, took) = (Arc::new(observation), now.saturating_sub(since));
        self.happened(now, agent, Event::Acted { turn, index, observation, took });
    }

    /// Ends an agent. The orchestrator's end is the team's; a subagent's may complete a delegation.
    pub(super) fn ended(&mut self, now: Duration, agent: AgentId, end: AgentEnd) {
        if let Some(seat) = self.seats.get_mut(&agent) {
            seat.ended = true;
        }
        self.happened(now, agent, Event::Ended(end.clone()));
        if agent == AgentId::ORCHESTRATOR {
            self.finish(now, Ok(end));
        } else {
            self.subagent_ended(now, agent, &end);
        }
    }

    fn died(&mut self, now: Duration, agent: AgentId, life: u32, reason: &str) {
        let window = self.settings.restart_window;
        let Some(seat) = self.seats.get_mut(&agent) else { return };
        if seat.ended || seat.life != life {
            return;
        }
        seat.waiting = false;
        seat.deaths.push_back(now);
        seat.deaths.retain(|at| now.saturating_sub(*at) <= window);
        let deaths = seat.deaths.len();
        if deaths <= self.settings.restarts_max as usize {
            self.push(now, agent, Event::TakenOver);
            return self.spawn(agent);
        }
        let message = format!(
            "the {}'s actor died {deaths} times within {} s: {reason}",
            seat.brief.role,
            window.as_secs()
        );
        if agent == AgentId::ORCHESTRATOR {
            self.fail(now, SandboxError::new(FailureClass::Internal, message));
        } else {
            seat.failed = Some(message);
            self.end_failed(now, agent);
        }
    }

    fn time_over(&mut self, now: Duration) {
        let message = "The step's time was over.".to_owned();
        let end = AgentEnd::Synthetic { by: ForcedBy::DeadlineNear, message };
        self.finish(now, Ok(end));
    }

    fn fail(&mut self, now: Duration, error: SandboxError) {
        self.finish(now, Err(error));
    }

    fn finish(&mut self, now: Duration, end: Result<AgentEnd, SandboxError>) {
        if self.ended {
            return;
        }
        let live = self.seats.iter().filter(|(_, seat)| !seat.ended);
        for agent in live.map(|(agent, _)| *agent).collect::<Vec<_>>() {
            let event = match (&end, agent) {
                (Ok(end), AgentId::ORCHESTRATOR) => end.clone(),
                _ => AgentEnd::Cancelled,
            };
            self.push(now, agent, Event::Ended(event));
        }
        self.ended = true;
        let record = self.record.clone();
        let (end, lost) = match end {
            Ok(end) => (end, None),
            Err(lost) => (AgentEnd::Cancelled, Some(lost)),
        };
        let settings = self.settings.clone();
        self.effects.push(Effect::End { run: Box::new(TeamRun { settings, record, end }), lost });
    }

    /// Records what completes an agent's want, and tells its actor.
    pub(super) fn happened(&mut self, now: Duration, agent: AgentId, event: Event) {
        self.push(now, agent, event);
        let Some(seat) = self.seats.get_mut(&agent) else { return };
        seat.busy = false;
        if seat.waiting {
            let news = self.news(agent);
            self.reply(agent, news);
        }
    }

    fn reply(&mut self, agent: AgentId, entries: Vec<Arc<Entry>>) {
        if let Some(seat) = self.seats.get_mut(&agent) {
            seat.waiting = false;
        }
        self.effects.push(Effect::Reply { agent, entries });
    }

    /// What has happened since an agent's actor was last told, as far as it concerns the agent.
    fn news(&mut self, agent: AgentId) -> Vec<Arc<Entry>> {
        let Some(seat) = self.seats.get_mut(&agent) else { return Vec::new() };
        let from = std::mem::replace(&mut seat.seen, self.record.len());
        let all = agent == AgentId::ORCHESTRATOR && self.settings.mode == Mode::Stateless;
        let of_team = |event: &Event| {
            let shown = matches!(
                event,
                Event::TaskCreated(_) | Event::Stored(_) | Event::Began(_) | Event::Ended(_)
            );
            all && shown
        };
        let concerns = |entry: &&Arc<Entry>| entry.agent == agent || of_team(&entry.event);
        self.record.iter().skip(from).filter(concerns).cloned().collect()
    }

    pub(super) fn push(&mut self, at: Duration, agent: AgentId, event: Event) {
        self.record.push(Arc::new(Entry { at, agent, event }));
    }

    /// Looks at the environment for an agent that begins or is told everything anew.
    pub(super) fn look(&mut self, op: OpId, bootstrap: Vec<Bootstrap>) {
        let snapshot = self.settings.prompts.style().introduces;
        self.effects.push(Effect::Look { op, snapshot, bootstrap });
    }

    pub(super) fn op(&mut self, op: Op) -> OpId {
        self.next_op += 1;
        let id = OpId(self.next_op);
        self.ops.insert(id, op);
        id
    }

    /// Time that is kept for the orchestrator's last words.
    pub(super) fn reserve(&self) -> Duration {
        self.settings.time_reserve.min(self.assigned.limit / 4)
    }
}

#[cfg(test)]
#[path = "conductor_tests.rs"]
pub(crate) mod tests;
