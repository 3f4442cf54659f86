//! Where a configuration comes from: defaults, the run to resume, TOML file, `--set`, flags.
//!
//! The later goes over the earlier. File, `--set` and flags are one document, so that a value is
//! judged once and a fault names the place that a user must mend: a file's line, or an argument.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use orcapack_tasks::toml_doc::TomlDoc;
use orcapack_tasks::{Defect, Defects};

use crate::cli::{EvalArgs, RunArgs};
use crate::config::{AgentKind, EvalConfig};
use crate::config_models::{self, KeySource};
use crate::config_team::MODEL_MAIN;
use crate::policy_flag::Named;
use crate::run_dir;
use crate::secrets::Variables;
use crate::team_plan::TeamPlan;

/// What defaults depend on.
#[derive(Clone, Debug)]
pub struct Host {
    pub cpus: usize,
    pub cache_dir: PathBuf,
    pub working_dir: PathBuf,
    pub now: jiff::Zoned,
    /// Where `${NAME}` is looked up.
    pub variables: Variables,
}

/// What a command line and its files come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub config: EvalConfig,
    /// Of agent `team`, and of no other.
    pub team: Option<TeamPlan>,
    /// Where `--policy` has named one.
    pub policy: Option<Named>,
}

impl Host {
    /// This machine, now. The cache is `$ORCAPACK_CACHE`, else a folder in the user's own cache.
    pub fn this() -> Self {
        let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let cache_dir = set("ORCAPACK_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("orcapack")))
            .or_else(|| set("HOME").map(|dir| dir.join(".cache/orcapack")))
            .unwrap_or_else(|| env::temp_dir().join("orcapack-cache"));
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cache_dir,
            working_dir: env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            now: jiff::Zoned::now(),
            variables: |name| env::var(name).ok(),
        }
    }
}

/// The effective configuration of `eval`, or everything that is wrong with it. `slots` is the room
/// of the cluster that it is for, all of which is used unless less is asked for.
pub fn load(args: &EvalArgs, host: &Host, slots: Option<usize>) -> Result<Loaded, Defects> {
    let mut doc = layered(&args.run, flags(args))?;
    let mut base = EvalConfig::defaults(host.cpus, host.cache_dir.clone());
    base.rollouts.n_concurrent = slots.unwrap_or(base.rollouts.n_concurrent);
    let base = if args.run.resume { resumed(&doc, base)? } else { base };
    let policy = args.policy.as_deref().map(|text| Named::find(text, &host.working_dir));
    let policy = policy.transpose()?;
    if let Some(policy) = &policy {
        policy.play(&mut doc, args)?;
    }
    let wrong_model = args.model.as_ref().and_then(|model| set_model(&mut doc, model).err());
    let mut config = EvalConfig::of(&doc.root(), base);
    if let (Some(model), true) = (&args.model, config.agent.kind != AgentKind::Team) {
        let expected = format!("no model: agent `{}` uses none", config.agent.kind.as_str());
        return Err(Defect::new(Path::new("--model"), expected, format!("`{model}`")).into());
    }
    // Without it the team would be said to have none.
    Defects(wrong_model.into_iter().collect()).into_result(())?;
    complete(&mut config, host);
    let team = TeamPlan::make(&doc.root(), &config, host.variables);
    doc.finish(Loaded { config, team, policy })
}

/// One document of a file, what `--set` says over it, and over that the flags: those of every run,
/// and a command's own.
pub(crate) fn layered(run: &RunArgs, flags: Vec<Flag>) -> Result<TomlDoc, Defects> {
    let mut defects = Vec::new();
    let mut doc = document(run.config.as_deref(), "a readable file").unwrap_or_else(|found| {
        defects.extend(found.0);
        empty()
    });
    for setting in &run.set {
        defects.extend(apply_setting(&mut doc, setting).err());
    }
    for (flag, key, value) in run_flags(run).into_iter().chain(flags) {
        defects.extend(doc.set(flag, key, &value.to_string()).err());
    }
    // What is left of a broken document would be judged for what it lacks.
    Defects(defects).into_result(doc)
}

/// What depends on the machine and the moment.
pub(crate) fn complete(config: &mut EvalConfig, host: &Host) {
    if config.run.name.is_empty() {
        let time = host.now.strftime("%Y-%m-%d_%H-%M-%S");
        config.run.name = format!("{time}-{}", config.agent.kind.as_str());
    }
    config.run.dataset = host.working_dir.join(&config.run.dataset);
    config.sandbox.cache_dir = host.working_dir.join(&config.sandbox.cache_dir);
    for model in config.models.values_mut() {
        if let Some(run) = &mut model.run {
            *run = host.working_dir.join(&*run);
        }
        if let Some(policy) = &mut model.policy
            && !policy.checkpoint.as_os_str().is_empty()
        {
            policy.checkpoint = host.working_dir.join(&policy.checkpoint);
        }
        let account = model.account_variable();
        match (&mut model.key, account) {
            (Some(KeySource::File(file)), _) => *file = host.working_dir.join(&*file),
            (Some(KeySource::Variable(_)), _) => {}
            (key @ None, Some(name)) => {
                let set = (host.variables)(name).is_some_and(|value| !value.is_empty());
                *key = set.then(|| KeySource::Variable(name.to_owned()));
            }
            (None, None) => {}
        }
    }
}

