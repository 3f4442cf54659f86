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
    pub fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        for lane in &mut self.0 {
            *lane = f(*lane);
        }
        self
    }

    #[inline(always)]
    pub fn zip(mut self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        for (lane, other) in self.0.iter_mut().zip(other.0) {
            *lane = f(*lane, other);
        }
        self
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
        let mut rows = [&Lanes::ZERO.0; M];
        let mut panels = [&Block::ZERO.0; N];
        (0..M).for_each(|m| rows[m] = &a(m, i).0);
        (0..N).for_each(|n| panels[n] = &b(n, i).0);
        for k in 0..LANES {
            for (sums, row) in sums.iter_mut().zip(&rows) {
                for (sums, panel) in sums.iter_mut().zip(&panels) {
                    for (sum, y) in sums.0.iter_mut().zip(&panel[k].0) {
                        *sum = multiply_add::<FUSED>(row[k], *y, *sum);
                    }
                }
            }
        }
    }
    sums
}
