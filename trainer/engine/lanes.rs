//! Sixteen numbers side by side, and blocks of sixteen times sixteen: what every kernel works on.
//!
//! All data of the engine is cut into these, so that one microkernel, [`tile`], multiplies
//! weights, keys and values alike, with aligned loads and without unsafe code. It is written for
//! the compiler's vectoriser: callers are compiled once for each instruction set and chosen at run
//! time, and what they call is inlined into them.
//!
//! - `EN-1`: a result is summed over its depth in ascending order, one fused multiply-add after
//!   the other, whatever else is computed beside it. This is why an answer does not depend on who
//!   else is in the batch.

use std::array::from_fn;

/// Numbers in [`Lanes`]: one register of AVX-512, two of AVX2, four of NEON.
pub const LANES: usize = 16;

/// Sixteen numbers, on a cache line of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Lanes(pub [f32; LANES]);

/// `[depth, lanes]`: of sixteen inputs, what they are multiplied by for sixteen outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Block(pub [Lanes; LANES]);

impl Lanes {
    pub const ZERO: Self = Self::splat(0.0);

    pub const fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    pub fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(from_fn(|lane| f(self.0[lane])))
    }

    #[inline(always)]
    pub fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(from_fn(|lane| f(self.0[lane], other.0[lane])))
    }

    /// All lanes by `f`, halves first: always in the same order.
    #[inline(always)]
    pub fn reduce(self, f: impl Fn(f32, f32) -> f32) -> f32 {
        let mut values = self.0;
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                values[lane] = f(values[lane], values[lane + half]);
            }
            half /= 2;
        }
        values[0]
    }
}

impl Block {
    pub const ZERO: Self = Self([Lanes::ZERO; LANES]);
}

/// Lanes that hold `numbers`.
pub const fn lanes_of(numbers: usize) -> usize {
    numbers.div_ceil(LANES)
}

/// `a * b + sum`, rounded once where the instruction set can: `FUSED` says whether it can, since
/// it is computed by a slow function elsewhere.
#[inline(always)]
pub fn multiply_add<const FUSED: bool>(a: f32, b: f32, sum: f32) -> f32 {
    if FUSED { a.mul_add(b, sum) } else { a * b + sum }
}

/// `M` rows by `N` panels of a product: `sums[m][n] = a[m] * b[n]`, over `depth` blocks.
///
/// `a(m, i)` is lanes `i` of row `m`, `b(n, i)` is block `i` of panel `n`.
#[inline(always)]
pub fn tile<'d, const FUSED: bool, const M: usize, const N: usize>(
    depth: usize,
    a: impl Fn(usize, usize) -> &'d Lanes,
    b: impl Fn(usize, usize) -> &'d Block,
) -> [[Lanes; N]; M] {
    let mut sums = [[Lanes::ZERO; N]; M];
    for i in 0..depth {
        let rows: [&[f32; LANES]; M] = from_fn(|m| &a(m, i).0);
        let panels: [&[Lanes; LANES]; N] = from_fn(|n| &b(n, i).0);
        for k in 0..LANES {
            for m in 0..M {
                for n in 0..N {
                    let (x, y) = (rows[m][k], &panels[n][k].0);
                    let sum = &mut sums[m][n].0;
                    for lane in 0..LANES {
                        sum[lane] = multiply_add::<FUSED>(x, y[lane], sum[lane]);
                    }
                }
            }
        }
    }
    sums
}

/// Of `x`, e^x within 2 units in the last place; 0 below -87.3, and at most 2^127.
///
/// Range reduction by ln 2 in two parts and a polynomial of degree 6, as `expf` of Cephes. Without
/// a branch or a call, so that it is computed in lanes.
#[inline(always)]
pub fn exp<const FUSED: bool>(x: f32) -> f32 {
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.0;
    /// 1.5 * 2^23: adding it rounds to a whole number, which is then in the lowest bits.
    const ROUNDER: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons and not `clamp`: what is not a number stays so.
    let bounded = if x < LOWEST { LOWEST } else { x };
    let bounded = if bounded > HIGHEST { HIGHEST } else { bounded };
    let rounded = multiply_add::<FUSED>(bounded, std::f32::consts::LOG2_E, ROUNDER);
    let power = rounded - ROUNDER;
    let rest = multiply_add::<FUSED>(-power, LN_2_HIGH, bounded);
    let rest = multiply_add::<FUSED>(-power, LN_2_LOW, rest);
    let mut sum = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        sum = multiply_add::<FUSED>(sum, rest, coefficient);
    }
    let value = multiply_add::<FUSED>(sum, rest * rest, rest) + 1.0;
    let exponent = (rounded.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127)) << 23;
    let scaled = value * f32::from_bits(exponent);
    if x < LOWEST { 0.0 } else { scaled }
}
