//! Namespaces of what clients say to one another; those of the stream itself are in `xmpp_core::ns`.

/// Chat state notifications (XEP-0085).
pub(super) const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// Chat markers (XEP-0333).
pub(super) const CHAT_MARKERS: &str = "urn:xmpp:chat-markers:0";
/// Out-of-band data (XEP-0066).
pub(super) const OOB: &str = "jabber:x:oob";
/// What a room says to its members (XEP-0045).
pub(super) const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// Direct invitations to a room (XEP-0249).
pub(super) const CONFERENCE: &str = "jabber:x:conference";
/// Service discovery (XEP-0030).
pub(super) const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// Contact lists (RFC 6121 §2).
pub(super) const ROSTER: &str = "jabber:iq:roster";
/// The time of an entity (XEP-0202).
pub(super) const TIME: &str = "urn:xmpp:time";
/// Message archives (XEP-0313).
pub(super) const ARCHIVE: &str = "urn:xmpp:mam:2";
/// Pages of results (XEP-0059).
pub(super) const RESULT_SET: &str = "http://jabber.org/protocol/rsm";
