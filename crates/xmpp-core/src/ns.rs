//! Every namespace that this crate reads or writes, each with the document that defines it.

/// Stanzas on client streams, and of every stanza in memory (RFC 6120 §4.8.2).
pub const CLIENT: &str = "jabber:client";
/// Stanzas on a component's stream (XEP-0114 §3).
pub const COMPONENT_ACCEPT: &str = "jabber:component:accept";
/// The stream element, its features and its errors (RFC 6120 §4.8.1).
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// The conditions inside a stream error (RFC 6120 §4.9.2).
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// The conditions inside a stanza error (RFC 6120 §8.3.2).
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// STARTTLS (RFC 6120 §5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL negotiation (RFC 6120 §6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Resource binding (RFC 6120 §7).
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// The session request of RFC 3921 §3, which older clients still send.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// Stream management (XEP-0198).
pub const SM: &str = "urn:xmpp:sm:3";
/// Application ping (XEP-0199).
pub const PING: &str = "urn:xmpp:ping";
/// Message carbons (XEP-0280).
pub const CARBONS: &str = "urn:xmpp:carbons:2";
/// Stanza forwarding (XEP-0297).
pub const FORWARD: &str = "urn:xmpp:forward:0";
/// Delayed delivery (XEP-0203).
pub const DELAY: &str = "urn:xmpp:delay";
/// Message processing hints (XEP-0334).
pub const HINTS: &str = "urn:xmpp:hints";
/// Unique and stable stanza ids (XEP-0359).
pub const STANZA_ID: &str = "urn:xmpp:sid:0";
/// The `<route>` envelope of a trusted link, and the names bound on a router (jabberd2).
pub const ROUTE: &str = "http://jabberd.jabberstudio.org/ns/component/1.0";
/// The session verbs and ids inside a `<route>` (jabberd2).
pub const SESSION_CONTROL: &str = "http://jabberd.jabberstudio.org/ns/session/1.0";
/// The reserved namespace of `xml:lang`.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
