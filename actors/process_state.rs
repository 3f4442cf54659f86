//! What the `process` driver writes down of each live sandbox, so that whoever comes later can find
//! what was left: one file `CACHE/process-state/NAME.json`, written before anything else and
//! removed after everything else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orcapack_tasks::outcome::FailureClass;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroups;
use crate::sandbox::{Labels, Leftover, SandboxError, SweepScope};

pub(crate) fn folder(cache: &Path) -> PathBuf {
    cache.join("process-state")
}

/// Of a sandbox, its state file and its control group: readable, and unique on this machine.
pub(crate) fn name(labels: &Labels, number: u64) -> String {
    let Labels { run, attempt, incarnation, .. } = labels;
    let name = format!("{run}.{attempt}.{incarnation:x}.{}.{number}", std::process::id());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    // The end is what makes it unique; a name longer than a file's may be loses its beginning.
    let start = name.len().saturating_sub(200);
    name[start..].trim_start_matches('.').to_owned()
}

/// Whether the process that gave a sandbox this name has ended.
pub(crate) fn owner_is_gone(name: &str) -> bool {
    let owner = name.rsplit('.').nth(1).and_then(|pid| pid.parse::<u32>().ok());
    owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    run: String,
    node: String,
    incarnation: u64,
    attempt: String,
    deadline_unix_sec: u64,
    /// The process outside, whose end is the sandbox's, and when it was started, in clock ticks
    /// since boot.
    pid: u32,
    started: u64,
}

impl State {
    pub fn new(labels: &Labels, pid: u32) -> Self {
        Self {
            run: labels.run.clone(),
            node: labels.node.clone(),
            incarnation: labels.incarnation,
            attempt: labels.attempt.clone(),
            deadline_unix_sec: labels.deadline_unix_sec,
            pid,
            started: started(pid).unwrap_or(0),
        }
    }

    pub fn write(&self, file: &Path) -> io::Result<()> {
        fs::write(file, serde_json::to_vec(self)?)
    }

    fn is_in(&self, scope: &SweepScope) -> bool {
        match scope {
            SweepScope::Run { run, except_incarnation } => {
                self.run == *run && *except_incarnation != Some(self.incarnation)
            }
            SweepScope::Node { node, run, except_incarnation } => {
                self.node == *node
                    && run.as_ref().is_none_or(|run| self.run == *run)
                    && *except_incarnation != Some(self.incarnation)
            }
            SweepScope::Expired { now_unix_sec } => self.deadline_unix_sec < *now_unix_sec,
            SweepScope::All => true,
        }
    }

