//! However the bytes of a stream are cut, the reader gives the same frames, or the same error after them.

#![allow(clippy::unwrap_used)] // a test may

use proptest::prelude::*;
use xmpp_core::xml::{Compose as _, Frame, Limits, Reader, XmlError, write, write_within};
use xmpp_core::{Element, ns};

/// Everything that a reader makes of these pieces.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: Limits) -> (Vec<Frame>, Option<XmlError>) {
    let mut reader = Reader::new(limits);
    let mut frames = Vec::new();
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.next(), Err(error), "an error stays");
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

const STREAM: &str = "<?xml version='1.0'?>\n<stream:stream xmlns='jabber:client' id='ä' \
    xmlns:stream='http://etherx.jabber.org/streams' from='lab.example' version='1.0' xml:lang='en'>\
    <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>\n \
    <message from='bob@lab.example' id='1&lt;&#x27;'><body>a &amp; b\r\n&#128512;<![CDATA[<c>]]> ü</body>\
    <x:e xmlns:x='urn:x' x:a='1' a='2'><x:f xmlns:x='urn:y' x:a='3'/></x:e></message>   \
    <iq type='result' id='2'/><r xmlns='urn:xmpp:sm:3'/></stream:stream>";

#[test]
fn the_sample_is_read_as_it_is_meant() {
    let (frames, error) = read([STREAM.as_bytes()], Limits::default());
    assert_eq!(error, None);
    let [
        Frame::Open(header),
        Frame::Element(features),
        Frame::Element(message),
        Frame::Element(iq),
        Frame::Element(r),
        Frame::Close,
    ] = &frames[..]
    else {
        panic!("{frames:?}")
    };
    assert_eq!((header.id.as_deref(), header.lang.as_deref()), (Some("ä"), Some("en")));
    assert!(features.get_child("starttls", ns::TLS).unwrap().has_child("required", ns::TLS));
    assert_eq!(message.attr("id"), Some("1<'"));
    assert_eq!(message.get_child("body", ns::CLIENT).unwrap().text(), "a & b\n\u{1f600}<c> ü");
    let e = message.get_child("e", "urn:x").unwrap();
    assert_eq!((e.attr_ns("urn:x", "a"), e.attr("a")), (Some("1"), Some("2")));
    assert_eq!(e.get_child("f", "urn:y").unwrap().attr_ns("urn:y", "a"), Some("3"));
    assert!(iq.is("iq", ns::CLIENT) && r.is("r", ns::SM));
}

#[test]
fn every_single_cut_gives_the_same() {
    let bytes = STREAM.as_bytes();
    let whole = read([bytes], Limits::default());
    for at in 0..bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(read([a, b], Limits::default()), whole, "cut at {at}");
    }
    assert_eq!(read(bytes.chunks(1), Limits::default()), whole, "byte by byte");
}

/// A stream as its pieces between these cuts.
fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    at.insert(0, 0);
    at.push(bytes.len());
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,40}", "\\PC{0,20}", Just("a\tb\nc\rd'\"<>&]]>".to_owned()), Just(String::new())]
}

fn element() -> impl Strategy<Value = Element> {
    let namespace = || prop::sample::select(vec![ns::CLIENT, ns::CARBONS, "urn:x", "urn:a", "", ns::SM]);
    let name = || prop::sample::select(vec!["message", "body", "x", "forwarded"]);
    let leaf = (name(), namespace(), text(), text(), text()).prop_map(|(name, namespace, id, to, body)| {
        Element::bare(name, namespace)
            .with_attr("id", id)
            .with_attr_ns("urn:a", "to", to.clone())
            .with_attr_ns(ns::XML, "lang", to)
            .with_text(body)
    });
    leaf.prop_recursive(5, 24, 4, move |inner| {
        (name(), namespace(), prop::collection::vec(inner, 0..4), text()).prop_map(
            |(name, namespace, children, text)| {
                let parent = children.into_iter().fold(Element::bare(name, namespace), Element::with_child);
                parent.with_text(text)
            },
        )
    })
}

/// Empty text leaves a node behind that reading does not give back.
fn without_empty_text(element: &Element) -> Element {
    let mut out = Element::bare(element.name(), element.ns());
    for ((namespace, name), value) in element.attrs() {
        out.attrs_mut().insert(namespace.clone(), name.clone(), value.clone());
    }
    for node in element.nodes() {
        match (node.as_element(), node.as_text()) {
            (Some(child), _) => {
                out.append_child(without_empty_text(child));
            }
            (None, Some(text)) if !text.is_empty() => out.append_text(text),
            _ => {}
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again_however_it_is_cut(
        elements in prop::collection::vec(element(), 1..4),
        component in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let content = if component { ns::COMPONENT_ACCEPT } else { ns::CLIENT };
        let mut bytes =
            format!("<stream:stream xmlns='{content}' xmlns:stream='{}'>", ns::STREAM).into_bytes();
        for element in &elements {
            write_within(element, content, &mut bytes);
        }
        let whole = read([&bytes[..]], Limits::default());
        prop_assert_eq!(whole.1, None);
        let read_elements: Vec<Element> = whole.0[1..].iter().map(|frame| match frame {
            Frame::Element(element) => element.clone(),
            frame => panic!("{frame:?}"),
        }).collect();
        let written: Vec<Element> = elements.iter().map(without_empty_text).collect();
        prop_assert_eq!(read_elements, written);
        prop_assert_eq!(read(cut(&bytes, &cuts), Limits::default()), whole);
    }

    /// The sample with bytes changed, dropped or put in: no panic, and the cuts make no difference.
    #[test]
    fn damage_is_found_however_it_is_cut(
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, any::<u8>()), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut bytes = STREAM.as_bytes().to_vec();
        for (at, what, byte) in damage {
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                _ => bytes.insert(at, byte),
            }
        }
        let limits = Limits { depth: 3, stanza_bytes: 400, attributes: 4, token_bytes: 64 };
        let whole = read([&bytes[..]], limits);
        prop_assert_eq!(read(cut(&bytes, &cuts), limits), whole);
    }
}

#[test]
fn characters_that_xml_cannot_carry_are_replaced() {
    let mut bytes =
        format!("<stream:stream xmlns='jabber:client' xmlns:stream='{}'>", ns::STREAM).into_bytes();
    let element =
        Element::bare("message", ns::CLIENT).with_attr("id", "\0\u{b}").with_text("a\u{1b}b\u{ffff}c");
    write(&element, &mut bytes);
    let (frames, error) = read([&bytes[..]], Limits::default());
    assert_eq!(error, None);
    let Frame::Element(read) = &frames[1] else { panic!() };
    assert_eq!((read.attr("id"), read.text().as_str()), (Some("\u{fffd}\u{fffd}"), "a\u{fffd}b\u{fffd}c"));
}
