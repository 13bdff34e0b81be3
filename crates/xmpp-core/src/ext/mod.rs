//! Payloads: those that `xmpp_parsers` lacks, and those that need more than parsing.

pub mod carbons;
pub mod hints;
