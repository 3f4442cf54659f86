//! The ledger's store: SQLite in WAL mode behind one writer thread.
//!
//! The thread takes every job that is waiting, commits them in one transaction (one `fsync` for
//! all: group commit), and only then runs their continuations. So whatever follows from a record
//! happens after it is on disk (AC-1). `run.db` is plain SQLite, for users to query; its tables are
//! documented in `schema.sql`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use orcapack_actors::phase::{Phase, PhaseTimes};
use rusqlite::{Connection, Transaction, params};

use crate::ledger::{Past, Record};
use crate::store_plan::{self, Plan};
use crate::store_rows::OutcomeRow;
use crate::summary_team::AgentSummary;
use crate::{store_agents, store_past};

/// Raised when `schema.sql` changes in a way that older programs cannot read.
pub(crate) const SCHEMA_VERSION: i64 = 4;
/// Jobs waiting for the writer. Each attempt has at most a few under way, so this is only reached
/// by a stuck disk.
const JOBS_MAX: usize = 4096;
const JOBS_PER_TRANSACTION_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {source}")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("{path}: expected a ledger of schema version {SCHEMA_VERSION}, found {found}")]
    Version { path: PathBuf, found: i64 },
    #[error("{path}: expected {key} = {expected}, found {found}")]
    Differs { path: PathBuf, key: &'static str, expected: String, found: String },
    #[error("{path}: {message}")]
    Corrupt { path: PathBuf, message: String },
    #[error("cannot write {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
}

/// A rollout as it is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRollout {
    pub task: String,
    pub task_digest: String,
    /// The rollouts of a group are compared with each other.
    pub group: u32,
    /// Who solves it.
    pub agent: String,
}

/// A record, and what else is worth keeping of an attempt that ended.
#[derive(Debug)]
pub struct Entry {
    pub record: Record,
    pub details: Option<Details>,
}

#[derive(Clone, Debug)]
pub struct Details {
    /// Kept to the millisecond.
    pub started: SystemTime,
    pub wall: Duration,
    pub phases: PhaseTimes,
    pub note: Option<String>,
    /// Of a team.
    pub agents: Vec<AgentSummary>,
}

// By hand, so that a time takes as many bytes whatever it is: a simulation has no say in it.
impl Encode for Details {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Self { started, wall, phases, note, agents } = self;
        unix_ms(*started).encode(encoder)?;
        (wall, phases, note, agents).encode(encoder)
    }
}

impl<Context> Decode<Context> for Details {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let started = Duration::from_millis(i64::decode(decoder)?.unsigned_abs());
        let started = UNIX_EPOCH
            .checked_add(started)
            .ok_or(DecodeError::Other("a time that is later than all others"))?;
        let (wall, phases, note, agents) = Decode::decode(decoder)?;
        Ok(Self { started, wall, phases, note, agents })
    }
}

bincode::impl_borrow_decode!(Details);

/// One unit of commitment: files first, then rows and entries, then `then`.
pub struct Job {
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// More of the plan, by rollout id, where that is not there from the start. What is there
    /// already stays.
    pub planned: Vec<(u32, PlannedRollout)>,
    pub entries: Vec<Entry>,
    pub then: Box<dyn FnOnce(Result<(), String>) + Send>,
}

/// The handle of the writer. Dropping it commits what is waiting, and closes the file.
pub struct Store(Writer);

enum Writer {
    Thread { jobs: Option<mpsc::SyncSender<Job>>, thread: Option<JoinHandle<()>> },
    Inline { connection: Box<Mutex<Connection>>, incarnation: u64 },
}

/// Where jobs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// On a thread of the store's own.
    Thread,
    /// Where they are submitted, before [`Store::submit`] returns: for simulations, in which no
    /// thread may take part.
    Inline,
}

/// What opening a ledger gives.
pub struct Opened {
    pub store: Store,
    pub past: Past,
    /// 1 at the first start of a run, one more at every resume. Labels containers (AC-3, AC-6).
    pub incarnation: u64,
}

