//! Reads the configuration out of a TOML document: each key with its range.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use orcapack_tasks::toml_doc::TomlDoc;
use orcapack_tasks::toml_section::Section;
use orcapack_tasks::{Defects, FailureClass};

use crate::config::{
    AgentConfig, AgentKind, EvalConfig, RetryLimits, RolloutConfig, RunConfig, SandboxConfig,
    SandboxDriver, SelectConfig, TimeoutConfig,
};
use crate::config_models::{MODELS_MAX, ModelConfig};
use crate::config_team::TeamConfig;

const DAY_SEC: f64 = 86_400.0;
/// A time limit of a working part: short enough to end, long enough to be met.
const LIMIT_SEC: RangeInclusive<f64> = 0.1..=7.0 * DAY_SEC;

impl EvalConfig {
    /// `base` with everything over it that the document says; all its faults at once.
    pub fn read(doc: TomlDoc, base: Self) -> Result<Self, Defects> {
        let config = Self::of(&doc.root(), base);
        doc.finish(config)
    }

    /// The same, for who has more to ask of the document before it is finished.
    pub(crate) fn of(root: &Section<'_>, base: Self) -> Self {
        let models = models(root, base.models);
        let names: Vec<&str> = models.keys().map(String::as_str).collect();
        let team = TeamConfig::read(&root.section("team"), base.team, &names);
        Self {
            run: RunConfig::read(&root.section("run"), base.run),
            select: SelectConfig::read(&root.section("select"), base.select),
            agent: AgentConfig::read(&root.section("agent"), base.agent),
            rollouts: RolloutConfig::read(&root.section("rollouts"), base.rollouts),
            sandbox: SandboxConfig::read(&root.section("sandbox"), base.sandbox),
            timeouts: TimeoutConfig::read(&root.section("timeouts"), base.timeouts),
            retries: RetryLimits::read(&root.section("retries"), base.retries),
            team,
            models,
        }
    }
}

fn models(
    root: &Section<'_>,
    mut models: BTreeMap<String, ModelConfig>,
) -> BTreeMap<String, ModelConfig> {
    let given = root.section_map("models");
    let found = given.len();
    for (name, section) in given.into_iter().take(MODELS_MAX) {
        if !is_run_name(&name) {
            root.section("models").refuse(&name, MODEL_NAME, format!("{name:?}"));
        }
        let base = models.remove(&name);
        models.extend(ModelConfig::read(&section, base).map(|model| (name, model)));
    }
    if found > MODELS_MAX {
        root.refuse("models", &format!("at most {MODELS_MAX} models"), found.to_string());
    }
    models
}

const MODEL_NAME: &str = "a name as of a run: letters, digits, `.`, `_` and `-`, at most 64";

impl RunConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        let run = Self {
            name: read_run_name(section).unwrap_or(base.name),
            runs_dir: path_or(section, "runs_dir", base.runs_dir),
            dataset: path_or(section, "dataset", base.dataset),
        };
        if run.dataset.as_os_str().is_empty() && !section.has("dataset") {
            section.refuse("dataset", "tasks: this key, or -d PATH, or -p PATH", "none");
        }
        run
    }
}

/// The key `name` of a run.
pub(crate) fn read_run_name(section: &Section<'_>) -> Option<String> {
    let name = section.opt_string("name")?;
    if !is_run_name(&name) {
        section.refuse("name", RUN_NAME, format!("{name:?}"));
    }
    Some(name)
}

const RUN_NAME: &str =
    "1 to 64 letters, digits, `.`, `_` and `-`, the first of them a letter or a digit";

/// Fit for a folder, a container's label, and a shell without quotes.
pub(crate) fn is_run_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

impl SelectConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        Self {
            include: strings_or(section, "include", base.include),
            exclude: strings_or(section, "exclude", base.exclude),
            tags: strings_or(section, "tags", base.tags),
            difficulties: strings_or(section, "difficulties", base.difficulties),
            categories: strings_or(section, "categories", base.categories),
            n_tasks: section.opt_u64("n_tasks", 1..=1_000_000).map(|n| n as usize).or(base.n_tasks),
        }
    }
}

