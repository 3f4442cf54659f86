//! Weights as a directory that transformers reads: one safetensors file, or several with an index.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use candle_core::{Tensor, Var};
use serde_json::json;

use super::parameters::Parameters;
use super::weights::{INDEX, SINGLE, WEIGHT_MAP};
use crate::files;
use crate::tensors::write::{self, WeightType};

/// How weights are written.
#[derive(Clone, Copy, Debug)]
pub struct WeightsFormat {
    pub element: WeightType,
    /// Of the tensors of one file together; a single tensor may have more.
    pub shard_bytes_max: usize,
}

impl Default for WeightsFormat {
    /// As transformers does.
    fn default() -> Self {
        Self { element: WeightType::F32, shard_bytes_max: 5_000_000_000 }
    }
}

/// Fills `dir`, which has no weights yet; the same weights give the same bytes.
pub(crate) fn write_weights(
    dir: &Path,
    parameters: &Parameters,
    format: WeightsFormat,
) -> io::Result<()> {
    let mut shards = shards(parameters, format);
    let metadata = write::format_pt();
    if shards.len() == 1 {
        let tensors = shards.pop().unwrap_or_default();
        return write::write(&dir.join(SINGLE), &tensors, format.element, &metadata);
    }
    let count = shards.len();
    let (mut map, mut bytes) = (BTreeMap::new(), 0);
    for (shard, tensors) in shards.into_iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", shard + 1);
        write::write(&dir.join(&name), &tensors, format.element, &metadata)?;
        bytes += size(&tensors, format);
        map.extend(tensors.into_keys().map(|tensor| (tensor, name.clone())));
    }
    let index = json!({"metadata": {"total_size": bytes}, WEIGHT_MAP: map});
    files::write_text(&dir.join(INDEX), &format!("{index:#}\n"))
}

fn size(tensors: &BTreeMap<String, Tensor>, format: WeightsFormat) -> usize {
    tensors.values().map(|tensor| format.element.bytes(tensor.elem_count())).sum()
}

/// Cuts the weights, in their order, into shares that fit a file.
fn shards(parameters: &Parameters, format: WeightsFormat) -> Vec<BTreeMap<String, Tensor>> {
    let mut shards = Vec::new();
    let (mut shard, mut bytes) = (BTreeMap::new(), 0);
    for (name, var) in parameters.named() {
        let more = format.element.bytes(var.elem_count());
        if bytes > 0 && bytes + more > format.shard_bytes_max {
            shards.push(std::mem::take(&mut shard));
            bytes = 0;
        }
        bytes += more;
        shard.insert(name, Var::as_detached_tensor(var));
    }
    shards.push(shard);
    shards
}
