//! Tasks of a family, made from a seed.

use std::fs;
use std::path::Path;

use orcapack_tasks::generate::{Family, Order, TooMany};
use orcapack_tasks::{Defect, Defects};
use serde::Serialize;

use crate::cli_generate::GenerateArgs;
use crate::exit::{Exit, Failure};
use crate::output;

#[derive(Serialize)]
struct Written<'a> {
    folder: &'a Path,
    tasks: Vec<&'a str>,
}

/// Writes a folder for each task. Nothing is written unless all of them can be made.
///
/// # Errors
/// More than there are, a folder with something in it, or one that cannot be written.
pub fn generate(args: &GenerateArgs, family: &'static Family) -> Result<Exit, Failure> {
    let GenerateArgs { count, seed, difficulty, split, ref output, .. } = *args;
    let order = Order { family, difficulty, split, count: count as usize, seed };
    let instances = order.instances().map_err(|TooMany { there_are }| {
        let expected = format!("at most {there_are}, of which each is another");
        Failure::bad_input(format!("--count: expected {expected}, found {count}"))
    })?;
    demand_empty(output).map_err(Defects::from)?;
    for instance in &instances {
        instance.write(output)?;
    }
    if args.printing.json {
        let tasks = instances.iter().map(|instance| instance.name.as_str()).collect();
        output::print_json(&Written { folder: output, tasks })?;
    } else {
        let written = output::plural(instances.len(), "task");
        output::print(&format!("{written} written to {}\n", output.display()))?;
    }
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
