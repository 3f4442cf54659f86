//! One attempt of one task, from the queue to the removal of its environment.
//!
//! Straight-line code: what can go wrong is an error of the environment, and every such error ends
//! the attempt in [`Outcome::InfrastructureFailure`], whatever had been reached (AC-2). The
//! decisions themselves (rewards, retries) are pure functions elsewhere: `orcapack_tasks::grading`
//! and the ledger.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orcapack_tasks::grading::{self, Scheme};
use orcapack_tasks::outcome::{FailureClass, Outcome};
use orcapack_tasks::task::{EnvironmentSpec, Healthcheck, Step, Task, VerifierMode};
use ractor::DerivedActorRef;
use tokio::sync::Semaphore;

use crate::agent::{self, AgentRun, Solver};
use crate::clock::now;
use crate::environment::Environment;
use crate::model::CallKey;
use crate::model::scripts::Scripts;
use crate::phase::{Board, Phase, PhaseClock, PhaseTimes};
use crate::pool::Pool;
use crate::rollout::Team;
use crate::sandbox::{ExecRequest, ImageSpec, Labels, Limits, SandboxError, SandboxSpec};
use crate::team::figures;
use crate::team::protocol::Assigned;
use crate::team::record::TeamRun;
use crate::team::stage::{TeamContext, Worked};
use crate::verifier::{self, Baseline};

/// What every attempt of a run shares.
#[derive(Debug)]
pub struct Context {
    pub pool: Pool,
    pub board: Arc<Board>,
    /// Room for verifiers. Tests are work for the processor, and have time limits: more of them at
    /// one time than a machine has processors for end no sooner, and some of them fail for no fault
    /// of the agent's.
    pub verifiers: Semaphore,
    /// Waited before the agent starts: stands in for a model's thinking time in load tests.
    pub think: Duration,
    /// For tasks that set no limits of their own.
    pub limits: Limits,
    pub start_timeout: Duration,
    /// Multiplies every time limit of a task.
    pub timeout_multiplier: f64,
    /// Over the tasks' own agent and verifier time limits.
    pub agent_timeout: Option<Duration>,
    pub verifier_timeout: Option<Duration>,
    pub scheme: Scheme,
    /// What agent teams need, on a node that has models.
    pub team: Option<Arc<TeamContext>>,
    /// Who is told when an attempt's environment is up, if anyone wants to know.
    pub started: Option<DerivedActorRef<Started>>,
    /// Labels of everything that this process creates.
    pub run: String,
    pub node: String,
    pub incarnation: u64,
}

/// The environment of the attempt with this fence is up.
#[derive(Clone, Copy, Debug)]
pub struct Started(pub u64);

/// The right and duty to run one attempt.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub rollout: u32,
    /// 1 for the first.
    pub attempt: u32,
    /// Grows with every assignment of a run; a result with an older one is refused (AC-3).
    pub fence: u64,
    pub task: Arc<Task>,
    /// Who solves it.
    pub agent: Solver,
}

/// How an attempt ended, with everything that is kept of it.
#[derive(Debug)]
pub struct AttemptReport {
    pub assignment: Assignment,
    pub outcome: Outcome,
    /// For the user: why the reward is not what they may have hoped for.
    pub note: Option<String>,
    pub phases: PhaseTimes,
    pub started: SystemTime,
    pub wall: Duration,
    pub steps: Vec<StepRecord>,
    /// Of a step that the infrastructure cut short: what had been done, and paid for, by then.
    pub unfinished: Option<Unfinished>,
}

/// What happened in one step of the task.
#[derive(Debug)]
pub struct StepRecord {
    pub agent: AgentRun,
    pub verifier: verifier::Record,
    pub started: SystemTime,
}

#[derive(Debug)]
pub struct Unfinished {
    pub run: Box<TeamRun>,
    pub started: SystemTime,
}

/// A team's work on one step of the task, 0 for the first.
#[derive(Clone, Copy, Debug)]
pub struct TeamStep<'a> {
    pub step: usize,
    pub started: SystemTime,
    pub run: &'a TeamRun,
}

