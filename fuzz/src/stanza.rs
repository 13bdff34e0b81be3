//! Bytes into what the edges make of one stanza, or of one activity. Whatever it is to them, nothing that somebody wrote
//! is printed with it.

use connector_edges::fuzzing::{activity, stanza};
use xmpp_core::Element;
use xmpp_core::xml::{Frame, Limits, Reader, write};

pub(crate) fn run(data: &[u8]) {
    let mut reader = Reader::new(Limits::default());
    reader.feed(b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>");
    reader.feed(data);
    while let Ok(Some(frame)) = reader.next() {
        if let Frame::Element(element) = frame {
            let printed = stanza(&element);
            if let Some(text) = only_in_body(&element) {
                assert!(!printed.contains(&text), "what somebody wrote is printed: {printed}");
            }
        }
    }
    let _ = activity(data);
}

/// The text of a message, if it is long enough to be told apart and stands nowhere else in the stanza.
fn only_in_body(element: &Element) -> Option<String> {
    let text = element.get_child("body", "jabber:client")?.text();
    let mut xml = Vec::new();
    write(element, &mut xml);
    let once = String::from_utf8(xml).ok()?.matches(&text).count() == 1;
    (text.len() >= 12 && once).then_some(text)
}
