//! What a ledger knows of the past of its run, when it is opened again.

use std::path::Path;

use orcapack_tasks::outcome::FailureClass;
use rusqlite::Connection;

use crate::ledger::{Past, PastAttempt, PastEnd};
use crate::store::StoreError;
use crate::store_rows;

pub(crate) fn read(connection: &Connection, path: &Path) -> Result<Past, StoreError> {
    let attempts = attempts(connection, path)?;
    let ended = store_rows::results_of(connection, path)?;
    let planned = planned(connection, path)?;
    Ok(Past { planned, attempts, ended, batches: store_rows::batches_of(connection, path)? })
}

fn planned(connection: &Connection, path: &Path) -> Result<Vec<u32>, StoreError> {
    let rows = connection.prepare("SELECT rollout FROM rollouts ORDER BY rollout");
    let read = rows.and_then(|mut rows| rows.query_map([], |row| row.get(0))?.collect());
    read.map_err(|source| StoreError::Sqlite { path: path.to_owned(), source })
}

fn attempts(connection: &Connection, path: &Path) -> Result<Vec<PastAttempt>, StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    let sql = "SELECT rollout, attempt, fence, state, class, node FROM attempts ORDER BY fence";
    let mut statement = connection.prepare(sql).map_err(sqlite)?;
    let rows = statement.query_map([], |row| {
        let fence: i64 = row.get(2)?;
        let state: String = row.get(3)?;
        let class: Option<String> = row.get(4)?;
        Ok((row.get(0)?, row.get(1)?, fence.unsigned_abs(), state, class, row.get(5)?))
    });
    let rows: Vec<(u32, u32, u64, String, Option<String>, String)> =
        rows.and_then(Iterator::collect).map_err(sqlite)?;
    let mut attempts = Vec::with_capacity(rows.len());
    for (rollout, attempt, fence, state, class, node) in rows {
        let end = match (state.as_str(), &class) {
            ("assigned", _) => None,
            ("interrupted", _) => Some(PastEnd::Interrupted),
            ("ended", None) => Some(PastEnd::Graded),
            ("ended", Some(class)) => Some(PastEnd::Failed(parse_class(class, path)?)),
            (state, _) => {
                let message = format!(
                    "attempts.state: expected assigned, interrupted or ended, found {state}"
                );
                return Err(StoreError::Corrupt { path: path.to_owned(), message });
            }
        };
        attempts.push(PastAttempt { rollout, attempt, fence, node, end });
    }
    Ok(attempts)
}

fn parse_class(class: &str, path: &Path) -> Result<FailureClass, StoreError> {
    FailureClass::ALL.into_iter().find(|known| known.as_str() == class).ok_or_else(|| {
        let message = format!("class: expected a failure class, found {class}");
        StoreError::Corrupt { path: path.to_owned(), message }
    })
}
