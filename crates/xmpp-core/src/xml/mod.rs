//! Bytes in any chunks to elements, and back.

mod compose;
mod limits;
mod reader;
mod writer;

pub use compose::Compose;
pub use limits::Limits;
pub use reader::{Frame, Reader, XmlError};
pub(crate) use writer::write_attribute;
pub use writer::{write, write_within};

use std::fmt;

use minidom::Element;

/// Prints an element's name and nothing of its content, which may be somebody's words.
pub(crate) struct Outline<'a>(pub(crate) &'a Element);

impl fmt::Debug for Outline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.0.name())
    }
}
