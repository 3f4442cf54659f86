//! The digest of a task: the same on every machine, whatever its name and wherever it lies.

use serde_json::{Value, json};

use crate::file_tree::{Digest, FileTree};
use crate::task::{
    EnvironmentSpec, Grading, Healthcheck, ImageSource, NetworkPolicy, RewardStrategy, Step, Task,
    VerifierMode, VerifierSpec,
};

/// SHA-256 over a JSON text of all that a task holds but its name, source and format; files by
/// their digests.
pub fn of(task: &Task) -> Digest {
    let known_bad: Vec<Value> =
        task.known_bad.iter().map(|(name, files)| json!([name, tree(files)])).collect();
    let whole = json!({
        "description": task.description,
        "difficulty": task.difficulty,
        "category": task.category,
        "tags": task.tags,
        "environment": environment(&task.environment),
        "steps": task.steps.iter().map(step).collect::<Vec<_>>(),
        "reward_strategy": match task.reward_strategy {
            RewardStrategy::Mean => "mean",
            RewardStrategy::Final => "final",
        },
        "known_bad": known_bad,
        "keep_processes": task.keep_processes,
    });
    Digest::of(whole.to_string().as_bytes())
}

fn tree(files: &FileTree) -> String {
    files.digest().to_string()
}

fn environment(spec: &EnvironmentSpec) -> Value {
    json!({
        "image": match &spec.image {
            ImageSource::Dockerfile(context) => json!({ "context": tree(context) }),
            ImageSource::Prebuilt(image) => json!({ "prebuilt": image }),
        },
        "build_timeout": spec.build_timeout.as_secs_f64(),
        "cpus": spec.cpus,
        "memory_mb": spec.memory_mb,
        "storage_mb": spec.storage_mb,
        "env": spec.env,
        "workdir": spec.workdir,
        "network": match spec.network {
            NetworkPolicy::None => "none",
            NetworkPolicy::Public => "public",
        },
        "healthcheck": spec.healthcheck.as_ref().map(healthcheck),
    })
}

fn healthcheck(check: &Healthcheck) -> Value {
    json!({
        "command": check.command,
        "interval": check.interval.as_secs_f64(),
        "timeout": check.timeout.as_secs_f64(),
        "start_period": check.start_period.as_secs_f64(),
        "start_interval": check.start_interval.as_secs_f64(),
        "retries": check.retries,
    })
}

fn step(step: &Step) -> Value {
    json!({
        "name": step.name,
        "instruction": step.instruction,
        "agent": [json!(step.agent.timeout.as_secs_f64()), json!(step.agent.user)],
        "verifier": verifier(&step.verifier),
        "solution": step.solution.as_ref().map(|solution| {
            json!({ "files": tree(&solution.files), "env": solution.env })
        }),
        "workdir": tree(&step.workdir_files),
        "healthcheck": step.healthcheck.as_ref().map(healthcheck),
        "min_reward": step.min_reward,
        "artifacts": step.artifacts,
    })
}

fn verifier(spec: &VerifierSpec) -> Value {
    let collect = spec
        .collect
        .iter()
        .map(|collect| json!([collect.command, collect.timeout.as_secs_f64(), collect.user]));
    json!({
        "timeout": spec.timeout.as_secs_f64(),
        "user": spec.user,
        "env": spec.env,
        "mode": match &spec.mode {
            VerifierMode::Shared => json!("shared"),
            VerifierMode::Separate(None) => json!("separate"),
            VerifierMode::Separate(Some(own)) => environment(own),
        },
        "tests": tree(&spec.tests),
        "script": spec.script,
        "grading": match &spec.grading {
            Grading::RewardFile => json!("reward_file"),
            Grading::Pytest { weights } => json!({ "pytest": weights }),
        },
        "collect": collect.collect::<Vec<_>>(),
    })
}
