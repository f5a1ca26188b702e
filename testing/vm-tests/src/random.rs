//! A small generator for random points in time: its seed is printed, so that a failure can be run again.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From `AMPOULE_TEST_SEED`, else from the clock; says which.
    #[must_use]
    pub fn seeded(test: &str) -> Self {
        let told = std::env::var("AMPOULE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = told.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |since| since.as_secs() ^ u64::from(since.subsec_nanos()))
        });
        crate::say(&format!("{test}: AMPOULE_TEST_SEED={seed}"));
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}
