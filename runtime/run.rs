//! A run under way: the coordinator of its rollouts, and where their attempts are run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orcapack_actors::sandbox::{Driver, SandboxError, Swept};
use orcapack_cluster::address::{Incarnation, NodeId, Role};
use orcapack_cluster::mesh::Mesh;
use orcapack_tasks::outcome::FailureClass;
use ractor::{ActorCell, SpawnErr};
use tokio::task::JoinSet;

use crate::cluster_board::ClusterBoard;
use crate::coordinator::{Coordinator, NodeEvent};
use crate::envoy::{Envoys, Errand};
use crate::node::{Node, NodeConfig};
use crate::status::RunStatus;
use crate::train::delivery::broadcast::Broadcast;
use crate::wire::{Attach, NodeLoad, Welcome};
use crate::work::{self, RunEnd, Work};
use crate::worker::Worker;

pub struct Run {
    coordinator: Coordinator,
    site: Site,
    /// What ends with the run.
    beside: JoinSet<()>,
    fenced: Arc<AtomicBool>,
}

/// Where attempts are run.
enum Site {
    Here(Node),
    Cluster(Envoys),
}

/// After the end of a run, the nodes get this long to leave it.
const LEAVE_LIMIT: Duration = Duration::from_secs(60);

impl Run {
    /// Begins a run in this process; rollouts begin at once.
    ///
    /// # Errors
    /// As for [`Node::start`].
    pub async fn start(
        driver: Arc<dyn Driver>,
        config: NodeConfig,
        work: Work,
    ) -> Result<Self, SandboxError> {
        let (incarnation, slots) = (Incarnation(config.incarnation), work.concurrent_max as u32);
        let coordinator = Coordinator::spawn(work).await.map_err(refused)?;
        let node = Node::start(driver, config, coordinator.records(), coordinator.cell()).await?;
        let load = NodeLoad { slots, ..NodeLoad::default() };
        let welcome = Welcome { incarnation, load, held: Vec::new() };
        let worker = Worker::Local(node.rollouts.clone());
        coordinator.tell(&NodeId::local(), NodeEvent::Attached(welcome, worker));
        Ok(Self::new(coordinator, Site::Here(node)))
    }

    /// Begins a run on the workers among the mesh's peers, those that come later included. They get
    /// `weights`, if any are delivered.
    ///
    /// # Errors
    /// The actor system refuses.
    pub async fn on_cluster(
        mesh: Mesh,
        attach: Attach,
        work: Work,
        weights: Option<Broadcast>,
    ) -> Result<Self, SandboxError> {
        let tasks = work::tasks(&work.rollouts);
        let board = Arc::new(ClusterBoard::new(work.tally.clone()));
        let coordinator = Coordinator::spawn(work).await.map_err(refused)?;
        let over = AtomicBool::new(false);
        let coordinating = coordinator.clone();
        let errand =
            Errand { mesh, coordinator: coordinating, attach, tasks, board, weights, over };
        let site = Site::Cluster(Envoys::new(errand));
        let mut run = Self::new(coordinator, site);
        run.look_for_nodes();
        Ok(run)
    }

    fn new(coordinator: Coordinator, site: Site) -> Self {
        Self { coordinator, site, beside: JoinSet::new(), fenced: Arc::default() }
    }

    /// To be set when a newer process has this coordinator's identity.
    pub fn fence(&self) -> Arc<AtomicBool> {
        self.fenced.clone()
    }

    /// No node listens any more: what runs is lost to this process.
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    /// Keeps tasks going until the run has stopped.
    pub fn keep(&mut self, beside: JoinSet<()>) {
        self.beside = beside;
    }

    /// Where its nodes are peers.
    pub fn mesh(&self) -> Option<Mesh> {
        match &self.site {
            Site::Here(_) => None,
            Site::Cluster(envoys) => Some(envoys.mesh().clone()),
        }
    }

    /// Goes to the nodes that the mesh has come to know.
    pub fn look_for_nodes(&mut self) {
        if let Site::Cluster(envoys) = &mut self.site {
            let peers = envoys.mesh().peers().into_iter();
            let workers = peers.filter(|peer| peer.role == Role::Worker).map(|peer| peer.node);
            envoys.send_to(workers.collect::<Vec<_>>());
        }
    }

    /// The root of its actors.
    pub fn cell(&self) -> ActorCell {
        self.coordinator.cell()
    }

    pub fn coordinator(&self) -> Coordinator {
        self.coordinator.clone()
    }

    /// Resolves when the run has ended. Every terminal record is on disk then.
    pub async fn wait_end(&self) -> RunEnd {
        self.coordinator.wait_end().await
    }

    /// Assigns nothing more; what runs may end.
    pub fn drain(&self) {
        self.coordinator.drain();
    }

    /// Ends what runs, now; it counts as interrupted, and can be resumed.
    pub fn kill(&self) {
        self.coordinator.kill();
    }

    /// Phases, environments and what is waited for.
    pub fn read(&self, status: &mut RunStatus) {
        match &self.site {
            Site::Here(node) => status.read_board(&node.board),
            Site::Cluster(envoys) => envoys.board().read(status),
        }
    }

    pub fn environments_peak(&self) -> u64 {
        match &self.site {
            Site::Here(node) => node.board.environments_peak(),
            Site::Cluster(envoys) => envoys.board().environments_peak(),
        }
    }

    /// Leaves nothing of the run: see [`Node::stop`]. On a cluster, the nodes do so, and what they
    /// had to sweep is in their logs.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn stop(mut self) -> Result<Swept, SandboxError> {
        let swept = match self.site {
            Site::Here(node) => node.stop().await,
            Site::Cluster(envoys) => {
                envoys.over();
                if !self.coordinator.finish(LEAVE_LIMIT).await {
                    tracing::warn!("not every node has left the run within {LEAVE_LIMIT:?}");
                }
                envoys.mesh().clone().stop().await;
                Ok(Swept::default())
            }
        };
        self.beside.shutdown().await;
        self.coordinator.stop().await;
        swept
    }
}

fn refused(error: SpawnErr) -> SandboxError {
    let message = format!("the coordinator does not start: {error}");
    SandboxError::new(FailureClass::Internal, message)
}
