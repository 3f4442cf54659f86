//! The real program over real sandboxes: tasks made for one test, runs of the program, their
//! ledgers, and a search for what they left behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::{Connection, OpenFlags, Row};
use tempfile::TempDir;

/// Longer than anything that a test waits for takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Every run of a test has this name, in a world of its own.
const NAME: &str = "r";
/// Passes where the answer is there, and does no more than that: a rollout costs milliseconds.
pub const HONEST_TEST: &str = "\
answer=$(cat /app/answer 2>/dev/null)
if [ \"$answer\" = 42 ]; then echo 1; else echo 0; fi > /logs/verifier/reward.txt
";
pub const HONEST_SOLUTION: &str = "echo 42 > /app/answer\n";

/// A Harbor task on the way to its folder. Its base image is our own; where that is not there, the
/// machine's own root file system stands in, so scripts use `bash` and the plainest commands only.
pub struct Task {
    name: String,
    toml: String,
    files: Vec<(String, String)>,
}

impl Task {
    /// With an honest test; `solve` is the solution's script.
    pub fn new(name: &str, solve: &str) -> Self {
        let toml = "schema_version = \"1.4\"\nenvironment.network_mode = \"no-network\"\n";
        let task = Self { name: name.into(), toml: toml.into(), files: Vec::new() };
        task.file("instruction.md", "Write 42 into /app/answer.\n")
            .file("environment/Dockerfile", "FROM orcapack/base:1\nWORKDIR /app\n")
            .file("tests/test.sh", HONEST_TEST)
            .file("solution/solve.sh", solve)
    }

    /// A file of the task; the last one of a path counts.
    pub fn file(mut self, path: &str, text: impl Into<String>) -> Self {
        self.files.push((path.into(), text.into()));
        self
    }

    /// More lines of `task.toml`.
    pub fn toml(mut self, lines: &str) -> Self {
        self.toml += &format!("{lines}\n");
        self
    }

    pub fn write(&self, tasks: &Path) {
        let dir = tasks.join(&self.name);
        let own = [("task.toml".to_owned(), self.toml.clone())];
        for (path, text) in own.iter().chain(&self.files) {
            let at = dir.join(path);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, text).unwrap();
        }
    }
}

/// A folder with tasks, a cache and one run, for one test.
pub struct World {
    dir: TempDir,
    sandbox: String,
}

/// How the program ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// `None`: a signal killed it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A row of the ledger's `attempts`.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRow {
    pub task: String,
    pub rollout: u32,
    pub attempt: u32,
    pub state: String,
    pub outcome: Option<String>,
    pub reward: Option<f64>,
    pub class: Option<String>,
    pub note: Option<String>,
}

/// A row of the ledger's `results`: a terminal record.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultRow {
    pub task: String,
    pub rollout: u32,
    pub attempt: u32,
    pub ended_ms: i64,
    pub outcome: String,
    pub reward: Option<f64>,
    pub class: Option<String>,
    pub message: Option<String>,
}

impl World {
    /// Over the sandbox driver `process`, which runs wherever the tests are root.
    pub fn new(tasks: &[Task]) -> Self {
        Self::over("process", tasks)
    }

    /// Over the sandbox driver of that name.
    pub fn over(sandbox: &str, tasks: &[Task]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tasks")).unwrap();
        tasks.iter().for_each(|task| task.write(&dir.path().join("tasks")));
        Self { dir, sandbox: sandbox.into() }
    }

