//! The `docker` driver: sandboxes are containers of a Docker engine, with the guest agent as their
//! first process.
//!
//! Commands and files go over the container's attached standard streams, not through the engine's
//! `exec`, which costs it a quarter of a second of CPU each. The streams also tie the container to
//! us: when this process dies, the agent's input ends, the agent with it, and the engine removes
//! the container.
//!
//! What it does not protect from: weaknesses of the kernel and the container runtime, which all
//! sandboxes share, and, with most storage drivers, a full disk ([`LimitsEnforced`] says).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use crate::docker_container::{self as container, ATTEMPT, DEADLINE, INCARNATION, NODE, OURS, RUN};
use crate::docker_engine::{Engine, Labelled};
use crate::docker_facts::{self, DockerFacts, LimitsEnforced};
use crate::docker_image::{BuiltImage, Images};
use crate::docker_sandbox::{Plan, bring_up, late};
use crate::guest::ExecDefaults;
use crate::sandbox::{
    Driver, Image, ImageSpec, Leftover, Sandbox, SandboxError, SandboxSpec, SweepScope, Swept,
};

/// How many things a sweep removes side by side.
const SWEEP_WIDTH: usize = 8;

/// Images and sandboxes of one Docker engine.
pub struct DockerDriver {
    engine: Arc<Engine>,
    images: Images,
    host: OnceCell<Host>,
}

/// What a container's limits depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    pub(crate) cpus: f64,
    pub(crate) limits: LimitsEnforced,
}

impl DockerDriver {
    /// Of the engine at `DOCKER_HOST`, else at the default socket. The engine need not be up yet.
    pub fn from_env() -> Self {
        let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        Self::at(host.as_deref().unwrap_or("unix:///var/run/docker.sock"))
    }

    /// Of the engine at `unix:///path` or `tcp://host:port`.
    pub fn at(host: &str) -> Self {
        let engine = Arc::new(Engine::at(host));
        let images = Images::new(engine.clone());
        Self { engine, images, host: OnceCell::new() }
    }

    /// # Errors
    /// [`orcapack_tasks::FailureClass::Daemon`].
    pub async fn facts(&self) -> Result<DockerFacts, SandboxError> {
        docker_facts::facts(&self.engine).await
    }

    /// Every image that was built here, by whichever run.
    ///
    /// # Errors
    /// [`orcapack_tasks::FailureClass::Daemon`].
    pub async fn images(&self) -> Result<Vec<BuiltImage>, SandboxError> {
        self.images.list().await
    }

    /// Removes one of [`DockerDriver::images`]; `false`: a container uses it.
    ///
    /// # Errors
    /// [`orcapack_tasks::FailureClass::Daemon`].
    pub async fn remove_image(&self, image: &BuiltImage) -> Result<bool, SandboxError> {
        self.images.remove(image).await
    }

    /// What [`Driver::sweep`] would remove.
    ///
    /// # Errors
    /// [`FailureClass::Daemon`].
    pub async fn leftovers(&self, scope: &SweepScope) -> Result<Vec<Leftover>, SandboxError> {
        let kinds = ["container", "network", "volume"];
        let found = kinds.into_iter().zip(self.swept_by(scope).await?);
        Ok(found.flat_map(|(kind, found)| found.into_iter().map(|it| leftover(kind, it))).collect())
    }

    async fn host(&self) -> Result<Host, SandboxError> {
        let ask = || async {
            let info = self.engine.info().await?;
            Ok(Host { cpus: docker_facts::cpus(&info), limits: LimitsEnforced::of(&info) })
        };
        self.host.get_or_try_init(ask).await.copied()
    }

