//! The directory of a run: who owns it, what it is called, and what lies in it.
//!
//! ```text
//! runs/NAME/
//!   run.json       id of the run, and what it must keep when it is resumed
//!   config.toml    effective configuration
//!   run.db         ledger (SQLite)
//!   trajectories/  one ATIF file for each attempt
//!   checkpoints/   step_N, of a run that trains
//!   metrics.jsonl  all metrics, one line each few seconds, or each training step
//!   logs/          orcapack.log
//!   report.html
//!   .lock          held by the process that works here
//! ```
//!
//! A directory belongs to one process at a time (an exclusive `flock`, which the kernel releases
//! however that process dies). `--clean` only ever empties what is a run's directory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use crate::files::{self, PUBLIC};
use crate::run_kind::{Differences, RunKind};

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

impl Opening {
    /// Of the flags `--resume` and `--clean`, which exclude each other.
    pub fn of(resume: bool, clean: bool) -> Self {
        match (resume, clean) {
            (true, _) => Self::Resume,
            (_, true) => Self::Clean,
            _ => Self::New,
        }
    }
}

/// Where a run is to be, and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Folder of the run directories.
    pub runs_dir: &'a Path,
    pub name: &'a str,
    pub kind: &'a RunKind,
    /// The effective configuration, as TOML.
    pub config: &'a str,
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
    #[error("{0}: expected the directory of a run, found no run.json in it")]
    NoRun(PathBuf),
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

impl RunDir {
    /// Takes `runs_dir/name`, and writes the configuration into it.
    ///
    /// # Errors
    /// See [`RunDirError`]; nothing has been changed then.
    pub fn open(opening: Opening, wanted: &Wanted<'_>) -> Result<Self, RunDirError> {
        let path = wanted.runs_dir.join(wanted.name);
        let run = match opening {
            Opening::New => Self::create(path, wanted)?,
            Opening::Resume => Self::resume(path, wanted.kind)?,
            Opening::Clean => Self::clean(path, wanted)?,
        };
        run.folder(LOGS)?;
        let file = run.path.join(CONFIG);
        files::write_whole(&file, wanted.config.as_bytes(), PUBLIC).map_err(io_at(&file))?;
        Ok(run)
    }

    /// A folder in it, made where it is absent.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, RunDirError> {
        let folder = self.path.join(name);
        fs::create_dir_all(&folder).map_err(io_at(&folder))?;
        Ok(folder)
    }

    fn create(path: PathBuf, wanted: &Wanted<'_>) -> Result<Self, RunDirError> {
        fs::create_dir_all(wanted.runs_dir).map_err(io_at(wanted.runs_dir))?;
        fs::create_dir(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RunDirError::NameTaken(path.clone()),
            _ => io_at(&path)(error),
        })?;
        let lock = take_lock(&path)?;
        Self::mark(path, lock, None, wanted)
    }

    /// Makes an owned, empty directory a run's.
    fn mark(
        path: PathBuf,
        lock: File,
        replaced: Option<String>,
        wanted: &Wanted<'_>,
    ) -> Result<Self, RunDirError> {
        let id = format!("{}-{}", wanted.name, random_suffix()?);
        let created = jiff::Timestamp::now();
        let file = RunFile { id: id.clone(), created, kind: wanted.kind.clone() };
        let at = path.join(RUN_FILE);
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
        if !differences.is_empty() {
            return Err(RunDirError::OtherKind { path, differences });
        }
        Ok(Self { path, id: file.id, replaced: None, _lock: lock })
    }

    fn clean(path: PathBuf, wanted: &Wanted<'_>) -> Result<Self, RunDirError> {
        if !path.is_dir() {
            return Self::create(path, wanted);
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
        Self::mark(path, lock, replaced, wanted)
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
        self.path.join(LEDGER)
    }

    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join(LOGS)
    }

    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }
}

const RUN_FILE: &str = "run.json";
/// The effective configuration.
pub const CONFIG: &str = "config.toml";
/// Of rollouts, in SQLite.
pub const LEDGER: &str = "run.db";
const LOCK: &str = ".lock";
const LOGS: &str = "logs";
/// Of rollouts.
pub const TRAJECTORIES: &str = "trajectories";
/// Of a policy.
pub const CHECKPOINTS: &str = "checkpoints";

/// What kind of run a directory is of, whoever owns it.
///
/// # Errors
/// It is no run's, or its `run.json` cannot be read.
pub fn kind_of(path: &Path) -> Result<RunKind, RunDirError> {
    match path.join(RUN_FILE).is_file() {
        true => read_run_file(path).map(|file| file.kind),
        false => Err(RunDirError::NoRun(path.to_owned())),
    }
}

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
    let at = path.join(RUN_FILE);
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
