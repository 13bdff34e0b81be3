//! What the accepting side offers (RFC 6120 §4.3.2).

use minidom::Element;

use crate::ns;
use crate::xml::Compose as _;

/// The features that a negotiation of ours looks for; others are passed over.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Features {
    /// STARTTLS is offered.
    pub starttls: bool,
    /// STARTTLS is offered, and marked as required.
    pub starttls_required: bool,
    /// The names of the SASL mechanisms on offer, in the server's order.
    pub mechanisms: Vec<String>,
    /// Resource binding is offered.
    pub bind: bool,
    /// Stream management is offered (XEP-0198 §2).
    pub sm: bool,
}

impl Features {
    /// Reads `<stream:features/>`; `None` if the element is something else.
    #[must_use]
    pub fn read(element: &Element) -> Option<Self> {
        if !element.is("features", ns::STREAM) {
            return None;
        }
        let starttls = element.get_child("starttls", ns::TLS);
        let mechanisms = element.get_child("mechanisms", ns::SASL).map(|mechanisms| {
            mechanisms.children().filter(|child| child.is("mechanism", ns::SASL)).map(Element::text).collect()
        });
        Some(Self {
            starttls: starttls.is_some(),
            starttls_required: starttls.is_some_and(|starttls| starttls.has_child("required", ns::TLS)),
            mechanisms: mechanisms.unwrap_or_default(),
            bind: element.has_child("bind", ns::BIND),
            sm: element.has_child("sm", ns::SM),
        })
    }

    /// Makes `<stream:features/>`.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut features = Element::bare("features", ns::STREAM);
        if self.starttls {
            let mut starttls = Element::bare("starttls", ns::TLS);
            if self.starttls_required {
                starttls.append_child(Element::bare("required", ns::TLS));
            }
            features.append_child(starttls);
        }
        if !self.mechanisms.is_empty() {
            let mut mechanisms = Element::bare("mechanisms", ns::SASL);
            for name in &self.mechanisms {
                mechanisms.append_child(Element::bare("mechanism", ns::SASL).with_text(name));
            }
            features.append_child(mechanisms);
        }
        if self.bind {
            features.append_child(Element::bare("bind", ns::BIND));
            // Clients of the time of RFC 3921 ask for a session as well; it is optional by now.
            let session = Element::bare("session", ns::SESSION);
            features.append_child(session.with_child(Element::bare("optional", ns::SESSION)));
        }
        if self.sm {
            features.append_child(Element::bare("sm", ns::SM));
        }
        features
    }
}
