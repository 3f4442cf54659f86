//! The ledger's table of agents: written with the end of an attempt, read for reports.

use std::path::Path;

use orcapack_actors::team::role::Role;
use rusqlite::{Connection, OpenFlags, Row, Transaction, params};

use crate::store::{StoreError, db_int};
use crate::summary_team::{AgentSummary, Spent};

/// An agent, and whose rollout it worked on.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRow {
    pub rollout: u32,
    pub agent: AgentSummary,
}

pub(crate) fn insert(
    transaction: &Transaction<'_>,
    rollout: u32,
    agents: &[AgentSummary],
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO agents (rollout, attempt, step, agent, parent, role, task, title, model,
               turns, takeovers, prompt_tokens, cached_tokens, completion_tokens, cost_usd,
               model_sec, action_sec, began_sec, ended_sec, ended, message)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    for agent in agents {
        let spent = &agent.spent;
        transaction.prepare_cached(sql)?.execute(params![
            rollout,
            db_int(agent.attempt),
            db_int(agent.step),
            db_int(agent.agent),
            agent.parent.map(db_int),
            agent.role.as_str(),
            agent.task,
            agent.title,
            agent.model,
            db_int(spent.turns),
            db_int(agent.takeovers),
            db_int(spent.prompt_tokens),
            db_int(spent.cached_tokens),
            db_int(spent.completion_tokens),
            spent.cost_usd,
            spent.model_sec,
            spent.action_sec,
            agent.began_sec,
            agent.ended_sec,
            agent.ended,
            agent.message,
        ])?;
    }
    Ok(())
}

/// Every agent of every attempt that ended, in their order.
///
/// # Errors
/// As for [`crate::store::Store::open`].
pub fn read(path: &Path) -> Result<Vec<AgentRow>, StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    let sql = "SELECT rollout, attempt, step, agent, parent, role, task, title, model, turns,
               takeovers, prompt_tokens, cached_tokens, completion_tokens, cost_usd, model_sec,
               action_sec, began_sec, ended_sec, ended, message
               FROM agents ORDER BY rollout, attempt, step, agent";
    let mut statement = connection.prepare(sql).map_err(sqlite)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(5)?, read_row(row)?)));
    let rows: Vec<(u32, String, AgentSummary)> =
        rows.and_then(Iterator::collect).map_err(sqlite)?;
    let with_role = |(rollout, name, agent): (u32, String, AgentSummary)| {
        let role = Role::ALL.into_iter().find(|role| role.as_str() == name).ok_or_else(|| {
            let message =
                format!("agents.role of rollout {rollout}: expected a role, found {name}");
            StoreError::Corrupt { path: path.to_owned(), message }
        })?;
        Ok(AgentRow { rollout, agent: AgentSummary { role, ..agent } })
    };
    rows.into_iter().map(with_role).collect()
}

/// All but the role.
fn read_row(row: &Row<'_>) -> rusqlite::Result<AgentSummary> {
    let count = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
    Ok(AgentSummary {
        attempt: count(1)?,
        step: count(2)?,
        agent: count(3)?,
        parent: row.get::<_, Option<i64>>(4)?.map(i64::unsigned_abs),
        role: Role::Orchestrator,
        task: row.get(6)?,
        title: row.get(7)?,
        model: row.get(8)?,
        spent: Spent {
            turns: count(9)?,
            prompt_tokens: count(11)?,
            cached_tokens: count(12)?,
            completion_tokens: count(13)?,
            cost_usd: row.get(14)?,
            model_sec: row.get(15)?,
            action_sec: row.get(16)?,
        },
        takeovers: count(10)?,
        began_sec: row.get(17)?,
        ended_sec: row.get(18)?,
        ended: row.get(19)?,
        message: row.get(20)?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, SystemTime};

    use orcapack_tasks::outcome::Outcome;

    use super::*;
    use crate::ledger::Record;
    use crate::store::{Details, Entry, Job, PlannedRollout, Store, Writing};
    use crate::summary_team::tests::agents;

    fn plan() -> Vec<PlannedRollout> {
        let planned = |task: &str| PlannedRollout {
            task: task.to_owned(),
            task_digest: String::new(),
            group: 0,
            agent: "team".to_owned(),
        };
        vec![planned("a"), planned("b")]
    }

    fn commit(store: &Store, entries: Vec<Entry>) {
        let (done, wait) = mpsc::channel();
        let then = Box::new(move |result: Result<(), String>| done.send(result).unwrap());
        store.submit(Job { files: Vec::new(), planned: Vec::new(), entries, then });
        wait.recv().unwrap().unwrap();
    }

    fn details(agents: Vec<AgentSummary>) -> Details {
        Details {
            started: SystemTime::now(),
            wall: Duration::ZERO,
            phases: Default::default(),
            note: None,
            agents,
        }
    }

    #[test]
    fn agents_are_committed_with_the_end_of_their_attempt_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.db");
        let store = Store::open(&path, &plan(), Writing::Thread).unwrap().store;
        for (rollout, fence) in [(0, 1), (1, 2)] {
            let record = Record::Assigned { rollout, attempt: 1, fence, node: "n".into() };
            commit(&store, vec![Entry { record, details: None }]);
        }
        assert_eq!(read(&path).unwrap(), []);
        let (rollout, attempt) = (0, 1);
        let outcome = Outcome::Graded { reward: 1.0 };
        let record = Record::AttemptEnded { rollout, attempt, fence: 1, outcome };
        commit(&store, vec![Entry { record, details: Some(details(agents(1))) }]);
        // What a killed attempt has used was used all the same.
        let record = Record::Interrupted { rollout: 1, attempt, fence: 2 };
        let lost = agents(1).into_iter().take(1).collect();
        commit(&store, vec![Entry { record, details: Some(details(lost)) }]);
        let mut want: Vec<AgentRow> =
            agents(1).into_iter().map(|agent| AgentRow { rollout, agent }).collect();
        want.push(AgentRow { rollout: 1, agent: agents(1).remove(0) });
        assert_eq!(read(&path).unwrap(), want);
    }

    #[test]
    fn a_ledger_of_the_schema_before_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.db");
        drop(Store::open(&path, &plan(), Writing::Thread).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        drop(connection);
        let error = Store::open(&path, &plan(), Writing::Thread).err().unwrap().to_string();
        assert!(error.ends_with("expected a ledger of schema version 4, found 1"), "{error}");
    }
}
