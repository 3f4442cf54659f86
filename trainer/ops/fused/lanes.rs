//! Loops that a compiler turns into vector instructions: sums in lanes, and an exponential function
//! without branches. Inlined into the kernels, so that they are compiled for the kernel's target.

/// Two AVX-512 registers or four of AVX2: enough sums at a time to hide an addition's latency.
pub const LANES: usize = 32;

#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `f` of each pair, summed. Both slices are of the same length.
#[inline(always)]
pub fn sum_of(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i]);
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += f(*a, *b);
    }
    total(lanes)
}

/// `f` applied to each value in place, and its results summed.
#[inline(always)]
pub fn map_sum(x: &mut [f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            chunk[i] = f(chunk[i]);
            lanes[i] += chunk[i];
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *x = f(*x);
        *lane += *x;
    }
    total(lanes)
}

/// `f` of each pair, in its place. Both slices are of the same length.
#[inline(always)]
pub fn map_pairs(a: &mut [f32], b: &mut [f32], f: impl Fn(f32, f32) -> (f32, f32)) {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks_mut::<LANES>(), b.as_chunks_mut::<LANES>());
    for (a, b) in a.iter_mut().zip(b) {
        // Values of their own: the compiler need not fear that the slices overlap.
        let (mut of_a, mut of_b) = (*a, *b);
        for i in 0..LANES {
            (of_a[i], of_b[i]) = f(of_a[i], of_b[i]);
        }
        (*a, *b) = (of_a, of_b);
    }
    for (a, b) in a_rest.iter_mut().zip(b_rest) {
        (*a, *b) = f(*a, *b);
    }
}

#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = larger(chunk[i], lanes[i]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = larger(*x, *lane);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

/// `e^x` to 2 units in the last place; 0 below -87.3, infinite above 88.7, NaN of NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, then the polynomial of Cephes' `expf` for `e^r`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Added to a small number, it leaves that rounded to an integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // 2^n, into the exponent.
    let e = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
    let e = if x < -87.3 { 0.0 } else { e };
    let e = if x > 88.7 { f32::INFINITY } else { e };
    if x.is_nan() { x } else { e }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_exponential_of_special_values() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    proptest! {
        #[test]
        fn the_exponential_is_that_of_f64(x in -87.0_f32..88.0) {
            let expected = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) / expected - 1.0).abs() < 2.5e-7);
        }

        #[test]
        fn lanes_miss_no_value(x in proptest::collection::vec(-100_i16..100, 1..100)) {
            let mut x: Vec<f32> = x.into_iter().map(f32::from).collect();
            let sum: f32 = x.iter().sum();
            prop_assert_eq!(sum_of(&x, &x, |a, b| 2.0 * a - b), sum);
            let (mut a, mut b) = (x.clone(), x.clone());
            map_pairs(&mut a, &mut b, |a, b| (a + b, a - 1.0));
            prop_assert!(a.iter().zip(&b).zip(&x).all(|((a, b), x)| *a == 2.0 * x && *b == x - 1.0));
            prop_assert_eq!(max(&x), x.iter().copied().fold(f32::MIN, f32::max));
            prop_assert_eq!(map_sum(&mut x, |x| 3.0 * x), 3.0 * sum);
            prop_assert_eq!(x.iter().sum::<f32>(), 3.0 * sum);
        }
    }
}