    /// Numbers are used again: only the same start makes it the same process.
    fn kill(&self) {
        let pid = Pid::from_raw(self.pid.cast_signed());
        if started(self.pid) == Some(self.started) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Field 22 of `/proc/PID/stat`, counted behind the name, which may hold anything.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// What [`sweep`] would find, and remove. Blocks.
pub(crate) fn leftovers(cache: &Path, scope: &SweepScope) -> io::Result<Vec<Leftover>> {
    let mut found = Vec::new();
    for (name, path) in state_files(cache)? {
        let Ok(bytes) = fs::read(&path) else { continue };
        let state = serde_json::from_slice::<State>(&bytes).ok();
        let in_scope =
            state.as_ref().map_or(matches!(scope, SweepScope::All), |state| state.is_in(scope));
        if in_scope {
            found.push(Leftover {
                kind: "sandbox",
                id: name,
                deadline_unix_sec: state.as_ref().map(|state| state.deadline_unix_sec),
                run: state.as_ref().map(|state| state.run.clone()),
                attempt: state.map(|state| state.attempt),
            });
        }
    }
    Ok(found)
}

/// The names of sandboxes, and their files.
fn state_files(cache: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let files = fs::read_dir(folder(cache))?.flatten().filter_map(|entry| {
        let path = entry.path();
        let name = path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
        Some((name, path))
    });
    Ok(files.collect())
}

/// Kills what is in scope, and removes what it left. Blocks. The number of sandboxes.
pub(crate) fn sweep(
    cache: &Path,
    cgroups: &Cgroups,
    scope: &SweepScope,
) -> Result<usize, SandboxError> {
    let daemon = |message| SandboxError::new(FailureClass::Daemon, message);
    let files = state_files(cache)
        .map_err(|error| daemon(format!("cannot read {}: {error}", folder(cache).display())))?;
    let mut swept = 0;
    for (name, path) in files {
        // Gone: somebody else sweeps, or its owner removed it.
        let Ok(bytes) = fs::read(&path) else { continue };
        match serde_json::from_slice::<State>(&bytes) {
            Ok(state) if state.is_in(scope) => {
                state.kill();
                swept += 1;
            }
            // Torn: its owner died while it was written, and tells nobody whose it was.
            Err(_) if owner_is_gone(&name) || matches!(scope, SweepScope::All) => {}
            _ => continue,
        }
        if !cgroups.named(&name).remove() {
            return Err(daemon(format!("the processes of sandbox {name} do not end")));
        }
        let _ = fs::remove_file(&path);
    }
    cgroups.remove_abandoned();
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        Labels {
            run: "träin/1".to_owned(),
            node: "n".to_owned(),
            incarnation: 16,
            attempt: "12.1.agent".to_owned(),
            deadline_unix_sec: 100,
        }
    }

    #[test]
    fn names_are_good_for_files_and_control_groups() {
        let pid = std::process::id();
        assert_eq!(name(&labels(), 3), format!("tr_in_1.12.1.agent.10.{pid}.3"));
        let long = Labels { run: "r".repeat(500), ..labels() };
        assert_eq!(name(&long, 3).len(), 200);
        assert!(name(&long, 3).ends_with(&format!(".{pid}.3")));
        assert!(!name(&Labels { run: "..".to_owned(), ..labels() }, 3).starts_with('.'));
    }

    #[test]
    fn a_file_whose_owner_died_while_it_was_written_goes_with_any_sweep() {
        /// No kernel gives a process such a number.
        const NOBODY: u32 = 1 << 23;
        let cache = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(folder(cache.path())).expect("room");
        let torn = |owner: u32| {
            let file = folder(cache.path()).join(format!("r.1.1.agent.7.{owner}.0.json"));
            fs::write(&file, "{\"run\":").expect("room");
            file
        };
        let (ours, nobodys) = (torn(std::process::id()), torn(NOBODY));
        let scope = SweepScope::Run { run: "other".to_owned(), except_incarnation: None };
        let swept = sweep(cache.path(), &Cgroups::default(), &scope);
        assert_eq!(swept.expect("an answer"), 0, "it was no sandbox yet");
        assert!(ours.exists() && !nobodys.exists());
    }

    #[test]
    fn a_scope_takes_what_it_says() {
        let state = State::new(&labels(), 1);
        let run =
            |run: &str, except| SweepScope::Run { run: run.to_owned(), except_incarnation: except };
        assert!(state.is_in(&SweepScope::All));
        assert!(state.is_in(&run("träin/1", None)) && state.is_in(&run("träin/1", Some(17))));
        assert!(!state.is_in(&run("träin/1", Some(16))) && !state.is_in(&run("other", None)));
        let node = |node: &str, run: Option<&str>, except_incarnation| SweepScope::Node {
            node: node.to_owned(),
            run: run.map(str::to_owned),
            except_incarnation,
        };
        assert!(state.is_in(&node("n", None, None)) && !state.is_in(&node("n2", None, None)));
        assert!(state.is_in(&node("n", Some("träin/1"), Some(17))));
        assert!(!state.is_in(&node("n", Some("other"), None)));
        assert!(!state.is_in(&node("n", None, Some(16))));
        assert!(state.is_in(&SweepScope::Expired { now_unix_sec: 101 }));
        assert!(!state.is_in(&SweepScope::Expired { now_unix_sec: 100 }));
    }
}
