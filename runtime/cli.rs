//! The command line: what can be asked for, and the texts that explain it.
//!
//! Parsing only: [`crate::config_layers`] makes settings over the configuration of `eval`'s flags.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};

use crate::cli_cluster::{ClusterCommand, NodeArgs, OnCluster, StatusArgs};
use crate::cli_compare::{CURRICULUM_HELP, CompareArgs, CurriculumArgs, compare_help};
use crate::cli_generate::{GENERATE_HELP, GenerateArgs};
use crate::cli_serve::{SERVE_HELP, ServeArgs};
use crate::cli_sft::{SftArgs, sft_help};
use crate::cli_train::{TrainArgs, train_help};
use crate::config::{AgentKind, SandboxDriver, SelectConfig};
use crate::exit::Exit;

/// An actor-model runtime for massive parallel rollouts of agents over terminal tasks.
#[derive(Debug, Parser)]
#[command(name = "orcapack", version, after_help = Exit::table(), max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an agent over tasks, k attempts each, and report rewards and pass@k
    #[command(after_help = eval_help())]
    Eval(EvalArgs),
    /// Train a policy on the rewards of its own rollouts; without input, the quick start
    #[command(after_help = train_help())]
    Train(TrainArgs),
    /// Serve a policy over HTTP, in the protocols of OpenAI and vLLM
    #[command(after_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// Teach a policy what orchestrators said in rollouts that passed
    #[command(after_help = sft_help())]
    Sft(SftArgs),
    /// Compare runs of eval: pass rates with intervals, and task by task
    #[command(after_help = compare_help())]
    Compare(CompareArgs),
    /// Be a node of a cluster, or drain one
    Node(NodeArgs),
    /// Show the nodes of a cluster: slots, phases, leases, and what they wait for
    Status(StatusArgs),
    /// Make a cluster, and say who belongs to it
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// List, admit and import tasks
    #[command(subcommand)]
    Tasks(TasksCommand),
    /// Check whether this machine can run rollouts, and say what to do where it cannot
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Remove what killed runs left behind: containers, networks, volumes, control groups, folders
    #[command(after_help = GC_HELP)]
    Gc(GcArgs),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions { shell: clap_complete::Shell },
}

/// Where tasks come from and which of them are meant.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Tasks")]
pub struct SelectArgs {
    /// Data set: a folder of tasks, with or without a manifest, a manifest that says where its
    /// tasks lie, or an Orca CSV file
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub dataset: Option<PathBuf>,
    /// A single task's folder, or a folder of tasks
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    #[arg(conflicts_with = "dataset")]
    pub path: Option<PathBuf>,
    /// Only tasks whose name matches; may be repeated [also: -i, --include]
    #[arg(short = 't', long = "task", short_alias = 'i', alias = "include", value_name = "GLOB")]
    pub include: Vec<String>,
    /// Not the tasks whose name matches; may be repeated
    #[arg(short = 'x', long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Only tasks with this tag; may be repeated, one match is enough
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Only tasks of this difficulty; may be repeated
    #[arg(long = "difficulty", value_name = "NAME")]
    pub difficulties: Vec<String>,
    /// Only tasks of this category; may be repeated
    #[arg(long = "category", value_name = "NAME")]
    pub categories: Vec<String>,
    /// At most this many tasks, the first by name
    #[arg(short = 'l', long, value_name = "N")]
    pub n_tasks: Option<u64>,
}

impl SelectArgs {
    /// Which tasks are meant, without where they come from.
    pub fn as_config(&self) -> SelectConfig {
        SelectConfig {
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            tags: self.tags.clone(),
            difficulties: self.difficulties.clone(),
            categories: self.categories.clone(),
            n_tasks: self.n_tasks.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        }
    }
}

/// What is printed, and how much.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print the result as one JSON document on standard output, and no progress
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Log to standard error too; twice for debug messages
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
}

/// A run's directory, and where its settings come from: of every command that makes runs.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// Name of the run, which is its directory's name [default: time, and agent or command]
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    pub name: Option<String>,
    /// Folder that holds the run directories [default: runs]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Run")]
    pub runs_dir: Option<PathBuf>,
    /// Continue the run of this name: only what is missing is run
    #[arg(long, conflicts_with = "clean", help_heading = "Run")]
    pub resume: bool,
    /// Delete the run of this name first
    #[arg(long, help_heading = "Run")]
    pub clean: bool,
    /// Configuration file; flags and --set go over it
    #[arg(short, long, value_name = "FILE.toml", value_hint = ValueHint::FilePath)]
    #[arg(help_heading = "Run")]
    pub config: Option<PathBuf>,
    /// One setting, by its key in the configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Run")]
    pub set: Vec<String>,
    /// Read and check everything, print the effective configuration and its input, run nothing
    #[arg(long, help_heading = "Run")]
    pub dry_run: bool,
}

