//! Under which conditions a run was made. Pass rates can be compared at equal ones only: with
//! another concurrency, other budgets or other limits, more rollouts run out of time, or fewer.
//!
//! Whatever a configuration says counts, but for what is known to have no say in rewards, so that a
//! key that is new is not overlooked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use toml::{Table, Value};

/// Values by the keys of the configuration. Models are told by the roles that they play.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    all: BTreeMap<String, String>,
    /// Of a team, and of no other agent.
    team: Option<BTreeMap<String, String>>,
}

/// A condition that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub key: String,
    pub value: String,
    /// Of what it is compared with.
    pub reference: String,
}

/// Keys that decide nothing but where things lie, and what becomes of infrastructure failures.
const FREE: [&str; 11] = [
    "sandbox.cache_dir",
    "sandbox.create_concurrency",
    "sandbox.create_rate_per_sec",
    "sandbox.breaker_failures",
    "sandbox.breaker_cooldown_sec",
    "sandbox.start_timeout_sec",
    "timeouts.drain_sec",
    "agent.kind",
    "team.roles",
    "team.restarts_max",
    "team.restart_window_sec",
];
/// The same, of a model.
const FREE_OF_MODEL: [&str; 7] =
    ["url", "seed", "api_key", "api_key_file", "try_timeout_sec", "tries_max", "price"];
/// What the orchestrator's model is: that is what is compared.
const IDENTITY: [&str; 3] = ["checkpoint", "model", "run"];

impl Conditions {
    /// Of an effective configuration.
    pub fn of(config: &Table) -> Self {
        let mut all = BTreeMap::new();
        for section in ["agent", "rollouts", "sandbox", "timeouts"] {
            put_section(&mut all, section, config.get(section), &FREE);
        }
        // A run of train is compared by its evaluations.
        let held_out = config.get("evaluation").and_then(|section| section.get("n_attempts"));
        if let Some(attempts) = held_out {
            all.insert("rollouts.n_attempts".to_owned(), text(attempts));
        }
        let is_team = config.get("agent").and_then(|agent| agent.get("kind")?.as_str());
        let team = (is_team == Some("team")).then(|| team(config));
        Self { all, team }
    }

    /// One that no configuration has.
    pub fn put(&mut self, key: &str, value: String) {
        self.all.insert(key.to_owned(), value);
    }

    /// Where it is other than the reference. What only one of them has a team for is left out: that
    /// they are not of one kind is what is compared.
    pub fn differences(&self, reference: &Self) -> Vec<Difference> {
        let mut differences = compare(&self.all, &reference.all, |_| true);
        if let (Some(team), Some(other)) = (&self.team, &reference.team) {
            differences.extend(compare(team, other, |_| true));
        }
        differences
    }

    /// The same, of what its own orchestrator's answers depend on.
    pub fn of_orchestrator(&self, reference: &Self) -> Vec<Difference> {
        let (Some(team), Some(other)) = (&self.team, &reference.team) else { return Vec::new() };
        compare(team, other, |key| key.starts_with("team.") || key == "orchestrator.temperature")
    }
}

fn compare(
    one: &BTreeMap<String, String>,
    other: &BTreeMap<String, String>,
    is_meant: impl Fn(&str) -> bool,
) -> Vec<Difference> {
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let value =
        |of: &BTreeMap<String, String>, key| of.get(key).map_or("none", String::as_str).to_owned();
    let pairs = keys.into_iter().filter(|key| is_meant(key)).map(|key| Difference {
        key: key.clone(),
        value: value(one, key),
        reference: value(other, key),
    });
    pairs.filter(|it| it.value != it.reference).collect()
}

fn team(config: &Table) -> BTreeMap<String, String> {
    let mut team = BTreeMap::new();
    put_section(&mut team, "team", config.get("team"), &FREE);
    for role in ["orchestrator", "explorer", "coder"] {
        let Some(model) = model_of(config, role) else { continue };
        for (key, value) in model {
            let is_identity = role == "orchestrator" && IDENTITY.contains(&key.as_str());
            if !is_identity && !FREE_OF_MODEL.contains(&key.as_str()) {
                team.insert(format!("{role}.{key}"), text(value));
            }
        }
    }
    team
}

