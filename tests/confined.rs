//! Commands that may change one folder only, in real sandboxes of both drivers. `process` needs
//! root; `docker` is skipped where no engine with the base image answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orcapack_actors::docker::DockerDriver;
use orcapack_actors::process::{ProcessConfig, ProcessDriver};
use orcapack_actors::sandbox::{
    Driver, ExecOutput, ExecRequest, Exit, ImageSpec, Labels, Limits, Sandbox, SandboxSpec,
    SweepScope,
};
use orcapack_tasks::FileTree;
use orcapack_tasks::task::{ImageSource, NetworkPolicy};

const LIMIT: Duration = Duration::from_secs(60);
const SCRATCH: &str = "/tmp/scratch";
/// The user that the tasks' images have, and one without any privilege.
const USERS: [&str; 2] = ["0:0", "1000:1000"];

/// A live sandbox with files in `/data` that belong to the user of its commands.
struct Bench {
    driver: Arc<dyn Driver>,
    sandbox: Arc<dyn Sandbox>,
    user: &'static str,
    run: String,
    _cache: tempfile::TempDir,
}

impl Bench {
    async fn process(user: &'static str) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let config = ProcessConfig { cache: cache.path().to_owned() };
        Self::start(Arc::new(ProcessDriver::open(config).unwrap()), cache, user).await
    }

    /// `None`, and a line that says so, where it is skipped.
    async fn docker(user: &'static str) -> Option<Self> {
        let driver = DockerDriver::from_env();
        let facts = driver.facts().await;
        let ready = facts.is_ok_and(|facts| facts.images.iter().any(|name| name == BASE_IMAGE));
        if !ready {
            eprintln!("skipped: no Docker engine with {BASE_IMAGE}");
            return None;
        }
        Some(Self::start(Arc::new(driver), tempfile::tempdir().unwrap(), user).await)
    }

    async fn start(driver: Arc<dyn Driver>, cache: tempfile::TempDir, user: &'static str) -> Self {
        let mut tree = FileTree::default();
        tree.insert("Dockerfile", format!("FROM {BASE_IMAGE}\n").as_bytes(), false);
        let source = ImageSource::Dockerfile(tree);
        let image = driver.image(&ImageSpec { source, build_timeout: LIMIT }).await.unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let run = format!("confined-{}-{}", std::process::id(), now.as_nanos());
        let spec = SandboxSpec {
            labels: Labels {
                run: run.clone(),
                node: "test".to_owned(),
                incarnation: 1,
                attempt: "1.1.agent".to_owned(),
                deadline_unix_sec: now.as_secs() + 3600,
            },
            limits: Limits { cpus: 2.0, memory_bytes: 1 << 30, pids: 200, storage_bytes: 1 << 28 },
            network: NetworkPolicy::None,
            env: BTreeMap::new(),
            workdir: None,
            start_timeout: LIMIT,
        };
        let sandbox = driver.create(&image, &spec).await.unwrap();
        let bench = Self { driver, sandbox, user, run, _cache: cache };
        let script = format!("mkdir /data && chown {user} /data && chmod 755 /data");
        let as_root = ExecRequest { user: Some("0:0".to_owned()), ..sh(&script) };
        assert_eq!(bench.exec(as_root).await.exit, Exit::Code(0));
        bench
            .coder("cd /data; echo kept >file; mkdir dir; echo in >dir/inner; ln -s file link")
            .await;
        bench
    }

    async fn exec(&self, request: ExecRequest) -> ExecOutput {
        self.sandbox.exec(&request).await.unwrap()
    }

    fn request(&self, script: &str, writable_only: Option<&str>) -> ExecRequest {
        ExecRequest {
            user: Some(self.user.to_owned()),
            cwd: Some("/".to_owned()),
            writable_only: writable_only.map(str::to_owned),
            ..sh(script)
        }
    }

    async fn explorer(&self, script: &str) -> ExecOutput {
        self.exec(self.request(script, Some(SCRATCH))).await
    }

