//! The coordinator actor: lets the ledger decide what is to be run and the fleet where, the store
//! commit, and only then the nodes start.
//!
//! One loop over one closed set of messages. The order on which AC-1 rests is in [`State::fill`]
//! and [`State::record`]: every record goes to the store, and what follows from it comes back as
//! [`Message::Committed`]. A run without a cluster is a run of one node, in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use orcapack_actors::agent::Solver;
use orcapack_cluster::address::{Incarnation, NodeId};
use orcapack_cluster::lease::Beat;
use orcapack_tasks::Task;
use orcapack_tasks::grading;
use orcapack_tasks::outcome::{FailureClass, Outcome};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use crate::fleet::{Arrival, Fleet, Verdict, Want};
use crate::ledger::{Ledger, Orphan, Record};
use crate::record::{AttemptRecord, Folders};
use crate::recorder::Records;
use crate::store::{Entry, Job, Store};
use crate::wire::{NodeLoad, Welcome};
use crate::worker::{Order, Worker, image_key};

pub enum Message {
    Node(NodeId, NodeEvent),
    /// An attempt of this process has ended.
    Local(Box<AttemptRecord>),
    /// On disk. What follows may happen now.
    Committed(Follows),
    CommitFailed(String),
    /// A retry's back-off, a lease or a breaker's cool-down may be over.
    LookAgain,
    /// Assign nothing more; end when nothing runs.
    Drain,
    /// End what runs, now. Only after [`Message::Drain`], so that it counts as interrupted and can
    /// be resumed.
    Kill,
    /// Answered when the run has ended.
    WaitEnd(RpcReplyPort<RunEnd>),
    /// After the end: sends the nodes home. Answered when each has left, or is gone for longer than
    /// its lease, so that nothing of the run is at work anywhere.
    Finish(RpcReplyPort<()>),
}

/// What happens to a node.
pub enum NodeEvent {
    Attached(Welcome, Worker),
    Beat {
        incarnation: Incarnation,
        beat: Beat,
        load: NodeLoad,
    },
    /// The environment of an attempt is up.
    Started {
        fence: u64,
    },
    Record(Box<AttemptRecord>),
    /// It leaves in order, and runs nothing any more.
    Left,
    /// The link to this life of it is gone.
    Lost {
        incarnation: Incarnation,
    },
}

/// What may happen once something is on disk.
#[derive(Default)]
pub struct Follows {
    orders: Vec<(NodeId, Order)>,
    forget: Option<(NodeId, u64)>,
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
    /// At most this many attempts at one time, whatever room the nodes have.
    pub concurrent_max: usize,
    pub store: Store,
    pub ledger: Ledger,
    pub fleet: Fleet,
    /// What the ledger found running when it was resumed.
    pub orphans: Vec<Orphan>,
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

impl From<Box<AttemptRecord>> for Message {
    fn from(record: Box<AttemptRecord>) -> Self {
        Self::Local(record)
    }
}

impl TryFrom<Message> for Box<AttemptRecord> {
    type Error = ();

