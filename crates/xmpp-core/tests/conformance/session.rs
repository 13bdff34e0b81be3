//! Established streams.

use std::time::{Duration, Instant};

use xmpp_core::c2s::{self, Negotiation, StartTls};
use xmpp_core::component::{self, Handshake};
use xmpp_core::session::{CloseReason, Event, Session};
use xmpp_core::sm::{Outcome, ResumeState};
use xmpp_core::xml::{Compose as _, Frame, Limits, Reader, XmlError};
use xmpp_core::{Element, Jid, ns};

use crate::{BIND, BOUND, CLIENT, COMPONENT, ENABLED, PLAIN, SUCCESS, drive, entropy, password, resuming};

fn managed_client(now: Instant) -> Session {
    let peer = [CLIENT, PLAIN, SUCCESS, CLIENT, BIND, BOUND, ENABLED];
    *drive(Negotiation::new(password(), StartTls::Off, now), &peer, now).2.unwrap()
}

/// What a session writes from here on.
fn written(session: &mut Session, now: Instant) -> String {
    session.answer();
    let text = String::from_utf8(session.output().to_vec()).unwrap();
    session.advance(text.len(), now);
    text
}

fn element(xml: &str) -> Element {
    let mut reader = Reader::new(Limits::default());
    reader.feed(CLIENT.as_bytes());
    reader.feed(xml.as_bytes());
    reader.next().unwrap();
    let Some(Frame::Element(element)) = reader.next().unwrap() else { panic!("{xml}") };
    element
}

fn receive(session: &mut Session, xml: &str, now: Instant) -> Vec<Event> {
    session.handle(Frame::Element(element(xml)), now);
    std::iter::from_fn(|| session.poll_event()).collect()
}

#[test]
fn acknowledgements() {
    let a = |h: &str| format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>");
    let too_high = |h, sent| Event::Closed(CloseReason::HandledTooHigh { h, sent });
    let invalid = Event::Closed(CloseReason::Xml(XmlError::Invalid));
    for (clause, input, event, said) in [
        ("XEP-0198 §4", a("2"), Event::Acked(2), String::new()),
        ("XEP-0198 §4 as before", a("1"), Event::Acked(1), String::new()),
        (
            "XEP-0198 §4 handled-count-too-high",
            a("3"),
            too_high(3, 2),
            "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <handled-count-too-high xmlns='urn:xmpp:sm:3' h='3' send-count='2'/></stream:error></stream:stream>"
                .to_owned(),
        ),
        (
            "a counter that falls",
            a("0"),
            too_high(1 << 32, 2),
            "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <handled-count-too-high xmlns='urn:xmpp:sm:3' h='0' send-count='2'/></stream:error></stream:stream>"
                .to_owned(),
        ),
        (
            "no counter",
            "<a xmlns='urn:xmpp:sm:3'/>".to_owned(),
            invalid.clone(),
            "<stream:error><invalid-xml xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
                .to_owned(),
        ),
        (
            "a negative counter",
            a("-1"),
            invalid,
            "<stream:error><invalid-xml xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
                .to_owned(),
        ),
    ] {
        let now = Instant::now();
        let mut session = managed_client(now);
        for _ in 0..2 {
            session.send(&Element::bare("message", ns::CLIENT));
        }
        receive(&mut session, &a("1"), now);
        written(&mut session, now);
        assert_eq!(receive(&mut session, &input, now), [event], "{clause}");
        assert_eq!(written(&mut session, now), said, "{clause}");
    }
}

#[test]
fn whatever_is_written_at_a_time_comes_out_whole() {
    let now = Instant::now();
    for step in [1, 7, 100, 10_000] {
        let mut session = managed_client(now);
        let (mut out, mut expected) = (String::new(), String::new());
        for n in 0..50 {
            session.send(&Element::bare("message", ns::CLIENT).with_attr("id", n.to_string()));
            expected.push_str(&format!("<message id='{n}'/>"));
            // Something is always left, so the buffer is never simply thrown away.
            let output = session.output();
            let some = step.min(output.len() - 1);
            out.push_str(std::str::from_utf8(&output[..some]).unwrap());
            session.advance(some, now);
        }
        out.push_str(&written(&mut session, now));
        assert_eq!(out, expected, "{step} bytes at a time");
        assert_eq!(session.queued(), 0);
    }
}

