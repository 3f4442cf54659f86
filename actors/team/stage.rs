//! A team at work: carries out what the [conductor](crate::team::conductor) decides.
//!
//! Owned by the rollout's actor, which forwards messages and deaths to it. Model calls and commands
//! run here, not in the agents' actors, so that they outlive an actor that is replaced; they are
//! dropped with the stage. Agents are linked to the rollout's actor and end with it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use orcapack_tasks::outcome::FailureClass;
use ractor::{Actor, ActorCell, ActorId, SpawnErr};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::environment::Workbench;
use crate::model::backoff::GaveUp;
use crate::model::endpoint::{CallError, Called, Endpoint};
use crate::model::models::Models;
use crate::model::scripts::Scripts;
use crate::model::{Answer, ModelErrorKind, Request};
use crate::sandbox::{Limits, SandboxError};
use crate::team::action::{Bootstrap, CoderAction, ExplorerAction, OrchestratorAction};
use crate::team::bootstrap;
use crate::team::conductor::Conductor;
use crate::team::context_store::{ContextAnswer, ContextDesk, ContextRequest, Returned};
use crate::team::hands::{self, ChangeLock, CoderHands, ExplorerHands, HandsSettings};
use crate::team::member::{Member, MemberArguments, Wanted};
use crate::team::notes::Notes;
use crate::team::protocol::{Assigned, CallFailure, Done, Effect, Input, Looked, OpId};
use crate::team::record::{AgentId, CallFacts, Entry, TeamRun};
use crate::team::role::Role;
use crate::team::settings::TeamSettings;
use crate::team::shell::{AgentShell, Shell};
use crate::team::snapshot;

/// What every team of a node shares.
#[derive(Debug)]
pub struct TeamContext {
    pub settings: Arc<TeamSettings>,
    pub models: Models,
}

/// One step of a task, for a team.
pub(crate) struct Work {
    pub assigned: Assigned,
    pub workbench: Workbench,
    /// Whose commands they are; `None` is the image's user.
    pub user: Option<String>,
    /// Of the environment.
    pub limits: Limits,
    /// For a demonstrator, where the team has one.
    pub scripts: Option<Arc<Scripts>>,
    pub reply: oneshot::Sender<Worked>,
}

/// What became of it; `lost` is the infrastructure's failure.
pub(crate) struct Worked {
    pub run: Box<TeamRun>,
    pub lost: Option<SandboxError>,
}

/// What the rollout's actor forwards to its stage.
pub(crate) enum StageMessage {
    Wanted(Wanted),
    Done(OpId, Box<Done>),
    ContextsBack(Box<Returned<OpId>>),
    TimeOver,
    EnvironmentLost(SandboxError),
    /// A task of the stage's ended without a word: a defect of ours.
    Lost,
}

/// How the stage's own work reaches the rollout's actor; `false` when that has ended.
pub(crate) type Rollout = Arc<dyn Fn(StageMessage) -> bool + Send + Sync>;

/// The end of a step by its clock comes a little after the deadline that its calls have, so that a
/// call that failed says why.
const GRACE: Duration = Duration::from_secs(1);

/// For the files and folders that a subagent begins with.
const LOOK_TIME: Duration = Duration::from_secs(20);

pub(crate) struct Stage {
    conductor: Conductor,
    context: Arc<TeamContext>,
    workbench: Workbench,
    user: Option<String>,
    limits: Limits,
    scripts: Option<Arc<Scripts>>,
    /// Of the task: scratch folders are its agents' own.
    step: u32,
    started: Instant,
    rollout: Rollout,
    /// The rollout's actor, to which agents are linked.
    parent: ActorCell,
    actors: HashMap<ActorId, (AgentId, u32, ActorCell)>,
    /// Where each agent's actor waits for what has happened.
    ports: HashMap<AgentId, oneshot::Sender<Vec<Arc<Entry>>>>,
    /// Agents whose actor was replaced and has not asked for anything yet: its life, since when.
    taken_over: HashMap<AgentId, (u32, Instant)>,
    explorers: HashMap<AgentId, ExplorerHands>,
    coders: HashMap<AgentId, CoderHands>,
    changes: ChangeLock,
    desk: ContextDesk<OpId>,
    desk_deaths: VecDeque<Instant>,
    /// Calls and commands under way.
    tasks: JoinSet<()>,
    reply: Option<oneshot::Sender<Worked>>,
}

