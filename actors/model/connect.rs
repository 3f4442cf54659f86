//! From an endpoint's settings to its model.

use std::path::Path;
use std::sync::Arc;

use orcapack_tasks::defect::{Defect, Defects};

use crate::model::anthropic::Anthropic;
use crate::model::literal::Literal;
use crate::model::openai::OpenAi;
use crate::model::replay::Replay;
use crate::model::settings::{EndpointKind, EndpointSettings};
use crate::model::sglang::Sglang;
use crate::model::solution::Solution;
use crate::model::vllm::Vllm;
use crate::model::{Model, ModelError};

/// Makes the model. Nothing is asked of a server yet; a recorded run is read.
///
/// # Errors
/// Everything that is wrong with a recorded run, or an address or key that no call could ever be
/// made with.
pub fn connect(settings: &EndpointSettings) -> Result<Arc<dyn Model>, Defects> {
    let refused = |error: ModelError| {
        let place = format!("models.{}", settings.name);
        Defects::from(Defect::new(
            Path::new(&place),
            "an endpoint that can be asked",
            error.message,
        ))
    };
    Ok(match settings.kind {
        EndpointKind::OpenAi => Arc::new(OpenAi::new(settings).map_err(refused)?),
        EndpointKind::Vllm => Arc::new(Vllm::new(settings).map_err(refused)?),
        EndpointKind::Sglang => Arc::new(Sglang::new(settings).map_err(refused)?),
        EndpointKind::Anthropic => Arc::new(Anthropic::new(settings).map_err(refused)?),
        EndpointKind::Replay => {
            Arc::new(Replay::open(settings.run.as_deref().unwrap_or(Path::new("")))?)
        }
        EndpointKind::Literal => Arc::new(Literal),
        EndpointKind::Solution => Arc::new(Solution::new(settings)),
    })
}
