//! Many sessions at once: in which order they are opened, how fast, and on which node.

use std::collections::BTreeMap;
use std::time::Duration;

use presence_map::Show;
use router::ids::*;
use router::inbound::Inbound;
use router::outbound::Wanted;
use tokio::time::Instant;

use super::super::*;
use super::far::{Seen, State};
use super::world::*;

impl World {
    /// Lets everything go on for so long; when which session was started, and how often each showed a presence.
    async fn starts(&mut self, wait: Duration) -> (Vec<(String, Instant)>, BTreeMap<String, usize>) {
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
