//! The `process` driver: sandboxes from this kernel's namespaces, without an engine or a daemon.
//!
//! A sandbox is the guest agent as process 1 of its own mount, PID, IPC, UTS, cgroup and (unless
//! the task has the network) network namespaces, on an overlay whose writable layer is in memory
//! and dies with the sandbox. The agent ends with its input, so the death of this process ends all
//! its sandboxes; what remains, a small file in `CACHE/process-state` and empty control groups, is
//! what [`Driver::sweep`] removes.
//!
//! Root file systems are folders `CACHE/rootfs/REFERENCE`. For a Dockerfile whose base is not
//! there, the host's own root file system stands in: its programs and libraries, and what of `/etc`
//! everybody may read. It does so for root only; others need the store.
//!
//! What it holds against: reading or changing the host's files, processes and network, forging the
//! agent's answers, outliving its time limits, and using more than its memory, processes, processor
//! time and storage.
//!
//! What it does **not** protect from:
//! - a defect of the kernel, which is shared. A filter refuses the system calls that need not be
//!   there, but a task that attacks the kernel belongs into a virtual machine;
//! - user 0: started by root, root inside is root outside, held by namespaces, capabilities and
//!   read-only mounts alone. Started by anybody else, a user namespace maps root inside to that
//!   user, and no other user exists;
//! - reading what the stand-in shows: `/usr` and the public part of `/etc`. Keep no secrets there;
//! - the network: [`NetworkPolicy::Public`] is the host's network, its loopback services too;
//! - limits where no control group can be made: [`ProcessDriver::limits_enforced`] says which hold.
//!   Bandwidth of disk and network has none. What is written counts as memory as well as storage;
//! - tracing: debuggers (`ptrace`) do not work inside.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use nix::sys::memfd::{MFdFlags, memfd_create};
use orcapack_tasks::outcome::FailureClass;
use orcapack_tasks::task::NetworkPolicy;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

pub use crate::cgroup::LimitsEnforced;
use crate::cgroup::{Cgroup, Cgroups};
use crate::guest::{ExecDefaults, GUEST_AGENT, Guest};
use crate::guest_setup::Setup;
use crate::guest_wire;
use crate::process_filter;
use crate::process_image::Images;
use crate::process_rootfs::{Root, Rootfs};
use crate::process_state::{self, State};
use crate::sandbox::{
    Driver, ExecId, ExecOutput, ExecProgress, ExecRequest, Fetched, Image, ImageSpec, Labels,
    Leftover, Limits, Sandbox, SandboxError, SandboxSpec, Stats, SweepScope, Swept,
};

const HOSTNAME: &str = "orcapack";
/// The process outside, the agent, and the supervisors of the commands that run at a time.
const OWN_PIDS: u32 = 16;
const BUSY_TRIES: usize = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(2);
/// For a process to end that nothing holds; then it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// Root file systems, built images, and the files that tell of live sandboxes.
    pub cache: PathBuf,
}

/// A cheap handle; see the module's documentation.
#[derive(Clone)]
pub struct ProcessDriver {
    core: Arc<Core>,
}

pub(crate) struct Core {
    pub config: ProcessConfig,
    /// The guest agent's program, in memory.
    agent: File,
    filters: Vec<Vec<u8>>,
    cgroups: Cgroups,
    pub rootfs: Rootfs,
    pub images: Images,
    created: AtomicU64,
}

/// What a sandbox is started with.
pub(crate) struct Start {
    pub labels: Labels,
    pub limits: Limits,
    pub network: NetworkPolicy,
    pub root: Root,
    /// A folder with `upper` and `work` that keeps what is written; `None` keeps it in memory.
    pub upper: Option<PathBuf>,
    pub defaults: ExecDefaults,
    pub timeout: Duration,
}

