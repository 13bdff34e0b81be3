//! The Webex cloud and the Webex edge, as unkind as the rules allow.

use std::collections::{BTreeMap, VecDeque};

use router::envelope::{Body, Envelope, Kind, Link, Origin, Via, WebexOrigin};
use router::ids::{ActivityId, ConversationId, PersonId, StreamId, Ticket, Time, Upstream};
use router::inbound::{Cause, Inbound, Outcome};
use router::outbound::MaybeSent;
use router::outbox::Stored;
use router::times::Times;

use super::{Break, Rng};

/// What an activity is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Post,
    Edit(usize),
    Delete(usize),
}

/// One activity.
#[derive(Clone, Debug)]
pub(crate) struct Activity {
    pub(crate) conversation: String,
    pub(crate) actor: PersonId,
    pub(crate) text: String,
    pub(crate) what: What,
    temp_id: Option<String>,
    iv: [u8; 12],
    published: Time,
    visible: Time,
    pub(crate) deleted: bool,
}

/// The cloud.
#[derive(Debug, Default)]
pub(crate) struct Cloud {
    pub(crate) activities: Vec<Activity>,
    sockets: BTreeMap<PersonId, VecDeque<(usize, bool)>>,
    dropped: BTreeMap<PersonId, bool>,
    /// Stored later.
    late: Vec<(Time, Post)>,
    made: u64,
}

/// What is to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) conversation: String,
    pub(crate) actor: PersonId,
    pub(crate) text: String,
    pub(crate) what: What,
    pub(crate) temp_id: String,
    pub(crate) iv: Option<[u8; 12]>,
}

impl Cloud {
    pub(crate) fn store(&mut self, post: Post, now: Time, rng: &mut Rng, may_drop: bool) -> usize {
        self.made += 1;
        let mut own = [0; 12];
        own[..8].copy_from_slice(&self.made.to_be_bytes());
        let n = self.activities.len();
        if let What::Delete(of) | What::Edit(of) = post.what {
            self.activities[of].deleted = true;
        }
        self.activities.push(Activity {
            conversation: post.conversation.clone(),
            actor: post.actor,
            text: post.text,
            what: post.what,
            temp_id: Some(post.temp_id),
            iv: post.iv.unwrap_or(own),
            // Published moments of one cloud are distinct, and in order.
            published: self.activities.last().map_or(now, |last| now.max(last.published.plus(1))),
            visible: now.plus(rng.below(2000) as i64),
            deleted: false,
        });
        let (a, b) = super::pair(&post.conversation);
        for person in [a, b] {
            let Some(queue) = self.sockets.get_mut(&person) else { continue };
            if may_drop && rng.one_in(8) {
                self.dropped.insert(person, true);
            } else {
                queue.push_back((n, self.dropped.remove(&person).unwrap_or(false)));
            }
        }
        n
    }

    pub(crate) fn later(&mut self, post: Post, at: Time) {
        self.late.push((at, post));
    }

    pub(crate) fn tick(&mut self, now: Time, rng: &mut Rng, may_drop: bool) {
        let (due, late): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = late;
        for (_, post) in due {
            self.store(post, now, rng, may_drop);
        }
    }

    pub(crate) fn rests(&self) -> bool {
        self.late.is_empty() && self.dropped.is_empty() && self.sockets.values().all(VecDeque::is_empty)
    }

    /// The moment of the last publication.
    pub(crate) fn clock(&self) -> Time {
        self.activities.last().map_or(Time(0), |last| last.published)
    }

    /// Whose socket has dropped an event that no other has followed.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = PersonId> {
        self.dropped.keys().cloned()
    }

    pub(crate) fn all_sockets_die(&mut self) {
        self.sockets.clear();
        self.dropped.clear();
    }
}

/// The Webex edge of one run.
#[derive(Debug)]
pub(crate) struct Edge {
    run: u32,
    sockets: BTreeMap<PersonId, Socket>,
    cursors: BTreeMap<PersonId, Time>,
    pub(crate) queue: VecDeque<(Ticket, Stored, MaybeSent)>,
    /// Told to write once the attempt is committed.
    pub(crate) attempting: BTreeMap<Ticket, Stored>,
    answers: VecDeque<Inbound>,
    triggers: u64,
}

#[derive(Debug)]
struct Socket {
    number: u64,
    n: u64,
    trigger: u64,
    /// When the last listing of the catch-up may begin; `None`: it has been read.
    listing_at: Option<Time>,
    feed: VecDeque<Inbound>,
}

impl Edge {
    pub(crate) fn new(run: u32, cursors: Vec<(PersonId, Time)>) -> Self {
        Self {
            run,
            sockets: BTreeMap::new(),
            cursors: cursors.into_iter().collect(),
            queue: VecDeque::new(),
            attempting: BTreeMap::new(),
            answers: VecDeque::new(),
            triggers: 0,
        }
    }

