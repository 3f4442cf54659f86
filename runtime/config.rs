//! The configuration of `eval`: every key, its unit, its default and its range.
//!
//! [`EvalConfig::read`] lays what a TOML document says over a base, within the ranges of
//! `config_read.rs`; [`EvalConfig::to_toml`] writes the effective configuration, and that reads
//! back as itself. Where the layers come from is [`crate::config_layers`]'s matter.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use orcapack_tasks::FailureClass;
use serde::{Serialize, Serializer};

use crate::config_models::ModelConfig;
use crate::config_team::TeamConfig;

/// Everything that one `eval` run needs to know.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalConfig {
    pub run: RunConfig,
    pub select: SelectConfig,
    pub agent: AgentConfig,
    pub rollouts: RolloutConfig,
    pub sandbox: SandboxConfig,
    pub timeouts: TimeoutConfig,
    pub retries: RetryLimits,
    /// Of agent `team`.
    pub team: TeamConfig,
    /// By the names that roles call them by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, ModelConfig>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunConfig {
    /// Name of the run and of its directory: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Folder of the run directories.
    pub runs_dir: PathBuf,
    /// A folder of tasks, a single task, a manifest or a CSV file. Absolute once loaded.
    pub dataset: PathBuf,
}

/// Which tasks of the data set are meant. Empty lists select all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SelectConfig {
    /// Globs over task names; one match is enough.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    /// One common tag is enough.
    pub tags: Vec<String>,
    pub difficulties: Vec<String>,
    pub categories: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_tasks: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AgentConfig {
    pub kind: AgentKind,
    /// Waits this long before it solves: stands in for a model's thinking time in load tests.
    #[serde(rename = "think_sec", serialize_with = "seconds")]
    pub think: Duration,
}

/// Who solves the tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AgentKind {
    /// Runs the task's own solution
    #[default]
    Oracle,
    /// Does nothing
    Nop,
    /// Runs the task's known wrong solutions, which must fail
    KnownBad,
    /// An orchestrator with explorers and coders, played by models
    Team,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RolloutConfig {
    /// Rollouts that run at once.
    pub n_concurrent: usize,
    /// Attempts at each task, k in pass@k. Retries after infrastructure failures do not count.
    pub n_attempts: usize,
    /// The share of a verifier's weights that passed, instead of all or nothing.
    pub partial_reward: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SandboxConfig {
    pub driver: SandboxDriver,
    /// Limits of an environment whose task names none.
    pub cpus: f64,
    pub memory_mb: u64,
    pub pids: u32,
    pub storage_mb: u64,
    /// From the first engine call to an environment that takes commands.
    #[serde(rename = "start_timeout_sec", serialize_with = "seconds")]
    pub start_timeout: Duration,
    /// Environments that are being created at once. More only lengthen the queue inside the engine.
    pub create_concurrency: usize,
    /// Verifiers that run at once. Tests have time limits, which a crowd of them would overrun.
    pub verify_concurrency: usize,
    /// 0 is unlimited.
    pub create_rate_per_sec: f64,
    /// Failed creations in a row after which none is tried for a while.
    pub breaker_failures: u32,
    #[serde(rename = "breaker_cooldown_sec", serialize_with = "seconds")]
    pub breaker_cooldown: Duration,
    /// Root file systems and built images of the `process` driver. Absolute once loaded.
    pub cache_dir: PathBuf,
}

/// Where environments run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxDriver {
    /// Docker when its engine answers, else process
    #[default]
    Auto,
    /// Containers of a Docker engine
    Docker,
    /// Namespaces of this kernel, no engine
    Process,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimeoutConfig {
    /// Of every time limit that a task sets.
    pub multiplier: f64,
    /// Running rollouts may end in this time after the first Ctrl-C.
    #[serde(rename = "drain_sec", serialize_with = "seconds")]
    pub drain: Duration,
    /// Over every task's own limit for the agent.
    #[serde(rename = "agent_sec", serialize_with = "some_seconds")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Duration>,
    /// Over every task's own limit for the verifier.
    #[serde(rename = "verifier_sec", serialize_with = "some_seconds")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verifier: Option<Duration>,
}

/// Further attempts after an infrastructure failure of each class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetryLimits {
    pub image: u32,
    pub daemon: u32,
    pub start_timeout: u32,
    pub oom: u32,
    pub exec_transport: u32,
    pub node_lost: u32,
    pub model_endpoint: u32,
    pub grader: u32,
    pub internal: u32,
}

