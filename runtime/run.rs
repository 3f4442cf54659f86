//! A run under way: the coordinator of its rollouts, and where their attempts are run.

use std::sync::Arc;

use orcapack_actors::phase::Board;
use orcapack_actors::sandbox::{Driver, SandboxError, Swept};
use orcapack_cluster::address::{Incarnation, NodeId};
use orcapack_tasks::outcome::FailureClass;
use ractor::ActorCell;

use crate::coordinator::{Coordinator, NodeEvent, RunEnd, Work};
use crate::node::{Node, NodeConfig};
use crate::status::RunStatus;
use crate::wire::{NodeLoad, Welcome};
use crate::worker::Worker;

pub struct Run {
    coordinator: Coordinator,
    node: Node,
}

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
        let coordinator = Coordinator::spawn(work).await.map_err(|error| {
            let message = format!("the coordinator does not start: {error}");
            SandboxError::new(FailureClass::Internal, message)
        })?;
        let node = Node::start(driver, config, coordinator.records(), coordinator.cell()).await?;
        let load = NodeLoad { slots, ..NodeLoad::default() };
        let welcome = Welcome { incarnation, load, held: Vec::new() };
        let worker = Worker::Local(node.rollouts.clone());
        coordinator.tell(&NodeId::local(), NodeEvent::Attached(welcome, worker));
        Ok(Self { coordinator, node })
    }

    /// The root of its actors.
    pub fn cell(&self) -> ActorCell {
        self.coordinator.cell()
    }

    pub fn board(&self) -> &Arc<Board> {
        &self.node.board
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

    pub fn read(&self, status: &mut RunStatus) {
        status.read_board(&self.node.board);
    }

    pub fn environments_peak(&self) -> u64 {
        self.node.board.environments_peak()
    }

    /// See [`Node::stop`].
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn stop(self) -> Result<Swept, SandboxError> {
        let swept = self.node.stop().await;
        self.coordinator.stop().await;
        swept
    }
}
