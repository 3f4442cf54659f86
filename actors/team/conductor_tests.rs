//! A whole team without an actor: scripted models, effects done in a seeded random order, agents
//! killed at random. What must hold: the same end as without kills, nothing done twice, and the
//! record makes every agent anew from any prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use orcapack_tasks::outcome::FailureClass;
use rand_like::Random;

use crate::model::{Answer, CallKey, Finish, Request, Speaker, Usage};
use crate::sandbox::SandboxError;
use crate::team::action::{CoderAction, ExplorerAction, OrchestratorAction};
use crate::team::agent::Agent;
use crate::team::conductor::Conductor;
use crate::team::context_store::{self, ContextAnswer, ContextRequest};
use crate::team::contexts::Contexts;
use crate::team::figures;
use crate::team::member::{self, Wants};
use crate::team::protocol::{Assigned, CallFailure, Done, Effect, Input, Looked, OpId, Want};
use crate::team::record::{
    AgentEnd, AgentId, CallFacts, Entry, Event, ForcedBy, Observation, TeamRun,
};
use crate::team::role::Role;
use crate::team::settings::{Mode, TeamSettings};

mod rand_like {
    //! The seed alone decides.
    use orcapack_tasks::splitmix::{GOLDEN, mix};

    pub struct Random(pub u64);

    impl Random {
        pub fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_add(GOLDEN);
            (mix(self.0) % n as u64) as usize
        }
    }
}

/// The answer to a call, by agent and turn; what a script does not know is an answer without
/// action.
pub(crate) type Script = fn(role: Role, task: &str, turn: u32) -> &'static str;

pub(crate) enum Member {
    Orchestrator(Agent<OrchestratorAction>),
    Explorer(Agent<ExplorerAction>),
    Coder(Agent<CoderAction>),
}

impl Member {
    fn new(role: Role, id: AgentId, settings: &Arc<TeamSettings>, entries: &[Arc<Entry>]) -> Self {
        fn replay<A: Wants>(
            id: AgentId,
            settings: &Arc<TeamSettings>,
            entries: &[Arc<Entry>],
        ) -> Agent<A> {
            Agent::replay(id, settings.clone(), entries.iter().map(|entry| &**entry))
        }
        match role {
            Role::Orchestrator => Self::Orchestrator(replay(id, settings, entries)),
            Role::Explorer => Self::Explorer(replay(id, settings, entries)),
            Role::Coder => Self::Coder(replay(id, settings, entries)),
        }
    }

    fn want(&self, now: Duration) -> Option<Want> {
        match self {
            Self::Orchestrator(agent) => member::want(agent.next(now)),
            Self::Explorer(agent) => member::want(agent.next(now)),
            Self::Coder(agent) => member::want(agent.next(now)),
        }
    }

    fn apply(&mut self, entry: &Entry) {
        match self {
            Self::Orchestrator(agent) => agent.apply(entry),
            Self::Explorer(agent) => agent.apply(entry),
            Self::Coder(agent) => agent.apply(entry),
        }
    }
}

/// A team whose effects wait in a heap, out of which the seed chooses.
pub(crate) struct Sim {
    pub conductor: Conductor,
    settings: Arc<TeamSettings>,
    script: Script,
    pub members: BTreeMap<AgentId, (u32, Member)>,
    contexts: Contexts,
    pub pending: Vec<Effect>,
    random: Random,
    pub now: Duration,
    pub tick: Duration,
    limit: Duration,
    /// Out of a hundred steps, how many are the death of an agent.
    kills_percent: usize,
    kills: u32,
    pub calls: Vec<CallKey>,
    /// The last message of each call.
    pub prompts: Vec<String>,
    /// When each call has to be answered.
    pub call_times: Vec<(AgentId, Duration)>,
    pub acted: Vec<(AgentId, String)>,
    pub fail_call: Option<(CallKey, CallFailure)>,
    pub end: Option<(TeamRun, Option<SandboxError>)>,
}

const STEPS_MAX: usize = 20_000;
const LIMIT: Duration = Duration::from_secs(600);

