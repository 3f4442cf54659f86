//! This machine as the coordinator of a run on a cluster.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use orcapack_actors::breaker::BreakerConfig;
use orcapack_cluster::address::Role;
use orcapack_cluster::identity::Identity;
use orcapack_cluster::lease::{Epoch, LeaseConfig};
use orcapack_cluster::mesh::{Mesh, MeshEvent};
use orcapack_cluster::remote::Kinds;
use tokio::task::JoinSet;

use crate::cluster_config::ClusterConfig;
use crate::config::EvalConfig;
use crate::exit::Failure;
use crate::fleet::{Fleet, FleetConfig};
use crate::member::{self, ANYWHERE, COORDINATOR};
use crate::node_state::NodeState;
use crate::run::Run;
use crate::secrets::Variables;
use crate::train::delivery::broadcast::Broadcast;
use crate::wire::Attach;
use crate::work::Work;
use crate::{node_run, revocations};

/// Starts in a row that fail before a node is left in peace for a while.
const BREAKER: BreakerConfig = BreakerConfig {
    failures: 5,
    cooldown: Duration::from_secs(10),
    cooldown_max: Duration::from_secs(120),
};
/// Addresses may change, and nodes come up later than others: they are looked up again this often.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// Says as whom a process coordinates. Two that do so at one time need an identity each.
const COORDINATOR_ID: &str = "ORCAPACK_COORDINATOR_ID";

/// What it takes to coordinate, checked before anything is begun.
pub struct ClusterSite {
    config: ClusterConfig,
    identity: Arc<Identity>,
    state: NodeState,
}

impl ClusterSite {
    /// # Errors
    /// There are no nodes, or this machine has no identity of a coordinator, or another process
    /// uses it.
    pub fn new(config: ClusterConfig, variables: Variables) -> Result<Self, Failure> {
        config.peers()?;
        let name = variables(COORDINATOR_ID).filter(|name| !name.is_empty());
        let name = name.as_deref().unwrap_or(COORDINATOR);
        let identity = member::identity(&config, name, Role::Coordinator)?;
        let state = NodeState::take(&config.state_of(&identity.names().node))?;
        Ok(Self { config, identity, state })
    }

    pub fn fleet(&self, epoch: Epoch) -> Fleet {
        let lease = Some(LeaseConfig::of(self.config.lease));
        Fleet::new(FleetConfig { epoch, lease, breaker: BREAKER })
    }

    /// # Errors
    /// No port can be had, or the actor system refuses.
    pub async fn start(
        self,
        run: String,
        epoch: Epoch,
        config: &EvalConfig,
        work: Work,
        weights: Option<Broadcast>,
    ) -> Result<Run, Failure> {
        let Self { config: cluster, identity, state } = self;
        let internal = |error: &dyn std::fmt::Display| Failure::internal(error.to_string());
        let text = node_run::for_nodes(config).map_err(|error| internal(&error))?;
        let transport = member::mesh_transport(&cluster, ANYWHERE, &state, &identity).await?;
        let mesh_config = member::mesh_config(&cluster, &identity, &state, false).await?;
        let started = Mesh::start(mesh_config, transport.clone(), Kinds::default(), None).await;
        let (mesh, mut events) = started.map_err(|error| internal(&error))?;
        let attach = Attach { run, epoch, config: text };
        let mut run = Run::on_cluster(mesh.clone(), attach, work, weights).await?;
        let fence = run.fence();
        let mut beside = JoinSet::new();
        let (looking, me) = (mesh.clone(), identity.names().node.clone());
        let (follower, file, mine) = (mesh.clone(), cluster.clone(), identity.clone());
        beside.spawn(async move {
            revocations::follow(&file, &mine, &follower, &transport).await;
        });
        beside.spawn(async move {
            // For as long as it coordinates: nobody else may be it.
            let _state = state;
            loop {
                tokio::select! {
                    biased;
                    event = events.recv() => match event {
                        Some(MeshEvent::Fenced) => {
                            fence.store(true, Ordering::Relaxed);
                        }
                        Some(_) => {}
                        None => return,
                    },
                    () = tokio::time::sleep(LOOK_UP_EVERY) => {
                        looking.set_peers(member::peers(&cluster, &me).await);
                    }
                }
            }
        });
        run.keep(beside);
        Ok(run)
    }
}
