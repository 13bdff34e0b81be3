//! Many sessions at once: in which order they are opened, how fast, and on which node.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use presence_map::Show;
use router::directory::Directory;
use router::ids::*;
use router::inbound::{Facts, Inbound, PersonFacts};
use router::outbound::Wanted;
use tokio::time::Instant;
use xmpp_core::session_control;

use super::super::*;
use super::far::{Far, Seen, State};
use super::world::*;
use crate::seam::BoxIo;

impl World {
    /// Lets everything go on for so long; when which session was started, and how often each showed a presence.
    pub(super) async fn starts(
        &mut self,
        wait: Duration,
    ) -> (Vec<(String, Instant)>, BTreeMap<String, usize>) {
        let until = Instant::now() + wait;
        let (mut starts, mut presences) = (Vec::new(), BTreeMap::new());
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => return (starts, presences),
                seen = soon(self.seen.recv()) => match seen {
                    Seen::Start(jid) => starts.push((jid.split('@').next().unwrap().to_owned(), Instant::now())),
                    Seen::Stanza(stanza) if stanza.name() == "presence" => {
                        let status = stanza.get_child("status", xmpp_core::ns::CLIENT).map(|s| s.text());
                        *presences.entry(status.unwrap_or_default()).or_default() += 1;
                    }
                    _ => {}
                },
                answer = soon(self.answers.recv()) => if let Inbound::Keep { key, value, ask } = answer {
                    self.keep(key, value, ask);
                },
                input = soon(self.intake.recv()) => if let Inbound::Handled(upstream) = input {
                    self.commit(upstream);
                },
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_are_opened_at_the_limit_and_who_was_active_last_is_first() {
    const PEOPLE: u64 = 200;
    let mut world = World::new(trusted(), State::default());
    let names: Vec<String> = (0..PEOPLE).map(|n| format!("p{n:03}")).collect();
    world.order(Order::Directory(everybody(&names, "")));
    // Some are there, some are away for a while, of some nothing is known; in no order.
    let mut expected = Vec::new();
    for (n, name) in (0..PEOPLE).zip(&names) {
        let minutes = i64::try_from(n * 77 % PEOPLE).unwrap();
        let (show, active) = match n % 10 {
            0 => (Show::Available, None),
            1..4 => (Show::Available, Some(Time(1_790_000_000_000 - minutes * 1000))),
            _ => (Show::Away, Some(Time(1_790_000_000_000 - minutes * 60_000))),
        };
        expected.push(((show != Show::Available, std::cmp::Reverse(active)), name.clone()));
        let wanted = Wanted::Open { show, text: "@ Webex", active };
        world.order(Order::Session(PersonId::new(name.as_str()), wanted));
    }
    expected.sort();
    let expected: Vec<String> = expected.into_iter().map(|(_, name)| name).collect();
    for lost in [false, true] {
        if lost {
            world.far.tell(|far| (far.cut, far.forgetful) = (true, true));
        }
        let (starts, presences) = world.starts(Duration::from_secs(60)).await;
        let order: Vec<String> = starts.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(order, expected, "each once, after a loss again; lost: {lost}");
        assert_eq!(presences.values().sum::<usize>(), names.len(), "and each says its presence once");
        // The world's limit is a hundred in a second.
        let took = starts.last().unwrap().1 - starts[0].1;
        assert!((1_950..=2_020).contains(&took.as_millis()), "{took:?} for two hundred");
        let gaps: Vec<u128> = starts.windows(2).map(|pair| (pair[1].1 - pair[0].1).as_millis()).collect();
        assert!(gaps.iter().any(|gap| *gap < 8) && gaps.iter().any(|gap| *gap > 12), "jitter: {gaps:?}");
    }
}

/// People of a node, all of whom should have a session.
fn many(world: &World, home: &str) -> Vec<String> {
    let names: Vec<String> = (0..200).map(|n| format!("p{n:03}")).collect();
    world.order(Order::Directory(everybody(&names, home)));
    for name in &names {
        world.open(name, Show::Available);
    }
    names
}

/// What the limit of a hundred in a second implies for them, and five seconds.
const BACK: Duration = Duration::from_secs(2 + 5);

#[tokio::test(start_paused = true)]
async fn however_long_a_server_was_away_everybody_is_back_five_seconds_after_what_the_limit_implies() {
    for access in [trusted(), service()] {
        let mut world = World::new(access, State { unmanaged: true, ..State::default() });
        let names = many(&world, "");
        let (_, presences) = world.starts(Duration::from_secs(60)).await;
        assert_eq!(presences.values().sum::<usize>(), names.len());
        for away in [1, 30, 900] {
            world.far.dies(true);
            let (_, presences) = world.starts(Duration::from_secs(away)).await;
            assert!(presences.is_empty(), "{presences:?}");
            let before = world.far.state().dialed;
            world.far.dies(false);
            let (_, presences) = world.starts(BACK).await;
            assert_eq!(presences.values().sum::<usize>(), names.len(), "after {away} s");
            let links = if world.access.is_trusted() { 1 } else { names.len() };
            assert_eq!(world.far.state().dialed - before, u32::try_from(links).unwrap());
            let (_, presences) = world.starts(Duration::from_secs(120)).await;
            assert!(presences.is_empty(), "each says its presence once: {presences:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn client_streams_that_are_lost_together_come_back_under_the_limit() {
    let mut world = World::new(service(), State { unmanaged: true, ..State::default() });
    let names = many(&world, "");
    world.starts(Duration::from_secs(60)).await;
    world.far.dies(true);
    world.starts(Duration::from_secs(60)).await;
    world.far.dies(false);
    let before = world.far.state().dialed;
    while world.far.state().dialed == before {
        world.starts(Duration::from_millis(10)).await;
    }
    world.starts(Duration::from_secs(1)).await;
    let dialed = world.far.state().dialed - before;
    assert!((50..=105).contains(&dialed), "{dialed} of {} in a second", names.len());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_away_is_tried_by_one_client_stream_at_a_time() {
    let mut world = World::new(service(), State { unmanaged: true, ..State::default() });
    many(&world, "");
    world.starts(Duration::from_secs(60)).await;
    world.far.dies(true);
    world.starts(Duration::from_secs(10)).await;
    let before = world.far.state().tried;
    world.starts(Duration::from_secs(600)).await;
    // Each tries the three nodes of the cluster; one of them is away all the time.
    let tried = (world.far.state().tried - before) / 3;
    assert!((200..=400).contains(&tried), "{tried} tries in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn five_clusters_have_a_link_each_and_everybody_a_session_under_one_limit() {
    let mut world = World::new(trusted(), State::default());
    world.clusters = 5;
    world.start();
    let people: Vec<PersonFacts> = (0..200)
        .flat_map(|n| facts_of(&[format!("p{n:03}").as_str()]))
        .zip((1..=5).cycle())
        .map(|(person, cluster)| {
            let jid = JabberId::new(format!("{}@lab{cluster}.example", person.name));
            PersonFacts { jid: Some(jid), ..person }
        })
        .collect();
    let facts = Facts { people, complete: true };
    world.order(Order::Directory(Arc::new(Directory::default().with(&facts, Time(0), Time(0)))));
    for person in &facts.people {
        world.open(person.id.as_str(), Show::Available);
    }
    let (starts, presences) = world.starts(Duration::from_secs(60)).await;
    assert_eq!((starts.len(), presences.values().sum::<usize>()), (200, 200));
    assert_eq!(world.far.state().dialed, 5);
    let took = starts.last().unwrap().1 - starts[0].1;
    assert!((1_950..=2_020).contains(&took.as_millis()), "{took:?} for two hundred");
}

/// Two nodes, each a server of its own.
#[derive(Clone)]
struct Pair([Far; 2]);

impl Dial for Pair {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send + 'a>> {
        self.0[usize::from(host == "two")].dial(host, port)
    }
}

impl Pair {
    fn sessions(&self) -> [usize; 2] {
        [0, 1].map(|node| self.0[node].state().sessions.len())
    }

    /// The second node serves the users of the first, or gives them back.
    fn takes_over(&self, takes: bool) {
        self.0[1].tell(|far| far.strict = !takes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pair_fails_over_and_falls_back_as_fast_as_the_limit_lets_it_whoever_says_so() {
    for told in [false, true] {
        let mut world = World::new(trusted(), State::default());
        let (far, mut also_seen) = Far::new(State { strict: true, ..State::default() });
        let pair = Pair([world.far.clone(), far]);
        let (publisher, standing) = watch::channel(Standing::default());
        world.names = vec!["one".into(), "two".into()];
        world.dial = Some(Arc::new(pair.clone()));
        world.standing = told.then_some(standing);
        world.start();
        // What the publisher says where it is asked: the first node's users are with it or on the second.
        let says = |taken_over| {
            let of = |partner: &str, taken_over| NodeStanding { partner: Some(partner.into()), taken_over };
            let nodes = [("one", of("two", Some(taken_over))), ("two", of("one", Some(false)))];
            let nodes = nodes.map(|(name, standing)| ((0, name.into()), standing)).into();
            publisher.send_replace(Standing { nodes });
        };
        says(false);
        let all = many(&world, "0/one").len();
        world.starts(Duration::from_secs(60)).await;
        assert_eq!(pair.sessions(), [all, 0]);

        pair.0[0].dies(true);
        world.starts(Duration::from_secs(600)).await;
        assert_eq!(pair.sessions(), [0, 0], "its partner has not taken over yet");
        pair.takes_over(true);
        says(true);
        world.starts(BACK).await;
        assert_eq!(pair.sessions(), [0, all], "told by the publisher: {told}");

        // The node is back, and takes its users back a while later.
        pair.0[0].dies(false);
        world.starts(Duration::from_secs(120)).await;
        assert_eq!(pair.sessions(), [0, all], "whoever has a session keeps it");
        pair.takes_over(false);
        pair.0[1].tell(|far| {
            for ids in std::mem::take(&mut far.sessions).into_values() {
                far.push(session_control::ended(&ids));
            }
        });
        says(false);
        world.starts(BACK).await;
        assert_eq!(pair.sessions(), [all, 0], "told by the publisher: {told}");
        assert_eq!(world.refused(), []);
        while also_seen.try_recv().is_ok() {}
    }
}

/// Each stream looks for its node by itself; the publisher is not asked.
#[tokio::test(start_paused = true)]
async fn client_streams_fail_over_and_fall_back_as_fast_as_the_limit_lets_them() {
    let mut world = World::new(service(), State::default());
    let (far, mut also_seen) = Far::new(State { clients: true, strict: true, ..State::default() });
    let pair = Pair([world.far.clone(), far]);
    let streams = |pair: &Pair| [0, 1].map(|node| pair.0[node].state().streams);
    world.names = vec!["one".into(), "two".into()];
    world.dial = Some(Arc::new(pair.clone()));
    world.start();
    let all = many(&world, "0/two").len();
    world.starts(Duration::from_secs(60)).await;
    assert_eq!(streams(&pair), [all, 0], "wherever they are said to be homed");

    pair.0[0].dies(true);
    world.starts(Duration::from_secs(600)).await;
    assert_eq!(streams(&pair), [0, 0], "its partner has not taken over yet");
    pair.takes_over(true);
    world.starts(BACK).await;
    assert_eq!(streams(&pair), [0, all]);

    // The node is back, and takes its users back a while later.
    pair.0[0].dies(false);
    world.starts(Duration::from_secs(120)).await;
    assert_eq!(streams(&pair), [0, all], "whoever has a session keeps it");
    pair.takes_over(false);
    pair.0[1].dies(true);
    world.starts(Duration::from_secs(1)).await;
    pair.0[1].dies(false);
    world.starts(BACK).await;
    assert_eq!(streams(&pair), [all, 0]);
    assert_eq!(world.refused(), []);
    while also_seen.try_recv().is_ok() {}
}

#[tokio::test(start_paused = true)]
async fn whom_neither_node_of_a_pair_serves_is_asked_for_ever_more_rarely_and_taken_at_once() {
    let mut world = World::new(trusted(), State { strict: true, ..State::default() });
    world.names = vec!["one".into(), "two".into()];
    world.start();
    let names: Vec<String> = (0..20).map(|n| format!("p{n:02}")).collect();
    world.order(Order::Directory(everybody(&names, "0/one")));
    for name in &names {
        world.open(name, Show::Available);
    }
    let (first, _) = world.starts(Duration::from_secs(60)).await;
    let (later, _) = world.starts(Duration::from_secs(3600)).await;
    assert!(first.len() >= 4 * names.len(), "a partner may take over at any moment: {} tries", first.len());
    let each = later.len() / names.len();
    assert!((30..180).contains(&each), "{each} tries for each in an hour");
    let reason = "no node that could serve this user starts a session";
    let expected: Vec<_> = names.iter().map(|name| (name.clone(), reason)).collect();
    assert_eq!(world.refused(), expected, "and that is reported");
    // They are known after all: the first that is asked for finds that out for everybody on its node.
    world.far.tell(|far| far.strict = false);
    let (starts, _) = world.starts(Duration::from_secs(120)).await;
    assert_eq!(starts.len(), names.len(), "each once more");
    assert_eq!(world.far.state().sessions.len(), names.len());
    assert_eq!(world.refused(), []);
}
