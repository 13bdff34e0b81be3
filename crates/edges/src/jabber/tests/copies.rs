//! One message comes in several forms, to several sessions, in any order; the router makes one post of it.

use proptest::prelude::*;
use router::envelope::Link;
use router::ids::{ActivityId, ConversationId, ImpStreamId, PersonId, StreamId, Time, Upstream};
use router::inbound::{Facts, Inbound, Outcome, SessionEvent};
use router::memory::MemoryStorage;
use router::outbound::Outbound;
use router::outbox::{Lane, Storage};
use router::tag::Tagger;
use router::times::Times;
use router::{Config, Router};
use xmpp_core::{Element, FullJid};

use super::super::intake::{Me, Reading, read};
use super::world::facts_of;

const NOW: Time = Time(1_790_000_000_000);

/// A router with a store in memory, and the sessions of Ann and Bob, which are settled.
struct Carrier {
    router: Router,
    storage: MemoryStorage,
    posts: Vec<String>,
    n: u64,
}

impl Carrier {
    fn new() -> Self {
        let tagger = Tagger::new(b"the organization's key", &[]);
        let config = Config {
            tagger: tagger.clone(),
            times: Times::default(),
            capacity: 64,
            deliver_to_pending: false,
            since: Some(Time(0)),
            rate: None,
            bot: false,
            notices: false,
            federation: None,
        };
        let mut storage = MemoryStorage::new(tagger);
        let loaded = storage.load(NOW).unwrap();
        let router = Router::new(config, loaded, NOW).unwrap();
        let mut carrier = Self { router, storage, posts: Vec::new(), n: 0 };
        carrier.hand(Inbound::Directory(Facts { people: facts_of(&["ann", "bob"]), complete: true }));
        for person in ["ann", "bob"].map(PersonId::new) {
            let opening = SessionEvent::Opening { stream: ImpStreamId::new("s"), resumed: false, at: NOW };
            carrier.hand(Inbound::Session(person.clone(), opening));
            carrier.hand(Inbound::Session(person.clone(), SessionEvent::Settled));
            carrier.hand(Inbound::CaughtUp(person, 0, NOW));
        }
        carrier
    }

    fn hand(&mut self, inbound: Inbound) {
        self.router.handle(inbound, NOW);
        while let Some(outbound) = self.router.poll_outbound() {
            match outbound {
                Outbound::Commit(batch) => {
                    let id = batch.id;
                    let answer = self.storage.commit(&[batch], NOW).unwrap().remove(0);
                    self.router.handle(Inbound::Committed(id, answer), NOW);
                }
                Outbound::Deliver(ticket, id, _) => {
                    let entry = self.storage.entry(id).unwrap().unwrap().entry;
                    assert!(matches!(entry.lane, Lane::ToWebex(..)), "{entry:?}");
                    self.posts.push(entry.stanza.map(|stanza| stanza.to_string()).unwrap_or_default());
                    let posted = ActivityId::new(format!("posted-{}", entry.id.0));
                    let link = Link::Activity(posted, ConversationId::new("ann+bob"));
                    let outcome = Outcome::Delivered(link);
                    self.router.handle(Inbound::Receipt(ticket, outcome), NOW);
                }
                _ => {}
            }
        }
    }

    /// What a session brings, as the edge reads it.
    fn bring(&mut self, whose: &str, stanza: &str) {
        self.n += 1;
        let stanza: Element = stanza.parse().unwrap();
        let (person, jid) =
            (PersonId::new(whose), FullJid::new(&format!("{whose}@lab.example/webex-1")).unwrap());
        let me = Me { person: &person, jid: &jid, utc_offset: 0, archive: None };
        let upstream = Upstream { stream: StreamId::Imp(ImpStreamId::new("s")), n: self.n };
        if let Reading::Inbound(inbound) = read(&stanza, &me, &upstream, NOW) {
            self.hand(*inbound);
        }
    }
}

