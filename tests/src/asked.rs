//! What a kill test is asked for by its environment.

/// A fixed seed, unless one is given: `KILL_SEED=7 cargo test -p tests --test kill`.
#[must_use]
pub fn seed() -> u64 {
    asked("KILL_SEED").unwrap_or(1)
}

/// So many kills, unless another number is given: `KILLS=500`.
#[must_use]
pub fn kills(usual: usize) -> usize {
    asked("KILLS").map_or(usual, |kills| usize::try_from(kills).unwrap_or(usual))
}

/// How many times faster than life: 20, unless another scale is given: `KILL_SCALE=1`.
#[must_use]
pub fn scale() -> u32 {
    asked("KILL_SCALE").map_or(20, |scale| u32::try_from(scale).unwrap_or(20)).max(1)
}

fn asked(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
