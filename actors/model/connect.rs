//! From an endpoint's settings to its model.

use std::path::Path;
use std::sync::Arc;

use orcapack_tasks::defect::{Defect, Defects};

use crate::model::anthropic::Anthropic;
use crate::model::embedded::{Embedded, Policies};
use crate::model::literal::Literal;
use crate::model::openai::OpenAi;
use crate::model::replay::Replay;
use crate::model::settings::{EndpointKind, EndpointSettings};
use crate::model::sglang::Sglang;
use crate::model::solution::Solution;
use crate::model::vllm::Vllm;
use crate::model::{Model, ModelError};

/// Makes the model. Nothing is asked of a server yet; a recorded run is read, and a policy's
/// directory looked through by `policies`.
///
/// # Errors
/// Everything that is wrong with a recorded run or a policy, or an address or key that no call
/// could ever be made with.
pub fn connect(
    settings: &EndpointSettings,
    policies: &dyn Policies,
) -> Result<Arc<dyn Model>, Defects> {
    let lacks = |what: &str, found: String| {
        let place = format!("models.{}", settings.name);
        Defects::from(Defect::new(Path::new(&place), what, found))
    };
    let refused = |error: ModelError| lacks("an endpoint that can be asked", error.message);
    Ok(match settings.kind {
        EndpointKind::OpenAi => Arc::new(OpenAi::new(settings).map_err(refused)?),
        EndpointKind::Vllm => Arc::new(Vllm::new(settings).map_err(refused)?),
        EndpointKind::Sglang => Arc::new(Sglang::new(settings).map_err(refused)?),
        EndpointKind::Anthropic => Arc::new(Anthropic::new(settings).map_err(refused)?),
        EndpointKind::Replay => {
            Arc::new(Replay::open(settings.run.as_deref().unwrap_or(Path::new("")))?)
        }
        EndpointKind::Literal => Arc::new(Literal),
        EndpointKind::Embedded => {
            let policy = settings.policy.as_ref();
            let policy = policy.ok_or_else(|| lacks("a policy's directory", "none".to_owned()))?;
            Arc::new(Embedded::new(settings, policies.sampler(policy)?))
        }
        EndpointKind::Solution => Arc::new(Solution::new(settings)),
    })
}
