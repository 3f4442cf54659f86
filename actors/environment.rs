//! The environment actor: owns one live sandbox, from its creation to its removal.
//!
//! Spawned by the [pool](crate::pool), which supervises it: whatever way this actor ends, its
//! sandbox is removed. Its user holds an [`Environment`], which asks for the removal when it is
//! dropped, and hands out a [`Workbench`] to everyone who is to work in it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orcapack_tasks::outcome::FailureClass;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::task::JoinSet;

use crate::sandbox::{
    ExecId, ExecOutput, ExecProgress, ExecRequest, Fetched, Sandbox, SandboxError,
};

/// Where a call's answer goes. Dropped without an answer, it resolves the caller at once.
pub(crate) type Reply<T> = RpcReplyPort<Result<T, SandboxError>>;

pub(crate) enum EnvironmentMessage {
    Exec(Box<ExecRequest>, Reply<ExecOutput>),
    Spawn(Box<ExecRequest>, Reply<ExecId>),
    Poll(ExecId, Reply<ExecProgress>),
    Kill(ExecId, Reply<()>),
    Put {
        dir: String,
        archive: Vec<u8>,
        reply: Reply<()>,
    },
    Get {
        path: String,
        bytes_max: u64,
        reply: Reply<Fetched>,
    },
    StopProcesses(Reply<()>),
    /// Resolves when the sandbox has died by itself.
    WatchLoss(RpcReplyPort<SandboxError>),
    /// Removes the sandbox and ends the actor.
    Remove(Option<Reply<()>>),
}

pub(crate) struct EnvironmentActor;

pub(crate) struct EnvironmentState {
    sandbox: Arc<dyn Sandbox>,
    /// Read by the pool after this actor's end: the sandbox needs no further removal.
    removed: Arc<AtomicBool>,
    /// Calls under way. Dropped with the actor, which drops their replies and so resolves their
    /// callers.
    calls: JoinSet<()>,
}

impl Actor for EnvironmentActor {
    type Msg = EnvironmentMessage;
    type State = EnvironmentState;
    type Arguments = (Arc<dyn Sandbox>, Arc<AtomicBool>);

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (sandbox, removed): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(EnvironmentState { sandbox, removed, calls: JoinSet::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while state.calls.try_join_next().is_some() {}
        let sandbox = state.sandbox.clone();
        // A failed send means that the caller has gone; the answer is then nobody's.
        match message {
            EnvironmentMessage::Exec(request, reply) => {
                state.calls.spawn(async move { drop(reply.send(sandbox.exec(&request).await)) });
            }
            EnvironmentMessage::Spawn(request, reply) => {
                state.calls.spawn(async move { drop(reply.send(sandbox.spawn(&request).await)) });
            }
            EnvironmentMessage::Poll(id, reply) => {
                state.calls.spawn(async move { drop(reply.send(sandbox.poll(id).await)) });
            }
            EnvironmentMessage::Kill(id, reply) => {
                state.calls.spawn(async move { drop(reply.send(sandbox.kill(id).await)) });
            }
            EnvironmentMessage::Put { dir, archive, reply } => {
                state
                    .calls
                    .spawn(async move { drop(reply.send(sandbox.put(&dir, archive).await)) });
            }
            EnvironmentMessage::Get { path, bytes_max, reply } => {
                state
                    .calls
                    .spawn(async move { drop(reply.send(sandbox.get(&path, bytes_max).await)) });
            }
            EnvironmentMessage::StopProcesses(reply) => {
                state.calls.spawn(async move { drop(reply.send(sandbox.stop_processes().await)) });
            }
            EnvironmentMessage::WatchLoss(reply) => {
                state.calls.spawn(async move { drop(reply.send(sandbox.lost().await)) });
            }
            EnvironmentMessage::Remove(reply) => {
                state.calls.abort_all();
                let result = sandbox.remove().await;
                state.removed.store(result.is_ok(), Ordering::Release);
                if let Some(reply) = reply {
                    drop(reply.send(result));
                }
                myself.stop(None);
            }
        }
        Ok(())
    }
}

/// The right to work in one environment, without the duty to end it. Clones are cheap and the same
/// right; after the environment's end every call fails at once.
#[derive(Clone, Debug)]
pub struct Workbench {
    actor: ActorRef<EnvironmentMessage>,
    /// Where its commands run unless they say otherwise.
    workdir: Arc<str>,
}

impl Workbench {
    pub fn workdir(&self) -> &str {
        &self.workdir
    }

    /// Runs a command.
    ///
    /// # Errors
    /// Only when the environment failed; a command that failed is an [`ExecOutput`].
    pub async fn exec(&self, request: ExecRequest) -> Result<ExecOutput, SandboxError> {
        self.call(|reply| EnvironmentMessage::Exec(Box::new(request), reply)).await
    }

    /// Starts a command in the background.
    ///
    /// # Errors
    /// As [`Workbench::exec`]; what is wrong with the command is seen by [`Workbench::poll`].
    pub async fn spawn(&self, request: ExecRequest) -> Result<ExecId, SandboxError> {
        self.call(|reply| EnvironmentMessage::Spawn(Box::new(request), reply)).await
    }

    /// See [`Sandbox::poll`].
    pub async fn poll(&self, id: ExecId) -> Result<ExecProgress, SandboxError> {
        self.call(|reply| EnvironmentMessage::Poll(id, reply)).await
    }

    /// See [`Sandbox::kill`].
    pub async fn kill(&self, id: ExecId) -> Result<(), SandboxError> {
        self.call(|reply| EnvironmentMessage::Kill(id, reply)).await
    }

    /// See [`Sandbox::put`].
    pub async fn put(&self, dir: &str, archive: Vec<u8>) -> Result<(), SandboxError> {
        let dir = dir.to_owned();
        self.call(|reply| EnvironmentMessage::Put { dir, archive, reply }).await
    }

