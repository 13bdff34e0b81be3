//! One thing at a time: what people do in a world without weather, and what their clients show then.

mod away;
mod before;
mod compliance;
mod federation;
mod flood;
mod full;
mod group_chats;
mod keys;
mod left_alone;
mod marks;
mod options;
mod told;

use std::time::Duration;

use connector_edges::hub::Status;
use lab::fault::Switch;
use lab::options::Link;
use lab::people::{Act, What};
use lab::seen::{Client, Kind, Line};

use super::net::Tap;
use super::people::Habits;
use super::world::{Running, Setup, World};
use crate::config::Config;

/// A world at rest, in which nothing happens but what the story does.
pub(super) struct Scene {
    pub(super) world: World,
    running: Running,
}

const SETUP: Setup = Setup {
    kind: false,
    link: Link::A,
    habits: Habits { messages: 0, pause: Duration::ZERO, gestures: false, revisions: false },
    crashes: 0,
    faults: 0,
    latency: Duration::from_millis(5),
    off: None,
};

/// Plays a story in a world of its own.
pub(super) fn play(story: impl AsyncFnOnce(&mut Scene)) {
    play_in(|_| {}, story);
}

/// The same with other settings than the lab's.
pub(super) fn play_with(settings: impl FnOnce(&mut Config), story: impl AsyncFnOnce(&mut Scene)) {
    play_in(|world| settings(&mut world.config), story);
}

/// The same in a world that something is changed in before the connector starts.
pub(super) fn play_in(change: impl FnOnce(&mut World), story: impl AsyncFnOnce(&mut Scene)) {
    super::log();
    super::world::in_virtual_time(async {
        let mut world = World::new(1, SETUP, false).await.unwrap();
        change(&mut world);
        world.tap = Some(Tap::default());
        let running = world.start(u64::MAX).unwrap();
        world.wait_ready(&running).await.unwrap();
        let mut scene = Scene { world, running };
        story(&mut scene).await;
        scene.running.stop().await;
        scene.world.lab.stop().await;
    });
}

fn client(who: &str) -> Client {
    who.parse().unwrap()
}

impl Scene {
    /// Somebody writes; the message's id in that client.
    pub(super) async fn say(&self, who: &str, to: &str, text: &str) -> String {
        let puppet = self.world.lab.ctx().puppets.get(&client(who)).unwrap();
        puppet.say(to, text).await.unwrap()
    }

    /// Somebody does something else.
    pub(super) async fn act(&self, who: &str, act: Act) {
        let puppet = self.world.lab.ctx().puppets.get(&client(who)).unwrap();
        puppet.act(&act).await.unwrap();
    }

    /// Somebody does something with one text.
    pub(super) async fn does(&self, who: &str, what: What, text: &str) {
        let act = Act { id: text.to_owned(), text: text.to_owned(), ..Act::new(what) };
        self.act(who, act).await;
    }

    /// Switches a fault, for everybody or for one person.
    pub(super) fn fault(&self, name: &str, on: bool, person: Option<&str>) {
        let (name, person) = (name.to_owned(), person.map(str::to_owned));
        let switch = Switch { name, on, count: None, seed: None, person, value: None, text: None };
        self.world.lab.ctx().faults.switch(&switch).unwrap();
    }

    /// Waits until nobody holds anything back any more.
    pub(super) async fn rest(&self) {
        self.world.wait_idle(&self.running).await.unwrap();
    }

    /// What a client shows of one kind.
    pub(super) fn shown(&self, who: &str, kind: Kind) -> Vec<Line> {
        let lines = self.world.lab.ctx().seen.after(&client(who), 0);
        lines.into_iter().filter(|line| line.kind == kind).collect()
    }

    /// The texts among it.
    pub(super) fn texts(&self, who: &str) -> Vec<String> {
        self.shown(who, Kind::Message).into_iter().map(|line| line.text).collect()
    }

    /// All that the connector has written to the trusted link, and to the cloud.
    pub(super) fn written(&self) -> [String; 2] {
        let tap = self.world.tap.as_ref().unwrap().lock().unwrap();
        self.world.ports(SETUP.link).map(|port| {
            let bytes: Vec<u8> =
                tap.iter().filter(|(to, _)| *to == port).flat_map(|(_, b)| b).copied().collect();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    pub(super) async fn status(&self) -> Status {
        self.running.wired.handle.status().await.unwrap()
    }

    /// The process dies now, and another is started, with the settings as they are by then.
    pub(super) async fn dies(&mut self, meanwhile: impl FnOnce(&mut World)) {
        self.running.life.end();
        meanwhile(&mut self.world);
        let next = self.world.start(u64::MAX).unwrap();
        std::mem::replace(&mut self.running, next).stop().await;
    }

    /// The process is found dead after so many more steps, and another is started.
    pub(super) async fn dies_after(&mut self, steps: u64) {
        self.running.life.ends_after(steps);
        // One that has nothing more to do would live for ever.
        let _ = tokio::time::timeout(Duration::from_secs(600), self.running.life.ended()).await;
        let next = self.world.start(u64::MAX).unwrap();
        std::mem::replace(&mut self.running, next).stop().await;
    }
}
