//! The trusted link: sessions of many users over one stream, and what becomes of them when it breaks.

mod support;

use std::time::Duration;

use lab::clock::Time;
use lab::options::Options;
use lab::people::What;
use support::{Link, World, bodies, message, stanza};
use xmpp_core::session_control::ControlEvent;
use xmpp_core::{Element, ns};

const WEBEX: &str = "bob@lab.example/webex";

#[tokio::test(start_paused = true)]
async fn a_session_gets_copies_and_sends_as_its_user() {
    let world = World::new(Options { kind: true, ..Options::default() }).await;
    let mut link = Link::connect(&world, None).await;
    let bob = link.open(WEBEX).await;

    // A message for Bob comes to both of his sessions, one from Bob in Jabber as a copy.
    world.say("alice", "bob", "from alice").await;
    world.say("bob", "alice", "from bob").await;
    let got = link.collect(&bob).await;
    assert_eq!(bodies(&got), ["direct from alice", "sent from bob"]);

    // Bob writes from the session: Alice gets it, and Bob's Jabber shows it too.
    link.send(&bob, &message("alice@lab.example", "w1", "from webex"));
    link.settle(&bob).await;
    world.idle().await;
    assert_eq!(world.chat("alice").last().unwrap(), "in message bob from webex");
    assert_eq!(world.chat("bob").last().unwrap(), "out message alice from webex");
    let ids: Vec<_> =
        world.ctx.seen.all_after(0).into_iter().filter(|line| line.text == "from webex").collect();
    assert!(ids.len() == 2 && ids.iter().all(|line| line.id == "w1"), "{ids:?}");
}

