//! One target under libFuzzer: the variable `TARGET` says which, the arguments are libFuzzer's own.
#![no_main]

use std::sync::LazyLock;

use fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("TARGET").unwrap_or_default();
    let names: Vec<_> = fuzz::TARGETS.iter().map(|target| target.name).collect();
    fuzz::target(&name).unwrap_or_else(|| panic!("TARGET has to be one of {}", names.join(", ")))
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
