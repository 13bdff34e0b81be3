//! The stream itself (RFC 6120 §4): its header, its features and its errors.

mod error;
mod features;
mod header;

pub(crate) use error::SEE_OTHER_HOST;
pub use error::StreamError;
pub use features::Features;
pub use header::Header;

/// What ends a stream.
pub(crate) const FOOTER: &[u8] = b"</stream:stream>";
