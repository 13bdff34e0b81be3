//! A link that breaks all the time, at every place where it can: with a peer that keeps its counters as it should, nothing
//! is lost, nothing comes twice, and nothing overtakes.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use lab::options::Options;
use lab::people::What;
use support::{Link, World, bodies, message};
use xmpp_core::session_control::{Control, ControlEvent, SessionIds};
use xmpp_core::sm::ResumeState;
use xmpp_core::tokio::Event;

const MESSAGES: usize = 40;

/// A connector in its smallest form: what it has sent, by position, and what it has received.
struct Peer {
    control: Control,
    session: SessionIds,
    resume: ResumeState,
    unacknowledged: BTreeMap<u64, String>,
    unsent: Vec<String>,
    received: Vec<String>,
    connections: usize,
}

impl Peer {
    /// Connects, settles what was sent by what the server has, and talks until the connection is lost or all is done.
    async fn live(&mut self, world: &World) {
        let mut link = Link::connect(world, Some(self.resume.clone())).await;
        self.connections += 1;
        let h = link.resumed().expect("the stream is resumed");
        let again = self.unacknowledged.split_off(&(h + 1));
        self.unacknowledged.clear();
        self.unsent.splice(0..0, again.into_values());
        loop {
            let sending = !self.unsent.is_empty();
            for text in std::mem::take(&mut self.unsent) {
                let stanza = support::stanza(&message("alice@lab.example", &text, &text));
                let route = self.control.route(&self.session, stanza);
                let position = link.connection.send(&route);
                self.unacknowledged.insert(position, text);
            }
            if sending {
                link.connection.request_ack();
            }
            self.resume = link.connection.resume_state().unwrap();
            match tokio::time::timeout(Duration::from_secs(20), link.connection.next()).await {
                Err(_) => return,
                Ok(Event::Stanza { element, n }) => {
                    if let ControlEvent::Stanza { stanza, .. } = self.control.handle(element) {
                        let text = bodies(&[stanza])
                            .into_iter()
                            .map(|b| b.split(' ').next_back().unwrap().to_owned());
                        self.received.extend(text);
                    }
                    link.connection.acknowledge(n);
                }
                Ok(Event::Acked(h)) => self.unacknowledged = self.unacknowledged.split_off(&(h + 1)),
                Ok(Event::Closed(_)) => return,
                Ok(_) => {}
            }
            self.resume = link.connection.resume_state().unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_changes_nothing() {
    for seed in 1..=4 {
        let world = World::new(Options { seed, ..Options::default() }).await;
        let mut link = Link::connect(&world, None).await;
        let session = link.open("bob@lab.example/webex").await;
        world.does("bob", What::Offline).await;
        link.settle(&session).await;
        let mut peer = Peer {
            control: link.control.clone(),
            session,
            resume: link.connection.resume_state().unwrap(),
            unacknowledged: BTreeMap::new(),
            unsent: Vec::new(),
            received: Vec::new(),
            connections: 0,
        };
        drop(link);
        for (n, how) in
            ["before-handling", "after-handling", "before-writing", "after-writing"].iter().enumerate()
        {
            let chance = seed * 10 + n as u64;
            let fault = |door: &str| {
                format!(r#"{{"name":"imp-{door}-cut-{how}","on":true,"count":9,"seed":{chance}}}"#)
            };
            world.fault(&fault("link"));
            world.fault(&fault("client"));
        }
        let alice = world.puppet("alice");
        let talk = tokio::spawn(async move {
            for n in 0..MESSAGES {
                alice.say("bob", &format!("a{n}")).await.unwrap();
            }
        });
        for n in 0..MESSAGES {
            peer.unsent.push(format!("b{n}"));
            if n % 3 == 0 {
                peer.live(&world).await;
            }
        }
        let whole = |who: char| (0..MESSAGES).map(|n| format!("{who}{n}")).collect::<Vec<_>>();
        let done = |peer: &Peer| {
            peer.received.len() >= MESSAGES && peer.unacknowledged.is_empty() && peer.unsent.is_empty()
        };
        while !(talk.is_finished() && done(&peer)) {
            peer.live(&world).await;
            assert!(peer.connections < 500, "it never ends");
        }
        peer.live(&world).await;
        assert_eq!(peer.received, whole('a'), "seed {seed}");
        let heard = world.chat("alice");
        let heard: Vec<_> = heard.iter().filter_map(|line| line.strip_prefix("in message bob ")).collect();
        assert_eq!(heard, whole('b'), "seed {seed}");
        assert!(peer.connections > MESSAGES / 3 + 4, "the link broke {} times", peer.connections);
        world.ctx.shut_down().await;
    }
}