    pub(crate) fn without_socket<'a>(&self, served: &'a [PersonId]) -> Option<&'a PersonId> {
        served.iter().find(|p| !self.sockets.contains_key(*p))
    }

    pub(crate) fn connect(
        &mut self,
        person: &PersonId,
        cloud: &mut Cloud,
        now: Time,
        times: &Times,
    ) -> Inbound {
        cloud.sockets.insert(person.clone(), VecDeque::new());
        cloud.dropped.remove(person);
        self.triggers += 1;
        let listing_at = Some(now.after(times.visibility).plus(1));
        let socket =
            Socket { number: self.triggers, n: 0, trigger: self.triggers, listing_at, feed: VecDeque::new() };
        self.sockets.insert(person.clone(), socket);
        Inbound::Behind(person.clone(), self.triggers)
    }

    pub(crate) fn die(&mut self, person: &PersonId, cloud: &mut Cloud) -> Inbound {
        cloud.sockets.remove(person);
        self.sockets.remove(person);
        self.triggers += 1;
        Inbound::Behind(person.clone(), self.triggers)
    }

    /// An hour without an event: a catch-up is owed all the same.
    pub(crate) fn quiet(
        &mut self,
        person: &PersonId,
        cloud: &mut Cloud,
        now: Time,
        times: &Times,
    ) -> Option<Inbound> {
        cloud.dropped.remove(person);
        self.triggers += 1;
        let socket = self.sockets.get_mut(person)?;
        socket.trigger = self.triggers;
        socket.listing_at = Some(now.after(times.visibility).plus(1));
        Some(Inbound::Behind(person.clone(), self.triggers))
    }

    pub(crate) fn connected(&self) -> Vec<PersonId> {
        self.sockets.keys().cloned().collect()
    }

    pub(crate) fn can_read(&self, person: &PersonId, cloud: &Cloud) -> bool {
        cloud.sockets.get(person).is_some_and(|queue| !queue.is_empty())
    }

    /// Reads the next event of a socket.
    pub(crate) fn read(
        &mut self,
        person: &PersonId,
        cloud: &mut Cloud,
        now: Time,
        times: &Times,
        broken: Option<Break>,
    ) -> Vec<Inbound> {
        let Some((n, gap)) = cloud.sockets.get_mut(person).and_then(VecDeque::pop_front) else {
            return Vec::new();
        };
        let Some(socket) = self.sockets.get_mut(person) else { return Vec::new() };
        let mut inbound = Vec::new();
        if gap && broken != Some(Break::Gap) {
            self.triggers += 1;
            socket.trigger = self.triggers;
            socket.listing_at = Some(now.after(times.visibility).plus(1));
            inbound.push(Inbound::Behind(person.clone(), self.triggers));
        }
        socket.n += 1;
        let upstream = Upstream { stream: StreamId::Mercury(person.clone(), socket.number), n: socket.n };
        let (envelope, parts) = envelope(&cloud.activities, n, person, Via::Socket, now, broken);
        inbound.push(Inbound::Message(envelope, parts, upstream));
        inbound
    }

    /// Does the next thing of somebody's catch-up.
    pub(crate) fn catch_up(
        &mut self,
        person: &PersonId,
        cloud: &Cloud,
        now: Time,
        times: &Times,
        broken: Option<Break>,
    ) -> Option<Inbound> {
        let socket = self.sockets.get_mut(person)?;
        if let Some(next) = socket.feed.pop_front() {
            if let Inbound::CaughtUp(_, trigger, cursor) = &next
                && *trigger == socket.trigger
            {
                self.cursors.insert(person.clone(), *cursor);
            }
            return Some(next);
        }
        if socket.listing_at? > now {
            return None;
        }
        socket.listing_at = None;
        let from = self.cursors.get(person).copied().unwrap_or(Time(0));
        let until = now.before(times.visibility);
        for (n, activity) in cloud.activities.iter().enumerate() {
            let (a, b) = super::pair(&activity.conversation);
            let theirs = a == *person || b == *person;
            if !theirs || activity.visible > now || activity.published < from || activity.published > until {
                continue;
            }
            let via = Via::CatchUp(socket.trigger);
            let (envelope, parts) = envelope(&cloud.activities, n, person, via, now, broken);
            socket.feed.push_back(Inbound::Listed(envelope, parts));
        }
        let cursor = if broken == Some(Break::Cursor) { now } else { now.before(times.overlap) };
        socket.feed.push_back(Inbound::CaughtUp(person.clone(), socket.trigger, cursor));
        None
    }

    pub(crate) fn is_catching_up(&self, person: &PersonId, now: Time) -> bool {
        self.sockets
            .get(person)
            .is_some_and(|s| !s.feed.is_empty() || s.listing_at.is_some_and(|at| at <= now))
    }

    /// Works on the next delivery.
    pub(crate) fn work(
        &mut self,
        cloud: &mut Cloud,
        rng: &mut Rng,
        now: Time,
        times: &Times,
        unkind: bool,
        broken: Option<Break>,
    ) -> Option<Inbound> {
        let (ticket, stored, maybe) = self.queue.pop_front()?;
        if let MaybeSent::Since(since) = maybe
            && broken != Some(Break::Question)
        {
            let entry = &stored.entry;
            let found = cloud.activities.iter().position(|a| {
                a.visible <= now
                    && (a.temp_id.as_deref() == Some(entry.derived.as_str()) || Some(a.iv) == entry.iv)
            });
            if let Some(n) = found {
                return Some(Inbound::Receipt(ticket, Outcome::Delivered(link(&cloud.activities, n))));
            }
            if now < since.after(times.settle) && broken != Some(Break::Settle) {
                return Some(Inbound::Receipt(ticket, Outcome::Unsettled));
            }
        }
        if stored.entry.run != self.run && broken != Some(Break::Mark) {
            self.attempting.insert(ticket, stored);
            return Some(Inbound::Attempt(ticket, None));
        }
        self.post(ticket, &stored, cloud, rng, now, unkind)
    }

    /// Posts, with one of the ways in which that can end.
    pub(crate) fn post(
        &mut self,
        ticket: Ticket,
        stored: &Stored,
        cloud: &mut Cloud,
        rng: &mut Rng,
        now: Time,
        unkind: bool,
    ) -> Option<Inbound> {
        let entry = &stored.entry;
        let Body::Clear(text) = &entry.body else { panic!("a post without text: {entry:?}") };
        let recipient = entry.recipient.as_ref().expect("a post has a recipient");
        let post = Post {
            conversation: super::conversation(&entry.sender, recipient),
            actor: entry.sender.clone(),
            text: text.to_string(),
            what: What::Post,
            temp_id: entry.derived.as_str().to_owned(),
            iv: entry.iv,
        };
        let outcome = match if unkind { rng.below(10) } else { 9 } {
            0 => Outcome::Later { cause: Cause::Host("cloud".into()), after: None },
            1 => Outcome::Unknown,
            2 => {
                cloud.store(post, now, rng, unkind);
                Outcome::Unknown
            }
            3 => {
                cloud.later(post, now.plus(rng.below(20_000) as i64));
                Outcome::Unknown
            }
            _ => {
                let n = cloud.store(post, now, rng, unkind);
                Outcome::Delivered(link(&cloud.activities, n))
            }
        };
        self.answers.push_back(Inbound::Receipt(ticket, outcome));
        None
    }

    /// The next answer to a POST.
    pub(crate) fn answer(&mut self) -> Option<Inbound> {
        self.answers.pop_front()
    }

    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }
}

