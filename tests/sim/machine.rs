//! A machine's sandbox engine: fake sandboxes with drawn times and failures, that tell the truth.
//!
//! What an operation takes is drawn from the seed, the attempt and the operation's number in it,
//! not from a stream that all share: an attempt takes as long whatever else happens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use orcapack_actors::fake::FakeDriver;
use orcapack_actors::sandbox::*;
use orcapack_tasks::outcome::FailureClass;

use crate::random::{Random, mix};
use crate::seeds::pass;
use crate::truth::Truth;

/// How the engines of a seed are.
#[derive(Clone, Debug)]
pub struct Engines {
    pub seed: u64,
    pub create_ms: (u64, u64),
    pub exec_ms: (u64, u64),
    pub remove_ms: (u64, u64),
    /// Shares of creations that take ten times as long, and that fail.
    pub slow: f64,
    pub failing: f64,
    /// The share of images that cannot be made.
    pub unmakable: f64,
    /// The share of executions during which the sandbox dies.
    pub dying: f64,
}

/// The engine of one life of a machine: it dies with its node, as guest agents do.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    engines: Engines,
    truth: Arc<Truth>,
    node: String,
    fake: FakeDriver,
    ways: Mutex<Ways>,
    images: AtomicU64,
}

#[derive(Default)]
struct Ways {
    is_dead: bool,
    /// All creations fail.
    is_broken: bool,
}