    fn try_from(message: Message) -> Result<Self, ()> {
        match message {
            Message::Local(record) => Ok(record),
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
    pub async fn spawn(work: Work) -> Result<Self, ractor::SpawnErr> {
        let (actor, _) = Actor::spawn(None, CoordinatorActor, work).await?;
        Ok(Self(actor))
    }

    /// Of which this process's own node is a child.
    pub fn cell(&self) -> ActorCell {
        self.0.get_cell()
    }

    /// Where this process's own node sends its records.
    pub fn records(&self) -> Records {
        self.0.get_derived()
    }

    pub fn tell(&self, node: &NodeId, event: NodeEvent) {
        // A cast fails only when the coordinator has ended; `wait_end` then says so.
        let _ = self.0.cast(Message::Node(node.clone(), event));
    }

    pub fn drain(&self) {
        let _ = self.0.cast(Message::Drain);
    }

    pub fn kill(&self) {
        let _ = self.0.cast(Message::Kill);
    }

    /// Ends it, and with it the ledger's writer: what was to be written is, when this resolves.
    pub async fn stop(&self) {
        let _ = self.0.stop_and_wait(None, None).await;
    }

    /// See [`Message::Finish`]. `false`: not all of them within `limit`.
    pub async fn finish(&self, limit: Duration) -> bool {
        matches!(
            self.0.call(Message::Finish, Some(limit)).await,
            Ok(ractor::rpc::CallResult::Success(()))
        )
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
    /// By the task's name.
    tasks: BTreeMap<String, u32>,
    /// The nodes that can be spoken to.
    workers: BTreeMap<NodeId, Worker>,
    /// By fence: what the ledger says is running.
    placed: BTreeMap<u64, Placed>,
    draining: bool,
    killing: bool,
    commits_under_way: usize,
    /// The earliest `LookAgain` that is on its way.
    alarm: Option<Instant>,
    failed: Option<String>,
    waiting_for_end: Vec<RpcReplyPort<RunEnd>>,
    finishing: Option<RpcReplyPort<()>>,
}

struct Placed {
    rollout: u32,
    node: NodeId,
    /// Of a past life of this coordinator: what becomes of it is no fault of its node's.
    orphan: bool,
}

impl Actor for CoordinatorActor {
    type Msg = Message;
    type State = State;
    type Arguments = Work;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        work: Work,
    ) -> Result<State, ActorProcessingErr> {
        let mut state = State {
            tasks: numbered(&work.rollouts),
            work,
            workers: BTreeMap::new(),
            placed: BTreeMap::new(),
            draining: false,
            killing: false,
            commits_under_way: 0,
            alarm: None,
            failed: None,
            waiting_for_end: Vec::new(),
            finishing: None,
        };
        state.take_orphans(&myself);
        state.set_alarm(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Node(node, event) => state.node(&myself, node, event),
            Message::Local(record) => state.record(&myself, &NodeId::local(), *record),
            Message::Committed(follows) => state.committed(&myself, follows),
            Message::CommitFailed(message) => {
                state.commits_under_way -= 1;
                state.failed.get_or_insert(message);
                state.draining = true;
            }
            Message::LookAgain => state.alarm = None,
            Message::Drain => state.draining = true,
            Message::Kill => {
                (state.draining, state.killing) = (true, true);
                for (fence, placed) in &state.placed {
                    if let Some(worker) = state.workers.get(&placed.node) {
                        worker.kill(*fence);
                    }
                }
            }
            Message::WaitEnd(reply) => state.waiting_for_end.push(reply),
            Message::Finish(reply) => {
                state.draining = true;
                state.workers.values().for_each(Worker::end);
                state.finishing = Some(reply);
            }
        }
        state.expire(&myself);
        state.fill(&myself);
        state.set_alarm(&myself);
        state.tell_end();
        // FL-1: what runs is what is placed, and takes as many slots.
        debug_assert_eq!(state.placed.len(), state.work.ledger.running());
        debug_assert_eq!(state.placed.len(), state.work.fleet.placed_count());
        Ok(())
    }

    /// The node of this process ends only by a defect, or because the run has ended.
    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Message>,
        event: SupervisionEvent,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, error) => Err(error),
            SupervisionEvent::ActorTerminated(_, _, Some(reason)) => Err(reason.into()),
            _ => Ok(()),
        }
    }
}

impl State {
    /// Sorts what was running when a past life of this coordinator ended. What ran in its own
    /// process is gone; what ran elsewhere may be taken back, until its node's lease has ended, if
    /// this life has a way to it.
    fn take_orphans(&mut self, myself: &ActorRef<Message>) {
        let mut gone = Vec::new();
        for Orphan { rollout, fence, node, .. } in std::mem::take(&mut self.work.orphans) {
            match node.parse::<NodeId>() {
                Ok(node) if node != NodeId::local() && !self.work.fleet.is_local() => {
                    self.work.fleet.expected(&node, now());
                    self.work.fleet.placed(&node, fence, &self.want(rollout));
                    self.placed.insert(fence, Placed { rollout, node, orphan: true });
                }
                _ => gone.extend(self.work.ledger.interrupt(rollout, fence)),
            }
        }
        self.commit_records(myself, gone);
    }

    fn node(&mut self, myself: &ActorRef<Message>, node: NodeId, event: NodeEvent) {
        match event {
            NodeEvent::Attached(welcome, worker) => self.attached(myself, node, welcome, worker),
            NodeEvent::Beat { incarnation, beat, load } => {
                let renewal = self.work.fleet.beat(&node, incarnation, beat, now());
                self.loaded(&node, &load);
                if let (Some(renewal), Some(worker)) = (renewal, self.workers.get(&node)) {
                    worker.renew(renewal);
                }
            }
            NodeEvent::Started { fence } => self.work.fleet.started(&node, fence),
            NodeEvent::Record(record) => self.record(myself, &node, *record),
            NodeEvent::Left => {
                self.workers.remove(&node);
                let fences = self.work.fleet.left(&node, now());
                self.lost(myself, &node, fences, "left");
            }
            NodeEvent::Lost { incarnation } => {
                // One that has left is not missed.
                if self.workers.remove(&node).is_some() {
                    tracing::warn!(%node, "the link to the node is gone");
                }
                self.work.fleet.link_lost(&node, incarnation, now());
            }
        }
    }

