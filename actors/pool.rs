//! The environment pool: starts environments as fast as the engine really can, and sees every one
//! of them gone.
//!
//! It supervises one [environment actor](crate::environment) per live sandbox. A user asks for a
//! [`StartPermit`] (the queue), then for the image, then for the environment, and drops the permit.
//! The queue is bounded by the number of attempts that the scheduler lets run.
//!
//! Holds AC-6: every sandbox that was created is removed by its actor, or by the pool after its
//! actor's death; every permit that went out comes back by its drop.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use orcapack_tasks::outcome::FailureClass;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::task::JoinSet;

use crate::clock::now;
use crate::environment::{Environment, EnvironmentActor, Reply};
use crate::phase::Board;
use crate::sandbox::{Driver, Image, ImageSpec, Sandbox, SandboxError, SandboxSpec};
use crate::start_gate::{Admission, StartGate, StartGateConfig};

/// Its name on the board.
const ENGINE: &str = "engine";

pub enum PoolMessage {
    Permit(RpcReplyPort<StartPermit>),
    PermitReturned,
    Image(Box<ImageSpec>, Reply<Image>),
    Create(Box<(Image, SandboxSpec)>, Reply<Environment>),
    Created(Box<Created>),
    ImageDone {
        class: Option<FailureClass>,
    },
    /// A sandbox whose actor died is removed.
    RemovalDone,
    /// The rate or the breaker's cool-down may let something through now.
    LookAgain,
    Probed(Result<(), SandboxError>),
    /// Answered when no environment is alive and no start is under way.
    WaitIdle(RpcReplyPort<()>),
}

pub struct Created {
    result: Result<Arc<dyn Sandbox>, SandboxError>,
    workdir: String,
    reply: Reply<Environment>,
}

/// The right to use the engine for one start. It comes back when it is dropped.
#[derive(Debug)]
pub struct StartPermit {
    pool: ActorRef<PoolMessage>,
}

impl Drop for StartPermit {
    fn drop(&mut self) {
        let _ = self.pool.cast(PoolMessage::PermitReturned);
    }
}

/// A pool's address, with its calls.
#[derive(Clone, Debug)]
pub struct Pool(ActorRef<PoolMessage>);

impl Pool {
    /// Starts a pool under `supervisor`.
    ///
    /// # Errors
    /// When the actor system refuses.
    pub async fn spawn(
        driver: Arc<dyn Driver>,
        gate: StartGateConfig,
        board: Arc<Board>,
        supervisor: ractor::ActorCell,
    ) -> Result<Self, ractor::SpawnErr> {
        let (actor, _) =
            Actor::spawn_linked(None, PoolActor, (driver, gate, board), supervisor).await?;
        Ok(Self(actor))
    }

    /// Waits for the right to start; for ever, if the engine stays away. Cancel it by dropping the
    /// future.
    pub async fn permit(&self) -> Result<StartPermit, SandboxError> {
        match self.0.call(PoolMessage::Permit, None).await {
            Ok(CallResult::Success(permit)) => Ok(permit),
            _ => Err(pool_gone()),
        }
    }

    /// See [`Driver::image`]. Needs a permit: builds load the engine as much as starts do.
    pub async fn image(&self, _: &StartPermit, spec: ImageSpec) -> Result<Image, SandboxError> {
        let call = self.0.call(|reply| PoolMessage::Image(Box::new(spec), reply), None).await;
        answered(call)
    }

    /// See [`Driver::create`].
    pub async fn create(
        &self,
        _: &StartPermit,
        image: Image,
        spec: SandboxSpec,
    ) -> Result<Environment, SandboxError> {
        let request = Box::new((image, spec));
        answered(self.0.call(|reply| PoolMessage::Create(request, reply), None).await)
    }

    /// Resolves when every environment is gone and every start has ended, or after `limit`: then it
    /// is `false`.
    pub async fn wait_idle(&self, limit: Duration) -> bool {
        matches!(self.0.call(PoolMessage::WaitIdle, Some(limit)).await, Ok(CallResult::Success(())))
    }

