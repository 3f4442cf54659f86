//! `orcapack eval`: an agent over tasks, k attempts each, and what came of it.

use std::sync::Arc;

use orcapack_actors::agent::Solver;
use orcapack_actors::sandbox::SweepScope;
use orcapack_tasks::Task;
use orcapack_tasks::admission::TrialKind;
use orcapack_tasks::{Defect, Defects};

use crate::cli::EvalArgs;
use crate::cluster_site::ClusterSite;
use crate::config::{AgentKind, RunConfig};
use crate::config_layers::Host;
use crate::embedded::Engines;
use crate::engine::{Engine, Site};
use crate::exit::{Exit, Failure};
use crate::metrics_log::{METRICS_EVERY, Metrics, MetricsWriter};
use crate::plan::Plan;
use crate::record::{self, Folders};
use crate::run_dir::{Opening, RunDir, TRAJECTORIES, Wanted};
use crate::run_kind::RunKind;
use crate::summary::{RunInfo, RunSummary, TaskInfo};
use crate::team_plan::TeamPlan;
use crate::under_way::Finished;
use crate::work::{Rollout, RunEnd};
use crate::{
    engine, memory, output, report, sandboxes, store_agents, store_rows, summary_rows, table,
    telemetry,
};

/// Of a table where there is no terminal: what fits a log.
const LOG_WIDTH: u16 = 120;

/// Reads and checks everything, then runs it; nothing is created before all of the input is known
/// to be good.
///
/// # Errors
/// See [`Exit`].
pub fn run(args: &EvalArgs, host: &Host) -> Result<Exit, Failure> {
    let plan = Plan::make(args, host)?;
    let rollouts = rollouts(&plan)?;
    plan.warn_of_defects();
    if !args.output.quiet {
        plan.tell_policy();
    }
    if args.run.dry_run {
        return plan.print(args.output.json);
    }
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(evaluate(args, &plan, rollouts, host))
}

/// Sample by sample over all tasks, so that every image is wanted early and its builds overlap with
/// rollouts.
fn rollouts(plan: &Plan) -> Result<Vec<Rollout>, Failure> {
    let kind = plan.config.agent.kind;
    let tasks: Vec<Arc<Task>> = plan.set.tasks.iter().cloned().map(Arc::new).collect();
    let lacking: Vec<Defect> = tasks
        .iter()
        .filter_map(|task| {
            let script = || format!("a task that agent `{}` has a script for", kind.as_str());
            let expected = match solver(kind, task, 0) {
                None => script(),
                Some(_) => plan.team.as_ref()?.lacking(task)?,
            };
            Some(Defect::new(&task.source, expected, "none"))
        })
        .collect();
    Defects(lacking).into_result(())?;
    let samples = 0..plan.config.rollouts.n_attempts;
    let rollouts = samples.flat_map(|sample| {
        tasks.iter().filter_map(move |task| {
            let agent = solver(kind, task, sample)?;
            Some(Rollout { task: task.clone(), agent })
        })
    });
    Ok(rollouts.collect())
}

/// Who solves sample number `sample` of a task; `None` where the task has no script for that agent.
fn solver(kind: AgentKind, task: &Task, sample: usize) -> Option<Solver> {
    let trial = match kind {
        AgentKind::Team => return Some(Solver::Team),
        AgentKind::Nop => TrialKind::Nop,
        AgentKind::Oracle => task.has_solution().then_some(TrialKind::Oracle)?,
        AgentKind::KnownBad => {
            let (name, _) = task.known_bad.get(sample.checked_rem(task.known_bad.len())?)?;
            TrialKind::KnownBad(name.clone())
        }
    };
    Some(Solver::Trial(trial))
}

