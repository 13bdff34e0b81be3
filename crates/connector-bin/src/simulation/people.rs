//! People who write to each other in both clients, and the judgement of what their clients showed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connector_edges::seam::Generator;
use lab::Lab;
use lab::people::{Act, What};
use lab::seen::{App, Client, Kind};

/// Who writes to whom, from either client; carol is not enabled.
const PAIRS: [(&str, &str); 4] = [("alice", "bob"), ("alice", "erin"), ("bob", "gina"), ("carol", "alice")];

fn is_enabled(name: &str) -> bool {
    name != "carol"
}

/// One message, as its author knows it.
#[derive(Clone, Debug)]
struct Written {
    client: Client,
    to: &'static str,
    /// Which messages of the conversation its author's client had shown, its own included.
    saw: Vec<usize>,
    /// Its id in its author's client, once it has one.
    id: Option<String>,
    /// The text that it was given last, if it was edited.
    edits: usize,
    deleted: bool,
}

impl Written {
    /// What it says; unique in a world.
    fn text(&self, n: usize) -> String {
        format!("{}: from {} to {}", mark(n), self.client, self.to)
    }

    fn is_between(&self, a: &str, b: &str) -> bool {
        (self.client.name == a && self.to == b) || (self.client.name == b && self.to == a)
    }

    /// The clients that are to show it: those of its author's network, and those of the other one if it is carried.
    fn audience(&self) -> Vec<Client> {
        let author = self.client.name.as_str();
        let (here, there) = match self.client.app {
            App::Jabber => (App::Jabber, App::Webex),
            App::Webex => (App::Webex, App::Jabber),
        };
        let mut audience = vec![Client::new(self.to, here)];
        // From Jabber either side's session brings it; from Webex only its author's session can write it.
        if is_enabled(author) || (is_enabled(self.to) && here == App::Jabber) {
            audience.push(Client::new(self.to, there));
            audience.push(Client::new(author, there));
        }
        audience
    }
}

/// How a message is recognized, whatever became of its text.
fn mark(n: usize) -> String {
    format!("message {n:03}")
}

/// Everything that was written in a world.
#[derive(Clone, Debug, Default)]
pub(super) struct Talk(Arc<Mutex<Vec<Written>>>);

/// What people do, and how much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// How many messages each client of each pair writes at most.
    pub(super) messages: u64,
    /// The longest pause between two of them.
    pub(super) pause: Duration,
    /// Whether they also type and mark as read.
    pub(super) gestures: bool,
    /// Whether they also edit and delete.
    pub(super) revisions: bool,
}

