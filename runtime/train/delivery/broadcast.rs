//! Weights to the engines on all nodes of a run, over the cluster.
//!
//! Each [envoy](crate::envoy) takes a [`Courier`] along. It comes to the node before the run does,
//! and brings it the newest weights first: a node that joins late never samples with others. While
//! the envoy attends the node, its courier carries what is delivered; a node that does not take it
//! is left, like one that is lost, and visited anew.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use orcapack_cluster::address::NodeId;
use orcapack_cluster::codec;
use orcapack_cluster::mesh::{Mesh, SpawnError};
use orcapack_cluster::remote::{Class, Port, Received};
use orcapack_trainer::snapshot::{Snapshot, SnapshotDigest};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::train::delivery::broadcast_board::{Board, Link, Stand};
use crate::train::delivery::weights_wire::{
    CHUNK_BYTES_MAX, FromSampler, Supply, ToSampler, WEIGHTS,
};
use crate::train::delivery::{Delivered, Delivery, DeliveryError, Reached};

/// From asking a node to its answer.
const LINK_LIMIT: Duration = Duration::from_secs(10);
/// How often one version is sent over one link: what damaged it may damage it again.
const SENDS_MAX: u32 = 3;

/// What is delivered on a cluster, and to which nodes it has come. Clones are one.
#[derive(Clone)]
pub struct Broadcast(Arc<Inner>);

struct Inner {
    supply: Supply,
    /// From the first byte of a version to the node's word that it has it.
    limit: Duration,
    newest: watch::Sender<Option<Arc<Parcel>>>,
    board: Board,
}

struct Parcel {
    snapshot: Snapshot,
    digest: SnapshotDigest,
}

impl Broadcast {
    /// For the policy in the directory that the run's configuration names `checkpoint`; `life` is
    /// the epoch of the run's coordinator.
    pub fn new(run: String, life: u64, checkpoint: PathBuf, limit: Duration) -> Self {
        let checkpoint = checkpoint.to_string_lossy().into_owned();
        Self(Arc::new(Inner {
            supply: Supply { run, life, checkpoint },
            limit,
            newest: watch::Sender::new(None),
            board: Board::default(),
        }))
    }

    /// Opens the way for weights to a node; it has the newest when this resolves.
    ///
    /// # Errors
    /// Why there is no way, or why the node has not taken them.
    pub async fn open(&self, mesh: &Mesh, node: &NodeId) -> Result<Courier, OpenError> {
        let failed = OpenError::Failed;
        let args = codec::encode(&self.0.supply, Class::Control.bytes_max());
        let args = args.map_err(|error| failed(error.to_string()))?;
        let (_, mut port) = mesh.spawn(node, WEIGHTS, args, LINK_LIMIT).await?;
        let ready = tokio::time::timeout(LINK_LIMIT, next(&mut port)).await;
        let has = match ready {
            Ok(Ok(FromSampler::Ready { version })) => version,
            Ok(Ok(_)) => return Err(failed("it does not keep to the protocol".to_owned())),
            Ok(Err(why)) => return Err(failed(why)),
            Err(_) => return Err(failed(format!("no word of its weights in {LINK_LIMIT:?}"))),
        };
        let newest = self.0.newest.subscribe();
        let link = self.0.board.link(node);
        let mut courier = Courier { inner: self.0.clone(), newest, port, link, has, why: None };
        courier.bring_newest().await.map_err(|why| failed(courier.ends(why)))?;
        Ok(courier)
    }

    async fn deliver(&self, weights: &Snapshot) -> Result<Delivered, DeliveryError> {
        let begun = Instant::now();
        let version = weights.version;
        let snapshot = weights.clone();
        let digesting = tokio::task::spawn_blocking(move || {
            let digest = snapshot.digest();
            Parcel { snapshot, digest }
        });
        let parcel = digesting.await.map_err(|error| DeliveryError::Prepare(error.to_string()))?;
        let mut older = None;
        self.0.newest.send_if_modified(|newest| match newest {
            Some(newer) if newer.snapshot.version > version => {
                older = Some(newer.snapshot.version);
                false
            }
            Some(same) if same.snapshot.version == version => false,
            _ => {
                *newest = Some(Arc::new(parcel));
                true
            }
        });
        if let Some(newest) = older {
            return Err(DeliveryError::Older { version, newest });
        }
        Ok(self.wait(version, begun).await)
    }

