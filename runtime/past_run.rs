//! A run that was made: what it was to do, under which settings, and what came of it. Read from its
//! directory, which stays as it is and may be another process's that still works there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use orcapack_tasks::grading::is_pass;
use orcapack_tasks::{Defect, Outcome};

use crate::exit::Failure;
use crate::run_dir::{self, CONFIG, LEDGER};
use crate::store::PlannedRollout;
use crate::store_rows;

#[derive(Clone, Debug)]
pub struct PastRun {
    pub dir: PathBuf,
    /// Of its directory.
    pub name: String,
    /// By which it was made, such as `eval`.
    pub command: String,
    /// The effective configuration.
    pub config: toml::Table,
    pub planned: BTreeMap<u32, PlannedRollout>,
    pub ended: BTreeMap<u32, Outcome>,
    /// Who ran its attempts.
    pub nodes: BTreeSet<String>,
}

/// What came of the rollouts of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    pub digest: String,
    pub planned: usize,
    /// Whether each that has a reward passed, in the order of the samples.
    pub scored: Vec<bool>,
    /// Infrastructure failures, which have none.
    pub lost: usize,
}

impl Tried {
    pub fn passed(&self) -> usize {
        self.scored.iter().filter(|passed| **passed).count()
    }
}

impl PastRun {
    /// # Errors
    /// It is no run's directory, or a file of it cannot be read.
    pub fn read(dir: &Path) -> Result<Self, Failure> {
        let command = run_dir::kind_of(dir)?.command().to_owned();
        let file = dir.join(CONFIG);
        let unread = |found: String| {
            Failure::from(Defect::new(&file, "the effective configuration of a run", found))
        };
        let text = fs::read_to_string(&file).map_err(|error| unread(error.to_string()))?;
        let config = text.parse().map_err(|error: toml::de::Error| {
            unread(error.message().lines().collect::<Vec<_>>().join(": "))
        })?;
        let ledger = dir.join(LEDGER);
        if !ledger.is_file() {
            return Err(Defect::new(&ledger, "the ledger of a run with rollouts", "none").into());
        }
        let (attempts, ended) = store_rows::read(&ledger)?;
        Ok(Self {
            name: name_of(dir),
            dir: dir.to_owned(),
            command,
            config,
            planned: store_rows::planned(&ledger)?,
            ended: ended.into_iter().map(|it| (it.rollout, it.outcome)).collect(),
            nodes: attempts.into_iter().map(|it| it.node).collect(),
        })
    }

    /// The rollouts in this range by their tasks.
    pub fn tried(&self, rollouts: Range<u32>) -> BTreeMap<String, Tried> {
        let mut tasks: BTreeMap<String, Tried> = BTreeMap::new();
        for (rollout, planned) in self.planned.range(rollouts) {
            let tried = tasks.entry(planned.task.clone()).or_default();
            tried.digest.clone_from(&planned.task_digest);
            tried.planned += 1;
            match self.ended.get(rollout).map(Outcome::reward) {
                Some(Some(reward)) => tried.scored.push(is_pass(reward)),
                Some(None) => tried.lost += 1,
                None => {}
            }
        }
        tasks
    }

    /// Rollouts that have not ended.
    pub fn missing(&self) -> usize {
        self.planned.keys().filter(|rollout| !self.ended.contains_key(rollout)).count()
    }

    /// A path of the configuration, by its dotted key.
    ///
    /// # Errors
    /// There is none.
    pub fn path(&self, key: &str) -> Result<PathBuf, Failure> {
        let value = self.setting(key).and_then(toml::Value::as_str);
        value.map(PathBuf::from).ok_or_else(|| self.lacks(key, "a path"))
    }

    /// A whole number of the configuration, by its dotted key, from 1 to `max`.
    ///
    /// # Errors
    /// There is none.
    pub fn count(&self, key: &str, max: u64) -> Result<u64, Failure> {
        let value = self.setting(key).and_then(toml::Value::as_integer);
        let value = value.and_then(|number| u64::try_from(number).ok());
        let value = value.filter(|number| (1..=max).contains(number));
        value.ok_or_else(|| self.lacks(key, &format!("a whole number from 1 to {max}")))
    }

    fn setting(&self, key: &str) -> Option<&toml::Value> {
        let (section, key) = key.split_once('.')?;
        self.config.get(section)?.get(key)
    }

    fn lacks(&self, key: &str, expected: &str) -> Failure {
        let found = self.setting(key).map_or("nothing".to_owned(), ToString::to_string);
        Defect::new(&self.dir.join(CONFIG), expected, found).at_key(key).into()
    }
}

/// The last part of the path, also of `.`.
fn name_of(dir: &Path) -> String {
    let whole = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
