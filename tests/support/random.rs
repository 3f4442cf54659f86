//! Random numbers of which the seed alone decides, and is told.

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// Seeded by `ORCAPACK_SEED`, else by the clock; prints the seed.
    pub fn seeded() -> Self {
        let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
        let seed = std::env::var("ORCAPACK_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(clock);
        eprintln!("ORCAPACK_SEED={seed}");
        Self(seed)
    }

    /// At least 0, less than `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}
