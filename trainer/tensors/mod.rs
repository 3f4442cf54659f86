//! Safetensors files: tensors by name, their header checked before memory is taken.
//!
//! The format: <https://github.com/huggingface/safetensors#format>. Here they hold weights, and
//! what else is kept of a training in f32.

use std::path::PathBuf;

use orcapack_tasks::defect::{Defect, Defects};

use crate::caps::TENSOR_DEFECTS_MAX;

mod element;
mod header;

pub mod read;
pub mod set;
pub mod write;

pub use element::Element;

/// The first defects, and how many more there are.
pub(crate) fn few(mut defects: Defects) -> Defects {
    let Some(more) = defects.0.len().checked_sub(TENSOR_DEFECTS_MAX).filter(|more| *more > 0)
    else {
        return defects;
    };
    defects.0.truncate(TENSOR_DEFECTS_MAX);
    let file = defects.0.last().map_or_else(PathBuf::new, |defect| defect.file.clone());
    defects.0.push(Defect::new(&file, "the tensors of the model", format!("{more} more faults")));
    defects
}
