//! The stream itself (RFC 6120 §4): its header, its features and its errors.

mod error;

pub use error::StreamError;
