//! `orcapack tasks generate`: tasks of a family, or such as a model writes.

mod authors;
mod family;
mod folder;
mod from_model;
mod journal;
mod pipeline;
mod plan;
mod state;
mod tally;

use crate::cli_generate::{GenerateArgs, SourceArgs};
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};

/// # Errors
/// See [`Exit`].
pub fn run(args: &GenerateArgs, host: &Host) -> Result<Exit, Failure> {
    match &args.source {
        SourceArgs { family: Some(family), .. } => family::generate(args, family),
        SourceArgs { from_model: Some(model), .. } => from_model::generate(args, model, host),
        SourceArgs { family: None, from_model: None } => {
            Err(Failure::bad_input("tasks come from a --family, or --from-model"))
        }
    }
}
