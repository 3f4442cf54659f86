//! The coordinator actor: lets the ledger decide, the store commit, and only then the rollouts
//! start.
//!
//! One loop over one closed set of messages. The order on which AC-1 rests is in [`State::fill`]
//! and [`State::report`]: every record goes to the store, and what follows from it comes back as
//! [`Message::Committed`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use orcapack_actors::agent::Solver;
use orcapack_actors::attempt::{Assignment, AttemptReport, TeamStep};
use orcapack_actors::rollout_supervisor::Rollouts;
use orcapack_actors::team::figures;
use orcapack_tasks::Task;
use orcapack_tasks::grading;
use orcapack_tasks::outcome::{FailureClass, Outcome};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, DerivedActorRef, RpcReplyPort};

use crate::ledger::{Ledger, Record};
use crate::record::Folders;
use crate::store::{Details, Entry, Job, Store};
use crate::summary_team::AgentSummary;

pub enum Message {
    /// The rollouts are there: start.
    Begin(Rollouts),
    Report(Box<AttemptReport>),
    /// On disk. These may be dispatched now.
    Committed(Vec<Assignment>),
    CommitFailed(String),
    /// A retry's back-off may be over.
    LookAgain,
    /// Assign nothing more; end when nothing runs.
    Drain,
    /// Answered when the run has ended.
    WaitEnd(RpcReplyPort<RunEnd>),
}

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Every rollout has its terminal record.
    Complete,
    /// Stopped by the user; what is missing can be resumed.
    Drained,
    /// The ledger cannot be written any more.
    Failed(String),
}

/// What the coordinator works on.
pub struct Work {
    /// By rollout id.
    pub rollouts: Vec<Rollout>,
    /// Room for this many attempts at one time.
    pub slots: usize,
    pub store: Store,
    pub ledger: Ledger,
    /// What the ledger found running when it was resumed; committed first of all.
    pub interrupted: Vec<Record>,
    /// Where trajectories and logs go; `None` keeps none.
    pub folders: Option<Folders>,
    pub tally: Arc<Tally>,
}

/// One rollout that is to be done: a task, and who solves it.
#[derive(Clone, Debug)]
pub struct Rollout {
    pub task: Arc<Task>,
    pub agent: Solver,
}

/// Running totals, for the progress display.
#[derive(Debug, Default)]
pub struct Tally {
    pub done: AtomicU64,
    pub passed: AtomicU64,
    pub infra_failures: AtomicU64,
    pub retries: AtomicU64,
}

impl Tally {
    /// Counts a terminal record by its reward.
    pub fn count(&self, reward: Option<f64>) {
        self.done.fetch_add(1, Ordering::Relaxed);
        match reward {
            Some(reward) if grading::is_pass(reward) => self.passed.fetch_add(1, Ordering::Relaxed),
            Some(_) => 0,
            None => self.infra_failures.fetch_add(1, Ordering::Relaxed),
        };
    }
}

impl From<Box<AttemptReport>> for Message {
    fn from(report: Box<AttemptReport>) -> Self {
        Self::Report(report)
    }
}

impl TryFrom<Message> for Box<AttemptReport> {
    type Error = ();

    fn try_from(message: Message) -> Result<Self, ()> {
        match message {
            Message::Report(report) => Ok(report),
            _ => Err(()),
        }
    }
}

/// The coordinator's address.
#[derive(Clone, Debug)]
pub struct Coordinator(ActorRef<Message>);

impl Coordinator {
    /// # Errors
    /// When the actor system refuses.
    pub async fn spawn(work: Work, parent: ActorCell) -> Result<Self, ractor::SpawnErr> {
        let (actor, _) = Actor::spawn_linked(None, CoordinatorActor, work, parent).await?;
        Ok(Self(actor))
    }

    pub fn reports(&self) -> DerivedActorRef<Box<AttemptReport>> {
        self.0.get_derived()
    }

    pub fn begin(&self, rollouts: Rollouts) {
        // A cast fails only when the coordinator has ended; `wait_end` then says so.
        let _ = self.0.cast(Message::Begin(rollouts));
    }

    pub fn drain(&self) {
        let _ = self.0.cast(Message::Drain);
    }

    pub async fn wait_end(&self) -> RunEnd {
        match self.0.call(Message::WaitEnd, None).await {
            Ok(ractor::rpc::CallResult::Success(end)) => end,
            _ => RunEnd::Failed("the coordinator ended before the run did".into()),
        }
    }
}

struct CoordinatorActor;

struct State {
    work: Work,
    rollouts: Option<Rollouts>,
    draining: bool,
    commits_under_way: usize,
    /// The earliest `LookAgain` that is on its way.
    alarm: Option<Instant>,
    failed: Option<String>,
    waiting_for_end: Vec<RpcReplyPort<RunEnd>>,
}