impl ProcessDriver {
    /// Blocks for a few milliseconds.
    ///
    /// # Errors
    /// [`FailureClass::Daemon`] where the cache cannot be written, or the agent's program not be
    /// kept in memory.
    pub fn open(config: ProcessConfig) -> Result<Self, SandboxError> {
        let daemon = |what: &str, error: std::io::Error| {
            SandboxError::new(FailureClass::Daemon, format!("cannot {what}: {error}"))
        };
        let state = process_state::folder(&config.cache);
        fs::create_dir_all(&state)
            .map_err(|error| daemon(&format!("make the folder {}", state.display()), error))?;
        let core = Core {
            agent: agent_program().map_err(|error| daemon("keep the guest agent", error))?,
            filters: process_filter::programs()?,
            cgroups: Cgroups::probe(),
            rootfs: Rootfs::new(&config.cache),
            images: Images::default(),
            created: AtomicU64::new(0),
            config,
        };
        Ok(Self { core: Arc::new(core) })
    }

    /// What [`Driver::sweep`] would remove. Blocks for as long as it takes to read small files.
    ///
    /// # Errors
    /// [`FailureClass::Daemon`] where the cache cannot be read.
    pub fn leftovers(&self, scope: &SweepScope) -> Result<Vec<Leftover>, SandboxError> {
        process_state::leftovers(&self.core.config.cache, scope)
            .map_err(|error| daemon(&format!("cannot read the states of sandboxes: {error}")))
    }

    /// Which limits this machine lets us enforce.
    pub fn limits_enforced(&self) -> LimitsEnforced {
        self.core.cgroups.enforced()
    }
}

impl Driver for ProcessDriver {
    fn name(&self) -> &'static str {
        "process"
    }

    fn image<'a>(&'a self, spec: &'a ImageSpec) -> BoxFuture<'a, Result<Image, SandboxError>> {
        Images::get(&self.core, spec).boxed()
    }

    fn create<'a>(
        &'a self,
        image: &'a Image,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Arc<dyn Sandbox>, SandboxError>> {
        async move {
            let start = Start {
                labels: spec.labels.clone(),
                limits: spec.limits.clone(),
                network: spec.network,
                root: Images::root(&self.core, image)?,
                upper: None,
                defaults: ExecDefaults::new(image, spec),
                timeout: spec.start_timeout,
            };
            let sandbox = self.core.start(start).await?;
            Ok(Arc::new(sandbox) as Arc<dyn Sandbox>)
        }
        .boxed()
    }

    fn sweep<'a>(&'a self, scope: &'a SweepScope) -> BoxFuture<'a, Result<Swept, SandboxError>> {
        let sweep = self.core.clone().sweep(scope.clone());
        async { sweep.await.map(|sandboxes| Swept { sandboxes, ..Swept::default() }) }.boxed()
    }

    /// There is no engine that could be down.
    fn ping(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        async { Ok(()) }.boxed()
    }
}

impl Core {
    /// See [`Driver::sweep`]; the number of sandboxes.
    pub async fn sweep(self: Arc<Self>, scope: SweepScope) -> Result<usize, SandboxError> {
        blocking(move || process_state::sweep(&self.config.cache, &self.cgroups, &scope)).await?
    }