    /// What a command without confinement says, which must succeed.
    async fn coder(&self, script: &str) -> String {
        let output = self.exec(self.request(script, None)).await;
        assert_eq!(output.exit, Exit::Code(0), "{script}: {}{}", output.stdout, output.stderr);
        output.stdout.to_string()
    }

    /// Everything about the files in `/data` and their folders but the time of the last reading.
    async fn picture(&self) -> String {
        let facts = "find /data /tmp -maxdepth 0 -o -path '/data/*' -printf '%p %y %m %U %G %s %n \
                     %T@ %C@ %l\\n' | sort; cd /data; cat file dir/inner; ls -ld --full-time /data";
        self.coder(facts).await
    }

    async fn end(self) {
        self.sandbox.remove().await.unwrap();
        let scope = SweepScope::Run { run: self.run.clone(), except_incarnation: None };
        assert_eq!(self.driver.sweep(&scope).await.unwrap().sandboxes, 0);
    }
}

const BASE_IMAGE: &str = "orcapack/base:1";

fn sh(script: &str) -> ExecRequest {
    ExecRequest::new(["bash", "-c", script], LIMIT)
}

/// Ways to change something outside of the scratch folder; `$S` is the folder, `$CODER` a process
/// of another command. Each must fail.
const ATTACKS: [&str; 62] = [
    "echo x >/data/new",
    "echo x >/data/file",
    "echo x >>/data/file",
    ": >/data/file",
    "truncate -s 1 /data/file",
    "dd if=/dev/zero of=/data/file bs=1 count=1 conv=notrunc",
    "cp $S/mine /data/file",
    "cp $S/mine /data/new",
    "rm -f /data/file",
    "rm -rf /data/dir",
    "mv /data/file /data/other",
    "mv /data/file $S/taken",
    "mv $S/mine /data/given",
    "mv $S/mine /data/file",
    "ln /data/file /data/hard",
    "ln $S/mine /data/hard",
    "ln /data/file $S/hard && echo x >$S/hard",
    "ln -s file /data/soft",
    "mkdir /data/new",
    "mkfifo /data/pipe",
    "mknod /data/null c 1 3",
    "chmod 777 /data/file",
    "chmod 777 /data/dir /data",
    "chmod +t /tmp/.",
    "cd /data && chmod 777 file",
    "cd $S && chmod 777 ../../data/file",
    "chown 12:13 /data/file",
    "chown -h 12:13 /data/link",
    "chgrp 0 /data/file",
    "touch /data/file",
    "touch -h /data/link",
    "touch -d 2001-01-01 /data/file",
    "cp -p --attributes-only /etc/hostname /data/file",
    "echo x >/proc/self/root/data/file",
    "chmod 777 /proc/self/root/data/file",
    "echo x >/proc/self/cwd/data/file",
    "exec 3</data/file; chmod 777 /proc/self/fd/3",
    "exec 3</data/file; chmod 777 /dev/fd/3",
    "exec 3</data/file; echo x >/proc/self/fd/3",
    "ln -sfn /data/file $S/a; echo x >$S/a",
    "ln -sfn /data/file $S/a; chmod 777 $S/a",
    "ln -sfn /data/file $S/a; touch $S/a",
    "ln -sfn /data $S/b; echo x >$S/b/new",
    "ln -sfn /data $S/b; chmod 777 $S/b/file",
    "ln -sfn /data $S/b; rm $S/b/file",
    "cd $S && mkdir -p c && cd c && chmod 777 ../../../data/file",
    "mount --bind $S /data",
    "unshare -rm mount --bind $S /data",
    "chroot / sh -c 'echo x >/data/file'",
    "echo x >/dev/shm/new",
    "echo 9 >/proc/$CODER/oom_score_adj",
    "echo x >/proc/$CODER/cwd/new",
    "echo x >/proc/$CODER/root/data/file",
    "kill -9 $CODER",
    "python3 -c \"open('/data/file', 'r+').write('x')\"",
    "python3 -c \"import os; os.fchmod(os.open('/data/file', 0), 0o777)\"",
    "python3 -c \"import os; os.fchown(os.open('/data/file', 0), 12, 13)\"",
    "python3 -c \"import os; os.utime(os.open('/data/file', 0))\"",
    "python3 -c \"import os; os.setxattr('/data/file', 'user.x', b'x')\"",
    "python3 -c \"import fcntl; fcntl.ioctl(open('/data/file'), 0x40086602, b'\\x80' + bytes(7))\"",
    "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('/data/socket')\"",
    // io_uring_setup, which must not even begin.
    "python3 -c \"import ctypes; c = ctypes.CDLL(None); b = ctypes.create_string_buffer(120); \
     exit(c.syscall(425, 1, b) < 0)\"",
];