#[test]
fn what_counts_as_a_stanza() {
    for (input, counts) in [
        ("<message/>", true),
        ("<presence/>", true),
        ("<iq type='get' id='1'/>", true),
        ("<message xmlns='urn:other'/>", false),
        ("<other/>", false),
    ] {
        let now = Instant::now();
        let mut session = managed_client(now);
        let Event::Stanza { n, .. } = &receive(&mut session, input, now)[0] else { panic!() };
        assert_eq!(*n, u64::from(counts), "{input}");
        assert_eq!(session.send(&element(input)), u64::from(counts), "{input}");
    }
    // Management itself counts for nothing and is no event.
    let now = Instant::now();
    let mut session = managed_client(now);
    for input in [
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<enabled xmlns='urn:xmpp:sm:3'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
        "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
        "<unknown xmlns='urn:xmpp:sm:3'/>",
    ] {
        assert_eq!(receive(&mut session, input, now), [], "{input}");
    }
    assert_eq!(written(&mut session, now), "<a xmlns='urn:xmpp:sm:3' h='0'/>");
}

#[test]
fn nothing_is_acknowledged_before_it_is_safe() {
    let now = Instant::now();
    let mut session = managed_client(now);
    let r = "<r xmlns='urn:xmpp:sm:3'/>";
    for _ in 0..3 {
        receive(&mut session, "<message/>", now);
    }
    receive(&mut session, r, now);
    assert_eq!(written(&mut session, now), "<a xmlns='urn:xmpp:sm:3' h='0'/>");
    session.acknowledge(2);
    assert_eq!(written(&mut session, now), "<a xmlns='urn:xmpp:sm:3' h='2'/>", "the question still stands");
    session.acknowledge(1);
    assert_eq!(written(&mut session, now), "", "never backwards");
    session.acknowledge(99);
    assert_eq!(written(&mut session, now), "<a xmlns='urn:xmpp:sm:3' h='3'/>", "never more than came");
    receive(&mut session, "<message/>", now);
    session.acknowledge(4);
    assert_eq!(written(&mut session, now), "", "nobody asked");
    for _ in 0..3 {
        receive(&mut session, r, now);
    }
    assert_eq!(written(&mut session, now), "<a xmlns='urn:xmpp:sm:3' h='4'/>", "three questions, one answer");
}

#[test]
fn counters_pass_32_bits() {
    let now = Instant::now();
    let wrap = 1u64 << 32;
    let jid: Jid = "alice@lab.example/webex".parse().unwrap();
    let resume = ResumeState { id: "i1".into(), jid, inbound: wrap - 1, outbound: wrap - 1 };
    let config = c2s::Config { resume: Some(resume), ..password() };
    let resumed = format!("<resumed xmlns='urn:xmpp:sm:3' previd='i1' h='{}'/>", u32::MAX - 1);
    let peer = [CLIENT, PLAIN, SUCCESS, CLIENT, BIND, &resumed];
    let (_, wrote, session) = drive(Negotiation::new(config, StartTls::Off, now), &peer, now);
    assert!(wrote.contains(&format!("h='{}'", u32::MAX)), "{wrote}");
    let mut session = session.unwrap();
    assert_eq!(session.outcome(), Outcome::Resumed { h: wrap - 2 });
    for position in [wrap - 1, wrap, wrap + 1] {
        assert_eq!(session.send(&Element::bare("message", ns::CLIENT)), position);
    }
    let acked = |h: u32| format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>");
    assert_eq!(receive(&mut session, &acked(u32::MAX), now), [Event::Acked(wrap - 1)]);
    assert_eq!(receive(&mut session, &acked(1), now), [Event::Acked(wrap + 1)]);
    let Event::Stanza { n, .. } = &receive(&mut session, "<message/>", now)[0] else { panic!() };
    assert_eq!(*n, wrap);
    session.acknowledge(*n);
    written(&mut session, now);
    receive(&mut session, "<r xmlns='urn:xmpp:sm:3'/>", now);
    assert_eq!(written(&mut session, now), "<a xmlns='urn:xmpp:sm:3' h='0'/>");
}

