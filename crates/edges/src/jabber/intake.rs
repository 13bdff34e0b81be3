//! Stanza to [`Inbound`]: what a session brings, told apart, with JIDs prepared and long texts split.
//!
//! Nothing here waits or remembers, so each form of a message is one row of a test.

use ring::digest;
use router::envelope::{Body, Envelope, Form, JabberOrigin, Kind, Marked, Origin, Typing, TypingOrigin};
use router::ids::{JabberId, PersonId, StanzaId, Time, Upstream};
use router::inbound::Inbound;
use webex_api::Timestamp;
use xmpp_core::{Element, FullJid, Jid, ns};

use super::ns as more;
use super::words;

/// The largest part in bytes, time prefix included: a message of the cloud is cut off not far above.
const PART: usize = 7_000;
/// From this age on, a text is posted with its original time before it.
const OLD: i64 = 5 * 60 * 1000;

/// Whose session brought a stanza.
pub(crate) struct Me<'a> {
    /// The person.
    pub(crate) person: &'a PersonId,
    /// The session's full JID.
    pub(crate) jid: &'a FullJid,
    /// Minutes that local time is ahead of UTC, for the time before an old text.
    pub(crate) utc_offset: i32,
    /// The question to the archive whose answer is to be carried.
    pub(crate) archive: Option<&'a str>,
}

