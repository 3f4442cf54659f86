//! A node of the cluster as the home of a rank, for the leader in the coordinator's process.
//!
//! The node makes the rank of its own copy of the policy's directory. Where the run goes on from a
//! checkpoint, which only the coordinator has, the rank becomes a copy of that before the leader
//! hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use orcapack_cluster::address::NodeId;
use orcapack_cluster::codec;
use orcapack_cluster::mesh::{DownReason, Mesh, SpawnError};
use orcapack_cluster::remote::{Class, Port, Received};
use orcapack_trainer::collective::RankId;
use orcapack_trainer::learner::LearnerState;
use orcapack_trainer::model::config::ModelConfig;
use orcapack_trainer::ranks::home::{Home, Life, Order, Said, Say};
use orcapack_trainer::ranks::remote::{MESSAGES_WAITING_MAX, connect};
use orcapack_trainer::ranks::wire::{FromRank, ToRank};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::train::remote::{Berth, RANK};

/// A rank waits so long for its node: it may come up later, or again.
const NODE_LIMIT: Duration = Duration::from_secs(60);
/// From asking a node to its answer.
const SPAWN_LIMIT: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What a rank has to know that its node does not.
pub type LoadState = Arc<dyn Fn() -> Result<LearnerState, String> + Send + Sync>;

/// A home on another node.
pub struct Nodal {
    pub mesh: Mesh,
    pub node: NodeId,
    /// Of any rank.
    pub berth: Berth,
    /// Of the policy.
    pub config: ModelConfig,
    /// Of the checkpoint that the run goes on from.
    pub state: Option<LoadState>,
}

impl Nodal {
    async fn begin(&self, rank: RankId, say: Say) -> Result<Box<dyn Life>, String> {
        let state = match self.state.clone() {
            Some(load) => {
                let loaded = tokio::task::spawn_blocking(move || load()).await;
                Some(loaded.map_err(|error| error.to_string())??)
            }
            None => None,
        };
        let berth = Berth { rank: rank.0, ..self.berth.clone() };
        let args = codec::encode(&berth, Class::Control.bytes_max());
        let port = self.reach(args.map_err(|error| error.to_string())?).await?;
        let (send, orders) = mpsc::channel(MESSAGES_WAITING_MAX);
        let (said, receive) = mpsc::channel(MESSAGES_WAITING_MAX);
        tokio::spawn(carry(port, orders, said));
        let say = if state.is_some() { once_loaded(say) } else { say };
        let mut life = connect(say, self.config.clone(), send, receive);
        if let Some(state) = state {
            life.order(Order::Load(Arc::new(state)));
        }
        Ok(life)
    }

    /// Waits for the node, and starts the actor there.
    async fn reach(&self, args: Vec<u8>) -> Result<Port, String> {
        let until = Instant::now() + NODE_LIMIT;
        loop {
            let spawned = self.mesh.spawn(&self.node, RANK, args.clone(), SPAWN_LIMIT).await;
            let error = match spawned {
                Ok((_, port)) => return Ok(port),
                Err(error) => error,
            };
            let may_come = match &error {
                SpawnError::NotConnected(_) | SpawnError::Deadline(_) => true,
                SpawnError::Down(reason) => *reason == DownReason::NodeLost,
                SpawnError::TooLong { .. } | SpawnError::TooMany => false,
            };
            if !may_come || Instant::now() >= until {
                return Err(format!("{}: {error}", self.node));
            }
            sleep(RETRY_AFTER).await;
        }
    }
}

impl Home for Nodal {
    fn start(&self, rank: RankId, say: Say) -> BoxFuture<'_, Result<Box<dyn Life>, String>> {
        Box::pin(self.begin(rank, say))
    }

    fn node(&self) -> &str {
        self.node.as_str()
    }
}

/// A rank is there when it has loaded what it was given.
fn once_loaded(say: Say) -> Say {
    let is_there = AtomicBool::new(false);
    Arc::new(move |said| match said {
        Said::Came { .. } => {}
        Said::CaughtUp { steps, digest } if !is_there.swap(true, Ordering::Relaxed) => {
            say(Said::Came { steps, digest });
        }
        other => say(other),
    })
}

/// Both ways, until the leader lets go of the rank or that ends, which is told with its reason.
async fn carry(mut port: Port, mut orders: mpsc::Receiver<ToRank>, said: mpsc::Sender<FromRank>) {
    let (sender, class) = (port.sender(), Class::Data);
    let write = async {
        while let Some(message) = orders.recv().await {
            let bytes = codec::encode(&message, class.bytes_max());
            let bytes = bytes.map_err(|error| format!("an order: {error}"))?;
            if sender.send(class, bytes).await.is_err() {
                // The port says why.
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    };
    let read = async {
        loop {
            match port.receive().await {
                Received::Message(class, bytes) => {
                    let message: FromRank = codec::decode(&bytes, class.bytes_max())
                        .map_err(|error| format!("what it says: {error}"))?;
                    if said.send(message).await.is_err() {
                        return Ok(());
                    }
                }
                Received::Down(reason) => return Err(reason.to_string()),
            }
        }
    };
    let ended: Result<(), String> = tokio::select! {
        written = write => written,
        ended = read => ended,
    };
    if let Err(why) = ended {
        // Where nobody listens, the life was over.
        let _ = said.send(FromRank::Down(why)).await;
    }
}
