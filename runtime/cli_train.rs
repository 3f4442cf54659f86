//! The command line of `train`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::cli::{OutputArgs, RunArgs};
use crate::cli_cluster::OnCluster;
use crate::config::SandboxDriver;
use crate::exit::Exit;

#[derive(Args, Clone, Debug, Default)]
pub struct TrainArgs {
    /// Tasks to train on: a folder of tasks, a manifest, such as a curriculum, or an Orca CSV file
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    #[arg(help_heading = "Tasks")]
    pub dataset: Option<PathBuf>,
    /// Tasks to measure with, before, under way and after
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, help_heading = "Tasks")]
    pub held_out: Option<PathBuf>,
    /// Policy that is trained: a Hugging Face directory, such as a checkpoint of `sft`
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Training")]
    pub base: Option<PathBuf>,
    /// Steps of the optimizer [default: 100]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub steps: Option<u64>,
    /// Of the order of the tasks; in the quick start, of everything [default: 0]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub seed: Option<u64>,
    /// Rollouts that run at once [default: 16]
    #[arg(short, long, value_name = "N", help_heading = "Rollouts")]
    pub n_concurrent: Option<u64>,
    /// Where the tasks' environments run [default: auto]
    #[arg(long, value_enum, value_name = "DRIVER", help_heading = "Rollouts")]
    pub sandbox: Option<SandboxDriver>,
    #[command(flatten)]
    pub on: OnCluster,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl TrainArgs {
    /// Whether nothing says what is to be trained, so that it is the quick start.
    pub fn is_quick_start(&self) -> bool {
        let is_given = self.dataset.is_some() || self.base.is_some() || self.run.config.is_some();
        !is_given && !self.run.resume && self.on.cluster.is_none()
    }
}

pub(crate) fn train_help() -> String {
    format!("{EXAMPLES}\n\n{}", Exit::table())
}

const EXAMPLES: &str = "\
Examples:
  orcapack train                                   the quick start: see below
  orcapack train -d tasks/train --held-out tasks/held-out --base runs/warm/checkpoints/step_1008
  orcapack train -c run.toml --set train.lr=1e-6 --set ranks.count=2
  orcapack train --name nightly --resume           goes on where it was killed
  orcapack train -d tasks --base DIR --dry-run > run.toml    all settings, to be edited
  orcapack train -c run.toml --cluster cluster.toml          rollouts and ranks on its nodes

The quick start needs no input, no network and no GPU: it generates tasks, has a demonstrator solve
them, often wrongly on purpose, teaches a small policy that by `sft`, and then trains the policy on
the rewards of its own rollouts alone. What it can do before and after is measured on tasks that
were never trained on. --seed, --set and --sandbox change it.

The run directory runs/NAME holds the effective configuration, the ledger (SQLite), trajectories,
metrics.jsonl with a line for each step, checkpoints/step_N, logs and report.html.";
