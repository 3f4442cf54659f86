//! Sandboxes of the `process` driver on this machine, with the host's root as their root file
//! system. They need root.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use orcapack_tasks::FileTree;
use orcapack_tasks::task::ImageSource;
use tempfile::TempDir;

use super::*;
use crate::sandbox::Exit;

const LIMIT: Duration = Duration::from_secs(30);

/// A driver over a cache of its own.
struct Machine {
    driver: ProcessDriver,
    cache: TempDir,
}

/// A live sandbox and the short ways to use it.
struct Inside(Arc<dyn Sandbox>);

fn machine() -> Machine {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let driver = ProcessDriver::open(ProcessConfig { cache: cache.path().to_owned() });
    Machine { driver: driver.expect("the cache is ours"), cache }
}

fn labels(run: &str) -> Labels {
    Labels {
        run: run.to_owned(),
        node: "node".to_owned(),
        incarnation: 7,
        attempt: "1.1.agent".to_owned(),
        deadline_unix_sec: 1 << 40,
    }
}

fn spec(run: &str) -> SandboxSpec {
    SandboxSpec {
        labels: labels(run),
        limits: Limits { cpus: 2.0, memory_bytes: 256 << 20, pids: 100, storage_bytes: 64 << 20 },
        network: NetworkPolicy::None,
        env: BTreeMap::new(),
        workdir: None,
        start_timeout: LIMIT,
    }
}

/// A context whose Dockerfile has the lines given, over a base that the store does not have.
fn context(lines: &[&str], files: &[(&str, &str)]) -> ImageSpec {
    let mut tree = FileTree::default();
    tree.insert("Dockerfile", format!("FROM stand-in\n{}\n", lines.join("\n")).as_bytes(), false);
    for (path, text) in files {
        tree.insert(*path, text.as_bytes(), path.ends_with(".sh"));
    }
    ImageSpec { source: ImageSource::Dockerfile(tree), build_timeout: LIMIT }
}

impl Machine {
    async fn image(&self, lines: &[&str], files: &[(&str, &str)]) -> Image {
        self.driver.image(&context(lines, files)).await.expect("it builds")
    }

    async fn start(&self, image: &Image, spec: &SandboxSpec) -> Inside {
        Inside(self.driver.create(image, spec).await.expect("it starts"))
    }

    async fn plain(&self, run: &str) -> Inside {
        let image = self.image(&[], &[]).await;
        self.start(&image, &spec(run)).await
    }

    fn states(&self) -> usize {
        fs::read_dir(self.cache.path().join("process-state")).expect("it is ours").count()
    }
}

impl Inside {
    async fn sh(&self, script: &str) -> ExecOutput {
        let request = ExecRequest::new(["sh", "-c", script], LIMIT);
        self.0.exec(&request).await.expect("an answer")
    }

    async fn out(&self, script: &str) -> String {
        let output = self.sh(script).await;
        assert_eq!(output.exit, Exit::Code(0), "{script}: {}{}", output.stdout, output.stderr);
        output.stdout.to_string()
    }

    /// What is said on both streams by a script that may fail.
    async fn said(&self, script: &str) -> String {
        let output = self.sh(script).await;
        format!("{}{}", output.stdout, output.stderr)
    }

    async fn end(self) {
        self.0.remove().await.expect("it ends");
    }
}

/// Whether a control group of this name, or anything below the parent that holds it, is left in any
/// hierarchy.
fn groups_of(run: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let parents = hierarchies.map(|entry| entry.path().join("orcapack"));
    let all = parents.chain([PathBuf::from("/sys/fs/cgroup/orcapack")]);
    let entries = all.flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten());
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(run))
    };
    entries.map(|entry| entry.path()).filter(named).collect()
}

