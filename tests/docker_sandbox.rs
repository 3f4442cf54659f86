//! The `docker` driver against the Docker engine of this machine; skipped where none answers.
//!
//! The image is made from this machine's own shell and a few commands, so no registry and no base image is needed.
//! Everything that a test makes bears a run label of its own, and is swept by it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, EventMessageTypeEnum};
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
        containers.into_iter().flat_map(|container| container.names.unwrap_or_default()).collect()
    }

    /// Looks again and again until this run has no container.
    async fn until_no_container(&self) {
        let deadline = Instant::now() + SOON;
        while !self.containers().await.is_empty() {
            assert!(Instant::now() < deadline, "still there: {:?}", self.containers().await);
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn remove_image(&self, image: &Image) {
        let options = query::RemoveImageOptions { force: true, ..Default::default() };
        self.engine.remove_image(&image.reference, Some(options), None).await.unwrap();
    }
}

fn unix_sec() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A root file system of this machine's shell, a few commands and their libraries, under `root/`.
fn machine_files() -> FileTree {
    let mut files = FileTree::default();
    for name in ["sh", "cat", "chown", "head", "id", "ls", "mkdir", "sleep", "tail", "tr"] {
        let program = ["/bin", "/usr/bin"].map(|dir| Path::new(dir).join(name));
        let program = program.into_iter().find(|path| path.exists()).expect("a program of POSIX");
        let libraries = Command::new("ldd").arg(&program).output().unwrap().stdout;
        let libraries = String::from_utf8(libraries).unwrap();
        let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for library in libraries {
            insert_file(&mut files, library, Path::new(library));
        }
        insert_file(&mut files, &format!("/bin/{name}"), &program);
    }
    let passwd = "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
    files.insert("root/etc/passwd", passwd.as_bytes(), false);
    files.insert("root/etc/group", b"root:x:0:\nalice:x:1000:\n", false);
    files.insert("root/home/alice/.profile", b"", false);
    files
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

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, path, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

macro_rules! bench_or_skip {
    () => {
        match Bench::new().await {
            Some(bench) => bench,
            None => return,
        }
    };
}

#[tokio::test]
async fn a_command_gets_its_input_and_gives_its_exit_code_and_both_outputs() {
    let bench = bench_or_skip!();
    let sandbox = bench.sandbox().await;
    let request = ExecRequest { stdin: b"in".to_vec(), ..sh("cat; echo err >&2; exit 7") };
    let output = run(&*sandbox, request).await;
    assert_eq!(output.exit, Exit::Code(7));
    assert_eq!(
        (output.stdout.to_string(), output.stderr.to_string()),
        ("in".into(), "err\n".into())
    );
    let missing = run(&*sandbox, ExecRequest::new(["no-such-program"], SOON)).await;
    assert_eq!(missing.exit, Exit::Code(127));
    let killed = run(&*sandbox, sh("kill -9 $$")).await;
    assert_eq!(killed.exit, Exit::Signal(9));
    sandbox.remove().await.unwrap();
    assert!(bench.containers().await.is_empty());
}

#[tokio::test]
async fn a_command_runs_as_the_images_user_in_its_directory_with_its_variables() {
    let bench = bench_or_skip!();
    let image = bench.image().await;
    let mut spec = bench.spec("1.1.agent");
    spec.env.insert("SHAPE".to_owned(), "round".to_owned());
    let sandbox = bench.driver.create(&image, &spec).await.unwrap();
    let seen = said(&*sandbox, "id -u; pwd; echo $COLOUR $SHAPE; echo > file").await;
    assert_eq!(seen, "1000\n/home/alice\ngreen round\n");
    let request = ExecRequest { cwd: Some("/etc".to_owned()), ..as_root("id -u; pwd") };
    assert_eq!(run(&*sandbox, request).await.stdout.to_string(), "0\n/etc\n");
    bench.sweep().await;
}

#[tokio::test]
async fn the_time_limit_kills_the_whole_process_tree() {
    let bench = bench_or_skip!();
    let sandbox = bench.sandbox().await;
    let script = "sleep 1000 & (sleep 1000 & sleep 1000) & sleep 1000";
    let request = ExecRequest { time_limit: Duration::from_millis(500), ..sh(script) };
    assert_eq!(run(&*sandbox, request).await.exit, Exit::TimedOut);
    let left = run(&*sandbox, as_root("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).await;
    assert!(!left.stdout.to_string().contains("sleep"), "{}", left.stdout);
    bench.sweep().await;
}

#[tokio::test]
async fn a_background_command_is_polled_and_killed() {
    let bench = bench_or_skip!();
    let sandbox = bench.sandbox().await;
    let id = sandbox.spawn(&sh("echo first; sleep 1000")).await.unwrap();
    let deadline = Instant::now() + SOON;
    let progress = loop {
        let progress = sandbox.poll(id).await.unwrap();
        if !progress.stdout.head.is_empty() {
            break progress;
        }
        assert!(Instant::now() < deadline, "no output came");
        sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((progress.exit, progress.stdout.to_string()), (None, "first\n".to_owned()));
    sandbox.kill(id).await.unwrap();
    let deadline = Instant::now() + SOON;
    while sandbox.poll(id).await.unwrap().exit.is_none() {
        assert!(Instant::now() < deadline, "it outlived its kill");
        sleep(Duration::from_millis(10)).await;
    }
    bench.sweep().await;
}

#[tokio::test]
async fn files_go_in_and_come_out_and_an_absent_one_is_none() {
    let bench = bench_or_skip!();
    let sandbox = bench.sandbox().await;
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let files = archive(&[("a/small", b"hello"), ("big", &big)]);
    sandbox.put("/work/in", files).await.unwrap();
    assert_eq!(said(&*sandbox, "cat /work/in/a/small").await, "hello");

    let Fetched::Archive(back) = sandbox.get("/work/in", 32 << 20).await.unwrap() else {
        panic!("it is there, and small enough");
    };
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(&*back).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().trim_end_matches('/').to_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        entries.insert(path, bytes);
    }
    assert_eq!(entries.get("in/a/small").map(Vec::as_slice), Some(&b"hello"[..]));
    assert!(entries.get("in/big") == Some(&big), "the large file came back changed");

    assert_eq!(sandbox.get("/no/such", 1 << 20).await.unwrap(), Fetched::Absent);
    let error = sandbox.get("/work/in/big", 1_000).await.unwrap_err();
    assert_eq!(error.class, FailureClass::ExecTransport, "{error}");
    bench.sweep().await;
}

#[tokio::test]
async fn an_endless_output_is_cut_in_the_middle() {
    let bench = bench_or_skip!();
    let sandbox = bench.sandbox().await;
    let script = "echo start; head -c 50000000 /dev/zero; echo end";
    let request = ExecRequest { output_bytes_max: 1_000, ..sh(script) };
    let stdout = run(&*sandbox, request).await.stdout;
    assert!(stdout.head.starts_with(b"start\n") && stdout.tail.ends_with(b"end\n"));
    assert_eq!(stdout.head.len() + stdout.tail.len(), 1_000);
    assert_eq!(stdout.cut_bytes, 50_000_010 - 1_000);
    bench.sweep().await;
}

#[tokio::test]
async fn a_command_that_takes_too_much_memory_is_killed_and_the_sandbox_lives_on() {
    let bench = bench_or_skip!();
    let sandbox = bench.sandbox().await;
    assert_eq!(run(&*sandbox, sh("tail /dev/zero")).await.exit, Exit::OutOfMemory);
    assert_eq!(said(&*sandbox, "echo alive").await, "alive\n");
    bench.sweep().await;
}

#[tokio::test]
async fn processes_are_limited_and_the_agent_still_answers() {
    let bench = bench_or_skip!();
    let sandbox = bench.sandbox().await;
    let script = "i=0; while [ $i -lt 500 ]; do sleep 1000 & i=$((i+1)); done";
    let bomb = run(&*sandbox, sh(script)).await;
    assert!(!bomb.exit.success(), "500 processes in a limit of 64");
    assert!(sandbox.stats().await.unwrap().pids <= 64);
    sandbox.stop_processes().await.unwrap();
    assert_eq!(said(&*sandbox, "echo alive").await, "alive\n");
    bench.sweep().await;
}

#[tokio::test]
async fn without_a_network_there_is_only_loopback() {
    let bench = bench_or_skip!();
    let sandbox = bench.sandbox().await;
    let devices = said(&*sandbox, "cat /proc/net/dev").await;
    let devices: Vec<&str> =
        devices.lines().filter_map(|line| line.split_once(':')).map(|d| d.0.trim()).collect();
    assert_eq!(devices, ["lo"]);
    bench.sweep().await;
}

#[tokio::test]
async fn a_hostile_command_reaches_neither_the_agents_streams_nor_its_life() {
    let bench = bench_or_skip!();
    let sandbox = bench.sandbox().await;
    for script in ["echo forged > /proc/1/fd/1", "cat < /proc/1/fd/0", "cat /proc/1/mem"] {
        for request in [sh(script), as_root(script)] {
            let output = run(&*sandbox, request).await;
            assert!(!output.exit.success(), "{script} went through");
        }
    }
    run(&*sandbox, as_root("kill -9 1; kill -TERM 1; kill -STOP 1; kill -9 -1")).await;
    assert_eq!(said(&*sandbox, "echo alive").await, "alive\n");
    let status = run(&*sandbox, as_root("cat /proc/self/status")).await.stdout.to_string();
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID: bits 0, 1, 3, 4, 5, 6, 7.
    assert!(status.contains("CapBnd:\t00000000000000fb"), "{status}");
    bench.sweep().await;
}

#[tokio::test]
async fn a_kill_from_outside_resolves_every_call_with_what_happened() {
    let bench = bench_or_skip!();
    let sandbox = bench.sandbox().await;
    let long = sh("sleep 1000");
    let killing = async {
        said(&*sandbox, "echo up").await;
        let options = None::<query::KillContainerOptions>;
        bench.engine.kill_container(sandbox.id(), options).await.unwrap();
        Instant::now()
    };
    let calls = future::join4(killing, sandbox.exec(&long), sandbox.exec(&long), sandbox.lost());
    let (killed_at, first, second, lost) = timeout(SOON, calls).await.expect("every call ends");
    assert!(killed_at.elapsed() < Duration::from_secs(5), "late by {:?}", killed_at.elapsed());
    assert_eq!(lost.class, FailureClass::ExecTransport, "{lost}");
    let expected = format!("container {} was killed from outside (exit 137)", sandbox.id());
    assert_eq!(lost.message, expected);
    assert_eq!(first.unwrap_err(), lost);
    assert_eq!(second.unwrap_err(), lost);
    assert_eq!(sandbox.exec(&long).await.unwrap_err(), lost);
    sandbox.remove().await.unwrap();
    bench.until_no_container().await;
}

#[tokio::test]
async fn removing_what_is_gone_or_going_is_a_success() {
    let bench = bench_or_skip!();
    let image = bench.image().await;
    let first = bench.driver.create(&image, &bench.spec("1.1.agent")).await.unwrap();
    let second = bench.driver.create(&image, &bench.spec("1.1.verifier")).await.unwrap();
    let (removed, swept) = future::join(first.remove(), bench.sweep()).await;
    removed.unwrap();
    assert!(swept.sandboxes >= 1);
    assert!(bench.containers().await.is_empty(), "a removal waits until it is gone");
    second.remove().await.unwrap();
}

#[tokio::test]
async fn a_dropped_sandbox_goes_by_itself() {
    let bench = bench_or_skip!();
    drop(bench.sandbox().await);
    bench.until_no_container().await;
}

#[tokio::test]
async fn the_death_of_its_owner_takes_the_container_along() {
    const OWNER: &str = "ORCAPACK_TEST_OWNER";
    let Some(mut bench) = Bench::new().await else { return };
    if let Ok(run) = std::env::var(OWNER) {
        bench.run = run;
        let _sandbox = bench.sandbox().await;
        return future::pending().await;
    }
    bench.image().await;
    let test = "the_death_of_its_owner_takes_the_container_along";
    let mut owner = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(OWNER, &bench.run)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + SOON;
    while bench.list(false).await.is_empty() {
        assert!(Instant::now() < deadline, "the owner started no container");
        sleep(Duration::from_millis(20)).await;
    }
    owner.kill().await.unwrap();
    bench.until_no_container().await;
}

/// A container with our labels that nothing started.
async fn plant(bench: &Bench, incarnation: u64, deadline_unix_sec: u64) {
    let labels = [
        ("orcapack", "1".to_owned()),
        ("orcapack.run", bench.run.clone()),
        ("orcapack.incarnation", incarnation.to_string()),
        ("orcapack.deadline", deadline_unix_sec.to_string()),
    ];
    let body = ContainerCreateBody {
        image: Some(bench.image().await.reference),
        cmd: Some(vec!["sh".to_owned()]),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
        ..Default::default()
    };
    let name = format!("orcapack-{}-planted-{incarnation}", bench.run);
    let options = query::CreateContainerOptions { name: Some(name), ..Default::default() };
    bench.engine.create_container(Some(options), body).await.unwrap();
}

#[tokio::test]
async fn a_sweep_takes_what_other_incarnations_left_and_nothing_else() {
    let bench = bench_or_skip!();
    plant(&bench, 1, unix_sec() + 3600).await;
    plant(&bench, 2, unix_sec() + 3600).await;
    let scope = SweepScope::Run { run: bench.run.clone(), except_incarnation: Some(2) };
    let swept = bench.driver.sweep(&scope).await.unwrap();
    assert_eq!(swept, Swept { sandboxes: 1, networks: 0, volumes: 0 });
    assert_eq!(bench.containers().await, [format!("/orcapack-{}-planted-2", bench.run)]);
    assert_eq!(bench.sweep().await.sandboxes, 1);
    assert!(bench.containers().await.is_empty());
}

#[tokio::test]
async fn a_sweep_of_the_expired_takes_what_is_past_its_deadline() {
    let bench = bench_or_skip!();
    plant(&bench, 1, 1_000).await;
    plant(&bench, 2, unix_sec() + 3600).await;
    // A past so distant that nothing of anyone else's has expired by then.
    let scope = SweepScope::Expired { now_unix_sec: 1_000 };
    assert_eq!(bench.driver.sweep(&scope).await.unwrap().sandboxes, 1);
    assert_eq!(bench.containers().await, [format!("/orcapack-{}-planted-2", bench.run)]);
    bench.sweep().await;
}

#[tokio::test]
async fn labelled_networks_and_volumes_are_swept() {
    let bench = bench_or_skip!();
    let labels = || [("orcapack", "1"), ("orcapack.run", &*bench.run)];
    let volume = bollard::models::VolumeCreateRequest {
        name: Some(bench.run.clone()),
        labels: Some(labels().map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        ..Default::default()
    };
    bench.engine.create_volume(volume).await.unwrap();
    let network = bollard::models::NetworkCreateRequest {
        name: bench.run.clone(),
        labels: Some(labels().map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        ..Default::default()
    };
    bench.engine.create_network(network).await.unwrap();
    assert_eq!(bench.sweep().await, Swept { sandboxes: 0, networks: 1, volumes: 1 });
    assert_eq!(bench.sweep().await, Swept::default());
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_refused_and_leaves_nothing() {
    let bench = bench_or_skip!();
    let image = bench.image().await;
    let start_timeout = Duration::from_millis(20);
    let spec = SandboxSpec { start_timeout, ..bench.spec("1.1.agent") };
    let error = bench.driver.create(&image, &spec).await.err().expect("20 ms are too short");
    assert_eq!(error.class, FailureClass::StartTimeout, "{error}");
    assert!(bench.containers().await.is_empty());
}

#[tokio::test]
async fn a_creation_that_its_caller_gives_up_leaves_nothing() {
    let bench = bench_or_skip!();
    let image = bench.image().await;
    for patience_ms in [1, 30, 100, 150] {
        let spec = bench.spec(&format!("{patience_ms}.1.agent"));
        let patience = Duration::from_millis(patience_ms);
        let _ = timeout(patience, bench.driver.create(&image, &spec)).await;
    }
    // The engine may not have heard of the last one yet: it is gone once one more has come and gone after it.
    bench.driver.create(&image, &bench.spec("last")).await.unwrap().remove().await.unwrap();
    bench.until_no_container().await;
}

#[tokio::test]
async fn an_image_that_is_gone_is_an_image_failure() {
    let bench = bench_or_skip!();
    let mut image = bench.image().await;
    image.reference = "orcapack/env:none".to_owned();
    let error = bench.driver.create(&image, &bench.spec("1.1.agent")).await.err().unwrap();
    assert_eq!(error.class, FailureClass::Image, "{error}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_a_daemon_failure() {
    let driver = DockerDriver::at("unix:///no/such/docker.sock");
    let error = driver.ping().await.unwrap_err();
    assert_eq!(error.class, FailureClass::Daemon);
    assert!(error.message.contains("unix:///no/such/docker.sock"), "{error}");
}

/// A context whose image nobody has built yet.
fn fresh_context(bench: &Bench, dockerfile: &str) -> FileTree {
    let mut files = FileTree::default();
    files.insert("Dockerfile", dockerfile.as_bytes(), false);
    files.insert("unique", format!("{} {:?}", bench.run, SystemTime::now()).as_bytes(), false);
    files
}

#[tokio::test]
async fn twenty_calls_for_one_image_are_one_build() {
    let bench = bench_or_skip!();
    let since = unix_sec().to_string();
    let files = fresh_context(&bench, "FROM scratch\nCOPY unique /");
    let calls = (0..20).map(|_| bench.build(files.clone()));
    let images = future::try_join_all(calls).await.unwrap();
    bench.build(files.clone()).await.unwrap();
    let until = (unix_sec() + 1).to_string();
    assert!(images.iter().all(|image| image.reference == images[0].reference));

    let filters = [("event".to_owned(), vec!["tag".to_owned()])];
    let options = query::EventsOptions {
        since: Some(since),
        until: Some(until),
        filters: Some(filters.into()),
    };
    let events: Vec<_> = bench.engine.events(Some(options)).try_collect().await.unwrap();
    let names = events.iter().filter(|event| event.typ == Some(EventMessageTypeEnum::IMAGE));
    let names = names.filter_map(|event| event.actor.as_ref()?.attributes.as_ref()?.get("name"));
    assert_eq!(names.filter(|name| **name == images[0].reference).count(), 1);
    bench.remove_image(&images[0]).await;
}

#[tokio::test]
async fn a_failed_build_tells_all_who_wait_and_is_tried_again() {
    let bench = bench_or_skip!();
    let mut files = fresh_context(&bench, "");
    for (path, entry) in machine_files().iter() {
        files.insert_entry(path, entry.clone());
    }
    let dockerfile = "FROM scratch\nCOPY root/ /\nRUN echo the reason why; exit 3\nCOPY unique /";
    files.insert("Dockerfile", dockerfile.as_bytes(), false);
    let (first, second) =
        future::join(bench.build(files.clone()), bench.build(files.clone())).await;
    let error = first.unwrap_err();
    assert_eq!(second.unwrap_err(), error);
    assert_eq!(error.class, FailureClass::Image);
    assert!(error.message.contains("Step 3/"), "{error}");
    assert!(error.message.contains("the reason why"), "{error}");
    assert!(error.message.contains("returned a non-zero code: 3"), "{error}");
    assert_eq!(bench.build(files).await.unwrap_err().class, FailureClass::Image);
}

#[tokio::test]
async fn what_the_builder_refuses_is_named() {
    let bench = bench_or_skip!();
    for (dockerfile, expected) in [
        ("FROM scratch\nINSTALL gcc\n", "unknown instruction: INSTALL"),
        ("FROM scratch\nCOPY no-such-file /\n", "no-such-file"),
        (
            "FROM orcapack/base:0\n",
            "orcapack/base:0 is neither local nor could be pulled; make it with tasks/base/build.sh",
        ),
        ("FROM UPPER CASE\n", "FROM requires either one or three arguments"),
        ("FROM what?\n", "\"what?\" is not an image reference"),
    ] {
        let error = bench.build(fresh_context(&bench, dockerfile)).await.unwrap_err();
        assert_eq!(error.class, FailureClass::Image, "{error}");
        assert!(error.message.contains(expected), "{dockerfile}: {error}");
    }
    let error = bench.build(FileTree::default()).await.unwrap_err();
    assert_eq!(error.message, "the build context has no Dockerfile");
}

#[tokio::test]
async fn a_build_past_its_time_limit_is_cancelled_in_the_engine() {
    let bench = bench_or_skip!();
    let mut files = machine_files();
    let dockerfile = format!("FROM scratch\nCOPY root/ /\nRUN : {}; sleep 100000\n", bench.run);
    files.insert("Dockerfile", dockerfile.as_bytes(), false);
    let source = ImageSource::Dockerfile(files);
    let spec = ImageSpec { source, build_timeout: Duration::from_secs(6) };
    let error = bench.driver.image(&spec).await.unwrap_err();
    assert_eq!(error.class, FailureClass::Image);
    assert!(error.message.contains("not done after 6 s; at Step 3/"), "{error}");
    let deadline = Instant::now() + SOON;
    loop {
        let containers = bench.engine.list_containers(None).await.unwrap();
        let commands = containers.into_iter().filter_map(|container| container.command);
        if !commands.into_iter().any(|command| command.contains(&bench.run)) {
            break;
        }
        assert!(Instant::now() < deadline, "the builder's container lives on");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_context_holds_what_the_task_put_there_but_for_the_ignored() {
    let bench = bench_or_skip!();
    let mut files = machine_files();
    let dockerfile = "FROM scratch\nCOPY root/ /\nCOPY . /context/";
    files.insert("Dockerfile", dockerfile.as_bytes(), false);
    files.insert(".dockerignore", b"secret\nDockerfile\n", false);
    files.insert("secret/solution", b"", false);
    files.insert("open/file", b"", false);
    let image = bench.build(files).await.unwrap();
    let sandbox = bench.driver.create(&image, &bench.spec("1.1.agent")).await.unwrap();
    assert_eq!(said(&*sandbox, "ls -A /context").await, ".dockerignore\nopen\nroot\n");
    bench.sweep().await;
}

#[tokio::test]
async fn a_prebuilt_image_is_taken_as_it_is() {
    let bench = bench_or_skip!();
    let prebuilt = bench.image().await;
    let source = ImageSource::Prebuilt(prebuilt.reference.clone());
    let spec = ImageSpec { source, build_timeout: BUILD_TIMEOUT };
    let image = bench.driver.image(&spec).await.unwrap();
    assert_eq!((&image.workdir, &image.user), (&prebuilt.workdir, &prebuilt.user));
    assert_eq!(image.env, prebuilt.env);
    let sandbox = bench.driver.create(&image, &bench.spec("1.1.agent")).await.unwrap();
    assert_eq!(said(&*sandbox, "id -u").await, "1000\n");
    bench.sweep().await;
}

#[tokio::test]
async fn images_are_listed_and_facts_are_told() {
    let bench = bench_or_skip!();
    let image = bench.image().await;
    let listed = bench.driver.images().await.unwrap();
    assert!(listed.iter().any(|built| built.tag.as_ref() == Some(&image.reference)));
    assert!(listed.iter().flat_map(|built| &built.tag).all(|tag| tag.starts_with("orcapack/env:")));
    let facts = bench.driver.facts().await.unwrap();
    assert!(facts.images.contains(&image.reference));
    assert!(facts.cpus >= 1.0 && facts.memory_bytes > 0 && facts.bridge_networks >= 1, "{facts:?}");
    let engine = bench.engine.version().await.unwrap();
    assert_eq!(Some(facts.version), engine.version);
}
