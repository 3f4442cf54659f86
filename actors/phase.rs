//! Where an attempt's time goes: one clock per attempt, and one board that counts the attempts in
//! each phase.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// What an attempt is doing. The phases of an attempt follow each other without a gap, so that
/// their times add up to its wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting for the right to start an environment.
    Queue,
    /// Building, finding or pulling the image.
    Image,
    /// Creating and starting the environment, its health check included.
    Create,
    /// The agent's commands in the environment.
    Exec,
    /// Waiting for a model.
    Model,
    /// The verifier.
    Grade,
    /// Removing the environment.
    Cleanup,
}

impl Phase {
    pub const ALL: [Self; 7] = [
        Self::Queue,
        Self::Image,
        Self::Create,
        Self::Exec,
        Self::Model,
        Self::Grade,
        Self::Cleanup,
    ];

    /// The name in ledgers, metrics and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Image => "image",
            Self::Create => "create",
            Self::Exec => "exec",
            Self::Model => "model",
            Self::Grade => "grade",
            Self::Cleanup => "cleanup",
        }
    }
}

/// Time spent in each phase, in the order of [`Phase::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct PhaseTimes(pub [Duration; Phase::ALL.len()]);

impl PhaseTimes {
    pub fn get(&self, phase: Phase) -> Duration {
        self.0[phase as usize]
    }

    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }
}

/// How many attempts are in each phase now, how many environments are alive, and what everyone
/// waits for. Shared by all attempts of a node; every update is one atomic operation.
#[derive(Debug)]
pub struct Board {
    in_phase: [Gauged; Phase::ALL.len()],
    environments: Gauged,
    environments_peak: AtomicI64,
    /// By the name of what is waited for: the engine, and each model endpoint.
    waiting: Mutex<BTreeMap<String, Waiting>>,
}

/// A number, and the metric that shows it. Finding a metric by its name costs more than all else
/// that a board does, so it is found once, in the recorder that there is when the board is made.
#[derive(Debug)]
struct Gauged {
    value: AtomicI64,
    gauge: metrics::Gauge,
}

impl Gauged {
    fn new(gauge: metrics::Gauge) -> Self {
        Self { value: AtomicI64::new(0), gauge }
    }

    fn add(&self, change: i64) -> i64 {
        let now = self.value.fetch_add(change, Ordering::Relaxed) + change;
        self.gauge.set(now as f64);
        now
    }
}

impl Default for Board {
    fn default() -> Self {
        let gauge = |phase: Phase| metrics::gauge!("orcapack_attempts", "phase" => phase.as_str());
        Self {
            in_phase: Phase::ALL.map(|phase| Gauged::new(gauge(phase))),
            environments: Gauged::new(metrics::gauge!("orcapack_environments")),
            environments_peak: AtomicI64::new(0),
            waiting: Mutex::default(),
        }
    }
}

/// "Waiting for X since T".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub what: String,
    pub since: SystemTime,
}

impl Board {
    pub fn in_phase(&self, phase: Phase) -> u64 {
        count(&self.in_phase[phase as usize].value)
    }

    pub fn environments(&self) -> u64 {
        count(&self.environments.value)
    }

    /// The most environments that were alive at one time.
    pub fn environments_peak(&self) -> u64 {
        count(&self.environments_peak)
    }

    /// Everything that is waited for now, in the order of the names.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// `name` is waited for. What is said of it may change meanwhile; since when does not.
    pub(crate) fn wait_for(&self, name: &str, what: String) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let since = waiting.get(name).map_or_else(SystemTime::now, |before| before.since);
        waiting.insert(name.to_owned(), Waiting { what, since });
    }

    pub(crate) fn waits_for(&self, name: &str) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// `name` is there again.
    pub(crate) fn go_on(&self, name: &str) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(crate) fn environment_up(&self) {
        self.environments_peak.fetch_max(self.environments.add(1), Ordering::Relaxed);
    }

    pub(crate) fn environment_down(&self) {
        self.environments.add(-1);
    }

    fn add(&self, phase: Phase, change: i64) {
        self.in_phase[phase as usize].add(change);
    }
}

fn count(value: &AtomicI64) -> u64 {
    value.load(Ordering::Relaxed).max(0).unsigned_abs()
}

/// The clock of one attempt. It is always in exactly one phase; dropping it takes the attempt off
/// the board.
#[derive(Debug)]
pub struct PhaseClock {
    board: Arc<Board>,
    phase: Phase,
    since: Instant,
    times: PhaseTimes,
}

impl PhaseClock {
    pub fn start(board: Arc<Board>, phase: Phase, now: Instant) -> Self {
        board.add(phase, 1);
        Self { board, phase, since: now, times: PhaseTimes::default() }
    }

    /// Ends the current phase at `now` and begins another. Entering a phase again adds to its time.
    pub fn enter(&mut self, phase: Phase, now: Instant) {
        self.book(now);
        self.board.add(self.phase, -1);
        self.board.add(phase, 1);
        self.phase = phase;
    }

    /// Books up to `time` of one phase under another: what overlapped is only told apart
    /// afterwards.
    pub fn shift(&mut self, from: Phase, to: Phase, time: Duration, now: Instant) {
        self.book(now);
        let time = time.min(self.times.0[from as usize]);
        self.times.0[from as usize] -= time;
        self.times.0[to as usize] += time;
    }

    /// Everything booked so far, the current phase up to `now` included.
    pub fn read(&mut self, now: Instant) -> PhaseTimes {
        self.book(now);
        self.times
    }

    fn book(&mut self, now: Instant) {
        self.times.0[self.phase as usize] += now.saturating_duration_since(self.since);
        self.since = now;
    }
}

impl Drop for PhaseClock {
    fn drop(&mut self) {
        self.board.add(self.phase, -1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_to_the_wall_time_and_leave_the_board_empty() {
        let board = Arc::new(Board::default());
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut clock = PhaseClock::start(board.clone(), Phase::Queue, at(0));
        clock.enter(Phase::Create, at(30));
        clock.enter(Phase::Exec, at(100));
        clock.enter(Phase::Grade, at(110));
        clock.enter(Phase::Exec, at(150));
        assert_eq!(board.in_phase(Phase::Exec), 1);
        clock.shift(Phase::Create, Phase::Model, Duration::from_millis(20), at(160));
        clock.shift(Phase::Image, Phase::Model, Duration::from_millis(20), at(160));
        let times = clock.read(at(175));
        assert_eq!(times.get(Phase::Model), Duration::from_millis(20));
        assert_eq!(times.get(Phase::Queue), Duration::from_millis(30));
        assert_eq!(times.get(Phase::Exec), Duration::from_millis(35));
        assert_eq!(times.total(), Duration::from_millis(175));
        drop(clock);
        assert!(Phase::ALL.iter().all(|phase| board.in_phase(*phase) == 0));
    }

    #[test]
    fn who_is_waited_for_keeps_its_time_and_goes_alone() {
        let board = Board::default();
        board.wait_for("engine", "the engine".to_owned());
        board.wait_for("endpoint m", "endpoint m".to_owned());
        let since = board.waiting()[1].since;
        board.wait_for("engine", "the engine, refused".to_owned());
        assert_eq!(board.waiting()[1], Waiting { what: "the engine, refused".to_owned(), since });
        board.go_on("engine");
        assert_eq!(board.waiting().len(), 1);
        assert_eq!(board.waiting()[0].what, "endpoint m");
    }
}
