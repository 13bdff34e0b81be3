//! Peers that are gone without a word, and peers that mean harm.

use std::time::Duration;

use presence_map::Show;
use router::inbound::{Inbound, StreamEvent};
use tokio::time::Instant;

use super::super::*;
use super::far::{Script, Seen, State};
use super::world::*;

/// The cable is pulled, the host is gone: nothing comes any more, not even an end (RFC 6120 §4.6.1).
#[tokio::test(start_paused = true)]
async fn a_half_open_connection_is_noticed_within_a_minute() {
    for (access, unmanaged) in [(trusted(), false), (trusted(), true), (service(), false), (service(), true)]
    {
        for delivering in [false, true] {
            let mut world = World::new(access.clone(), State { unmanaged, ..State::default() });
            let stream = world.settled().await;
            // Not at once: whatever was on its way is over.
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(30)).await;
                world.quiet().await;
            }
            world.far.tell(|far| far.freezes = true);
            let start = Instant::now();
            if delivering {
                world.say(1, "into the void");
                let (ticket, _) = world.attempt().await;
                world.order(Order::Write(ticket));
            }
            let lost = world.answer().await;
            assert!(matches!(&lost, Inbound::Stream(s, StreamEvent::Lost) if *s == stream), "{lost:?}");
            let noticed = start.elapsed();
            assert!(noticed <= Duration::from_secs(60), "{unmanaged} {delivering}: after {noticed:?}");
            // The next connection is tried at once, and the sessions are there again.
            loop {
                match world.answer().await {
                    Inbound::Stream(_, StreamEvent::Up { .. }) if unmanaged => break,
                    Inbound::Stream(s, StreamEvent::Resumed { .. }) if s == stream && !unmanaged => break,
                    Inbound::Stream(s, StreamEvent::Refused { .. }) if s == stream && unmanaged => {}
                    Inbound::Receipt(..) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_xml_ends_its_connection_and_is_never_read() {
    let message = |inside: &str| {
        format!("<message from='ann@lab.example/desk' type='chat' id='m1'><body>{inside}</body></message>")
    };
    let attributes: String = (0..65).map(|n| format!(" a{n}=''")).collect();
    for (what, bytes) in [
        ("a document type", "<!DOCTYPE x [<!ENTITY lol 'lol'>]>".to_owned() + &message("&lol;")),
        ("an entity that was never declared", message("&lol;")),
        ("an entity from a file", message("<!ENTITY x SYSTEM 'file:///etc/passwd'>")),
        ("a second document", "<?xml version='1.0'?>".to_owned() + &message("x")),
        ("a comment", message("<!-- -->")),
        ("an instruction", message("<?x y?>")),
        ("elements in elements", message(&"<a>".repeat(100_000))),
        ("a text without an end", message(&"x".repeat(300_000))),
        ("a name without an end", format!("<{}", "x".repeat(5_000))),
        ("attributes", format!("<message{attributes}/>")),
        ("an attribute twice", "<message a='1' a='2'/>".to_owned()),
        ("a prefix of nobody's", "<x:message/>".to_owned()),
        ("a character that is none", message("&#0;")),
        ("bytes that are no text", String::new()),
        ("an end of something else", "<message></presence>".to_owned()),
    ] {
        let bytes =
            if bytes.is_empty() { b"<message>\xff\xfe</message>".to_vec() } else { bytes.into_bytes() };
        let script = Some(Script { bytes, for_ever: false });
        let mut world = World::new(service(), State { script, ..State::default() });
        world.open("bob", Show::Available);
        let stream = world.up().await;
        assert!(
            matches!(world.answer().await, Inbound::Stream(s, StreamEvent::Lost) if s == stream),
            "{what}"
        );
        assert!(matches!(world.answer().await, Inbound::Stream(_, StreamEvent::Refused { .. })), "{what}");
        world.far.tell(|far| far.script = None);
        // What came before that cannot have been a message; the first that is one comes from a peer that behaves.
        world.far.tell(|far| far.clients = true);
        let mut seen = Vec::new();
        loop {
            tokio::select! {
                biased;
                input = soon(world.intake.recv()) => match input {
                    Inbound::Session(_, event) => seen.push(format!("{event:?}")),
                    Inbound::Handled(_) => {}
                    other => panic!("{what}: {other:?}"),
                },
                answer = soon(world.answers.recv()) => match answer {
                    Inbound::Stream(_, StreamEvent::Up { .. }) => break,
                    Inbound::Keep { key, value, ask } => world.keep(key, value, ask),
                    other => panic!("{what}: {other:?}"),
                },
            }
        }
        assert_eq!(world.far.state().dialed, 2, "{what}: {seen:?}");
    }
}

/// Each request has an answer; a peer that does not read them is not read either, and after a while left.
#[tokio::test(start_paused = true)]
async fn a_peer_that_asks_and_does_not_read_is_left_unread() {
    let ping =
        "<iq type='get' id='p' from='eve@elsewhere.example/x'><ping xmlns='urn:xmpp:ping'/></iq>".repeat(100);
    let size = ping.len();
    let script = Some(Script { bytes: ping.into_bytes(), for_ever: true });
    let mut world = World::new(service(), State { script, ..State::default() });
    let start = Instant::now();
    world.open("bob", Show::Available);
    let mut stream = None;
    let over = loop {
        tokio::select! {
            biased;
            input = soon(world.intake.recv()) => assert!(matches!(input, Inbound::Handled(_) | Inbound::Session(..))),
            answer = soon(world.answers.recv()) => match answer {
                Inbound::Stream(up, StreamEvent::Up { .. }) => stream = Some(up),
                Inbound::Stream(over, StreamEvent::Lost | StreamEvent::Refused { .. }) => break over,
                Inbound::Keep { key, value, ask } => world.keep(key, value, ask),
                other => panic!("{other:?}"),
            },
        }
    };
    assert_eq!(Some(over), stream);
    let sent = world.far.state().scripted * size;
    assert!((1 << 16..1 << 22).contains(&sent), "{sent} bytes of requests were read");
    assert!(start.elapsed() <= Duration::from_secs(6 * 60), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_for_a_while_misses_nothing() {
    const PINGS: usize = 4_000;
    let mut world = World::new(service(), State::default());
    world.settled().await;
    world.far.tell(|far| {
        far.deaf = true;
        let ping = "<iq xmlns='jabber:client' type='get' id='p' from='eve@elsewhere.example/x'>\
            <ping xmlns='urn:xmpp:ping'/></iq>";
        let ping: xmpp_core::Element = ping.parse().unwrap();
        far.outbox.extend(std::iter::repeat_n(ping, PINGS));
    });
    let (mut answered, mut hears) = (0, false);
    while answered < PINGS {
        tokio::select! {
            biased;
            input = soon(world.intake.recv()) => match input {
                Inbound::Handled(upstream) => world.commit(upstream),
                other => panic!("{other:?}"),
            },
            seen = soon(world.seen.recv()) => answered += usize::from(matches!(seen, Seen::Stanza(_))),
            () = tokio::time::sleep(Duration::from_secs(1)), if !hears => {
                // Nothing moves any more.
                hears = true;
                let taken = world.kept.streams.values().max().copied().unwrap_or_default();
                assert!((500..3_900).contains(&taken), "it stops asking for more: {taken}");
                world.far.tell(|far| far.deaf = false);
            }
        }
    }
    assert_eq!(world.far.state().dialed, 1, "the connection is the same");
}

/// Whoever asks one session of a link without end takes nothing from the others.
#[tokio::test(start_paused = true)]
async fn a_flood_of_requests_to_one_session_leaves_the_link_to_the_others() {
    const FLOOD: usize = 3_000;
    let mut world = World::new(trusted(), State::default());
    world.settled().await;
    world.open("ann", Show::Available);
    world.starts(Duration::from_secs(1)).await;
    let ask = |id: &str| {
        format!(
            "<iq xmlns='jabber:client' type='get' id='{id}' from='eve@elsewhere.example/x'><ping xmlns='urn:xmpp:ping'/></iq>"
        )
    };
    let before = world.far.state().handled;
    for _ in 0..FLOOD {
        world.far.send(BOB, &ask("flood"));
    }
    world.far.send("ann@lab.example/webex-1", &ask("another"));
    world.starts(Duration::from_secs(10)).await;
    let answered = world.far.state().handled - before;
    assert_eq!(answered, 601, "so many of Bob's, and Ann's");
    world.starts(Duration::from_secs(60)).await;
    let before = world.far.state().handled;
    world.far.send(BOB, &ask("later"));
    world.starts(Duration::from_secs(1)).await;
    assert_eq!(world.far.state().handled - before, 1, "after a minute there is room again");
    assert_eq!(world.far.state().dialed, 1);
}
