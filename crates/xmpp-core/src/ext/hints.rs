//! Message processing hints (XEP-0334).

use minidom::Element;

use crate::ns;

/// What a message asks of the servers that it passes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Hint {
    /// Do not copy it to other resources (XEP-0334 §4.3).
    NoCopy,
    /// Do not store it at all, not even for an offline recipient.
    NoStore,
    /// Do not archive it.
    NoPermanentStore,
    /// Store it, though it may look as if it was not worth it.
    Store,
}

impl Hint {
    const ALL: [Self; 4] = [Self::NoCopy, Self::NoStore, Self::NoPermanentStore, Self::Store];

    fn name(self) -> &'static str {
        match self {
            Self::NoCopy => "no-copy",
            Self::NoStore => "no-store",
            Self::NoPermanentStore => "no-permanent-store",
            Self::Store => "store",
        }
    }

    /// The payload to append to a message.
    #[must_use]
    pub fn element(self) -> Element {
        Element::bare(self.name(), ns::HINTS)
    }

    /// Whether a message carries this hint.
    #[must_use]
    pub fn is_in(self, message: &Element) -> bool {
        message.has_child(self.name(), ns::HINTS)
    }

    /// The hints that a message carries.
    pub fn of(message: &Element) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|hint| hint.is_in(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Compose as _;

    #[test]
    fn hints_are_found_again() {
        let message = Element::bare("message", ns::CLIENT)
            .with_child(Hint::NoStore.element())
            .with_child(Element::bare("no-copy", "urn:other"))
            .with_child(Hint::Store.element());
        assert_eq!(Hint::of(&message).collect::<Vec<_>>(), [Hint::NoStore, Hint::Store]);
    }
}
