//! What really happens in a simulation, seen from outside: the log of everything, and what must
//! hold at each moment of it.
//!
//! It learns from the sandboxes, which are the only ones to know what runs, and from the ledger's
//! file. Of no part of the program does it believe a word.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use orcapack_actors::sandbox::Labels;
use rusqlite::Connection;
use tokio::time::Instant;

use crate::random::mix;

pub struct Truth(Mutex<State>);

struct State {
    start: Instant,
    ledger: Connection,
    log: Vec<String>,
    hash: u64,
    /// Sandboxes in which something was done, and that nobody has begun to remove.
    at_work: BTreeMap<Place, u64>,
    broken: Option<String>,
}

/// Where an attempt is at work.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    rollout: u32,
    attempt: u32,
    part: String,
    node: String,
    incarnation: u64,
}

impl Place {
    fn of(labels: &Labels) -> Self {
        let mut parts = labels.attempt.splitn(3, '.');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or_default();
        let (rollout, attempt) = (number(), number());
        let part = parts.next().unwrap_or_default().to_owned();
        let (node, incarnation) = (labels.node.clone(), labels.incarnation);
        Self { rollout, attempt, part, node, incarnation }
    }
}

impl Truth {
    /// `ledger` is a connection of its own to the run's ledger.
    pub fn new(ledger: Connection) -> Self {
        let (start, hash) = (Instant::now(), 0xcbf2_9ce4_8422_2325);
        let (log, at_work) = (Vec::new(), BTreeMap::new());
        Self(Mutex::new(State { start, ledger, log, hash, at_work, broken: None }))
    }

    pub fn note(&self, what: impl AsRef<str>) {
        self.state().note(what.as_ref());
    }

    /// The first thing that did not hold.
    pub fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    pub fn breaks(&self, what: String) {
        self.state().breaks(what);
    }

    /// Of all that was noted, with its times.
    pub fn hash(&self) -> u64 {
        self.state().hash
    }

    pub fn all_lines(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// Asks the ledger.
    pub fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> T {
        question(&self.state().ledger).expect("the ledger answers")
    }

    /// AC-1: an attempt is begun where the ledger says that it was assigned, and no rollout is
    /// begun again after its terminal record.
    pub fn creates(&self, labels: &Labels) {
        let place = Place::of(labels);
        let mut state = self.state();
        state.note(&format!("{} creates {}", place.node, labels.attempt));
        let sql = "SELECT node FROM attempts WHERE rollout = ? AND attempt = ?";
        let node = state.ledger.prepare_cached(sql).and_then(|mut statement| {
            statement.query_row((place.rollout, place.attempt), |row| row.get::<_, String>(0))
        });
        if node.as_ref() != Ok(&place.node) {
            state.breaks(format!("AC-1: {place:?} was begun, and the ledger says {node:?}"));
        }
        let sql = "SELECT attempt FROM results WHERE rollout = ? AND attempt < ?";
        let ended = state
            .ledger
            .prepare_cached(sql)
            .and_then(|mut statement| statement.exists((place.rollout, place.attempt)));
        if ended != Ok(false) {
            state.breaks(format!("AC-2: {place:?} was begun after its terminal record"));
        }
    }

    /// LE-1: no rollout is at work at two places at one time.
    pub fn works(&self, labels: &Labels) {
        let place = Place::of(labels);
        let mut state = self.state();
        let first = Place { rollout: place.rollout, ..Place::default() };
        let elsewhere = |other: &&Place| {
            (&other.node, other.incarnation, other.attempt)
                != (&place.node, place.incarnation, place.attempt)
        };
        let same = state.at_work.range(first..).map(|(other, _)| other);
        let mut same = same.take_while(|other| other.rollout == place.rollout);
        if let Some(other) = same.find(elsewhere) {
            let broken = format!("LE-1: {place:?} works, and so does {other:?}");
            state.breaks(broken);
        }
        *state.at_work.entry(place).or_default() += 1;
    }

    /// Its removal has begun, or it is dead.
    pub fn ends(&self, labels: &Labels) {
        let place = Place::of(labels);
        let mut state = self.state();
        if state.at_work.remove(&place).is_some() {
            state.note(&format!("{} ends {}", place.node, labels.attempt));
        }
    }

    /// A machine is down, and all on it.
    pub fn machine_ends(&self, node: &str) {
        self.state().at_work.retain(|place, _| place.node != node);
    }

    pub fn at_work(&self) -> usize {
        self.state().at_work.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, what: &str) {
        let line = format!("{:>7} {what}", self.start.elapsed().as_millis());
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.hash = mix(self.hash);
        self.log.push(line);
    }

    fn breaks(&mut self, what: String) {
        self.note(&what);
        self.broken.get_or_insert(what);
    }
}
