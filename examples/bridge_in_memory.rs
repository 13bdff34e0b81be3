//! The whole idea in a page: the router decides, a store makes it last, and two closures are the two networks.
//! Nothing is acknowledged or delivered before it is committed, and a copy of a message is a repeat.
//!
//!     cargo run -p examples --example bridge_in_memory

use router::envelope::{Body, Envelope, Form, JabberOrigin, Kind, Link, Origin};
use router::ids::{
    ActivityId, ConversationId, ImpStreamId, JabberId, PersonId, StanzaId, StreamId, Time, Upstream,
};
use router::inbound::{Facts, Inbound, Outcome, PersonFacts, SessionEvent, StreamEvent};
use router::memory::MemoryStorage;
use router::outbound::Outbound;
use router::outbox::{Novelty, Storage as _};
use router::tag::Tagger;
use router::times::Times;
use router::{Config, Router};

const START: Time = Time(1_700_000_000_000);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut now = START;
    let tagger = Tagger::new(b"the organization's key", &[]);
    let mut store = MemoryStorage::new(tagger.clone());
    let config = Config {
        tagger,
        times: Times::default(),
        capacity: 16,
        deliver_to_pending: false,
        since: None,
        rate: None,
        bot: false,
        notices: false,
        federation: None,
    };
    let mut router = Router::new(config, store.load(now)?, now)?;

    // The two networks: what reaches Webex is printed, what is acknowledged to Jabber is printed.
    let webex = |text: &str| {
        println!("bob reads in Webex: {text}");
        Link::Activity(ActivityId::new("a1"), ConversationId::new("https://conv.example/1"))
    };
    let jabber = |upstream: &Upstream| println!("acknowledged to Jabber: stanza {}", upstream.n);

    let mut step = |router: &mut Router, inbound: Inbound| -> Result<(), Box<dyn std::error::Error>> {
        let mut inbound = vec![inbound];
        while let Some(next) = inbound.pop() {
            now = now.plus(10);
            router.handle(next, now);
            // Commits may wait a moment for company; here nobody else comes.
            while router.deadline().is_some_and(|due| due.since(now) < 1_000) {
                now = router.deadline().unwrap_or(now).max(now);
                router.handle_timeout(now);
            }
            while let Some(outbound) = router.poll_outbound() {
                match outbound {
                    Outbound::Commit(batch) => {
                        let novelties = store.commit(std::slice::from_ref(&batch), now)?.remove(0);
                        if novelties.iter().any(|n| matches!(n, Novelty::Repeat { .. })) {
                            println!("the copy was a repeat");
                        }
                        inbound.push(Inbound::Committed(batch.id, novelties));
                    }
                    Outbound::Acknowledge(upstream) => jabber(&upstream),
                    Outbound::Deliver(ticket, id, _) => {
                        if let Some(entry) = store.entry(id)?
                            && let Body::Clear(text) = &entry.entry.body
                        {
                            inbound.push(Inbound::Receipt(ticket, Outcome::Delivered(webex(text))));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    };

    let facts = Facts { people: vec![person("alice", true), person("bob", true)], complete: true };
    step(&mut router, Inbound::Directory(facts))?;
    let stream = ImpStreamId::new("link");
    step(&mut router, Inbound::Stream(stream.clone(), StreamEvent::Up { acknowledges: true }))?;
    for name in ["alice", "bob"] {
        let opening = SessionEvent::Opening { stream: stream.clone(), resumed: false, at: START };
        step(&mut router, Inbound::Session(PersonId::new(name), opening))?;
        step(&mut router, Inbound::Session(PersonId::new(name), SessionEvent::Settled))?;
    }

    // Alice writes in Jabber. Her own session sees her outgoing copy, bob's session sees the message: one is posted.
    for (n, session, form) in [(1, "alice", Form::Sent), (2, "bob", Form::Direct)] {
        let upstream = Upstream { stream: StreamId::Imp(stream.clone()), n };
        let message = Inbound::Message(written(session, form), vec![Body::Clear("hello".into())], upstream);
        step(&mut router, message)?;
    }
    Ok(())
}

fn person(name: &str, enabled: bool) -> PersonFacts {
    PersonFacts {
        id: PersonId::new(name),
        ours: true,
        jid: Some(JabberId::new(format!("{name}@example.com"))),
        home: Some("".into()),
        mail: format!("{name}@example.com").into(),
        name: name.into(),
        enabled,
        pending: false,
        token: true,
    }
}

fn written(session: &str, form: Form) -> Envelope {
    let origin = JabberOrigin {
        session: PersonId::new(session),
        form,
        from: "alice@example.com/desk".into(),
        from_bare: JabberId::new("alice@example.com"),
        to: JabberId::new("bob@example.com"),
        stanza: StanzaId::new("s1"),
        origin_id: None,
        text_hash: [7; 32],
        stamp: None,
    };
    Envelope { origin: Origin::Jabber(origin), kind: Kind::Text, arrived: START.plus(500) }
}