    /// A node came, or came again. What it has is taken back; what it should have and does not is
    /// lost; what it has and should not is not wanted any more (AC-3).
    fn attached(
        &mut self,
        myself: &ActorRef<Message>,
        node: NodeId,
        welcome: Welcome,
        worker: Worker,
    ) {
        let Welcome { incarnation, load, held } = welcome;
        let gone = match self.work.fleet.attached(&node, incarnation, load.slots, now()) {
            Arrival::Stale => return,
            Arrival::Restarted(fences) => fences,
            Arrival::New | Arrival::Again => {
                let held: BTreeSet<u64> = held.iter().copied().collect();
                let here = self.placed.iter().filter(|(_, placed)| placed.node == node);
                here.map(|(fence, _)| *fence).filter(|fence| !held.contains(fence)).collect()
            }
        };
        tracing::info!(%node, %incarnation, held = held.len(), lost = gone.len(), "a node came");
        self.loaded(&node, &load);
        self.lost(myself, &node, gone, "came without it");
        for fence in held {
            match self.placed.get(&fence) {
                Some(placed) if placed.node == node => {}
                _ => worker.kill(fence),
            }
        }
        if self.finishing.is_some() {
            worker.end();
        }
        self.workers.insert(node, worker);
    }

    fn loaded(&mut self, node: &NodeId, load: &NodeLoad) {
        self.work.fleet.reported(node, load.slots, 0);
        self.work.fleet.draining(node, load.draining);
    }

    /// Attempts that are not on their node any more, by a sure sign. Those of a past life of this
    /// coordinator are interrupted; the others failed with their node.
    fn lost(&mut self, myself: &ActorRef<Message>, node: &NodeId, fences: Vec<u64>, why: &str) {
        let mut records = Vec::new();
        for fence in fences {
            self.work.fleet.ended(node, fence, Verdict::Neutral, now());
            let Some(Placed { rollout, orphan, .. }) = self.placed.remove(&fence) else { continue };
            if orphan || self.draining {
                records.extend(self.work.ledger.interrupt(rollout, fence));
                continue;
            }
            let message = format!("node {node} {why}");
            tracing::warn!(rollout, fence, message, "an attempt was lost");
            let outcome = Outcome::InfrastructureFailure { class: FailureClass::NodeLost, message };
            let ended = self.work.ledger.report(rollout, fence, outcome, now());
            let ended = ended.unwrap_or_default();
            self.count(&ended);
            records.extend(ended);
        }
        self.commit_records(myself, records);
    }

    /// Gives up the nodes whose leases have surely ended.
    fn expire(&mut self, myself: &ActorRef<Message>) {
        for lost in self.work.fleet.expired(now()) {
            self.lost(myself, &lost.node, lost.fences, "has not renewed its lease");
        }
    }

    /// Assigns as many rollouts as there is room for, and commits that before they are dispatched
    /// (AC-1).
    fn fill(&mut self, myself: &ActorRef<Message>) {
        if self.draining {
            return;
        }
        let (mut entries, mut orders) = (Vec::new(), Vec::new());
        while self.work.ledger.running() < self.work.concurrent_max {
            let Some(next) = self.work.ledger.next(now()) else { break };
            let want = self.want(next);
            let Some(node) = self.work.fleet.place(&want, now()) else { break };
            let assigned = self.work.ledger.assign(node.as_str(), now());
            let Some((rollout, attempt, fence, record)) = assigned else { break };
            let grant = self.work.fleet.placed(&node, fence, &want);
            self.placed.insert(fence, Placed { rollout, node: node.clone(), orphan: false });
            let what = self.work.rollouts[rollout as usize].clone();
            let task = self.tasks.get(&what.task.name).copied().unwrap_or_default();
            entries.push(Entry { record, details: None });
            orders.push((node, Order { rollout, attempt, fence, grant, task, what }));
        }
        if !entries.is_empty() {
            self.commit(myself, Vec::new(), entries, Follows { orders, forget: None });
        }
    }

    fn want(&self, rollout: u32) -> Want {
        let rollout = self.work.rollouts.get(rollout as usize);
        Want { image: rollout.map_or(0, |rollout| image_key(&rollout.task)) }
    }

    /// Dispatches what is on disk. An order whose node has gone meanwhile was never sent: it is
    /// lost with what the node has.
    fn committed(&mut self, myself: &ActorRef<Message>, follows: Follows) {
        self.commits_under_way -= 1;
        let mut stopped = Vec::new();
        for (node, order) in follows.orders {
            let fence = order.fence;
            if !self.placed.contains_key(&fence) {
                continue;
            }
            if self.killing {
                self.placed.remove(&fence);
                self.work.fleet.ended(&node, fence, Verdict::Neutral, now());
                stopped.extend(self.work.ledger.interrupt(order.rollout, fence));
            } else if let Some(worker) = self.workers.get(&node) {
                worker.assign(order);
            }
        }
        if let Some((node, fence)) = follows.forget
            && let Some(worker) = self.workers.get(&node)
        {
            worker.forget(fence);
        }
        self.commit_records(myself, stopped);
    }

