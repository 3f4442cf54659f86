//! Writing: a file is there whole or not at all, and the same tensors give the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use candle_core::Tensor;
use serde_json::{Map, Value, json};

use super::Element;
use super::element::f32_to_bf16;
use super::header::METADATA;
use crate::files;

/// A header is padded with spaces, so that the data lie as their elements want.
const ALIGNMENT: usize = 8;

/// What f32 tensors are written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightType {
    #[default]
    F32,
    /// Half the size; each element rounded to 8 bits of precision.
    Bf16,
}

impl WeightType {
    /// As config.json names it.
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
        }
    }

    fn element(self) -> Element {
        match self {
            Self::F32 => Element::F32,
            Self::Bf16 => Element::Bf16,
        }
    }

    /// Of a tensor with so many elements.
    pub(crate) fn bytes(self, elements: usize) -> usize {
        elements * self.element().bytes()
    }
}

/// The metadata without which transformers and PEFT read no file.
pub fn format_pt() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_owned(), "pt".to_owned())])
}

/// Writes f32 tensors in the order of their names, one in memory at a time.
///
/// # Errors
/// The file cannot be written, or a tensor not be copied from its device.
pub fn write(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    weights: WeightType,
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let header = header(tensors, weights, metadata);
    files::write_whole(path, |file: &mut File| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for tensor in tensors.values() {
            let flat = tensor.flatten_all().and_then(|tensor| tensor.to_vec1::<f32>());
            write_elements(&mut file, &flat.map_err(io::Error::other)?, weights)?;
        }
        file.flush()
    })
}

fn header(
    tensors: &BTreeMap<String, Tensor>,
    weights: WeightType,
    metadata: &BTreeMap<String, String>,
) -> String {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.to_owned(), json!(metadata));
    }
    let mut begin = 0;
    for (name, tensor) in tensors {
        let end = begin + weights.bytes(tensor.elem_count());
        let dtype = weights.element().name();
        let entry = json!({"dtype": dtype, "shape": tensor.dims(), "data_offsets": [begin, end]});
        header.insert(name.clone(), entry);
        begin = end;
    }
    let mut header = Value::Object(header).to_string();
    let padded = header.len().next_multiple_of(ALIGNMENT);
    header.extend(std::iter::repeat_n(' ', padded - header.len()));
    header
}

fn write_elements(file: &mut impl Write, elements: &[f32], weights: WeightType) -> io::Result<()> {
    for element in elements {
        match weights {
            WeightType::F32 => file.write_all(&element.to_le_bytes())?,
            WeightType::Bf16 => file.write_all(&f32_to_bf16(*element).to_le_bytes())?,
        }
    }
    Ok(())
}