    /// See [`Sandbox::get`].
    pub async fn get(&self, path: &str, bytes_max: u64) -> Result<Fetched, SandboxError> {
        let path = path.to_owned();
        self.call(|reply| EnvironmentMessage::Get { path, bytes_max, reply }).await
    }

    /// Resolves when the environment has died by itself, or was removed.
    pub async fn lost(&self) -> SandboxError {
        self.call(EnvironmentMessage::WatchLoss).await
    }

    async fn call<T: FromActorDeath + Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<T>) -> EnvironmentMessage,
    ) -> T {
        match self.actor.call(message, None).await {
            Ok(ractor::rpc::CallResult::Success(answer)) => answer,
            _ => T::from_actor_death(),
        }
    }
}

/// The right to work in one environment (it is a [`Workbench`] too), and the duty to end it:
/// dropping it removes the environment.
#[derive(Debug)]
pub struct Environment {
    bench: Workbench,
}

impl Environment {
    pub(crate) fn new(actor: ActorRef<EnvironmentMessage>, workdir: String) -> Self {
        Self { bench: Workbench { actor, workdir: workdir.into() } }
    }

    /// For someone else who works in it.
    pub fn workbench(&self) -> Workbench {
        self.bench.clone()
    }

    /// Runs a `sh` script as root, for Orcapack's own housekeeping.
    pub async fn housekeeping(&self, script: &str) -> Result<ExecOutput, SandboxError> {
        const TIME_LIMIT: Duration = Duration::from_secs(60);
        let request = ExecRequest {
            user: Some("0:0".into()),
            cwd: Some("/".into()),
            output_bytes_max: 1 << 20,
            ..ExecRequest::new(["/bin/sh", "-c", script], TIME_LIMIT)
        };
        self.exec(request).await
    }

    /// See [`Sandbox::stop_processes`].
    pub async fn stop_processes(&self) -> Result<(), SandboxError> {
        self.call(EnvironmentMessage::StopProcesses).await
    }

    /// Removes the environment and waits until it is gone.
    pub async fn remove(self) -> Result<(), SandboxError> {
        self.call(|reply| EnvironmentMessage::Remove(Some(reply))).await
    }
}

impl Deref for Environment {
    type Target = Workbench;

    fn deref(&self) -> &Workbench {
        &self.bench
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        // Fails only when the actor has ended, and then the pool removes the sandbox.
        let _ = self.bench.actor.cast(EnvironmentMessage::Remove(None));
    }
}

/// What a caller gets when the actor died before it answered.
trait FromActorDeath {
    fn from_actor_death() -> Self;
}

impl FromActorDeath for SandboxError {
    fn from_actor_death() -> Self {
        Self::new(FailureClass::ExecTransport, "the environment's actor ended during the call")
    }
}

impl<T> FromActorDeath for Result<T, SandboxError> {
    fn from_actor_death() -> Self {
        Err(SandboxError::from_actor_death())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use orcapack_tasks::task::{ImageSource, NetworkPolicy};

    use super::*;
    use crate::fake::FakeDriver;
    use crate::sandbox::{Driver as _, Exit, ImageSpec, Labels, Limits, SandboxSpec};

    const LIMIT: Duration = Duration::from_secs(1);

    async fn environment(driver: &FakeDriver) -> Environment {
        let source = ImageSource::Prebuilt("any".to_owned());
        let image = driver.image(&ImageSpec { source, build_timeout: LIMIT }).await.unwrap();
        let spec = SandboxSpec {
            labels: Labels {
                run: "run".to_owned(),
                node: "node".to_owned(),
                incarnation: 1,
                attempt: "1.1.agent".to_owned(),
                deadline_unix_sec: 0,
            },
            limits: Limits { cpus: 1.0, memory_bytes: 1, pids: 1, storage_bytes: 1 },
            network: NetworkPolicy::None,
            env: BTreeMap::new(),
            workdir: None,
            start_timeout: LIMIT,
        };
        let sandbox = driver.create(&image, &spec).await.unwrap();
        let arguments = (sandbox, Arc::new(AtomicBool::new(false)));
        let (actor, _) = Actor::spawn(None, EnvironmentActor, arguments).await.unwrap();
        Environment::new(actor, "/app".to_owned())
    }

    #[tokio::test]
    async fn a_workbench_works_but_neither_ends_nor_outlives_its_environment() {
        let driver = FakeDriver::default();
        let environment = environment(&driver).await;
        let bench = environment.workbench();
        drop(environment.workbench());
        let request = ExecRequest::new(["true"], LIMIT);
        assert_eq!(bench.exec(request.clone()).await.unwrap().exit, Exit::Code(0));
        let id = bench.spawn(request.clone()).await.unwrap();
        assert_eq!(bench.poll(id).await.unwrap().exit, Some(Exit::Code(0)));
        bench.kill(id).await.unwrap();
        assert_eq!((bench.workdir(), driver.live()), ("/app", 1));

        let waiting = bench.clone();
        let lost = tokio::spawn(async move { waiting.lost().await });
        environment.remove().await.unwrap();
        assert_eq!(driver.live(), 0);
        assert_eq!(lost.await.unwrap().class, FailureClass::ExecTransport);
        let error = bench.exec(request).await.unwrap_err();
        assert_eq!(error.class, FailureClass::ExecTransport);
    }

    #[tokio::test]
    async fn a_dropped_environment_is_removed_whoever_holds_a_workbench() {
        let driver = FakeDriver::default();
        let environment = environment(&driver).await;
        let bench = environment.workbench();
        drop(environment);
        bench.lost().await;
        assert_eq!(driver.live(), 0);
    }
}
