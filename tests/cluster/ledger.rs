//! What a run's ledger says of it, and what must be true of any.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rusqlite::{Connection, OpenFlags, Row};

use crate::process::until;

/// A row of the ledger's `attempts`.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub rollout: u32,
    pub attempt: u32,
    pub node: String,
    pub state: String,
    pub assigned_ms: i64,
    pub ended_ms: Option<i64>,
    pub class: Option<String>,
    pub message: Option<String>,
}

/// A row of the ledger's `results`: a terminal record.
#[derive(Clone, Debug, PartialEq)]
pub struct Terminal {
    pub rollout: u32,
    pub attempt: u32,
    pub ended_ms: i64,
    pub reward: Option<f64>,
    pub message: Option<String>,
}

/// A ledger that others write.
pub struct Ledger {
    file: PathBuf,
    /// Shown when what is waited for does not come.
    log: PathBuf,
}

impl Ledger {
    pub fn at(file: PathBuf, log: PathBuf) -> Self {
        Self { file, log }
    }

    pub fn attempts(&self) -> Vec<Attempt> {
        let sql = "SELECT rollout, attempt, node, state, assigned_ms, ended_ms, class, message
                   FROM attempts ORDER BY rollout, attempt";
        let read = |row: &Row<'_>| {
            Ok(Attempt {
                rollout: row.get(0)?,
                attempt: row.get(1)?,
                node: row.get(2)?,
                state: row.get(3)?,
                assigned_ms: row.get(4)?,
                ended_ms: row.get(5)?,
                class: row.get(6)?,
                message: row.get(7)?,
            })
        };
        self.query(sql, read).unwrap()
    }

    pub fn terminals(&self) -> Vec<Terminal> {
        let sql = "SELECT rollout, attempt, ended_ms, reward, message FROM results
                   ORDER BY rollout";
        let read = |row: &Row<'_>| {
            Ok(Terminal {
                rollout: row.get(0)?,
                attempt: row.get(1)?,
                ended_ms: row.get(2)?,
                reward: row.get(3)?,
                message: row.get(4)?,
            })
        };
        self.query(sql, read).unwrap()
    }

    /// One number; 0 where the ledger is not there yet.
    pub fn count(&self, sql: &str) -> i64 {
        self.query(sql, |row| row.get(0)).ok().and_then(|rows| rows.first().copied()).unwrap_or(0)
    }

    /// Waits until a count has come to at least `least`.
    pub fn until(&self, what: &str, sql: &str, least: i64) {
        until(what, &self.log, || self.count(sql) >= least);
    }

    /// Attempts that were ever assigned to a node.
    pub fn assigned_to(&self, node: &str) -> i64 {
        self.count(&format!("SELECT count(*) FROM attempts WHERE node = '{node}'"))
    }

    pub fn done(&self) -> i64 {
        self.count("SELECT count(*) FROM results")
    }

    fn query<T>(
        &self,
        sql: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let ledger = Connection::open_with_flags(&self.file, flags)?;
        ledger.busy_timeout(crate::process::PATIENCE)?;
        ledger.prepare(sql)?.query_map([], read)?.collect()
    }

    /// Each of so many rollouts has one terminal record, with the reward 1, and nothing of it was
    /// begun afterwards or is still under way (AC-1, AC-2).
    pub fn assert_each_passed_once(&self, rollouts: usize) {
        let (terminals, attempts) = (self.terminals(), self.attempts());
        let ended: BTreeMap<u32, &Terminal> =
            terminals.iter().map(|terminal| (terminal.rollout, terminal)).collect();
        assert_eq!((terminals.len(), ended.len()), (rollouts, rollouts));
        let failed = terminals.iter().filter(|terminal| terminal.reward != Some(1.0));
        assert_eq!(failed.collect::<Vec<_>>(), Vec::<&Terminal>::new(), "not passed");
        let open = attempts.iter().filter(|attempt| attempt.state == "assigned");
        assert_eq!(open.collect::<Vec<_>>(), Vec::<&Attempt>::new(), "never ended");
        let again = attempts.iter().filter(|attempt| {
            let terminal = ended[&attempt.rollout];
            attempt.attempt > terminal.attempt || attempt.assigned_ms > terminal.ended_ms
        });
        assert_eq!(again.collect::<Vec<_>>(), Vec::<&Attempt>::new(), "run after their records");
    }

    /// Attempts that failed were on nodes that failed, or they were not lost by this.
    pub fn assert_lost_with_nodes_only(&self) {
        let attempts = self.attempts();
        let count = |state: &str| attempts.iter().filter(|attempt| attempt.state == state).count();
        let lost = |attempt: &&Attempt| attempt.class.as_deref() == Some("node_lost");
        eprintln!(
            "{} attempts, of them {} interrupted and {} lost with nodes",
            attempts.len(),
            count("interrupted"),
            attempts.iter().filter(lost).count(),
        );
        let failed = attempts.iter().filter(|attempt| attempt.class.is_some());
        let others: Vec<&Attempt> = failed.filter(|attempt| !lost(attempt)).collect();
        assert_eq!(others, Vec::<&Attempt>::new(), "failed by themselves");
    }
}