    /// Starts `orcapack eval`, on all tasks unless `args` names a data set.
    pub fn start(&self, args: &[&str]) -> Running<'_> {
        self.start_with(&[], args)
    }

    /// Over variables of the environment.
    pub fn start_with(&self, env: &[(&str, &str)], args: &[&str]) -> Running<'_> {
        let own = ["eval", "--name", NAME, "--sandbox", &self.sandbox];
        let tasks = if args.contains(&"-d") { &[] } else { &["-d", "tasks"][..] };
        self.start_any(env, &[&own, tasks, args].concat())
    }

    /// Starts the program, whatever it is to do.
    pub fn start_any(&self, env: &[(&str, &str)], args: &[&str]) -> Running<'_> {
        let output = |name: &str| File::create(self.path(name)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_orcapack"))
            .current_dir(self.dir.path())
            .env("ORCAPACK_CACHE", self.path("cache"))
            .envs(env.iter().copied())
            .args(args)
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .unwrap();
        Running { world: self, child }
    }

    /// Runs `orcapack eval` to its end.
    pub fn eval(&self, args: &[&str]) -> Ended {
        self.start(args).end()
    }

    /// Runs any command of the program to its end, in the world's folder.
    pub fn orcapack(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orcapack"));
        let output = command.current_dir(self.dir.path()).args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Gives the run another name, so that there can be another.
    pub fn rename(&self, name: &str) {
        fs::rename(self.run(""), self.path("runs").join(name)).unwrap();
    }

    /// What the program has said on standard error so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// A path in the run's directory.
    pub fn run(&self, relative: &str) -> PathBuf {
        self.path("runs").join(NAME).join(relative)
    }

    /// The label of everything that the run creates; `None` before there is a run.
    pub fn run_id(&self) -> Option<String> {
        let file: serde_json::Value =
            serde_json::from_slice(&fs::read(self.run("run.json")).ok()?).ok()?;
        Some(file["id"].as_str()?.to_owned())
    }

    pub fn attempts(&self) -> Vec<AttemptRow> {
        let sql = "SELECT task, rollout, attempt, state, outcome, reward, class, note
                   FROM attempts JOIN rollouts USING (rollout) ORDER BY rollout, attempt";
        self.query(sql, |row| {
            Ok(AttemptRow {
                task: row.get(0)?,
                rollout: row.get(1)?,
                attempt: row.get(2)?,
                state: row.get(3)?,
                outcome: row.get(4)?,
                reward: row.get(5)?,
                class: row.get(6)?,
                note: row.get(7)?,
            })
        })
        .unwrap()
    }

    pub fn results(&self) -> Vec<ResultRow> {
        let sql = "SELECT task, rollout, attempt, ended_ms, outcome, reward, class, message
                   FROM results JOIN rollouts USING (rollout) ORDER BY rollout";
        self.query(sql, |row| {
            Ok(ResultRow {
                task: row.get(0)?,
                rollout: row.get(1)?,
                attempt: row.get(2)?,
                ended_ms: row.get(3)?,
                outcome: row.get(4)?,
                reward: row.get(5)?,
                class: row.get(6)?,
                message: row.get(7)?,
            })
        })
        .unwrap()
    }

    /// The rows of a query; an error where the ledger is not there yet.
    pub fn query<T>(
        &self,
        sql: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let ledger = Connection::open_with_flags(self.run("run.db"), flags)?;
        ledger.prepare(sql)?.query_map([], read)?.collect()
    }

    /// One number out of the ledger; 0 where it is not there yet.
    pub fn count(&self, sql: &str) -> i64 {
        self.query(sql, |row| row.get(0)).ok().and_then(|rows| rows.first().copied()).unwrap_or(0)
    }

    /// Whatever is left of a run's sandboxes on this machine.
    pub fn left_of(&self, run: &str) -> Vec<String> {
        match self.sandbox.as_str() {
            "docker" => in_engine(run),
            _ => [states(&self.path("cache")), groups(run), processes(run)].concat(),
        }
    }

    /// Nothing of the run is left, or a panic that says what.
    pub fn assert_nothing_left(&self) {
        let left = self.left_of(&self.run_id().expect("there is a run"));
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

/// A started program. Dropped, it is killed.
pub struct Running<'a> {
    world: &'a World,
    child: Child,
}

impl Running<'_> {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits until `happened`, looking again and again; a panic when the program ends before.
    pub fn until(&mut self, what: &str, mut happened: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !happened() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended before {what}: {ended:?}\n{}", self.world.said());
            assert!(begin.elapsed() < PATIENCE, "still not {what}\n{}", self.world.said());
            // Another process, whose deeds can only be looked for: polled.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn end(mut self) -> Ended {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end\n{}", self.world.said());
            // The standard library waits for a child without a limit only: polled.
            std::thread::sleep(Duration::from_millis(5));
        };
        Ended {
            code: status.code(),
            stdout: fs::read_to_string(self.world.path("stdout")).unwrap(),
            stderr: self.world.said(),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a `docker` command's answer.
pub fn docker(args: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// What bears the run's label in the Docker engine.
pub fn in_engine(run: &str) -> Vec<String> {
    let kinds = [
        ("container", &["--all", "--format", "{{.Names}}"][..]),
        ("network", &["--format", "{{.Name}}"]),
        ("volume", &["--format", "{{.Name}}"]),
    ];
    let names = kinds.iter().flat_map(|(kind, how)| {
        let filter = format!("label=orcapack.run={run}");
        docker(&[&[kind, "ls", "--filter", &filter][..], how].concat())
    });
    // What has no name is gone: a trace that an engine can keep in its list until it ends.
    names.filter(|name| !name.is_empty()).collect()
}

/// Of the sandbox driver `process`, whose cache that is.
pub fn states(cache: &Path) -> Vec<String> {
    names(&cache.join("process-state"))
}

/// Control groups of the run, in every hierarchy.
pub fn groups(run: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let kind = |line: &&str| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup"));
    let roots = mounts.lines().filter(kind).filter_map(|line| line.split(' ').nth(1));
    let groups = roots.flat_map(|root| names(&Path::new(root).join("orcapack")));
    groups.filter(|group| group.contains(run)).collect()
}

/// Sandboxes of the run, which bear its name in their arguments.
pub fn processes(run: &str) -> Vec<String> {
    let arguments = names(Path::new("/proc")).into_iter().filter_map(|process| {
        let bytes = fs::read(Path::new(&process).join("cmdline")).ok()?;
        Some(format!("{process}: {}", String::from_utf8_lossy(&bytes).replace('\0', " ")))
    });
    arguments.filter(|process| process.contains(run)).collect()
}
