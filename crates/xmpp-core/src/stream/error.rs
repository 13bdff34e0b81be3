//! `<stream:error/>` (RFC 6120 §4.9).

use std::fmt;

/// Why a peer ended a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamError {
    /// The condition's name, such as `conflict` (RFC 6120 §4.9.3).
    pub condition: String,
    /// What the peer says about it, for people.
    pub text: Option<String>,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.condition)?;
        match &self.text {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}