impl Talk {
    fn with<T>(&self, f: impl FnOnce(&mut Vec<Written>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.with(|all| all.len())
    }

    /// Everybody writes, each client for itself, until each has written all it wants.
    pub(super) async fn go_on(&self, lab: &Lab, habits: Habits, chance: &Generator) {
        let voices = PAIRS.into_iter().flat_map(|(a, b)| {
            [App::Jabber, App::Webex].into_iter().flat_map(move |app| [(a, b, app), (b, a, app)])
        });
        let speak = voices.map(|(from, to, app)| {
            let chance = Generator::seeded(chance.number());
            self.speak(lab, Client::new(from, app), to, habits, chance)
        });
        for () in futures(speak).await {}
    }

    async fn speak(&self, lab: &Lab, client: Client, to: &'static str, habits: Habits, chance: Generator) {
        for _ in 0..=chance.number() % habits.messages.max(1) {
            tokio::time::sleep(habits.pause.mul_f64((chance.number() % 1000) as f64 / 1000.0)).await;
            if habits.gestures && chance.number().is_multiple_of(3) {
                self.revise(lab, &client, to, habits, &chance).await;
            } else {
                self.say(lab, &client, to).await;
            }
        }
    }

    async fn say(&self, lab: &Lab, client: &Client, to: &'static str) {
        let shown = marks(lab, client);
        let (n, text) = self.with(|all| {
            let own = |w: &Written| w.client == *client;
            let saw = all
                .iter()
                .enumerate()
                .filter(|(n, w)| w.is_between(&client.name, to) && (own(w) || shown.contains(&mark(*n))));
            let saw = saw.map(|(n, _)| n).collect();
            let written = Written { client: client.clone(), to, saw, id: None, edits: 0, deleted: false };
            let n = all.len();
            let text = written.text(n);
            all.push(written);
            (n, text)
        });
        let puppet = lab.ctx().puppets.get(client).expect("everybody has both clients");
        let id = puppet.say(to, &text).await.expect("the lab takes every message");
        self.with(|all| all[n].id = Some(id));
    }

    async fn revise(&self, lab: &Lab, client: &Client, to: &'static str, habits: Habits, chance: &Generator) {
        let puppet = lab.ctx().puppets.get(client).expect("everybody has both clients");
        let own: Vec<usize> = self.with(|all| {
            let own = |w: &Written| w.client == *client && w.to == to && w.id.is_some() && !w.deleted;
            (0..all.len()).filter(|n| own(&all[*n])).collect()
        });
        let pick = own.get((chance.number() % own.len().max(1) as u64) as usize).copied();
        let mut act = Act::new(What::Typing);
        act.to = Some(to.to_owned());
        match (chance.number() % 4, pick) {
            (0, Some(n)) if client.app == App::Webex && habits.revisions => {
                act = Act::new(What::Edit);
                (act.id, act.text) = self.with(|all| {
                    all[n].edits += 1;
                    let text = format!("{}, edit {}", all[n].text(n), all[n].edits);
                    (all[n].id.clone().unwrap_or_default(), text)
                });
            }
            (1, Some(n)) if client.app == App::Webex && habits.revisions => {
                act = Act::new(What::Delete);
                act.id = self.with(|all| {
                    all[n].deleted = true;
                    all[n].id.clone().unwrap_or_default()
                });
            }
            (2, _) => {
                let lines = lab.ctx().seen.after(client, 0);
                let theirs = |l: &&lab::seen::Line| l.peer == to && l.kind == Kind::Message;
                if let Some(line) = lines.iter().rev().find(theirs) {
                    act = Act::new(What::Read);
                    act.id = line.id.clone();
                    act.to = Some(to.to_owned());
                }
            }
            _ => {}
        }
        // A client may be without the message by now; nothing of this is promised but what the judge looks at.
        let _ = puppet.act(&act).await;
    }

    /// Whether an unanswered message was taken for one that its author had deleted or edited in Webex meanwhile.
    fn was_taken_for_another(&self, written: &Written, windows: &Windows) -> bool {
        let author = &written.client.name;
        let mine =
            |(name, id, _): &&(String, String, String)| name == author && written.id.as_ref() == Some(id);
        let theirs = |other: &&Written| other.client == Client::new(author.as_str(), App::Webex);
        windows.posted_as.iter().filter(mine).any(|(_, _, activity)| {
            self.with(|all| {
                let gone = |other: &Written| {
                    (other.edits > 0 || other.deleted) && other.id.as_ref() == Some(activity)
                };
                all.iter().filter(theirs).any(gone)
            })
        })
    }

    /// What became of it all, as the clients show it, but for what is not promised.
    pub(super) fn judge(&self, lab: &Lab, windows: &Windows) -> Verdict {
        let all = self.with(|all| all.clone());
        let mut verdict = Verdict::default();
        let mut clients: BTreeMap<Client, Vec<lab::seen::Line>> = BTreeMap::new();
        for client in all.iter().flat_map(Written::audience) {
            clients.entry(client.clone()).or_insert_with(|| lab.ctx().seen.after(&client, 0));
        }
        for (client, lines) in &clients {
            let lines: Vec<_> = lines.iter().filter(|l| l.kind == Kind::Message).collect();
            let places = |n: usize| {
                let mark = mark(n);
                lines.iter().enumerate().filter(move |(_, l)| l.text.contains(&mark)).map(|(at, _)| at)
            };
            for (n, written) in all.iter().enumerate() {
                if !written.audience().contains(client) {
                    continue;
                }
                verdict.due += 1;
                let text = written.text(n);
                let told = written.edits > 0 || written.deleted;
                match places(n).count() {
                    0 if written.deleted => {}
                    0 if self.was_taken_for_another(written, windows) => verdict.unpromised += 1,
                    0 => verdict.wrong.push(format!("lost: {client} never showed `{text}`")),
                    1 => {}
                    _ if told => {}
                    times => verdict.wrong.push(format!("doubled: {client} showed `{text}` {times} times")),
                }
                let Some(first) = places(n).next() else { continue };
                for before in &written.saw {
                    if let Some(at) = places(*before).next()
                        && at > first
                        && all[*before].edits == 0
                        && written.edits == 0
                    {
                        // What was taken for another may still be stored, and is late then.
                        if windows.gave_up_an_order || self.was_taken_for_another(&all[*before], windows) {
                            verdict.unpromised += 1;
                            continue;
                        }
                        let before = all[*before].text(*before);
                        verdict.wrong.push(format!(
                            "reordered: {client} showed `{text}` before `{before}`, which its author had seen"
                        ));
                    }
                }
            }
        }
        verdict
    }
}

/// What is not promised, and has happened in a world (docs/guarantees.md).
pub(super) struct Windows {
    /// Something was held for so long that its order was given up.
    pub(super) gave_up_an_order: bool,
    /// Which messages were posted as which activities: their authors and stanza ids, which clients may use twice.
    pub(super) posted_as: Vec<(String, String, String)>,
}

fn marks(lab: &Lab, client: &Client) -> Vec<String> {
    let lines = lab.ctx().seen.after(client, 0);
    let texts = lines.into_iter().filter(|l| l.kind == Kind::Message).map(|l| l.text);
    texts.map(|text| text.chars().take(mark(0).len()).collect()).collect()
}

/// Awaits all, polled in their order.
async fn futures<F: Future<Output = ()>>(all: impl Iterator<Item = F>) -> Vec<()> {
    let mut all: Vec<_> = all.map(|f| Some(Box::pin(f))).collect();
    std::future::poll_fn(|cx| {
        for slot in &mut all {
            if slot.as_mut().is_some_and(|f| f.as_mut().poll(cx).is_ready()) {
                *slot = None;
            }
        }
        if all.iter().all(Option::is_none) {
            std::task::Poll::Ready(Vec::new())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

/// What became of the messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// How many sights were looked for.
    pub(super) due: usize,
    /// How many things are not as they should be, and not promised either.
    pub(super) unpromised: usize,
    /// Each thing that is not as promised, in words.
    pub(super) wrong: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sights due, {} wrong", self.due, self.wrong.len())?;
        for wrong in self.wrong.iter().take(12) {
            write!(f, "\n  {wrong}")?;
        }
        Ok(())
    }
}
