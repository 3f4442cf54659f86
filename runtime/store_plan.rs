//! The ledger's table of rollouts: what the run is to do, written whole or bit by bit.

use std::path::Path;

use rusqlite::{Connection, Transaction, params};

use crate::store::{PlannedRollout, SCHEMA_VERSION, StoreError};

/// What a run is to do.
pub(crate) struct Plan<'a> {
    /// With ids from 0.
    pub rollouts: u32,
    pub row: &'a dyn Fn(u32) -> PlannedRollout,
    /// Whether all of it is written when the ledger is made.
    pub is_whole: bool,
}

pub(crate) fn create(connection: &mut Connection, plan: &Plan<'_>) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(include_str!("schema.sql"))?;
    if plan.is_whole {
        (0..plan.rollouts).try_for_each(|id| insert(&transaction, id, &(plan.row)(id)))?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

/// Writes more of the plan. What is there already stays as it is: it was [checked](check).
pub(crate) fn append(
    transaction: &Transaction<'_>,
    planned: &[(u32, PlannedRollout)],
) -> rusqlite::Result<()> {
    planned.iter().try_for_each(|(rollout, planned)| insert(transaction, *rollout, planned))
}

fn insert(
    transaction: &Transaction<'_>,
    rollout: u32,
    planned: &PlannedRollout,
) -> rusqlite::Result<()> {
    let PlannedRollout { task, task_digest, group, agent } = planned;
    let sql = "INSERT INTO rollouts (rollout, task, task_digest, group_id, agent)
               VALUES (?, ?, ?, ?, ?) ON CONFLICT (rollout) DO NOTHING";
    let values = params![rollout, task, task_digest, group, agent];
    transaction.prepare_cached(sql)?.execute(values).map(drop)
}

/// Refuses to go on with another plan: the rollouts would not be the same ones.
pub(crate) fn check(
    connection: &Connection,
    path: &Path,
    plan: &Plan<'_>,
) -> Result<(), StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    let differs = |key, expected, found| {
        Err(StoreError::Differs { path: path.to_owned(), key, expected, found })
    };
    let sql = "SELECT count(*), coalesce(max(rollout), -1) + 1 FROM rollouts";
    let counts = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
    let (count, end): (i64, i64) = counts.map_err(sqlite)?;
    let rollouts = i64::from(plan.rollouts);
    if end > rollouts || (plan.is_whole && count != rollouts) {
        return differs("rollouts", rollouts.to_string(), end.max(count).to_string());
    }
    let sql = "SELECT rollout, task, task_digest, group_id, agent FROM rollouts ORDER BY rollout";
    let mut statement = connection.prepare(sql).map_err(sqlite)?;
    let rows = statement.query_map([], |row| {
        let (task, task_digest) = (row.get(1)?, row.get(2)?);
        let found = PlannedRollout { task, task_digest, group: row.get(3)?, agent: row.get(4)? };
        Ok((row.get(0)?, found))
    });
    for row in rows.map_err(sqlite)? {
        let (rollout, found): (u32, PlannedRollout) = row.map_err(sqlite)?;
        let planned = (plan.row)(rollout);
        if planned == found {
            continue;
        }
        if planned.task != found.task {
            return differs("task", planned.task, found.task);
        }
        let of = |PlannedRollout { task, task_digest, group, agent }: PlannedRollout| {
            format!("{task} ({task_digest}) in group {group} by {agent}")
        };
        return differs("rollout", of(planned), of(found));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::store::{Job, Store, Writing};
    use crate::store_rows;

    fn row(rollout: u32) -> PlannedRollout {
        PlannedRollout {
            task: format!("task-{}", rollout / 4),
            task_digest: "d".to_owned(),
            group: rollout / 2,
            agent: "team".to_owned(),
        }
    }

    fn refused(path: &Path, rollouts: u32, row: &dyn Fn(u32) -> PlannedRollout) -> String {
        Store::open_growing(path, rollouts, row, Writing::Inline).err().unwrap().to_string()
    }

    #[test]
    fn a_plan_grows_in_any_order_and_no_other_one_goes_on_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.db");
        for ids in [6..8, 0..2, 1..3] {
            let store = Store::open_growing(&path, 8, &row, Writing::Inline).unwrap().store;
            let planned = ids.map(|id| (id, row(id))).collect();
            let (done, wait) = mpsc::channel();
            let then = Box::new(move |result: Result<(), String>| done.send(result).unwrap());
            store.submit(Job { files: Vec::new(), planned, entries: Vec::new(), then });
            assert_eq!(wait.recv().unwrap(), Ok(()));
        }
        let ids: Vec<u32> = store_rows::planned(&path).unwrap().into_keys().collect();
        assert_eq!(ids, [0, 1, 2, 6, 7]);
        let less = refused(&path, 7, &row);
        assert!(less.ends_with("expected rollouts = 7, found 8"), "{less}");
        let other_task = |id| PlannedRollout { task: "other".to_owned(), ..row(id) };
        let text = refused(&path, 8, &other_task);
        assert!(text.ends_with("expected task = other, found task-0"), "{text}");
        let other_group =
            |id| PlannedRollout { group: row(id).group + u32::from(id == 7), ..row(id) };
        let text = refused(&path, 8, &other_group);
        let expected = "expected rollout = task-1 (d) in group 4 by team, \
                        found task-1 (d) in group 3 by team";
        assert!(text.ends_with(expected), "{text}");
        assert!(Store::open_growing(&path, 9, &row, Writing::Inline).is_ok(), "a longer plan");
    }

    #[test]
    fn a_whole_plan_is_there_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.db");
        let plan: Vec<PlannedRollout> = (0..4).map(row).collect();
        drop(Store::open(&path, &plan, Writing::Inline).unwrap());
        assert_eq!(store_rows::planned(&path).unwrap().len(), 4);
        assert!(Store::open(&path, &plan, Writing::Inline).is_ok());
        let error = Store::open(&path, &plan[..3], Writing::Inline).err().unwrap().to_string();
        assert!(error.ends_with("expected rollouts = 3, found 4"), "{error}");
    }
}
