//! The program as a process, with what it says in a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything takes that a test waits for, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(100);
/// Of processes, files and ledgers, which wake nobody: they are looked at again and again.
pub const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A started program. Dropped, it is killed.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// What it says goes to the end of `log`, but for standard output if it has a file of its own.
    pub fn start(name: &str, command: &mut Command, log: &Path, stdout: Option<&Path>) -> Self {
        let append = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        let out = stdout.map_or_else(|| append(log), |path| File::create(path).unwrap());
        let command = command.stdin(Stdio::null()).stdout(out).stderr(append(log));
        Self { name: name.to_owned(), child: command.spawn().unwrap(), log: log.to_owned() }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Kills it, and takes note of its end.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    /// Its exit code, if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().unwrap()?;
        Some(status.code().unwrap_or(-1))
    }

    /// Waits for its end.
    pub fn end(mut self, limit: Duration) -> i32 {
        let mut code = None;
        let (name, log) = (self.name.clone(), self.log.clone());
        let ended = || {
            code = self.ended();
            code.is_some()
        };
        until_in(limit, &format!("the end of {name}"), &log, ended);
        code.unwrap_or(-1)
    }

    /// In its memory, in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) << 10
    }

    pub fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Waits until `happened`; else a panic with the end of a log.
pub fn until(what: &str, log: &Path, happened: impl FnMut() -> bool) {
    until_in(PATIENCE, what, log, happened);
}

pub fn until_in(limit: Duration, what: &str, log: &Path, mut happened: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !happened() {
        if begin.elapsed() > limit {
            panic!("in {limit:?} not {what}\n{}", tail(log));
        }
        // Other processes wake nobody by what they do: polled.
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = read(log);
    let lines: Vec<&str> = text.lines().collect();
    format!("{}:\n{}", log.display(), lines[lines.len().saturating_sub(60)..].join("\n"))
}