impl Machine {
    pub fn new(engines: Engines, truth: Arc<Truth>, node: String) -> Self {
        let (fake, ways, images) = (FakeDriver::default(), Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Inner { engines, truth, node, fake, ways, images }))
    }

    /// Without a word: nobody who held a sandbox here hears of it again.
    pub fn die(&self) {
        self.ways(|ways| ways.is_dead = true);
        self.0.truth.machine_ends(&self.0.node);
    }

    pub fn set_broken(&self, is_broken: bool) {
        self.ways(|ways| ways.is_broken = is_broken);
    }

    /// Kills up to `count` sandboxes from outside.
    pub fn kill(&self, count: usize) -> usize {
        self.0.fake.kill(count)
    }

    /// Sandboxes that are alive now.
    pub fn live(&self) -> usize {
        self.0.fake.live()
    }

    fn ways<T>(&self, change: impl FnOnce(&mut Ways) -> T) -> T {
        change(&mut self.0.ways.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nothing happens any more on a machine that is dead.
    async fn is_up(&self) {
        if self.ways(|ways| ways.is_dead) {
            std::future::pending::<()>().await;
        }
    }

    async fn take(&self, time: Duration) {
        self.is_up().await;
        pass(time).await;
        self.is_up().await;
    }

    fn draw(&self, what: &str, number: u64) -> Random {
        let hash = what.bytes().fold(number, |hash, byte| mix(hash ^ u64::from(byte)));
        Random::new(self.0.engines.seed, hash)
    }
}

impl Driver for Machine {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn image<'a>(&'a self, spec: &'a ImageSpec) -> BoxFuture<'a, Result<Image, SandboxError>> {
        Box::pin(async {
            self.take(Duration::from_millis(20)).await;
            let number = self.0.images.fetch_add(1, Ordering::Relaxed);
            if self.draw(&self.0.node, number).chance(self.0.engines.unmakable) {
                return Err(SandboxError::new(FailureClass::Image, "it cannot be made"));
            }
            self.0.fake.image(spec).await
        })
    }

    fn create<'a>(
        &'a self,
        image: &'a Image,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Arc<dyn Sandbox>, SandboxError>> {
        Box::pin(async {
            self.is_up().await;
            self.0.truth.creates(&spec.labels);
            let engines = &self.0.engines;
            let mut random = self.draw(&spec.labels.attempt, 0);
            let mut time = random.millis(engines.create_ms.0, engines.create_ms.1);
            if random.chance(engines.slow) {
                time *= 10;
            }
            self.take(time).await;
            if random.chance(engines.failing) || self.ways(|ways| ways.is_broken) {
                return Err(SandboxError::new(FailureClass::Daemon, "the engine failed"));
            }
            let inner = self.0.fake.create(image, spec).await?;
            let (machine, labels) = (self.clone(), spec.labels.clone());
            let operations = AtomicU64::new(0);
            let sandbox = Simulated { machine, labels, inner, operations };
            Ok(Arc::new(sandbox) as Arc<dyn Sandbox>)
        })
    }

    fn sweep<'a>(&'a self, scope: &'a SweepScope) -> BoxFuture<'a, Result<Swept, SandboxError>> {
        Box::pin(async move {
            self.is_up().await;
            self.0.fake.sweep(scope).await
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async {
            self.is_up().await;
            if self.ways(|ways| ways.is_broken) {
                return Err(SandboxError::new(FailureClass::Daemon, "the engine fails"));
            }
            Ok(())
        })
    }
}

struct Simulated {
    machine: Machine,
    labels: Labels,
    inner: Arc<dyn Sandbox>,
    operations: AtomicU64,
}

impl Simulated {
    fn truth(&self) -> &Truth {
        &self.machine.0.truth
    }
}

impl Sandbox for Simulated {
    fn id(&self) -> &str {
        self.inner.id()
    }

    fn exec<'a>(
        &'a self,
        request: &'a ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutput, SandboxError>> {
        Box::pin(async {
            self.machine.is_up().await;
            self.truth().works(&self.labels);
            let number = self.operations.fetch_add(1, Ordering::Relaxed) + 1;
            let mut random = self.machine.draw(&self.labels.attempt, number);
            let engines = &self.machine.0.engines;
            // What a script of the task does takes its time; housekeeping does not.
            let is_script = request.argv.last().is_some_and(|script| script.ends_with(".sh"));
            let (from, to) = if is_script { engines.exec_ms } else { (1, 5) };
            let time = random.millis(from, to).min(request.time_limit);
            let lost = async {
                let error = self.inner.lost().await;
                self.machine.is_up().await;
                error
            };
            tokio::select! {
                biased;
                () = self.machine.take(time) => {}
                error = lost => return Err(error),
            }
            if random.chance(engines.dying) {
                self.truth().ends(&self.labels);
                return Err(SandboxError::new(FailureClass::ExecTransport, "it died"));
            }
            self.inner.exec(request).await
        })
    }

    fn spawn<'a>(
        &'a self,
        request: &'a ExecRequest,
    ) -> BoxFuture<'a, Result<ExecId, SandboxError>> {
        self.inner.spawn(request)
    }

    fn poll(&self, id: ExecId) -> BoxFuture<'_, Result<ExecProgress, SandboxError>> {
        self.inner.poll(id)
    }

    fn kill(&self, id: ExecId) -> BoxFuture<'_, Result<(), SandboxError>> {
        self.inner.kill(id)
    }

    fn put<'a>(
        &'a self,
        dir: &'a str,
        archive: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), SandboxError>> {
        self.inner.put(dir, archive)
    }

    fn get<'a>(
        &'a self,
        path: &'a str,
        bytes_max: u64,
    ) -> BoxFuture<'a, Result<Fetched, SandboxError>> {
        self.inner.get(path, bytes_max)
    }

    fn stop_processes(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        self.inner.stop_processes()
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, SandboxError>> {
        self.inner.stats()
    }

    fn lost(&self) -> BoxFuture<'_, SandboxError> {
        self.inner.lost()
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async {
            self.machine.is_up().await;
            self.truth().ends(&self.labels);
            let (from, to) = self.machine.0.engines.remove_ms;
            let time = self.machine.draw(&self.labels.attempt, u64::MAX).millis(from, to);
            self.machine.take(time).await;
            self.inner.remove().await
        })
    }
}
