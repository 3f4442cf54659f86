//! The body of a request: bounded, and JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Served;
use super::errors::ApiError;

/// A prompt of a million token ids in digits.
pub(super) const BODY_BYTES_MAX: usize = 8 << 20;
/// Bodies in memory at one time, others wait unread: as JSON each takes many times its bytes.
pub(super) const BODIES_MAX: usize = 16;
/// From the head of a request to the end of its body.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// An object, and its place among the bodies in memory.
pub(super) struct JsonBody {
    pub map: Map<String, Value>,
    _place: OwnedSemaphorePermit,
}

impl FromRequest<Arc<Served>> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, served: &Arc<Served>) -> Result<Self, ApiError> {
        let place = served.bodies.clone().acquire_owned().await;
        let place = place.map_err(|error| ApiError::internal(error.to_string()))?;
        let bytes = timeout(BODY_TIME_MAX, Bytes::from_request(request, served)).await;
        let bytes = bytes.map_err(|_| {
            let message = format!("the body did not come within {} s", BODY_TIME_MAX.as_secs());
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
        })?;
        let bytes = bytes.map_err(|rejection| {
            let status = rejection.into_response().status();
            let message = match status {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    format!("the body has more than {} MiB", BODY_BYTES_MAX >> 20)
                }
                _ => "the body was cut off".to_owned(),
            };
            ApiError::new(status, "invalid_body", message)
        })?;
        Ok(Self { map: parsed(&bytes)?, _place: place })
    }
}

fn parsed(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let bad = |message| ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message);
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(bad("the body: expected a JSON object, found another value".to_owned())),
        // Says the line and the column.
        Err(error) => Err(bad(format!("the body is not JSON: {error}"))),
    }
}
