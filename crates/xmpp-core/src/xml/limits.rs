//! What a peer may make us keep in memory.

/// Bounds on XML from a peer, enforced while the bytes are read and before any element is built.
///
/// `Default` gives the values in the fields' descriptions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How deep elements may nest in a stanza, the stanza itself being 1; default 32.
    pub depth: usize,
    /// How many bytes a stanza or the stream header may have; default 262,144.
    pub stanza_bytes: usize,
    /// How many attributes an element may have, namespace declarations included; default 64.
    pub attributes: usize,
    /// How many bytes a name or an attribute's value may have; default 4,096. Longer text is no matter.
    pub token_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 32, stanza_bytes: 256 * 1024, attributes: 64, token_bytes: 4096 }
    }
}
