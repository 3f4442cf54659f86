//! One container: on its way up, and live.

use std::sync::Arc;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use orcapack_tasks::outcome::FailureClass;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::docker_engine::{Engine, REMOVE_LIMIT};
use crate::guest::{ExecDefaults, Guest};
use crate::sandbox::{
    ExecId, ExecOutput, ExecProgress, ExecRequest, Fetched, Sandbox, SandboxError, Stats,
};

/// A container on its way up. Dropped before it is finished, it is removed, even where the engine has yet to name it.
pub(crate) struct Unfinished {
    engine: Arc<Engine>,
    /// The engine's call that creates it runs to its end, whatever becomes of us: without its answer there is no
    /// id to remove the container by.
    creating: Shared<Creating>,
    /// Whether it is ours to remove.
    is_pending: bool,
}

type Creating = BoxFuture<'static, Result<String, SandboxError>>;

impl Unfinished {
    pub(crate) fn create(engine: Arc<Engine>, name: String, body: ContainerCreateBody) -> Self {
        let call = tokio::spawn({
            let engine = engine.clone();
            async move { engine.create(&name, body).await }
        });
        let creating = async move {
            let ended = |error| SandboxError::new(FailureClass::Internal, format!("{error}"));
            call.await.unwrap_or_else(|error| Err(ended(error)))
        };
        Self { engine, creating: creating.boxed().shared(), is_pending: true }
    }

    /// Starts it and hears the agent's first word.
    pub(crate) async fn start(
        &self,
        defaults: ExecDefaults,
        limit: Duration,
    ) -> Result<DockerSandbox, SandboxError> {
        let (engine, id) = (self.engine.clone(), self.creating.clone().await?);
        let (output, input) = engine.attach(&id).await?;
        engine.start(&id).await?;
        match Guest::connect(output, input, defaults, limit).await {
            Ok(guest) => Ok(DockerSandbox { engine, id, guest, lost: OnceCell::new() }),
            Err(error) if error.class == FailureClass::ExecTransport => {
                let cause = engine.cause_of_death(&id).await;
                let message = format!("{} at its start: {}", cause.message, error.message);
                Err(SandboxError { message, ..cause })
            }
            Err(error) => Err(error),
        }
    }

    /// It is up, and its owner's.
    pub(crate) fn finish(mut self) {
        self.is_pending = false;
    }

    /// Waits until it is gone. What the engine will not remove in time is left to a sweep.
    pub(crate) async fn remove(mut self) {
        if let Some(removal) = self.remove_in_background() {
            let _ = timeout(REMOVE_LIMIT, removal).await;
        }
    }

    fn remove_in_background(&mut self) -> Option<JoinHandle<()>> {
        if !std::mem::take(&mut self.is_pending) {
            return None;
        }
        let (engine, creating) = (self.engine.clone(), self.creating.clone());
        let removal = async move {
            if let Ok(id) = creating.await
                && let Err(error) = engine.remove(&id).await
            {
                tracing::warn!(%error, "an unfinished container is left to the next sweep");
            }
        };
        Some(Handle::try_current().ok()?.spawn(removal))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.remove_in_background();
    }
}

/// A live container. Dropped, its agent's input ends, the agent with it, and the engine removes the container.
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
