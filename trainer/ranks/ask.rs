//! What is asked of ranks beside steps: their weights, their state, a checkpoint.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ractor::ActorRef;
use tokio::fs;
use tokio::sync::oneshot;

use crate::collective::RankId;
use crate::learner::LearnerState;
use crate::model::parameters::Parameters;
use crate::ranks::RanksError;
use crate::ranks::actor::RankMessage;
use crate::ranks::home::{Order, Reply};
use crate::ranks::replica::merge;

/// The policy's weights behind a step, f32 on the host, adapters merged. They do not change.
#[derive(Clone)]
pub struct Snapshot {
    /// Steps that they have had: the policy's version.
    pub version: u64,
    /// By name: [`Parameters::named`].
    pub parameters: Arc<Parameters>,
}

/// Where the optimizer's state is.
pub(super) enum State {
    /// On every rank.
    Whole,
    /// In parts, on the ranks of a ring in their order.
    Sharded(Vec<RankId>),
}

type Members = [(RankId, ActorRef<RankMessage>)];

/// `None` where the rank is gone before it answers.
async fn ask<T>(
    actor: &ActorRef<RankMessage>,
    order: impl FnOnce(Reply<T>) -> Order,
) -> Option<Result<T, String>> {
    let (reply, answer) = oneshot::channel();
    actor.cast(RankMessage::Order(order(reply))).ok()?;
    answer.await.ok()
}

pub(super) async fn ask_state(
    actor: &ActorRef<RankMessage>,
) -> Option<Result<LearnerState, String>> {
    ask(actor, Order::State).await
}

/// All replicas are the same: the first that lives long enough will do.
pub(super) async fn ask_snapshot(members: &Members) -> Result<Snapshot, RanksError> {
    let mut error = RanksError::Ended;
    for (rank, actor) in members {
        match ask(actor, Order::Weights).await {
            Some(Ok((version, parameters))) => {
                return Ok(Snapshot { version, parameters: Arc::new(parameters) });
            }
            Some(Err(why)) => error = RanksError::Rank { rank: *rank, why },
            None => error = RanksError::Rank { rank: *rank, why: "it is gone".to_owned() },
        }
    }
    Err(error)
}

pub(super) async fn ask_save(
    members: &Members,
    state: State,
    dir: PathBuf,
) -> Result<(), RanksError> {
    let optimizer = match state {
        State::Whole => None,
        State::Sharded(ring) => Some(Arc::new(optimizer(members, &ring).await?)),
    };
    let mut error = RanksError::Ended;
    for (rank, actor) in members {
        let (folder, optimizer) = (dir.clone(), optimizer.clone());
        match ask(actor, |reply| Order::Save { dir: folder, optimizer, reply }).await {
            Some(saved) => return of_rank(*rank, Some(saved)),
            None => error = RanksError::Rank { rank: *rank, why: "it is gone".to_owned() },
        }
        // Of what it has left, nothing is of use to the next.
        let emptied = empty(&dir).await;
        emptied.map_err(|error| RanksError::Rank { rank: *rank, why: error.to_string() })?;
    }
    Err(error)
}

async fn empty(dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(dir).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(dir).await,
    }
}

fn of_rank<T>(rank: RankId, answer: Option<Result<T, String>>) -> Result<T, RanksError> {
    let answer = answer.unwrap_or_else(|| Err("it is gone".to_owned()));
    answer.map_err(|why| RanksError::Rank { rank, why })
}

type OptimizerState = std::collections::HashMap<String, candle_core::Tensor>;

/// Of all parts.
async fn optimizer(members: &Members, ring: &[RankId]) -> Result<OptimizerState, RanksError> {
    let actors: BTreeMap<RankId, &ActorRef<RankMessage>> =
        members.iter().map(|(rank, actor)| (*rank, actor)).collect();
    let mut parts = Vec::new();
    // Before the first step nobody is in a ring, and everybody has all.
    let first = members.first().map(|(rank, _)| [*rank]);
    let ring = if ring.is_empty() { first.as_ref().map_or(ring, |it| it.as_slice()) } else { ring };
    for rank in ring {
        let state = match actors.get(rank) {
            Some(actor) => ask_state(actor).await,
            None => None,
        };
        parts.push(of_rank(*rank, state)?.optimizer);
    }
    let why = |error: candle_core::Error| RanksError::Rank {
        rank: ring.first().copied().unwrap_or(RankId(0)),
        why: error.to_string(),
    };
    merge(&parts).map_err(why)
}
