//! The command line of `compare` and of `tasks curriculum`: what is done with runs that were made.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::exit::Exit;

#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// Directory of a run of eval; RUN@STEP, RUN@first or RUN@last: an evaluation of a run of
    /// train; NAME=RUN,RUN: several seeds of one arm
    #[arg(value_name = "RUN", required = true, value_hint = ValueHint::DirPath)]
    pub runs: Vec<String>,
    /// k of pass@k [default: the most that all have attempts for]
    #[arg(short = 'k', value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    pub k: Option<u64>,
    /// Write a report with a chart, one file that fetches nothing; one that is there is replaced
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output")]
    pub html: Option<PathBuf>,
    /// Print one JSON document on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct CurriculumArgs {
    /// Directories of runs of eval; several add up, in this order
    #[arg(value_name = "RUN", required = true, value_hint = ValueHint::DirPath)]
    pub runs: Vec<PathBuf>,
    /// Fewest passes of a task that is kept
    #[arg(long, value_name = "A", default_value_t = 1)]
    pub min: u32,
    /// Most passes
    #[arg(long, value_name = "B", default_value_t = 2)]
    pub max: u32,
    /// Attempts that are looked at: the first with a reward
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub of: u32,
    /// Not the tasks that are named here: a manifest, or a text file with a name on each line;
    /// may be repeated
    #[arg(short = 'x', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub exclude: Vec<PathBuf>,
    /// Name of the data set [default: that of the file]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Write the manifest there; what is there already is never replaced
    #[arg(short, long, value_name = "FILE.toml", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// Print one JSON document on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

pub(crate) fn compare_help() -> String {
    format!("{COMPARE_EXAMPLES}\n\n{}", Exit::table())
}

const COMPARE_EXAMPLES: &str = "\
Examples:
  orcapack compare runs/before runs/after              the second against the first
  orcapack compare runs/before runs/after -k 5 --html compare.html
  orcapack compare runs/nightly@first runs/nightly@20 runs/nightly@last
  orcapack compare warm=runs/w0,runs/w1 trained=runs/t0,runs/t1   two seeds each

Intervals are of 95%, by a bootstrap over tasks, for several runs of an arm over tasks and runs; the
same ledgers give the same figures. An arm with ! was measured under other conditions than the
first (concurrency, budgets, sampling, tasks, sandbox), or has not ended: notes say what differs.";

pub(crate) const CURRICULUM_HELP: &str = "\
Examples:
  orcapack tasks curriculum runs/base -o stage1.toml       stage 1: 1 to 2 passes of 3
  orcapack tasks curriculum runs/stage1 --min 1 --max 4 --of 5 -x stage1.toml -o stage2.toml
  orcapack train -d stage1.toml --base DIR

The manifest says where the tasks lie, relative to itself. Attempts that the infrastructure lost do
not count; a task with too few others is left out. No task in the band: exit code 2, and how many
tasks passed how often.";
