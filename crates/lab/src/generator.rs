//! Chance, from a seed: a lab started with the same seed makes the same choices in the same order.

use std::sync::{Mutex, PoisonError};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// A seeded source of choices and identifiers. Nothing secret is made with it.
#[derive(Debug)]
pub struct Generator(Mutex<StdRng>);

impl Generator {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A number from 0 up to but not including `bound`; 0 if the bound is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.with(|rng| rng.random_range(0..bound)) }
    }

    /// Bytes for nonces and identifiers.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        self.with(|rng| rng.random())
    }

    /// A random UUID (version 4) in lower case.
    pub fn uuid(&self) -> String {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid().to_string()
    }

    /// A duration from zero up to but not including `bound`, in whole microseconds.
    pub fn duration_below(&self, bound: std::time::Duration) -> std::time::Duration {
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        std::time::Duration::from_micros(self.below(micros))
    }
}