fn assigned(limit: Duration) -> Assigned {
    let key = CallKey { rollout: 7, attempt: 1, step: 0, agent: 0, turn: 0 };
    Assigned { instruction: "Do it.".into(), limit, key }
}

impl Sim {
    pub fn new(seed: u64, settings: TeamSettings, script: Script) -> Self {
        let settings = Arc::new(settings);
        Self {
            conductor: Conductor::new(settings.clone(), assigned(LIMIT)),
            settings,
            script,
            members: BTreeMap::new(),
            contexts: Contexts::default(),
            pending: Vec::new(),
            random: Random(seed),
            now: Duration::ZERO,
            tick: Duration::from_millis(10),
            limit: LIMIT,
            kills_percent: 0,
            kills: 0,
            calls: Vec::new(),
            prompts: Vec::new(),
            call_times: Vec::new(),
            acted: Vec::new(),
            fail_call: None,
            end: None,
        }
    }

    /// Before it runs.
    pub fn limit(&mut self, limit: Duration) {
        self.limit = limit;
        self.conductor = Conductor::new(self.settings.clone(), assigned(limit));
    }

    pub fn run(mut self) -> Self {
        self.pending = self.conductor.start();
        for _ in 0..STEPS_MAX {
            if self.end.is_some() {
                return self;
            }
            self.now += self.tick;
            if self.now > self.limit {
                self.input(Input::TimeOver);
            }
            if self.random.below(100) < self.kills_percent && !self.members.is_empty() {
                self.kill();
            } else if !self.pending.is_empty() {
                // Messages to one actor keep their order; all else may overtake.
                let at = self.random.below(self.pending.len());
                let effect = self.pending.remove(at);
                self.carry_out(effect);
            }
        }
        panic!("the team does not come to its end");
    }

    fn kill(&mut self) {
        let at = self.random.below(self.members.len());
        let Some((&agent, &(life, _))) = self.members.iter().nth(at) else { return };
        self.members.remove(&agent);
        self.pending
            .retain(|effect| !matches!(effect, Effect::Reply { agent: to, .. } if *to == agent));
        self.kills += 1;
        self.input(Input::Died { agent, life, reason: "killed".into() });
    }

    pub fn input(&mut self, input: Input) {
        self.pending.extend(self.conductor.handle(self.now, input));
    }

    fn done(&mut self, op: OpId, done: Done) {
        self.input(Input::Done(op, Box::new(done)));
    }

    fn wants(&mut self, agent: AgentId) {
        let Some((life, member)) = self.members.get(&agent) else { return };
        let life = *life;
        match member.want(self.now) {
            Some(want) => self.input(Input::Wants { agent, life, want: Box::new(want) }),
            None => drop(self.members.remove(&agent)),
        }
    }

