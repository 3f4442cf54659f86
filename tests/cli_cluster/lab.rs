//! A cluster of processes on this machine, for one test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything that a test waits for takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether the sandboxes of nodes can be had. Says so where not: the test is then left out.
pub fn can_run() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("left out: the sandboxes of `process` need root");
    }
    is_root
}

/// A folder with a cluster file `c.toml`, its authority, and states; nothing runs yet.
pub struct Lab {
    dir: TempDir,
    ports: BTreeMap<String, u16>,
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// `None`: a signal killed it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Lab {
    /// With two slots on each node. `moved.toml` has other addresses for them.
    pub fn new(nodes: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let all = nodes.iter().copied().chain(["authority", "moved"]);
        // Held until all are drawn, so that none is drawn twice.
        let bound: Vec<(&str, UdpSocket)> =
            all.map(|name| (name, UdpSocket::bind("127.0.0.1:0").unwrap())).collect();
        let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
        let ports = bound.iter().map(|(name, at)| ((*name).to_owned(), port(at))).collect();
        drop(bound);
        let lab = Self { dir, ports };
        let mut args = vec!["cluster".to_owned(), "init".to_owned(), "c.toml".to_owned()];
        args.extend(["--name".to_owned(), "lab".to_owned()]);
        for node in nodes {
            args.extend(["--node".to_owned(), format!("{node}=127.0.0.1:{},2", lab.ports[*node])]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ended = lab.run(&args);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let text = fs::read_to_string(lab.path("c.toml")).unwrap();
        let authority = format!("authority = \"127.0.0.1:{}\" # ", lab.ports["authority"]);
        let text =
            text.replace("# authority = ", &authority).replace("= \"auto\" ", "= \"process\" ");
        fs::write(lab.path("c.toml"), &text).unwrap();
        let last = lab.ports[*nodes.last().unwrap()].to_string();
        let moved = text.replace(&format!(":{last}\""), &format!(":{}\"", lab.ports["moved"]));
        fs::write(lab.path("moved.toml"), moved).unwrap();
        lab
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub fn listen(&self, node: &str) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], self.ports[node]))
    }

    pub fn state(&self, id: &str) -> PathBuf {
        self.path("state/orcapack/lab").join(id)
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        self.run_with(&[], args)
    }

    pub fn run_with(&self, env: &[(&str, &str)], args: &[&str]) -> Ended {
        let output = self.command(env, args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Ended { code: output.status.code(), stdout, stderr }
    }

    pub fn start(&self, name: &str, args: &[&str]) -> Running {
        self.start_with(&[], name, args)
    }

    /// Its output goes to files of that name, anew at each start.
    pub fn start_with(&self, env: &[(&str, &str)], name: &str, args: &[&str]) -> Running {
        let (out, err) = (self.path(&format!("{name}.out")), self.path(&format!("{name}.err")));
        let mut command = self.command(env, args);
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Running { child: command.spawn().unwrap(), out, err }
    }

    fn command(&self, env: &[(&str, &str)], args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orcapack"));
        command
            .current_dir(self.dir.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("ORCAPACK_CACHE", self.path("cache"))
            .env("DOCKER_HOST", "unix:///no/such.sock")
            .env_remove("OPENAI_API_KEY")
            .env_remove("ORCAPACK_NODE_ID")
            .args(args)
            .stdin(Stdio::null());
        for (name, value) in env {
            let value = if *name == "XDG_STATE_HOME" { self.path(value) } else { value.into() };
            command.env(name, value);
        }
        command
    }

    pub fn token(&self, id: &str) -> String {
        let ended = self.run(&["cluster", "token", "c.toml", id]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout.trim().to_owned()
    }

    /// Puts an identity into the node's place.
    pub fn issue(&self, id: &str) {
        let state = self.state(id);
        let ended = self.run(&["cluster", "issue", "c.toml", id, "-o", state.to_str().unwrap()]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }

    /// Starts a node with a new token.
    pub fn join(&self, id: &str) -> Running {
        let token = self.token(id);
        let mut node = self.start(id, &["node", "c.toml", "--id", id, "--join", &token]);
        node.until("the node is up");
        node
    }

    /// As the copy of a whole machine has it.
    pub fn copy_state(&self, home: &str, id: &str) {
        let to = self.path(home).join("orcapack/lab").join(id);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(self.state(id)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    pub fn task(&self, name: &str, solve: &str) {
        let files = [
            ("task.toml", "schema_version = \"1.4\"\nenvironment.network_mode = \"no-network\"\n"),
            ("instruction.md", "Do it.\n"),
            ("environment/Dockerfile", "FROM orcapack/base:1\nWORKDIR /app\n"),
            ("tests/test.sh", "echo 1 > /logs/verifier/reward.txt\n"),
            ("solution/solve.sh", solve),
        ];
        for (path, text) in files {
            let at = self.path("tasks").join(name).join(path);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, text).unwrap();
        }
    }

    /// A node's row in `status --json`.
    pub fn row(&self, id: &str) -> Value {
        let ended = self.run(&["status", "c.toml", "-n", id, "--json"]);
        let status: Value = serde_json::from_str(&ended.stdout).unwrap();
        status["nodes"][0].clone()
    }

    /// Attempts that a node has.
    pub fn held(&self, id: &str) -> u64 {
        self.row(id)["status"]["run"]["held"].as_u64().unwrap_or(0)
    }

    /// The log of the run `r`.
    pub fn run_log(&self) -> String {
        let logs = fs::read_dir(self.path("runs/r/logs")).into_iter().flatten().flatten();
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        logs.map(|entry| text(&entry.path())).collect()
    }

    pub fn until(&self, what: &str, happened: impl FnMut() -> bool) {
        until(what, happened, String::new);
    }
}

/// Other processes' deeds can only be looked for, again and again.
fn until(what: &str, mut happened: impl FnMut() -> bool, said: impl Fn() -> String) {
    let begin = Instant::now();
    while !happened() {
        assert!(begin.elapsed() < PATIENCE, "still not: {what}\n{}", said());
        // There is no event for it: polled.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A started program. Dropped, it is killed.
pub struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub fn said(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// It says this on standard error, before it ends.
    pub fn until(&mut self, what: &str) {
        let err = self.err.clone();
        self.until_in(&err, what);
    }

    pub fn until_out(&mut self, what: &str) {
        let out = self.out.clone();
        self.until_in(&out, what);
    }

    fn until_in(&mut self, file: &Path, what: &str) {
        let said = || fs::read_to_string(file).unwrap_or_default();
        let happened = || {
            let ended = self.child.try_wait().unwrap();
            let is_said = said().contains(what);
            assert!(is_said || ended.is_none(), "{what}: ended before: {ended:?}\n{}", said());
            is_said
        };
        until(what, happened, said);
    }

    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    pub fn end_with(mut self, signal: Signal) -> Ended {
        self.signal(signal);
        self.end()
    }

    /// Waits for its end.
    pub fn end(&mut self) -> Ended {
        let said = || fs::read_to_string(&self.err).unwrap_or_default();
        let mut code = None;
        let ended = || {
            let status = self.child.try_wait().unwrap();
            code = status.and_then(|status| status.code());
            status.is_some()
        };
        until("ended", ended, said);
        Ended { code, stdout: fs::read_to_string(&self.out).unwrap(), stderr: self.said() }
    }

    /// The first signal drains, the second ends what runs.
    pub fn end_now(mut self, signal: Signal) -> Ended {
        self.signal(signal);
        self.until("draining for up to");
        self.signal(signal);
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
