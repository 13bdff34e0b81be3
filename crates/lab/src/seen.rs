//! What people's clients received and wrote: the only witness a judgement may rest on.

use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::clock::Clock;

/// Which of a person's two clients.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum App {
    /// The XMPP client.
    Jabber,
    /// The Webex App.
    Webex,
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jabber => "jabber",
            Self::Webex => "webex",
        })
    }
}

/// One client of one person, written `NAME/jabber` or `NAME/webex`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Client {
    /// The person's short name.
    pub name: String,
    /// Which client.
    pub app: App,
}

impl Client {
    /// The client of a person.
    #[must_use]
    pub fn new(name: impl Into<String>, app: App) -> Self {
        Self { name: name.into(), app }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.app)
    }
}

/// Why a text does not name a client.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` does not name a client: NAME/jabber or NAME/webex is expected")]
pub struct ClientError(String);

impl FromStr for Client {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let client = match text.split_once('/') {
            Some((name, "jabber")) => Self::new(name, App::Jabber),
            Some((name, "webex")) => Self::new(name, App::Webex),
            _ => return Err(ClientError(text.to_owned())),
        };
        if client.name.is_empty() { Err(ClientError(text.to_owned())) } else { Ok(client) }
    }
}

/// Which way something went, as its client sees it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Somebody else wrote it.
    In,
    /// The person wrote it, in this client or another.
    Out,
}

/// What it was.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A message with a text.
    Message,
    /// Something said about a message: that it was deleted or changed.
    Notice,
    /// Somebody types, or stopped.
    Typing,
    /// Somebody has read up to a message.
    Read,
    /// Somebody's presence.
    Presence,
    /// A file.
    File,
    /// Something failed.
    Error,
}

/// What a client saw, before it is numbered.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The other person, by short name where known, else by address.
    pub peer: String,
    /// Which way.
    pub dir: Direction,
    /// What it was.
    pub kind: Kind,
    /// Its id on that side: stanza id or activity id.
    pub id: String,
    /// Its text; for typing `typing` or `paused`, for presence the status.
    pub text: String,
}

/// One line of `GET /seen`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Line {
    /// Its number, from 1, rising over all clients.
    pub n: u64,
    /// When, in milliseconds since the Unix epoch by the lab's clock.
    pub ms: i64,
    /// Whose client, as `NAME/jabber` or `NAME/webex`.
    pub client: String,
    /// The other person.
    pub peer: String,
    /// Which way.
    pub dir: Direction,
    /// What it was.
    pub kind: Kind,
    /// Its id on that side.
    pub id: String,
    /// Its text.
    pub text: String,
}

/// The log of all clients. It grows as long as the lab runs: a judge may ask for the first line at the end.
#[derive(Debug)]
pub struct Seen {
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    lines: BTreeMap<Client, Vec<Line>>,
}

impl Seen {
    /// An empty log.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a client saw, and answers its number.
    pub fn record(&self, client: &Client, sight: Sight) -> u64 {
        let ms = self.clock.now().0;
        let mut inner = self.inner();
        inner.last += 1;
        let n = inner.last;
        inner.lines.entry(client.clone()).or_default().push(Line {
            n,
            ms,
            client: client.to_string(),
            peer: sight.peer,
            dir: sight.dir,
            kind: sight.kind,
            id: sight.id,
            text: sight.text,
        });
        n
    }

    /// The lines of one client with a number above `after`, in order.
    #[must_use]
    pub fn after(&self, client: &Client, after: u64) -> Vec<Line> {
        let inner = self.inner();
        let lines = inner.lines.get(client).map_or(&[][..], Vec::as_slice);
        let first = lines.partition_point(|line| line.n <= after);
        lines[first..].to_vec()
    }

    /// The lines of all clients with a number above `after`, in order.
    #[must_use]
    pub fn all_after(&self, after: u64) -> Vec<Line> {
        let inner = self.inner();
        let mut lines: Vec<Line> = inner
            .lines
            .values()
            .flat_map(|lines| &lines[lines.partition_point(|line| line.n <= after)..])
            .cloned()
            .collect();
        lines.sort_by_key(|line| line.n);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;

    #[test]
    fn clients_are_named_as_the_control_interface_writes_them() {
        assert_eq!("bob/webex".parse::<Client>().unwrap(), Client::new("bob", App::Webex));
        for wrong in ["bob", "bob/", "/jabber", "bob/Webex", "bob/webex/2"] {
            assert!(wrong.parse::<Client>().is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn lines_are_numbered_across_clients_and_asked_for_by_number() {
        let seen = Seen::new(Clock::new(Time(5), 1));
        let sight = |text: &str| Sight {
            peer: "bob".into(),
            dir: Direction::In,
            kind: Kind::Message,
            id: "1".into(),
            text: text.into(),
        };
        let (jabber, webex) = (Client::new("alice", App::Jabber), Client::new("alice", App::Webex));
        seen.record(&jabber, sight("a"));
        seen.record(&webex, sight("b"));
        seen.record(&jabber, sight("c"));
        let texts = |lines: Vec<Line>| lines.into_iter().map(|line| line.text).collect::<String>();
        assert_eq!(texts(seen.after(&jabber, 1)), "c");
        assert_eq!(texts(seen.all_after(0)), "abc");
        let line = serde_json::to_string(&seen.after(&webex, 0)[0]).unwrap();
        assert!(
            line.starts_with(r#"{"n":2,"ms":"#) && line.contains(r#""dir":"in","kind":"message""#),
            "{line}"
        );
    }
}
