//! `eval --policy`: which checkpoint is meant, and the team whose orchestrator it is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use orcapack_tasks::toml_doc::TomlDoc;
use orcapack_tasks::{Defect, Defects};
use orcapack_trainer::checkpoint::{self, CheckpointError};
use serde::de::IgnoredAny;

use crate::cli::EvalArgs;
use crate::compare::conditions::{Conditions, Difference};
use crate::config::{AgentKind, EvalConfig};
use crate::config_layers::path_value;
use crate::config_team::{MODEL_LITERAL, MODEL_MAIN, MODEL_POLICY};
use crate::run_dir::{CHECKPOINTS, CONFIG};

const FLAG: &str = "--policy";

/// A policy's directory, and why it is the one that was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    dir: PathBuf,
    /// The run that made it.
    run: Option<PathBuf>,
    is_newest: bool,
    /// Newer ones that are damaged.
    damaged: Vec<Defect>,
}

impl Named {
    /// What `DIR` or `RUN[@STEP]` stands for.
    ///
    /// # Errors
    /// There is no such policy.
    pub fn find(text: &str, working_dir: &Path) -> Result<Self, Defects> {
        let whole = working_dir.join(text);
        let at_step = text.rsplit_once('@').and_then(|(run, step)| Some((run, step.parse().ok()?)));
        match at_step {
            Some((run, step)) if !whole.exists() => Self::of_step(&working_dir.join(run), step),
            _ if whole.join(CHECKPOINTS).is_dir() => Self::newest(&whole),
            _ if whole.join("config.json").is_file() => {
                Ok(Self { run: run_of(&whole), dir: whole, is_newest: false, damaged: Vec::new() })
            }
            _ => Err(refuse(
                "a policy's directory (with config.json), or that of a run of train or sft (with \
                 checkpoints), or RUN@STEP",
                format!("`{text}`"),
            )),
        }
    }

    fn newest(run: &Path) -> Result<Self, Defects> {
        let newest = checkpoint::newest::<IgnoredAny>(&run.join(CHECKPOINTS)).map_err(unread)?;
        let (run, damaged) = (run.to_owned(), newest.damaged);
        match newest.checkpoint {
            Some(it) => Ok(Self { dir: it.dir, run: Some(run), is_newest: true, damaged }),
            None if damaged.is_empty() => {
                Err(refuse("a run with a checkpoint", format!("none in {}", run.display())))
            }
            None => Err(Defects(damaged)),
        }
    }

    fn of_step(run: &Path, step: u64) -> Result<Self, Defects> {
        let folder = run.join(CHECKPOINTS);
        let steps = checkpoint::steps(&folder).map_err(unread)?;
        if !steps.contains(&step) {
            let steps: Vec<String> = steps.iter().map(u64::to_string).collect();
            let there_are = if steps.is_empty() { "none".to_owned() } else { steps.join(", ") };
            let found = format!("step {step}; there are {there_are} in {}", run.display());
            return Err(refuse("the step of a checkpoint", found));
        }
        let dir = checkpoint::of_step::<IgnoredAny>(&folder, step)?.dir;
        Ok(Self { dir, run: Some(run.to_owned()), is_newest: false, damaged: Vec::new() })
    }

    /// Makes it the orchestrator. Roles stay as they are configured; those that nothing is said of,
    /// also by naming one model for all, do what they are told word by word.
    ///
    /// # Errors
    /// Another agent is asked for.
    pub fn play(&self, doc: &mut TomlDoc, args: &EvalArgs) -> Result<(), Defects> {
        if let Some(agent) = args.agent.filter(|agent| *agent != AgentKind::Team) {
            let found = format!("--agent {}", agent.as_str());
            return Err(refuse("agent `team`, whose orchestrator it is", found));
        }
        let mut settings = vec![
            ("agent.kind".to_owned(), AgentKind::Team.as_str().to_owned()),
            ("team.roles.orchestrator".to_owned(), MODEL_POLICY.to_owned()),
            (format!("models.{MODEL_POLICY}.kind"), "embedded".to_owned()),
            (format!("models.{MODEL_POLICY}.checkpoint"), path_value(&self.dir).to_string()),
        ];
        // A run that is resumed has models for all.
        if !args.run.resume {
            settings.extend(others(doc));
        }
        for (key, value) in settings {
            doc.set(FLAG, &key, &value)?;
        }
        Ok(())
    }

    /// What the run that trained it had otherwise: for each key, then and now.
    pub fn differences(&self, config: &EvalConfig) -> Vec<Difference> {
        let then = self.run.as_ref().and_then(|run| fs::read_to_string(run.join(CONFIG)).ok());
        let then: Option<toml::Table> = then.and_then(|text| text.parse().ok());
        let now = toml::Table::try_from(config).ok();
        let (Some(then), Some(now)) = (then, now) else { return Vec::new() };
        Conditions::of(&then).of_orchestrator(&Conditions::of(&now))
    }
}

/// Models for the roles that have none.
fn others(doc: &TomlDoc) -> Vec<(String, String)> {
    let root = doc.root();
    let models: Vec<String> =
        root.section_map("models").into_iter().map(|(name, _)| name).collect();
    let models: Vec<&str> =
        models.iter().map(String::as_str).filter(|it| *it != MODEL_POLICY).collect();
    let plays = match models[..] {
        [] => MODEL_LITERAL,
        [only] => only,
        // Which is meant is the configuration's matter, and told where it is not said.
        _ => MODEL_MAIN,
    };
    let roles = root.section("team").section("roles");
    let silent = ["explorer", "coder"].into_iter().filter(|role| !roles.has(role));
    let mut settings: Vec<(String, String)> =
        silent.map(|role| (format!("team.roles.{role}"), plays.to_owned())).collect();
    if models.is_empty() && !settings.is_empty() {
        settings.push((format!("models.{MODEL_LITERAL}.kind"), MODEL_LITERAL.to_owned()));
    }
    settings
}

/// That of a checkpoint.
fn run_of(checkpoint: &Path) -> Option<PathBuf> {
    let folder = checkpoint.parent()?;
    let is_checkpoints = folder.file_name().is_some_and(|name| name == CHECKPOINTS);
    is_checkpoints.then(|| folder.parent().map(Path::to_owned)).flatten()
}

fn refuse(expected: &str, found: String) -> Defects {
    Defect::new(Path::new(FLAG), expected, found).into()
}

fn unread(error: CheckpointError) -> Defects {
    refuse("checkpoints that can be read", error.to_string())
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dir.display())?;
        if let (true, Some(run)) = (self.is_newest, &self.run) {
            write!(f, ", the newest of {}", run.display())?;
        }
        for defect in &self.damaged {
            write!(f, "\nwarning: a checkpoint is damaged, and left out: {defect}")?;
        }
        Ok(())
    }
}