#[test]
fn repeats_of_a_resumption_are_skipped_by_count() {
    let now = Instant::now();
    let config = c2s::Config { skip: 2, ..resuming() };
    let peer = [CLIENT, PLAIN, SUCCESS, CLIENT, BIND, "<resumed xmlns='urn:xmpp:sm:3' previd='i1' h='9'/>"];
    let mut session = drive(Negotiation::new(config, StartTls::Off, now), &peer, now).2.unwrap();
    assert_eq!(receive(&mut session, "<message id='6'/>", now), []);
    assert_eq!(receive(&mut session, "<presence id='7'/>", now), []);
    let Event::Stanza { element, n: 8 } = &receive(&mut session, "<message id='8'/>", now)[0] else {
        panic!()
    };
    assert_eq!(element.attr("id"), Some("8"));
}

#[test]
fn signs_of_life() {
    let start = Instant::now();
    let seconds = |n| start + Duration::from_secs(n);
    let mut session = managed_client(start);
    assert_eq!(session.deadline(), Some(seconds(60)));
    session.handle_timeout(seconds(59));
    assert_eq!(written(&mut session, seconds(59)), "");
    session.handle_timeout(seconds(119));
    assert_eq!(written(&mut session, seconds(119)), "<r xmlns='urn:xmpp:sm:3'/>");
    session.handle_timeout(seconds(299));
    assert_eq!(written(&mut session, seconds(299)), "<r xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(session.deadline(), Some(seconds(300)));
    session.heard(seconds(299));
    session.handle_timeout(seconds(300));
    assert_eq!(session.poll_event(), None, "it spoke just before");
    session.handle_timeout(seconds(599));
    assert_eq!(session.poll_event(), Some(Event::Closed(CloseReason::Silent)));
    assert!(CloseReason::Silent.is_resumable());
    assert_eq!((session.deadline(), written(&mut session, seconds(599)).as_str()), (None, ""));

    // Without stream management silence proves nothing.
    let config = component::Config::new("connector.lab.example", "x".into(), entropy());
    let machine = Handshake::new(config, start).unwrap();
    let mut session = drive(machine, &[COMPONENT, "<handshake/>"], start).2.unwrap();
    session.handle_timeout(seconds(3_600));
    assert_eq!(written(&mut session, seconds(3_600)), " ");
    assert_eq!(session.poll_event(), None);
}

#[test]
fn the_end_of_a_stream() {
    let now = Instant::now();
    let conflict = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    let mut session = managed_client(now);
    let events = receive(&mut session, conflict, now);
    let [Event::Closed(reason @ CloseReason::StreamError(error))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((error.condition.as_str(), reason.is_resumable()), ("conflict", false));
    assert_eq!(written(&mut session, now), "</stream:stream>");
    assert_eq!(session.send(&Element::bare("message", ns::CLIENT)), 1, "positions go on");
    assert_eq!(written(&mut session, now), "", "but nothing is written");
    assert_eq!(receive(&mut session, "<message/>", now), []);

    let mut session = managed_client(now);
    session.handle(Frame::Close, now);
    assert_eq!(session.poll_event(), Some(Event::Closed(CloseReason::Peer)));
    session.close();
    assert_eq!(session.poll_event(), None, "it ends once");
    assert_eq!(written(&mut session, now), "</stream:stream>");
}

#[test]
fn namespaces_on_a_components_stream() {
    let now = Instant::now();
    let config = component::Config::new("connector.lab.example", "x".into(), entropy());
    let machine = Handshake::new(config, now).unwrap();
    let mut session = drive(machine, &[COMPONENT, "<handshake/>"], now).2.unwrap();
    let body = Element::bare("body", ns::CLIENT).with_text("hi");
    let inner = Element::bare("message", ns::CLIENT).with_child(body.clone());
    let forwarded = Element::bare("forwarded", ns::FORWARD).with_child(inner.clone());
    session.send(&inner.clone().with_child(forwarded));
    assert_eq!(
        written(&mut session, now),
        "<message><body>hi</body><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client'><body>hi</body></message></forwarded></message>"
    );
    session.send(&Element::bare("route", ns::ROUTE).with_child(inner));
    assert_eq!(
        written(&mut session, now),
        "<route xmlns='http://jabberd.jabberstudio.org/ns/component/1.0'>\
         <message xmlns='jabber:client'><body>hi</body></message></route>"
    );
}
