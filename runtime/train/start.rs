//! What a training loop runs on: rollouts, ranks, deliveries and books of one run, put together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orcapack_actors::model::ModelError;
use orcapack_cluster::mesh::Mesh;
use orcapack_trainer::collective::exchange::Exchange;
use orcapack_trainer::model::weights_write::WeightsFormat;
use orcapack_trainer::ranks::home::Home;
use orcapack_trainer::ranks::thread::Local;
use orcapack_trainer::ranks::{GroupSettings, Ranks, RanksSetup};
use serde_json::Map;

use crate::embedded::Engines;
use crate::engine::{Engine, Site};
use crate::exit::{Exit, Failure};
use crate::metrics_file::MetricsFile;
use crate::progress::Mode;
use crate::record::Folders;
use crate::run_dir::{CHECKPOINTS, RunDir, TRAJECTORIES};
use crate::stops::Stops;
use crate::train::batch;
use crate::train::checkpoints::Checkpoints;
use crate::train::delivery::embedded::Embedded;
use crate::train::delivery::server::WeightServer;
use crate::train::delivery::servers::{Servers, ServersConfig};
use crate::train::delivery::{Deliveries, Delivery};
use crate::train::io;
use crate::train::metrics::History;
use crate::train::plan::TrainPlan;
use crate::train::progress::Progress;
use crate::train::remote::home::{LoadState, Nodal};
use crate::train::remote::{self, Berth};
use crate::train::rollouts::TrainRollouts;
use crate::train::training::{Parts, Training};
use crate::train::trajectories::Trajectories;

/// Between a rank and where it lives: nothing, but in scenarios that have it stand still.
pub type Between<'a> = &'a (dyn Fn(Arc<dyn Home>) -> Arc<dyn Home> + Sync);

/// A loop over a run's directory, from the newest whole checkpoint, where there is one. Nothing is
/// admitted yet.
///
/// # Errors
/// A checkpoint or the ledger that cannot be used, an engine that is away, ranks that do not come.
pub async fn start(
    plan: &Arc<TrainPlan>,
    dir: &RunDir,
    site: Site,
    mode: Mode,
    between: Between<'_>,
) -> Result<Training, Failure> {
    let config = &plan.config;
    let checkpoints = Checkpoints::open(&dir.folder(CHECKPOINTS)?, &config.checkpoints)?;
    let (steps, checkpoint) = match checkpoints.newest() {
        Some((steps, dir)) => (steps, Some((checkpoints.optimizer_steps, dir.to_owned()))),
        None => (0, None),
    };
    let stops = Stops::listen(config.eval.timeouts.drain)?;
    let engines = Engines::default();
    let trajectories = dir.folder(TRAJECTORIES)?;
    let engine = Engine {
        config: &config.eval,
        team: Some(plan.team.clone()),
        engines: &engines,
        site,
        weights: Some(config.policy.base.clone()),
        run_id: dir.id().to_owned(),
        ledger: dir.ledger(),
        folders: Some(Folders { trajectories: trajectories.clone(), logs: dir.logs() }),
    };
    let (rollouts, resumed) = TrainRollouts::start(engine, plan.rollouts()).await?;
    let ranks = match ranks(plan, dir.id(), &rollouts, checkpoint, between).await {
        Ok(ranks) => Arc::new(ranks),
        Err(failure) => {
            rollouts.stop().await?;
            return Err(failure);
        }
    };
    let deliveries = Deliveries(deliveries(plan, &engines, &rollouts, dir)?);
    let metrics = MetricsFile::open(&dir.metrics(), steps).map_err(io)?;
    let history = History::read(&dir.metrics()).map_err(io)?;
    let parts = Parts {
        layout: plan.layout,
        pace: plan.pace(),
        schedule: config.train.learning.schedule(config.train.steps),
        batch: batch::Settings {
            scale_by_std: config.loss.0.scale_by_std,
            sample_tokens_max: config.train.learning.micro_batch().row_tokens_max,
            action_bonus: config.train.action_bonus,
        },
        curriculum: plan.curriculum().map_err(|error| Failure::bad_input(error.to_string()))?,
        rollouts,
        ranks,
        deliveries,
        trajectories: Trajectories::new(trajectories, plan.policy.renderer(Map::new())?),
        checkpoints,
        metrics,
        progress: Progress::start(mode, config.train.steps, steps),
        stops,
        evaluated: history.evaluations.iter().map(|it| it.step).collect(),
    };
    Ok(Training::new(parts, steps, resumed))
}

