//! Bytes into what the edges make of one stanza, or of one activity. Whatever it is to them, nothing that somebody wrote
//! is printed with it.

use connector_edges::fuzzing::{activity, stanza};
use xmpp_core::Element;
use xmpp_core::xml::{Frame, Limits, Reader};

/// What is said in a message, and nowhere else.
const CANARY: &str = "a canary in a body";

pub(crate) fn run(data: &[u8]) {
    let mut reader = Reader::new(Limits::default());
    reader.feed(b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>");
    reader.feed(data);
    let canary = data.windows(CANARY.len()).all(|window| window != CANARY.as_bytes());
    while let Ok(Some(frame)) = reader.next() {
        if let Frame::Element(mut element) = frame {
            let _ = stanza(&element);
            if canary {
                say(&mut element);
                let printed = stanza(&element);
                assert!(!printed.contains(CANARY), "what somebody wrote is printed: {printed}");
            }
        }
    }
    let _ = activity(data);
}

/// Says it in every message in here, those that are passed on in others included.
fn say(element: &mut Element) {
    for child in element.children_mut() {
        if child.is("body", "jabber:client") {
            child.append_text_node(CANARY);
        } else {
            say(child);
        }
    }
}
