//! The directory of a run: who owns it, what it is called, and what lies in it.
//!
//! ```text
//! runs/NAME/
//!   run.json       id of the run, and what it must keep when it is resumed
//!   config.toml    effective configuration
//!   run.db         ledger (SQLite)
//!   trajectories/  one ATIF file for each attempt
//!   metrics.jsonl  all metrics, one line each few seconds
//!   logs/          orcapack.log
//!   report.html
//!   .lock          held by the process that works here
//! ```
//!
//! A directory belongs to one process at a time (an exclusive `flock`, which the kernel releases
//! however that process dies). `--clean` only ever empties what is a run's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use orcapack_actors::team::role::Role;
use serde::{Deserialize, Serialize};

use crate::config::{AgentKind, EvalConfig};
use crate::exit::{Exit, Failure};
use crate::files::{self, PUBLIC};

/// An owned run directory. Dropped, it is free for the next process.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    id: String,
    replaced: Option<String>,
    _lock: File,
}

/// How a name that may exist already is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The name must be free.
    New,
    /// `--resume`: the run must exist, and be of the same kind.
    Resume,
    /// `--clean`: what exists is deleted.
    Clean,
}

/// What two starts of one run must have in common, for their rewards to be of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunKind {
    /// Of the selected tasks.
    pub tasks_digest: String,
    pub agent: String,
    pub n_attempts: usize,
    pub partial_reward: bool,
    /// Of agent `team`: what bounds it, and who plays in it, each by its key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub team: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RunFile {
    id: String,
    created: jiff::Timestamp,
    kind: RunKind,
}

#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    #[error("run {0} exists already: --resume continues it, --clean deletes it first")]
    NameTaken(PathBuf),
    #[error("run {path} is in use by process {pid}")]
    InUse { path: PathBuf, pid: String },
    #[error("there is no run {0} to resume")]
    NoSuchRun(PathBuf),
    #[error("{0} is not the directory of a run: it is left as it is")]
    NotARun(PathBuf),
    #[error("run {path} cannot be resumed, for it was another kind of run:\n{differences}")]
    OtherKind { path: PathBuf, differences: Differences },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl From<RunDirError> for Failure {
    fn from(error: RunDirError) -> Self {
        let exit = match error {
            RunDirError::NameTaken(_) | RunDirError::InUse { .. } => Exit::RunTaken,
            _ => Exit::BadInput,
        };
        Self::new(exit, error.to_string())
    }
}

/// What a run was and would become: field, then, now. Never empty in an error.
#[derive(Debug, PartialEq, Eq)]
pub struct Differences(Vec<(String, String, String)>);

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (field, then, now)) in self.0.iter().enumerate() {
            let line_break = if i > 0 { "\n" } else { "" };
            write!(f, "{line_break}  {field}: {then} then, {now} now")?;
        }
        Ok(())
    }
}

impl RunKind {
    pub fn of(config: &EvalConfig, tasks_digest: &orcapack_tasks::Digest) -> Self {
        Self {
            tasks_digest: tasks_digest.to_string(),
            agent: config.agent.kind.as_str().to_owned(),
            n_attempts: config.rollouts.n_attempts,
            partial_reward: config.rollouts.partial_reward,
            team: match config.agent.kind {
                AgentKind::Team => team_kind(config),
                AgentKind::Oracle | AgentKind::Nop | AgentKind::KnownBad => BTreeMap::new(),
            },
        }
    }

    fn differences(&self, now: &Self) -> Differences {
        let fields = [
            ("selected tasks", self.tasks_digest.clone(), now.tasks_digest.clone()),
            ("agent.kind", self.agent.clone(), now.agent.clone()),
            ("rollouts.n_attempts", self.n_attempts.to_string(), now.n_attempts.to_string()),
            (
                "rollouts.partial_reward",
                self.partial_reward.to_string(),
                now.partial_reward.to_string(),
            ),
        ];
        let fields = fields.map(|(field, then, now)| (field.to_owned(), then, now)).into_iter();
        let keys: BTreeSet<&String> = self.team.keys().chain(now.team.keys()).collect();
        let value = |team: &BTreeMap<String, String>, key| {
            team.get(key).map_or_else(|| "none".to_owned(), Clone::clone)
        };
        let team = keys
            .into_iter()
            .map(|key| (key.clone(), value(&self.team, key), value(&now.team, key)));
        Differences(fields.chain(team).filter(|(_, then, now)| then != now).collect())
    }
}

/// What the answers of a team depend on, by the configuration's keys. How often and how long an
/// endpoint is tried, its keys and prices may change under way.
fn team_kind(config: &EvalConfig) -> BTreeMap<String, String> {
    const FREE: [&str; 8] = [
        "api_key",
        "api_key_file",
        "try_timeout_sec",
        "tries_max",
        "in_flight_max",
        "price",
        "restarts_max",
        "restart_window_sec",
    ];
    let mut kind = BTreeMap::new();
    let mut put = |section: &str, keys: serde_json::Result<serde_json::Value>| {
        let keys = keys.ok();
        let keys = keys.iter().filter_map(serde_json::Value::as_object).flatten();
        for (key, value) in keys.filter(|(key, _)| !FREE.contains(&key.as_str())) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            kind.insert(format!("{section}.{key}"), text);
        }
    };
    put("team", serde_json::to_value(&config.team));
    let roles = &config.team.roles;
    let played = Role::ALL.map(|role| roles.of(role));
    for (name, model) in config.models.iter().filter(|(name, _)| played.contains(&name.as_str())) {
        put(&format!("models.{name}"), serde_json::to_value(model));
    }
    kind
}