async fn nothing_outside_is_changed(bench: Bench) {
    let sleep = bench.request("exec sleep 600", None);
    let sleeper = bench.sandbox.spawn(&sleep).await.unwrap();
    let coder = bench.coder("cd /data; until pgrep -x sleep; do sleep 0.01; done").await;
    let ready = bench.explorer(&format!("echo mine >{SCRATCH}/mine")).await;
    assert_eq!(ready.exit, Exit::Code(0), "{}", ready.stderr);
    let before = bench.picture().await;
    for attack in ATTACKS {
        let script = format!("S={SCRATCH}; CODER={}; {attack}", coder.trim());
        let output = bench.explorer(&script).await;
        assert!(!output.exit.success(), "{attack} as {}: {}", bench.user, output.stderr);
    }
    assert_eq!(bench.picture().await, before);
    // What outlives its command is held as well.
    let daemon = format!(
        "(setsid sh -c 'sleep 0.2; echo x >/data/file; chmod 777 /data/file; rm -rf /data/dir; \
         touch {SCRATCH}/tried' >/dev/null 2>&1 &)"
    );
    assert_eq!(bench.explorer(&daemon).await.exit, Exit::Code(0));
    bench.coder(&format!("until [ -e {SCRATCH}/tried ]; do sleep 0.01; done")).await;
    assert_eq!(bench.picture().await, before);
    assert_eq!(bench.coder("ls /dev/shm").await, "");
    assert_eq!(bench.sandbox.poll(sleeper).await.unwrap().exit, None);
    bench.end().await;
}

/// What a confined command must be able to do; each must succeed.
const WORK: [&str; 22] = [
    "cat /data/file /data/dir/inner && ls -la /data && find /usr/bin >/dev/null",
    "[ \"$TMPDIR\" = $S ] && [ $(stat -c %a-%u $S) = 700-$(id -u) ]",
    "cd $S && mkdir -p a/b && echo 1 >a/x && echo 2 >>a/x && mv a/x a/b/x && rm -r a",
    "cd $S && printf '#!/bin/sh\\necho ran\\n' >run && chmod +x run && [ $(./run) = ran ]",
    "printf '#!/bin/sh\\necho ran\\n' >$S/run2 && chmod 700 $S/run2 && [ $($S/run2) = ran ]",
    "cp -p /data/file $S/copy && [ \"$(stat -c %Y /data/file)\" = \"$(stat -c %Y $S/copy)\" ]",
    "cp -a /data $S/tree && [ -L $S/tree/link ] && rm -r $S/tree",
    "tar -C / -cf $S/t.tar data && mkdir $S/out && tar -C $S/out -xpf $S/t.tar && rm -r $S/out",
    "touch -d 2001-01-01 $S/old && [ $(stat -c %Y $S/old) = $(date -d 2001-01-01 +%s) ]",
    "exec 3>$S/three; chmod 640 /proc/self/fd/3; [ $(stat -c %a $S/three) = 640 ]",
    "chown $(id -u):$(id -g) $S/three && chmod 777 $S/./three",
    "! chmod 600 $S/absent 2>$S/said && grep -q 'No such file' $S/said",
    "echo x >/dev/null && head -c 3 /dev/urandom >/dev/null && echo y >/dev/stderr",
    "echo out >/dev/stdout && echo out | tee /dev/fd/1 >/dev/null",
    "diff <(echo 1) <(echo 1) && cat <<<here",
    "sleep 600 & kill -9 $!; wait $!; [ $? = 137 ]",
    "sed -n 1p /data/file && cp /data/file $S/s && sed -i s/kept/new/ $S/s && grep -q new $S/s",
    "mktemp && sort -S 10K /data/file && [ -z \"$(ls -A /tmp | grep -v scratch)\" ]",
    "python3 -c \"import os; fd = os.open('$S/py', 65); os.fchmod(fd, 0o600); os.utime(fd)\"",
    "python3 -c \"import os; print(os.openpty())\"",
    "python3 -c \"import shutil; shutil.copytree('/data', '$S/py-tree', symlinks=True)\"",
    "command -v git || exit 0; cd $S && git init -q g && cd g && git config a.b c && git status",
];