impl Stage {
    pub(crate) async fn begin(
        context: Arc<TeamContext>,
        work: Work,
        rollout: Rollout,
        parent: ActorCell,
    ) -> Self {
        let Work { assigned, workbench, user, limits, scripts, reply } = work;
        let started = Instant::now();
        let (deadline, step) = (started + assigned.limit, assigned.key.step);
        let mut stage = Self {
            conductor: Conductor::new(context.settings.clone(), assigned),
            context,
            workbench,
            user,
            limits,
            scripts,
            step,
            started,
            rollout,
            parent,
            actors: HashMap::new(),
            ports: HashMap::new(),
            taken_over: HashMap::new(),
            explorers: HashMap::new(),
            coders: HashMap::new(),
            changes: ChangeLock::default(),
            desk: ContextDesk::default(),
            desk_deaths: VecDeque::new(),
            tasks: JoinSet::new(),
            reply: Some(reply),
        };
        let (rollout, workbench) = (stage.rollout.clone(), stage.workbench.clone());
        stage.tasks.spawn(async move {
            // A team that only thinks would not notice the loss of its environment.
            rollout(tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline + GRACE) => StageMessage::TimeOver,
                error = workbench.lost() => StageMessage::EnvironmentLost(error),
            });
        });
        let effects = stage.conductor.start();
        stage.carry_out(effects).await;
        stage
    }

    pub(crate) async fn handle(&mut self, message: StageMessage) {
        while self.tasks.try_join_next().is_some() {}
        if self.reply.is_none() {
            // Whoever asks for something after the end is told so by the drop of the message.
            return;
        }
        match message {
            StageMessage::Wanted(Wanted { agent, life, want, reply }) => {
                let replaced = |(of, _): &&(u32, Instant)| *of == life;
                if let Some((_, since)) = self.taken_over.get(&agent).filter(replaced) {
                    let took = since.elapsed().as_secs_f64();
                    metrics::histogram!("orcapack_takeover_seconds").record(took);
                    self.taken_over.remove(&agent);
                }
                self.ports.insert(agent, reply);
                self.input(Input::Wants { agent, life, want }).await;
            }
            StageMessage::Done(op, done) => self.input(Input::Done(op, done)).await,
            StageMessage::ContextsBack(returned) => self.contexts_back(*returned).await,
            StageMessage::TimeOver => self.input(Input::TimeOver).await,
            StageMessage::EnvironmentLost(error) => self.lose(error),
            StageMessage::Lost => self.defect("an operation of the team panicked".to_owned()),
        }
    }

    /// An actor that is linked to the rollout's has ended.
    pub(crate) async fn died(&mut self, id: ActorId, reason: String) {
        if self.desk.died(id) {
            let window = self.context.settings.restart_window;
            self.desk_deaths.push_back(Instant::now());
            self.desk_deaths.retain(|at| at.elapsed() <= window);
            if self.desk_deaths.len() > self.context.settings.restarts_max as usize {
                return self.defect(format!("the context store died too often: {reason}"));
            }
            let record = self.conductor.record();
            match self.desk.send(record, self.parent.clone()).await {
                Ok(calls) => self.run_calls(calls),
                Err(error) => self.defect(refused(&error)),
            }
        } else if let Some((agent, life, _)) = self.actors.remove(&id) {
            self.input(Input::Died { agent, life, reason }).await;
            if !self.actors.values().any(|(other, ..)| *other == agent) {
                // It has ended: nobody takes over.
                self.taken_over.remove(&agent);
            }
        }
    }

    async fn input(&mut self, input: Input) {
        let effects = self.conductor.handle(self.started.elapsed(), input);
        self.carry_out(effects).await;
    }

    async fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Err(error) = self.carry_out_one(effect).await {
                return self.defect(refused(&error));
            }
        }
    }

    async fn carry_out_one(&mut self, effect: Effect) -> Result<(), SpawnErr> {
        match effect {
            Effect::Spawn { agent, life, role, entries } => {
                self.spawn(agent, life, role, entries).await?;
            }
            Effect::Reply { agent, entries } => {
                if let Some(port) = self.ports.remove(&agent) {
                    // Its actor may have died meanwhile; the next one is told everything.
                    let _ = port.send(entries);
                }
            }
            Effect::Call { op, role, mut request, time_left } => {
                let endpoint = self.context.models.of(role).clone();
                if endpoint.settings().kind.demonstrates() {
                    request.scripts.clone_from(&self.scripts);
                }
                let deadline = Instant::now() + time_left;
                self.work(op, async move {
                    Done::Called(Box::new(call(&endpoint, &request, deadline).await))
                });
            }
            Effect::Tool { op, agent, role: Role::Explorer, tool, time_left } => {
                let hands = self.explorer(agent);
                self.work(op, async move { Done::Acted(hands.tool(&tool, time_left).await) });
            }
            Effect::Tool { op, agent, role: _, tool, time_left } => {
                let hands = self.coder(agent);
                self.work(op, async move { Done::Acted(hands.tool(&tool, time_left).await) });
            }
            Effect::Change { op, agent, change, time_left } => {
                let hands = self.coder(agent);
                self.work(op, async move { Done::Acted(hands.change(&change, time_left).await) });
            }
            Effect::Look { op, snapshot, bootstrap } => {
                let (shell, limits) = (self.shell(), self.limits.clone());
                let chars_max = self.context.settings.bootstrap_chars_max;
                self.work(op, async move {
                    let limits = snapshot.then_some(&limits);
                    Done::Looked(look(&shell, limits, &bootstrap, chars_max).await)
                });
            }
            Effect::Resolve { op, refs, tasks, for_task } => {
                self.ask_contexts(op, ContextRequest::Resolve { refs, tasks, for_task }).await?;
            }
            Effect::Store { op, contexts, from } => {
                self.ask_contexts(op, ContextRequest::Store { contexts, from }).await?;
            }
            Effect::End { run, lost } => self.end(Worked { run, lost }),
        }
        Ok(())
    }

    /// Does an operation beside the actor, and tells it the result.
    fn work(&mut self, op: OpId, work: impl Future<Output = Done> + Send + 'static) {
        let (rollout, alarm) = (self.rollout.clone(), self.alarm());
        self.tasks.spawn(async move {
            let done = work.await;
            alarm.disarm();
            rollout(StageMessage::Done(op, Box::new(done)));
        });
    }

    fn alarm(&self) -> Alarm<impl FnOnce() + Send + use<>> {
        let rollout = self.rollout.clone();
        Alarm::new(move || {
            let _ = rollout(StageMessage::Lost);
        })
    }

    async fn spawn(
        &mut self,
        agent: AgentId,
        life: u32,
        role: Role,
        entries: Vec<Arc<Entry>>,
    ) -> Result<(), SpawnErr> {
        let rollout = self.rollout.clone();
        let arguments = MemberArguments {
            agent,
            life,
            settings: self.context.settings.clone(),
            entries,
            started: self.started,
            rollout: Box::new(move |wanted| rollout(StageMessage::Wanted(wanted))),
        };
        let parent = self.parent.clone();
        let cell = match role {
            Role::Orchestrator => {
                let member = Member::<OrchestratorAction>::default();
                Actor::spawn_linked(None, member, arguments, parent).await?.0.get_cell()
            }
            Role::Explorer => {
                let member = Member::<ExplorerAction>::default();
                Actor::spawn_linked(None, member, arguments, parent).await?.0.get_cell()
            }
            Role::Coder => {
                let member = Member::<CoderAction>::default();
                Actor::spawn_linked(None, member, arguments, parent).await?.0.get_cell()
            }
        };
        self.actors.insert(cell.get_id(), (agent, life, cell));
        if life > 1 {
            self.taken_over.insert(agent, (life, Instant::now()));
        }
        Ok(())
    }

    fn explorer(&mut self, agent: AgentId) -> ExplorerHands {
        let (shell, settings) = self.hands_of(agent);
        let new = || ExplorerHands::new(shell, settings, Notes::default());
        self.explorers.entry(agent).or_insert_with(new).clone()
    }

    fn coder(&mut self, agent: AgentId) -> CoderHands {
        let (shell, settings) = self.hands_of(agent);
        let new = || CoderHands::new(shell, settings, Notes::default());
        self.coders.entry(agent).or_insert_with(new).clone()
    }

    fn hands_of(&self, agent: AgentId) -> (Arc<dyn Shell>, HandsSettings) {
        let settings = HandsSettings {
            user: self.user.clone(),
            cwd: self.workbench.workdir().to_owned(),
            scratch: hands::scratch(&format!("{}-{}", self.step, agent.0)),
            observation_chars_max: self.context.settings.observation_chars_max,
            changes: self.changes.clone(),
        };
        (Arc::new(self.workbench.clone()), settings)
    }

    /// For looks, which nobody's actions are.
    fn shell(&self) -> AgentShell {
        AgentShell {
            shell: Arc::new(self.workbench.clone()),
            user: self.user.clone(),
            cwd: self.workbench.workdir().to_owned(),
            writable_only: None,
            env: Default::default(),
        }
    }

    async fn ask_contexts(&mut self, op: OpId, request: ContextRequest) -> Result<(), SpawnErr> {
        let record = self.conductor.record();
        let calls = self.desk.ask(op, request, record, self.parent.clone()).await?;
        self.run_calls(calls);
        Ok(())
    }

    async fn contexts_back(&mut self, Returned { id, request, answer }: Returned<OpId>) {
        // First into the record, from which a new store would be made.
        let lost = match answer {
            Some(answer) => {
                let done = match answer {
                    ContextAnswer::Resolved(result) => Done::Resolved(result),
                    ContextAnswer::Stored { stored, refused } => Done::Stored { stored, refused },
                };
                self.input(Input::Done(id, Box::new(done))).await;
                None
            }
            None => Some(request),
        };
        let record = self.conductor.record();
        match self.desk.returned(id, lost, record, self.parent.clone()).await {
            Ok(calls) => self.run_calls(calls),
            Err(error) => self.defect(refused(&error)),
        }
    }

    fn run_calls(&mut self, calls: Vec<impl Future<Output = Returned<OpId>> + Send + 'static>) {
        for call in calls {
            let (rollout, alarm) = (self.rollout.clone(), self.alarm());
            self.tasks.spawn(async move {
                let returned = call.await;
                alarm.disarm();
                rollout(StageMessage::ContextsBack(Box::new(returned)));
            });
        }
    }

    fn defect(&mut self, message: String) {
        self.lose(SandboxError::new(FailureClass::Internal, message));
    }

    fn lose(&mut self, error: SandboxError) {
        let effects = self.conductor.lose(self.started.elapsed(), error);
        for effect in effects {
            if let Effect::End { run, lost } = effect {
                self.end(Worked { run, lost });
            }
        }
    }

    fn end(&mut self, worked: Worked) {
        self.tasks.abort_all();
        self.ports.clear();
        self.actors.drain().for_each(|(_, (.., cell))| cell.kill());
        self.desk.close();
        if let Some(reply) = self.reply.take() {
            // The attempt may have been given up meanwhile.
            let _ = reply.send(worked);
        }
    }
}