    /// Books the end of an attempt. Its slot is free at once, but nothing that follows happens
    /// before the commit.
    fn record(&mut self, myself: &ActorRef<Message>, from: &NodeId, mut record: AttemptRecord) {
        let AttemptRecord { rollout, attempt, fence, .. } = record;
        let known = self.placed.get(&fence);
        if !known.is_some_and(|placed| placed.node == *from && placed.rollout == rollout) {
            tracing::warn!(rollout, attempt, fence, node = %from, "a stale record was refused");
            metrics::counter!("orcapack_stale_reports_total").increment(1);
            if let Some(worker) = self.workers.get(from) {
                worker.forget(fence);
            }
            return;
        }
        if let Outcome::InfrastructureFailure { class, message } = &record.outcome {
            tracing::warn!(rollout, attempt, %class, message, node = %from, "an attempt was lost");
        }
        self.placed.remove(&fence);
        self.work.fleet.ended(from, fence, verdict(&record.outcome), now());
        let lapsed = matches!(&record.outcome, Outcome::InfrastructureFailure { class, .. }
            if *class == FailureClass::NodeLost);
        if lapsed {
            self.work.fleet.lapsed(from);
        }
        let interrupted = self.draining && lapsed;
        let records = if interrupted {
            self.work.ledger.interrupt(rollout, fence).map(|record| vec![record])
        } else {
            self.work.ledger.report(rollout, fence, record.outcome.clone(), now())
        };
        let records = match records {
            Ok(records) => records,
            Err(stale) => {
                tracing::error!(%stale, "what is placed and what runs disagree");
                return;
            }
        };
        self.count(&records);
        let files = self.work.folders.as_ref().map(|folders| folders.files(&mut record));
        let mut details = Some(record.details);
        let entry = |record| Entry { record, details: details.take() };
        let entries = records.into_iter().map(entry).collect();
        let forget = Some((from.clone(), fence));
        let follows = Follows { orders: Vec::new(), forget };
        self.commit(myself, files.unwrap_or_default(), entries, follows);
    }

    fn commit_records(&mut self, myself: &ActorRef<Message>, records: Vec<Record>) {
        if !records.is_empty() {
            let entries = records.into_iter().map(|record| Entry { record, details: None });
            self.commit(myself, Vec::new(), entries.collect(), Follows::default());
        }
    }

    fn commit(
        &mut self,
        myself: &ActorRef<Message>,
        files: Vec<(PathBuf, Vec<u8>)>,
        entries: Vec<Entry>,
        follows: Follows,
    ) {
        let coordinator = myself.clone();
        let then = Box::new(move |result: Result<(), String>| {
            let message = match result {
                Ok(()) => Message::Committed(follows),
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
        let ready = (self.work.ledger.running() < self.work.concurrent_max)
            .then(|| self.work.ledger.next_ready_at())
            .flatten();
        let Some(at) = ready.into_iter().chain(self.work.fleet.wake_at()).min() else { return };
        if self.alarm.is_none_or(|alarm| at < alarm) {
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
        let remote = |worker: &Worker| matches!(worker, Worker::Remote(_));
        if !self.workers.values().any(remote)
            && !self.work.fleet.may_run_unseen()
            && let Some(reply) = self.finishing.take()
        {
            drop(reply.send(()));
        }
    }
}

/// What the end of an attempt says about the node that it ran on.
fn verdict(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Graded { .. } | Outcome::AgentFailure { .. } => Verdict::Ok,
        Outcome::InfrastructureFailure { class, .. } => match class {
            FailureClass::Daemon | FailureClass::StartTimeout | FailureClass::ExecTransport => {
                Verdict::EngineFailed
            }
            FailureClass::Image
            | FailureClass::Oom
            | FailureClass::NodeLost
            | FailureClass::ModelEndpoint
            | FailureClass::Grader
            | FailureClass::Internal => Verdict::Neutral,
        },
    }
}

/// The tasks of a run, numbered in the order of their first rollouts. The same plan gives the same
/// numbers, so that they hold over a resume.
pub fn numbered(rollouts: &[Rollout]) -> BTreeMap<String, u32> {
    let mut tasks = BTreeMap::new();
    for Rollout { task, .. } in rollouts {
        let next = tasks.len() as u32;
        tasks.entry(task.name.clone()).or_insert(next);
    }
    tasks
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