async fn work_goes_on(bench: Bench) {
    let before = bench.picture().await;
    for work in WORK {
        let output = bench.explorer(&format!("S={SCRATCH}; {work}")).await;
        let said = format!("{}{}", output.stdout, output.stderr);
        assert_eq!(output.exit, Exit::Code(0), "{work} as {}: {said}", bench.user);
    }
    assert_eq!(bench.picture().await, before);

    // One that is not confined is not, at the same time and in the same place.
    let wait = "until [ -e /data/go ]; do sleep 0.01; done; ! echo x >/data/file";
    let explorer = bench.sandbox.spawn(&bench.request(wait, Some(SCRATCH))).await.unwrap();
    bench.coder("echo changed >/data/file; chmod 600 /data/file; touch /data/go").await;
    while bench.sandbox.poll(explorer).await.unwrap().exit.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.sandbox.poll(explorer).await.unwrap().exit, Some(Exit::Code(0)));
    assert_eq!(bench.coder("cat /data/file; stat -c %a /data/file").await, "changed\n600\n");
    bench.end().await;
}

/// Folders that would open what is to be kept are refused, and the command is not run.
async fn bad_folders_are_refused(bench: Bench) {
    bench.coder("ln -s /data /tmp/link; touch /tmp/file; mkdir /tmp/real").await;
    for (folder, reason) in [
        ("", "plain absolute path"),
        ("/", "plain absolute path"),
        ("tmp/x", "plain absolute path"),
        ("/tmp/../data", "plain absolute path"),
        ("/tmp/real/", "plain absolute path"),
        ("/tmp/link", "not a folder itself"),
        ("/tmp/file", "File exists"),
        ("/proc/self/fd", "belongs to"),
        ("/usr", "belongs to"),
    ] {
        // Of root's commands, these folders are root's.
        if reason == "belongs to" && bench.user == "0:0" {
            continue;
        }
        let request = bench.request("echo ran; echo x >/data/file", Some(folder));
        let output = bench.exec(request).await;
        let said = output.stderr.to_string();
        assert_eq!((output.exit, output.stdout.head), (Exit::Code(126), Vec::new()), "{folder}");
        assert!(said.contains(reason) || folder == "/proc/self/fd", "{folder}: {said}");
    }
    assert_eq!(bench.coder("cat /data/file").await, "kept\n");
    bench.end().await;
}

#[tokio::test]
async fn process_nothing_outside_is_changed() {
    for user in USERS {
        nothing_outside_is_changed(Bench::process(user).await).await;
    }
}

#[tokio::test]
async fn process_work_goes_on() {
    for user in USERS {
        work_goes_on(Bench::process(user).await).await;
    }
}

#[tokio::test]
async fn process_bad_folders_are_refused() {
    for user in USERS {
        bad_folders_are_refused(Bench::process(user).await).await;
    }
}

#[tokio::test]
async fn docker_nothing_outside_is_changed() {
    for user in USERS {
        let Some(bench) = Bench::docker(user).await else { return };
        nothing_outside_is_changed(bench).await;
    }
}

#[tokio::test]
async fn docker_work_goes_on() {
    for user in USERS {
        let Some(bench) = Bench::docker(user).await else { return };
        work_goes_on(bench).await;
    }
}

#[tokio::test]
async fn docker_bad_folders_are_refused() {
    for user in USERS {
        let Some(bench) = Bench::docker(user).await else { return };
        bad_folders_are_refused(bench).await;
    }
}