    pub async fn start(self: &Arc<Self>, start: Start) -> Result<ProcessSandbox, SandboxError> {
        let (begun, limit) = (Instant::now(), start.timeout);
        let core = self.clone();
        let (mut held, frame, defaults) = blocking(move || core.spawn(start)).await??;
        let connected = async {
            let broken = || daemon("the sandbox's process ended at once");
            let child = held.child.get_mut();
            let mut stdin = child.stdin.take().ok_or_else(broken)?;
            let stdout = child.stdout.take().ok_or_else(broken)?;
            let (group, pid) = (held.cgroup.clone(), child.id().ok_or_else(broken)?);
            // Side by side: the kernel can take milliseconds to move a process.
            // A failed write is told better by what the agent said before it ended.
            let (_, added) =
                tokio::join!(stdin.write_all(&frame), blocking(move || group.add(pid)));
            added?.map_err(|error| daemon(&format!("cannot limit the sandbox: {error}")))?;
            let _ = stdin.write_all(b"\n").await;
            Guest::connect(stdout, stdin, defaults, limit).await.map_err(|mut error| {
                // It never came to be: nothing was lost while in use.
                if error.class == FailureClass::ExecTransport {
                    error.class = FailureClass::Daemon;
                }
                error
            })
        };
        let result = match timeout(limit.saturating_sub(begun.elapsed()), connected).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("the sandbox was not ready within {limit:?}");
                Err(SandboxError::new(FailureClass::StartTimeout, message))
            }
        };
        match result {
            Ok(guest) => Ok(ProcessSandbox { guest, held: Arc::new(held) }),
            Err(error) => {
                // It may hang where no word of the agent's would come from: it is not waited for.
                let _ = held.child.get_mut().start_kill();
                let _ = Arc::new(held).release().await;
                Err(error)
            }
        }
    }

    /// From here on, what there is of the sandbox is in a state file.
    fn spawn(&self, start: Start) -> Result<(Held, Vec<u8>, ExecDefaults), SandboxError> {
        let number = self.created.fetch_add(1, Ordering::Relaxed);
        let name = process_state::name(&start.labels, number);
        let child = self.spawn_agent(&name)?;
        let pid = child.id().ok_or_else(|| daemon("the sandbox's process ended at once"))?;
        let state = State::new(&start.labels, pid);
        let mut held = Held {
            state: process_state::folder(&self.config.cache).join(format!("{name}.json")),
            cgroup: self.cgroups.named(&name),
            name,
            child: Mutex::new(child),
            gone: AtomicBool::new(false),
        };
        let prepared = state.write(&held.state).and_then(|()| {
            let limits = Limits { pids: start.limits.pids + OWN_PIDS, ..start.limits };
            held.cgroup = self.cgroups.make(&held.name, &limits)?.0;
            Ok(())
        });
        let frame = prepared.map_err(|error| error.to_string()).and_then(|()| {
            let setup = self.setup(&start, held.cgroup.counters());
            guest_wire::encode(0, &setup).ok_or_else(|| "its set-up is too long".to_owned())
        });
        match frame {
            Ok(frame) => Ok((held, frame, start.defaults)),
            Err(message) => Err(daemon(&format!("cannot prepare the sandbox: {message}"))),
        }
    }

    fn spawn_agent(&self, name: &str) -> Result<Child, SandboxError> {
        let program = format!("/proc/self/fd/{}", self.agent.as_raw_fd());
        let mut command = Command::new(program);
        command.arg0("orcapack-sandbox").args(["init", name]).env_clear().kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A process that another thread is just starting may hold the handle that the program was
        // written with.
        let mut result = command.spawn();
        for _ in 0..BUSY_TRIES {
            match &result {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(BUSY_PAUSE);
                    result = command.spawn();
                }
                _ => break,
            }
        }
        result.map_err(|error| daemon(&format!("cannot start a sandbox: {error}")))
    }

    fn setup(&self, start: &Start, counters: &[String; 3]) -> Setup {
        let text = |path: &PathBuf| path.display().to_string();
        let root = &start.root;
        let mut files = vec![(
            "etc/hosts".to_owned(),
            format!("127.0.0.1 localhost {HOSTNAME}\n").into_bytes(),
        )];
        let own_network = start.network == NetworkPolicy::None;
        if !own_network && let Ok(bytes) = fs::read("/etc/resolv.conf") {
            files.push(("etc/resolv.conf".to_owned(), bytes));
        }
        Setup {
            hostname: HOSTNAME.to_owned(),
            own_network,
            user_and_group: (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
            rootfs: text(&root.path),
            hidden: root.hidden.to_vec(),
            layers: root.layers.iter().map(text).collect(),
            folders: root.folders(),
            files,
            storage_bytes: start.limits.storage_bytes,
            upper: start.upper.as_ref().map(text).unwrap_or_default(),
            counters: counters.clone(),
            filters: self.filters.clone(),
        }
    }
}

/// The agent's program as a file in memory that nobody can write to: a file that is open for
/// writing cannot be run.
fn agent_program() -> std::io::Result<File> {
    let mut writer = File::from(memfd_create(c"orcapack-sandbox", MFdFlags::MFD_CLOEXEC)?);
    writer.write_all(GUEST_AGENT)?;
    File::open(format!("/proc/self/fd/{}", writer.as_raw_fd()))
}

/// One sandbox; made by [`ProcessDriver`].
pub(crate) struct ProcessSandbox {
    pub guest: Guest,
    held: Arc<Held>,
}

/// What there is of a sandbox outside of it.
struct Held {
    name: String,
    /// Ends when the last process inside has.
    child: Mutex<Child>,
    cgroup: Cgroup,
    state: PathBuf,
    gone: AtomicBool,
}

