//! What is answered instead of an answer, in OpenAI's shape:
//! `{"error": {"message", "type", "param", "code"}}`.

use std::fmt;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use orcapack_trainer::engine::request::EngineError;
use serde_json::{Value, json};

/// Seconds until a full queue is worth another try: an answer takes about so long.
const RETRY_AFTER_SEC: &str = "1";

/// A request that is not served.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ApiError {
    pub status: StatusCode,
    pub message: String,
    /// The parameter that it is about, as `messages[2].content`.
    pub param: Option<String>,
    pub code: &'static str,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code }
    }

    /// A parameter that is not as it should be.
    pub fn param(param: impl Into<String>, expected: &str, found: impl fmt::Display) -> Self {
        let param = param.into();
        let message = format!("{param}: expected {expected}, found {found}");
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_value", message);
        Self { param: Some(param), ..error }
    }

    /// A parameter that would change the answer, and that there is no support for.
    pub fn unsupported(param: impl Into<String>, what: &str) -> Self {
        let param = param.into();
        let message = format!("{param}: {what}");
        let error = Self::new(StatusCode::BAD_REQUEST, "unsupported_parameter", message);
        Self { param: Some(param), ..error }
    }

    /// A defect of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// The same, of a parameter within `place`, which ends with a dot.
    pub fn below(self, place: &str) -> Self {
        let param = self.param.map(|param| format!("{place}{param}"));
        Self { message: format!("{place}{}", self.message), param, ..self }
    }

    /// What the engine says to a request whose prompt is called `prompt`.
    pub fn of_engine(error: &EngineError, prompt: &'static str) -> Self {
        let bad = |param: &str, code, message| {
            let error = Self::new(StatusCode::BAD_REQUEST, code, message);
            Self { param: Some(param.to_owned()), ..error }
        };
        match error {
            EngineError::QueueFull(waiting) => {
                let message = format!("the queue is full: {waiting} requests wait; try again");
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message)
            }
            EngineError::PromptTooLong { found, max } => {
                let message = format!(
                    "this model's maximum context length is {max} tokens, of which at least one \
                     is for the answer; the prompt has {found}"
                );
                bad(prompt, "context_length_exceeded", message)
            }
            EngineError::BadRequest { key, .. } => bad(key, "invalid_value", error.to_string()),
            EngineError::NotFinite { .. } => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(status, "not_finite", error.to_string())
            }
            EngineError::Ended(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "engine_ended", error.to_string())
            }
        }
    }

    /// As it stands in a body or in an event of a stream.
    pub fn body(&self) -> Value {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let Self { message, param, code, .. } = self;
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(self.body());
        match self.status {
            status @ StatusCode::TOO_MANY_REQUESTS => {
                (status, [(RETRY_AFTER, RETRY_AFTER_SEC)], body).into_response()
            }
            status @ StatusCode::UNAUTHORIZED => {
                (status, [(WWW_AUTHENTICATE, "Bearer")], body).into_response()
            }
            status => (status, body).into_response(),
        }
    }
}
