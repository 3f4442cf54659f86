//! The environment's driver trait: what every kind of sandbox can do, in the terms of its users.
//!
//! A [`Driver`] makes images and sandboxes; a [`Sandbox`] is one live environment. Drivers are
//! `docker` (containers of a Docker engine), `process` (namespaces of this kernel, no daemon) and
//! `fake` (no isolation and no process at all, for tests, simulation and benchmarks of everything
//! around the sandbox).
//!
//! Order of calls: [`Driver::image`], then [`Driver::create`], then anything on the [`Sandbox`],
//! side by side if wanted, then [`Sandbox::remove`]. A sandbox that is dropped without `remove` is
//! swept later by its labels.
//!
//! Every call ends: each has a time limit of its own or one that its caller gives, and the death of
//! the sandbox resolves every call on it at once with [`FailureClass::ExecTransport`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use orcapack_tasks::Digest;
use orcapack_tasks::outcome::FailureClass;
use orcapack_tasks::task::{ImageSource, NetworkPolicy};

/// Makes images and sandboxes of one kind. Shared by all rollouts of a node.
pub trait Driver: Send + Sync + 'static {
    /// `docker`, `process` or `fake`.
    fn name(&self) -> &'static str;

    /// Builds, finds or pulls an image. Calls for one content are flown once and cached ever after,
    /// on disk too.
    ///
    /// # Errors
    /// [`FailureClass::Image`] with the builder's last lines, or [`FailureClass::Daemon`].
    fn image<'a>(&'a self, spec: &'a ImageSpec) -> BoxFuture<'a, Result<Image, SandboxError>>;

    /// Creates and starts a sandbox that is ready for [`Sandbox::exec`]. An error leaves nothing
    /// behind.
    fn create<'a>(
        &'a self,
        image: &'a Image,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Arc<dyn Sandbox>, SandboxError>>;

    /// Removes every container, network, volume, control group and scratch folder in `scope`; waits
    /// until they are gone. What is not labelled as ours is never touched.
    fn sweep<'a>(&'a self, scope: &'a SweepScope) -> BoxFuture<'a, Result<Swept, SandboxError>>;

    /// Whether the engine answers now. Asked by the breaker before it lets creations through again.
    fn ping(&self) -> BoxFuture<'_, Result<(), SandboxError>>;
}

/// One live environment. Calls may overlap; commands really run side by side.
pub trait Sandbox: Send + Sync {
    /// The engine's id of it, for logs.
    fn id(&self) -> &str;

    /// Runs a command to its end or its time limit, at which its whole process tree is killed.
    fn exec<'a>(
        &'a self,
        request: &'a ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutput, SandboxError>>;

    /// Starts a command in the background, with the same time limit and output bound.
    fn spawn<'a>(&'a self, request: &'a ExecRequest)
    -> BoxFuture<'a, Result<ExecId, SandboxError>>;

    /// What a background command has said so far; `exit` is `None` while it runs.
    fn poll(&self, id: ExecId) -> BoxFuture<'_, Result<ExecProgress, SandboxError>>;

    /// Kills a background command's whole process tree.
    fn kill(&self, id: ExecId) -> BoxFuture<'_, Result<(), SandboxError>>;

    /// Unpacks a tar archive (regular files and folders) into `dir`, which is made when absent.
    /// Files belong to root.
    fn put<'a>(&'a self, dir: &'a str, archive: Vec<u8>)
    -> BoxFuture<'a, Result<(), SandboxError>>;

    /// A file or folder as a tar archive with paths relative to `path`'s parent. Links and special
    /// files are left out; `bytes_max` bounds the archive.
    fn get<'a>(
        &'a self,
        path: &'a str,
        bytes_max: u64,
    ) -> BoxFuture<'a, Result<Fetched, SandboxError>>;

    /// Kills every process in the sandbox but its own guest agent.
    fn stop_processes(&self) -> BoxFuture<'_, Result<(), SandboxError>>;

    fn stats(&self) -> BoxFuture<'_, Result<Stats, SandboxError>>;

    /// Resolves when the sandbox dies by itself: killed, out of memory, its engine gone.
    fn lost(&self) -> BoxFuture<'_, SandboxError>;

    /// Kills and removes it; waits until it is gone. Removing what is gone already is a success.
    fn remove(&self) -> BoxFuture<'_, Result<(), SandboxError>>;
}