/// `--model KIND/MODEL`: the model of all roles.
fn set_model(doc: &mut TomlDoc, text: &str) -> Result<(), Defect> {
    const FLAG: &str = "--model";
    let given = doc.root().section_map("models");
    if let Some((name, _)) = given.iter().find(|(_, section)| section.has("kind")) {
        let expected = "no models in the configuration beside it";
        return Err(Defect::new(Path::new(FLAG), expected, format!("[models.{name}]")));
    }
    name_model(doc, FLAG, MODEL_MAIN, text)
}

/// A flag says KIND/MODEL of the table `[models.NAME]`.
pub(crate) fn name_model(
    doc: &mut TomlDoc,
    flag: &'static str,
    name: &str,
    text: &str,
) -> Result<(), Defect> {
    let (kind, key, rest) = config_models::parse_short(text).map_err(|found| {
        let expected = "KIND/MODEL, such as openai/gpt-5-mini, vllm/Qwen/Qwen3-14B or \
                        anthropic/claude-sonnet-4-5, replay/RUN_DIRECTORY, or \
                        embedded/POLICY_DIRECTORY";
        Defect::new(Path::new(flag), expected, found)
    })?;
    // As TOML, so that a model that is called `7` is no number.
    let rest = toml::Value::from(rest).to_string();
    doc.set(flag, &format!("models.{name}.kind"), kind.as_str())?;
    doc.set(flag, &format!("models.{name}.{key}"), &rest)
}

/// The configuration that the run to resume was made with.
fn resumed(doc: &TomlDoc, defaults: EvalConfig) -> Result<EvalConfig, Defects> {
    EvalConfig::read(run_document(doc, &defaults.run.runs_dir)?, defaults)
}

/// The configuration of the run that `doc` names.
pub(crate) fn run_document(doc: &TomlDoc, runs_dir: &Path) -> Result<TomlDoc, Defects> {
    let run = doc.root().section("run");
    let Some(name) = run.opt_string("name") else {
        let defect = Defect::new(Path::new("--resume"), "the run to resume: --name NAME", "none");
        return Err(defect.at_key("run.name").into());
    };
    let runs_dir = run.opt_string("runs_dir").map_or(runs_dir.to_owned(), PathBuf::from);
    let file = runs_dir.join(name).join(run_dir::CONFIG);
    document(Some(&file), "the configuration of the run to resume")
}

fn document(file: Option<&Path>, expected: &str) -> Result<TomlDoc, Defects> {
    let Some(file) = file else { return Ok(empty()) };
    let text =
        fs::read_to_string(file).map_err(|error| Defect::new(file, expected, error.to_string()))?;
    TomlDoc::parse(file, &text)
}

/// A document without a file; what it lacks is the command line's fault.
fn empty() -> TomlDoc {
    TomlDoc::parse(Path::new("command line"), "").unwrap_or_else(|_| unreachable!("empty TOML"))
}

fn apply_setting(doc: &mut TomlDoc, setting: &str) -> Result<(), Defect> {
    match setting.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
            doc.set("--set", key.trim(), value.trim())
        }
        _ => {
            let expected = "KEY=VALUE, such as sandbox.cpus=2";
            Err(Defect::new(Path::new("--set"), expected, format!("`{setting}`")))
        }
    }
}

/// Its name, its key, its value.
pub(crate) type Flag = (&'static str, &'static str, toml::Value);

fn run_flags(run: &RunArgs) -> Vec<Flag> {
    given([
        ("--name", "run.name", run.name.clone().map(toml::Value::from)),
        ("--runs-dir", "run.runs_dir", run.runs_dir.as_deref().map(path_value)),
    ])
}

pub(crate) fn path_value(path: &Path) -> toml::Value {
    toml::Value::from(path.to_string_lossy().into_owned())
}

/// Those with a value.
pub(crate) fn given<const N: usize>(
    flags: [(&'static str, &'static str, Option<toml::Value>); N],
) -> Vec<Flag> {
    flags.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value?))).collect()
}

/// The flags of `eval` that were given.
fn flags(args: &EvalArgs) -> Vec<Flag> {
    let select = &args.select;
    let number = |n: u64| toml::Value::from(i64::try_from(n).unwrap_or(i64::MAX));
    let list = |items: &[String]| {
        let items = (!items.is_empty()).then(|| items.to_vec());
        items.map(toml::Value::from)
    };
    given([
        ("--dataset", "run.dataset", select.dataset.as_deref().map(path_value)),
        ("--path", "run.dataset", select.path.as_deref().map(path_value)),
        ("--task", "select.include", list(&select.include)),
        ("--exclude", "select.exclude", list(&select.exclude)),
        ("--tag", "select.tags", list(&select.tags)),
        ("--difficulty", "select.difficulties", list(&select.difficulties)),
        ("--category", "select.categories", list(&select.categories)),
        ("--n-tasks", "select.n_tasks", select.n_tasks.map(number)),
        ("--agent", "agent.kind", args.agent.map(|kind| kind.as_str().into())),
        ("--n-concurrent", "rollouts.n_concurrent", args.n_concurrent.map(number)),
        ("--n-attempts", "rollouts.n_attempts", args.n_attempts.map(number)),
        ("--sandbox", "sandbox.driver", args.sandbox.map(|driver| driver.as_str().into())),
    ])
}

#[cfg(test)]
#[path = "config_tests.rs"]
pub(crate) mod tests;