fn refused(error: &SpawnErr) -> String {
    format!("the actor system refuses: {error}")
}

async fn call(
    endpoint: &Endpoint,
    request: &Request,
    deadline: Instant,
) -> Result<(Answer, CallFacts), CallFailure> {
    match endpoint.ask(request, deadline).await {
        Ok(Called { answer, facts }) => Ok((answer, facts)),
        Err(CallError { error, why, tries }) => Err(match (error.kind, why) {
            (ModelErrorKind::ContextOverflow, _) => CallFailure::ContextOverflow,
            // Under way since its first try: slow, but nothing that it has failed in.
            (ModelErrorKind::TimedOut, GaveUp::Deadline) if tries == 1 => CallFailure::TimeOver,
            _ => CallFailure::Endpoint(CallError { error, why, tries }.to_string()),
        }),
    }
}

/// `limits` are part of a snapshot, where one is wanted.
async fn look(
    shell: &AgentShell,
    limits: Option<&Limits>,
    paths: &[Bootstrap],
    chars_max: usize,
) -> Result<Looked, SandboxError> {
    let snapshot = match limits {
        Some(limits) => Some(snapshot::take(shell, limits).await?),
        None => None,
    };
    let bootstrap = match paths {
        [] => String::new(),
        paths => bootstrap::contents(shell, paths, chars_max, LOOK_TIME).await?,
    };
    Ok(Looked { snapshot, bootstrap })
}
