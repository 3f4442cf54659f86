//! The coordinator actor: lets the ledger decide what is to be run and the fleet where, the store
//! commit, and only then the nodes start.
//!
//! One loop over one closed set of messages; what they do is in
//! [`coordinator_state`](crate::coordinator_state). A run without a cluster is a run of one node,
//! in this process.

use std::ops::Range;
use std::time::Duration;

use orcapack_cluster::address::{Incarnation, NodeId};
use orcapack_cluster::lease::Beat;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use crate::batches::ConsumeError;
use crate::coordinator_state::State;
use crate::ledger::Ended;
use crate::record::AttemptRecord;
use crate::recorder::Records;
use crate::wire::{NodeLoad, Welcome};
use crate::work::{RunEnd, Work};
use crate::worker::{Order, Worker};

pub enum Message {
    Node(NodeId, NodeEvent),
    /// An attempt of this process has ended.
    Local(Box<AttemptRecord>),
    /// On disk. What follows may happen now.
    Committed(Follows),
    CommitFailed(String, Follows),
    /// A retry's back-off, a lease or a breaker's cool-down may be over.
    LookAgain,
    /// Lets rollouts run that are held, after all that were admitted before.
    Admit(Range<u32>),
    /// Nothing more will be admitted: end when all that was has ended.
    Close,
    /// Makes rollouts the batch of a training step. Answered when that is on disk.
    Consume {
        step: u64,
        rollouts: Vec<u32>,
        reply: Consumed,
    },
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

/// Who waits for a batch to be on disk.
pub type Consumed = RpcReplyPort<Result<(), ConsumeError>>;

/// What may happen once something is on disk.
#[derive(Default)]
pub struct Follows {
    pub(crate) orders: Vec<(NodeId, Order)>,
    pub(crate) forget: Option<(NodeId, u64)>,
    pub(crate) ended: Vec<Ended>,
    pub(crate) consumed: Option<(u64, Consumed)>,
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

    /// See [`Message::Admit`].
    pub fn admit(&self, rollouts: Range<u32>) {
        let _ = self.0.cast(Message::Admit(rollouts));
    }

    /// See [`Message::Close`].
    pub fn close(&self) {
        let _ = self.0.cast(Message::Close);
    }

    /// AC-5: makes rollouts, in this order, the batch of a training step, on disk before this
    /// resolves. The very same batch may be asked for again.
    ///
    /// # Errors
    /// See [`ConsumeError`]; nothing has been written then.
    pub async fn consume(&self, step: u64, rollouts: Vec<u32>) -> Result<(), ConsumeError> {
        let message = |reply| Message::Consume { step, rollouts, reply };
        match self.0.call(message, None).await {
            Ok(ractor::rpc::CallResult::Success(answer)) => answer,
            _ => {
                let why = "the coordinator has ended".to_owned();
                Err(ConsumeError::NotWritten { step, why })
            }
        }
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

impl Actor for CoordinatorActor {
    type Msg = Message;
    type State = State;
    type Arguments = Work;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        work: Work,
    ) -> Result<State, ActorProcessingErr> {
        let mut state = State::new(work);
        state.begin(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.on(&myself, message);
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
