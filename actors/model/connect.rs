//! From an endpoint's settings to its model.

use std::path::Path;
use std::sync::Arc;

use orcapack_tasks::defect::{Defect, Defects};

use crate::model::Model;
use crate::model::literal::Literal;
use crate::model::replay::Replay;
use crate::model::settings::{EndpointKind, EndpointSettings};

/// Makes the model. Nothing is asked of a server yet; a recorded run is read.
///
/// # Errors
/// Everything that is wrong with a recorded run, or with an address.
pub fn connect(settings: &EndpointSettings) -> Result<Arc<dyn Model>, Defects> {
    Ok(match settings.kind {
        EndpointKind::Replay => {
            let run = settings.run.as_deref().unwrap_or(Path::new(""));
            Arc::new(Replay::open(run)?)
        }
        EndpointKind::Literal => Arc::new(Literal),
        other => {
            let place = Path::new(&settings.name);
            return Err(Defect::new(place, "replay or literal", other.as_str()).into());
        }
    })
}