impl RetryLimits {
    pub fn of(&self, class: FailureClass) -> u32 {
        match class {
            FailureClass::Image => self.image,
            FailureClass::Daemon => self.daemon,
            FailureClass::StartTimeout => self.start_timeout,
            FailureClass::Oom => self.oom,
            FailureClass::ExecTransport => self.exec_transport,
            FailureClass::NodeLost => self.node_lost,
            FailureClass::ModelEndpoint => self.model_endpoint,
            FailureClass::Grader => self.grader,
            FailureClass::Internal => self.internal,
        }
    }
}

impl RetryLimits {
    /// The same limit for every class.
    pub fn same(limit: u32) -> Self {
        Self {
            image: limit,
            daemon: limit,
            start_timeout: limit,
            oom: limit,
            exec_transport: limit,
            node_lost: limit,
            model_endpoint: limit,
            grader: limit,
            internal: limit,
        }
    }
}

impl Default for RetryLimits {
    fn default() -> Self {
        Self {
            image: 1,
            daemon: 10,
            start_timeout: 2,
            oom: 1,
            exec_transport: 3,
            node_lost: 10,
            model_endpoint: 5,
            grader: 1,
            internal: 1,
        }
    }
}

impl AgentKind {
    pub const NAMES: [(&str, Self); 4] = [
        ("oracle", Self::Oracle),
        ("nop", Self::Nop),
        ("known-bad", Self::KnownBad),
        ("team", Self::Team),
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oracle => "oracle",
            Self::Nop => "nop",
            Self::KnownBad => "known-bad",
            Self::Team => "team",
        }
    }
}

impl SandboxDriver {
    pub const NAMES: [(&str, Self); 3] =
        [("auto", Self::Auto), ("docker", Self::Docker), ("process", Self::Process)];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Docker => "docker",
            Self::Process => "process",
        }
    }
}

impl EvalConfig {
    /// Where nothing is said: no name and no data set yet.
    pub fn defaults(cpus: usize, cache_dir: PathBuf) -> Self {
        Self {
            run: RunConfig {
                name: String::new(),
                runs_dir: PathBuf::from("runs"),
                dataset: PathBuf::new(),
            },
            select: SelectConfig::default(),
            agent: AgentConfig::default(),
            rollouts: RolloutConfig { n_concurrent: 4, n_attempts: 1, partial_reward: false },
            sandbox: SandboxConfig {
                driver: SandboxDriver::Auto,
                cpus: 1.0,
                memory_mb: 1024,
                pids: 512,
                storage_mb: 2048,
                start_timeout: Duration::from_secs(120),
                create_concurrency: cpus,
                verify_concurrency: 2 * cpus,
                create_rate_per_sec: 0.0,
                breaker_failures: 5,
                breaker_cooldown: Duration::from_secs(10),
                cache_dir,
            },
            timeouts: TimeoutConfig {
                multiplier: 1.0,
                drain: Duration::from_secs(20),
                agent: None,
                verifier: None,
            },
            retries: RetryLimits::default(),
            team: TeamConfig::default(),
            models: BTreeMap::new(),
        }
    }

    /// The effective configuration as a TOML document, for the run directory and `--dry-run`.
    ///
    /// # Errors
    /// A path that is not UTF-8 cannot be written.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// Whole seconds as an integer, others as a number.
pub(crate) fn seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if duration.subsec_nanos() == 0 {
        serializer.serialize_u64(duration.as_secs())
    } else {
        serializer.serialize_f64(duration.as_secs_f64())
    }
}

fn some_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}
