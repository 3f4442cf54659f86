//! What a node needs to run teams: the bounds, the endpoints with their keys, who plays what.
//!
//! Made once, from a whole configuration, before anything starts: a role without a model, a
//! variable that is not set, or a key that cannot be read is a fault of the input like any other.

use std::sync::Arc;

use orcapack_actors::model::embedded::Policies;
use orcapack_actors::model::models::EndpointNames;
use orcapack_actors::model::settings::{EndpointSettings, Mistakes, PolicySettings, Secret};
use orcapack_actors::model::{Model, connect};
use orcapack_actors::team::role::Role;
use orcapack_actors::team::settings::TeamSettings;
use orcapack_tasks::near::nearest;
use orcapack_tasks::toml_section::Section;
use orcapack_tasks::{Defects, Task};

use crate::config::{AgentKind, EvalConfig};
use crate::config_models::{KeySource, ModelConfig, is_served};
use crate::exit::Failure;
use crate::policy_engine::PolicyEngine;
use crate::secrets::{self, Variables};

/// A plan that can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct TeamPlan {
    pub settings: TeamSettings,
    /// Those that a role names, each once.
    pub endpoints: Vec<EndpointSettings>,
    /// The names of endpoints.
    pub roles: EndpointNames,
}

/// A plan with its models, which can be asked once their gateways stand.
pub struct TeamParts {
    pub settings: TeamSettings,
    pub endpoints: Vec<(EndpointSettings, Arc<dyn Model>)>,
    /// The names of endpoints.
    pub roles: EndpointNames,
}

impl TeamPlan {
    /// Makes the models. Nothing is asked of a server yet; a recorded run is read, and a policy's
    /// directory opened.
    ///
    /// # Errors
    /// Everything that is wrong with a recorded run or a policy.
    pub fn connect(&self, policies: &dyn Policies) -> Result<TeamParts, Failure> {
        let connected = self.endpoints.iter().map(|settings| {
            let model = connect::connect(settings, policies)?;
            Ok((settings.clone(), model))
        });
        Ok(TeamParts {
            settings: self.settings.clone(),
            endpoints: connected.collect::<Result<_, Failure>>()?,
            roles: self.roles.clone(),
        })
    }

    /// `None` for the agents that need no model, and where there were faults: those are told to
    /// `root`, the document that the configuration was read from.
    pub fn make(root: &Section<'_>, config: &EvalConfig, variables: Variables) -> Option<Self> {
        if config.agent.kind != AgentKind::Team {
            return None;
        }
        let models = root.section("models");
        if config.models.is_empty() {
            // A table that is there has been told what it lacks.
            if !root.has("models") {
                root.section("agent").refuse("kind", NO_MODEL, "none");
            }
            return None;
        }
        let roles = &config.team.roles;
        let named = root.section("team").section("roles");
        let mut endpoints: Vec<EndpointSettings> = Vec::new();
        let mut whole = true;
        for role in Role::ALL {
            let name = roles.of(role);
            let Some(model) = config.models.get(name) else {
                whole = false;
                // A table that is there but faulty has been told so.
                if !models.has(name) {
                    let names = config.models.keys().map(String::as_str);
                    named.refuse(role.as_str(), &one_of(names.clone()), unknown(name, names));
                }
                continue;
            };
            if let Some(expected) = model.kind.lacks(role) {
                whole = false;
                let found = format!("`{name}`, which is {}", model.kind.as_str());
                named.refuse(role.as_str(), expected, found);
            }
            if !endpoints.iter().any(|endpoint| endpoint.name == name) {
                let section = models.section(name);
                let endpoint = has_trajectories(&section, model)
                    .and_then(|()| endpoint(&section, name, model, variables));
                let endpoint = endpoint.filter(|endpoint| {
                    let policy = endpoint.policy.as_ref();
                    policy.is_none_or(|policy| bounds_agree(&section, policy, &endpoints))
                });
                whole &= endpoint.is_some();
                endpoints.extend(endpoint);
            }
        }
        let settings = config.team.settings.clone();
        whole.then(|| Self { settings, endpoints, roles: roles.clone() })
    }

    /// What a task would need for the team's demonstrator, and has not; `None` where the team has
    /// none, or the task all.
    pub fn lacking(&self, task: &Task) -> Option<String> {
        let demonstrates = |endpoint: &&EndpointSettings| {
            endpoint.name == self.roles.orchestrator && endpoint.kind.demonstrates()
        };
        let EndpointSettings { name, mistakes, .. } = self.endpoints.iter().find(demonstrates)?;
        let Mistakes { share, known_bad } = mistakes;
        if *share < 1.0 && !task.has_solution() {
            return Some(format!("a solution for `{name}` to demonstrate"));
        }
        let fits = |bad: &str| known_bad.as_ref().is_none_or(|name| bad == name);
        if *share > 0.0 && !task.known_bad.iter().any(|(bad, _)| fits(bad)) {
            let which = known_bad.as_ref().map(|bad| format!(" `{bad}`")).unwrap_or_default();
            return Some(format!("a known-bad solution{which} for `{name}` to demonstrate"));
        }
        None
    }