/// The ways in which a message of Ann's to Bob is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// To Bob's session: its resource is among those with the highest priority, or was addressed.
    Direct,
    /// To Bob's session, which another resource got it before.
    Received,
    /// To Ann's session: another client of hers wrote it.
    Sent,
    /// As [`Way::Received`], from somebody who only says that it is a copy.
    Forged,
    /// As [`Way::Sent`], from somebody who only says so.
    ForgedSent,
}

impl Way {
    fn is_forged(self) -> bool {
        matches!(self, Self::Forged | Self::ForgedSent)
    }

    fn stanza(self, id: &str, text: &str) -> (&'static str, String) {
        let message = format!(
            "<message xmlns='jabber:client' from='ann@lab.example/desk' to='bob@lab.example' type='chat' id='{id}'>\
             <body>{text}</body></message>"
        );
        let copy = |outer: &str, name: &str| {
            format!(
                "<message xmlns='jabber:client' from='{outer}' type='chat'><{name} xmlns='urn:xmpp:carbons:2'>\
                 <forwarded xmlns='urn:xmpp:forward:0'>{message}</forwarded></{name}></message>"
            )
        };
        match self {
            Self::Direct => ("bob", message),
            Self::Received => ("bob", copy("bob@lab.example", "received")),
            Self::Sent => ("ann", copy("ann@lab.example", "sent")),
            Self::Forged => ("bob", copy("eve@lab.example", "received")),
            Self::ForgedSent => ("ann", copy("ann@lab.example/desk", "sent")),
        }
    }
}

/// In which ways a message is told, in which order: at least one, each at most once, forged ones in between.
fn told() -> impl Strategy<Value = Vec<Way>> {
    let ways = vec![Way::Direct, Way::Received, Way::Sent];
    let forged = prop::collection::vec(prop_oneof![Just(Way::Forged), Just(Way::ForgedSent)], 0..3);
    (prop::sample::subsequence(ways, 1..=3), forged)
        .prop_map(|(ways, forged)| [ways, forged].concat())
        .prop_shuffle()
}

proptest! {
    /// Whatever of each message comes in whichever order, also between that of others, each is posted once.
    #[test]
    fn each_message_is_posted_once(
        messages in prop::collection::vec(told(), 1..5),
        seed in any::<u64>(),
    ) {
        let mut arrivals: Vec<(usize, Way)> =
            messages.iter().enumerate().flat_map(|(n, ways)| ways.iter().map(move |way| (n, *way))).collect();
        // Any order at all: what one session brings of different messages may change places with another's.
        let mut state = seed;
        for at in (1..arrivals.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            arrivals.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        let mut carrier = Carrier::new();
        for (n, way) in arrivals {
            let (whose, stanza) = way.stanza(&format!("m{n}"), "hello");
            carrier.bring(whose, &stanza);
        }
        carrier.posts.sort();
        let expected: Vec<String> = (0..messages.len()).map(|n| format!("m{n}")).collect();
        prop_assert_eq!(carrier.posts, expected);
    }

    /// Clients use an id twice, also for the same words: as often as they were written they are posted, if the sessions
    /// tell of each in the same ways.
    #[test]
    fn as_many_messages_of_one_id_as_were_written_are_posted(
        ways in told(),
        times in 1usize..4,
        turn in any::<bool>(),
    ) {
        let mut carrier = Carrier::new();
        let told = |carrier: &mut Carrier, way: Way| {
            let (whose, stanza) = way.stanza("m", "again");
            carrier.bring(whose, &stanza);
        };
        if turn {
            for _ in 0..times {
                ways.iter().for_each(|way| told(&mut carrier, *way));
            }
        } else {
            for way in &ways {
                (0..times).for_each(|_| told(&mut carrier, *way));
            }
        }
        prop_assert!(ways.iter().any(|way| !way.is_forged()));
        prop_assert_eq!(carrier.posts.len(), times);
    }
}
