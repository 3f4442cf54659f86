//! What two starts of one run must have in common, for what they make to be of one kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use orcapack_actors::team::role::Role;
use serde::{Deserialize, Serialize};

use crate::config::{AgentKind, EvalConfig};

/// Values by their keys in the configuration, or by what they are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunKind(BTreeMap<String, String>);

/// What a run was and would become: field, then, now. Never empty in an error.
#[derive(Debug, PartialEq, Eq)]
pub struct Differences(Vec<(String, String, String)>);

impl RunKind {
    /// Of `eval`: what its rewards depend on.
    pub fn of_eval(config: &EvalConfig, tasks_digest: &orcapack_tasks::Digest) -> Self {
        let mut kind = Self::new("eval");
        kind.put("selected tasks", tasks_digest);
        kind.put("agent.kind", config.agent.kind.as_str());
        kind.put("rollouts.n_attempts", config.rollouts.n_attempts);
        kind.put("rollouts.partial_reward", config.rollouts.partial_reward);
        if config.agent.kind == AgentKind::Team {
            kind.put_team(config);
        }
        kind
    }

    /// Of a command whose rollouts a team does: what their rewards depend on.
    pub fn of_team(
        command: &str,
        config: &EvalConfig,
        tasks_digest: &orcapack_tasks::Digest,
    ) -> Self {
        let mut kind = Self::of_eval(config, tasks_digest);
        kind.put("command", command);
        kind
    }

    /// Of a command, and nothing else yet.
    pub fn new(command: &str) -> Self {
        Self(BTreeMap::from([("command".to_owned(), command.to_owned())]))
    }

    /// Which command made it; empty of none that is known.
    pub fn command(&self) -> &str {
        self.0.get("command").map_or("", String::as_str)
    }

    pub fn put(&mut self, key: &str, value: impl fmt::Display) {
        self.0.insert(key.to_owned(), value.to_string());
    }

    /// The keys of a section as it is written, but for those in `free`, which may change under way.
    pub fn put_section(&mut self, name: &str, section: &impl Serialize, free: &[&str]) {
        let keys = serde_json::to_value(section).ok();
        let keys = keys.iter().filter_map(serde_json::Value::as_object).flatten();
        for (key, value) in keys.filter(|(key, _)| !free.contains(&key.as_str())) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.0.insert(format!("{name}.{key}"), text);
        }
    }

    /// What the answers of a team depend on. How often and how long an endpoint is tried, its keys
    /// and prices may change.
    fn put_team(&mut self, config: &EvalConfig) {
        const FREE: [&str; 8] = [
            "api_key",
            "api_key_file",
            "try_timeout_sec",
            "tries_max",
            "in_flight_max",
            "price",
            "restarts_max",
            "restart_window_sec",
        ];
        self.put_section("team", &config.team, &FREE);
        let played = Role::ALL.map(|role| config.team.roles.of(role));
        for (name, model) in &config.models {
            if played.contains(&name.as_str()) {
                self.put_section(&format!("models.{name}"), model, &FREE);
            }
        }
    }

    pub(crate) fn differences(&self, now: &Self) -> Differences {
        let keys: BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        let value = |kind: &Self, key| kind.0.get(key).map_or("none", String::as_str).to_owned();
        let rows = keys.into_iter().map(|key| (key.clone(), value(self, key), value(now, key)));
        Differences(rows.filter(|(_, then, now)| then != now).collect())
    }
}

impl Differences {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (field, then, now)) in self.0.iter().enumerate() {
            let line_break = if i > 0 { "\n" } else { "" };
            write!(f, "{line_break}  {field}: {then} then, {now} now")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "run_kind_tests.rs"]
mod tests;