#[derive(Args, Clone, Debug, Default)]
pub struct EvalArgs {
    #[command(flatten)]
    pub select: SelectArgs,
    /// Who solves the tasks [default: oracle]
    #[arg(short, long, value_enum, value_name = "AGENT", help_heading = "Rollouts")]
    pub agent: Option<AgentKind>,
    /// Model of all roles of a team, such as openai/gpt-5-mini, embedded/POLICY_DIRECTORY, or
    /// replay/RUN_DIRECTORY
    #[arg(short, long, value_name = "KIND/MODEL", help_heading = "Rollouts")]
    pub model: Option<String>,
    /// Orchestrator of a team: a policy's directory, or a run that trained one, whose newest
    /// checkpoint is taken, or with @STEP that of a step
    #[arg(long, value_name = "CHECKPOINT", value_hint = ValueHint::DirPath)]
    #[arg(conflicts_with = "model", help_heading = "Rollouts")]
    pub policy: Option<String>,
    /// Rollouts that run at once [default: 4]
    #[arg(short, long, value_name = "N", help_heading = "Rollouts")]
    pub n_concurrent: Option<u64>,
    /// Attempts at each task, k in pass@k [default: 1]
    #[arg(short = 'k', long, value_name = "K", help_heading = "Rollouts")]
    pub n_attempts: Option<u64>,
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

#[derive(Debug, Subcommand)]
pub enum TasksCommand {
    /// List tasks, and what is wrong with those that cannot be read
    #[command(after_help = TASKS_LIST_HELP)]
    List {
        #[command(flatten)]
        select: SelectArgs,
        /// Print one JSON document on standard output
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
    /// Admit or quarantine tasks: doing nothing must fail, the solution must pass 3 times of 3
    #[command(after_help = TASKS_CHECK_HELP)]
    Check(CheckArgs),
    /// Convert tasks of another format into task directories
    #[command(after_help = TASKS_IMPORT_HELP)]
    Import(ImportArgs),
    /// Keep the tasks that a run passed at times, by its ledger: what is worth training on
    #[command(after_help = CURRICULUM_HELP)]
    Curriculum(CurriculumArgs),
    /// Make small tasks: of a family, from a seed, or such as a model writes
    #[command(after_help = GENERATE_HELP)]
    Generate(Box<GenerateArgs>),
}

#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub select: SelectArgs,
    /// Where the tasks' environments run [default: auto]
    #[arg(long, value_enum, value_name = "DRIVER", help_heading = "Rollouts")]
    pub sandbox: Option<SandboxDriver>,
    /// Rollouts that run at once [default: 4]
    #[arg(short, long, value_name = "N", help_heading = "Rollouts")]
    pub n_concurrent: Option<u64>,
    /// Write a manifest of the admitted tasks with their digests
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(help_heading = "Output")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub printing: OutputArgs,
}

#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// CSV file of the Orca data set, a Terminal-Bench 1 task, or a folder of such tasks
    #[arg(value_name = "SRC", value_hint = ValueHint::AnyPath)]
    pub source: PathBuf,
    /// Folder for the task directories; made when absent
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Rollouts that are to run at once; limits are checked against it
    #[arg(short, long, value_name = "N", default_value_t = 4)]
    pub n_concurrent: u64,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct GcArgs {
    /// Say what would be removed, remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Remove the images that were built for tasks' environments too
    #[arg(long)]
    pub images: bool,
    /// Remove what is not past its deadline too, also under a run that is alive
    #[arg(long)]
    pub all: bool,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

fn eval_help() -> String {
    format!(
        "Examples:\n  \
         orcapack eval -p tasks/hello                    one task, its own solution\n  \
         orcapack eval -d tasks -a oracle -n 16 -k 3     three attempts each, 16 at once\n  \
         orcapack eval -d tasks -t 'git-*' -x '*-slow'   by name; quote globs\n  \
         orcapack eval -d tasks --set sandbox.cpus=2 --set retries.image=0\n  \
         orcapack eval -d tasks -a team -m openai/gpt-5-mini --set models.main.temperature=0.2\n  \
         orcapack eval -d tasks -a team -m replay/runs/nightly   the same answers once more\n  \
         orcapack eval -d tasks -a team -m embedded/policies/small   sampled in this process\n  \
         orcapack eval -d held-out --policy runs/nightly@40   a checkpoint as orchestrator\n  \
         orcapack eval -c eval.toml --name nightly       settings from a file, flags over them\n  \
         orcapack eval --name nightly --resume           only what is missing\n  \
         orcapack eval -d tasks --cluster cluster.toml   on the nodes of a cluster\n  \
         orcapack eval -d tasks --dry-run > eval.toml    all settings, to be edited\n\n\
         The run directory runs/NAME holds the effective configuration, the ledger (SQLite),\n\
         trajectories, metrics, logs and report.html.\n\n\
         Models: openai (any server of its protocol), vllm, sglang, anthropic, replay, embedded\n\
        (a policy's directory; on a cluster, each node looks for it at the same path). -m gives\n\
        all roles one; tables [models.NAME] and [team.roles] of a file give each its own. Keys\n\
        are $OPENAI_API_KEY, $ANTHROPIC_API_KEY, or what api_key names; see README.md.\n\n{}",
        Exit::table()
    )
}

const TASKS_LIST_HELP: &str = "\
Examples:
  orcapack tasks list -d tasks
  orcapack tasks list -d tasks.csv --difficulty hard --json

Faulty tasks are listed after the good ones, each with file, line, key, expected and found; the exit
code is then 2, so that a script sees them.";

const TASKS_CHECK_HELP: &str = "\
Examples:
  orcapack tasks check -d tasks
  orcapack tasks check -d tasks -n 16 -o tasks/dataset.toml   eval then uses the admitted ones

Exit code 0: all admitted; 6: some quarantined, each with the reason.";

const TASKS_IMPORT_HELP: &str = "\
Examples:
  orcapack tasks import orca.csv -o tasks/orca
  orcapack tasks import terminal-bench/tasks -o tasks/tb1

A task directory that exists already is not overwritten.";

const DOCTOR_HELP: &str = "\
Examples:
  orcapack doctor
  orcapack doctor -n 256 --json

Exit code 0: nothing failed (warnings do not count); 4: something did.";

const GC_HELP: &str = "\
Examples:
  orcapack gc --dry-run      what is left over
  orcapack gc                what is past its deadline: safe beside live runs
  orcapack gc --all --images everything with our labels, and the built images

Only what carries Orcapack's labels is ever touched.";

const COMPLETIONS_HELP: &str = "\
Examples:
  orcapack completions bash > /etc/bash_completion.d/orcapack
  orcapack completions zsh > ~/.zfunc/_orcapack
  orcapack completions fish > ~/.config/fish/completions/orcapack.fish";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn eval(args: &[&str]) -> Result<EvalArgs, clap::Error> {
        let line = ["orcapack", "eval"].iter().chain(args);
        match Cli::try_parse_from(line)?.command {
            Command::Eval(args) => Ok(args),
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn harbor_flags_and_their_aliases_mean_the_same() {
        let line = ["-d", "ds", "-t", "a*", "-i", "b*", "--include", "c*", "-x", "d", "-l", "5"];
        let args = eval(&line).expect("parses");
        assert_eq!(args.select.include, ["a*", "b*", "c*"]);
        assert_eq!(args.select.exclude, ["d"]);
        assert_eq!(args.select.n_tasks, Some(5));

        let args = eval(&["-p", "t", "-a", "known-bad", "-n", "8", "-k", "3"]).expect("parses");
        assert_eq!(args.agent, Some(AgentKind::KnownBad));
        assert_eq!((args.n_concurrent, args.n_attempts), (Some(8), Some(3)));
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for line in [
            &["--resume", "--clean"][..],
            &["-d", "a", "-p", "b"],
            &["-q", "-v"],
            &["-a", "human"],
            &["-n", "-1"],
        ] {
            let error = eval(line).expect_err("refused");
            assert_eq!(error.exit_code(), i32::from(Exit::BadInput.code()), "{line:?}");
        }
    }

    #[test]
    fn help_teaches_examples_and_exit_codes() {
        let mut command = Cli::command();
        let eval = command.find_subcommand_mut("eval").expect("exists");
        let help = eval.render_help().to_string();
        assert!(help.contains("orcapack eval --name nightly --resume"), "{help}");
        assert!(help.contains("130  interrupted"), "{help}");
    }
}