    /// Until every node that is linked now has the version, or its link has ended.
    async fn wait(&self, version: u64, begun: Instant) -> Delivered {
        let board = &self.0.board;
        let mut changes = board.changes();
        let mut delivered = Delivered::default();
        let mut waiting = board.linked();
        loop {
            changes.borrow_and_update();
            waiting.retain(|link| match board.stand(link, version) {
                Stand::Waits => true,
                Stand::Has(at) => {
                    let after = at.saturating_duration_since(begun);
                    delivered.targets.push(Reached { target: link.node.to_string(), after });
                    false
                }
                Stand::Ended(why) => {
                    delivered.lost.push((link.node.to_string(), why));
                    false
                }
            });
            // The board has its sender, so a change comes or nothing is waited for.
            if waiting.is_empty() || changes.changed().await.is_err() {
                return delivered;
            }
        }
    }
}

impl Delivery for Broadcast {
    /// Never fails for the sake of a node: one that does not take the weights is among the lost.
    fn deliver<'a>(
        &'a self,
        weights: &'a Snapshot,
    ) -> BoxFuture<'a, Result<Delivered, DeliveryError>> {
        Box::pin(self.deliver(weights))
    }
}

/// Why there is no way for weights to a node.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("weights: {0}")]
    Failed(String),
}

/// Carries weights to one node, over one link. Dropping it ends the link.
pub struct Courier {
    inner: Arc<Inner>,
    newest: watch::Receiver<Option<Arc<Parcel>>>,
    port: Port,
    link: Link,
    /// The version that the node has.
    has: Option<u64>,
    /// Why the link ends.
    why: Option<String>,
}

impl Courier {
    /// Brings what is delivered, until the link ends: why it does.
    pub async fn carry(&mut self) -> String {
        loop {
            tokio::select! {
                biased;
                said = next(&mut self.port) => {
                    let why = said.err();
                    let why = why.unwrap_or_else(|| "it does not keep to the protocol".to_owned());
                    return self.ends(why);
                }
                changed = self.newest.changed() => {
                    if changed.is_err() {
                        return self.ends("no more weights come".to_owned());
                    }
                }
            }
            if let Err(why) = self.bring_newest().await {
                return self.ends(why);
            }
        }
    }

    fn ends(&mut self, why: String) -> String {
        self.why = Some(why.clone());
        why
    }

    async fn bring_newest(&mut self) -> Result<(), String> {
        let Some(parcel) = self.newest.borrow_and_update().clone() else { return Ok(()) };
        let version = parcel.snapshot.version;
        let limit = self.inner.limit;
        let mut sends = 0;
        while self.has.is_none_or(|has| has < version) {
            sends += 1;
            let sent = tokio::time::timeout(limit, self.send(&parcel)).await;
            match sent.map_err(|_| format!("version {version} not taken in {limit:?}"))?? {
                FromSampler::Has { version: has } if has >= version => self.has = Some(has),
                FromSampler::Refused { why, .. } if sends < SENDS_MAX => {
                    tracing::warn!(node = %self.link.node, version, why, "weights are sent again");
                }
                FromSampler::Refused { why, .. } => return Err(why),
                FromSampler::Has { .. } | FromSampler::Ready { .. } => {
                    return Err("it does not keep to the protocol".to_owned());
                }
            }
        }
        self.inner.board.has(&self.link, version, Instant::now());
        Ok(())
    }

    /// All of a version, until the node says what became of it.
    async fn send(&mut self, parcel: &Parcel) -> Result<FromSampler, String> {
        let (sender, Parcel { snapshot, digest }) = (self.port.sender(), parcel);
        let send_all = async {
            let (version, bytes) = (snapshot.version, snapshot.bytes());
            let begin = ToSampler::Begin { version, digest: digest.0, bytes };
            let chunks = snapshot.chunks(CHUNK_BYTES_MAX).map(ToSampler::Chunk);
            for message in std::iter::once(begin).chain(chunks) {
                let class = Class::Bulk;
                let bytes = codec::encode(&message, class.bytes_max());
                let bytes = bytes.map_err(|error| error.to_string())?;
                if sender.send(class, bytes).await.is_err() {
                    // The port says why.
                    break;
                }
            }
            // What follows is the node's word.
            std::future::pending::<Result<FromSampler, String>>().await
        };
        tokio::select! {
            biased;
            said = next(&mut self.port) => said,
            failed = send_all => failed,
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        let why = self.why.take().unwrap_or_else(|| "its visit has ended".to_owned());
        self.inner.board.ended(&self.link, why);
    }
}

async fn next(port: &mut Port) -> Result<FromSampler, String> {
    match port.receive().await {
        Received::Message(class, bytes) => {
            codec::decode(&bytes, class.bytes_max()).map_err(|error| error.to_string())
        }
        Received::Down(reason) => Err(reason.to_string()),
    }
}
