//! What a node needs to run teams: the bounds, the endpoints with their keys, who plays what.
//!
//! Made once, from a whole configuration, before anything starts: a role without a model, a
//! variable that is not set, or a key that cannot be read is a fault of the input like any other.

use std::path::Path;
use std::sync::Arc;

use orcapack_actors::model::models::EndpointNames;
use orcapack_actors::model::settings::{EndpointSettings, Mistakes, Secret};
use orcapack_actors::model::{Model, connect};
use orcapack_actors::team::role::Role;
use orcapack_actors::team::settings::TeamSettings;
use orcapack_tasks::Task;
use orcapack_tasks::near::nearest;
use orcapack_tasks::toml_section::Section;

use crate::config::{AgentKind, EvalConfig};
use crate::config_models::{KeySource, ModelConfig, is_served};
use crate::exit::Failure;

/// A plan that can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct TeamPlan {
    pub settings: TeamSettings,
    /// Those that a role names, each once.
    pub endpoints: Vec<EndpointSettings>,
    /// The names of endpoints.
    pub roles: EndpointNames,
}

/// The value of an environment variable, `None` where it is not set.
pub type Variables = fn(&str) -> Option<String>;

/// More than any service's keys have; what is longer is another file.
const KEY_BYTES_MAX: usize = 16 << 10;

/// A plan with its models, which can be asked once their gateways stand.
pub struct TeamParts {
    pub settings: TeamSettings,
    pub endpoints: Vec<(EndpointSettings, Arc<dyn Model>)>,
    /// The names of endpoints.
    pub roles: EndpointNames,
}

impl TeamPlan {
    /// Makes the models. Nothing is asked of a server yet; a recorded run is read.
    ///
    /// # Errors
    /// Everything that is wrong with a recorded run.
    pub fn connect(&self) -> Result<TeamParts, Failure> {
        let connected = self.endpoints.iter().map(|settings| {
            let model = connect::connect(settings)?;
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
                let endpoint = endpoint(&models.section(name), name, model, variables);
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

fn endpoint(
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
    if let Some(run) = &model.run
        && !run.join("trajectories").is_dir()
    {
        let found = format!("{}, which has no trajectories", run.display());
        section.refuse("run", "the directory of a run", found);
        return None;
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
        mistakes: model.mistakes,
    })
}

/// No message repeats what was read.
fn secret(section: &Section<'_>, source: &KeySource, variables: Variables) -> Option<Secret> {
    let (key, read) = match source {
        KeySource::Variable(name) => ("api_key", variables(name).ok_or("is not set".to_owned())),
        KeySource::File(path) => ("api_key_file", read_key(path)),
    };
    let fault = match read.as_deref().map(str::trim) {
        Err(fault) => fault.clone(),
        Ok("") => "is empty".to_owned(),
        Ok(key) if key.len() > KEY_BYTES_MAX => format!("is longer than {KEY_BYTES_MAX} bytes"),
        Ok(key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            "holds more than a line of visible ASCII".to_owned()
        }
        Ok(key) => return Some(Secret::new(key)),
    };
    section.refuse(key, "where a key is to be found", format!("{source}, which {fault}"));
    None
}

fn read_key(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > KEY_BYTES_MAX as u64 {
        return Err(format!("is longer than {KEY_BYTES_MAX} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}

#[cfg(test)]
#[path = "team_plan_tests.rs"]
mod tests;