    pub fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { agent, life, role, entries } => {
                let member = Member::new(role, agent, &self.settings, &entries);
                self.members.insert(agent, (life, member));
                self.wants(agent);
            }
            Effect::Reply { agent, entries } => {
                let Some((_, member)) = self.members.get_mut(&agent) else { return };
                entries.iter().for_each(|entry| member.apply(entry));
                self.wants(agent);
            }
            Effect::Call { op, role, request, time_left } => {
                self.call_times.push((AgentId(request.key.agent), self.now + time_left));
                let result = self.answer(role, &request);
                self.done(op, Done::Called(Box::new(result)));
            }
            Effect::Tool { op, agent, tool, .. } => {
                self.acted.push((agent, format!("{tool:?}")));
                let text = format!("did {tool:?}");
                self.done(op, Done::Acted(Ok(Observation { text, done: true, subagents: vec![] })));
            }
            Effect::Change { op, agent, change, .. } => {
                self.acted.push((agent, format!("{change:?}")));
                let text = "changed".to_owned();
                self.done(op, Done::Acted(Ok(Observation { text, done: true, subagents: vec![] })));
            }
            Effect::Look { op, snapshot, bootstrap } => {
                let bootstrap = bootstrap.iter().map(|at| format!("content of {}", at.path));
                let bootstrap = bootstrap.collect::<Vec<_>>().join("\n");
                let snapshot = snapshot.then(|| "a container".into());
                let looked = Looked { snapshot, bootstrap };
                self.done(op, Done::Looked(Ok(looked)));
            }
            Effect::Resolve { op, refs, tasks, for_task } => {
                self.ask(op, ContextRequest::Resolve { refs, tasks, for_task });
            }
            Effect::Store { op, contexts, from } => {
                self.ask(op, ContextRequest::Store { contexts, from });
            }
            Effect::End { run, lost } => self.end = Some((*run, lost)),
        }
    }

    fn ask(&mut self, op: OpId, request: ContextRequest) {
        let done = match context_store::answer(&mut self.contexts, request) {
            ContextAnswer::Resolved(found) => Done::Resolved(found),
            ContextAnswer::Stored { stored, refused } => Done::Stored { stored, refused },
        };
        self.done(op, done);
    }

    fn answer(
        &mut self,
        role: Role,
        request: &Request,
    ) -> Result<(Answer, CallFacts), CallFailure> {
        let speakers: Vec<_> = request.messages.iter().map(|message| message.role).collect();
        assert_eq!(speakers.first(), Some(&Speaker::System));
        assert_eq!(speakers.last(), Some(&Speaker::User));
        assert!(speakers.windows(2).all(|two| two[0] != two[1]), "{speakers:?}");
        self.calls.push(request.key.clone());
        self.prompts.extend(request.messages.last().map(|last| last.content.to_string()));
        if let Some((_, failure)) = self.fail_call.take_if(|(key, _)| *key == request.key) {
            return Err(failure);
        }
        let title = request.messages[1].content.lines().next().unwrap_or_default().to_owned();
        let task = title.rsplit(": ").next().unwrap_or_default();
        let text = (self.script)(role, task, request.key.turn).to_owned();
        let usage = Usage { prompt_tokens: 100, completion_tokens: 10, cached_tokens: 0 };
        let finish = Finish::Stop;
        let answer =
            Answer { text, reasoning: None, finish, usage, model: "m".into(), tokens: None };
        Ok((answer, CallFacts::default()))
    }

    pub fn end(&self) -> &AgentEnd {
        &self.end.as_ref().expect("has ended").0.end
    }

    pub fn record(&self) -> &[Arc<Entry>] {
        &self.end.as_ref().expect("has ended").0.record
    }

    /// What an agent was told last of its actions.
    pub fn observations(&self, agent: u32) -> Vec<String> {
        let of = |entry: &Arc<Entry>| match &entry.event {
            Event::Acted { observation, .. } if entry.agent == AgentId(agent) => {
                Some(observation.text.clone())
            }
            _ => None,
        };
        self.record().iter().filter_map(of).collect()
    }
}

/// Explore in parallel, code with what was found, finish.
pub(crate) fn usual(role: Role, task: &str, turn: u32) -> &'static str {
    match (role, task, turn) {
        (Role::Orchestrator, _, 1) => {
            "<task_create>\nagent_type: explorer\ntitle: left\ndescription: look left\n\
             auto_launch: false\n</task_create>\n\
             <task_create>\nagent_type: explorer\ntitle: right\ndescription: look right\n\
             auto_launch: false\n</task_create>\n\
             <launch_parallel_subagents>\ntask_ids: [task_1, task_2]\n</launch_parallel_subagents>"
        }
        (Role::Orchestrator, _, 2) => {
            "<add_context>\nid: plan\ncontent: first left, then right\n</add_context>\n\
             <task_create>\nagent_type: coder\ntitle: build\ndescription: build it\n\
             context_refs: [plan, task_1, right]\ncontext_bootstrap:\n  - path: /app/a.txt\n    \
             reason: to be changed\n</task_create>"
        }
        (Role::Orchestrator, ..) => "<finish>\nall done\n</finish>",
        (Role::Explorer, _, 1) => "<bash>\ncmd: ls\n</bash>\n<bash>\ncmd: pwd\n</bash>",
        (Role::Explorer, "left", _) => {
            "<report>\ncontexts:\n  - id: left\n    content: a wall\ncomments: seen\n</report>"
        }
        (Role::Explorer, ..) => {
            "<report>\ncontexts:\n  - id: right\n    content: a door\ncomments: seen\n</report>"
        }
        (Role::Coder, _, 1) => "<file>\naction: write\nfile_path: /app/a.txt\ncontent: x\n</file>",
        (Role::Coder, ..) => "<report>\ncomments: built\n</report>",
    }
}

