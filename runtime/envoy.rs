//! Envoys: the coordinator's side of the links to its nodes.
//!
//! There is one for each node of the cluster, for as long as the run lasts. It spawns the remote
//! actor `run` there, tells the coordinator that the node has come, carries what both say, and
//! tries again when the link is gone. It decides nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orcapack_cluster::address::{Incarnation, NodeId};
use orcapack_cluster::codec;
use orcapack_cluster::mesh::{Mesh, SpawnError};
use orcapack_cluster::remote::{Class, Port, Received};
use orcapack_tasks::Task;
use tokio::task::JoinSet;

use crate::cluster_board::ClusterBoard;
use crate::coordinator::{Coordinator, NodeEvent};
use crate::outbox::Outbox;
use crate::train::delivery::broadcast::{Broadcast, Courier, OpenError};
use crate::wire::{Attach, FromNode, RUN, ToNode, Welcome};
use crate::worker::Worker;

/// From asking a node to its answer.
const ATTACH_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries at a node that is not there. A try costs next to nothing, and a node that came
/// back has nothing to do until the next one.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What all envoys of a run share.
pub struct Errand {
    pub mesh: Mesh,
    pub coordinator: Coordinator,
    pub attach: Attach,
    /// By their numbers in the run.
    pub tasks: Vec<Arc<Task>>,
    pub board: Arc<ClusterBoard>,
    /// Brings weights to the nodes of a run that trains.
    pub weights: Option<Broadcast>,
    /// The run is over: who has left is not gone to again.
    pub over: AtomicBool,
}

/// The envoys to all nodes. Dropping it ends them, and with them what they spawned.
pub struct Envoys {
    errand: Arc<Errand>,
    by_node: BTreeMap<NodeId, JoinSet<()>>,
}

impl Envoys {
    pub fn new(errand: Errand) -> Self {
        Self { errand: Arc::new(errand), by_node: BTreeMap::new() }
    }

    /// Sends one to each of these nodes to which there is none yet.
    pub fn send_to(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        for node in nodes {
            let errand = self.errand.clone();
            self.by_node.entry(node.clone()).or_insert_with(|| {
                let mut task = JoinSet::new();
                task.spawn(async move { errand.serve(&node).await });
                task
            });
        }
    }

    /// The run is over: no node that has left it is gone to again. One that is out of reach is,
    /// since it does not know yet.
    pub fn over(&self) {
        self.errand.over.store(true, Ordering::Relaxed);
    }

    pub fn board(&self) -> &ClusterBoard {
        &self.errand.board
    }

    pub fn mesh(&self) -> &Mesh {
        &self.errand.mesh
    }
}

/// Why an envoy is without its node.
enum NotThere {
    /// It has left the run in order.
    Left,
    For(String),
}

impl fmt::Display for NotThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("it has left"),
            Self::For(why) => f.write_str(why),
        }
    }
}