    pub fn cell(&self) -> ractor::ActorCell {
        self.0.get_cell()
    }
}

fn answered<T>(
    call: Result<CallResult<Result<T, SandboxError>>, ractor::MessagingErr<PoolMessage>>,
) -> Result<T, SandboxError> {
    match call {
        Ok(CallResult::Success(result)) => result,
        _ => Err(pool_gone()),
    }
}

fn pool_gone() -> SandboxError {
    SandboxError::new(FailureClass::Internal, "the environment pool has ended")
}

struct PoolActor;

struct PoolState {
    driver: Arc<dyn Driver>,
    board: Arc<Board>,
    gate: StartGate,
    queue: VecDeque<RpcReplyPort<StartPermit>>,
    live: HashMap<ActorId, Live>,
    /// Image builds, creations, removals after an actor's death, probes, timers.
    work: JoinSet<()>,
    /// A `LookAgain` or a probe is on its way.
    wake_up_set: bool,
    waiting_for_idle: Vec<RpcReplyPort<()>>,
    removals: usize,
}

struct Live {
    sandbox: Arc<dyn Sandbox>,
    removed: Arc<AtomicBool>,
}

impl Actor for PoolActor {
    type Msg = PoolMessage;
    type State = PoolState;
    type Arguments = (Arc<dyn Driver>, StartGateConfig, Arc<Board>);

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (driver, gate, board): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(PoolState {
            driver,
            board,
            gate: StartGate::new(gate),
            queue: VecDeque::new(),
            live: HashMap::new(),
            work: JoinSet::new(),
            wake_up_set: false,
            waiting_for_idle: Vec::new(),
            removals: 0,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while state.work.try_join_next().is_some() {}
        match message {
            PoolMessage::Permit(reply) => state.queue.push_back(reply),
            PoolMessage::PermitReturned => state.gate.ended(),
            PoolMessage::RemovalDone => state.removals -= 1,
            PoolMessage::Image(spec, reply) => state.build(&myself, *spec, reply),
            PoolMessage::ImageDone { class } => state.book(class),
            PoolMessage::Create(request, reply) => state.create(&myself, *request, reply),
            PoolMessage::Created(created) => state.created(&myself, *created).await?,
            PoolMessage::LookAgain => state.wake_up_set = false,
            PoolMessage::Probed(answer) => {
                state.wake_up_set = false;
                state.probed(answer);
            }
            PoolMessage::WaitIdle(reply) => state.waiting_for_idle.push(reply),
        }
        state.let_through(&myself);
        state.tell_idle();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorTerminated(cell, ..)
        | SupervisionEvent::ActorFailed(cell, _) = event
        {
            state.environment_ended(&myself, cell.get_id());
            state.tell_idle();
        }
        Ok(())
    }
}

impl PoolState {
    fn build(&mut self, myself: &ActorRef<PoolMessage>, spec: ImageSpec, reply: Reply<Image>) {
        let (driver, pool) = (self.driver.clone(), myself.clone());
        self.work.spawn(async move {
            let result = driver.image(&spec).await;
            let class = result.as_ref().err().map(|error| error.class);
            let _ = pool.cast(PoolMessage::ImageDone { class });
            drop(reply.send(result));
        });
    }

    fn create(
        &mut self,
        myself: &ActorRef<PoolMessage>,
        (image, spec): (Image, SandboxSpec),
        reply: Reply<Environment>,
    ) {
        let (driver, pool) = (self.driver.clone(), myself.clone());
        self.work.spawn(async move {
            let result = driver.create(&image, &spec).await;
            let workdir = spec.workdir.unwrap_or(image.workdir);
            let created = Created { result, workdir, reply };
            // Should the pool have ended, the sandbox in the message goes with it: the sweep finds
            // it by its labels.
            let _ = pool.cast(PoolMessage::Created(Box::new(created)));
        });
    }

