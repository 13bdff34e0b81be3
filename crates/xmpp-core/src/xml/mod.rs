//! Bytes in any chunks to elements, and back.

mod compose;
mod limits;

pub use compose::Compose;
pub use limits::Limits;

use minidom::Element;

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A complete child of the stream.
    Element(Element),
    /// The stream's end.
    Close,
}

/// Why bytes are not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlError {
    /// Elements nest deeper than allowed.
    #[error("elements nest deeper than {0}")]
    Depth(usize),
}