#[tokio::test]
async fn commands_run_and_nothing_is_left_after_removal() {
    let machine = machine();
    let inside = machine.plain("commands").await;
    assert_eq!(inside.sh("exit 7").await.exit, Exit::Code(7));
    assert_eq!(
        inside.out("id -u; hostname; pwd; echo $$ >/tmp/x; ls /tmp").await,
        "0\norcapack\n/\nx\n"
    );
    assert!(
        !Path::new("/tmp/x").exists() || fs::read_to_string("/tmp/x").is_ok_and(|x| x != "3\n")
    );
    assert_eq!(machine.states(), 1);
    assert_eq!(
        groups_of("commands").is_empty(),
        machine.driver.limits_enforced() == LimitsEnforced::default()
    );
    assert!(inside.0.stats().await.expect("an answer").memory_bytes > 0);
    inside.end().await;
    assert_eq!(machine.states(), 0);
    assert_eq!(groups_of("commands"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn the_time_limit_kills_the_tree_and_background_commands_go_on_without_one() {
    let machine = machine();
    let inside = machine.plain("limits").await;
    let background = ExecRequest::new(["sleep", "600"], LIMIT);
    let id = inside.0.spawn(&background).await.expect("it starts");
    let script = "(setsid sh -c 'sleep 600 & sleep 600' &); sleep 600";
    let request = ExecRequest::new(["sh", "-c", script], Duration::from_millis(200));
    assert_eq!(inside.0.exec(&request).await.expect("an answer").exit, Exit::TimedOut);
    // The agent, the background command with its supervisor, and this one with its own.
    inside.out("until set -- /proc/[0-9]*; [ $# = 5 ]; do sleep 0.01; done").await;
    assert_eq!(inside.0.poll(id).await.expect("an answer").exit, None);
    inside.0.stop_processes().await.expect("they stop");
    assert_eq!(inside.0.poll(id).await.expect("an answer").exit, Some(Exit::Signal(9)));
    inside.end().await;
}

#[tokio::test]
async fn nothing_of_the_host_is_seen_or_changed() {
    let machine = machine();
    let secret = tempfile::NamedTempFile::new().expect("a temporary file");
    let inside = machine.plain("host").await;
    let tops = inside.out("ls /").await;
    let usual = [
        "bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt", "opt",
        "proc", "root", "run", "sbin", "srv", "tmp", "usr", "var",
    ];
    assert!(tops.lines().all(|name| usual.contains(&name)), "{tops}");
    assert_eq!(
        inside
            .out("ls -A /home /root /tmp /var/tmp /opt /srv /mnt | grep -v : | tr -d '\\n'")
            .await,
        ""
    );
    assert_ne!(inside.sh(&format!("cat {}", secret.path().display())).await.exit, Exit::Code(0));
    for path in ["/etc/shadow", "/etc/sudoers", "/etc/ssh", "/sys/kernel"] {
        assert_eq!(inside.sh(&format!("test -e {path}")).await.exit, Exit::Code(1), "{path}");
    }
    inside.out("rm -rf /usr/bin/env /etc/passwd; echo x >/usr/bin/new").await;
    assert!(Path::new("/usr/bin/env").exists() && Path::new("/etc/passwd").exists());
    assert!(!Path::new("/usr/bin/new").exists());
    inside.end().await;
}

#[tokio::test]
async fn kernel_interfaces_are_closed() {
    let machine = machine();
    let inside = machine.plain("kernel").await;
    for (script, refusal) in [
        ("echo x >/proc/1/fd/1", "Permission denied"),
        ("echo x >/proc/1/mem", "Permission denied"),
        ("echo 1 >/proc/sys/kernel/panic", "Read-only file system"),
        ("echo 1 >/proc/sys/vm/drop_caches", "Read-only file system"),
        ("mount -t tmpfs x /mnt", "permission denied"),
        ("mount --bind /proc /mnt", "permission denied"),
        ("umount /proc/sys", "must be superuser"),
        ("unshare --user true", "Operation not permitted"),
        ("unshare --mount true", "Operation not permitted"),
        ("mknod /tmp/disk b 254 0", "Operation not permitted"),
        ("hostname other", "must be root"),
        ("chroot /usr true", "Operation not permitted"),
    ] {
        let said = inside.said(script).await;
        assert!(said.contains(refusal), "{script}: {said}");
    }
    let files = "kcore keys kmsg kpagecount sysrq-trigger timer_list";
    let read = format!("cd /proc; for f in {files}; do [ ! -e $f ] || head -c 9 $f; done");
    assert_eq!(inside.out(&read).await, "");
    let status = inside.out("grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status").await;
    let kept = "00000000000000fb";
    assert_eq!(status, format!("CapEff:\t{kept}\nCapBnd:\t{kept}\nNoNewPrivs:\t1\nSeccomp:\t2\n"));
    assert_eq!(inside.out("kill -KILL 1; kill -STOP 1; echo alive").await, "alive\n");
    let devices =
        inside.out("ls /dev | tr '\\n' ' '; echo x >/dev/null; head -c 3 /dev/zero | wc -c").await;
    assert_eq!(
        devices,
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero 3\n"
    );
    inside.end().await;
}

#[tokio::test]
async fn without_a_network_there_is_only_loopback() {
    let machine = machine();
    let inside = machine.plain("network").await;
    assert_eq!(inside.out("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").await, "lo\n");
    assert_eq!(inside.out("wc -l </proc/net/route").await, "1\n");
    assert_eq!(inside.out("cat /etc/hosts").await, "127.0.0.1 localhost orcapack\n");
    inside.end().await;
    let image = machine.image(&[], &[]).await;
    let public = SandboxSpec { network: NetworkPolicy::Public, ..spec("network") };
    let inside = machine.start(&image, &public).await;
    let host = fs::read_to_string("/proc/net/dev").expect("Linux").lines().count();
    assert_eq!(inside.out("wc -l </proc/net/dev").await, format!("{host}\n"));
    inside.end().await;
}

#[tokio::test]
async fn memory_processes_and_storage_are_limited() {
    let machine = machine();
    assert!(machine.driver.limits_enforced().memory && machine.driver.limits_enforced().pids);
    let inside = machine.plain("limited").await;
    let hog = "tail -n 1 /dev/zero";
    assert_eq!(inside.sh(hog).await.exit, Exit::OutOfMemory);
    assert_eq!(inside.sh("exit 3").await.exit, Exit::Code(3));

    let bomb = "b() { b | b & }; b 2>/dev/null; sleep 600";
    let request = ExecRequest::new(["bash", "-c", bomb], Duration::from_millis(300));
    assert_eq!(inside.0.exec(&request).await.expect("an answer").exit, Exit::TimedOut);
    inside.0.stop_processes().await.expect("they stop");
    assert_eq!(inside.out("echo back").await, "back\n");

    let full = inside
        .said("head -c 100000000 /dev/zero >/tmp/large; stat -c %s /tmp/large; rm /tmp/large")
        .await;
    assert!(full.contains("No space left"), "{full}");
    inside.end().await;
}

#[tokio::test]
async fn a_sandbox_that_is_let_go_leaves_nothing() {
    let machine = machine();
    drop(machine.plain("let-go").await);
    assert_eq!((machine.states(), groups_of("let-go")), (0, Vec::new()));
}

#[tokio::test]
async fn files_go_in_and_come_out() {
    let machine = machine();
    let inside = machine.plain("files").await;
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(5);
    builder.append_data(&mut header, "sub/tool.sh", &b"hello"[..]).expect("room");
    inside.0.put("/work", builder.into_inner().expect("room")).await.expect("they go in");
    assert_eq!(inside.out("stat -c '%a %U' /work/sub/tool.sh").await, "755 root\n");
    let Ok(Fetched::Archive(archive)) = inside.0.get("/work", 1 << 20).await else {
        panic!("it is there, and small enough");
    };
    let names: Vec<String> = tar::Archive::new(&archive[..])
        .entries()
        .expect("an archive")
        .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
        .collect();
    assert_eq!(names, ["work/", "work/sub/", "work/sub/tool.sh"]);
    assert_eq!(inside.0.get("/absent", 1).await, Ok(Fetched::Absent));
    inside.end().await;
}

#[tokio::test]
async fn a_dockerfile_is_built_once_into_a_layer() {
    let machine = machine();
    let lines = [
        "ENV GREETING=hello PATH=/opt/tools:$PATH",
        "WORKDIR /srv/app",
        "COPY --chown=nobody src/ ./",
        "COPY run.sh /opt/tools/run",
        "RUN echo \"$GREETING from $(pwd)\" >made && rm /usr/bin/env",
        "RUN [\"sh\", \"-c\", \"cat made >made-too; (sleep 600 &)\"]",
        "USER nobody",
    ];
    let files = [
        ("src/a/b.txt", "b"),
        ("src/c.txt", "c"),
        ("run.sh", "#!/bin/sh\necho ran as $(id -un)\n"),
    ];
    let (one, two) = tokio::join!(machine.image(&lines, &files), machine.image(&lines, &files));
    assert_eq!(one.reference, two.reference);
    assert_eq!((one.workdir.as_str(), one.user.as_deref()), ("/srv/app", Some("nobody")));
    let inside = machine.start(&one, &spec("built")).await;
    assert_eq!(
        inside.out("run; cat made made-too a/b.txt; stat -c '%U %n' a a/b.txt c.txt").await,
        "ran as nobody\nhello from /srv/app\nhello from /srv/app\n\
         bnobody a\nnobody a/b.txt\nnobody c.txt\n"
    );
    assert_eq!(inside.sh("test -e /usr/bin/env").await.exit, Exit::Code(1));
    inside.end().await;
    // Found again by another process's driver, and nothing but the layer and its lock is left of
    // the build.
    let again = ProcessDriver::open(ProcessConfig { cache: machine.cache.path().to_owned() });
    let found = again.expect("the cache is ours").image(&context(&lines, &files)).await;
    assert_eq!(found.expect("it is there").reference, one.reference);
    let layers = fs::read_dir(machine.cache.path().join("process-images")).expect("it is ours");
    assert_eq!((layers.count(), machine.states()), (2, 0));
}

#[tokio::test]
async fn a_build_that_fails_says_where_and_why_and_leaves_nothing() {
    let machine = machine();
    for (lines, expected) in [
        (&["RUN true", "RUN echo oh no; exit 3"][..], "Dockerfile:3: "),
        (&["RUN true", "RUN echo oh no; exit 3"], "exit code 3:\noh no"),
        (&["COPY absent /x"], "no \"absent\" in the build context"),
        (&["RUN sleep 600"], "longer than 300ms"),
        (&["COPY --from=other a b"], "Dockerfile:2"),
    ] {
        let mut spec = context(lines, &[]);
        if expected.contains("longer") {
            spec.build_timeout = Duration::from_millis(300);
        }
        let error = machine.driver.image(&spec).await.expect_err("it fails");
        assert_eq!(error.class, FailureClass::Image, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
    let source = ImageSource::Prebuilt("absent:1".to_owned());
    let error = machine
        .driver
        .image(&ImageSpec { source, build_timeout: LIMIT })
        .await
        .expect_err("it is absent");
    assert_eq!(error.class, FailureClass::Image);
    assert!(error.message.contains("rootfs/absent:1"), "{error}");
    let left = fs::read_dir(machine.cache.path().join("process-images")).expect("it is ours");
    let left: Vec<PathBuf> = left.flatten().map(|entry| entry.path()).collect();
    assert!(left.iter().all(|path| path.extension().is_some_and(|end| end == "lock")), "{left:?}");
    assert_eq!(machine.states(), 0);
}

#[tokio::test]
async fn a_sandbox_that_dies_is_told_to_everybody_who_waits() {
    let machine = machine();
    let inside = machine.plain("dies").await;
    let state = process_state::folder(machine.cache.path());
    let request = ExecRequest::new(["sleep", "600"], LIMIT);
    let (exec, lost, swept) = tokio::join!(inside.0.exec(&request), inside.0.lost(), async {
        inside.out("true").await;
        let scope = SweepScope::Run { run: "dies".to_owned(), except_incarnation: None };
        machine.driver.sweep(&scope).await
    });
    assert_eq!(exec.expect_err("it died").class, FailureClass::ExecTransport);
    assert_eq!(lost.class, FailureClass::ExecTransport);
    assert_eq!(swept, Ok(Swept { sandboxes: 1, ..Swept::default() }));
    assert_eq!(fs::read_dir(state).expect("it is ours").count(), 0);
    inside.end().await;
}

#[tokio::test]
async fn a_sandbox_that_is_not_ready_in_time_leaves_nothing() {
    let machine = machine();
    let image = machine.image(&[], &[]).await;
    let hasty = SandboxSpec { start_timeout: Duration::ZERO, ..spec("hasty") };
    let error = machine.driver.create(&image, &hasty).await.err().expect("no time at all");
    assert_eq!(error.class, FailureClass::StartTimeout);
    assert_eq!((machine.states(), groups_of("hasty")), (0, Vec::new()));
}

#[tokio::test]
async fn sweeping_keeps_to_its_scope() {
    let machine = machine();
    let (mine, other) = (machine.plain("sweep-mine").await, machine.plain("sweep-other").await);
    let run =
        |run: &str, except_incarnation| SweepScope::Run { run: run.to_owned(), except_incarnation };
    let swept = async |scope| machine.driver.sweep(&scope).await.expect("an answer").sandboxes;
    let left = |scope| machine.driver.leftovers(&scope).expect("an answer").len();
    assert_eq!((left(run("sweep-mine", Some(8))), left(SweepScope::All)), (1, 2));
    assert_eq!(swept(run("sweep-mine", Some(7))).await, 0);
    assert_eq!(swept(SweepScope::Expired { now_unix_sec: now() }).await, 0);
    assert_eq!(swept(run("sweep-mine", Some(8))).await, 1);
    assert_eq!(other.out("echo alive").await, "alive\n");
    assert_eq!(swept(SweepScope::Expired { now_unix_sec: u64::MAX }).await, 1);
    assert_eq!(left(SweepScope::All), 0);
    mine.end().await;
    other.end().await;
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Not a test: the process that owns a sandbox in the test after it, and is killed.
#[tokio::test]
#[ignore = "run by the test after it"]
async fn owner_that_is_killed() {
    let variable = |name| std::env::var(name).expect("set by the test");
    let config = ProcessConfig { cache: variable("ORCAPACK_TEST_CACHE").into() };
    let driver = ProcessDriver::open(config).expect("the cache is there");
    let image = driver.image(&context(&[], &[])).await.expect("it builds");
    let sandbox = driver.create(&image, &spec(&variable("ORCAPACK_TEST_RUN"))).await;
    let sandbox = sandbox.expect("it starts");
    let script = "echo ready; exec sleep 47110";
    let id =
        sandbox.spawn(&ExecRequest::new(["sh", "-c", script], LIMIT)).await.expect("it starts");
    while sandbox.poll(id).await.expect("an answer").stdout.head.is_empty() {
        tokio::task::yield_now().await;
    }
    println!("\nready");
    sandbox.lost().await;
}

struct Owner(std::process::Child);

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn when_the_owner_is_killed_its_sandbox_ends_and_a_sweep_finds_the_rest() {
    let machine = machine();
    let run = format!("owned-{}", std::process::id());
    let owner = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "process::tests::owner_that_is_killed", "--ignored", "--nocapture"])
        .env("ORCAPACK_TEST_CACHE", machine.cache.path())
        .env("ORCAPACK_TEST_RUN", &run)
        .stdout(Stdio::piped())
        .spawn();
    let mut owner = Owner(owner.expect("it starts"));
    let mut lines = BufReader::new(owner.0.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line == "ready")), "it did not get ready");
    // Its processes, by the control group that they are in.
    let living = || {
        let members = groups_of(&run).into_iter().map(|group| group.join("cgroup.procs"));
        members.map(|file| fs::read_to_string(file).unwrap_or_default().lines().count()).max()
    };
    // The one outside, the agent, the supervisor, and the command.
    assert_eq!((living(), machine.states()), (Some(4), 1));
    drop(owner);
    let begun = Instant::now();
    while living() != Some(0) {
        assert!(begun.elapsed() < LIMIT, "the sandbox outlives its owner");
        std::thread::yield_now();
    }
    assert_eq!(machine.states(), 1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let scope = SweepScope::Run { run: run.clone(), except_incarnation: Some(8) };
    let swept = runtime.block_on(machine.driver.sweep(&scope)).expect("an answer");
    assert_eq!((swept.sandboxes, machine.states()), (1, 0));
    assert_eq!(groups_of(&run), Vec::<PathBuf>::new());
}
