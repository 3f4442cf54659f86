//! `orcapack train`: a policy gets better at what its rollouts are rewarded for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orcapack_actors::model::ModelError;
use orcapack_actors::sandbox::SweepScope;
use orcapack_cluster::mesh::Mesh;
use orcapack_trainer::collective::exchange::Exchange;
use orcapack_trainer::model::weights_write::WeightsFormat;
use orcapack_trainer::ranks::home::Home;
use orcapack_trainer::ranks::thread::Local;
use orcapack_trainer::ranks::{GroupSettings, Ranks, RanksSetup};
use serde::Serialize;
use serde_json::Map;

use crate::cli_train::TrainArgs;
use crate::cluster_site::ClusterSite;
use crate::config::RunConfig;
use crate::config_layers::Host;
use crate::embedded::Engines;
use crate::engine::{Engine, Site};
use crate::exit::{Exit, Failure};
use crate::metrics_file::MetricsFile;
use crate::record::Folders;
use crate::run_dir::{CHECKPOINTS, Opening, RunDir, TRAJECTORIES, Wanted};
use crate::stops::Stops;
use crate::summary::Share;
use crate::train::batch;
use crate::train::checkpoints::Checkpoints;
use crate::train::delivery::embedded::Embedded;
use crate::train::delivery::server::WeightServer;
use crate::train::delivery::servers::{Servers, ServersConfig};
use crate::train::delivery::{Deliveries, Delivery};
use crate::train::metrics::{Evaluated, History};
use crate::train::plan::TrainPlan;
use crate::train::progress::{Progress, held_out};
use crate::train::quick_start;
use crate::train::remote::home::{LoadState, Nodal};
use crate::train::remote::{self, Berth};
use crate::train::report::{self, About};
use crate::train::rollouts::TrainRollouts;
use crate::train::training::{Parts, Trained, Training};
use crate::train::trajectories::Trajectories;
use crate::{output, sandboxes, telemetry};

/// Reads and checks everything, then trains; nothing is created before all of the input is known to
/// be good.
///
/// # Errors
/// See [`Exit`].
pub fn run(args: &TrainArgs, host: &Host) -> Result<Exit, Failure> {
    if args.is_quick_start() {
        return quick_start::run(args, host);
    }
    let plan = Arc::new(TrainPlan::make(args, host)?);
    plan.warn_of_defects();
    if args.run.dry_run {
        return plan.print(args.output.json);
    }
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(train(args, &plan, host))
}

async fn train(args: &TrainArgs, plan: &Arc<TrainPlan>, host: &Host) -> Result<Exit, Failure> {
    let config = &plan.config;
    let site = match &plan.cluster {
        None => Site::Here(sandboxes::choose(&config.eval.sandbox).await?),
        Some(cluster) => {
            Site::Cluster(Box::new(ClusterSite::new(cluster.clone(), host.variables)?))
        }
    };
    let toml = config.to_toml().map_err(|error| Failure::internal(error.to_string()))?;
    let RunConfig { name, runs_dir, .. } = &config.eval.run;
    let wanted = Wanted { runs_dir, name, kind: &plan.kind(), config: &toml };
    let dir = RunDir::open(Opening::of(args.run.resume, args.run.clean), &wanted)?;
    telemetry::start_logs(Some(&dir.logs()), args.output.verbose).map_err(io)?;
    if let (Some(replaced), Site::Here(driver)) = (dir.replaced(), &site) {
        let scope = SweepScope::Run { run: replaced.to_owned(), except_incarnation: None };
        driver.sweep(&scope).await?;
    }
    let mode = telemetry::progress_mode(args.output.quiet || args.output.json, args.output.verbose);
    if mode != crate::progress::Mode::Silent {
        eprint!("{}", plan.about());
    }
    let training = start(plan, &dir, site, mode).await?;
    let trained = training.run().await?;
    let history = History::read(&dir.metrics()).map_err(io)?;
    let about = About {
        name: name.clone(),
        plan: plan.about(),
        config: toml,
        command: std::env::args().collect::<Vec<_>>().join(" "),
    };
    let page = report::render(&about, &history);
    let page = page.map_err(|error| Failure::internal(error.to_string()))?;
    std::fs::write(dir.report(), page).map_err(io)?;
    present(args, name, &dir.report(), &trained, &history)
}

/// From the newest whole checkpoint, where the run has one.
async fn start(
    plan: &Arc<TrainPlan>,
    dir: &RunDir,
    site: Site,
    mode: crate::progress::Mode,
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
    // None of them is admitted yet.
    let (rollouts, resumed) = TrainRollouts::start(engine, plan.rollouts()).await?;
    let ranks = match ranks(plan, dir.id(), &rollouts, checkpoint).await {
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
) -> Result<Ranks, Failure> {
    let config = &plan.config.ranks;
    let homes = match rollouts.cluster() {
        Some(cluster) if !plan.rank_nodes.is_empty() => there(plan, run, cluster, checkpoint)?,
        _ => vec![here(plan, checkpoint); config.count as usize],
    };
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

/// What is told at the end.
#[derive(Serialize)]
struct Outcome<'a> {
    steps: u64,
    before: Option<Share>,
    after: Option<Share>,
    evaluations: &'a [Evaluated],
    elapsed_sec: f64,
    checkpoint: Option<&'a Path>,
    report: &'a Path,
}

fn present(
    args: &TrainArgs,
    name: &str,
    report: &Path,
    trained: &Trained,
    history: &History,
) -> Result<Exit, Failure> {
    let Trained { steps, elapsed, .. } = trained;
    if args.output.json {
        output::print_json(&Outcome {
            steps: *steps,
            before: history.evaluations.first().map(|it| it.held_out),
            after: history.evaluations.last().map(|it| it.held_out),
            evaluations: &history.evaluations,
            elapsed_sec: elapsed.as_secs_f64(),
            checkpoint: trained.checkpoint.as_deref(),
            report,
        })?;
    } else {
        output::print(&text(*steps, *elapsed, trained.checkpoint.as_deref(), report, history))?;
    }
    if trained.is_interrupted {
        eprintln!("interrupted: `orcapack train --name {name} --resume` goes on");
        return Ok(Exit::Interrupted);
    }
    if trained.is_exhausted {
        eprintln!("warning: too many groups were dropped for their age: no rollouts are left");
    }
    Ok(Exit::Done)
}

fn text(
    steps: u64,
    elapsed: Duration,
    checkpoint: Option<&Path>,
    report: &Path,
    history: &History,
) -> String {
    let mut text =
        format!("{} in {}\n", output::plural(steps as usize, "step"), output::duration(elapsed));
    for it in &history.evaluations {
        text += &format!("after step {:>4}: {}\n", it.step, held_out(it));
    }
    if let Some(checkpoint) = checkpoint {
        text += &format!("checkpoint: {}\n", checkpoint.display());
    }
    text + &format!("report: {}\n", report.display())
}

fn io(error: std::io::Error) -> Failure {
    Failure::internal(error.to_string())
}
