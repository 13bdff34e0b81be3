//! What the reader accepts.

use xmpp_core::xml::{Frame, Limits, Reader};

use crate::CLIENT;

#[test]
fn xml() {
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    let attributes =
        |count: usize| (0..count).fold("<a".to_owned(), |text, n| format!("{text} a{n}=''")) + "/>";
    let sized = |bytes: usize| format!("<a>{}</a>", "x".repeat(bytes - 7));
    let attribute = |bytes: usize| format!("<a b='{}'/>", "x".repeat(bytes));
    let syntax = |reason: &str| format!("not acceptable as XML: {reason}");
    for (clause, input, outcome) in [
        ("limit: depth, the last allowed", nested(32), "ok".to_owned()),
        ("limit: depth", nested(33), "elements nest deeper than 32".to_owned()),
        ("limit: 24 kB nested 3,400 deep", nested(3_400), "elements nest deeper than 32".to_owned()),
        ("limit: never closed", "<a>".repeat(100_000), "elements nest deeper than 32".to_owned()),
        ("limit: attributes, the last allowed", attributes(64), "ok".to_owned()),
        ("limit: attributes", attributes(65), "an element has more than 64 attributes".to_owned()),
        ("limit: attributes", attributes(10_000), "an element has more than 64 attributes".to_owned()),
        (
            "limit: declarations count as attributes",
            (0..65).fold("<a".to_owned(), |text, n| format!("{text} xmlns:a{n}='x'")) + "/>",
            "an element has more than 64 attributes".to_owned(),
        ),
        ("limit: stanza bytes, the last allowed", sized(262_144), "ok".to_owned()),
        ("limit: stanza bytes", sized(262_145), "a stanza has more than 262144 bytes".to_owned()),
        ("limit: one value, the last allowed", attribute(4_096), "ok".to_owned()),
        ("limit: one value", attribute(4_098), syntax("restricted xml: long name or reference")),
        ("limit: stanzas are counted one by one", sized(200_000).repeat(3), "ok".to_owned()),
        ("limit: white space between stanzas is no stanza", " ".repeat(300_000) + "<a/>", "ok".to_owned()),
        ("RFC 6120 §11.1 comments", "<a><!-- --></a>".into(), syntax("restricted xml: comments")),
        (
            "RFC 6120 §11.1 instructions",
            "<a><?php ?></a>".into(),
            syntax("restricted xml: processing instructions"),
        ),
        ("RFC 6120 §11.1 entities", "<a>&lol;</a>".into(), syntax("use of undeclared entity")),
        (
            "RFC 6120 §11.1 a second document",
            "<?xml version='1.0'?>".into(),
            syntax("restricted xml: processing instructions"),
        ),
        ("XML §2.2 characters", "<a>\u{1}</a>".into(), syntax("invalid codepoint U+1 in text node")),
        (
            "XML §2.2 by reference",
            "<a>&#0;</a>".into(),
            syntax("character reference expanded to invalid codepoint U+0 in text node"),
        ),
        ("XML §3 nesting", "<a><b></a></b>".into(), syntax("start and end tag do not match")),
        ("XML §3.1 attributes", "<a b='1' b='2'/>".into(), syntax("duplicate attribute")),
        (
            "XML names §6.3",
            "<a xmlns:x='u' xmlns:y='u' x:b='1' y:b='2'/>".into(),
            syntax("duplicate attribute"),
        ),
        ("XML names §5", "<x:a/>".into(), syntax("use of undeclared namespace prefix in element name")),
        ("XML names §5", "<a x:b='1'/>".into(), syntax("use of undeclared namespace prefix in element name")),
        ("XML names §3", "<a xmlns:x='u' xmlns:x='v'/>".into(), syntax("duplicate attribute")),
        ("RFC 6120 §4.9.3.1", "hello".to_owned() + "<a/>", "text between stanzas".to_owned()),
    ] {
        let mut reader = Reader::new(Limits::default());
        reader.feed(CLIENT.as_bytes());
        assert!(matches!(reader.next(), Ok(Some(Frame::Open(_)))));
        reader.feed(input.as_bytes());
        let got = loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break "ok".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(got, outcome, "{clause}: {}", &input[..input.len().min(60)]);
    }
}

#[test]
fn documents() {
    for (clause, input, outcome) in [
        ("RFC 6120 §4.8.1", "<stream xmlns='jabber:client'>".as_bytes(), "not a stream"),
        ("RFC 6120 §4.8.1", b"<stream:stream xmlns:stream='urn:other'>", "not a stream"),
        ("RFC 6120 §11.6", b"\xff\xfe<\0s\0", "not a stream"),
        ("RFC 6120 §11.1", b"<!DOCTYPE a>", "not acceptable as XML: invalid syntax: "),
        ("not XMPP at all", b"GET / HTTP/1.1\r\n", "not a stream"),
        ("not XMPP at all", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "not a stream"),
    ] {
        let mut reader = Reader::new(Limits::default());
        reader.feed(input);
        let error = reader.next().unwrap_err().to_string();
        assert!(error.starts_with(outcome), "{clause}: {error}");
    }
}