impl RunDir {
    /// Takes `runs_dir/name` of the configuration, and writes the configuration into it.
    pub fn open(
        opening: Opening,
        config: &EvalConfig,
        kind: &RunKind,
    ) -> Result<Self, RunDirError> {
        let path = config.run.runs_dir.join(&config.run.name);
        let run = match opening {
            Opening::New => Self::create(path, config, kind)?,
            Opening::Resume => Self::resume(path, kind)?,
            Opening::Clean => Self::clean(path, config, kind)?,
        };
        for folder in [run.trajectories(), run.logs()] {
            fs::create_dir_all(&folder).map_err(io_at(&folder))?;
        }
        let file = run.path.join("config.toml");
        let text = config.to_toml().map_err(|error| io_at(&file)(io::Error::other(error)))?;
        files::write_whole(&file, text.as_bytes(), PUBLIC).map_err(io_at(&file))?;
        Ok(run)
    }

    fn create(path: PathBuf, config: &EvalConfig, kind: &RunKind) -> Result<Self, RunDirError> {
        fs::create_dir_all(&config.run.runs_dir).map_err(io_at(&config.run.runs_dir))?;
        fs::create_dir(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RunDirError::NameTaken(path.clone()),
            _ => io_at(&path)(error),
        })?;
        let lock = take_lock(&path)?;
        Self::mark(path, lock, None, config, kind)
    }

    /// Makes an owned, empty directory a run's.
    fn mark(
        path: PathBuf,
        lock: File,
        replaced: Option<String>,
        config: &EvalConfig,
        kind: &RunKind,
    ) -> Result<Self, RunDirError> {
        let id = format!("{}-{}", config.run.name, random_suffix()?);
        let created = jiff::Timestamp::now();
        let file = RunFile { id: id.clone(), created, kind: kind.clone() };
        let at = path.join("run.json");
        let text = serde_json::to_vec_pretty(&file).map_err(|error| io_at(&at)(error.into()))?;
        files::write_whole(&at, &text, PUBLIC).map_err(io_at(&at))?;
        Ok(Self { path, id, replaced, _lock: lock })
    }

    fn resume(path: PathBuf, kind: &RunKind) -> Result<Self, RunDirError> {
        if !path.is_dir() {
            return Err(RunDirError::NoSuchRun(path));
        }
        if !is_run(&path) {
            return Err(RunDirError::NotARun(path));
        }
        let lock = take_lock(&path)?;
        let file = read_run_file(&path)?;
        let differences = file.kind.differences(kind);
        if !differences.0.is_empty() {
            return Err(RunDirError::OtherKind { path, differences });
        }
        Ok(Self { path, id: file.id, replaced: None, _lock: lock })
    }

    fn clean(path: PathBuf, config: &EvalConfig, kind: &RunKind) -> Result<Self, RunDirError> {
        if !path.is_dir() {
            return Self::create(path, config, kind);
        }
        if !is_run(&path) {
            return Err(RunDirError::NotARun(path));
        }
        let lock = take_lock(&path)?;
        let replaced = read_run_file(&path).ok().map(|file| file.id);
        for entry in fs::read_dir(&path).map_err(io_at(&path))? {
            let entry = entry.map_err(io_at(&path))?;
            let at = entry.path();
            if entry.file_name() == LOCK {
                continue;
            }
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_dir { fs::remove_dir_all(&at) } else { fs::remove_file(&at) };
            removed.map_err(io_at(&at))?;
        }
        Self::mark(path, lock, replaced, config, kind)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name and a random part: the `run` label of everything that this run creates. It stays
    /// the same when the run is resumed.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id of the run that `--clean` deleted, whose leftovers nobody else will look for.
    pub fn replaced(&self) -> Option<&str> {
        self.replaced.as_deref()
    }

    pub fn ledger(&self) -> PathBuf {
        self.path.join("run.db")
    }

    pub fn trajectories(&self) -> PathBuf {
        self.path.join("trajectories")
    }

    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }
}

const LOCK: &str = ".lock";

/// Whether a folder is a run's: one that a run has marked, or empty, of a run that died at once.
fn is_run(path: &Path) -> bool {
    path.join(LOCK).is_file()
        || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn take_lock(path: &Path) -> Result<File, RunDirError> {
    let at = path.join(LOCK);
    let in_use = |pid| RunDirError::InUse { path: path.to_owned(), pid };
    files::lock(&at).map_err(io_at(&at))?.map_err(in_use)
}

fn read_run_file(path: &Path) -> Result<RunFile, RunDirError> {
    let at = path.join("run.json");
    let bytes = fs::read(&at).map_err(io_at(&at))?;
    serde_json::from_slice(&bytes).map_err(|error| io_at(&at)(error.into()))
}

fn random_suffix() -> Result<String, RunDirError> {
    let bytes = files::random().map_err(io_at(Path::new("a random suffix")))?;
    Ok(format!("{:08x}", u32::from_le_bytes(bytes)))
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> RunDirError {
    let path = path.to_owned();
    move |source| RunDirError::Io { path, source }
}

#[cfg(test)]
#[path = "run_dir_tests.rs"]
mod tests;
