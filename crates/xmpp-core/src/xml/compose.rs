//! Elements put together in one expression.

use minidom::Element;
use rxml::{Namespace, NcName};

/// Puts elements together; implemented for [`Element`].
///
/// Attribute names are written in the source, hence `&'static str`; values may be anything.
///
/// ```
/// use xmpp_core::{Element, ns, xml::Compose};
///
/// let ping = Element::bare("iq", ns::CLIENT)
///     .with_attr("type", "get")
///     .with_attr("id", "p1")
///     .with_child(Element::bare("ping", ns::PING));
/// assert_eq!(ping.attr("id"), Some("p1"));
/// ```
pub trait Compose: Sized {
    /// Sets an attribute in no namespace, replacing an earlier value.
    ///
    /// # Panics
    /// If `name` is not an XML name without a colon.
    #[must_use]
    fn with_attr(self, name: &'static str, value: impl Into<String>) -> Self;

    /// Sets an attribute in a namespace, replacing an earlier value.
    ///
    /// # Panics
    /// If `name` is not an XML name without a colon.
    #[must_use]
    fn with_attr_ns(self, namespace: &'static str, name: &'static str, value: impl Into<String>) -> Self;

    /// Appends a child.
    #[must_use]
    fn with_child(self, child: Element) -> Self;

    /// Appends text.
    #[must_use]
    fn with_text(self, text: impl Into<String>) -> Self;

    /// Sets an attribute if there is a value.
    ///
    /// # Panics
    /// If `name` is not an XML name without a colon.
    #[must_use]
    fn with_optional(self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.with_attr(name, value),
            None => self,
        }
    }
}

impl Compose for Element {
    fn with_attr(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attrs_mut().insert(Namespace::NONE, nc_name(name), value.into());
        self
    }

    fn with_attr_ns(mut self, namespace: &'static str, name: &'static str, value: impl Into<String>) -> Self {
        self.attrs_mut().insert(namespace.into(), nc_name(name), value.into());
        self
    }

    fn with_child(mut self, child: Element) -> Self {
        self.append_child(child);
        self
    }

    fn with_text(mut self, text: impl Into<String>) -> Self {
        self.append_text(text);
        self
    }
}

fn nc_name(name: &'static str) -> NcName {
    NcName::try_from(name).expect("attribute names in the source are XML names without a colon")
}
