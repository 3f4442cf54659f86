//! The command line of `tasks generate`.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueHint, value_parser};

use orcapack_tasks::generate::{Difficulty, FAMILIES, Family, Split};

use crate::cli::OutputArgs;
use crate::config::SandboxDriver;

#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// How many, each another
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// The same seed makes the same tasks of a family, byte for byte, and asks a model for the same
    /// topics
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Only those of this difficulty
    #[arg(long, value_name = "NAME", value_parser = one_of(&Difficulty::NAMES))]
    pub difficulty: Option<Difficulty>,
    /// To learn from, or to measure with; the two have nothing in common
    #[arg(long, value_name = "NAME", default_value = "train", value_parser = one_of(&Split::NAMES))]
    #[arg(conflicts_with = "from_model")]
    pub split: Split,
    /// Folder for the task directories; made when absent, else empty, or begun by --from-model
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output: PathBuf,
    #[command(flatten)]
    pub writing: WritingArgs,
    #[command(flatten)]
    pub printing: OutputArgs,
}

/// Where the tasks come from.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct SourceArgs {
    /// Make tasks of this family
    #[arg(long, value_name = "NAME", value_parser = families())]
    pub family: Option<&'static Family>,
    /// Have a model write tasks, such as openai/gpt-5-mini, or replay/DIR of an earlier -o
    #[arg(long, value_name = "KIND/MODEL")]
    pub from_model: Option<String>,
}

/// How a model writes tasks.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Tasks that a model writes")]
pub struct WritingArgs {
    /// Another model that has the ideas
    #[arg(long, value_name = "KIND/MODEL", conflicts_with = "family")]
    pub idea_model: Option<String>,
    /// Another model that builds the tasks
    #[arg(long, value_name = "KIND/MODEL", conflicts_with = "family")]
    pub builder_model: Option<String>,
    /// Another model that reviews them
    #[arg(long, value_name = "KIND/MODEL", conflicts_with = "family")]
    pub reviewer_model: Option<String>,
    /// Topics to ask for, a line each [default: 40 of our own]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "family")]
    pub topics: Option<PathBuf>,
    /// Data set that no task may be like; may be repeated
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, conflicts_with = "family")]
    pub against: Vec<PathBuf>,
    /// Tasks whose instructions have a Jaccard index above it are too similar, 0 to 1 [default:
    /// 0.6]
    #[arg(long, value_name = "X", conflicts_with = "family")]
    pub similarity_max: Option<f64>,
    /// Times that one task may be mended [default: 5]
    #[arg(long, value_name = "N", conflicts_with = "family")]
    #[arg(value_parser = value_parser!(u32).range(0..=100))]
    pub patch_rounds: Option<u32>,
    /// Ideas until it is given up, those of earlier starts included [default: twice the count]
    #[arg(long, value_name = "N", conflicts_with = "family")]
    #[arg(value_parser = value_parser!(u32).range(1..=2_000_000))]
    pub ideas_max: Option<u32>,
    /// Tokens until it is given up, prompts included, those of earlier starts too [default: none]
    #[arg(long, value_name = "N", conflicts_with = "family")]
    pub tokens_max: Option<u64>,
    /// Of one answer [default: 16384]
    #[arg(long, value_name = "N", conflicts_with = "family")]
    #[arg(value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub answer_tokens_max: Option<u32>,
    /// Tasks that are written at once [default: 4]
    #[arg(short, long, value_name = "N", conflicts_with = "family")]
    #[arg(value_parser = value_parser!(u16).range(1..=1000))]
    pub n_concurrent: Option<u16>,
    /// Where they are tried [default: auto]
    #[arg(long, value_enum, value_name = "DRIVER", conflicts_with = "family")]
    pub sandbox: Option<SandboxDriver>,
    /// Configuration file, as of eval; flags and --set go over it
    #[arg(short, long, value_name = "FILE.toml", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "family")]
    pub config: Option<PathBuf>,
    /// One setting, by its key in the configuration, such as models.main.url; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "family")]
    pub set: Vec<String>,
}

fn families() -> impl TypedValueParser<Value = &'static Family> {
    let known = FAMILIES.iter().map(|family| PossibleValue::new(family.name).help(family.about));
    PossibleValuesParser::new(known).try_map(|name| {
        FAMILIES.iter().find(|family| family.name == name).ok_or("no family of this name")
    })
}

fn one_of<T: Copy + Send + Sync + 'static>(
    names: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names.iter().map(|(name, _)| *name)).try_map(|name| {
        let known = names.iter().find(|(known, _)| *known == name);
        known.map(|(_, value)| *value).ok_or("no such name")
    })
}

pub(crate) const GENERATE_HELP: &str = "\
Examples:
  orcapack tasks generate --family files --count 200 --seed 1 -o tasks/train
  orcapack tasks generate --family files --count 50 --split held-out --difficulty easy -o held-out
  orcapack tasks generate --from-model openai/gpt-5-mini --count 20 --against bench -o tasks/own
  orcapack tasks generate --from-model replay/tasks/own --count 20 --against bench -o tasks/again

Each is a task directory with hidden tests, a short solution and known-bad solutions, as `orcapack
tasks check` wants them. More of a family than there are distinct ones: exit code 2, and their
number.

With --from-model one model has ideas, builds tasks and reviews them; [models.idea],
[models.builder] and [models.reviewer] of the configuration, or the flags, give each part another
one. A task is in DIR only once it was admitted, is like no other, and was accepted; DIR/.rejected
holds the others with the reasons. DIR/pipeline.jsonl has every step: the same command goes on
where it was stopped. Exit code 0: as many as were asked for; 6: fewer.";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, TasksCommand};
    use crate::exit::Exit;

    fn parse(args: &[&str]) -> Result<GenerateArgs, clap::Error> {
        let line = ["orcapack", "tasks", "generate", "-o", "out", "--count", "3"];
        match Cli::try_parse_from(line.iter().chain(args))?.command {
            Command::Tasks(TasksCommand::Generate(args)) => Ok(*args),
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn tasks_come_from_a_family_or_from_a_model() {
        let args = parse(&["--family", "files", "--split", "held-out"]).expect("parses");
        assert_eq!(
            (args.source.family.map(|it| it.name), args.split),
            (Some("files"), Split::HeldOut)
        );
        let line = ["--from-model", "openai/m", "--against", "a", "--against", "b", "-n", "2"];
        let args = parse(&line).expect("parses");
        assert_eq!(args.source.from_model.as_deref(), Some("openai/m"));
        assert_eq!((args.writing.against.len(), args.writing.n_concurrent), (2, Some(2)));
    }

    #[test]
    fn what_belongs_to_the_other_source_is_refused() {
        for line in [
            &[][..],
            &["--family", "files", "--from-model", "openai/m"],
            &["--from-model", "openai/m", "--split", "held-out"],
            &["--family", "files", "--against", "a"],
            &["--family", "files", "--builder-model", "openai/m"],
            &["--family", "files", "-n", "2"],
            &["--from-model", "openai/m", "--patch-rounds", "101"],
            &["--from-model", "openai/m", "--count", "0"],
        ] {
            let error = parse(line).expect_err("refused");
            assert_eq!(error.exit_code(), i32::from(Exit::BadInput.code()), "{line:?}");
        }
    }
}