fn link(activities: &[Activity], n: usize) -> Link {
    let conversation = ConversationId::new(activities[n].conversation.as_str());
    Link::Activity(activity_id(n), conversation)
}

fn activity_id(n: usize) -> ActivityId {
    ActivityId::new(format!("activity-{n}"))
}

/// What the edge makes of an activity; listings tell less.
fn envelope(
    activities: &[Activity],
    n: usize,
    person: &PersonId,
    via: Via,
    now: Time,
    broken: Option<Break>,
) -> (Envelope, Vec<Body>) {
    let activity = &activities[n];
    let listed = via != Via::Socket;
    let origin = WebexOrigin {
        socket: person.clone(),
        via,
        activity: activity_id(n),
        conversation: ConversationId::new(activity.conversation.as_str()),
        one_on_one: true,
        actor: activity.actor.clone(),
        published: activity.published,
        client_temp_id: activity.temp_id.clone().filter(|_| !listed).map(Into::into),
        iv: Some(activity.iv).filter(|_| broken != Some(Break::Iv)),
    };
    let body = Body::Sealed { key: "kms://key".into(), jwe: activity.text.as_str().into() };
    let (kind, parts) = match activity.what {
        _ if listed && activity.deleted => (Kind::Tombstone, Vec::new()),
        What::Post => (Kind::Text, vec![body]),
        What::Edit(of) => (Kind::Edit { of: activity_id(of) }, vec![body]),
        What::Delete(of) => (Kind::Delete { of: activity_id(of) }, Vec::new()),
    };
    (Envelope { origin: Origin::Webex(origin), kind, arrived: now }, parts)
}