/// What a stanza means.
#[derive(Debug)]
pub(crate) enum Reading {
    /// To be handed to the hub.
    Inbound(Box<Inbound>),
    /// The answer to a request of ours, by its id; an error answers as well as a result.
    Response {
        /// The request's id.
        id: Box<str>,
        /// A result, not an error.
        ok: bool,
    },
    /// A request that the edge answers by itself, with this.
    Answer(Element),
    /// Another client of the same user is there, or gone.
    Client {
        /// Its full JID.
        jid: FullJid,
        /// Its priority; `None`: it is gone.
        priority: Option<i8>,
    },
    /// Nothing to carry, for this reason.
    Ignored(&'static str),
}

/// The resource under which IM and Presence shows a user's composed state.
const COMPOSED: &str = "composed";

/// Reads one stanza, the `n`th of its stream as `upstream` says.
pub(crate) fn read(stanza: &Element, me: &Me<'_>, upstream: &Upstream, now: Time) -> Reading {
    match stanza.name() {
        "message" => message(stanza, me, upstream, now),
        "presence" => presence(stanza, me),
        "iq" => iq(stanza, me),
        _ => Reading::Ignored("not a stanza"),
    }
}

fn presence(stanza: &Element, me: &Me<'_>) -> Reading {
    let Some(from) = address(stanza, "from") else { return Reading::Ignored("presence without an author") };
    if from.to_bare() != me.jid.to_bare() || from == **me.jid {
        return Reading::Ignored("presence of others");
    }
    // What IM and Presence makes of all clients is shown beside them, and nobody is there to be told anything.
    if from.resource().is_some_and(|resource| resource.as_str() == COMPOSED) {
        return Reading::Ignored("the composed state, which is no client");
    }
    let priority = match stanza.attr("type") {
        None => {
            let priority = stanza.get_child("priority", ns::CLIENT).map(Element::text);
            Some(priority.and_then(|priority| priority.trim().parse().ok()).unwrap_or(0))
        }
        Some("unavailable") => None,
        Some(_) => return Reading::Ignored("a subscription"),
    };
    match from.try_into_full() {
        Ok(jid) => Reading::Client { jid, priority },
        Err(_) => Reading::Ignored("presence of an account"),
    }
}

/// Requests are answered whether they are understood or not, or their senders would wait (RFC 6120 §8.2.3).
/// A session of ours offers no files, no rooms and no calls.
fn iq(stanza: &Element, me: &Me<'_>) -> Reading {
    let id = stanza.attr("id").unwrap_or_default();
    let kind = stanza.attr("type").unwrap_or_default();
    match kind {
        "result" | "error" => Reading::Response { id: id.into(), ok: kind == "result" },
        "get" | "set" => {
            let query = stanza.children().next();
            let answered = match query {
                Some(query) if kind == "get" && query.is("ping", ns::PING) => Some(None),
                Some(query) if kind == "get" && query.is("query", more::DISCO_INFO) => {
                    Some(Some(words::features(query.attr("node"))))
                }
                // A roster push is told to everybody; nothing is kept of it (RFC 6121 §2.1.6).
                Some(query) if kind == "set" && query.is("query", more::ROSTER) && is_account(stanza, me) => {
                    Some(None)
                }
                _ => None,
            };
            Reading::Answer(words::answer(stanza, answered))
        }
        _ => Reading::Ignored("an iq of no known type"),
    }
}

/// From the user's own account: the server speaks for it, with its name or without (RFC 6120 §8.1.2.1).
fn is_account(stanza: &Element, me: &Me<'_>) -> bool {
    stanza.attr("from").is_none() || address(stanza, "from").is_some_and(|from| from == me.jid.to_bare())
}

fn message(outer: &Element, me: &Me<'_>, upstream: &Upstream, now: Time) -> Reading {
    let own = me.jid.to_bare();
    if let Some(result) = outer.get_child("result", more::ARCHIVE) {
        return archived(outer, result, me, upstream, now);
    }
    let carbon = outer
        .children()
        .find_map(|child| {
            let form = match child.name() {
                "received" => Form::Received,
                "sent" => Form::Sent,
                _ => return None,
            };
            child.has_ns(ns::CARBONS).then_some((form, child))
        })
        .map(|(form, child)| (form, child.get_child("forwarded", ns::FORWARD)));
    let (form, forwarded, inner) = match carbon {
        None => (Form::Direct, None, outer),
        Some((form, forwarded)) => {
            // Anybody can send the element; only our own account can have sent a copy (XEP-0280 §11).
            if address(outer, "from").is_none_or(|from| from != own) {
                return Reading::Ignored("a forged carbon");
            }
            let inner = forwarded.and_then(|forwarded| forwarded.get_child("message", ns::CLIENT));
            let Some(inner) = inner else { return Reading::Ignored("a carbon of nothing") };
            (form, forwarded, inner)
        }
    };
    content(outer, form, forwarded, inner, me, upstream, now)
}

/// A message from the account's own archive, if we asked for it: anybody can send the element (XEP-0313 §4.2).
fn archived(outer: &Element, result: &Element, me: &Me<'_>, upstream: &Upstream, now: Time) -> Reading {
    if !is_account(outer, me) || result.attr("queryid") != me.archive || me.archive.is_none() {
        return Reading::Ignored("from an archive that was not asked");
    }
    let forwarded = result.get_child("forwarded", ns::FORWARD);
    let inner = forwarded.and_then(|forwarded| forwarded.get_child("message", ns::CLIENT));
    let Some(inner) = inner else { return Reading::Ignored("an archived nothing") };
    content(outer, Form::Archived, forwarded, inner, me, upstream, now)
}

/// What a message says, however it came.
fn content(
    outer: &Element,
    form: Form,
    forwarded: Option<&Element>,
    inner: &Element,
    me: &Me<'_>,
    upstream: &Upstream,
    now: Time,
) -> Reading {
    let own = me.jid.to_bare();
    let Some(from) = address(inner, "from") else { return Reading::Ignored("a message without an author") };
    // Never by the address on it: some servers rewrite it, some do not (docs/protocol/xmpp.md).
    let to = match form {
        Form::Direct | Form::Received => own.clone(),
        Form::Archived if from.to_bare() != own => own.clone(),
        Form::Sent | Form::Archived if from.to_bare() == own => match address(inner, "to") {
            Some(to) => to.into_bare(),
            None => own.clone(),
        },
        Form::Sent | Form::Archived => return Reading::Ignored("a carbon of what somebody else sent"),
    };
    let stamp = stamp_of([Some(outer), forwarded, Some(inner)].into_iter().flatten());
    let body = inner.get_child("body", ns::CLIENT).map(Element::text).filter(|body| !body.is_empty());
    let state = inner.children().find(|child| child.has_ns(more::CHAT_STATES)).map(Element::name);
    let envelope = |kind, text: &str| Envelope {
        origin: Origin::Jabber(JabberOrigin {
            session: me.person.clone(),
            form,
            from: from.as_str().into(),
            from_bare: bare(&from),
            to: JabberId::new(to.as_str()),
            stanza: StanzaId::new(inner.attr("id").unwrap_or_default()),
            origin_id: inner
                .get_child("origin-id", ns::STANZA_ID)
                .and_then(|origin| origin.attr("id"))
                .map(Box::from),
            text_hash: hash(text),
            stamp,
        }),
        kind,
        arrived: now,
    };
    let carry = |kind, text: &str, parts| {
        Reading::Inbound(Box::new(Inbound::Message(envelope(kind, text), parts, upstream.clone())))
    };

    match inner.attr("type").unwrap_or("normal") {
        "chat" | "normal" => {}
        "error" if form == Form::Direct => {
            // A chat state that could not be delivered is missed by nobody (docs/protocol/xmpp.md).
            if body.is_none() && state.is_some() {
                return Reading::Ignored("a chat state that came back");
            }
            return match inner.attr("id").filter(|id| !id.is_empty()) {
                Some(id) => {
                    let kind = Kind::Bounced { of: StanzaId::new(id), condition: condition(inner) };
                    carry(kind, "", Vec::new())
                }
                None => Reading::Ignored("an error about nothing"),
            };
        }
        "error" => return Reading::Ignored("a copy of an error"),
        "groupchat" => return Reading::Ignored("a room's message"),
        "headline" => return Reading::Ignored("a headline"),
        _ => return Reading::Ignored("a message of no known type"),
    }
    if inner.children().any(|child| child.has_ns(more::MUC_USER) || child.has_ns(more::CONFERENCE)) {
        return Reading::Ignored("about a room");
    }
    if let Some(file) = file(inner, body.as_deref()) {
        let notice = words::file_notice(file.name.as_deref());
        return carry(Kind::FileNotice, &file.hashed, vec![Body::Clear(notice.into())]);
    }
    if let Some(text) = body {
        let sent = stamp.filter(|stamp| now.since(*stamp) > OLD);
        let prefix = sent.map(|sent| words::time_prefix(sent, me.utc_offset)).unwrap_or_default();
        let parts = split(&prefix, &text).into_iter().map(|part| Body::Clear(part.into())).collect();
        return carry(Kind::Text, &text, parts);
    }
    let mark = inner.get_child("displayed", more::CHAT_MARKERS).and_then(|mark| mark.attr("id"));
    if let Some(id) = mark.filter(|id| !id.is_empty()) {
        return carry(Kind::Read(Marked::Stanza(StanzaId::new(id))), id, Vec::new());
    }
    match state {
        Some(state) => Reading::Inbound(Box::new(Inbound::Typing(
            Typing {
                from: TypingOrigin::Jabber {
                    session: me.person.clone(),
                    from: bare(&from),
                    to: JabberId::new(to.as_str()),
                    stanza: StanzaId::new(inner.attr("id").unwrap_or_default()),
                },
                active: state == "composing",
                stale: stamp.is_some(),
            },
            upstream.clone(),
        ))),
        None => Reading::Ignored("a message without a text"),
    }
}

/// A prepared address; `None` where there is none or it is not one.
fn address(stanza: &Element, name: &str) -> Option<Jid> {
    Jid::new(stanza.attr(name)?).ok()
}

fn bare(jid: &Jid) -> JabberId {
    JabberId::new(jid.to_bare().as_str())
}

pub(super) fn hash(text: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().expect("a SHA-256 digest has 32 bytes")
}

/// The oldest delay stamp (XEP-0203): a resumption adds its own to the one of the offline store.
fn stamp_of<'a>(holders: impl Iterator<Item = &'a Element>) -> Option<Time> {
    holders
        .flat_map(Element::children)
        .filter(|child| child.is("delay", ns::DELAY))
        .filter_map(|delay| delay.attr("stamp")?.parse::<Timestamp>().ok())
        .map(|stamp| Time(stamp.0))
        .min()
}

