//! What a layer computes: composed of candle's operations, or fused, with gradients of their own.

pub mod composed;
pub mod fused;
pub mod rotary;

use candle_core::Device;

/// How a layer is computed. Both give the same values and gradients, to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ops {
    /// Of candle's own operations and its autograd, on any device: what the other is tested with.
    Composed,
    /// Kernels with gradients of their own, f32 on the CPU: several times as fast, in a quarter of
    /// the memory.
    Fused,
}

impl Ops {
    /// The fastest that `device` has.
    pub fn for_device(device: &Device) -> Self {
        if device.is_cpu() { Self::Fused } else { Self::Composed }
    }
}
