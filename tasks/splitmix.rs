//! SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): what
//! every draw from a seed is made of. Nothing here is for secrets.

/// 2^64 over the golden ratio: what the generator's state grows by.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the generator gives from this state.
pub fn next(state: u64) -> u64 {
    mix(state.wrapping_add(GOLDEN))
}

/// Its output function: a permutation in which each bit of the input changes half of the output.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the reference implementation by Vigna, from seed 1234567.
    #[test]
    fn the_numbers_are_those_of_the_reference() {
        let states = (0..3_u64).map(|step| GOLDEN.wrapping_mul(step).wrapping_add(1_234_567));
        let numbers: Vec<u64> = states.map(next).collect();
        let expected =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(numbers, expected);
    }
}