/// The condition of an error stanza (RFC 6120 §8.3.3).
fn condition(stanza: &Element) -> Box<str> {
    stanza
        .get_child("error", ns::CLIENT)
        .and_then(|error| error.children().find(|c| c.has_ns(ns::STANZA_ERRORS) && c.name() != "text"))
        .map_or("undefined-condition", Element::name)
        .into()
}

/// A file that was sent in Jabber.
struct File {
    name: Option<String>,
    /// What stands for the file where a text would be hashed.
    hashed: String,
}

/// Managed file transfer has no published form, so it is recognized generously (docs/protocol/xmpp.md): an
/// out-of-band address, a text that is nothing but an address on its port, or an element about a file
/// without a text.
fn file(message: &Element, body: Option<&str>) -> Option<File> {
    let oob = message
        .get_child("x", more::OOB)
        .and_then(|x| x.get_child("url", more::OOB))
        .map(Element::text)
        .filter(|url| !url.is_empty());
    if let Some(url) = oob {
        return Some(File { name: last_segment(&url), hashed: url });
    }
    match body {
        Some(text) => {
            let url = text.trim();
            (is_transfer(url)).then(|| File { name: last_segment(url), hashed: text.to_owned() })
        }
        None => message
            .children()
            .find(|child| child.name().to_ascii_lowercase().contains("file"))
            .map(|child| File { name: child.attr("name").map(str::to_owned), hashed: String::new() }),
    }
}

