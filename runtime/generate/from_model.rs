//! Tasks that a model writes.

use std::cell::RefCell;

use tokio::sync::{Mutex, watch};

use crate::cli_generate::GenerateArgs;
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::generate::authors::Authors;
use crate::generate::folder::Folder;
use crate::generate::journal::Journal;
use crate::generate::pipeline::{End, Pipeline};
use crate::generate::plan::Plan;
use crate::generate::state::State;
use crate::signals::Signals;
use crate::{output, telemetry};

/// Reads and checks everything, then goes on from where the folder's journal ends.
///
/// # Errors
/// See [`Exit`].
pub fn generate(args: &GenerateArgs, model: &str, host: &Host) -> Result<Exit, Failure> {
    let plan = Plan::make(args, model, host)?;
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(write(args, &plan))
}

async fn write(args: &GenerateArgs, plan: &Plan) -> Result<Exit, Failure> {
    let printing = &args.printing;
    let folder = Folder::open(&plan.output)?;
    let (journal, lines) = Journal::open(folder.path())?;
    let (state, unfinished) = State::resume(plan, journal.path(), lines)?;
    telemetry::start_logs(None, printing.verbose)
        .map_err(|error| Failure::internal(error.to_string()))?;
    let mut signals = Signals::listen()?;
    let pipeline = Pipeline {
        plan,
        folder: &folder,
        authors: Authors::open(plan).await?,
        tells: !printing.quiet && !printing.json,
        journal: RefCell::new(journal),
        state: RefCell::new(state),
        ideas: Mutex::new(()),
        trials: Mutex::new(()),
        stop: watch::channel(false).0,
    };
    let ended = pipeline.run(unfinished, &mut signals).await;
    let tally = pipeline.state.into_inner().tally;
    if printing.json {
        output::print_json(&tally.json(folder.path()))?;
    } else {
        output::print(&tally.table())?;
    }
    Ok(match ended? {
        End::Interrupted => Exit::Interrupted,
        End::Done if tally.accepted() >= plan.count => Exit::Done,
        End::Done => Exit::Quarantined,
    })
}
