//! Sessions over one trusted link, against recorded forms of jabberd2 2.7 (clauses of its session manager).

#![allow(clippy::unwrap_used)] // a test may

use xmpp_core::session_control::{self as sc, Control, ControlEvent, Request, RequestIds, SessionIds};
use xmpp_core::xml::{Compose as _, Frame, Limits, Reader};
use xmpp_core::{Element, FullJid, ns};

fn element(xml: &str) -> Element {
    let xml = xml
        .replace("ROUTE", "route xmlns='http://jabberd.jabberstudio.org/ns/component/1.0'")
        .replace("SC:", "xmlns:sc='http://jabberd.jabberstudio.org/ns/session/1.0' ");
    let mut reader = Reader::new(Limits::default());
    reader.feed(
        b"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'>",
    );
    reader.feed(xml.as_bytes());
    reader.next().unwrap();
    match reader.next() {
        Ok(Some(Frame::Element(element))) => element,
        other => panic!("{xml}: {other:?}"),
    }
}

fn alice() -> FullJid {
    "alice@lab.example/webex".parse().unwrap()
}

fn session() -> SessionIds {
    SessionIds { ours: 1, domain: "lab.example".into(), theirs: "f48c".into() }
}

/// A control with alice's session open, and bob's asked for as `r2`.
fn control() -> Control {
    let mut control = Control::new("connector");
    control.restore(session());
    control.start("r2", &"bob@lab.example/webex".parse().unwrap());
    control
}

const STARTED: &str = "<ROUTE to='connector' from='sm'><sc:session SC: sc:c2s='2' sc:sm='ab' action='started' \
    target='bob@lab.example/webex' id='r2'/></route>";