pub(crate) fn mode(mode: Mode) -> TeamSettings {
    TeamSettings { mode, restarts_max: 1000, ..TeamSettings::default() }
}

#[test]
fn a_team_explores_side_by_side_codes_with_what_was_found_and_finishes() {
    for mode_ in [Mode::Stateful, Mode::Stateless] {
        let sim = Sim::new(1, mode(mode_), usual).run();
        assert_eq!(*sim.end(), AgentEnd::Finished { message: "all done".into() });
        let briefs: Vec<_> = sim
            .record()
            .iter()
            .filter_map(|entry| match &entry.event {
                Event::Began(brief) => Some(brief.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(briefs.len(), 4);
        let coder = &briefs[3];
        assert_eq!(coder.contexts, ["plan@1", "left@1", "right@1"]);
        for told in ["a wall", "a door", "first left", "content of /app/a.txt", "a container"] {
            assert!(coder.first.contains(told), "{}", coder.first);
        }
        let used = Contexts::replay(sim.record().iter().map(|entry| &**entry));
        assert!(used.iter().all(|context| context.used_by == ["task_3"]));
    }
}

#[test]
fn agents_that_are_killed_change_nothing_but_the_record_of_their_deaths() {
    let calm = Sim::new(0, mode(Mode::Stateful), usual).run();
    let calls: BTreeSet<_> = calm.calls.iter().cloned().collect();
    let mut kills = 0;
    for seed in 0..25 {
        for mode_ in [Mode::Stateful, Mode::Stateless] {
            let sim = Sim { kills_percent: 30, ..Sim::new(seed, mode(mode_), usual) }.run();
            assert_eq!(sim.end(), calm.end(), "seed {seed}");
            let mut called = sim.calls.clone();
            called.sort();
            assert!(called.windows(2).all(|two| two[0] != two[1]), "a call again, seed {seed}");
            let called: BTreeSet<_> = called.into_iter().map(|key| (key.turn, key.agent)).collect();
            assert_eq!(called.len(), calls.len(), "seed {seed}");
            assert_eq!(sim.acted.len(), calm.acted.len(), "an action again, seed {seed}");
            let contexts = Contexts::replay(sim.record().iter().map(|entry| &**entry));
            assert_eq!(contexts, sim.contexts, "seed {seed}");
            kills += sim.kills;
        }
    }
    assert!(kills > 250, "{kills} kills are too few to say anything");
}

#[test]
fn subagents_are_numbered_as_they_were_launched_whoever_began_first() {
    for seed in 0..10 {
        let sim = Sim::new(seed, mode(Mode::Stateful), usual).run();
        let agents = figures::agents(sim.record());
        let tasks: Vec<&str> = agents.iter().map(|agent| &*agent.task).collect();
        assert_eq!(tasks, ["", "task_1", "task_2", "task_3"], "seed {seed}");
    }
}

#[test]
fn every_prefix_of_a_record_makes_each_agent_as_it_was() {
    let sim = Sim { kills_percent: 10, ..Sim::new(5, mode(Mode::Stateful), usual) }.run();
    let settings = sim.settings.clone();
    for agent in 0..4 {
        let id = AgentId(agent);
        let own: Vec<_> = sim.record().iter().filter(|at| at.agent == id).cloned().collect();
        let role = match &own[0].event {
            Event::Began(brief) => brief.role,
            other => panic!("began with {other:?}"),
        };
        let mut live = Member::new(role, id, &settings, &[]);
        for (at, entry) in own.iter().enumerate() {
            live.apply(entry);
            let again = Member::new(role, id, &settings, &own[..=at]);
            assert_eq!(live.want(entry.at), again.want(entry.at), "agent {agent}, entry {at}");
        }
    }
}

#[test]
fn an_agent_that_dies_at_every_start_fails_and_its_orchestrator_is_told() {
    fn never(role: Role, task: &str, turn: u32) -> &'static str {
        match role {
            Role::Orchestrator => usual(role, task, turn),
            _ => "",
        }
    }
    let settings = TeamSettings { restarts_max: 2, ..TeamSettings::default() };
    let mut sim = Sim::new(3, settings, never);
    sim.pending = sim.conductor.start();
    while sim.end.is_none() {
        let effect = sim.pending.remove(0);
        match effect {
            Effect::Spawn { agent, life, .. } if agent != AgentId::ORCHESTRATOR => {
                sim.input(Input::Died { agent, life, reason: "at its start".into() });
            }
            other => sim.carry_out(other),
        }
    }
    assert_eq!(*sim.end(), AgentEnd::Finished { message: "all done".into() });
    let told = sim.observations(0).join("\n");
    assert!(told.contains("task_1 failed after 0 turns"), "{told}");
    assert!(told.contains("the explorer's actor died 3 times within 60 s"), "{told}");
}

#[test]
fn an_orchestrator_that_dies_too_often_is_an_infrastructure_failure() {
    let settings = TeamSettings { restarts_max: 2, ..TeamSettings::default() };
    let sim = Sim { kills_percent: 95, ..Sim::new(3, settings, usual) }.run();
    let lost = sim.end.as_ref().and_then(|(_, lost)| lost.clone()).expect("is lost");
    assert_eq!(lost.class, FailureClass::Internal);
}

#[test]
fn who_does_not_act_is_told_so_then_forced_and_then_ended_for() {
    fn silent(_: Role, _: &str, _: u32) -> &'static str {
        "I think that I should look around."
    }
    let sim = Sim::new(1, mode(Mode::Stateful), silent).run();
    let by = ForcedBy::NoActions;
    assert!(matches!(sim.end(), AgentEnd::Synthetic { by: found, .. } if *found == by));
    let forced: Vec<_> = sim
        .record()
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Asked { forced, .. } => Some(*forced),
            _ => None,
        })
        .collect();
    assert_eq!(forced, [None, None, None, Some(by)]);
}