    async fn created(
        &mut self,
        myself: &ActorRef<PoolMessage>,
        Created { result, workdir, reply }: Created,
    ) -> Result<(), ActorProcessingErr> {
        self.book(result.as_ref().err().map(|error| error.class));
        let sandbox = match result {
            Ok(sandbox) => sandbox,
            Err(error) => {
                drop(reply.send(Err(error)));
                return Ok(());
            }
        };
        let removed = Arc::new(AtomicBool::new(false));
        let arguments = (sandbox.clone(), removed.clone());
        let (actor, _) =
            Actor::spawn_linked(None, EnvironmentActor, arguments, myself.get_cell()).await?;
        self.live.insert(actor.get_id(), Live { sandbox, removed });
        self.board.environment_up();
        // When the caller has gone, the handle inside the refused answer is dropped, which removes
        // the environment.
        drop(reply.send(Ok(Environment::new(actor, workdir))));
        Ok(())
    }

    /// Tells the breaker how the engine did: only its own failures count, not a task's bad image.
    fn book(&mut self, class: Option<FailureClass>) {
        match class {
            None => self.gate.succeeded(),
            Some(FailureClass::Daemon | FailureClass::StartTimeout) => {
                self.gate.engine_failed(now());
                metrics::counter!("orcapack_engine_failures_total").increment(1);
            }
            Some(_) => {}
        }
    }

    fn environment_ended(&mut self, myself: &ActorRef<PoolMessage>, id: ActorId) {
        let Some(live) = self.live.remove(&id) else { return };
        self.board.environment_down();
        if live.removed.load(Ordering::Acquire) {
            return;
        }
        let pool = myself.clone();
        self.removals += 1;
        self.work.spawn(async move {
            if let Err(error) = live.sandbox.remove().await {
                tracing::warn!(sandbox = live.sandbox.id(), %error, "left to the reaper");
            }
            let _ = pool.cast(PoolMessage::RemovalDone);
        });
    }

    fn probed(&mut self, answer: Result<(), SandboxError>) {
        self.gate.probed(answer.is_ok(), now());
        match answer {
            Ok(()) => self.board.go_on(ENGINE),
            Err(error) => {
                self.board.wait_for(ENGINE, format!("the {} engine: {error}", self.driver.name()));
            }
        }
    }

    /// Grants as many permits as the gate allows, and sees to it that somebody looks again when it
    /// does not.
    fn let_through(&mut self, myself: &ActorRef<PoolMessage>) {
        metrics::gauge!("orcapack_start_queue").set(self.queue.len() as f64);
        while !self.queue.is_empty() {
            match self.gate.try_start(now()) {
                Admission::Go => {
                    let Some(reply) = self.queue.pop_front() else { return };
                    // A caller that has gone drops the permit, which comes back as a message.
                    drop(reply.send(StartPermit { pool: myself.clone() }));
                }
                Admission::WaitForEnd => return,
                Admission::WaitUntil(at) => return self.wake_up(myself, at, false),
                Admission::ProbeAt(at) => return self.wake_up(myself, at, true),
            }
        }
    }

    fn wake_up(&mut self, myself: &ActorRef<PoolMessage>, at: Instant, probe: bool) {
        if std::mem::replace(&mut self.wake_up_set, true) {
            return;
        }
        if probe && !self.board.waits_for(ENGINE) {
            let what = format!("the {} engine, which failed several starts", self.driver.name());
            self.board.wait_for(ENGINE, what);
        }
        let (driver, pool) = (self.driver.clone(), myself.clone());
        self.work.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            let message = if probe {
                PoolMessage::Probed(driver.ping().await)
            } else {
                PoolMessage::LookAgain
            };
            let _ = pool.cast(message);
        });
    }

    fn tell_idle(&mut self) {
        if self.live.is_empty() && self.gate.under_way() == 0 && self.removals == 0 {
            for reply in self.waiting_for_idle.drain(..) {
                drop(reply.send(()));
            }
        }
    }
}