#[test]
fn what_the_link_brings() {
    let own = |n| SessionIds { ours: n, theirs: if n == 1 { "f48c" } else { "ab" }.into(), ..session() };
    let hi = || {
        Element::bare("message", ns::CLIENT)
            .with_attr("from", "bob@lab.example")
            .with_child(Element::bare("body", ns::CLIENT).with_text("hi"))
    };
    let bob = "bob@lab.example/webex".parse().unwrap();
    let refused = ControlEvent::Refused { request: "r2".into() };
    let other = |xml: &str| ControlEvent::Other(element(xml));
    let message = |ids: &str, more: &str| {
        format!(
            "<ROUTE to='connector' from='lab.example'{more}><message xmlns='jabber:client' SC: {ids} from='bob@lab.example'><body>hi</body></message></route>"
        )
    };
    let verb =
        |attributes: &str| format!("<ROUTE to='connector' from='sm'><sc:session SC: {attributes}/></route>");
    let disco = "<ROUTE to='connector' from='sm'><iq xmlns='jabber:client' type='get' id='r2'><query xmlns='http://jabber.org/protocol/disco#info'/></iq></route>";
    for (what, xml, expected) in [
        ("started", STARTED.to_owned(), ControlEvent::Started { request: "r2".into(), session: own(2), jid: bob }),
        ("refused", verb("sc:c2s='2' action='start' sc:failed='1' target='bob@lab.example/webex' id='r2'"), refused.clone()),
        ("refused, no id", verb("sc:c2s='2' action='start' sc:failed='1'"), refused.clone()),
        ("nobody serves the domain", "<ROUTE type='error' to='connector' from='lab.example'><sc:session SC: sc:c2s='2' action='start' target='bob@lab.example/webex' id='r2'/></route>".into(), refused),
        ("received", message("sc:c2s='1' sc:sm='f48c'", ""), ControlEvent::Stanza { session: own(1), stanza: hi() }),
        ("bounced", message("sc:c2s='1' sc:sm='f48c' failed='1'", ""), ControlEvent::Bounced { session: own(1), stanza: hi() }),
        ("bounced, in its namespace", message("sc:c2s='1' sc:sm='f48c' sc:failed='1'", ""), ControlEvent::Bounced { session: own(1), stanza: hi() }),
        ("could not be routed", message("sc:c2s='1' sc:sm='f48c'", " type='error'"), ControlEvent::Bounced { session: own(1), stanza: hi() }),
        ("bounced, of a session that has ended here", message("sc:c2s='9' sc:sm='f48c' failed='1'", ""), ControlEvent::Bounced { session: SessionIds { ours: 9, domain: "lab.example".into(), theirs: "f48c".into() }, stanza: hi() }),
        ("ended", verb("sc:c2s='1' sc:sm='f48c' action='ended'"), ControlEvent::Ended { session: own(1) }),
        ("nothing to end", verb("sc:c2s='1' sc:sm='f48c' action='end' sc:failed='1'"), ControlEvent::Ended { session: own(1) }),
        ("replaced", verb("sc:c2s='1' sc:sm='f48c' action='replaced'"), ControlEvent::Replaced { session: own(1) }),
        ("domain up", "<presence xmlns='http://jabberd.jabberstudio.org/ns/component/1.0' from='lab.example'/>".into(), ControlEvent::DomainUp("lab.example".into())),
        ("domain down", "<presence xmlns='http://jabberd.jabberstudio.org/ns/component/1.0' from='lab.example' type='unavailable'/>".into(), ControlEvent::DomainDown("lab.example".into())),
        ("a query of the server, with the start's id", disco.into(), other(disco)),
        // Nothing that is not about a session of ours touches one.
        ("no session of ours", message("sc:c2s='9' sc:sm='f48c'", ""), other(&message("sc:c2s='9' sc:sm='f48c'", ""))),
        ("an earlier session of this id", message("sc:c2s='1' sc:sm='0000'", ""), other(&message("sc:c2s='1' sc:sm='0000'", ""))),
        ("an earlier session ended", verb("sc:c2s='1' sc:sm='0000' action='ended'"), other(&verb("sc:c2s='1' sc:sm='0000' action='ended'"))),
        ("another request's answer", verb("sc:c2s='2' sc:sm='ab' action='started' target='bob@lab.example/webex' id='r9'"), other(&verb("sc:c2s='2' sc:sm='ab' action='started' target='bob@lab.example/webex' id='r9'"))),
        ("started without a JID", verb("sc:c2s='2' sc:sm='ab' action='started' id='r2'"), other(&verb("sc:c2s='2' sc:sm='ab' action='started' id='r2'"))),
        ("no ids", message("", ""), other(&message("", ""))),
        ("an id that is no number", message("sc:c2s='x' sc:sm='f48c'", ""), other(&message("sc:c2s='x' sc:sm='f48c'", ""))),
        ("an empty route", "<ROUTE to='connector' from='sm'/>".into(), other("<ROUTE to='connector' from='sm'/>")),
        ("an unknown verb", verb("sc:c2s='1' sc:sm='f48c' action='dance'"), other(&verb("sc:c2s='1' sc:sm='f48c' action='dance'"))),
        ("a stanza outside", "<message/>".into(), other("<message/>")),
    ] {
        assert!(control().handle(element(&xml)) == expected, "{what}: {:?}", control().handle(element(&xml)));
    }
}

#[test]
fn answers_are_matched_whatever_comes_between() {
    let mut control = control();
    let between = "<ROUTE to='connector' from='lab.example'><message xmlns='jabber:client' SC: sc:c2s='1' sc:sm='f48c'/></route>";
    assert!(matches!(control.handle(element(between)), ControlEvent::Stanza { .. }));
    assert!(matches!(control.handle(element(STARTED)), ControlEvent::Started { .. }));
    assert!(matches!(control.handle(element(STARTED)), ControlEvent::Other(_)), "once");
    assert_eq!(control.sessions().count(), 2);
    control.reset();
    assert_eq!(control.sessions().count(), 0);
    // Ids that were used are not used again.
    let start = control.start("r3", &alice());
    assert_eq!(start.children().next().unwrap().attr_ns(ns::SESSION_CONTROL, "c2s"), Some("3"));
}