/// An address on the port of managed file transfer, and nothing beside it.
fn is_transfer(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !text.contains(char::is_whitespace) && authority.ends_with(":7336")
}

fn last_segment(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next()?;
    let after_host = path.split_once("://").map_or(path, |(_, rest)| rest);
    let (_, name) = after_host.rsplit_once('/')?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Cuts a text into parts of at most [`PART`] bytes, at a space or a line's end where one is near; the
/// prefix stands before the first. Nothing is lost: the parts put together are the text.
fn split(prefix: &str, text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = prefix.to_owned();
    let mut rest = text;
    while part.len() + rest.len() > PART {
        let limit = rest.floor_char_boundary(PART - part.len());
        let near = limit - limit / 8;
        let cut = rest[..limit]
            .char_indices()
            .rev()
            .take_while(|(at, _)| *at >= near)
            .find(|(_, c)| c.is_whitespace())
            .map_or(limit, |(at, c)| at + c.len_utf8());
        part.push_str(&rest[..cut]);
        parts.push(std::mem::take(&mut part));
        rest = &rest[cut..];
    }
    part.push_str(rest);
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use router::ids::{ImpStreamId, StreamId};

    use super::*;

    const NOW: Time = Time(1_790_000_000_000);

    fn reading(xml: &str) -> Reading {
        let stanza: Element = xml.parse().unwrap();
        let person = PersonId::new("bob");
        let jid = FullJid::new("bob@lab.example/webex-1").unwrap();
        let me = Me { person: &person, jid: &jid, utc_offset: 0, archive: Some("q1") };
        let upstream = Upstream { stream: StreamId::Imp(ImpStreamId::new("s")), n: 7 };
        read(&stanza, &me, &upstream, NOW)
    }

    fn carried(xml: &str) -> (JabberOrigin, Kind, Vec<String>) {
        match reading(xml) {
            Reading::Inbound(inbound) => match *inbound {
                Inbound::Message(envelope, parts, upstream) => {
                    assert_eq!(upstream.n, 7);
                    assert_eq!(envelope.arrived, NOW);
                    let Origin::Jabber(origin) = envelope.origin else { panic!("not from Jabber") };
                    let text = |body| match body {
                        Body::Clear(text) => text.to_string(),
                        other => panic!("{other:?}"),
                    };
                    (origin, envelope.kind, parts.into_iter().map(text).collect())
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn carbon(outer: &str, form: &str, inner: &str) -> String {
        format!(
            "<message xmlns='jabber:client' from='{outer}' to='bob@lab.example/webex-1' type='chat'>\
             <{form} xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded>\
             </{form}></message>"
        )
    }

    const HELLO: &str = "<message xmlns='jabber:client' from='Alice@LAB.example/Desk' \
        to='bob@lab.example' type='chat' id='m1'><body>hello</body>\
        <origin-id xmlns='urn:xmpp:sid:0' id='o1'/></message>";

    #[test]
    fn the_three_forms_of_one_message_have_the_same_fields() {
        let sent = HELLO
            .replace("Alice@LAB.example/Desk", "bob@lab.example/desk")
            .replace("to='bob@lab.example'", "to='ALICE@lab.example/phone'");
        let (direct, kind, parts) = carried(HELLO);
        assert_eq!(kind, Kind::Text);
        assert_eq!(parts, ["hello"]);
        assert_eq!(direct.form, Form::Direct);
        assert_eq!(&*direct.from, "alice@lab.example/Desk");
        assert_eq!(direct.from_bare.as_str(), "alice@lab.example");
        assert_eq!(direct.to.as_str(), "bob@lab.example");
        assert_eq!(direct.stanza.as_str(), "m1");
        assert_eq!(direct.origin_id.as_deref(), Some("o1"));
        assert_eq!(direct.text_hash, hash("hello"));
        assert_eq!(direct.stamp, None);

        let (received, ..) = carried(&carbon("bob@lab.example", "received", HELLO));
        assert_eq!(received, JabberOrigin { form: Form::Received, ..direct.clone() });

        let (copy, ..) = carried(&carbon("bob@lab.example", "sent", &sent));
        assert_eq!(copy.form, Form::Sent);
        assert_eq!(copy.from_bare.as_str(), "bob@lab.example");
        assert_eq!(copy.to.as_str(), "alice@lab.example");
        assert_eq!(copy.text_hash, direct.text_hash);
    }

    #[test]
    fn what_is_not_carried_has_a_reason() {
        let sent_by_others = carbon("bob@lab.example", "sent", HELLO);
        let forged = carbon("mallory@lab.example", "received", HELLO);
        let forged_full = carbon("bob@lab.example/other", "received", HELLO);
        let empty = carbon("bob@lab.example", "received", "");
        let copied_error =
            carbon("bob@lab.example", "received", &HELLO.replace("type='chat'", "type='error'"));
        let with = |inside: &str| HELLO.replace("<body>hello</body>", inside);
        let rows = [
            (forged, "a forged carbon"),
            (forged_full, "a forged carbon"),
            (sent_by_others, "a carbon of what somebody else sent"),
            (empty, "a carbon of nothing"),
            (copied_error, "a copy of an error"),
            (HELLO.replace("from='Alice@LAB.example/Desk'", ""), "a message without an author"),
            (HELLO.replace("Alice@LAB.example/Desk", "@"), "a message without an author"),
            (HELLO.replace("'chat'", "'groupchat'"), "a room's message"),
            (HELLO.replace("'chat'", "'headline'"), "a headline"),
            (HELLO.replace("'chat'", "'weather'"), "a message of no known type"),
            (HELLO.replace("'chat' id='m1'", "'error'"), "an error about nothing"),
            (with("<body>x</body><x xmlns='http://jabber.org/protocol/muc#user'/>"), "about a room"),
            (with("<body>x</body><x xmlns='jabber:x:conference' jid='r@x'/>"), "about a room"),
            (with("<body/>"), "a message without a text"),
            (with("<displayed xmlns='urn:xmpp:chat-markers:0'/>"), "a message without a text"),
            (with("<received xmlns='urn:xmpp:receipts' id='m0'/>"), "a message without a text"),
            (
                with("<paused xmlns='http://jabber.org/protocol/chatstates'/>").replace("'chat'", "'error'"),
                "a chat state that came back",
            ),
            ("<iq xmlns='jabber:client' type='odd'/>".into(), "an iq of no known type"),
            ("<note xmlns='jabber:client'/>".into(), "not a stanza"),
            ("<presence xmlns='jabber:client'/>".into(), "presence without an author"),
            ("<presence xmlns='jabber:client' from='alice@lab.example/x'/>".into(), "presence of others"),
        ];
        for (xml, reason) in rows {
            match reading(&xml) {
                Reading::Ignored(said) => assert_eq!(said, reason, "{xml}"),
                other => panic!("{xml}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_oldest_stamp_counts_and_an_old_text_says_when() {
        let stamped = HELLO.replace(
            "<body>",
            "<delay xmlns='urn:xmpp:delay' stamp='2026-09-21T13:20:00.5Z'/>\
             <delay xmlns='urn:xmpp:delay' stamp='2026-09-21T15:19:00+02:00'/>\
             <delay xmlns='urn:xmpp:delay' stamp='yesterday'/><body>",
        );
        let (origin, _, parts) = carried(&stamped);
        assert_eq!(origin.stamp, Some(Time(1_789_996_740_000)));
        assert_eq!(parts, ["[2026-09-21 13:19 UTC] hello"]);
        assert_eq!(origin.text_hash, hash("hello"), "the prefix is not part of what makes a repeat");
        let forwarded = carbon(
            "bob@lab.example",
            "received",
            &format!("<delay xmlns='urn:xmpp:delay' stamp='2026-09-21T14:13:19Z'/>{HELLO}"),
        );
        let (origin, _, parts) = carried(&forwarded);
        assert_eq!(origin.stamp, Some(Time(NOW.0 - 1_000)));
        assert_eq!(parts, ["hello"], "a second ago needs no telling");
    }

    #[test]
    fn only_the_plain_body_of_a_rich_stanza_is_read() {
        let rich = "<body>2 &lt; 3 *really* _here_</body>\
            <html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'>\
            <p style='font-weight:bold'>2 &lt; 3 <em>really</em></p></body></html>\
            <styling xmlns='urn:xmpp:styling:0'/>";
        let (_, kind, parts) = carried(&HELLO.replace("<body>hello</body>", rich));
        assert_eq!((kind, parts), (Kind::Text, vec!["2 < 3 *really* _here_".to_owned()]));
    }

    #[test]
    fn marks_bounces_and_hints() {
        let with = |inside: &str| HELLO.replace("<body>hello</body>", inside);
        let (_, kind, parts) = carried(&with("<displayed xmlns='urn:xmpp:chat-markers:0' id='m0'/>"));
        assert_eq!(kind, Kind::Read(Marked::Stanza(StanzaId::new("m0"))));
        assert!(parts.is_empty());

        let error = "<error type='cancel'><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no</text>\
            <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
        for xml in [with(error), with(&format!("<body>hello</body>{error}"))] {
            let (_, kind, _) = carried(&xml.replace("'chat'", "'error'"));
            let condition = "service-unavailable".into();
            assert_eq!(kind, Kind::Bounced { of: StanzaId::new("m1"), condition });
        }

        for (state, starts) in [("composing", true), ("paused", false), ("active", false), ("gone", false)] {
            let xml = with(&format!("<{state} xmlns='http://jabber.org/protocol/chatstates'/>"));
            let Reading::Inbound(inbound) = reading(&xml) else { panic!("{state}") };
            let Inbound::Typing(typing, _) = *inbound else { panic!("{state}") };
            assert_eq!((typing.active, typing.stale), (starts, false));
        }
        let late = with(
            "<composing xmlns='http://jabber.org/protocol/chatstates'/>\
             <delay xmlns='urn:xmpp:delay' stamp='2026-09-21T13:20:00Z'/>",
        );
        let Reading::Inbound(inbound) = reading(&late) else { panic!() };
        assert!(matches!(*inbound, Inbound::Typing(Typing { stale: true, .. }, _)));
    }

    #[test]
    fn a_file_becomes_a_notice() {
        let with = |inside: &str| HELLO.replace("<body>hello</body>", inside);
        let rows = [
            (
                with("<x xmlns='jabber:x:oob'><url>https://imp:7336/a/plan.pdf?k=1</url></x>"),
                Some("plan.pdf"),
            ),
            (with("<body> https://imp.corp.example:7336/files/plan.pdf </body>"), Some("plan.pdf")),
            (with("<fileTransfer xmlns='urn:vendor:x' name='plan.pdf'/>"), Some("plan.pdf")),
            (with("<file xmlns='urn:vendor:x'/>"), None),
        ];
        for (xml, name) in rows {
            let (_, kind, parts) = carried(&xml);
            assert_eq!(kind, Kind::FileNotice, "{xml}");
            assert_eq!(parts, [words::file_notice(name)]);
        }
        for text in ["see https://imp:7336/a", "https://imp:7337/a", "http://x/:7336"] {
            let (_, kind, parts) = carried(&with(&format!("<body>{text}</body>")));
            assert_eq!((kind, parts), (Kind::Text, vec![text.to_owned()]));
        }
    }

    #[test]
    fn requests_are_answered() {
        let request = |inside: &str, kind: &str| {
            let xml = format!(
                "<iq xmlns='jabber:client' from='alice@lab.example/d' id='q' type='{kind}'>{inside}</iq>"
            );
            let Reading::Answer(answer) = reading(&xml) else { panic!("{xml}") };
            assert_eq!((answer.attr("to"), answer.attr("id")), (Some("alice@lab.example/d"), Some("q")));
            (answer.attr("type").unwrap().to_owned(), answer)
        };
        assert_eq!(request("<ping xmlns='urn:xmpp:ping'/>", "get").0, "result");
        let (kind, disco) = request("<query xmlns='http://jabber.org/protocol/disco#info'/>", "get");
        assert_eq!(kind, "result");
        let query = disco.get_child("query", more::DISCO_INFO).unwrap();
        let announced: Vec<_> = query.children().filter_map(|child| child.attr("var")).collect();
        // Nothing with which a file could be offered (XEP-0095, XEP-0096, XEP-0065, XEP-0166, XEP-0234).
        assert_eq!(announced, [more::DISCO_INFO, more::CHAT_STATES, more::CHAT_MARKERS, ns::PING]);
        for (inside, kind) in [
            ("<si xmlns='http://jabber.org/protocol/si'/>", "set"),
            ("<query xmlns='http://jabber.org/protocol/bytestreams'/>", "set"),
            ("<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate'/>", "set"),
            ("<query xmlns='jabber:iq:roster'/>", "set"),
            ("<query xmlns='jabber:iq:version'/>", "get"),
            ("", "get"),
        ] {
            let (kind, answer) = request(inside, kind);
            assert_eq!(kind, "error");
            assert_eq!(&*condition(&answer), "service-unavailable");
        }
        for (kind, ok) in [("result", true), ("error", false)] {
            let xml = format!("<iq xmlns='jabber:client' id='p1' type='{kind}'/>");
            assert!(
                matches!(reading(&xml), Reading::Response { id, ok: said } if &*id == "p1" && said == ok)
            );
        }
    }

    #[test]
    fn other_clients_of_the_user_are_seen() {
        let xml = "<presence xmlns='jabber:client' from='bob@lab.example/desk' type='unavailable'/>";
        assert!(
            matches!(reading(xml), Reading::Client { jid, priority: None } if jid.resource().as_str() == "desk")
        );
        let there =
            "<presence xmlns='jabber:client' from='bob@lab.example/desk'><priority>5</priority></presence>";
        assert!(matches!(reading(there), Reading::Client { priority: Some(5), .. }));
        let composed = there.replace("/desk", "/composed");
        assert!(matches!(reading(&composed), Reading::Ignored("the composed state, which is no client")));
        let own = "<presence xmlns='jabber:client' from='bob@lab.example/webex-1'/>";
        assert!(matches!(reading(own), Reading::Ignored(_)));
    }

    #[test]
    fn a_long_text_is_cut_without_loss() {
        let text = "słowo ".repeat(5_000);
        let parts = split("[then] ", &text);
        assert!(parts.len() > 4);
        assert!(parts.iter().all(|part| part.len() <= PART));
        assert!(parts[..parts.len() - 1].iter().all(|part| part.ends_with(' ')), "cut between words");
        assert_eq!(parts.concat(), format!("[then] {text}"));
        let dense = "€".repeat(10_000);
        assert_eq!(split("", &dense).concat(), dense);
        assert_eq!(split("", "short"), ["short"]);
    }
}
