//! The `docker` driver against the Docker engine of this machine; skipped where none answers.
//!
//! The image is made from this machine's own shell and a few commands, so no registry and no base
//! image is needed. Everything that a test makes bears a run label of its own, and is swept by it.

mod commands;
mod hands;
mod images;
mod life;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, ContainerSummary, EventMessageTypeEnum};
use bollard::query_parameters as query;
use futures_util::{TryStreamExt, future};
use orcapack_actors::docker::DockerDriver;
use orcapack_actors::sandbox::{
    Driver, ExecOutput, ExecRequest, Exit, Fetched, Image, ImageSpec, Labels, Limits, Sandbox,
    SandboxError, SandboxSpec, SweepScope, Swept,
};
use orcapack_tasks::FileTree;
use orcapack_tasks::outcome::FailureClass;
use orcapack_tasks::task::{ImageSource, NetworkPolicy};
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(20);
const BUILD_TIMEOUT: Duration = Duration::from_secs(120);

/// A driver, the engine behind it, and a run of one's own.
struct Bench {
    driver: DockerDriver,
    engine: Docker,
    run: String,
}

impl Bench {
    /// `None`, and a line that says so, where no engine answers.
    async fn new() -> Option<Self> {
        static BENCHES: AtomicU32 = AtomicU32::new(0);
        let driver = DockerDriver::from_env();
        if let Err(error) = driver.ping().await {
            eprintln!("skipped: {error}");
            return None;
        }
        let engine = Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap();
        let number = BENCHES.fetch_add(1, Ordering::Relaxed);
        let run = format!("test-{}-{number}", std::process::id());
        Some(Self { driver, engine, run })
    }

    fn spec(&self, attempt: &str) -> SandboxSpec {
        SandboxSpec {
            labels: Labels {
                run: self.run.clone(),
                node: "test".to_owned(),
                incarnation: 1,
                attempt: attempt.to_owned(),
                deadline_unix_sec: unix_sec() + 3600,
            },
            limits: Limits { cpus: 1.0, memory_bytes: 64 << 20, pids: 64, storage_bytes: 1 << 30 },
            network: NetworkPolicy::None,
            env: BTreeMap::new(),
            workdir: None,
            start_timeout: Duration::from_secs(60),
        }
    }

    /// The image of most tests: user `alice` in `/home/alice`.
    async fn image(&self) -> Image {
        let mut files = machine_files();
        let dockerfile = "FROM scratch\nCOPY root/ /\nENV COLOUR=green\nWORKDIR /home/alice\n\
                          RUN chown 1000:1000 /home/alice\nUSER alice\n";
        files.insert("Dockerfile", dockerfile.as_bytes(), false);
        self.build(files).await.unwrap()
    }

    async fn build(&self, files: FileTree) -> Result<Image, SandboxError> {
        let source = ImageSource::Dockerfile(files);
        self.driver.image(&ImageSpec { source, build_timeout: BUILD_TIMEOUT }).await
    }

    async fn sandbox(&self) -> Arc<dyn Sandbox> {
        let image = self.image().await;
        self.driver.create(&image, &self.spec("1.1.agent")).await.unwrap()
    }

    async fn sweep(&self) -> Swept {
        let scope = SweepScope::Run { run: self.run.clone(), except_incarnation: None };
        self.driver.sweep(&scope).await.unwrap()
    }

    /// Names of this run's containers, whatever their state.
    async fn containers(&self) -> Vec<String> {
        self.list(true).await
    }

    async fn list(&self, all: bool) -> Vec<String> {
        let label = vec![format!("orcapack.run={}", self.run)];
        let options = query::ListContainersOptions {
            all,
            filters: Some([("label".to_owned(), label)].into()),
            ..Default::default()
        };
        let containers = self.engine.list_containers(Some(options)).await.unwrap();
        let name = |container: ContainerSummary| {
            // Without a name: removed, but listed for ever after by an engine that was confused.
            let name = container.names.unwrap_or_default().pop();
            name.unwrap_or_else(|| format!("{:?}", container.id))
        };
        containers.into_iter().map(name).collect()
    }

    /// Looks again and again until this run has no container.
    async fn until_no_container(&self) {
        let deadline = Instant::now() + SOON;
        while !self.containers().await.is_empty() {
            assert!(Instant::now() < deadline, "still there: {:?}", self.containers().await);
            // The engine removes by itself and is only asked here: polled.
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn unix_sec() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A root file system of this machine's shell, a few commands and their libraries, under `root/`.
fn machine_files() -> FileTree {
    let mut files = FileTree::default();
    for name in ["sh", "cat", "chown", "head", "id", "ls", "mkdir", "sleep", "tail", "tr"] {
        insert_program(&mut files, name);
    }
    let passwd = "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
    files.insert("root/etc/passwd", passwd.as_bytes(), false);
    files.insert("root/etc/group", b"root:x:0:\nalice:x:1000:\n", false);
    files.insert("root/home/alice/.profile", b"", false);
    files
}

/// A command of this machine with its libraries.
fn insert_program(files: &mut FileTree, name: &str) {
    let program = ["/bin", "/usr/bin"].map(|dir| Path::new(dir).join(name));
    let program = program.into_iter().find(|path| path.exists()).expect("a program of POSIX");
    let libraries = Command::new("ldd").arg(&program).output().unwrap().stdout;
    let libraries = String::from_utf8(libraries).unwrap();
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    for library in libraries {
        insert_file(files, library, Path::new(library));
    }
    insert_file(files, &format!("/bin/{name}"), &program);
}

fn insert_file(files: &mut FileTree, path: &str, from: &Path) {
    files.insert(format!("root{path}"), &std::fs::read(from).unwrap(), true);
}

fn sh(script: &str) -> ExecRequest {
    ExecRequest::new(["sh", "-c", script], SOON)
}

fn as_root(script: &str) -> ExecRequest {
    ExecRequest { user: Some("root".to_owned()), ..sh(script) }
}

async fn run(sandbox: &dyn Sandbox, request: ExecRequest) -> ExecOutput {
    timeout(2 * SOON, sandbox.exec(&request)).await.expect("an exec ends").unwrap()
}

/// Standard output of a script that must succeed.
async fn said(sandbox: &dyn Sandbox, script: &str) -> String {
    let output = run(sandbox, sh(script)).await;
    assert_eq!(output.exit, Exit::Code(0), "{script}: {}", output.stderr);
    output.stdout.to_string()
}
