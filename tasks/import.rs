//! Writes a task of any format as a Harbor 1.4 directory.
//!
//! Harbor's reward is a file that the tests write; where a task is graded by pytest's summary instead, a
//! `tests/test.sh` is added that runs the task's own script and writes the file: 1 when every test passed, else 0.
//! Weights of tests have no place in the format and are left behind.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::defect::{Defect, Defects};
use crate::file_tree::FileTree;
use crate::harbor::{CONFIG_FILE, SCHEMA_VERSION};
use crate::task::{
    EnvironmentSpec, Format, Grading, Healthcheck, ImageSource, NetworkPolicy, RewardStrategy,
    Step, Task, VerifierMode, VerifierSpec,
};

const TEST_SCRIPT: &str = "test.sh";

/// Writes `task` to `dir`, which must not be there yet. On an error nothing is left at `dir`.
///
/// `${VAR}`s in environment variables have been resolved when the task was read, and are written as their values.
pub fn write(task: &Task, dir: &Path) -> Result<(), Defects> {
    if dir.symlink_metadata().is_ok() {
        return Err(Defect::new(dir, "a folder that is not there yet", "one that is").into());
    }
    let files = files(task, dir)?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let partial = dir.with_file_name(format!(".{name}.partial"));
    let written = write_files(&files, &partial).and_then(|()| fs::rename(&partial, dir));
    written.map_err(|error| {
        let _ = fs::remove_dir_all(&partial);
        Defect::new(dir, "a folder that can be written", error.to_string()).into()
    })
}

fn write_files(files: &FileTree, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (path, entry) in files.iter() {
        let path = dir.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, entry.read()?)?;
        let mode = if entry.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    // Harbor wants the folder, also where the image is a prebuilt one.
    fs::create_dir_all(dir.join("environment"))
}

fn files(task: &Task, dir: &Path) -> Result<FileTree, Defects> {
    let mut files = FileTree::default();
    files.insert(CONFIG_FILE, config(task, dir)?.as_bytes(), false);
    if let ImageSource::Dockerfile(context) = &task.environment.image {
        add(&mut files, "environment", context);
    }
    for step in &task.steps {
        let prefix =
            if step.name.is_empty() { String::new() } else { format!("steps/{}/", step.name) };
        files.insert(format!("{prefix}instruction.md"), step.instruction.as_bytes(), false);
        add(&mut files, &format!("{prefix}tests"), &tests(&step.verifier, dir)?);
        if let Some(solution) = &step.solution {
            add(&mut files, &format!("{prefix}solution"), &solution.files);
        }
        add(&mut files, &format!("{prefix}workdir"), &step.workdir_files);
    }
    for (name, tree) in &task.known_bad {
        if let Some(script) = tree.get("solve.sh") {
            files.insert_entry(format!("known-bad/{name}.sh"), script.clone());
        }
    }
    Ok(files)
}

fn add(files: &mut FileTree, folder: &str, tree: &FileTree) {
    for (path, entry) in tree.iter() {
        files.insert_entry(format!("{folder}/{path}"), entry.clone());
    }
}

fn tests(verifier: &VerifierSpec, dir: &Path) -> Result<FileTree, Defects> {
    let mut tests = verifier.tests.clone();
    if verifier.grading == Grading::RewardFile {
        return Ok(tests);
    }
    if tests.get(TEST_SCRIPT).is_some() {
        let expected = "no test.sh among the tests of a task that is graded by pytest's summary";
        return Err(Defect::new(dir, expected, "one").into());
    }
    tests.insert(TEST_SCRIPT, pytest_script(&verifier.script).as_bytes(), true);
    Ok(tests)
}

fn pytest_script(script: &str) -> String {
    format!(
        r#"#!/bin/bash
# The reward is 1 when pytest's summary has passed tests and no others, else 0.
mkdir -p /logs/verifier
bash {script} 2>&1 | tee /logs/verifier/output.txt
awk '
  /short test summary info/ {{ summary = 1; passed = 0; others = 0; next }}
  summary && /^PASSED / {{ passed++ }}
  summary && /^(FAILED|ERROR|SKIPPED|XFAIL|XPASS) / {{ others++ }}
  END {{ print (passed > 0 && others == 0) ? 1 : 0 }}
' /logs/verifier/output.txt > /logs/verifier/reward.txt
"#
    )
}

fn config(task: &Task, dir: &Path) -> Result<String, Defects> {
    let several = task.steps.iter().any(|step| !step.name.is_empty());
    let single = task.steps.first().filter(|_| !several);
    let solution = task.steps.iter().find_map(|step| step.solution.as_ref());
    let config = TaskToml {
        schema_version: SCHEMA_VERSION,
        artifacts: single.map(|step| step.artifacts.as_slice()).unwrap_or_default(),
        multi_step_reward_strategy: match task.reward_strategy {
            RewardStrategy::Mean => None,
            RewardStrategy::Final => Some("final"),
        },
        task: About {
            name: match task.format {
                _ if task.name.contains('/') => Some(task.name.clone()),
                Format::Harbor => None,
                Format::TerminalBench1 => Some(format!("terminal-bench/{}", task.name)),
                Format::Orca => Some(format!("orca/{}", task.name)),
            },
            description: &task.description,
        },
        metadata: Metadata {
            difficulty: task.difficulty.as_deref(),
            category: task.category.as_deref(),
            tags: &task.tags,
            oracle: (!task.has_solution()).then_some("absent"),
            orcapack: task.keep_processes.then_some(Ours { keep_processes: true }),
        },
        environment: environment(&task.environment),
        agent: single.map(agent),
        verifier: single.map(|step| verifier(&step.verifier)),
        solution: solution
            .filter(|solution| !solution.env.is_empty())
            .map(|solution| SolutionToml { env: &solution.env }),
        steps: if several { task.steps.iter().map(step).collect() } else { Vec::new() },
    };
    refuse_templates(task, dir)?;
    toml::to_string(&config)
        .map_err(|error| Defect::new(dir, "a task that TOML can hold", error.to_string()).into())
}

