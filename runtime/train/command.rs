//! `orcapack train`: a policy gets better at what its rollouts are rewarded for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orcapack_actors::sandbox::SweepScope;
use serde::Serialize;

use crate::cli_train::TrainArgs;
use crate::cluster_site::ClusterSite;
use crate::config::RunConfig;
use crate::config_layers::Host;
use crate::engine::Site;
use crate::exit::{Exit, Failure};
use crate::run_dir::{Opening, RunDir, Wanted};
use crate::summary::Share;
use crate::train::io;
use crate::train::metrics::{Evaluated, History};
use crate::train::plan::TrainPlan;
use crate::train::progress::held_out;
use crate::train::quick_start;
use crate::train::report::{self, About};
use crate::train::start;
use crate::train::training::Trained;
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
    let training = start::start(plan, &dir, site, mode, &|home| home).await?;
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
