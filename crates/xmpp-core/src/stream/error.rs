//! `<stream:error/>` (RFC 6120 §4.9).

use std::fmt;

use minidom::Element;

use crate::ns;
use crate::xml::Compose as _;

/// The condition of an account whose streams are at another host (RFC 6120 §4.9.3.19).
pub(crate) const SEE_OTHER_HOST: &str = "see-other-host";

/// Why a peer ended a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamError {
    /// The condition's name, such as `conflict` (RFC 6120 §4.9.3).
    pub condition: String,
    /// What the peer says about it, for people.
    pub text: Option<String>,
}

impl StreamError {
    /// Reads `<stream:error/>`; `None` if the element is something else.
    #[must_use]
    pub fn read(element: &Element) -> Option<Self> {
        if !element.is("error", ns::STREAM) {
            return None;
        }
        let mut conditions = element.children().filter(|child| child.has_ns(ns::STREAM_ERRORS));
        let condition = conditions.find(|child| child.name() != "text");
        Some(Self {
            condition: condition.map_or("undefined-condition", Element::name).to_owned(),
            text: element.get_child("text", ns::STREAM_ERRORS).map(Element::text),
        })
    }

    /// Makes the error that tells at which host the streams of an account are.
    pub(crate) fn see_other_host(host: &str) -> Element {
        let condition = Element::bare(SEE_OTHER_HOST, ns::STREAM_ERRORS).with_text(host);
        Element::bare("error", ns::STREAM).with_child(condition)
    }

    /// Makes `<stream:error/>` with one condition and perhaps an application's own.
    #[must_use]
    pub fn element(condition: &'static str, detail: Option<Element>) -> Element {
        let error =
            Element::bare("error", ns::STREAM).with_child(Element::bare(condition, ns::STREAM_ERRORS));
        match detail {
            Some(detail) => error.with_child(detail),
            None => error,
        }
    }
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