/// With a higher priority elsewhere every incoming message comes as a copy, and answers go to the full JID.
#[tokio::test(start_paused = true)]
async fn forms_depend_on_priorities_and_addresses() {
    let world = World::stand_in(Options { kind: true, ..Options::default() }).await;
    let mut link = Link::connect(&world, None).await;
    let alice = link.open("alice@lab.example/a").await;
    let high = link.start("bob@lab.example/high").await;
    link.send(&high, "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    link.send(&high, "<presence><priority>5</priority></presence>");
    let low = link.open("bob@lab.example/low").await;
    for (to, to_high, to_low) in [
        ("bob@lab.example", "direct", "received"),
        ("bob@lab.example/high", "direct", "received"),
        ("bob@lab.example/low", "received", "direct"),
        ("bob@lab.example/gone", "direct", "received"),
        ("BOB@LAB.EXAMPLE", "direct", "received"),
    ] {
        link.send(&alice, &message(to, "m", to));
        // One ping per session shows what each got before it.
        let got_high = link.collect_of(&high, &[&low]).await;
        assert_eq!(bodies(&got_high.0)[0], format!("{to_high} {to}"));
        assert_eq!(bodies(&got_high.1)[0], format!("{to_low} {to}"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_for_other_eyes_is_not_copied() {
    let world = World::stand_in(Options { kind: true, ..Options::default() }).await;
    let mut link = Link::connect(&world, None).await;
    let alice = link.open("alice@lab.example/a").await;
    let one = link.open("bob@lab.example/one").await;
    let two = link.start("bob@lab.example/two").await;
    link.send(&two, "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    for inside in [
        "<body>private</body><private xmlns='urn:xmpp:carbons:2'/>",
        "<body>no copy</body><no-copy xmlns='urn:xmpp:hints'/>",
    ] {
        link.send(&alice, &format!("<message to='bob@lab.example/one' type='chat'>{inside}</message>"));
    }
    let (one, two) = link.collect_of(&one, &[&two]).await;
    assert_eq!(bodies(&one), ["direct private", "direct no copy"]);
    assert!(!one[0].has_child("private", ns::CARBONS), "it is taken off");
    assert!(bodies(&two).is_empty());
}

#[tokio::test(start_paused = true)]
async fn unknown_users_and_sessions_are_refused() {
    let world = World::stand_in(Options::default()).await;
    let mut link = Link::connect(&world, None).await;
    for jid in ["zoe@lab.example/webex", "bob@elsewhere.example/webex"] {
        let start = link.control.start(jid, &jid.parse().unwrap());
        link.connection.send(&start);
        loop {
            match link.next().await {
                ControlEvent::Refused { request } => break assert_eq!(request, jid),
                ControlEvent::Started { .. } => panic!("{jid} was started"),
                _ => {}
            }
        }
    }
    let bob = link.open(WEBEX).await;
    world.fault(r#"{"name":"imp-bounces-routes","on":true,"count":1}"#);
    link.send(&bob, &message("alice@lab.example", "b1", "x"));
    loop {
        if let ControlEvent::Bounced { session, stanza } = link.next().await {
            assert_eq!((session, stanza.attr("id")), (bob.clone(), Some("b1")));
            break;
        }
    }
    let end = link.control.end(&bob);
    link.connection.send(&end);
    loop {
        if let ControlEvent::Ended { session } = link.next().await {
            break assert_eq!(session, bob);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_resource_is_taken_is_replaced() {
    let world = World::stand_in(Options::default()).await;
    let mut link = Link::connect(&world, None).await;
    let first = link.open(WEBEX).await;
    let start = link.control.start("again", &WEBEX.parse().unwrap());
    link.connection.send(&start);
    let (mut replaced, mut started) = (false, false);
    while !started {
        match link.next().await {
            ControlEvent::Replaced { session } => replaced = session == first,
            ControlEvent::Started { session, .. } => started = session != first,
            _ => {}
        }
    }
    assert!(replaced);
}

#[tokio::test(start_paused = true)]
async fn a_second_client_takes_the_resource_of_the_first() {
    let world = World::usual().await;
    let mut link = Link::connect(&world, None).await;
    link.open("bob@lab.example/jabber").await;
    let error = world.puppet("bob").say("alice", "x").await.unwrap_err().to_string();
    assert_eq!(error, "bob/jabber is signed out");
}

#[tokio::test(start_paused = true)]
async fn questions_are_answered_or_refused() {
    let world = World::usual().await;
    let mut link = Link::connect(&world, None).await;
    let bob = link.open(WEBEX).await;
    let mut ask = async |to: &str, inside: &str| -> String {
        let to = if to.is_empty() { String::new() } else { format!(" to='{to}'") };
        link.send(&bob, &format!("<iq type='get' id='q'{to}>{inside}</iq>"));
        let answer = loop {
            match link.next().await {
                ControlEvent::Stanza { stanza, .. } if stanza.attr("id") == Some("q") => break stanza,
                _ => {}
            }
        };
        match answer.get_child("error", ns::CLIENT) {
            Some(error) => error.children().next().unwrap().name().to_owned(),
            None => answer.attr("type").unwrap().to_owned(),
        }
    };
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    assert_eq!(ask("lab.example", info).await, "result");
    assert_eq!(ask("", info).await, "result");
    assert_eq!(ask("lab2.example", "<ping xmlns='urn:xmpp:ping'/>").await, "result");
    assert_eq!(ask("", "<query xmlns='jabber:iq:roster'/>").await, "result");
    assert_eq!(ask("alice@lab.example/jabber", "<ping xmlns='urn:xmpp:ping'/>").await, "result");
    assert_eq!(ask("lab.example", "<query xmlns='jabber:iq:search'/>").await, "service-unavailable");
    assert_eq!(ask("", "<query xmlns='jabber:iq:search'/>").await, "service-unavailable");
    assert_eq!(ask("alice@lab.example/gone", info).await, "service-unavailable");
    assert_eq!(ask("alice@lab.example/jabber", info).await, "result");
    let version = "<query xmlns='jabber:iq:version'/>";
    assert_eq!(ask("alice@lab.example/jabber", version).await, "service-unavailable");
    assert_eq!(ask("elsewhere.example", info).await, "remote-server-not-found");
    assert_eq!(ask("a@b@c", info).await, "jid-malformed");
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_are_refused() {
    let world = World::stand_in(Options::default()).await;
    let error = Link::try_connect(&world, None, "guess").await.err().unwrap().to_string();
    assert_eq!(error, "the peer ended the stream: not-authorized");
}

#[tokio::test(start_paused = true)]
async fn a_lost_link_is_resumed_with_exact_counters() {
    let world = World::new(Options { kind: true, ..Options::default() }).await;
    world.fault(r#"{"name":"imp-resent-stamped","on":true}"#);
    let mut link = Link::connect(&world, None).await;
    let bob = link.open(WEBEX).await;
    let control = link.control.clone();
    let sent = link.connection.sent();
    link.acked(sent).await;

    // This one arrives and is not acknowledged; the connection is lost before it could be.
    world.say("alice", "bob", "one").await;
    let got = loop {
        if let ControlEvent::Stanza { stanza, .. } = link.next_unacknowledged().await {
            break stanza;
        }
    };
    assert_eq!(bodies(&[got]), ["direct one"]);
    let state = link.connection.resume_state().unwrap();
    let unacknowledged = link.connection.received() - state.inbound;
    assert_eq!(unacknowledged, 1);
    drop(link);
    world.until("bob", "one").await;
    world.say("alice", "bob", "two").await;
    world.say("bob", "alice", "three").await;
    assert!(!world.ctx.idle.is_idle(), "what nobody has is on its way");
    assert_eq!(world.sees("alice", "bob"), "Available @ Webex", "nobody sees the loss");

    // As another process would, from the text of what it kept.
    let state = state.to_string().parse().unwrap();
    let mut link = Link::connect(&world, Some(state)).await;
    assert_eq!(link.resumed(), Some(sent));
    link.control = control;
    let got = link.collect(&bob).await;
    assert_eq!(bodies(&got), ["direct late one", "direct late two", "sent late three"]);
    let position = link.send(&bob, &message("alice@lab.example", "w", "after"));
    assert_eq!(position, sent + 2, "the ping and this");
    link.acked(position).await;
    world.idle().await;
    assert_eq!(world.chat("alice").last().unwrap(), "in message bob after");
}

/// `h` after a resumption tells what was handled: not what was under way, but what was handled and never acknowledged.
#[tokio::test(start_paused = true)]
async fn the_counter_tells_what_arrived() {
    for (fault, arrived) in [("imp-link-cut-before-handling", 0), ("imp-link-cut-after-handling", 1)] {
        let world = World::new(Options { kind: true, ..Options::default() }).await;
        let mut link = Link::connect(&world, None).await;
        let bob = link.open(WEBEX).await;
        let control = link.control.clone();
        world.fault(&format!(r#"{{"name":"{fault}","on":true,"count":1,"person":"bob"}}"#));
        let position = link.send(&bob, &message("alice@lab.example", "w", "mine"));
        let state = link.lose().await;
        let mut link = Link::connect(&world, Some(state)).await;
        assert_eq!(link.resumed(), Some(position - 1 + arrived), "{fault}");
        link.control = control;
        if arrived == 0 {
            assert_eq!(link.send(&bob, &message("alice@lab.example", "w", "mine")), position);
        }
        link.settle(&bob).await;
        world.until("alice", "mine").await;
        link.settle(&bob).await;
        assert_eq!(world.chat("alice"), ["in message bob mine"], "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_survive_a_link_that_breaks_while_they_are_written() {
    for fault in ["imp-link-cut-before-writing", "imp-link-cut-after-writing", "imp-link-cut"] {
        let world = World::usual().await;
        let mut link = Link::connect(&world, None).await;
        let bob = link.open(WEBEX).await;
        let control = link.control.clone();
        world.fault(&format!(r#"{{"name":"{fault}","on":true,"count":1}}"#));
        world.say("alice", "bob", "once").await;
        let state = link.lose().await;
        let mut link = Link::connect(&world, Some(state)).await;
        link.control = control;
        let got = link.collect(&bob).await;
        assert_eq!(bodies(&got).len(), 1, "{fault}: {:?}", bodies(&got));
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_not_resumed_loses_its_sessions() {
    // Resumed too late, refused, and begun anew.
    for case in ["late", "refused", "anew"] {
        let world = World::usual().await;
        let mut link = Link::connect(&world, None).await;
        link.open(WEBEX).await;
        world.does("bob", What::Offline).await;
        world.until("alice", "bob Available @ Webex").await;
        let state = link.connection.resume_state().unwrap();
        drop(link);
        // Nobody but the lost session could get this; it is not lost with it.
        world.say("alice", "bob", "kept").await;
        match case {
            "late" => tokio::time::sleep(Duration::from_secs(301)).await,
            "refused" => world.fault(r#"{"name":"imp-link-no-resumption","on":true,"count":1}"#),
            _ => {}
        }
        let link = Link::connect(&world, (case != "anew").then_some(state)).await;
        assert_eq!(link.resumed(), None, "{case}");
        world.until("alice", "bob Offline").await;
        world.does("bob", What::Online).await;
        world.idle().await;
        assert_eq!(world.chat("bob"), ["in message alice kept"], "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_stream_management_a_lost_link_is_the_end_of_its_sessions() {
    let world = World::usual().await;
    world.fault(r#"{"name":"imp-link-no-management","on":true}"#);
    let mut link = Link::connect(&world, None).await;
    assert!(!link.connection.is_managed());
    link.open(WEBEX).await;
    world.does("bob", What::Offline).await;
    world.until("alice", "bob Available @ Webex").await;
    drop(link);
    world.until("alice", "bob Offline").await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_link_says_nothing_until_it_speaks_again() {
    let world = World::usual().await;
    let mut link = Link::connect(&world, None).await;
    let bob = link.open(WEBEX).await;
    world.fault(r#"{"name":"imp-link-silent","on":true}"#);
    link.send(&bob, &message("alice@lab.example", "w", "held up"));
    let nothing = tokio::time::timeout(Duration::from_secs(30), link.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    assert!(world.chat("alice").is_empty());
    world.fault(r#"{"name":"imp-link-silent","on":false}"#);
    link.settle(&bob).await;
    world.idle().await;
    assert_eq!(world.chat("alice"), ["in message bob held up"]);
}

#[tokio::test(start_paused = true)]
async fn the_server_may_bind_another_resource_than_was_asked_for() {
    let world = World::stand_in(Options::default()).await;
    world.fault(r#"{"name":"imp-binds-another","on":true,"count":1}"#);
    let mut link = Link::connect(&world, None).await;
    let start = link.control.start("r", &WEBEX.parse().unwrap());
    link.connection.send(&start);
    loop {
        if let ControlEvent::Started { jid, .. } = link.next().await {
            break assert_eq!(jid.as_str(), format!("{WEBEX}-another"));
        }
    }
}

/// Rule 24: the store of IM and Presence is given to every resource, with whole seconds in its stamps.
#[tokio::test(start_paused = true)]
async fn every_resource_is_given_what_was_stored() {
    let world = World::usual().await;
    world.does("bob", What::Offline).await;
    world.until("alice", "bob Offline").await;
    world.say("alice", "bob", "stored").await;
    let mut link = Link::connect(&world, None).await;
    let bob = link.start(WEBEX).await;
    link.send(&bob, "<presence/>");
    let got = link.collect(&bob).await;
    assert_eq!(bodies(&got), ["direct late stored"]);
    let message = got.iter().find(|stanza| stanza.name() == "message").unwrap();
    let delay = message.get_child("delay", ns::DELAY).unwrap();
    assert_eq!(delay.attr("from"), Some("lab.example"));
    let stamp = delay.attr("stamp").unwrap();
    assert!(stamp.len() == 20 && stamp.starts_with("2024-05-01T10:00:"), "{stamp}");
    world.does("bob", What::Online).await;
    tokio::select! {
        biased;
        () = world.idle() => {}
        // Meanwhile the link answers what it is asked.
        () = async { loop { link.next().await; } } => {}
    }
    assert_eq!(world.chat("bob"), ["in message alice stored"]);
}

#[tokio::test(start_paused = true)]
async fn malformed_stanzas_hurt_nobody() {
    let world = World::usual().await;
    let mut link = Link::connect(&world, None).await;
    let bob = link.open(WEBEX).await;
    for xml in [
        "<message/>",
        "<message to='@@'/>",
        "<message to='alice@lab.example/jabber' type='error'/>",
        "<message to='nowhere@nowhere' type='groupchat'><body>x</body></message>",
        "<presence><priority>many</priority></presence>",
        "<presence type='nonsense'/>",
        "<presence to='' type='probe'/>",
        "<presence to='zoe@lab.example' type='subscribe'/>",
        "<iq/>",
        "<iq type='get'/>",
        "<iq type='set' id='1'><pubsub xmlns='http://jabber.org/protocol/pubsub'/></iq>",
        "<iq type='result' to='alice@lab.example' id='nobody asked'/>",
        "<unheard-of/>",
    ] {
        link.send(&bob, xml);
        link.settle(&bob).await;
    }
    let routes = [
        "<route xmlns='http://jabberd.jabberstudio.org/ns/component/1.0'/>",
        "<route xmlns='http://jabberd.jabberstudio.org/ns/component/1.0' to='lab.example' from='x' type='error'/>",
        "<route xmlns='http://jabberd.jabberstudio.org/ns/component/1.0' to='lab.example' from='x'><message \
         xmlns='jabber:client' xmlns:sc='http://jabberd.jabberstudio.org/ns/session/1.0' sc:c2s='9' sc:sm='no'/></route>",
    ];
    for xml in routes {
        link.connection.send(&xml.parse::<Element>().unwrap());
    }
    link.connection.send(&stanza("<message to='lab.example'/>"));
    link.settle(&bob).await;
    world.say("alice", "bob", "still there").await;
    world.until("bob", "still there").await;
    assert_eq!(world.chat("bob"), ["in message alice still there"]);
}

#[tokio::test(start_paused = true)]
async fn two_thousand_sessions_start_on_one_link() {
    let world = World::stand_in(Options { users: 2_000, ..Options::default() }).await;
    let mut link = Link::connect(&world, None).await;
    for n in 1..=2_000 {
        let jid = format!("u{n:05}@lab.example/webex");
        let start = link.control.start(&jid, &jid.parse().unwrap());
        link.connection.send(&start);
    }
    let mut sessions = Vec::new();
    while sessions.len() < 2_000 {
        if let ControlEvent::Started { session, .. } = link.next().await {
            sessions.push(session);
        }
    }
    for session in &sessions {
        link.send(session, "<presence/>");
    }
    link.settle(&sessions[1_999]).await;
    assert!(world.ctx.clock.now() < Time(support::START.0 + 60_000));
}
