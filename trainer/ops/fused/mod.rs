//! Kernels for f32 on the CPU, each with its backward pass beside it.
//!
//! They work on plain slices, and on rayon's current pool: its size is the caller's to choose
//! (`ThreadPool::install`). Every sum has an order that does not depend on the number of threads,
//! so a pass gives the same bits each time. `multiversion` compiles the inner loops for AVX-512,
//! AVX2 and what every machine has, and picks when the program runs.

pub mod attention;
pub mod head_norm;
pub(crate) mod lanes;
pub mod matrix;
pub mod rms_norm;
pub(crate) mod room;
pub mod swiglu;
pub mod token_logprob;

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Result, Storage, Tensor};

/// Of a contiguous f32 tensor on the CPU, without a copy.
pub struct Values<'t> {
    /// Candle's lock on it, whose type is not candle's.
    storage: Box<dyn Deref<Target = Storage> + 't>,
    range: Range<usize>,
}

impl<'t> Values<'t> {
    /// # Errors
    /// Another device, dtype, or layout.
    pub fn of(tensor: &'t Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("fused operations need a contiguous tensor, found {layout:?}")
        };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) => {
                Ok(Self { storage: Box::new(storage), range: start..end })
            }
            Storage::Cpu(_) => candle_core::bail!(
                "fused operations need {:?}, found {:?}",
                DType::F32,
                tensor.dtype()
            ),
            _ => candle_core::bail!(
                "fused operations are for the cpu, the tensor is on {:?}",
                tensor.device().location()
            ),
        }
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &**self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            // `of` has seen that it is not.
            _ => &[],
        }
    }
}
