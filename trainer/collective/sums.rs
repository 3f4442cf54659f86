//! The arithmetic of collectives, as wide as the machine computes.

use multiversion::multiversion;

/// `into[i] += from[i]`, as far as both reach.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn add(into: &mut [f32], from: &[f32]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into += from;
    }
}

/// Rounds to the nearest bf16, ties to even: into `into`, and each value itself.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn round_to_bf16(values: &mut [f32], into: &mut [u16]) {
    for (value, into) in values.iter_mut().zip(into) {
        *into = to_bf16(*value);
        *value = from_bf16(*into);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn widen_bf16(values: &mut [f32], from: &[u16]) {
    for (value, from) in values.iter_mut().zip(from) {
        *value = from_bf16(*from);
    }
}

#[inline]
fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    // A NaN stays one, and a quiet one, whichever bits it has.
    let chosen = if value.is_nan() { bits | 0x0040_0000 } else { rounded };
    (chosen >> 16) as u16
}

#[inline]
fn from_bf16(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bf16_is_the_nearest_and_stays_what_it_is(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            let (mut values, mut wire) = ([value], [0]);
            round_to_bf16(&mut values, &mut wire);
            let [rounded] = values;
            if value.is_nan() {
                prop_assert!(rounded.is_nan());
            } else {
                let neighbours = [wire[0].wrapping_sub(1), wire[0].wrapping_add(1)].map(from_bf16);
                let error = |it: f32| (f64::from(it) - f64::from(value)).abs();
                let is_nearest = |it: &f32| !it.is_finite() || error(*it) >= error(rounded);
                prop_assert!(!rounded.is_finite() || neighbours.iter().all(is_nearest));
            }
            let mut again = [rounded];
            round_to_bf16(&mut again, &mut wire);
            prop_assert_eq!(again[0].to_bits(), rounded.to_bits());
            widen_bf16(&mut again, &wire);
            prop_assert_eq!(again[0].to_bits(), rounded.to_bits());
        }
    }

    #[test]
    fn ties_go_to_the_even_one_and_overflow_to_infinity() {
        let values = [0x3f80_8000, 0x3f81_8000, 0x7f7f_ffff, 0x8000_0000].map(f32::from_bits);
        let expected = [0x3f80, 0x3f82, 0x7f80, 0x8000];
        assert_eq!(values.map(to_bf16), expected);
    }
}
