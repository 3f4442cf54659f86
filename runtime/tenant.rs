//! A run on a node of a cluster: what is held for its coordinator, and under which right.
//!
//! It outlives the links to the coordinator: attempts go on while nobody can be reached, until the
//! lease has ended (AC-3), and what ended is kept until the coordinator says that it is on disk
//! (AC-1). The [host](crate::run_host) is its only user.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use orcapack_actors::attempt::Assignment;
use orcapack_actors::phase::{Phase, PhaseTimes};
use orcapack_cluster::address::NodeId;
use orcapack_cluster::codec;
use orcapack_cluster::lease::{Epoch, Lessee, StaleEpoch};
use orcapack_cluster::remote::Class;
use orcapack_tasks::Task;
use orcapack_tasks::outcome::{FailureClass, Outcome};

use crate::cluster_status::WaitingRow;
use crate::node::Node;
use crate::outbox::Outbox;
use crate::record::AttemptRecord;
use crate::store::Details;
use crate::wire::{FromNode, NodeLoad, Progress, ToNode, WireAssignment};

/// A coordinator that was restarted is back by then, and takes what has ended meanwhile. One that
/// comes later runs it again.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

pub(crate) struct Tenant {
    /// The run's id.
    pub run: String,
    pub coordinator: NodeId,
    pub lessee: Lessee,
    pub progress: Progress,
    pub session: Option<Session>,
    /// Since when there is no link.
    alone_since: Option<Instant>,
    node: Node,
    tasks: BTreeMap<u32, Arc<Task>>,
    /// By fence.
    held: BTreeMap<u64, Held>,
    /// By rollout: the highest fence that was assigned. A late message brings no older one to life.
    newest: BTreeMap<u32, u64>,
}

/// A link to the coordinator.
pub(crate) struct Session {
    pub number: u64,
    outbox: Outbox,
    /// It has said something: so it has taken note of our welcome, and may be sent anything.
    ready: bool,
}

enum Held {
    /// Its task is on the way.
    Waiting(WireAssignment),
    Running,
    /// Its record, encoded, until it is forgotten.
    Ended(Vec<u8>),
}

impl Session {
    pub fn new(number: u64, outbox: Outbox) -> Self {
        Self { number, outbox, ready: false }
    }

    pub fn say(&self, message: &FromNode) {
        self.outbox.send(message);
    }
}

