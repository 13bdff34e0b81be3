//! The stream header, in both directions (RFC 6120 §4.7).

use crate::ns;
use crate::xml::write_attribute;

/// The attributes of `<stream:stream>`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Header {
    /// The default namespace, which says what kind of stream it is; empty on a router link.
    pub content_ns: String,
    /// Whom the stream is for.
    pub to: Option<String>,
    /// Who opened it.
    pub from: Option<String>,
    /// Its id, chosen by the accepting side.
    pub id: Option<String>,
    /// `1.0` where the stream has features (RFC 6120 §4.7.5).
    pub version: Option<String>,
    /// The language of human-readable text that has none of its own.
    pub lang: Option<String>,
}

impl Header {
    /// Appends the XML declaration and the start tag.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<?xml version='1.0'?><stream:stream");
        if !self.content_ns.is_empty() {
            write_attribute("xmlns", &self.content_ns, out);
        }
        write_attribute("xmlns:stream", ns::STREAM, out);
        let fields = [
            ("to", &self.to),
            ("from", &self.from),
            ("id", &self.id),
            ("version", &self.version),
            ("xml:lang", &self.lang),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                write_attribute(name, value, out);
            }
        }
        out.push(b'>');
    }

    /// The bytes of [`Header::write`].
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}
