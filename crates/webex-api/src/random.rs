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
