//! The command line of `sft`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::cli::{OutputArgs, RunArgs};
use crate::exit::Exit;

#[derive(Args, Clone, Debug, Default)]
pub struct SftArgs {
    /// Run to learn from, or a folder of ATIF trajectories; may be repeated
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Data")]
    pub from: Vec<PathBuf>,
    /// Policy that learns: a Hugging Face directory, such as a run's checkpoint
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Policy")]
    pub base: Option<PathBuf>,
    /// A new policy of random weights, with a vocabulary made from the data; [policy.new] sizes it
    #[arg(long, conflicts_with = "base", help_heading = "Policy")]
    pub new: bool,
    /// Times that each sample is seen [default: 3]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub epochs: Option<f64>,
    /// Peak learning rate [default: 1e-5, of a new policy 4e-3]
    #[arg(long, value_name = "RATE", help_heading = "Training")]
    pub lr: Option<f64>,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn sft_help() -> String {
    format!("{EXAMPLES}\n\n{}", Exit::table())
}

const EXAMPLES: &str = "\
Examples:
  orcapack sft --from runs/demo --new --name warm            a small policy from nothing
  orcapack sft --from runs/demo --base Qwen3-0.6B --set lora.rank=16
  orcapack sft --name warm --resume                          goes on where it was killed
  orcapack sft --from runs/demo --new --dry-run > sft.toml   all settings, to be edited
  orcapack eval -d tasks -a team -m embedded/runs/warm/checkpoints/step_300

Only what the orchestrator said is learnt, of finished rollouts with data.reward_min or more.
The run directory runs/NAME holds the effective configuration, metrics.jsonl with a line for each
step, logs, and checkpoints/step_N, each a Hugging Face directory.";
