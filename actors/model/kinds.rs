//! From a configured kind to the client that speaks it.

use std::sync::Arc;

use super::anthropic::Anthropic;
use super::openai::OpenAi;
use super::settings::{EndpointKind, EndpointSettings};
use super::sglang::Sglang;
use super::vllm::Vllm;
use super::{Model, ModelError};

/// The client for an endpoint that speaks HTTP; `None` for the kinds that do not.
///
/// # Errors
/// `Rejected` where no call could ever be made with these settings.
pub fn http_model(settings: &EndpointSettings) -> Result<Option<Arc<dyn Model>>, ModelError> {
    let model: Arc<dyn Model> = match settings.kind {
        EndpointKind::OpenAi => Arc::new(OpenAi::new(settings)?),
        EndpointKind::Anthropic => Arc::new(Anthropic::new(settings)?),
        EndpointKind::Vllm => Arc::new(Vllm::new(settings)?),
        EndpointKind::Sglang => Arc::new(Sglang::new(settings)?),
        EndpointKind::Replay | EndpointKind::Literal => return Ok(None),
    };
    Ok(Some(model))
}
