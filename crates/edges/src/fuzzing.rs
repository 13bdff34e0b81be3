//! What reads foreign input inside the edges, for `fuzz/`: one stanza, one activity.

use router::envelope::Via;
use router::ids::{ImpStreamId, PersonId, StreamId, Time, Upstream};
use xmpp_core::Element;

use crate::{jabber, webex};

/// Reads a stanza as the session of alice does, and prints what it means without its content.
#[must_use]
pub fn stanza(element: &Element) -> String {
    let upstream = Upstream { stream: StreamId::Imp(ImpStreamId::new("stream")), n: 1 };
    let me = jabber::intake::Me {
        person: &PersonId::new("alice"),
        jid: &"alice@lab.example/webex".parse().expect("a full JID"),
        utc_offset: 60,
        archive: Some("q1"),
    };
    format!("{:?}", jabber::intake::read(element, &me, &upstream, Time(1_800_000_000_000)))
}

/// Reads an activity as alice's socket does; `None` where it is no activity at all.
#[must_use]
pub fn activity(json: &[u8]) -> Option<String> {
    let activity = serde_json::from_slice(json).ok()?;
    let now = Time(1_800_000_000_000);
    let reading = webex::intake::Reading {
        socket: &PersonId::new("alice"),
        via: Via::Socket,
        arrived: now,
        cloud: now,
    };
    Some(format!("{:?}", reading.take(&activity, None)))
}