#[test]
fn a_conversation_that_no_longer_fits_ends_with_one_short_call() {
    let mut sim = Sim::new(1, mode(Mode::Stateful), usual);
    let key = CallKey { rollout: 7, attempt: 1, step: 0, agent: 0, turn: 2 };
    sim.fail_call = Some((key, CallFailure::ContextOverflow));
    let sim = sim.run();
    let by = ForcedBy::ContextFull;
    assert_eq!(*sim.end(), AgentEnd::Forced { by, message: "all done".into() });
}

#[test]
fn an_endpoint_that_fails_loses_the_step_and_gives_no_reward() {
    let mut sim = Sim::new(1, mode(Mode::Stateful), usual);
    let key = CallKey { rollout: 7, attempt: 1, step: 0, agent: 1, turn: 1 };
    sim.fail_call = Some((key, CallFailure::Endpoint("503".into())));
    let sim = sim.run();
    let lost = sim.end.as_ref().and_then(|(_, lost)| lost.clone()).expect("is lost");
    assert_eq!(lost.class, FailureClass::ModelEndpoint);
    assert!(sim.record().iter().any(|entry| matches!(entry.event, Event::Answered { .. })));
}

#[test]
fn a_conversation_only_grows() {
    let sim = Sim::new(1, mode(Mode::Stateful), usual).run();
    let settings = sim.settings.clone();
    let own: Vec<_> =
        sim.record().iter().filter(|at| at.agent == AgentId::ORCHESTRATOR).cloned().collect();
    let mut before: Vec<String> = Vec::new();
    for at in 0..own.len() {
        let member = Member::new(Role::Orchestrator, AgentId(0), &settings, &own[..=at]);
        if let Some(Want::Call { messages, .. }) = member.want(own[at].at) {
            let texts: Vec<_> =
                messages.iter().map(|message| message.content.to_string()).collect();
            assert_eq!(texts[..before.len()], before[..]);
            before = texts;
        }
    }
    assert!(before.len() >= 6, "{before:?}");
}