impl Store {
    /// Opens the ledger at `path`, or makes it. One that is there must be of the same `plan`, which
    /// is by rollout id.
    ///
    /// # Errors
    /// Not SQLite, another schema version, another plan (the message says what differs), or I/O.
    pub fn open(
        path: &Path,
        plan: &[PlannedRollout],
        writing: Writing,
    ) -> Result<Opened, StoreError> {
        let row = |rollout: u32| plan[rollout as usize].clone();
        let plan = Plan { rollouts: plan.len() as u32, row: &row, is_whole: true };
        Self::open_planned(path, &plan, writing)
    }

    /// The same for a plan that is written bit by bit, with [jobs](Job::planned). A ledger that is
    /// there may have any part of it.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_growing(
        path: &Path,
        rollouts: u32,
        row: &dyn Fn(u32) -> PlannedRollout,
        writing: Writing,
    ) -> Result<Opened, StoreError> {
        Self::open_planned(path, &Plan { rollouts, row, is_whole: false }, writing)
    }

    fn open_planned(path: &Path, plan: &Plan<'_>, writing: Writing) -> Result<Opened, StoreError> {
        let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(sqlite)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(sqlite)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;
        let found: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(sqlite)?;
        match found {
            0 => store_plan::create(&mut connection, plan).map_err(sqlite)?,
            SCHEMA_VERSION => store_plan::check(&connection, path, plan)?,
            found => return Err(StoreError::Version { path: path.to_owned(), found }),
        }
        let incarnation = next_incarnation(&connection).map_err(sqlite)?;
        let past = store_past::read(&connection, path)?;
        let writer = match writing {
            Writing::Inline => {
                Writer::Inline { connection: Box::new(Mutex::new(connection)), incarnation }
            }
            Writing::Thread => {
                let (jobs, queue) = mpsc::sync_channel(JOBS_MAX);
                let thread = std::thread::Builder::new()
                    .name("ledger".into())
                    .spawn(move || write_all(&mut connection, &queue, incarnation))
                    .map_err(|source| StoreError::File { path: path.to_owned(), source })?;
                Writer::Thread { jobs: Some(jobs), thread: Some(thread) }
            }
        };
        Ok(Opened { store: Self(writer), past, incarnation })
    }

    /// Queues a job. Blocks only when the disk is stuck.
    pub fn submit(&self, job: Job) {
        let refused = match &self.0 {
            Writer::Thread { jobs: Some(jobs), .. } => {
                jobs.send(job).err().map(|mpsc::SendError(job)| job)
            }
            Writer::Thread { jobs: None, .. } => Some(job),
            Writer::Inline { connection, incarnation } => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                commit(&mut connection, vec![job], *incarnation);
                None
            }
        };
        if let Some(job) = refused {
            (job.then)(Err("the ledger's writer has ended".into()));
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let Writer::Thread { jobs, thread } = &mut self.0 else { return };
        drop(jobs.take());
        if let Some(thread) = thread.take() {
            // A panic of the writer was reported to every job that it did not commit.
            let _ = thread.join();
        }
    }
}

fn write_all(connection: &mut Connection, queue: &mpsc::Receiver<Job>, incarnation: u64) {
    while let Ok(first) = queue.recv() {
        let mut jobs = vec![first];
        jobs.extend(queue.try_iter().take(JOBS_PER_TRANSACTION_MAX - 1));
        metrics::histogram!("orcapack_ledger_jobs_per_transaction").record(jobs.len() as f64);
        commit(connection, jobs, incarnation);
    }
}

fn commit(connection: &mut Connection, jobs: Vec<Job>, incarnation: u64) {
    let result = write(connection, &jobs, incarnation).map_err(|error| error.to_string());
    for job in jobs {
        (job.then)(result.clone());
    }
}

fn write(connection: &mut Connection, jobs: &[Job], incarnation: u64) -> Result<(), StoreError> {
    for (path, bytes) in jobs.iter().flat_map(|job| &job.files) {
        std::fs::write(path, bytes)
            .map_err(|source| StoreError::File { path: path.clone(), source })?;
    }
    let sqlite = |source| StoreError::Sqlite { path: "run.db".into(), source };
    let transaction = connection.transaction().map_err(sqlite)?;
    for job in jobs {
        store_plan::append(&transaction, &job.planned).map_err(sqlite)?;
        for entry in &job.entries {
            write_entry(&transaction, entry, incarnation).map_err(sqlite)?;
        }
    }
    transaction.commit().map_err(sqlite)
}

