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
