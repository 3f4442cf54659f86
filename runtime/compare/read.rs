//! From the directories of runs to what is compared.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use orcapack_tasks::Defect;
use orcapack_tasks::dataset::{self, LoadOptions};
use toml::Table;

use crate::compare::asked::{Asked, AskedRun, At};
use crate::compare::conditions::{Conditions, model_of};
use crate::compare::evaluations::{Evaluation, Evaluations};
use crate::compare::figures::{Arm, Run, Tally, TaskKey};
use crate::exit::Failure;
use crate::past_run::PastRun;
use crate::run_dir::CHECKPOINTS;

/// The categories of tasks, by data set. One that is not there any more has none.
#[derive(Default)]
pub struct Families(BTreeMap<PathBuf, BTreeMap<String, String>>);

/// # Errors
/// A run that cannot be read, is of another kind, or has no such evaluation.
pub fn arm(asked: &Asked, families: &mut Families) -> Result<Arm, Failure> {
    let runs =
        asked.runs.iter().map(|asked| run(asked, families)).collect::<Result<Vec<_>, _>>()?;
    let first = runs.first().map(|run| run.label.clone()).unwrap_or_default();
    Ok(Arm { name: asked.name.clone().unwrap_or(first), runs })
}

fn run(asked: &AskedRun, families: &mut Families) -> Result<Run, Failure> {
    let run = PastRun::read(&asked.dir)?;
    let refuse =
        |expected: &str, found: String| Err(Defect::new(&asked.dir, expected, found).into());
    match (run.command.as_str(), asked.at) {
        ("eval", None) => {
            let (label, policy) = (run.name.clone(), policy(&run.config));
            let dataset = run.path("run.dataset")?;
            Ok(of(&run, label, policy, 0..u32::MAX, families.of(&dataset)))
        }
        ("eval", Some(_)) => refuse("no @STEP, of a run of eval", "one".to_owned()),
        ("train", Some(at)) => {
            let Evaluation { step, rollouts } = evaluation(&run, at)?;
            let label = format!("{}@{step}", run.name);
            let policy = format!("team, {} after step {step}", run.name);
            let dataset = run.path("evaluation.dataset")?;
            Ok(of(&run, label, policy, rollouts, families.of(&dataset)))
        }
        ("train", None) => {
            let expected =
                "an evaluation of a run of train: @first, @last or @STEP behind its path";
            refuse(expected, "none".to_owned())
        }
        (other, _) => refuse("a run of eval or train", format!("one of {other}")),
    }
}

fn evaluation(run: &PastRun, at: At) -> Result<Evaluation, Failure> {
    let steps = run.count("train.steps", STEPS_MAX)?;
    let every = run.count("evaluation.every_steps", u64::MAX)?;
    let attempts = run.count("evaluation.n_attempts", ATTEMPTS_MAX)? as u32;
    let tasks = run.planned.iter().map(|(id, planned)| (*id, planned.task.as_str())).collect();
    let evaluations = Evaluations::find(&tasks, steps, every, attempts);
    let has_begun = |id: u32| run.planned.contains_key(&id);
    let found = evaluations.at(at, has_begun, |id| run.ended.contains_key(&id));
    found.map_err(|found| Defect::new(&run.dir, "an evaluation at that step", found).into())
}

/// More than a run can have rollouts for.
const STEPS_MAX: u64 = 20_000_000;
const ATTEMPTS_MAX: u64 = 1_000_000;

fn of(
    run: &PastRun,
    label: String,
    policy: String,
    rollouts: Range<u32>,
    families: &BTreeMap<String, String>,
) -> Run {
    let mut conditions = Conditions::of(&run.config);
    let nodes: Vec<&str> = run.nodes.iter().map(String::as_str).collect();
    conditions.put("nodes", nodes.join(", "));
    let tasks = run.tried(rollouts).into_iter().map(|(name, tried)| {
        let tally = Tally {
            category: families.get(&name).cloned(),
            planned: tried.planned as u64,
            scored: tried.scored.len() as u64,
            passed: tried.passed() as u64,
            lost: tried.lost as u64,
        };
        (TaskKey { name, digest: tried.digest }, tally)
    });
    Run { label, policy, conditions, tasks: tasks.collect() }
}

/// Who was measured, in a few words.
fn policy(config: &Table) -> String {
    let text = |table: &Table, key: &str| Some(table.get(key)?.as_str()?.to_owned());
    let agent = config.get("agent").and_then(|agent| text(agent.as_table()?, "kind"));
    let agent = agent.unwrap_or_default();
    let Some(model) = model_of(config, "orchestrator").filter(|_| agent == "team") else {
        return agent;
    };
    let kind = text(model, "kind").unwrap_or_default();
    let who = text(model, "checkpoint")
        .map(|checkpoint| checkpoint_of(Path::new(&checkpoint)))
        .or_else(|| text(model, "model"))
        .unwrap_or(kind);
    format!("{agent}, {who}")
}

/// `RUN/step_40` of a run's checkpoint, else the directory's name.
fn checkpoint_of(dir: &Path) -> String {
    let names = dir.components().rev().filter_map(|part| part.as_os_str().to_str());
    match names.take(3).collect::<Vec<_>>()[..] {
        [step, CHECKPOINTS, run] => format!("{run}/{step}"),
        [name, ..] => name.to_owned(),
        [] => String::new(),
    }
}

impl Families {
    fn of(&mut self, dataset: &Path) -> &BTreeMap<String, String> {
        self.0.entry(dataset.to_owned()).or_insert_with(|| {
            let options = LoadOptions { lookup: &|name| std::env::var(name).ok() };
            let found = dataset::roots(dataset).and_then(|roots| dataset::search(&roots, &options));
            match found {
                Ok(set) => {
                    let tasks = set.tasks.into_iter();
                    tasks.filter_map(|task| Some((task.name, task.category?))).collect()
                }
                Err(defects) => {
                    eprintln!("warning: the families of tasks are not known: {defects}");
                    BTreeMap::new()
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_measured_is_told_in_a_few_words() {
        let team = |model: &str| {
            format!("agent.kind = 'team'\nteam.roles.orchestrator = 'x'\nmodels.x = {{ {model} }}")
        };
        for (config, expected) in [
            ("agent.kind = 'oracle'".to_owned(), "oracle"),
            (team("kind = 'openai', model = 'gpt-5-mini'"), "team, gpt-5-mini"),
            (team("kind = 'solution'"), "team, solution"),
            (
                team("kind = 'embedded', checkpoint = '/r/warm/checkpoints/step_960'"),
                "team, warm/step_960",
            ),
            (team("kind = 'embedded', checkpoint = '/policies/small'"), "team, small"),
        ] {
            assert_eq!(policy(&config.parse().unwrap()), expected);
        }
    }
}
