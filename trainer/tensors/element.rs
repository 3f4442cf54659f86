//! The types that a file's numbers may have. All are widened to f32, which holds each exactly.

/// Type of a tensor's elements in a file, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
    Bf16,
}

impl Element {
    /// By the format's name of it.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// Of one element.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The numbers in `bytes`, which hold whole elements.
    pub(super) fn decode(self, bytes: &[u8], into: &mut Vec<f32>) {
        match self {
            Self::F32 => {
                let (words, _) = bytes.as_chunks::<4>();
                into.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
            }
            Self::F16 => {
                let (words, _) = bytes.as_chunks::<2>();
                into.extend(words.iter().map(|word| f16_to_f32(u16::from_le_bytes(*word))));
            }
            Self::Bf16 => {
                let (words, _) = bytes.as_chunks::<2>();
                let widen =
                    |word: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*word)) << 16);
                into.extend(words.iter().map(widen));
            }
        }
    }
}

/// The upper half of the bits, rounded to the nearest, ties to even. A NaN stays one.
pub(super) fn f32_to_bf16(number: f32) -> u16 {
    let bits = number.to_bits();
    if number.is_nan() {
        // The quiet bit: without it, a NaN with all other bits in the lower half were infinite.
        return high_half(bits) | 0x40;
    }
    high_half(bits + 0x7FFF + ((bits >> 16) & 1))
}

fn high_half(bits: u32) -> u16 {
    (bits >> 16) as u16
}

/// IEEE 754 binary16: 1 bit of sign, 5 of exponent with bias 15, 10 of fraction.
fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10) & 0x1F, u32::from(bits) & 0x3FF);
    let magnitude = match exponent {
        // Subnormal: multiples of 2^-24, and a power of two times a short integer is exact.
        0 => (f32::from(bits & 0x3FF) / (1 << 24) as f32).to_bits(),
        0x1F => 0x7F80_0000 | (fraction << 13),
        _ => ((exponent + 127 - 15) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use proptest::prelude::*;

    use super::*;

    /// candle's own conversion of all 65,536 patterns.
    fn widened(dtype: DType) -> Vec<f32> {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let tensor = Tensor::from_raw_buffer(&bytes, dtype, &[1 << 16], &Device::Cpu).unwrap();
        tensor.to_dtype(DType::F32).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn each_half_precision_number_is_widened_exactly() {
        for (element, dtype) in [(Element::F16, DType::F16), (Element::Bf16, DType::BF16)] {
            let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let mut decoded = Vec::new();
            element.decode(&bytes, &mut decoded);
            for (found, expected) in decoded.iter().zip(widened(dtype)) {
                let both_nan = found.is_nan() && expected.is_nan();
                assert!(both_nan || found.to_bits() == expected.to_bits(), "{found} {expected}");
            }
        }
    }

    #[test]
    fn a_number_of_bf16_is_narrowed_to_itself() {
        for bits in 0..=u16::MAX {
            let number = f32::from_bits(u32::from(bits) << 16);
            let narrowed = f32_to_bf16(number);
            assert!(narrowed == bits || number.is_nan() && narrowed == bits | 0x40, "{bits:#06x}");
        }
    }

    proptest! {
        #[test]
        fn narrowing_to_bf16_rounds_as_candle_does(bits: u32) {
            let number = f32::from_bits(bits);
            let tensor = Tensor::new(&[number], &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap();
            let expected: Vec<f32> = tensor.to_dtype(DType::F32).unwrap().to_vec1().unwrap();
            let found = f32::from_bits(u32::from(f32_to_bf16(number)) << 16);
            prop_assert!(found == expected[0] || found.is_nan() && expected[0].is_nan());
        }
    }
}