/// What an image is made from.
#[derive(Clone, Debug)]
pub struct ImageSpec {
    pub source: ImageSource,
    pub build_timeout: Duration,
}

/// An image that is there to be used.
#[derive(Clone, Debug)]
pub struct Image {
    /// The driver's name for it: an image tag, or a cache key.
    pub reference: String,
    pub digest: Digest,
    /// `WORKDIR`; `/` where the image sets none.
    pub workdir: String,
    /// `USER`; `None` is root.
    pub user: Option<String>,
    /// `ENV`.
    pub env: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct SandboxSpec {
    pub labels: Labels,
    pub limits: Limits,
    pub network: NetworkPolicy,
    /// Added to the image's.
    pub env: BTreeMap<String, String>,
    /// Over the image's `WORKDIR`.
    pub workdir: Option<String>,
    /// Everything from the first engine call to the guest agent's first word.
    pub start_timeout: Duration,
}

/// Hard limits of one sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub cpus: f64,
    pub memory_bytes: u64,
    pub pids: u32,
    /// Of everything written; enforced where the driver can (`process`: yes; `docker`: by some
    /// storage drivers only).
    pub storage_bytes: u64,
}

/// Whose a container, network, volume or control group is. Written on every one of them, with the
/// prefix `orcapack.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The run's name and a random part, so that two runs of one name never meet.
    pub run: String,
    pub node: String,
    /// Changes at every start of a node.
    pub incarnation: u64,
    /// `ROLLOUT.ATTEMPT` with the sandbox's part: `12.1.agent`, `12.1.verifier`.
    pub attempt: String,
    /// Seconds since the Unix epoch, after which anyone may remove it.
    pub deadline_unix_sec: u64,
}

/// What [`Driver::sweep`] may remove.
#[derive(Clone, Debug)]
pub enum SweepScope {
    /// Everything of this run, or only what other incarnations than the given one left.
    Run { run: String, except_incarnation: Option<u64> },
    /// The same of this node only, beside which others may use one engine; of one run, or of all.
    Node { node: String, run: Option<String>, except_incarnation: Option<u64> },
    /// Everything whose deadline has passed.
    Expired { now_unix_sec: u64 },
    /// Everything with our labels, whoever runs it.
    All,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub sandboxes: usize,
    pub networks: usize,
    pub volumes: usize,
}

/// Something with our labels that a sweep would remove.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Leftover {
    /// `container`, `network`, `volume` or `sandbox`.
    pub kind: &'static str,
    pub id: String,
    /// The labels that say whose it is; `None` where it lacks one.
    pub run: Option<String>,
    pub attempt: Option<String>,
    pub deadline_unix_sec: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// Never a shell line: `["bash", "-c", "..."]` asks for a shell.
    pub argv: Vec<String>,
    /// The sandbox's working directory where `None`.
    pub cwd: Option<String>,
    /// Over the sandbox's.
    pub env: BTreeMap<String, String>,
    /// A name or `uid[:gid]`; `None` is the image's user.
    pub user: Option<String>,
    pub stdin: Vec<u8>,
    pub time_limit: Duration,
    /// Of standard output and of standard error each; what is more is cut out of the middle.
    pub output_bytes_max: usize,
    /// The only folder that the command and its descendants may change; `None`: whatever its user
    /// may. Made when absent; a link, or a folder of another user's, is refused with exit code 126,
    /// so let a confined command be the first to use it. `TMPDIR` names it unless `env` does.
    ///
    /// Also refused: attributes and flags of files, POSIX shared memory, signals to and tracing of
    /// other commands. Not refused: asking a service that listens on a path or port, and reading.
    /// Where the kernel cannot do this, the call fails, and nothing is run.
    pub writable_only: Option<String>,
}

/// A background command of one sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExecId(pub u32);

/// Both outputs are what was said from the begin to now, within the request's bound;
/// [`Captured::since`] makes increments of them.
#[derive(Clone, Debug)]
pub struct ExecProgress {
    /// Of the command itself, whatever daemons it left; `None` while it runs.
    pub exit: Option<Exit>,
    pub stdout: Captured,
    pub stderr: Captured,
}

