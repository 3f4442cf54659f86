//! A `task.toml` as it is written: the tables of Harbor 1.4 in the order in which people read them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::harbor::SCHEMA_VERSION;
use crate::task::{
    EnvironmentSpec, Format, Healthcheck, ImageSource, NetworkPolicy, RewardStrategy, Step, Task,
    VerifierMode, VerifierSpec,
};

/// What `task.toml` is to hold for a task of any format.
pub(crate) fn of(task: &Task) -> TaskToml<'_> {
    let several = task.steps.iter().any(|step| !step.name.is_empty());
    let single = task.steps.first().filter(|_| !several);
    let solution = task.steps.iter().find_map(|step| step.solution.as_ref());
    TaskToml {
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
    }
}

#[derive(Serialize)]
pub(crate) struct TaskToml<'a> {
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
