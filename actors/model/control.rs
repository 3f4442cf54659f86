//! A server of models apart from its sampling: how it is told to pause, to take weights, to go on.
//!
//! One try of one order at a time; what is ordered, and what follows a failure, is the caller's.

use std::time::Duration;

use serde_json::Value;

use super::http::{Credential, Http};
use super::settings::EndpointSettings;
use super::{ModelError, ModelErrorKind};

/// The routes of a server that are not below `v1`.
#[derive(Debug)]
pub struct Control(Http);

/// Why an order was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct ControlError {
    pub error: ModelError,
    /// The server knows no such route.
    pub is_unknown: bool,
}

impl Control {
    /// Of an endpoint that speaks HTTP; an order is to be answered within the limit.
    ///
    /// # Errors
    /// `Rejected` where nothing could ever be ordered with these settings.
    pub fn new(settings: &EndpointSettings, limit: Duration) -> Result<Self, ModelError> {
        let settings = EndpointSettings { try_timeout: limit, ..settings.clone() };
        Http::new(&settings, Credential::Bearer, &[]).map(Self)
    }

    /// Orders something, and answers what the server says of it: JSON, or a text, or null where it
    /// says nothing.
    ///
    /// # Errors
    /// Whatever is not a 2xx answer within the limit.
    pub async fn post(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, ControlError> {
        let route = self.0.root_route(path).query(query);
        self.0.order(&route, body, self.0.deadline()).await.map_err(ControlError::of)
    }

    /// Asks for something.
    ///
    /// # Errors
    /// As for [`Control::post`].
    pub async fn get(&self, path: &str) -> Result<Value, ControlError> {
        let route = self.0.root_route(path).get();
        self.0.order(&route, &Value::Null, self.0.deadline()).await.map_err(ControlError::of)
    }

    /// An answer that is not what the protocol says.
    pub fn malformed(&self, path: &str, what: impl AsRef<str>) -> ControlError {
        let error = self.0.malformed(&self.0.root_route(path), what);
        ControlError { error, is_unknown: false }
    }

    /// An order that the server says it has not carried out.
    pub fn refused(&self, path: &str, what: impl AsRef<str>) -> ControlError {
        let error = self.0.error(ModelErrorKind::Rejected, &self.0.root_route(path), what);
        ControlError { error, is_unknown: false }
    }
}

impl ControlError {
    fn of((status, error): (Option<u16>, ModelError)) -> Self {
        // 405: the address is known, and not for this.
        Self { error, is_unknown: matches!(status, Some(404 | 405)) }
    }
}