    /// For reports: the one model, or who plays what.
    pub fn models(&self) -> String {
        let of = |role| {
            let endpoint = self.endpoints.iter().find(|it| it.name == self.roles.of(role));
            endpoint.map_or(String::new(), |endpoint| match endpoint.kind {
                kind if !is_served(kind) => kind.as_str().to_owned(),
                _ => endpoint.model.clone(),
            })
        };
        match Role::ALL.map(of) {
            [one, two, three] if one == two && two == three => one,
            names => {
                let parts: Vec<String> = Role::ALL
                    .iter()
                    .zip(names)
                    .map(|(role, model)| format!("{role} {model}"))
                    .collect();
                parts.join(", ")
            }
        }
    }
}

const NO_MODEL: &str = "a model for the team: -m KIND/MODEL, such as -m openai/gpt-5-mini, \
                        or a table [models.main] with kind and model";

fn one_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    format!("the name of a model, one of: {}", names.join(", "))
}

fn unknown<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let hint = nearest(name, names).map(|name| format!(" (did you mean `{name}`?)"));
    format!("`{name}`{}", hint.unwrap_or_default())
}

/// Whether a run that is to be answered from is a team's.
fn has_trajectories(section: &Section<'_>, model: &ModelConfig) -> Option<()> {
    let run = model.run.as_ref().filter(|run| !run.join("trajectories").is_dir());
    let Some(run) = run else { return Some(()) };
    let found = format!("{}, which has no trajectories", run.display());
    section.refuse("run", "the directory of a run", found);
    None
}

/// A model with its key; `None` after a fault, which `section` has been told.
pub(crate) fn endpoint(
    section: &Section<'_>,
    name: &str,
    model: &ModelConfig,
    variables: Variables,
) -> Option<EndpointSettings> {
    let api_key = match &model.key {
        Some(source) => Some(secret(section, source, variables)?),
        None => {
            if section.has("api_key") || section.has("api_key_file") {
                // It has been told what is wrong with them.
                return None;
            }
            if let Some(variable) = model.account_variable() {
                let expected = format!(
                    "a key for {}: this one, api_key_file, or {variable} in the environment",
                    model.url
                );
                section.refuse("api_key", &expected, "none");
                return None;
            }
            None
        }
    };
    if let Some(policy) = &model.policy {
        if policy.checkpoint.as_os_str().is_empty() {
            // It has been told that none is named.
            return None;
        }
        check_policy(section, policy)?;
    }
    let model = model.clone();
    Some(EndpointSettings {
        name: name.to_owned(),
        kind: model.kind,
        model: model.model,
        url: model.url,
        api_key,
        sampling: model.sampling,
        extra: model.extra,
        try_timeout: model.try_timeout,
        tries_max: model.tries_max,
        in_flight_max: model.in_flight_max,
        price: model.price,
        run: model.run,
        policy: model.policy,
        mistakes: model.mistakes,
    })
}

fn secret(section: &Section<'_>, source: &KeySource, variables: Variables) -> Option<Secret> {
    let key = match source {
        KeySource::Variable(_) => "api_key",
        KeySource::File(_) => "api_key_file",
    };
    let read = secrets::read(source, variables);
    let refuse = |fault: String| {
        section.refuse(key, "where a key is to be found", format!("{source}, which {fault}"));
    };
    read.map_err(refuse).ok()
}

/// All its faults, each in the words of the file that it is in.
fn check_policy(section: &Section<'_>, policy: &PolicySettings) -> Option<()> {
    let Err(Defects(faults)) = PolicyEngine::open(policy) else { return Some(()) };
    for fault in faults {
        section.refuse("checkpoint", "the directory of a policy", fault.to_string());
    }
    None
}

/// The engine of a directory is one, and so are its bounds.
pub(crate) fn bounds_agree(
    section: &Section<'_>,
    policy: &PolicySettings,
    others: &[EndpointSettings],
) -> bool {
    let same = others.iter().filter_map(|other| Some((&other.name, other.policy.as_ref()?)));
    let mut same = same.filter(|(_, other)| other.checkpoint == policy.checkpoint);
    let Some((name, _)) = same.find(|(_, other)| other.bounds != policy.bounds) else {
        return true;
    };
    let expected = format!("the bounds of `{name}`, which shares its engine");
    section.refuse("checkpoint", &expected, "others");
    false
}

#[cfg(test)]
#[path = "team_plan_tests.rs"]
mod tests;