impl AgentConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        Self {
            kind: section.one_of_or("kind", base.kind, &AgentKind::NAMES),
            think: section.duration_sec_or("think_sec", base.think, 0.0..=DAY_SEC),
        }
    }
}

impl RolloutConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        Self {
            n_concurrent: count_or(section, "n_concurrent", base.n_concurrent, 1..=100_000),
            n_attempts: count_or(section, "n_attempts", base.n_attempts, 1..=10_000),
            partial_reward: section.bool_or("partial_reward", base.partial_reward),
        }
    }
}

impl SandboxConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        Self {
            driver: section.one_of_or("driver", base.driver, &SandboxDriver::NAMES),
            cpus: section.f64_or("cpus", base.cpus, 0.01..=1024.0),
            memory_mb: section.u64_or("memory_mb", base.memory_mb, 16..=4 << 20),
            pids: small_or(section, "pids", base.pids, 16..=4 << 20),
            storage_mb: section.u64_or("storage_mb", base.storage_mb, 1..=16 << 20),
            start_timeout: section.duration_sec_or(
                "start_timeout_sec",
                base.start_timeout,
                LIMIT_SEC,
            ),
            create_concurrency: count_or(
                section,
                "create_concurrency",
                base.create_concurrency,
                1..=4096,
            ),
            verify_concurrency: count_or(
                section,
                "verify_concurrency",
                base.verify_concurrency,
                1..=4096,
            ),
            create_rate_per_sec: section.f64_or(
                "create_rate_per_sec",
                base.create_rate_per_sec,
                0.0..=100_000.0,
            ),
            breaker_failures: small_or(
                section,
                "breaker_failures",
                base.breaker_failures,
                1..=10_000,
            ),
            breaker_cooldown: section.duration_sec_or(
                "breaker_cooldown_sec",
                base.breaker_cooldown,
                0.0..=DAY_SEC,
            ),
            cache_dir: path_or(section, "cache_dir", base.cache_dir),
        }
    }
}

impl TimeoutConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        Self {
            multiplier: section.f64_or("multiplier", base.multiplier, 0.01..=1000.0),
            drain: section.duration_sec_or("drain_sec", base.drain, 0.0..=DAY_SEC),
            agent: section.opt_duration_sec("agent_sec", LIMIT_SEC).or(base.agent),
            verifier: section.opt_duration_sec("verifier_sec", LIMIT_SEC).or(base.verifier),
        }
    }
}

impl RetryLimits {
    fn read(section: &Section<'_>, base: Self) -> Self {
        let limit =
            |class: FailureClass| small_or(section, class.as_str(), base.of(class), 0..=1000);
        Self {
            image: limit(FailureClass::Image),
            daemon: limit(FailureClass::Daemon),
            start_timeout: limit(FailureClass::StartTimeout),
            oom: limit(FailureClass::Oom),
            exec_transport: limit(FailureClass::ExecTransport),
            node_lost: limit(FailureClass::NodeLost),
            model_endpoint: limit(FailureClass::ModelEndpoint),
            grader: limit(FailureClass::Grader),
            internal: limit(FailureClass::Internal),
        }
    }
}

pub(crate) fn path_or(section: &Section<'_>, key: &str, base: PathBuf) -> PathBuf {
    let path = section.opt_string(key).map(PathBuf::from);
    if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        section.refuse(key, "a path", "an empty string");
    }
    path.unwrap_or(base)
}

pub(crate) fn strings_or(section: &Section<'_>, key: &str, base: Vec<String>) -> Vec<String> {
    let given = section.strings(key);
    if section.has(key) { given } else { base }
}

pub(crate) fn count_or(
    section: &Section<'_>,
    key: &str,
    base: usize,
    range: RangeInclusive<u64>,
) -> usize {
    section.opt_u64(key, range).map_or(base, |n| n as usize)
}

/// `range` ends within `u32`.
pub(crate) fn small_or(
    section: &Section<'_>,
    key: &str,
    base: u32,
    range: RangeInclusive<u64>,
) -> u32 {
    section.opt_u64(key, range).map_or(base, |n| n as u32)
}
