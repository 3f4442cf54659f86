//! The one shape that every task format is read into.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bincode::{Decode, Encode};

use crate::file_tree::{Digest, FileTree};

/// One terminal task: instruction, environment, hidden tests, and where there is one, a solution.
///
/// A task is whole once it exists: readers refuse what is missing, so nothing here is checked again
/// later.
#[derive(Clone, Debug, Encode, Decode)]
pub struct Task {
    /// Unique in its data set: `org/name` in Harbor's manner, or the name of the task's folder.
    pub name: String,
    /// Where it was read from: the task's folder, or the CSV file.
    pub source: PathBuf,
    pub format: Format,
    /// Of everything below: two tasks with one digest are the same task.
    pub digest: Digest,
    pub description: String,
    pub difficulty: Option<String>,
    pub category: Option<String>,
    pub tags: Vec<String>,
    pub environment: EnvironmentSpec,
    /// At least one; the single step of a plain task has an empty name.
    pub steps: Vec<Step>,
    pub reward_strategy: RewardStrategy,
    /// Plausible wrong solutions, which admission demands to fail: name and files, `solve.sh` among
    /// them.
    pub known_bad: Vec<(String, FileTree)>,
    /// Leave the agent's background processes alive for the verifier (default: all are stopped
    /// first).
    pub keep_processes: bool,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    Harbor,
    TerminalBench1,
    Orca,
}

/// The container that a task is solved in.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct EnvironmentSpec {
    pub image: ImageSource,
    pub build_timeout: Duration,
    /// Whole CPUs; `None` leaves it to the run's configuration.
    pub cpus: Option<f64>,
    pub memory_mb: Option<u64>,
    pub storage_mb: Option<u64>,
    pub env: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub network: NetworkPolicy,
    pub healthcheck: Option<Healthcheck>,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ImageSource {
    /// Build context; holds a `Dockerfile` at its root.
    Dockerfile(FileTree),
    /// The reference of a prebuilt image.
    Prebuilt(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum NetworkPolicy {
    /// Loopback only.
    None,
    Public,
}

/// Run until it exits with 0, before the agent starts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Healthcheck {
    pub command: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub start_period: Duration,
    pub start_interval: Duration,
    pub retries: u32,
}

#[derive(Clone, Debug, Encode, Decode)]
pub struct Step {
    pub name: String,
    pub instruction: String,
    pub agent: AgentSpec,
    pub verifier: VerifierSpec,
    /// `solve.sh` at its root. `None`: the format or the author gives no solution.
    pub solution: Option<Solution>,
    /// Put into the working directory, its `setup.sh` run there, before the agent starts.
    pub workdir_files: FileTree,
    pub healthcheck: Option<Healthcheck>,
    /// The steps after this one are only run when its reward is at least this.
    pub min_reward: Option<f64>,
    /// Paths in the environment that are copied over to a separate verifier, and kept in the run's
    /// directory.
    pub artifacts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AgentSpec {
    pub timeout: Duration,
    pub user: Option<String>,
}

#[derive(Clone, Debug, Encode, Decode)]
pub struct VerifierSpec {
    pub timeout: Duration,
    pub user: Option<String>,
    pub env: BTreeMap<String, String>,
    pub mode: VerifierMode,
    /// Uploaded to `/tests` after the agent has stopped.
    pub tests: FileTree,
    /// Run by `bash`, such as `/tests/test.sh`.
    pub script: String,
    pub grading: Grading,
    /// Run in the agent's environment before its artifacts are collected for a separate verifier.
    pub collect: Vec<Collect>,
}

#[derive(Clone, Debug, Encode, Decode)]
pub enum VerifierMode {
    /// In the agent's own container.
    Shared,
    /// In a fresh container: of the agent's image, or of an environment of its own.
    Separate(Option<Box<EnvironmentSpec>>),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Collect {
    pub command: String,
    pub timeout: Duration,
    pub user: Option<String>,
}

/// How the verifier's output becomes a reward.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Grading {
    /// `/logs/verifier/reward.json`, else `/logs/verifier/reward.txt`.
    RewardFile,
    /// The "short test summary info" of pytest on the script's standard output.
    /// With weights {test: weight}, summing to 1, a partial reward can be asked for.
    Pytest { weights: BTreeMap<String, f64> },
}

#[derive(Clone, Debug, Encode, Decode)]
pub struct Solution {
    pub files: FileTree,
    pub env: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RewardStrategy {
    Mean,
    Final,
}

impl Task {
    /// Whether the oracle agent can be asked to solve it.
    pub fn has_solution(&self) -> bool {
        self.steps.iter().all(|step| step.solution.is_some())
    }
}
