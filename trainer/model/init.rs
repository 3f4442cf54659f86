//! Random weights that are the same bytes on every machine.

use orcapack_tasks::splitmix::{GOLDEN, mix};

/// Deviation of a fresh embedding and head (`initializer_range` of the architecture).
pub const DEVIATION: f64 = 0.02;

/// A stream of numbers from the standard normal distribution.
///
/// Marsaglia and Bray's polar method over splitmix64. It uses only operations that IEEE 754 rounds
/// in one way, and a logarithm of its own, as those of the systems' libraries differ in their last
/// bits.
#[derive(Clone, Debug)]
pub struct Normal {
    state: u64,
    /// The second of the last pair.
    spare: Option<f64>,
}

impl Normal {
    /// Streams of one seed are independent of each other.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { state: mix(mix(seed.wrapping_add(GOLDEN)) ^ stream), spare: None }
    }

    /// `len` draws times `deviation`, rounded to f32.
    pub fn draws(&mut self, len: usize, deviation: f64) -> Vec<f32> {
        (0..len).map(|_| (self.draw() * deviation) as f32).collect()
    }

    fn draw(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (self.uniform(), self.uniform());
            let square = x * x + y * y;
            if square < 1.0 && square > 0.0 {
                let scale = (-2.0 * ln(square) / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }

    /// In [-1, 1), a multiple of 2^-52.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(GOLDEN);
        let bits = (mix(self.state) >> 11) as f64;
        bits / (1u64 << 52) as f64 - 1.0
    }
}

/// Natural logarithm of a normal number in (0, 1], to 1e-15: the exponent, and for the mantissa m
/// within a factor of sqrt(2) of 1 the series of 2 artanh((m - 1) / (m + 1)).
fn ln(x: f64) -> f64 {
    const EXPONENT: u64 = 0x7FF << 52;
    /// Odd powers up to the 23rd: |z| is at most 0.172, so what is left out is below 1e-20.
    const TERMS: u32 = 12;
    let bits = x.to_bits();
    let mut exponent = f64::from((bits >> 52) as u16) - 1023.0;
    let mut mantissa = f64::from_bits((bits & !EXPONENT) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1.0;
    }
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let series =
        (0..TERMS).rev().fold(0.0, |sum, term| sum * z * z + 1.0 / f64::from(2 * term + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * z * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_draws_of_a_seed_are_these() {
        let draws: Vec<u32> = Normal::new(7, 3).draws(4, 1.0).iter().map(|x| x.to_bits()).collect();
        assert_eq!(
            draws,
            [1_061_951_557, 3_218_879_288, 1_059_894_562, 1_061_369_553],
            "every machine starts a policy from the same weights"
        );
    }

    #[test]
    fn streams_and_seeds_differ() {
        let first = Normal::new(7, 3).draws(8, 1.0);
        assert_ne!(first, Normal::new(7, 4).draws(8, 1.0));
        assert_ne!(first, Normal::new(8, 3).draws(8, 1.0));
    }

    #[test]
    fn draws_have_the_moments_of_a_normal_distribution() {
        const COUNT: usize = 200_000;
        let draws = Normal::new(1, 0).draws(COUNT, 1.0);
        let moment = |power: i32| {
            draws.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / COUNT as f64
        };
        // Standard errors are 0.0022, 0.0032, 0.0087 and 0.022.
        assert!(moment(1).abs() < 0.01, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.015, "variance {}", moment(2));
        assert!(moment(3).abs() < 0.04, "third moment {}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.1, "fourth moment {}", moment(4));
    }

    #[test]
    fn the_logarithm_is_right() {
        for x in [1.0, 0.999_999, 0.75, 0.707, 0.5, 0.1, 1e-9, 4.9e-31] {
            assert!((ln(x) - x.ln()).abs() <= 2e-15 * x.ln().abs().max(1.0), "{x}");
        }
    }
}