/// In this process, or on nodes of the cluster. `checkpoint` is the newest, with the steps that the
/// optimizer had made.
async fn ranks(
    plan: &Arc<TrainPlan>,
    run: &str,
    rollouts: &TrainRollouts,
    checkpoint: Option<(u64, PathBuf)>,
    between: Between<'_>,
) -> Result<Ranks, Failure> {
    let config = &plan.config.ranks;
    let homes = match rollouts.cluster() {
        Some(cluster) if !plan.rank_nodes.is_empty() => there(plan, run, cluster, checkpoint)?,
        _ => vec![here(plan, checkpoint); config.count as usize],
    };
    let homes = homes.into_iter().map(between).collect();
    let group = GroupSettings { step_timeout: config.step_timeout, ..GroupSettings::default() };
    let started = Ranks::start(RanksSetup { homes, settings: plan.settings(), group }).await;
    started.map_err(|error| Failure::new(Exit::TrainingStopped, error.to_string()))
}

/// The home of all ranks in this process.
fn here(plan: &Arc<TrainPlan>, checkpoint: Option<(u64, PathBuf)>) -> Arc<dyn Home> {
    let making = plan.clone();
    Arc::new(Local {
        make: Arc::new(move || {
            let from = checkpoint.as_ref().map(|(steps, dir)| (*steps, dir.as_path()));
            making.learner(from).map_err(|defects| defects.to_string())
        }),
        policy: Arc::new(plan.policy.clone()),
        settings: plan.settings(),
        collectives: Arc::new(Exchange::new(plan.config.ranks.step_timeout)),
        threads: plan.config.train.learning.threads,
        pins: true,
        node: String::new(),
    })
}

/// Of each rank, its home on a node.
fn there(
    plan: &Arc<TrainPlan>,
    run: &str,
    (mesh, life): (Mesh, u64),
    checkpoint: Option<(u64, PathBuf)>,
) -> Result<Vec<Arc<dyn Home>>, Failure> {
    let config = remote::text(&plan.config);
    let config = config.map_err(|error| Failure::internal(error.to_string()))?;
    let temperature = plan.temperature();
    let berth = Berth { run: run.to_owned(), life, rank: 0, config, temperature };
    let state = checkpoint.map(|(steps, dir)| {
        let plan = plan.clone();
        let load: LoadState = Arc::new(move || {
            let learner = plan.learner(Some((steps, &dir))).map_err(|it| it.to_string())?;
            learner.state().map_err(|error| error.to_string())
        });
        load
    });
    let dealt = remote::deal(plan.config.ranks.count, &plan.rank_nodes).into_iter();
    let homes = dealt.map(|node| {
        let (mesh, berth, state) = (mesh.clone(), berth.clone(), state.clone());
        let config = plan.policy.config.clone();
        Arc::new(Nodal { mesh, node, berth, config, state }) as Arc<dyn Home>
    });
    Ok(homes.collect())
}

/// To whom the policy's weights go: the engine of this process, those of all nodes, or the servers
/// that sample.
fn deliveries(
    plan: &TrainPlan,
    engines: &Engines,
    rollouts: &TrainRollouts,
    dir: &RunDir,
) -> Result<Vec<Box<dyn Delivery>>, Failure> {
    let unfit = |error: ModelError| Failure::bad_input(error.to_string());
    let server = WeightServer::new(plan.orchestrator(), WEIGHTS_LIMIT, WEIGHTS_TRIES);
    let way: Box<dyn Delivery> = match (server.map_err(unfit)?, rollouts.weights()) {
        (Some(server), _) => {
            let folder = dir.folder(WEIGHTS)?;
            let (policy, format) = (plan.policy.clone(), WeightsFormat::default());
            Box::new(Servers::new(ServersConfig { folder, policy, format }, vec![server]))
        }
        (None, Some(broadcast)) => Box::new(broadcast),
        (None, None) => {
            let shelf = engines.of_run("").shelf(&plan.config.policy.base);
            Box::new(Embedded::new(shelf))
        }
    };
    Ok(vec![way])
}

/// In the run's directory: what servers read.
const WEIGHTS: &str = "weights";
/// A server has read weights in this time, or never.
const WEIGHTS_LIMIT: Duration = Duration::from_secs(600);
const WEIGHTS_TRIES: u32 = 5;
