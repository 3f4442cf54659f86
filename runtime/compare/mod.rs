//! `orcapack compare`: runs beside each other, out of their ledgers.
//!
//! Reading ([`read`]) and showing ([`text`], [`page`], [`chart`]) are apart from what is computed
//! ([`figures`], [`bootstrap`], [`conditions`], [`evaluations`]), which is pure.

pub mod asked;
pub mod bootstrap;
mod chart;
pub mod conditions;
pub mod evaluations;
pub mod figures;
mod page;
mod read;
mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use orcapack_tasks::{Defect, Defects};

use crate::cli_compare::CompareArgs;
use crate::compare::asked::Asked;
use crate::compare::figures::{Arm, Report};
use crate::compare::read::Families;
use crate::exit::{Exit, Failure};
use crate::output;

/// # Errors
/// A run that cannot be read, is of another kind, or has no such evaluation; two arms of one name;
/// a page that cannot be written.
pub fn run(args: &CompareArgs) -> Result<Exit, Failure> {
    let mut defects = Defects::default();
    let mut asked = Vec::new();
    for text in &args.runs {
        match Asked::parse(text) {
            Ok(arm) => asked.push(arm),
            Err(found) => {
                let expected = "RUN, RUN@STEP, RUN@first, RUN@last, or NAME=RUN,RUN";
                defects.0.push(Defect::new(Path::new(text), expected, found));
            }
        }
    }
    let asked = defects.into_result(asked)?;
    let mut families = Families::default();
    let arms = asked.iter().map(|asked| read::arm(asked, &mut families));
    let arms = arms.collect::<Result<Vec<_>, _>>()?;
    are_told_apart(&arms)?;
    let report = Report::of(&arms, args.k);
    if let Some(file) = &args.html {
        let page = page::render(&report).map_err(|error| Failure::internal(error.to_string()))?;
        fs::write(file, page)
            .map_err(|error| Failure::bad_input(format!("{}: {error}", file.display())))?;
    }
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&text::render(&report, output::terminal_width()))?;
    }
    Ok(Exit::Done)
}

fn are_told_apart(arms: &[Arm]) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    match arms.iter().find(|arm| !names.insert(&arm.name)) {
        None => Ok(()),
        Some(arm) => {
            let message =
                format!("expected a name for each arm, as in NAME=RUN, found two `{}`", arm.name);
            Err(Failure::bad_input(message))
        }
    }
}
