//! How a revocation comes to everyone whom `cluster revoke` did not reach: who was down, and
//! coordinators, which nobody can dial. Each process of a cluster asks one peer after the other
//! for a newer list. A list proves itself, so it does not matter from whom it comes.

use std::sync::Arc;
use std::time::Duration;

use orcapack_cluster::address::{NodeId, Role};
use orcapack_cluster::identity::Identity;
use orcapack_cluster::link::Transport;
use orcapack_cluster::mesh::{Mesh, PeerState};
use tokio::time::MissedTickBehavior;

use crate::calls::{self, Answer, Question};
use crate::cluster_config::ClusterConfig;

/// One question to one peer, however many there are.
const ASK_EVERY: Duration = Duration::from_secs(3);

/// The process's list grows as new as its peers', and ends its links to whoever is on it.
pub async fn follow(
    config: &ClusterConfig,
    identity: &Identity,
    mesh: &Mesh,
    transport: &Arc<dyn Transport>,
) {
    // Side by side: a peer that does not answer must not keep a list from having its effect.
    tokio::join!(close(identity, mesh), ask(config, identity, mesh, transport));
}

async fn close(identity: &Identity, mesh: &Mesh) {
    let mut changes = identity.crl_changes();
    while changes.changed().await.is_ok() {
        mesh.close_revoked();
    }
}

async fn ask(
    config: &ClusterConfig,
    identity: &Identity,
    mesh: &Mesh,
    transport: &Arc<dyn Transport>,
) {
    let mut times = tokio::time::interval(ASK_EVERY);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<NodeId> = None;
    loop {
        times.tick().await;
        let Some(node) = next(mesh, last.as_ref()) else { continue };
        if let Some(known) = config.nodes.get(&node) {
            let held = *identity.crl_changes().borrow();
            let question = Question::RevocationsAfter(held);
            match calls::ask(transport, &node, &known.address, &question).await {
                Ok(Answer::Bytes(list)) if list.is_empty() => {}
                Ok(Answer::Bytes(list)) => match identity.set_crl_der(&list.into()) {
                    Ok(_) => tracing::info!(from = %node, "has a newer list of revocations"),
                    Err(error) => tracing::warn!(from = %node, %error, "a list of revocations"),
                },
                Ok(_) => tracing::warn!(%node, "an answer to another question"),
                Err(why) => tracing::debug!(%node, why, "was not asked for revocations"),
            }
        }
        last = Some(node);
    }
}

/// The worker that follows this one, of those that can be asked.
fn next(mesh: &Mesh, last: Option<&NodeId>) -> Option<NodeId> {
    let peers = mesh.peers().into_iter();
    let up = peers.filter(|peer| peer.role == Role::Worker && peer.state == PeerState::Up);
    let mut up: Vec<NodeId> = up.map(|peer| peer.node).collect();
    up.sort();
    let after = up.iter().position(|node| Some(node) > last).unwrap_or(0);
    up.into_iter().nth(after)
}

/// What a node answers: its list if that is newer, else nothing.
pub fn after(identity: &Identity, number: u64) -> Vec<u8> {
    let held = *identity.crl_changes().borrow();
    let list = identity.crl().filter(|_| held > number);
    list.map_or_else(Vec::new, |list| list.to_vec())
}
