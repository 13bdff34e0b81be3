//! Payloads that need more than parsing.

pub mod carbons;
pub mod hints;
