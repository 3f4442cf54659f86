//! `orcapack tasks generate`: tasks of a family, made from a seed.

use std::fs;
use std::path::Path;

use orcapack_tasks::generate::{Order, TooMany};
use orcapack_tasks::{Defect, Defects};

use crate::cli::GenerateArgs;
use crate::exit::{Exit, Failure};
use crate::output;

/// Writes a folder for each task. Nothing is written unless all of them can be made.
///
/// # Errors
/// More than there are, a folder with something in it, or one that cannot be written.
pub fn generate(args: &GenerateArgs) -> Result<Exit, Failure> {
    let GenerateArgs { family, count, seed, difficulty, split, ref output } = *args;
    let order = Order { family, difficulty, split, count, seed };
    let instances = order.instances().map_err(|TooMany { there_are }| {
        let expected = format!("at most {there_are}, of which each is another");
        Failure::bad_input(format!("--count: expected {expected}, found {count}"))
    })?;
    demand_empty(output).map_err(Defects::from)?;
    for instance in &instances {
        instance.write(output)?;
    }
    let written = output::plural(instances.len(), "task");
    output::print(&format!("{written} written to {}\n", output.display()))?;
    Ok(Exit::Done)
}

fn demand_empty(output: &Path) -> Result<(), Defect> {
    let expected = "an empty folder, or none yet";
    match fs::read_dir(output) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Defect::new(output, expected, "something in it")),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Defect::new(output, expected, error.to_string())),
    }
}