impl Drop for Held {
    /// For those that nobody came to release: a start that was given up, or an image's build when
    /// the program ends. Blocks as long as the kernel takes to end the processes.
    fn drop(&mut self) {
        if !*self.gone.get_mut() {
            let _ = self.child.get_mut().start_kill();
            self.forget();
        }
    }
}

impl Held {
    /// Ends what is left of it, and waits until all is gone.
    async fn release(self: &Arc<Self>) -> Result<(), SandboxError> {
        let mut child = self.child.lock().await;
        if timeout(END_TIMEOUT, child.wait()).await.is_err() {
            let _ = child.start_kill();
            let _ = timeout(END_TIMEOUT, child.wait()).await;
        }
        drop(child);
        let held = self.clone();
        if blocking(move || held.forget()).await? {
            return Ok(());
        }
        Err(daemon(&format!("the processes of sandbox {} do not end", self.name)))
    }

    /// Blocks. False where its control group cannot be removed; then the state file stays, for a
    /// later sweep.
    fn forget(&self) -> bool {
        let gone = self.cgroup.remove();
        if gone {
            let _ = fs::remove_file(&self.state);
        }
        self.gone.store(gone, Ordering::Release);
        gone
    }
}

impl ProcessSandbox {
    /// Ends the agent, and everything with it, and waits until all is gone.
    pub async fn end(&self) -> Result<(), SandboxError> {
        // An agent that is gone answers at once; one that hangs is killed.
        let _ = timeout(END_TIMEOUT, self.guest.shutdown()).await;
        self.held.release().await
    }

    /// A sandbox that is lost after the kernel killed in it for memory was lost to that.
    fn explain(&self, error: SandboxError) -> SandboxError {
        if error.class == FailureClass::ExecTransport
            && self.guest.is_lost()
            && self.held.cgroup.memory_kills() > 0
        {
            let message = format!("the sandbox was killed for memory: {error}");
            return SandboxError::new(FailureClass::Oom, message);
        }
        error
    }
}

impl Sandbox for ProcessSandbox {
    fn id(&self) -> &str {
        &self.held.name
    }

    fn exec<'a>(
        &'a self,
        request: &'a ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutput, SandboxError>> {
        self.guest.exec(request).map(|result| result.map_err(|error| self.explain(error))).boxed()
    }

    fn spawn<'a>(
        &'a self,
        request: &'a ExecRequest,
    ) -> BoxFuture<'a, Result<ExecId, SandboxError>> {
        self.guest.spawn(request).map(|result| result.map_err(|error| self.explain(error))).boxed()
    }

    fn poll(&self, id: ExecId) -> BoxFuture<'_, Result<ExecProgress, SandboxError>> {
        self.guest.poll(id).map(|result| result.map_err(|error| self.explain(error))).boxed()
    }

    fn kill(&self, id: ExecId) -> BoxFuture<'_, Result<(), SandboxError>> {
        self.guest.kill(id).map(|result| result.map_err(|error| self.explain(error))).boxed()
    }

    fn put<'a>(
        &'a self,
        dir: &'a str,
        archive: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), SandboxError>> {
        let put = self.guest.put(dir, archive);
        put.map(|result| result.map_err(|error| self.explain(error))).boxed()
    }

    fn get<'a>(
        &'a self,
        path: &'a str,
        bytes_max: u64,
    ) -> BoxFuture<'a, Result<Fetched, SandboxError>> {
        let get = self.guest.get(path, bytes_max);
        get.map(|result| result.map_err(|error| self.explain(error))).boxed()
    }

    fn stop_processes(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        let stop = self.guest.stop_processes();
        stop.map(|result| result.map_err(|error| self.explain(error))).boxed()
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, SandboxError>> {
        self.guest.stats().map(|result| result.map_err(|error| self.explain(error))).boxed()
    }

    fn lost(&self) -> BoxFuture<'_, SandboxError> {
        self.guest.lost().map(|error| self.explain(error)).boxed()
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), SandboxError>> {
        self.end().boxed()
    }
}

/// File system work that must not hold up the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SandboxError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        SandboxError::new(FailureClass::Internal, format!("a blocking task ended early: {error}"))
    })
}

fn daemon(message: &str) -> SandboxError {
    SandboxError::new(FailureClass::Daemon, message)
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