impl Actor for CoordinatorActor {
    type Msg = Message;
    type State = State;
    type Arguments = Work;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        work: Work,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State {
            work,
            rollouts: None,
            draining: false,
            commits_under_way: 0,
            alarm: None,
            failed: None,
            waiting_for_end: Vec::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Begin(rollouts) => {
                state.rollouts = Some(rollouts);
                let records = std::mem::take(&mut state.work.interrupted);
                let entries = records.into_iter().map(|record| Entry { record, details: None });
                state.commit(&myself, Vec::new(), entries.collect(), Vec::new());
            }
            Message::Report(report) => state.report(&myself, *report),
            Message::Committed(assignments) => {
                state.commits_under_way -= 1;
                if let Some(rollouts) = &state.rollouts {
                    assignments.into_iter().for_each(|assignment| rollouts.start(assignment));
                }
            }
            Message::CommitFailed(message) => {
                state.commits_under_way -= 1;
                state.failed.get_or_insert(message);
                state.draining = true;
            }
            Message::LookAgain => state.alarm = None,
            Message::Drain => state.draining = true,
            Message::WaitEnd(reply) => state.waiting_for_end.push(reply),
        }
        if state.rollouts.is_some() {
            state.fill(&myself);
            state.tell_end();
        }
        Ok(())
    }
}

impl State {
    /// Assigns as many rollouts as there are free slots, and commits that before they are
    /// dispatched (AC-1).
    fn fill(&mut self, myself: &ActorRef<Message>) {
        if self.draining {
            return;
        }
        let (mut entries, mut assignments) = (Vec::new(), Vec::new());
        while self.work.ledger.running() < self.work.slots {
            let Some((rollout, attempt, fence, record)) = self.work.ledger.assign(now()) else {
                break;
            };
            let Rollout { task, agent } = self.work.rollouts[rollout as usize].clone();
            entries.push(Entry { record, details: None });
            assignments.push(Assignment { rollout, attempt, fence, task, agent });
        }
        if !entries.is_empty() {
            self.commit(myself, Vec::new(), entries, assignments);
        }
        self.set_alarm(myself);
    }

    /// Books the end of an attempt. Its slot is free at once, but nothing that follows happens
    /// before the commit.
    fn report(&mut self, myself: &ActorRef<Message>, report: AttemptReport) {
        let Assignment { rollout, fence, .. } = report.assignment;
        if let Outcome::InfrastructureFailure { class, message } = &report.outcome {
            let attempt = report.assignment.attempt;
            tracing::warn!(rollout, attempt, %class, message, "an attempt was lost");
        }
        let interrupted = self.draining
            && matches!(&report.outcome, Outcome::InfrastructureFailure { class, .. }
                if *class == FailureClass::NodeLost);
        let records = if interrupted {
            self.work.ledger.interrupt(rollout, fence).map(|record| vec![record])
        } else {
            self.work.ledger.report(rollout, fence, report.outcome.clone(), now())
        };
        let records = match records {
            Ok(records) => records,
            Err(stale) => {
                tracing::warn!(%stale, "refused");
                metrics::counter!("orcapack_stale_reports_total").increment(1);
                return;
            }
        };
        self.count(&records);
        let details = Details {
            started: report.started,
            wall: report.wall,
            phases: report.phases,
            note: report.note.clone(),
            agents: agents(&report),
        };
        let mut details = Some(details);
        let entry = |record| Entry { record, details: details.take() };
        let entries = records.into_iter().map(entry).collect();
        let files = self.work.folders.as_ref().map(|folders| folders.files(&report));
        self.commit(myself, files.unwrap_or_default(), entries, Vec::new());
    }

    fn commit(
        &mut self,
        myself: &ActorRef<Message>,
        files: Vec<(PathBuf, Vec<u8>)>,
        entries: Vec<Entry>,
        assignments: Vec<Assignment>,
    ) {
        let coordinator = myself.clone();
        let then = Box::new(move |result: Result<(), String>| {
            let message = match result {
                Ok(()) => Message::Committed(assignments),
                Err(error) => Message::CommitFailed(error),
            };
            // Fails only when the coordinator has ended, and then nobody may dispatch.
            let _ = coordinator.cast(message);
        });
        self.commits_under_way += 1;
        self.work.store.submit(Job { files, entries, then });
    }

    fn count(&self, records: &[Record]) {
        let mut ended = false;
        for record in records {
            if let Record::Terminal { rollout, attempt, outcome } = record {
                ended = true;
                tracing::info!(rollout, attempt, ?outcome, "ended");
                self.work.tally.count(outcome.reward());
            }
        }
        if !ended {
            self.work.tally.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn set_alarm(&mut self, myself: &ActorRef<Message>) {
        if let Some(at) = self.work.ledger.next_ready_at()
            && self.work.ledger.running() < self.work.slots
            && self.alarm.is_none_or(|alarm| at < alarm)
        {
            self.alarm = Some(at);
            myself.send_after(at.saturating_duration_since(now()), || Message::LookAgain);
        }
    }

    fn tell_end(&mut self) {
        let idle = self.work.ledger.running() == 0 && self.commits_under_way == 0;
        let complete = self.work.ledger.is_complete();
        if !idle || !(complete || self.draining) {
            return;
        }
        let end = match &self.failed {
            Some(message) => RunEnd::Failed(message.clone()),
            None if complete => RunEnd::Complete,
            None => RunEnd::Drained,
        };
        for reply in self.waiting_for_end.drain(..) {
            drop(reply.send(end.clone()));
        }
    }
}

/// Who worked on each step, where a team did.
fn agents(report: &AttemptReport) -> Vec<AgentSummary> {
    let attempt = report.assignment.attempt;
    let of_step = |team: TeamStep<'_>| {
        let agents = figures::agents(&team.run.record).into_iter();
        agents.map(move |agent| AgentSummary::of(attempt, team.step, &agent))
    };
    report.teams().flat_map(of_step).collect()
}

/// Tokio's clock, so that simulated time counts.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