/// The format has no way to write a `${` in an environment variable as itself.
fn refuse_templates(task: &Task, dir: &Path) -> Result<(), Defects> {
    let own = |verifier: &VerifierSpec| match &verifier.mode {
        VerifierMode::Separate(Some(own)) => own.env.clone(),
        VerifierMode::Separate(None) | VerifierMode::Shared => BTreeMap::new(),
    };
    let mut envs = vec![task.environment.env.clone()];
    for step in &task.steps {
        envs.extend([step.verifier.env.clone(), own(&step.verifier)]);
        envs.extend(step.solution.as_ref().map(|solution| solution.env.clone()));
    }
    let defects =
        envs.iter().flatten().filter(|(_, value)| value.contains("${")).map(|(name, _)| {
            Defect::new(dir, "no `${` in an environment variable's value", "one").at_key(name)
        });
    Defects(defects.collect()).into_result(())
}

#[derive(Serialize)]
struct TaskToml<'a> {
    schema_version: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    artifacts: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_step_reward_strategy: Option<&'a str>,
    task: About<'a>,
    metadata: Metadata<'a>,
    environment: EnvironmentToml<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<AgentToml<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verifier: Option<VerifierToml<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    solution: Option<SolutionToml<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<StepToml<'a>>,
}

#[derive(Serialize)]
struct About<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    difficulty: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    oracle: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    orcapack: Option<Ours>,
}

#[derive(Serialize)]
struct Ours {
    keep_processes: bool,
}

#[derive(Serialize)]
struct EnvironmentToml<'a> {
    build_timeout_sec: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    docker_image: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workdir: Option<&'a str>,
    network_mode: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<HealthcheckToml<'a>>,
}

#[derive(Serialize)]
struct HealthcheckToml<'a> {
    command: &'a str,
    interval_sec: f64,
    timeout_sec: f64,
    start_period_sec: f64,
    start_interval_sec: f64,
    retries: u32,
}

#[derive(Serialize)]
struct AgentToml<'a> {
    timeout_sec: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

#[derive(Serialize)]
struct VerifierToml<'a> {
    timeout_sec: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    environment_mode: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentToml<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    collect: Vec<CollectToml<'a>>,
}

#[derive(Serialize)]
struct CollectToml<'a> {
    command: &'a str,
    timeout_sec: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

#[derive(Serialize)]
struct SolutionToml<'a> {
    env: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct StepToml<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_reward: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    artifacts: &'a [String],
    agent: AgentToml<'a>,
    verifier: VerifierToml<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<HealthcheckToml<'a>>,
}

fn environment(spec: &EnvironmentSpec) -> EnvironmentToml<'_> {
    EnvironmentToml {
        build_timeout_sec: seconds(spec.build_timeout),
        docker_image: match &spec.image {
            ImageSource::Prebuilt(image) => Some(image),
            ImageSource::Dockerfile(_) => None,
        },
        cpus: spec.cpus,
        memory_mb: spec.memory_mb,
        storage_mb: spec.storage_mb,
        workdir: spec.workdir.as_deref(),
        network_mode: match spec.network {
            NetworkPolicy::None => "no-network",
            NetworkPolicy::Public => "public",
        },
        env: &spec.env,
        healthcheck: spec.healthcheck.as_ref().map(healthcheck),
    }
}

fn healthcheck(check: &Healthcheck) -> HealthcheckToml<'_> {
    HealthcheckToml {
        command: &check.command,
        interval_sec: seconds(check.interval),
        timeout_sec: seconds(check.timeout),
        start_period_sec: seconds(check.start_period),
        start_interval_sec: seconds(check.start_interval),
        retries: check.retries,
    }
}

fn agent(step: &Step) -> AgentToml<'_> {
    AgentToml { timeout_sec: seconds(step.agent.timeout), user: step.agent.user.as_deref() }
}

fn verifier(spec: &VerifierSpec) -> VerifierToml<'_> {
    let collect = spec.collect.iter().map(|collect| CollectToml {
        command: &collect.command,
        timeout_sec: seconds(collect.timeout),
        user: collect.user.as_deref(),
    });
    let (environment_mode, environment) = match &spec.mode {
        VerifierMode::Shared => ("shared", None),
        VerifierMode::Separate(own) => ("separate", own.as_deref().map(environment)),
    };
    VerifierToml {
        timeout_sec: seconds(spec.timeout),
        user: spec.user.as_deref(),
        environment_mode,
        env: &spec.env,
        environment,
        collect: collect.collect(),
    }
}

fn step(step: &Step) -> StepToml<'_> {
    StepToml {
        name: &step.name,
        min_reward: step.min_reward,
        artifacts: &step.artifacts,
        agent: agent(step),
        verifier: verifier(&step.verifier),
        healthcheck: step.healthcheck.as_ref().map(healthcheck),
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
