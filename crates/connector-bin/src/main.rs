//! The Hybrid Message connector.
mod config;
fn main() {}