/// The table of the model that plays a role.
pub fn model_of<'c>(config: &'c Table, role: &str) -> Option<&'c Table> {
    let name = config.get("team")?.get("roles")?.get(role)?.as_str()?;
    config.get("models")?.get(name)?.as_table()
}

fn put_section(
    values: &mut BTreeMap<String, String>,
    name: &str,
    section: Option<&Value>,
    free: &[&str],
) {
    for (key, value) in section.and_then(Value::as_table).into_iter().flatten() {
        let key = format!("{name}.{key}");
        if !free.contains(&key.as_str()) {
            values.insert(key, text(value));
        }
    }
}

/// Without the quotes of a string.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}, not {}", self.key, self.value, self.reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEAM: &str = "
        run.name = 'a'
        agent = { kind = 'team', think_sec = 0 }
        rollouts = { n_concurrent = 32, n_attempts = 3 }
        sandbox = { driver = 'auto', memory_mb = 1024, cache_dir = '/a' }
        team.tokens_max = 100
        team.prompts = 'compact'
        team.roles = { orchestrator = 'policy', explorer = 'literal', coder = 'literal' }
        models.policy = { kind = 'embedded', checkpoint = '/a', temperature = 1.0, seed = 1 }
        models.literal.kind = 'literal'";

    fn of(text: &str) -> Conditions {
        Conditions::of(&text.parse().unwrap())
    }

    fn told(text: &str) -> Vec<String> {
        of(text).differences(&of(TEAM)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn where_and_who_is_no_condition_and_how_is() {
        let other = TEAM
            .replace("'/a'", "'/b'")
            .replace("run.name = 'a'", "run.name = 'b'")
            .replace("seed = 1", "seed = 2");
        assert_eq!(told(&other), Vec::<String>::new());
        for (from, to, expected) in [
            ("n_concurrent = 32", "n_concurrent = 4", "rollouts.n_concurrent = 4, not 32"),
            ("n_attempts = 3", "n_attempts = 5", "rollouts.n_attempts = 5, not 3"),
            ("memory_mb = 1024", "memory_mb = 512", "sandbox.memory_mb = 512, not 1024"),
            ("'auto'", "'docker'", "sandbox.driver = docker, not auto"),
            ("tokens_max = 100", "tokens_max = 99", "team.tokens_max = 99, not 100"),
            ("temperature = 1.0", "top_p = 0.5", "orchestrator.temperature = none, not 1.0"),
            ("'embedded'", "'vllm'", "orchestrator.kind = vllm, not embedded"),
            ("think_sec = 0", "think_sec = 1", "agent.think_sec = 1, not 0"),
        ] {
            let told = told(&TEAM.replace(from, to));
            assert!(told.contains(&expected.to_owned()), "{told:?}");
        }
    }

    #[test]
    fn models_are_told_by_role_whatever_they_are_called() {
        let renamed = TEAM.replace("models.policy", "models.x").replace("'policy'", "'x'");
        assert_eq!(told(&renamed), Vec::<String>::new());
        let other = TEAM.replace("models.literal.kind = 'literal'", "")
            + "\nmodels.literal = { kind = 'openai', model = 'm' }";
        let expected = ["coder.kind = openai, not literal", "coder.model = m, not none"];
        assert_eq!(told(&other)[..2], expected);
    }

    #[test]
    fn an_evaluation_has_its_own_attempts_and_no_learning() {
        let trained = format!("{TEAM}\n[evaluation]\nn_attempts = 7\n[train]\nsteps = 9\n");
        assert_eq!(told(&trained), ["rollouts.n_attempts = 7, not 3"]);
    }

    #[test]
    fn of_another_agent_only_what_both_have_is_compared() {
        let oracle = TEAM.replace("'team'", "'oracle'").replace("= 1024", "= 2");
        assert_eq!(told(&oracle), ["sandbox.memory_mb = 2, not 1024"]);
    }

    #[test]
    fn what_a_policy_was_trained_with_is_its_teams_matter() {
        let now = TEAM.replace("'compact'", "'full'").replace("= 32", "= 4").replace("1.0", "0.5");
        let told = of(TEAM).of_orchestrator(&of(&now));
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["orchestrator.temperature = 1.0, not 0.5", "team.prompts = compact, not full"]
        );
    }
}