impl Errand {
    async fn serve(&self, node: &NodeId) {
        loop {
            let (incarnation, why) = self.visit(node).await;
            let has_left = matches!(why, NotThere::Left);
            self.board.waits(node, why.to_string());
            if let Some(incarnation) = incarnation {
                self.coordinator.tell(node, NodeEvent::Lost { incarnation });
            }
            if has_left && self.over.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    /// From the attaching to the end of the link. With the incarnation, if the node had come. Where
    /// weights are delivered, the node has the newest before it hears of the run.
    async fn visit(&self, node: &NodeId) -> (Option<Incarnation>, NotThere) {
        let opened = match &self.weights {
            Some(weights) => weights.open(&self.mesh, node).await.map(Some),
            None => Ok(None),
        };
        let mut courier = match opened {
            Ok(courier) => courier,
            Err(OpenError::Spawn(SpawnError::NotConnected(_))) => {
                return (None, NotThere::For(self.no_link(node)));
            }
            Err(error) => return (None, NotThere::For(error.to_string())),
        };
        let mut incarnation = None;
        let why = tokio::select! {
            biased;
            why = carry(courier.as_mut()) => NotThere::For(format!("weights: {why}")),
            why = self.take_part(node, &mut incarnation) => why,
        };
        (incarnation, why)
    }

    /// `incarnation` is set once the node has come.
    async fn take_part(&self, node: &NodeId, incarnation: &mut Option<Incarnation>) -> NotThere {
        let args = match codec::encode(&self.attach, Class::Control.bytes_max()) {
            Ok(args) => args,
            Err(error) => return NotThere::For(format!("the run's configuration: {error}")),
        };
        let mut port = match self.mesh.spawn(node, RUN, args, ATTACH_LIMIT).await {
            Ok((_, port)) => port,
            Err(SpawnError::NotConnected(_)) => return NotThere::For(self.no_link(node)),
            Err(error) => return NotThere::For(error.to_string()),
        };
        let welcome = match tokio::time::timeout(ATTACH_LIMIT, next(&mut port)).await {
            Ok(Ok(FromNode::Welcome(welcome))) => welcome,
            Ok(Ok(FromNode::Refused(why))) => return NotThere::For(why),
            Ok(Ok(_)) => return NotThere::For("it does not keep to the protocol".to_owned()),
            Ok(Err(why)) => return why,
            Err(_) => return NotThere::For(format!("no answer in {ATTACH_LIMIT:?}")),
        };
        *incarnation = Some(welcome.incarnation);
        self.board.is_there(node);
        self.attend(node, port, welcome).await
    }

    /// Why there is no link to a node, for whoever waits for it.
    fn no_link(&self, node: &NodeId) -> String {
        let peer = self.mesh.peers().into_iter().find(|peer| peer.node == *node);
        match peer.and_then(|peer| peer.problem) {
            Some(problem) => format!("no link: {problem}"),
            None => "no link yet".to_owned(),
        }
    }

    async fn attend(&self, node: &NodeId, mut port: Port, welcome: Welcome) -> NotThere {
        // Its end is the end of whatever is still to be sent.
        let mut pump = JoinSet::new();
        let outbox = Outbox::new(port.sender(), &mut pump);
        let incarnation = welcome.incarnation;
        self.board.load(node, welcome.load.clone());
        let worker = Worker::Remote(outbox.clone());
        self.coordinator.tell(node, NodeEvent::Attached(welcome, worker));
        loop {
            let message = tokio::select! {
                biased;
                message = next(&mut port) => message,
                // Without it nothing more is sent.
                _ = pump.join_next() => {
                    return NotThere::For("it takes no more messages".to_owned());
                }
            };
            let event = match message {
                Ok(FromNode::Beat { beat, load }) => {
                    self.board.load(node, load.clone());
                    outbox.send(&ToNode::Progress(self.board.progress()));
                    NodeEvent::Beat { incarnation, beat, load }
                }
                Ok(FromNode::WantTask { task }) => {
                    self.bring(task, &outbox);
                    continue;
                }
                Ok(FromNode::Started { fence }) => {
                    self.board.started(node, fence);
                    NodeEvent::Started { fence }
                }
                Ok(FromNode::Record(record)) => {
                    self.board.ended(node, record.fence);
                    NodeEvent::Record(record)
                }
                Ok(FromNode::Leaving) => {
                    self.coordinator.tell(node, NodeEvent::Left);
                    return NotThere::Left;
                }
                Ok(FromNode::Welcome(_) | FromNode::Refused(_)) => {
                    return NotThere::For("it does not keep to the protocol".to_owned());
                }
                Err(why) => return why,
            };
            self.coordinator.tell(node, event);
        }
    }

    fn bring(&self, task: u32, outbox: &Outbox) {
        let whole = self.tasks.get(task as usize).map(|whole| Box::new((**whole).clone()));
        let Some(whole) = whole else {
            outbox.send(&ToNode::NoTask { task, why: "there is no such task".to_owned() });
            return;
        };
        match codec::encode(&ToNode::Task { task, whole }, Class::Bulk.bytes_max()) {
            Ok(bytes) => outbox.send_encoded(Class::Bulk, bytes),
            Err(error) => outbox.send(&ToNode::NoTask { task, why: error.to_string() }),
        }
    }
}

/// Until no weights can be brought any more; for ever where there are none.
async fn carry(courier: Option<&mut Courier>) -> String {
    match courier {
        Some(courier) => courier.carry().await,
        None => std::future::pending().await,
    }
}

async fn next(port: &mut Port) -> Result<FromNode, NotThere> {
    match port.receive().await {
        Received::Message(class, bytes) => codec::decode(&bytes, class.bytes_max())
            .map_err(|error| NotThere::For(error.to_string())),
        Received::Down(reason) => Err(NotThere::For(reason.to_string())),
    }
}
