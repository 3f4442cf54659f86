//! Which endpoint each role of a team asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::ActorCell;

use crate::model::Model;
use crate::model::endpoint::Endpoint;
use crate::model::settings::EndpointSettings;
use crate::phase::Board;
use crate::team::role::Role;

/// The endpoints of a team. Roles that name the same endpoint share its gateway.
#[derive(Clone, Debug)]
pub struct Models {
    pub orchestrator: Endpoint,
    pub explorer: Endpoint,
    pub coder: Endpoint,
}

/// The endpoint that each role names.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EndpointNames {
    pub orchestrator: String,
    pub explorer: String,
    pub coder: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    #[error("the {role}'s endpoint: expected one of {known}, found `{name}`")]
    Unknown { role: Role, name: String, known: String },
    #[error("endpoint `{0}` is there twice")]
    Twice(String),
    #[error("the {role}'s endpoint: expected {expected}, found `{name}` of kind {kind}")]
    Unable { role: Role, expected: &'static str, name: String, kind: &'static str },
    #[error("the gateway of endpoint {name} could not be started: {error}")]
    Spawn { name: String, error: Box<ractor::SpawnErr> },
}

impl Models {
    /// Starts a gateway for every endpoint that a role names, under `parent`. Nothing is started
    /// unless everything fits.
    ///
    /// # Errors
    /// A name that is no endpoint's or that of two, a kind that cannot do what its role does,
    /// or a refusal of the actor system.
    pub async fn spawn(
        endpoints: Vec<(EndpointSettings, Arc<dyn Model>)>,
        names: &EndpointNames,
        board: &Arc<Board>,
        parent: &ActorCell,
    ) -> Result<Self, ModelsError> {
        let endpoints = checked(endpoints, names)?;
        let mut started = BTreeMap::new();
        for (name, (settings, model)) in endpoints {
            let endpoint = Endpoint::spawn(settings, model, board.clone(), parent.clone()).await;
            let endpoint = endpoint.map_err(|error| ModelsError::Spawn {
                name: name.clone(),
                error: Box::new(error),
            })?;
            started.insert(name, endpoint);
        }
        let of = |role| {
            let name = names.of(role);
            started.get(name).cloned().ok_or_else(|| unknown(role, name, &started))
        };
        Ok(Self {
            orchestrator: of(Role::Orchestrator)?,
            explorer: of(Role::Explorer)?,
            coder: of(Role::Coder)?,
        })
    }

    pub fn of(&self, role: Role) -> &Endpoint {
        match role {
            Role::Orchestrator => &self.orchestrator,
            Role::Explorer => &self.explorer,
            Role::Coder => &self.coder,
        }
    }
}

impl EndpointNames {
    /// One endpoint for all roles.
    pub fn same(name: &str) -> Self {
        Self { orchestrator: name.into(), explorer: name.into(), coder: name.into() }
    }

    pub fn of(&self, role: Role) -> &str {
        match role {
            Role::Orchestrator => &self.orchestrator,
            Role::Explorer => &self.explorer,
            Role::Coder => &self.coder,
        }
    }
}

type ByName = BTreeMap<String, (EndpointSettings, Arc<dyn Model>)>;

/// The endpoints that roles name, by their names.
fn checked(
    endpoints: Vec<(EndpointSettings, Arc<dyn Model>)>,
    names: &EndpointNames,
) -> Result<ByName, ModelsError> {
    let mut by_name = ByName::new();
    for (settings, model) in endpoints {
        let name = settings.name.clone();
        if by_name.insert(name.clone(), (settings, model)).is_some() {
            return Err(ModelsError::Twice(name));
        }
    }
    for role in Role::ALL {
        let name = names.of(role);
        let (settings, _) = by_name.get(name).ok_or_else(|| unknown(role, name, &by_name))?;
        if let Some(expected) = settings.kind.lacks(role) {
            let (name, kind) = (name.to_owned(), settings.kind.as_str());
            return Err(ModelsError::Unable { role, expected, name, kind });
        }
    }
    by_name.retain(|name, _| Role::ALL.iter().any(|role| names.of(*role) == name));
    Ok(by_name)
}

fn unknown<T>(role: Role, name: &str, known: &BTreeMap<String, T>) -> ModelsError {
    let known = known.keys().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none at all".to_owned() } else { known };
    ModelsError::Unknown { role, name: name.to_owned(), known }
}

#[cfg(test)]
#[path = "models_tests.rs"]
mod tests;