async fn evaluate(
    args: &EvalArgs,
    plan: &Plan,
    rollouts: Vec<Rollout>,
    host: &Host,
) -> Result<Exit, Failure> {
    let config = &plan.config;
    let site = match &plan.cluster {
        None => Site::Here(sandboxes::choose(&config.sandbox).await?),
        Some(cluster) => {
            Site::Cluster(Box::new(ClusterSite::new(cluster.clone(), host.variables)?))
        }
    };
    let kind = RunKind::of_eval(config, &plan.tasks_digest());
    let toml = config.to_toml().map_err(|error| Failure::internal(error.to_string()))?;
    let RunConfig { name, runs_dir, .. } = &config.run;
    let wanted = Wanted { runs_dir, name, kind: &kind, config: &toml };
    let dir = RunDir::open(Opening::of(args.run.resume, args.run.clean), &wanted)?;
    let io = |error: std::io::Error| Failure::internal(error.to_string());
    telemetry::start_logs(Some(&dir.logs()), args.output.verbose).map_err(io)?;
    let metrics = Metrics::new();
    metrics.install().map_err(io)?;
    let metrics = MetricsWriter::start(metrics, &dir.metrics(), METRICS_EVERY).await.map_err(io)?;
    if let (Some(replaced), Site::Here(driver)) = (dir.replaced(), &site) {
        let scope = SweepScope::Run { run: replaced.to_owned(), except_incarnation: None };
        driver.sweep(&scope).await?;
    }
    let started = jiff::Timestamp::now();
    let planned = engine::planned(&rollouts);
    let sandbox = match &site {
        Site::Here(driver) => driver.name(),
        Site::Cluster(_) => "cluster",
    };
    let engine = Engine {
        config,
        team: plan.team.clone(),
        engines: &Engines::default(),
        site,
        weights: None,
        run_id: dir.id().to_owned(),
        ledger: dir.ledger(),
        folders: Some(Folders { trajectories: dir.folder(TRAJECTORIES)?, logs: dir.logs() }),
    };
    let silent = args.output.quiet || args.output.json;
    let progress = telemetry::progress_mode(silent, args.output.verbose);
    let finished = engine.run(rollouts, progress).await?;
    metrics.finish().await.map_err(io)?;
    let (attempts, results) = store_rows::read(&dir.ledger())?;
    let nodes = summary_rows::nodes(&attempts);
    let info = RunInfo { nodes, ..run_info(plan, sandbox, started, &finished)? };
    let tasks = plan.set.tasks.iter().map(task_info).collect();
    let trajectory = |rollout, attempt| {
        let path = format!("trajectories/{}", record::trajectory_name(rollout, attempt));
        dir.path().join(&path).is_file().then_some(path)
    };
    let agents = store_agents::read(&dir.ledger())?;
    let rows = summary_rows::rollouts(&planned, &attempts, &results, agents, trajectory);
    let summary = RunSummary::new(info, tasks, rows);
    let page = report::render(&summary).map_err(|error| Failure::internal(error.to_string()))?;
    std::fs::write(dir.report(), page).map_err(io)?;
    present(args, &dir, &summary, &finished)
}

fn present(
    args: &EvalArgs,
    dir: &RunDir,
    summary: &RunSummary,
    finished: &Finished,
) -> Result<Exit, Failure> {
    if args.output.json {
        output::print_json(summary)?;
    } else {
        let width = output::terminal_width().unwrap_or(LOG_WIDTH);
        output::print(&table::render(summary, width))?;
        output::print(&format!("report: {}\n", dir.report().display()))?;
    }
    if finished.swept != Default::default() {
        eprintln!("warning: the last sweep still had to remove {:?}", finished.swept);
    }
    if finished.end == RunEnd::Drained {
        let name = dir.path().file_name().unwrap_or_default().to_string_lossy();
        eprintln!("interrupted: `--name {name} --resume` runs what is missing");
        return Ok(Exit::Interrupted);
    }
    match summary.totals.outcomes.infrastructure_failed {
        0 => Ok(Exit::Done),
        _ => Ok(Exit::InfrastructureFailures),
    }
}

fn run_info(
    plan: &Plan,
    sandbox: &str,
    started: jiff::Timestamp,
    finished: &Finished,
) -> Result<RunInfo, Failure> {
    let config = &plan.config;
    let toml = config.to_toml().map_err(|error| Failure::internal(error.to_string()))?;
    Ok(RunInfo {
        name: config.run.name.clone(),
        dataset: config.run.dataset.display().to_string(),
        agent: config.agent.kind.as_str().into(),
        model: plan.team.as_ref().map(TeamPlan::models),
        sandbox: sandbox.into(),
        started,
        ended: jiff::Timestamp::now(),
        concurrent: config.rollouts.n_concurrent as u64,
        k: config.rollouts.n_attempts as u64,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        config: toml,
        environments_peak: finished.environments_peak,
        rss_bytes_peak: memory::resident_bytes_peak(),
        nodes: Vec::new(),
    })
}

fn task_info(task: &Task) -> TaskInfo {
    TaskInfo {
        name: task.name.clone(),
        difficulty: task.difficulty.clone(),
        category: task.category.clone(),
    }
}
