//! The team of a configuration, `[team]`: its bounds, and which model plays which role.

use std::time::Duration;

use orcapack_actors::model::models::EndpointNames;
use orcapack_actors::team::role::Role;
use orcapack_actors::team::settings::{Mode, Prompts, TeamSettings};
use orcapack_tasks::toml_section::Section;
use serde::{Serialize, Serializer};

const DAY_SEC: f64 = 86_400.0;
/// The model of all roles where nothing else is said.
pub const MODEL_MAIN: &str = "main";
/// The model that is a policy, and the one that only runs what it is told, where a command gives
/// them names.
pub const MODEL_POLICY: &str = "policy";
pub const MODEL_LITERAL: &str = "literal";

#[derive(Clone, Debug, PartialEq)]
pub struct TeamConfig {
    pub settings: TeamSettings,
    pub roles: EndpointNames,
}

impl Default for TeamConfig {
    fn default() -> Self {
        Self { settings: TeamSettings::default(), roles: EndpointNames::same(MODEL_MAIN) }
    }
}

impl TeamConfig {
    /// `models` are the names that there are: a single one plays every role that is not given
    /// away.
    pub fn read(section: &Section<'_>, base: Self, models: &[&str]) -> Self {
        let Self { settings, roles } = base;
        let settings = read_settings(section, settings);
        let named = section.section("roles");
        let role = |role: Role, base: String| match named.opt_string(role.as_str()) {
            Some(name) => name,
            None => match models {
                [only] if !models.contains(&base.as_str()) => (*only).to_owned(),
                _ => base,
            },
        };
        let roles = EndpointNames {
            orchestrator: role(Role::Orchestrator, roles.orchestrator),
            explorer: role(Role::Explorer, roles.explorer),
            coder: role(Role::Coder, roles.coder),
        };
        Self { settings, roles }
    }
}

fn read_settings(section: &Section<'_>, base: TeamSettings) -> TeamSettings {
    let small = |key: &str, base: u32, max: u64| section.u64_or(key, base.into(), 1..=max) as u32;
    let chars = |key: &str, base: usize| {
        section.opt_u64(key, 200..=10_000_000).map_or(base, |chars| chars as usize)
    };
    TeamSettings {
        mode: section.one_of_or("mode", base.mode, &Mode::NAMES),
        prompts: section.one_of_or("prompts", base.prompts, &Prompts::NAMES),
        orchestrator_turns_max: small("orchestrator_turns_max", base.orchestrator_turns_max, 1000),
        orchestrator_answer_tokens_max: small(
            "orchestrator_answer_tokens_max",
            base.orchestrator_answer_tokens_max,
            1_000_000,
        ),
        subagent_answer_tokens_max: small(
            "subagent_answer_tokens_max",
            base.subagent_answer_tokens_max,
            1_000_000,
        ),
        tokens_max: section.u64_or("tokens_max", base.tokens_max, 1..=TOKENS_MAX),
        subagent_tokens_max: section.u64_or(
            "subagent_tokens_max",
            base.subagent_tokens_max,
            1..=TOKENS_MAX,
        ),
        observation_chars_max: chars("observation_chars_max", base.observation_chars_max),
        bootstrap_chars_max: chars("bootstrap_chars_max", base.bootstrap_chars_max),
        time_reserve: section.duration_sec_or("time_reserve_sec", base.time_reserve, 0.0..=DAY_SEC),
        restarts_max: section.u64_or("restarts_max", base.restarts_max.into(), 0..=1000) as u32,
        restart_window: section.duration_sec_or(
            "restart_window_sec",
            base.restart_window,
            0.1..=DAY_SEC,
        ),
    }
}

/// More than any rollout can use: it is there to catch a mistaken unit.
const TOKENS_MAX: u64 = 1_000_000_000_000;

impl Serialize for TeamConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let settings = &self.settings;
        Keys {
            mode: settings.mode.as_str(),
            prompts: settings.prompts.as_str(),
            orchestrator_turns_max: settings.orchestrator_turns_max,
            orchestrator_answer_tokens_max: settings.orchestrator_answer_tokens_max,
            subagent_answer_tokens_max: settings.subagent_answer_tokens_max,
            tokens_max: settings.tokens_max,
            subagent_tokens_max: settings.subagent_tokens_max,
            observation_chars_max: settings.observation_chars_max,
            bootstrap_chars_max: settings.bootstrap_chars_max,
            time_reserve: settings.time_reserve,
            restarts_max: settings.restarts_max,
            restart_window: settings.restart_window,
            roles: &self.roles,
        }
        .serialize(serializer)
    }
}

/// The section as it is written.
#[derive(Serialize)]
struct Keys<'a> {
    mode: &'static str,
    prompts: &'static str,
    orchestrator_turns_max: u32,
    orchestrator_answer_tokens_max: u32,
    subagent_answer_tokens_max: u32,
    tokens_max: u64,
    subagent_tokens_max: u64,
    observation_chars_max: usize,
    bootstrap_chars_max: usize,
    #[serde(rename = "time_reserve_sec", serialize_with = "crate::config::seconds")]
    time_reserve: Duration,
    restarts_max: u32,
    #[serde(rename = "restart_window_sec", serialize_with = "crate::config::seconds")]
    restart_window: Duration,
    roles: &'a EndpointNames,
}