impl Tenant {
    pub fn new(run: String, coordinator: NodeId, node: Node) -> Self {
        Self {
            run,
            coordinator,
            lessee: Lessee::default(),
            progress: Progress::default(),
            session: None,
            alone_since: None,
            node,
            tasks: BTreeMap::new(),
            held: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    pub fn into_node(self) -> Node {
        self.node
    }

    /// A coordinator came; what it says from now on counts, and nothing of an older link. The
    /// fences of what is held for it.
    pub fn attach(
        &mut self,
        epoch: Epoch,
        coordinator: NodeId,
        session: Session,
        now: Instant,
    ) -> Result<Vec<u64>, StaleEpoch> {
        self.lessee.attach(epoch, now)?;
        self.coordinator = coordinator;
        (self.session, self.alone_since) = (Some(session), None);
        Ok(self.held.keys().copied().collect())
    }

    pub fn link_gone(&mut self, now: Instant) {
        (self.session, self.alone_since) = (None, Some(now));
    }

    /// When it is to be left, if nobody comes by then.
    pub fn leave_at(&self) -> Option<Instant> {
        let at = self.alone_since.map(|since| since + ABANDONED_AFTER)?;
        Some(self.lessee.deadline().map_or(at, |deadline| deadline.max(at)))
    }

    pub fn is_abandoned(&self, now: Instant) -> bool {
        self.is_over(now) && self.leave_at().is_some_and(|at| at <= now)
    }

    /// Whether another run may take its place.
    pub fn is_over(&self, now: Instant) -> bool {
        self.session.is_none() && !self.lessee.valid(now)
    }

    /// Attempts that wait or run, and ended ones that are not forgotten yet.
    pub fn counts(&self) -> (usize, usize) {
        let ended = self.held.values().filter(|held| matches!(held, Held::Ended(_))).count();
        (self.held.len() - ended, ended)
    }

    pub fn load(&self, slots: u32, draining: bool) -> NodeLoad {
        let board = &self.node.board;
        NodeLoad {
            slots: if draining { 0 } else { slots },
            draining,
            in_phase: Phase::ALL.map(|phase| board.in_phase(phase) as u32),
            environments: board.environments() as u32,
            waiting: board.waiting().iter().map(WaitingRow::of).collect(),
        }
    }

    pub fn say(&self, message: &FromNode) {
        if let Some(session) = &self.session {
            session.say(message);
        }
    }

    /// What the coordinator said, but for the end of the run.
    pub fn heard(&mut self, message: ToNode, now: Instant) {
        match message {
            ToNode::Assign(assignment) => self.assign(assignment, now),
            ToNode::Task { task, whole } => {
                self.tasks.insert(task, Arc::from(whole));
                self.begin_all(task);
            }
            ToNode::NoTask { task, why } => {
                for assignment in self.waiting_for(task) {
                    let why = format!("its task cannot be had: {why}");
                    self.end(failed(&assignment, FailureClass::Internal, why));
                }
            }
            ToNode::Kill { fence } => self.kill(fence),
            ToNode::Forget { fence } => {
                if matches!(self.held.get(&fence), Some(Held::Ended(_))) {
                    self.held.remove(&fence);
                }
            }
            ToNode::Renewed(renewal) => {
                self.lessee.renewed(&renewal, now);
            }
            ToNode::Progress(progress) => self.progress = progress,
            ToNode::End => {}
        }
        self.be_ready();
    }

    /// Sends what has ended, once the link can take it.
    fn be_ready(&mut self) {
        let Some(session) = self.session.as_mut().filter(|session| !session.ready) else { return };
        session.ready = true;
        for held in self.held.values() {
            if let Held::Ended(record) = held {
                session.outbox.send_encoded(Class::Data, record.clone());
            }
        }
    }

    fn assign(&mut self, assignment: WireAssignment, now: Instant) {
        let (fence, task) = (assignment.fence, assignment.task);
        let newest = self.newest.entry(assignment.rollout).or_default();
        if fence <= *newest {
            return;
        }
        *newest = fence;
        if !self.lessee.may_start(assignment.grant, now) {
            // The coordinator learns it at once, instead of waiting for an attempt that never was.
            let why = "the lease that it was assigned under had ended".to_owned();
            return self.end(failed(&assignment, FailureClass::NodeLost, why));
        }
        if let Some(whole) = self.tasks.get(&task).cloned() {
            return self.begin(assignment, whole);
        }
        self.held.insert(fence, Held::Waiting(assignment));
        if self.waiting_for(task).len() == 1 {
            self.say(&FromNode::WantTask { task });
        }
    }

    fn waiting_for(&self, of: u32) -> Vec<WireAssignment> {
        let waits = |held: &Held| match held {
            Held::Waiting(assignment) if assignment.task == of => Some(assignment.clone()),
            _ => None,
        };
        self.held.values().filter_map(waits).collect()
    }

    fn begin_all(&mut self, task: u32) {
        let Some(whole) = self.tasks.get(&task).cloned() else { return };
        for assignment in self.waiting_for(task) {
            self.begin(assignment, whole.clone());
        }
    }

    fn begin(&mut self, assignment: WireAssignment, task: Arc<Task>) {
        let WireAssignment { rollout, attempt, fence, agent, .. } = assignment;
        let agent = agent.into();
        self.node.rollouts.start(Assignment { rollout, attempt, fence, task, agent });
        self.held.insert(fence, Held::Running);
    }

    /// Tasks that were asked for over a link that is gone are asked for again.
    pub fn ask_again(&self) {
        let waits = |held: &Held| match held {
            Held::Waiting(assignment) => Some(assignment.task),
            _ => None,
        };
        let tasks: BTreeSet<u32> = self.held.values().filter_map(waits).collect();
        tasks.into_iter().for_each(|task| self.say(&FromNode::WantTask { task }));
    }

    fn kill(&mut self, fence: u64) {
        match self.held.get(&fence) {
            Some(Held::Waiting(assignment)) => {
                let why = "killed before it began".to_owned();
                self.end(failed(assignment, FailureClass::NodeLost, why));
            }
            Some(Held::Running) => self.node.rollouts.kill(fence),
            Some(Held::Ended(_)) | None => {}
        }
    }

    /// Ends everything that runs.
    pub fn kill_all(&mut self) {
        let fences: Vec<u64> = self.held.keys().copied().collect();
        fences.into_iter().for_each(|fence| self.kill(fence));
    }

    /// An attempt has ended.
    pub fn end(&mut self, record: AttemptRecord) {
        let fence = record.fence;
        let message = FromNode::Record(Box::new(record));
        let encoded = codec::encode(&message, Class::Data.bytes_max()).or_else(|error| {
            let FromNode::Record(record) = message else { return Err(error) };
            // Its outcome counts all the same; only its files are too much.
            tracing::error!(%error, fence, "the files of an attempt are left out");
            let record = Box::new(AttemptRecord { files: None, ..*record });
            codec::encode(&FromNode::Record(record), Class::Data.bytes_max())
        });
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => return tracing::error!(%error, fence, "an attempt cannot be reported"),
        };
        if let Some(session) = self.session.as_ref().filter(|session| session.ready) {
            session.outbox.send_encoded(Class::Data, encoded.clone());
        }
        self.held.insert(fence, Held::Ended(encoded));
    }
}

/// Of an attempt that never began here.
fn failed(assignment: &WireAssignment, class: FailureClass, message: String) -> AttemptRecord {
    AttemptRecord {
        rollout: assignment.rollout,
        attempt: assignment.attempt,
        fence: assignment.fence,
        outcome: Outcome::InfrastructureFailure { class, message },
        details: Details {
            started: SystemTime::now(),
            wall: Duration::ZERO,
            phases: PhaseTimes::default(),
            note: None,
            agents: Vec::new(),
        },
        files: None,
    }
}