#[test]
fn a_session_survives_its_text_form() {
    assert_eq!(session().to_string(), "1 lab.example f48c");
    for theirs in ["f48c", "with a space"] {
        let ids = SessionIds { theirs: theirs.into(), ..session() };
        assert_eq!(ids.to_string().parse(), Ok(ids));
    }
    for bad in ["", "1", "1 lab.example", "x lab.example f", "1  f", "1 lab.example "] {
        assert!(bad.parse::<SessionIds>().is_err(), "{bad:?}");
    }
}

#[test]
fn both_ends_understand_each_other() {
    let mut control = Control::new("connector");
    let Some(Request::Start(start)) = sc::parse_request(&control.start("r1", &alice())) else { panic!() };
    assert_eq!((start.component.as_str(), start.domain.as_str()), ("connector", "lab.example"));
    assert_eq!((start.target.as_str(), start.id.as_deref()), (alice().as_str(), Some("r1")));
    let ControlEvent::Started { session, jid, .. } = control.handle(sc::started(&start, "f48c")) else {
        panic!()
    };
    assert_eq!((&session, jid), (&self::session(), alice()));

    let message = Element::bare("message", ns::CLIENT).with_attr("to", "bob@lab.example");
    let sent = control.route(&session, message.clone());
    let Some(Request::Stanza(ids, stanza)) = sc::parse_request(&sent) else { panic!() };
    assert_eq!(
        ids,
        RequestIds {
            component: "connector".into(),
            domain: "lab.example".into(),
            c2s: "1".into(),
            sm: "f48c".into()
        }
    );
    assert_eq!(stanza, message);
    let stanza = message.clone();
    assert!(
        control.handle(sc::deliver(&ids, message.clone()))
            == ControlEvent::Stanza { session: session.clone(), stanza }
    );
    let stanza = message.clone();
    assert!(
        control.handle(sc::bounced(&ids, message))
            == ControlEvent::Bounced { session: session.clone(), stanza }
    );

    let Some(Request::End(ids)) = sc::parse_request(&control.end(&session)) else { panic!() };
    assert!(matches!(control.clone().handle(sc::replaced(&ids)), ControlEvent::Replaced { .. }));
    assert!(matches!(control.handle(sc::ended(&ids)), ControlEvent::Ended { .. }));
    assert!(matches!(control.handle(sc::ended(&ids)), ControlEvent::Other(_)), "once");

    let Some(Request::Start(start)) = sc::parse_request(&control.start("r2", &alice())) else { panic!() };
    assert!(
        matches!(control.handle(sc::refused(&start)), ControlEvent::Refused { request } if request == "r2")
    );
}

#[test]
fn what_is_no_request() {
    for xml in [
        "<message/>",
        "<ROUTE to='lab.example' from='connector'/>",
        "<ROUTE from='connector'><sc:session SC: sc:c2s='1' action='start' target='a@b/c'/></route>",
        "<ROUTE to='lab.example' from='connector'><sc:session SC: action='start' target='a@b/c'/></route>",
        "<ROUTE to='lab.example' from='connector'><sc:session SC: sc:c2s='1' action='start'/></route>",
        "<ROUTE to='lab.example' from='connector'><sc:session SC: sc:c2s='1' action='start' target='@'/></route>",
        "<ROUTE to='lab.example' from='connector'><sc:session SC: sc:c2s='1' action='end'/></route>",
        "<ROUTE to='lab.example' from='connector'><sc:session SC: sc:c2s='1' sc:sm='x' action='dance'/></route>",
        "<ROUTE to='lab.example' from='connector'><sc:session SC: sc:c2s='1' sc:sm='x'/></route>",
        "<ROUTE to='lab.example' from='connector'><message xmlns='jabber:client' SC: sc:c2s='1'/></route>",
        "<ROUTE type='error' to='lab.example' from='connector'><message xmlns='jabber:client' SC: sc:c2s='1' sc:sm='x'/></route>",
    ] {
        assert_eq!(sc::parse_request(&element(xml)), None, "{xml}");
    }
}
