//! One container: brought up, and live.

use std::sync::Arc;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use futures_util::future::BoxFuture;
use orcapack_tasks::outcome::FailureClass;
use tokio::sync::{OnceCell, oneshot};
use tokio::time::timeout;

use crate::docker_engine::{Engine, REMOVE_LIMIT};
use crate::guest::{ExecDefaults, Guest};
use crate::sandbox::{
    ExecId, ExecOutput, ExecProgress, ExecRequest, Fetched, Sandbox, SandboxError, Stats,
};

/// A container to be brought up.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) body: ContainerCreateBody,
    pub(crate) defaults: ExecDefaults,
    /// Of everything up to the agent's first word.
    pub(crate) limit: Duration,
}

/// A live container that is ready for commands. An error, or a caller that gives up, leaves nothing
/// behind; what the engine will not remove in time is left to a sweep.
pub(crate) async fn bring_up(
    engine: Arc<Engine>,
    plan: Plan,
) -> Result<DockerSandbox, SandboxError> {
    let (name, limit) = (plan.name.clone(), plan.limit);
    let (caller, mut answer) = oneshot::channel();
    // The engine's calls run to their end whatever becomes of the caller: a container whose
    // creation is not answered has no id to remove it by, and one that is removed during its start
    // is listed by the engine for ever after (seen with 20.10).
    let work = tokio::spawn(carry_out(engine, plan, caller));
    if let Ok(answer) = timeout(limit, &mut answer).await {
        return answer.unwrap_or_else(|_| {
            let message = format!("bringing container {name} up ended half-way");
            Err(SandboxError::new(FailureClass::Internal, message))
        });
    }
    drop(answer);
    let _ = timeout(REMOVE_LIMIT, work).await;
    Err(late(&name, limit))
}

pub(crate) fn late(name: &str, limit: Duration) -> SandboxError {
    let message = format!("container {name} was not ready after {} s", limit.as_secs_f64());
    SandboxError::new(FailureClass::StartTimeout, message)
}

/// Carries a plan out. What does not become the caller's is removed.
async fn carry_out(
    engine: Arc<Engine>,
    plan: Plan,
    mut caller: oneshot::Sender<Result<DockerSandbox, SandboxError>>,
) {
    let result = match engine.create(&plan.name, plan.body).await {
        Ok(id) => {
            let started = start(&engine, &id, plan.defaults, plan.limit, &mut caller).await;
            if started.is_err()
                && let Err(error) = engine.remove(&id).await
            {
                tracing::warn!(%error, "an unfinished container is left to the next sweep");
            }
            started
        }
        Err(error) => Err(error),
    };
    if let Err(Ok(unwanted)) = caller.send(result) {
        let _ = unwanted.remove().await;
    }
}

/// Starts a container and hears the agent's first word.
async fn start(
    engine: &Arc<Engine>,
    id: &str,
    defaults: ExecDefaults,
    limit: Duration,
    caller: &mut oneshot::Sender<Result<DockerSandbox, SandboxError>>,
) -> Result<DockerSandbox, SandboxError> {
    let given_up = || SandboxError::new(FailureClass::StartTimeout, "nobody waits any more");
    if caller.is_closed() {
        return Err(given_up());
    }
    let (output, input) = engine.attach(id).await?;
    engine.start(id).await?;
    let greeting = tokio::select! {
        greeting = Guest::connect(output, input, defaults, limit) => greeting,
        () = caller.closed() => Err(given_up()),
    };
    match greeting {
        Ok(guest) => Ok(DockerSandbox {
            engine: engine.clone(),
            id: id.to_owned(),
            guest,
            lost: OnceCell::new(),
        }),
        Err(error) if error.class == FailureClass::ExecTransport => {
            let cause = engine.cause_of_death(id).await;
            let message = format!("{} at its start: {}", cause.message, error.message);
            Err(SandboxError { message, ..cause })
        }
        Err(error) => Err(error),
    }
}

/// A live container. Dropped, its agent's input ends, the agent with it, and the engine removes the
/// container.
pub(crate) struct DockerSandbox {
    engine: Arc<Engine>,
    id: String,
    guest: Guest,
    /// Why the connection to the agent closed; asked of the engine once.
    lost: OnceCell<SandboxError>,
}

impl DockerSandbox {
    /// A call of the agent; where the connection broke, the error is what became of the container.
    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, SandboxError>>,
    ) -> Result<T, SandboxError> {
        match call.await {
            Err(_) if self.guest.is_lost() => Err(self.cause_of_death().await),
            result => result,
        }
    }

    async fn cause_of_death(&self) -> SandboxError {
        self.lost.get_or_init(|| self.engine.cause_of_death(&self.id)).await.clone()
    }
}

impl Sandbox for DockerSandbox {
    fn id(&self) -> &str {
        &self.id
    }

    fn exec<'a>(
        &'a self,
        request: &'a ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutput, SandboxError>> {
        Box::pin(self.call(self.guest.exec(request)))
    }

    fn spawn<'a>(
        &'a self,
        request: &'a ExecRequest,
    ) -> BoxFuture<'a, Result<ExecId, SandboxError>> {
        Box::pin(self.call(self.guest.spawn(request)))
    }

    fn poll(&self, id: ExecId) -> BoxFuture<'_, Result<ExecProgress, SandboxError>> {
        Box::pin(self.call(self.guest.poll(id)))
    }

    fn kill(&self, id: ExecId) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(self.call(self.guest.kill(id)))
    }

    fn put<'a>(
        &'a self,
        dir: &'a str,
        archive: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(self.call(self.guest.put(dir, archive)))
    }

    fn get<'a>(
        &'a self,
        path: &'a str,
        bytes_max: u64,
    ) -> BoxFuture<'a, Result<Fetched, SandboxError>> {
        Box::pin(self.call(self.guest.get(path, bytes_max)))
    }

    fn stop_processes(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(self.call(self.guest.stop_processes()))
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, SandboxError>> {
        Box::pin(self.call(self.guest.stats()))
    }

    fn lost(&self) -> BoxFuture<'_, SandboxError> {
        Box::pin(async move {
            self.guest.lost().await;
            self.cause_of_death().await
        })
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(self.engine.remove(&self.id))
    }
}
