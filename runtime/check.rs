//! `orcapack tasks check`: admits or quarantines tasks on trials that are really run.
//!
//! Every task is tried by nobody, by its own solution three times, and by each of its known wrong
//! solutions; the rule over the outcomes is [`orcapack_tasks::admission`]'s. The
//! [trials](crate::trials) of all tasks run side by side.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use orcapack_tasks::admission::{self, Admission, Trial};
use orcapack_tasks::dataset::DataSet;
use orcapack_tasks::manifest::Manifest;
use orcapack_tasks::{Defect, Defects, Task};
use serde::Serialize;

use crate::cli::{CheckArgs, EvalArgs};
use crate::config::EvalConfig;
use crate::config_layers::{self, Host};
use crate::exit::{Exit, Failure};
use crate::trials::{self, Bench, Done, Planned};
use crate::{output, tasks_command, telemetry};

/// What was found out about one task.
#[derive(Debug, Serialize)]
struct Checked {
    task: String,
    admitted: bool,
    trials: usize,
    /// Why it is quarantined.
    reasons: Vec<String>,
}

#[derive(Debug, Serialize)]
struct CheckedSet {
    admitted: usize,
    quarantined: usize,
    tasks: Vec<Checked>,
}

/// # Errors
/// See [`Exit`].
pub fn run(args: &CheckArgs, host: &Host) -> Result<Exit, Failure> {
    let config = config_layers::load(&as_eval(args), host, None)?.config;
    let set = tasks_command::load(&config.run.dataset, &config.select)?;
    if set.tasks.is_empty() {
        return Err(Failure::bad_input(tasks_command::defects_text(&set.defects)));
    }
    let manifest = args.output.as_deref().map(|file| free_path(file).map(|()| file)).transpose()?;
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::internal(format!("starting the event loop: {error}")))?;
    let tasks: Vec<Arc<Task>> = set.tasks.iter().cloned().map(Arc::new).collect();
    let planned: Vec<Planned> = tasks.iter().flat_map(trials::of).collect();
    let Some(done) = runtime.block_on(try_all(args, &config, &planned))? else {
        return Ok(Exit::Interrupted);
    };
    let mut checked = judge(&tasks, &planned, &done);
    checked.extend(unreadable(&set));
    if let Some(file) = manifest {
        write_manifest(file, set, &checked)?;
    }
    present(args, checked)
}

/// The configuration layers are `eval`'s; a check has no run directory and sets no agent.
fn as_eval(args: &CheckArgs) -> EvalArgs {
    EvalArgs {
        select: args.select.clone(),
        sandbox: args.sandbox,
        n_concurrent: args.n_concurrent,
        ..EvalArgs::default()
    }
}

/// A manifest that is there may be somebody's work: it is not written over.
fn free_path(file: &Path) -> Result<(), Failure> {
    if fs::symlink_metadata(file).is_ok() {
        let defect = Defect::new(file, "a path where nothing is yet", "a file");
        return Err(Defects::from(defect).into());
    }
    Ok(())
}

async fn try_all(
    args: &CheckArgs,
    config: &EvalConfig,
    planned: &[Planned],
) -> Result<Option<Vec<Done>>, Failure> {
    telemetry::start_logs(None, args.printing.verbose)
        .map_err(|error| Failure::internal(error.to_string()))?;
    let silent = args.printing.quiet || args.printing.json;
    let bench = Bench {
        config,
        run_id: format!("check-{}", std::process::id()),
        progress: telemetry::progress_mode(silent, args.printing.verbose),
        log_chars_max: None,
    };
    bench.run(planned).await
}

fn judge(tasks: &[Arc<Task>], planned: &[Planned], done: &[Done]) -> Vec<Checked> {
    let verdict = |task: &Arc<Task>| {
        let is_own = |done: &&Done| {
            planned.get(done.planned).is_some_and(|planned| Arc::ptr_eq(&planned.task, task))
        };
        let own = done.iter().filter(is_own).map(|done| done.trial.clone());
        let own: Vec<Trial> = own.collect();
        let reasons = match admission::admit(&admission::trials(task), &own) {
            Admission::Admitted => Vec::new(),
            Admission::Quarantined(reasons) => reasons.iter().map(ToString::to_string).collect(),
        };
        let admitted = reasons.is_empty();
        Checked { task: task.name.clone(), admitted, trials: own.len(), reasons }
    };
    tasks.iter().map(verdict).collect()
}

/// A task that cannot be read cannot be admitted.
fn unreadable(set: &DataSet) -> impl Iterator<Item = Checked> {
    set.defects.iter().map(|(task, defects)| Checked {
        task: task.clone(),
        admitted: false,
        trials: 0,
        reasons: defects.0.iter().map(ToString::to_string).collect(),
    })
}

fn write_manifest(file: &Path, mut set: DataSet, checked: &[Checked]) -> Result<(), Failure> {
    let admitted = |task: &Task| checked.iter().any(|it| it.admitted && it.task == task.name);
    set.tasks.retain(admitted);
    let io = |error: std::io::Error| Failure::bad_input(format!("{}: {error}", file.display()));
    let manifest = Manifest::of(&set).map_err(io)?;
    fs::write(file, manifest.to_toml()).map_err(io)
}

fn present(args: &CheckArgs, tasks: Vec<Checked>) -> Result<Exit, Failure> {
    let admitted = tasks.iter().filter(|task| task.admitted).count();
    let set = CheckedSet { admitted, quarantined: tasks.len() - admitted, tasks };
    if args.printing.json {
        output::print_json(&set)?;
    } else {
        let rows = set.tasks.iter().map(|task| {
            let verdict = if task.admitted { "admitted" } else { "quarantined" };
            let reasons = task.reasons.join("; ");
            [task.task.clone(), task.trials.to_string(), verdict.to_owned(), reasons]
        });
        let header = ["task", "trials", "verdict", "reasons"];
        output::print(&output::table(header, rows, output::terminal_width()))?;
        output::print(&format!("{} admitted, {} quarantined\n", set.admitted, set.quarantined))?;
    }
    Ok(if set.quarantined == 0 { Exit::Done } else { Exit::Quarantined })
}