    async fn start(
        &self,
        image: &Image,
        spec: &SandboxSpec,
    ) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let (begun, name) = (Instant::now(), container::name(&spec.labels));
        let host = timeout(spec.start_timeout, self.host()).await;
        let host = host.map_err(|_| late(&name, spec.start_timeout))??;
        let plan = Plan {
            name,
            body: container::body(image, spec, host),
            defaults: ExecDefaults::new(image, spec),
            limit: spec.start_timeout.saturating_sub(begun.elapsed()),
        };
        Ok(Arc::new(bring_up(self.engine.clone(), plan).await?))
    }

    /// Containers, networks and volumes in the scope.
    async fn swept_by(&self, scope: &SweepScope) -> Result<[Vec<Labelled>; 3], SandboxError> {
        let mut labels = vec![OURS.to_owned()];
        match scope {
            SweepScope::Run { run, .. } => labels.push(format!("{RUN}={run}")),
            SweepScope::Node { node, run, .. } => {
                labels.push(format!("{NODE}={node}"));
                labels.extend(run.iter().map(|run| format!("{RUN}={run}")));
            }
            SweepScope::Expired { .. } | SweepScope::All => {}
        }
        let in_scope = |mut found: Vec<Labelled>| {
            found.retain(|thing| is_in_scope(scope, thing));
            found
        };
        Ok([
            in_scope(self.engine.containers(&labels).await?),
            in_scope(self.engine.networks(&labels).await?),
            in_scope(self.engine.volumes(&labels).await?),
        ])
    }
}

fn leftover(kind: &'static str, found: Labelled) -> Leftover {
    let label = |name: &str| found.labels.get(name).cloned();
    Leftover {
        kind,
        run: label(RUN),
        attempt: label(ATTEMPT),
        deadline_unix_sec: label(DEADLINE).and_then(|deadline| deadline.parse().ok()),
        id: found.id,
    }
}

/// The engine has filtered by run and node already. A label that cannot be read is no reason to
/// keep a thing for ever.
fn is_in_scope(scope: &SweepScope, thing: &Labelled) -> bool {
    let number = |label: &str| thing.labels.get(label).and_then(|value| value.parse::<u64>().ok());
    match scope {
        SweepScope::All => true,
        SweepScope::Run { except_incarnation, .. }
        | SweepScope::Node { except_incarnation, .. } => {
            except_incarnation.is_none_or(|own| number(INCARNATION) != Some(own))
        }
        SweepScope::Expired { now_unix_sec } => {
            number(DEADLINE).is_none_or(|deadline| deadline <= *now_unix_sec)
        }
    }
}

/// Runs all removals; how many there were, or the first error after all were tried.
async fn all<F>(removals: Vec<F>) -> Result<usize, SandboxError>
where
    F: Future<Output = Result<(), SandboxError>>,
{
    let results: Vec<_> = stream::iter(removals).buffer_unordered(SWEEP_WIDTH).collect().await;
    results.into_iter().collect::<Result<Vec<()>, _>>().map(|removed| removed.len())
}

impl Driver for DockerDriver {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn image<'a>(&'a self, spec: &'a ImageSpec) -> BoxFuture<'a, Result<Image, SandboxError>> {
        Box::pin(self.images.get(spec))
    }

    fn create<'a>(
        &'a self,
        image: &'a Image,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Arc<dyn Sandbox>, SandboxError>> {
        Box::pin(self.start(image, spec))
    }

    fn sweep<'a>(&'a self, scope: &'a SweepScope) -> BoxFuture<'a, Result<Swept, SandboxError>> {
        Box::pin(async move {
            let engine = &self.engine;
            let [containers, networks, volumes] = self.swept_by(scope).await?;
            let containers = containers.iter().map(|found| engine.remove(&found.id)).collect();
            let networks = networks.iter().map(|found| engine.remove_network(&found.id)).collect();
            let volumes = volumes.iter().map(|found| engine.remove_volume(&found.id)).collect();
            // In this order: a network or volume in use cannot be removed.
            Ok(Swept {
                sandboxes: all(containers).await?,
                networks: all(networks).await?,
                volumes: all(volumes).await?,
            })
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(self.engine.ping())
    }
}