impl AttemptReport {
    /// What teams did, the unfinished work included.
    pub fn teams(&self) -> impl Iterator<Item = TeamStep<'_>> {
        let whole =
            self.steps.iter().enumerate().filter_map(|(step, record)| match &record.agent {
                AgentRun::Team(run) => Some(TeamStep { step, started: record.started, run }),
                AgentRun::Nothing | AgentRun::Script { .. } => None,
            });
        let step = self.steps.len();
        let rest = self.unfinished.iter();
        whole.chain(rest.map(move |Unfinished { run, started }| TeamStep {
            step,
            started: *started,
            run,
        }))
    }
}

/// Runs an attempt to its end. Never fails: a failure is an outcome.
pub(crate) async fn run(context: &Context, assignment: Assignment, team: &Team) -> AttemptReport {
    let (started, clock_start) = (SystemTime::now(), now());
    let clock = PhaseClock::start(context.board.clone(), Phase::Queue, clock_start);
    let mut attempt = Attempt {
        context,
        assignment: &assignment,
        team,
        clock,
        steps: Vec::new(),
        unfinished: None,
    };
    let outcome = attempt.run().await;
    let end = now();
    let phases = attempt.clock.read(end);
    let Attempt { steps, unfinished, .. } = attempt;
    let (outcome, note) = match outcome {
        Ok((outcome, note)) => (outcome, note),
        Err(SandboxError { class, message }) => {
            (Outcome::InfrastructureFailure { class, message }, None)
        }
    };
    let wall = end - clock_start;
    AttemptReport { assignment, outcome, note, phases, started, wall, steps, unfinished }
}

/// An environment that has been made ready for an agent.
struct Prepared {
    environment: Environment,
    baseline: Baseline,
}

struct Attempt<'a> {
    context: &'a Context,
    assignment: &'a Assignment,
    team: &'a Team,
    clock: PhaseClock,
    steps: Vec<StepRecord>,
    unfinished: Option<Unfinished>,
}

