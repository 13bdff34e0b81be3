//! Randomness as an argument: identifiers and jitter come from a generator that is passed in, so
//! that a seeded run repeats itself.

use std::fmt;

/// A source of random numbers, for identifiers and jitter; never for keys.
pub struct Random(Box<dyn FnMut() -> u64 + Send>);

impl Random {
    /// Takes any function that gives 64 random bits at a call.
    pub fn new(generator: impl FnMut() -> u64 + Send + 'static) -> Self {
        Self(Box::new(generator))
    }

    /// The sequence of a seed (SplitMix64): spread well, guessed easily.
    pub fn seeded(seed: u64) -> Self {
        let mut state = seed;
        Self::new(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        (self.0)()
    }

    /// 128 random bits.
    pub fn next_u128(&mut self) -> u128 {
        u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
