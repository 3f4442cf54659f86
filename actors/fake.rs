//! The `fake` driver: sandboxes that exist only as a few bytes of memory, with times and faults as
//! asked for.
//!
//! For tests, simulation and benchmarks of everything around a sandbox. It runs nothing: it knows
//! that `/solution/solve.sh` solves the task unless the script's text holds the word `wrong`, and
//! that a script under `/tests` then writes the reward. With tokio's paused clock it is
//! deterministic.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use orcapack_tasks::Digest;
use orcapack_tasks::outcome::FailureClass;
use tokio::sync::watch;

use crate::archive;
use crate::sandbox::{
    Captured, Driver, ExecId, ExecOutput, ExecProgress, ExecRequest, Exit, Fetched, Image,
    ImageSpec, Labels, Sandbox, SandboxError, SandboxSpec, Stats, SweepScope, Swept,
};

/// How long each operation takes. Zero by default: an operation then never yields.
#[derive(Clone, Copy, Debug, Default)]
pub struct FakeTimes {
    pub image: Duration,
    pub create: Duration,
    pub exec: Duration,
    pub remove: Duration,
}

/// The one command of an agent that means something in a fake sandbox: its tests pass after it.
pub const SOLVE: &str = "solve";

/// An engine of fake sandboxes. Clones are the same engine.
#[derive(Clone, Default)]
pub struct FakeDriver {
    engine: Arc<Engine>,
}

#[derive(Default)]
struct Engine {
    times: FakeTimes,
    down: AtomicBool,
    next_id: AtomicU64,
    live: Mutex<BTreeMap<u64, Arc<Body>>>,
    /// Creations that are still to fail, and with what.
    failures: Mutex<Vec<SandboxError>>,
}

struct Body {
    id: String,
    labels: Labels,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    solved: AtomicBool,
    dead: watch::Sender<Option<SandboxError>>,
}

impl FakeDriver {
    pub fn new(times: FakeTimes) -> Self {
        Self { engine: Arc::new(Engine { times, ..Engine::default() }) }
    }

    /// The next creations fail, one for each of these, last first.
    pub fn fail_creations(&self, errors: impl IntoIterator<Item = SandboxError>) {
        lock(&self.engine.failures).extend(errors);
    }

    /// Stops the engine, which kills every sandbox, or starts it again.
    pub fn set_down(&self, down: bool) {
        self.engine.down.store(down, Ordering::SeqCst);
        if down {
            for body in std::mem::take(&mut *lock(&self.engine.live)).into_values() {
                body.die(FailureClass::Daemon, "the fake engine was stopped");
            }
        }
    }

    /// Kills up to `count` sandboxes from outside, oldest first; returns how many there were.
    pub fn kill(&self, count: usize) -> usize {
        let mut live = lock(&self.engine.live);
        let ids: Vec<u64> = live.keys().copied().take(count).collect();
        for id in &ids {
            if let Some(body) = live.remove(id) {
                body.die(FailureClass::ExecTransport, "the fake sandbox was killed from outside");
            }
        }
        ids.len()
    }

    /// Sandboxes that are alive now.
    pub fn live(&self) -> usize {
        lock(&self.engine.live).len()
    }

    fn check_up(&self) -> Result<(), SandboxError> {
        if self.engine.down.load(Ordering::SeqCst) {
            return Err(SandboxError::new(FailureClass::Daemon, "the fake engine is down"));
        }
        Ok(())
    }
}

impl Body {
    fn die(&self, class: FailureClass, message: &str) {
        let error = SandboxError::new(class, message);
        self.dead.send_if_modified(|dead| dead.is_none().then(|| *dead = Some(error)).is_some());
    }

    async fn lost(&self) -> SandboxError {
        let mut dead = self.dead.subscribe();
        match dead.wait_for(Option::is_some).await.map(|dead| dead.clone()) {
            Ok(Some(error)) => error,
            _ => SandboxError::new(FailureClass::Internal, "a fake sandbox was dropped"),
        }
    }

    /// Takes `time`, unless the sandbox dies meanwhile.
    async fn take(&self, time: Duration) -> Result<(), SandboxError> {
        if let Some(error) = self.dead.borrow().clone() {
            return Err(error);
        }
        if time.is_zero() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep(time) => Ok(()),
            error = self.lost() => Err(error),
        }
    }

    fn run(&self, argv: &[String]) {
        let script = argv.last().map_or("", String::as_str);
        if script == SOLVE {
            self.solved.store(true, Ordering::SeqCst);
        } else if script.starts_with("/solution/") {
            let text = lock(&self.files).get(script).cloned().unwrap_or_default();
            let wrong = text.windows(5).any(|word| word == b"wrong");
            self.solved.store(!wrong, Ordering::SeqCst);
        } else if script.starts_with("/tests/") {
            let reward = if self.solved.load(Ordering::SeqCst) { "1\n" } else { "0\n" };
            lock(&self.files).insert("/logs/verifier/reward.txt".into(), reward.into());
        }
    }
}