impl Attempt<'_> {
    async fn run(&mut self) -> Result<(Outcome, Option<String>), SandboxError> {
        let task = self.assignment.task.clone();
        let prepared = self.start_environment("agent", &task.environment).await?;
        if let Some(started) = &self.context.started {
            // Who has ended needs not know.
            let _ = started.cast(Started(self.assignment.fence));
        }
        let mut slot = Some(prepared);
        let result = self.steps(&task, &mut slot).await;
        self.clock.enter(Phase::Cleanup, now());
        if let Some(prepared) = slot {
            remove(prepared.environment).await;
        }
        result
    }

    /// All steps of the task, as far as their rewards allow. `slot` holds the agent's environment,
    /// until a separate verifier of the last step needs it gone.
    async fn steps(
        &mut self,
        task: &Task,
        slot: &mut Option<Prepared>,
    ) -> Result<(Outcome, Option<String>), SandboxError> {
        let mut rewards = Vec::new();
        let mut failure = None;
        let mut notes = Vec::new();
        for (index, step) in task.steps.iter().enumerate() {
            let last = index + 1 == task.steps.len();
            let Some(prepared) = slot.as_ref() else { break };
            let (started, run) = self.solve(task, step, &prepared.environment).await?;
            failure = failure.or(run.failure());
            let record = self.verify(task, step, slot, last).await?;
            notes.extend([run.note(), record.verdict.note.clone()].into_iter().flatten());
            let go_on = step.min_reward.is_none_or(|least| record.verdict.reward >= least);
            rewards.push(record.verdict.reward);
            self.steps.push(StepRecord { agent: run, verifier: record, started });
            if !go_on {
                notes.push(format!("stopped after step `{}`, below its min_reward", step.name));
                break;
            }
        }
        let reward = grading::over_steps(task.reward_strategy, &rewards, task.steps.len());
        let outcome = match failure {
            Some(failure) => Outcome::AgentFailure { failure, reward },
            None => Outcome::Graded { reward },
        };
        Ok((outcome, (!notes.is_empty()).then(|| notes.join("; "))))
    }

    async fn solve(
        &mut self,
        task: &Task,
        step: &Step,
        environment: &Environment,
    ) -> Result<(SystemTime, AgentRun), SandboxError> {
        self.clock.enter(Phase::Create, now());
        if !step.workdir_files.is_empty() {
            set_up_step(step, environment, self.scaled(task.environment.build_timeout)).await?;
        }
        let checks = [task.environment.healthcheck.as_ref(), step.healthcheck.as_ref()];
        for check in checks.into_iter().flatten() {
            wait_healthy(check, environment).await?;
        }
        if !self.context.think.is_zero() {
            self.clock.enter(Phase::Model, now());
            tokio::select! {
                biased;
                () = tokio::time::sleep(self.context.think) => {}
                error = environment.lost() => return Err(error),
            }
        }
        self.clock.enter(Phase::Exec, now());
        let started = SystemTime::now();
        let time_limit = self.context.agent_timeout.unwrap_or(step.agent.timeout);
        let time_limit = self.scaled(time_limit);
        let run = match &self.assignment.agent {
            Solver::Trial(trial) => agent::run(trial, task, step, environment, time_limit).await?,
            Solver::Team => self.delegate(task, step, environment, started, time_limit).await?,
        };
        Ok((started, run))
    }

    /// Lets the team solve a step.
    async fn delegate(
        &mut self,
        task: &Task,
        step: &Step,
        environment: &Environment,
        started: SystemTime,
        limit: Duration,
    ) -> Result<AgentRun, SandboxError> {
        let Assignment { rollout, attempt, .. } = *self.assignment;
        let key = CallKey { rollout, attempt, step: self.steps.len() as u32, agent: 0, turn: 0 };
        let assigned = Assigned { instruction: step.instruction.as_str().into(), limit, key };
        self.clock.enter(Phase::Model, now());
        let began = now();
        let (workbench, user) = (environment.workbench(), step.agent.user.clone());
        let limits = self.limits(&task.environment);
        let scripts = self.scripts(task, step)?;
        let solving = self.team.solve(assigned, workbench, user, limits, scripts);
        let Worked { run, lost } = solving.await?;
        let exec = began.elapsed().saturating_sub(figures::waiting(&run.record));
        self.clock.shift(Phase::Model, Phase::Exec, exec, now());
        match lost {
            None => Ok(AgentRun::Team(run)),
            Some(error) => {
                self.unfinished = Some(Unfinished { run, started });
                Err(error)
            }
        }
    }

    /// The task's own, where the team has a demonstrator; nobody else is to know them.
    fn scripts(&self, task: &Task, step: &Step) -> Result<Option<Arc<Scripts>>, SandboxError> {
        let orchestrator = self.context.team.as_ref().map(|team| &team.models.orchestrator);
        if !orchestrator.is_some_and(|endpoint| endpoint.settings().kind.demonstrates()) {
            return Ok(None);
        }
        let scripts = Scripts::of(task, step).map_err(|error| agent::unreadable(&error))?;
        Ok(Some(Arc::new(scripts)))
    }

    async fn verify(
        &mut self,
        task: &Task,
        step: &Step,
        slot: &mut Option<Prepared>,
        last: bool,
    ) -> Result<verifier::Record, SandboxError> {
        let spec = &step.verifier;
        let limit = self.scaled(self.context.verifier_timeout.unwrap_or(spec.timeout));
        let scheme = self.context.scheme;
        self.clock.enter(Phase::Queue, now());
        let _room = self.context.verifiers.acquire().await.map_err(|_| closed())?;
        self.clock.enter(Phase::Grade, now());
        let lost = || SandboxError::new(FailureClass::Internal, "no environment to verify in");
        let Prepared { environment, baseline } = slot.as_ref().ok_or_else(lost)?;
        match &spec.mode {
            VerifierMode::Shared => {
                if !task.keep_processes {
                    environment.stop_processes().await?;
                }
                let record = verifier::run(environment, baseline, spec, limit, scheme).await?;
                if !last {
                    verifier::hide(environment).await?;
                }
                Ok(record)
            }
            VerifierMode::Separate(own) => {
                let artifacts = verifier::collect(environment, step).await?;
                if last && let Some(prepared) = slot.take() {
                    self.clock.enter(Phase::Cleanup, now());
                    remove(prepared.environment).await;
                }
                let own = own.as_deref().unwrap_or(&task.environment);
                let fresh = self.start_environment("verifier", own).await?;
                self.clock.enter(Phase::Grade, now());
                let result = async {
                    verifier::put_artifacts(&fresh.environment, artifacts).await?;
                    verifier::run(&fresh.environment, &fresh.baseline, spec, limit, scheme).await
                }
                .await;
                self.clock.enter(Phase::Cleanup, now());
                remove(fresh.environment).await;
                result
            }
        }
    }

    /// Queue, image, create: the environment is ready for commands when this returns.
    async fn start_environment(
        &mut self,
        part: &str,
        spec: &EnvironmentSpec,
    ) -> Result<Prepared, SandboxError> {
        let pool = &self.context.pool;
        self.clock.enter(Phase::Queue, now());
        let permit = pool.permit().await?;
        self.clock.enter(Phase::Image, now());
        let build_timeout = self.scaled(spec.build_timeout);
        let image = ImageSpec { source: spec.image.clone(), build_timeout };
        let image = pool.image(&permit, image).await?;
        self.clock.enter(Phase::Create, now());
        let sandbox = self.sandbox_spec(part, spec);
        let environment = pool.create(&permit, image, sandbox).await?;
        drop(permit);
        match verifier::prepare(&environment).await {
            Ok(baseline) => Ok(Prepared { environment, baseline }),
            Err(error) => {
                remove(environment).await;
                Err(error)
            }
        }
    }

    fn sandbox_spec(&self, part: &str, spec: &EnvironmentSpec) -> SandboxSpec {
        SandboxSpec {
            labels: Labels {
                run: self.context.run.clone(),
                node: self.context.node.clone(),
                incarnation: self.context.incarnation,
                attempt: format!("{}.{}.{part}", self.assignment.rollout, self.assignment.attempt),
                deadline_unix_sec: self.deadline_unix_sec(),
            },
            limits: self.limits(spec),
            network: spec.network,
            env: spec.env.clone(),
            workdir: spec.workdir.clone(),
            start_timeout: self.context.start_timeout,
        }
    }

    fn limits(&self, spec: &EnvironmentSpec) -> Limits {
        let defaults = &self.context.limits;
        let megabytes = |mb: Option<u64>, default| mb.map_or(default, |mb| mb << 20);
        Limits {
            cpus: spec.cpus.unwrap_or(defaults.cpus),
            memory_bytes: megabytes(spec.memory_mb, defaults.memory_bytes),
            pids: defaults.pids,
            storage_bytes: megabytes(spec.storage_mb, defaults.storage_bytes),
        }
    }

    /// After this nobody of ours can still want the environment: everything it may take, twice, and
    /// an hour.
    fn deadline_unix_sec(&self) -> u64 {
        let steps = self.assignment.task.steps.iter();
        let work: Duration = steps.map(|step| step.agent.timeout + step.verifier.timeout).sum();
        let limit = self.scaled(work) * 2 + self.context.think + Duration::from_secs(3600);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (unix + limit).as_secs()
    }

    fn scaled(&self, limit: Duration) -> Duration {
        limit.mul_f64(self.context.timeout_multiplier)
    }
}