#[derive(Clone, Debug)]
pub struct ExecOutput {
    pub exit: Exit,
    pub stdout: Captured,
    pub stderr: Captured,
    pub elapsed: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// Killed at its time limit, with its whole process tree.
    TimedOut,
    /// The kernel killed a process of this sandbox for memory while the command ran, and the
    /// command failed.
    OutOfMemory,
}

/// A bounded output: its start, its end, and how much was cut out between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    pub head: Vec<u8>,
    /// Empty when nothing was cut.
    pub tail: Vec<u8>,
    pub cut_bytes: u64,
}

/// What [`Sandbox::get`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    Archive(Vec<u8>),
    Absent,
    /// More than the caller's bound.
    TooLarge,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub memory_bytes: u64,
    pub pids: u32,
}

/// A sandbox operation that did not happen, classified where it arose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SandboxError {
    pub class: FailureClass,
    /// Lower-case, whole, fit to be shown: what was done, to what, and what the engine said.
    pub message: String,
}

impl SandboxError {
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }
}

impl ExecRequest {
    /// A command with no input, the image's user and directory, and a bound of 64 KiB on its
    /// output.
    pub fn new<const N: usize>(argv: [&str; N], time_limit: Duration) -> Self {
        Self {
            argv: argv.map(str::to_owned).to_vec(),
            cwd: None,
            env: BTreeMap::new(),
            user: None,
            stdin: Vec::new(),
            time_limit,
            output_bytes_max: 64 << 10,
            writable_only: None,
        }
    }
}

impl Exit {
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::TimedOut => f.write_str("time limit"),
            Self::OutOfMemory => f.write_str("out of memory"),
        }
    }
}

impl Captured {
    /// How long the whole output was, with what was cut out.
    pub fn total_bytes(&self) -> u64 {
        self.head.len() as u64 + self.cut_bytes + self.tail.len() as u64
    }

    /// What came after its first `seen` bytes, as far as it is there: that of one look at a
    /// background command which an earlier look, of [`Captured::total_bytes`], did not show.
    pub fn since(&self, seen: u64) -> Self {
        let skip = |bytes: &[u8], count: u64| {
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
            bytes.split_at(count).1.to_vec()
        };
        let after_head = seen.saturating_sub(self.head.len() as u64);
        Self {
            head: skip(&self.head, seen),
            tail: skip(&self.tail, after_head.saturating_sub(self.cut_bytes)),
            cut_bytes: self.cut_bytes.saturating_sub(after_head),
        }
    }
}

impl fmt::Display for Captured {
    /// As text, with a line that says so where bytes were cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.head))?;
        if self.cut_bytes > 0 {
            write!(f, "\n[... {} bytes cut ...]\n", self.cut_bytes)?;
        }
        f.write_str(&String::from_utf8_lossy(&self.tail))
    }
}

impl SweepScope {
    /// Whether a sandbox with these labels may be removed.
    pub fn covers(&self, labels: &Labels) -> bool {
        match self {
            Self::Run { run, except_incarnation } => {
                labels.run == *run && Some(labels.incarnation) != *except_incarnation
            }
            Self::Node { node, run, except_incarnation } => {
                labels.node == *node
                    && run.as_ref().is_none_or(|run| labels.run == *run)
                    && Some(labels.incarnation) != *except_incarnation
            }
            Self::Expired { now_unix_sec } => labels.deadline_unix_sec < *now_unix_sec,
            Self::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Captured;

    proptest! {
        #[test]
        fn increments_hold_what_is_new_and_nothing_twice(
            head in prop::collection::vec(any::<u8>(), 0..20),
            tail in prop::collection::vec(any::<u8>(), 0..20),
            cut_bytes in 0..20_u64,
            seen in 0..80_u64,
        ) {
            let whole = Captured { head, tail, cut_bytes };
            let new = whole.since(seen);
            prop_assert_eq!(new.total_bytes(), whole.total_bytes().saturating_sub(seen));
            prop_assert!(whole.head.ends_with(&new.head));
            prop_assert!(whole.tail.ends_with(&new.tail));
            prop_assert!(new.cut_bytes == 0 || new.tail == whole.tail);
            prop_assert!(new.head.is_empty() || new.cut_bytes == whole.cut_bytes);
            prop_assert_eq!(whole.since(0), whole.clone());
        }
    }
}
