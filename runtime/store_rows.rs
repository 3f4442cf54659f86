//! The ledger's rows: how an outcome is spread over columns, and what reports read.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use orcapack_actors::phase::PhaseTimes;
use orcapack_tasks::outcome::{AgentFailure, FailureClass, Outcome};
use rusqlite::{Connection, OpenFlags};

use crate::ledger::Ended;
use crate::store::{PlannedRollout, SCHEMA_VERSION, StoreError};

/// An attempt as the ledger keeps it.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    pub rollout: u32,
    pub attempt: u32,
    /// Who ran it.
    pub node: String,
    /// `None`: interrupted, or still running.
    pub outcome: Option<Outcome>,
    pub note: Option<String>,
    pub wall: Duration,
    pub phases: PhaseTimes,
}

/// Reads everything that ended, without disturbing a writer: by attempt, and by rollout.
///
/// # Errors
/// As for [`Store::open`].
pub fn read(path: &Path) -> Result<(Vec<AttemptRow>, Vec<Ended>), StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    let connection = open(path)?;
    let sql = "SELECT rollout, attempt, outcome, reward, class, message, note, wall_sec, queue_sec,
               image_sec, create_sec, exec_sec, model_sec, grade_sec, cleanup_sec, node
               FROM attempts WHERE state <> 'assigned' ORDER BY rollout, attempt";
    let mut statement = connection.prepare(sql).map_err(sqlite)?;
    let seconds = |row: &rusqlite::Row<'_>, column| -> rusqlite::Result<Duration> {
        let seconds: Option<f64> = row.get(column)?;
        Ok(Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default())
    };
    let attempts = statement.query_map([], |row| {
        let mut phases = PhaseTimes::default();
        for (index, time) in phases.0.iter_mut().enumerate() {
            *time = seconds(row, 8 + index)?;
        }
        Ok(AttemptRow {
            rollout: row.get(0)?,
            attempt: row.get(1)?,
            node: row.get(15)?,
            outcome: OutcomeRow::read(row, 2)?.into_outcome(),
            note: row.get(6)?,
            wall: seconds(row, 7)?,
            phases,
        })
    });
    let attempts = attempts.and_then(Iterator::collect).map_err(sqlite)?;
    Ok((attempts, results_of(&connection, path)?))
}

/// What the run is to do, as far as it is written: its rollouts by id.
///
/// # Errors
/// As for [`Store::open`].
pub fn planned(path: &Path) -> Result<BTreeMap<u32, PlannedRollout>, StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    let connection = open(path)?;
    let sql = "SELECT rollout, task, task_digest, group_id, agent FROM rollouts";
    let mut statement = connection.prepare(sql).map_err(sqlite)?;
    let planned = statement.query_map([], |row| {
        let (task, task_digest) = (row.get(1)?, row.get(2)?);
        let planned = PlannedRollout { task, task_digest, group: row.get(3)?, agent: row.get(4)? };
        Ok((row.get(0)?, planned))
    });
    planned.and_then(Iterator::collect).map_err(sqlite)
}

/// The batches of training steps, by step, each in its order.
///
/// # Errors
/// As for [`crate::store::Store::open`].
pub fn batches(path: &Path) -> Result<BTreeMap<u64, Vec<u32>>, StoreError> {
    batches_of(&open(path)?, path)
}

pub(crate) fn batches_of(
    connection: &Connection,
    path: &Path,
) -> Result<BTreeMap<u64, Vec<u32>>, StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    let sql = "SELECT step, rollout FROM batches ORDER BY step, place";
    let mut statement = connection.prepare(sql).map_err(sqlite)?;
    let mut rows = statement.query([]).map_err(sqlite)?;
    let mut batches: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    while let Some(row) = rows.next().map_err(sqlite)? {
        let step: i64 = row.get(0).map_err(sqlite)?;
        let rollout = row.get(1).map_err(sqlite)?;
        batches.entry(step.unsigned_abs()).or_default().push(rollout);
    }
    Ok(batches)
}

/// The terminal records, in the order of rollouts.
pub(crate) fn results_of(connection: &Connection, path: &Path) -> Result<Vec<Ended>, StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    let sql =
        "SELECT rollout, attempt, outcome, reward, class, message FROM results ORDER BY rollout";
    let mut statement = connection.prepare(sql).map_err(sqlite)?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, OutcomeRow::read(row, 2)?.into_outcome()))
    });
    let rows: Vec<(u32, u32, Option<Outcome>)> =
        rows.and_then(Iterator::collect).map_err(sqlite)?;
    let mut results = Vec::with_capacity(rows.len());
    for (rollout, attempt, outcome) in rows {
        let outcome = outcome.ok_or_else(|| {
            let message =
                format!("results.outcome of rollout {rollout} is none of the known kinds");
            StoreError::Corrupt { path: path.to_owned(), message }
        })?;
        results.push(Ended { rollout, attempt, outcome });
    }
    Ok(results)
}

/// For reading only.
fn open(path: &Path) -> Result<Connection, StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0));
    match found.map_err(sqlite)? {
        SCHEMA_VERSION => Ok(connection),
        found => Err(StoreError::Version { path: path.to_owned(), found }),
    }
}

/// An outcome as columns; none of them where an attempt was interrupted.
#[derive(Default)]
pub(crate) struct OutcomeRow {
    pub outcome: Option<String>,
    pub reward: Option<f64>,
    pub class: Option<String>,
    pub message: Option<String>,
}

impl From<&Outcome> for OutcomeRow {
    fn from(outcome: &Outcome) -> Self {
        let (name, class, message) = match outcome {
            Outcome::Graded { .. } => ("graded", None, None),
            Outcome::AgentFailure { failure, .. } => (failure.as_str(), None, None),
            Outcome::InfrastructureFailure { class, message } => {
                ("infrastructure_failure", Some(class.to_string()), Some(message.clone()))
            }
        };
        Self { outcome: Some(name.into()), reward: outcome.reward(), class, message }
    }
}

impl OutcomeRow {
    fn read(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            outcome: row.get(first)?,
            reward: row.get(first + 1)?,
            class: row.get(first + 2)?,
            message: row.get(first + 3)?,
        })
    }

    fn into_outcome(self) -> Option<Outcome> {
        match (self.outcome.as_deref()?, self.reward) {
            ("graded", Some(reward)) => Some(Outcome::Graded { reward }),
            ("infrastructure_failure", None) => {
                let class = self.class?;
                let class = FailureClass::ALL.into_iter().find(|known| known.as_str() == class)?;
                Some(Outcome::InfrastructureFailure { class, message: self.message? })
            }
            (name, Some(reward)) => {
                let failure = AgentFailure::ALL.into_iter().find(|known| known.as_str() == name)?;
                Some(Outcome::AgentFailure { failure, reward })
            }
            _ => None,
        }
    }
}
