//! A node's side of a rank: the remote actor `rank`. The rank ends with it, so with the coordinator
//! and with the session.

use std::path::PathBuf;
use std::sync::Arc;

use orcapack_cluster::address::{NodeId, Role};
use orcapack_cluster::codec;
use orcapack_cluster::remote::{Class, Kinds, Received, Spawned};
use orcapack_trainer::collective::RankId;
use orcapack_trainer::policy::Policy;
use orcapack_trainer::ranks::remote::MESSAGES_WAITING_MAX;
use orcapack_trainer::ranks::served::serve;
use orcapack_trainer::ranks::thread::Local;
use orcapack_trainer::ranks::wire::ToRank;
use tokio::sync::mpsc;

use crate::train::config::TrainConfig;
use crate::train::learner;
use crate::train::remote::lobby::Lobby;
use crate::train::remote::rings::Rings;
use crate::train::remote::{Berth, RANK, read};

/// What ranks need of the node that they live on.
#[derive(Clone)]
pub struct RankHost {
    pub me: NodeId,
    pub cpus: usize,
    /// Where checkpoints are made on their way to the coordinator.
    pub cache_dir: PathBuf,
    pub lobby: Lobby,
    /// Whether the threads of a rank stay on cores of their own.
    pub pins: bool,
}

/// Ranks for a coordinator.
pub fn ranks(kinds: Kinds, host: RankHost) -> Kinds {
    let host = Arc::new(host);
    kinds.on(RANK, &[Role::Coordinator], move |spawned| {
        let host = host.clone();
        async move { live(&host, spawned).await }
    })
}

async fn live(host: &RankHost, spawned: Spawned) -> Result<(), String> {
    let Spawned { args, mut port, .. } = spawned;
    let berth: Berth = codec::decode(&args, Class::Control.bytes_max())
        .map_err(|error| format!("the arguments of `{RANK}`: {error}"))?;
    let home = home(host, &berth).await?;
    std::fs::create_dir_all(&host.cache_dir).map_err(|error| error.to_string())?;
    // Removed when this life is over.
    let scratch = tempfile::Builder::new().prefix("rank-").tempdir_in(&host.cache_dir);
    let scratch = scratch.map_err(|error| format!("{}: {error}", host.cache_dir.display()))?;
    let (rank, run) = (berth.rank, &berth.run);
    tracing::info!(run, rank, life = berth.life, "a rank begins to live here");
    let (answer, mut answers) = mpsc::channel(MESSAGES_WAITING_MAX);
    let (order, orders) = mpsc::channel(MESSAGES_WAITING_MAX);
    let sender = port.sender();
    let say = async {
        while let Some(message) = answers.recv().await {
            let bytes = codec::encode(&message, Class::Data.bytes_max());
            let bytes = bytes.map_err(|error| error.to_string())?;
            sender.send(Class::Data, bytes).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    let folder = scratch.path().to_owned();
    let work = async { tokio::try_join!(serve(&home, RankId(rank), folder, answer, orders), say) };
    let hear = async {
        while let Received::Message(class, bytes) = port.receive().await {
            let message: ToRank = codec::decode(&bytes, class.bytes_max())
                .map_err(|error| format!("a message of the leader: {error}"))?;
            if order.send(message).await.is_err() {
                // What it says of its end is on its way.
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    };
    let ended = tokio::select! {
        worked = work => worked.map(|_| ()),
        heard = hear => heard,
    };
    tracing::info!(run, rank, ?ended, "a rank has ended");
    ended
}

/// What lives here is made of this node's copy of the policy's directory.
async fn home(host: &RankHost, berth: &Berth) -> Result<Local, String> {
    let base = TrainConfig::defaults(host.cpus, host.cache_dir.clone());
    let config = read(&berth.config, base).map_err(|defects| defects.to_string())?;
    let dir = config.policy.base.clone();
    let opened = tokio::task::spawn_blocking(move || Policy::open(&dir)).await;
    let opened = opened.map_err(|error| error.to_string())?;
    let policy = Arc::new(opened.map_err(|defects| defects.to_string())?);
    let settings = learner::settings(&config, berth.temperature);
    let (wire, patience) = (config.ranks.wire, config.ranks.step_timeout);
    let run = (berth.run.as_str(), berth.life);
    let rings = Rings::enter(&host.lobby, host.me.clone(), run, wire, patience)?;
    let (threads, of_policy) = (config.train.learning.threads, policy.clone());
    Ok(Local {
        make: Arc::new(move || {
            learner::make(&config, &of_policy, None).map_err(|defects| defects.to_string())
        }),
        policy,
        settings,
        collectives: Arc::new(rings),
        threads,
        pins: host.pins,
        node: host.me.to_string(),
    })
}