fn write_entry(
    transaction: &Transaction<'_>,
    Entry { record, details }: &Entry,
    incarnation: u64,
) -> rusqlite::Result<()> {
    match record {
        Record::Assigned { rollout, attempt, fence, node } => {
            let sql = "INSERT INTO attempts
                       (rollout, attempt, fence, incarnation, node, state, assigned_ms)
                       VALUES (?, ?, ?, ?, ?, 'assigned', ?)";
            let values = params![
                rollout,
                attempt,
                db_int(*fence),
                db_int(incarnation),
                node,
                unix_ms(SystemTime::now())
            ];
            transaction.prepare_cached(sql)?.execute(values)?;
        }
        Record::AttemptEnded { rollout, fence, outcome, .. } => {
            write_end(transaction, *fence, "ended", &OutcomeRow::from(outcome), details.as_ref())?;
            write_agents(transaction, *rollout, details.as_ref())?;
        }
        Record::Interrupted { rollout, fence, .. } => {
            let row = OutcomeRow::default();
            write_end(transaction, *fence, "interrupted", &row, details.as_ref())?;
            write_agents(transaction, *rollout, details.as_ref())?;
        }
        Record::Terminal { rollout, attempt, outcome } => {
            let sql =
                "INSERT INTO results (rollout, attempt, ended_ms, outcome, reward, class, message)
                       VALUES (?, ?, ?, ?, ?, ?, ?)";
            let row = OutcomeRow::from(outcome);
            let ended = unix_ms(SystemTime::now());
            let values =
                params![rollout, attempt, ended, row.outcome, row.reward, row.class, row.message];
            transaction.prepare_cached(sql)?.execute(values)?;
        }
        Record::Consumed { step, rollouts } => {
            let sql = "INSERT INTO batches (step, place, rollout) VALUES (?, ?, ?)";
            let mut insert = transaction.prepare_cached(sql)?;
            for (place, rollout) in (0..).zip(rollouts) {
                insert.execute(params![db_int(*step), db_int(place), rollout])?;
            }
        }
    }
    Ok(())
}

fn write_agents(
    transaction: &Transaction<'_>,
    rollout: u32,
    details: Option<&Details>,
) -> rusqlite::Result<()> {
    details.map_or(Ok(()), |details| store_agents::insert(transaction, rollout, &details.agents))
}

/// The end of an attempt, in one statement: its row is looked up and written once.
fn write_end(
    transaction: &Transaction<'_>,
    fence: u64,
    state: &str,
    row: &OutcomeRow,
    details: Option<&Details>,
) -> rusqlite::Result<()> {
    let sql = "UPDATE attempts SET state = ?, ended_ms = ?, outcome = ?, reward = ?, class = ?,
               message = ?, note = ?, started_ms = ?, wall_sec = ?, queue_sec = ?, image_sec = ?,
               create_sec = ?, exec_sec = ?, model_sec = ?, grade_sec = ?, cleanup_sec = ?
               WHERE fence = ?";
    let [queue, image, create, exec, model, grade, cleanup] =
        Phase::ALL.map(|phase| details.map(|details| details.phases.get(phase).as_secs_f64()));
    transaction.prepare_cached(sql)?.execute(params![
        state,
        unix_ms(SystemTime::now()),
        row.outcome,
        row.reward,
        row.class,
        row.message,
        details.and_then(|details| details.note.as_deref()),
        details.map(|details| unix_ms(details.started)),
        details.map(|details| details.wall.as_secs_f64()),
        queue,
        image,
        create,
        exec,
        model,
        grade,
        cleanup,
        db_int(fence)
    ])?;
    Ok(())
}

fn next_incarnation(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "INSERT INTO incarnations (started_ms) VALUES (?)";
    connection.execute(sql, params![unix_ms(SystemTime::now())])?;
    Ok(connection.last_insert_rowid().unsigned_abs())
}

/// SQLite's integers are signed; our counters never reach its limit.
pub(crate) fn db_int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