impl Driver for FakeDriver {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn image<'a>(&'a self, _: &'a ImageSpec) -> BoxFuture<'a, Result<Image, SandboxError>> {
        Box::pin(async {
            self.check_up()?;
            pause(self.engine.times.image).await;
            Ok(Image {
                reference: "fake".into(),
                digest: Digest::of(b"fake"),
                workdir: "/app".into(),
                user: None,
                env: BTreeMap::new(),
            })
        })
    }

    fn create<'a>(
        &'a self,
        _: &'a Image,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Arc<dyn Sandbox>, SandboxError>> {
        Box::pin(async {
            self.check_up()?;
            pause(self.engine.times.create).await;
            self.check_up()?;
            if let Some(error) = lock(&self.engine.failures).pop() {
                return Err(error);
            }
            let number = self.engine.next_id.fetch_add(1, Ordering::SeqCst);
            let body = Arc::new(Body {
                id: format!("fake-{number}"),
                labels: spec.labels.clone(),
                files: Mutex::default(),
                solved: AtomicBool::new(false),
                dead: watch::Sender::new(None),
            });
            lock(&self.engine.live).insert(number, body.clone());
            let sandbox = FakeSandbox { number, body, engine: self.engine.clone() };
            Ok(Arc::new(sandbox) as Arc<dyn Sandbox>)
        })
    }

    fn sweep<'a>(&'a self, scope: &'a SweepScope) -> BoxFuture<'a, Result<Swept, SandboxError>> {
        Box::pin(async {
            let mut live = lock(&self.engine.live);
            let before = live.len();
            live.retain(|_, body| !scope.covers(&body.labels));
            Ok(Swept { sandboxes: before - live.len(), ..Swept::default() })
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async { self.check_up() })
    }
}

struct FakeSandbox {
    number: u64,
    body: Arc<Body>,
    engine: Arc<Engine>,
}

impl Sandbox for FakeSandbox {
    fn id(&self) -> &str {
        &self.body.id
    }

    fn exec<'a>(
        &'a self,
        request: &'a ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutput, SandboxError>> {
        Box::pin(async {
            let elapsed = self.engine.times.exec.min(request.time_limit);
            self.body.take(elapsed).await?;
            let in_time = self.engine.times.exec <= request.time_limit;
            if in_time {
                self.body.run(&request.argv);
            }
            Ok(ExecOutput {
                exit: if in_time { Exit::Code(0) } else { Exit::TimedOut },
                stdout: Captured::default(),
                stderr: Captured::default(),
                elapsed,
            })
        })
    }

    fn spawn<'a>(
        &'a self,
        request: &'a ExecRequest,
    ) -> BoxFuture<'a, Result<ExecId, SandboxError>> {
        Box::pin(async {
            self.body.run(&request.argv);
            Ok(ExecId(0))
        })
    }

    fn poll(&self, _: ExecId) -> BoxFuture<'_, Result<ExecProgress, SandboxError>> {
        Box::pin(async {
            Ok(ExecProgress {
                exit: Some(Exit::Code(0)),
                stdout: Captured::default(),
                stderr: Captured::default(),
            })
        })
    }

    fn kill(&self, _: ExecId) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async { Ok(()) })
    }

    fn put<'a>(
        &'a self,
        dir: &'a str,
        archive: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), SandboxError>> {
        Box::pin(async move {
            self.body.take(Duration::ZERO).await?;
            for entry in tar::Archive::new(&archive[..]).entries().map_err(bad_archive)? {
                let mut entry = entry.map_err(bad_archive)?;
                let path = format!("{dir}/{}", entry.path().map_err(bad_archive)?.display());
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(bad_archive)?;
                lock(&self.body.files).insert(path, bytes);
            }
            Ok(())
        })
    }

    fn get<'a>(
        &'a self,
        path: &'a str,
        bytes_max: u64,
    ) -> BoxFuture<'a, Result<Fetched, SandboxError>> {
        Box::pin(async move {
            self.body.take(Duration::ZERO).await?;
            let name = path.rsplit('/').next().unwrap_or(path);
            let files = lock(&self.body.files);
            let archive = files.get(path).map(|bytes| archive::of_file(name, bytes));
            Ok(match archive {
                None => Fetched::Absent,
                Some(archive) if archive.len() as u64 > bytes_max => Fetched::TooLarge,
                Some(archive) => Fetched::Archive(archive),
            })
        })
    }

    fn stop_processes(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(self.body.take(Duration::ZERO))
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, SandboxError>> {
        Box::pin(async { Ok(Stats::default()) })
    }

    fn lost(&self) -> BoxFuture<'_, SandboxError> {
        Box::pin(self.body.lost())
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async {
            pause(self.engine.times.remove).await;
            lock(&self.engine.live).remove(&self.number);
            Ok(())
        })
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn bad_archive(error: std::io::Error) -> SandboxError {
    SandboxError::new(FailureClass::Internal, format!("not a tar archive: {error}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