/// Nobody closes the semaphore.
fn closed() -> SandboxError {
    SandboxError::new(FailureClass::Internal, "the room for verifiers was closed")
}

async fn set_up_step(
    step: &Step,
    environment: &Environment,
    time_limit: Duration,
) -> Result<(), SandboxError> {
    let files = agent::task_files(&step.workdir_files)?;
    environment.put(environment.workdir(), files).await?;
    if step.workdir_files.get("setup.sh").is_none() {
        return Ok(());
    }
    let output = environment.exec(ExecRequest::new(["bash", "setup.sh"], time_limit)).await?;
    if output.exit.success() {
        return Ok(());
    }
    let message = format!("setup.sh of step `{}`: {}: {}", step.name, output.exit, output.stderr);
    Err(SandboxError::new(FailureClass::StartTimeout, message))
}

async fn wait_healthy(check: &Healthcheck, environment: &Environment) -> Result<(), SandboxError> {
    let begin = tokio::time::Instant::now();
    let mut failures = 0;
    loop {
        let request = ExecRequest::new(["bash", "-c", &check.command], check.timeout);
        let output = environment.exec(request).await?;
        if output.exit.success() {
            return Ok(());
        }
        let starting = begin.elapsed() < check.start_period;
        failures += u32::from(!starting);
        if failures >= check.retries.max(1) {
            let message = format!("health check `{}`: {}", check.command, output.exit);
            return Err(SandboxError::new(FailureClass::StartTimeout, message));
        }
        tokio::time::sleep(if starting { check.start_interval } else { check.interval }).await;
    }
}

/// A removal that fails does not change how the attempt ended: the reaper finds what is left by its
/// labels.
async fn remove(environment: Environment) {
    if let Err(error) = environment.remove().await {
        tracing::warn!(%error, "an environment is left to the reaper");
    }
}
