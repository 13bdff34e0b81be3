//! One person's Mercury socket: opened, read without pause, opened again; and what each new socket, gap and
//! drop has to be caught up with. When the cloud says that it will shut a socket down, the next one is opened first.

mod open;

use std::sync::Arc;
use std::time::Duration;

use router::envelope::{Typing, TypingOrigin, Via};
use router::ids::{ConversationId, PersonId, Time};
use router::inbound::Inbound;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use webex_api::EnvelopeId;
use webex_api::activity::Activity;
use webex_api::auth::AccessToken;
use webex_api::device::Device;
use webex_api::mercury::{Envelope, Event, Fate, Output, TypingEvent};
use webex_api::typing::State;

use self::open::{Open, Ready};
use super::catch_up;
use super::device;
use super::intake::{Reading, person, time};
use super::{Side, status};
use crate::crash;
use crate::probe::causes;

/// The hub has what came on this person's socket of this number, up to this input.
pub(super) type Taken = (u64, u64);

/// What a line is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// A person's messages, and the keys that come by the socket.
    Person,
    /// The bot's keys alone: nothing that is said to the bot is carried.
    Bot,
}

/// One person's socket and what is owed to its reader.
pub(super) struct Line {
    side: Arc<Side>,
    person: PersonId,
    purpose: Purpose,
    device: Option<Device>,
    token: Option<AccessToken>,
    taken: mpsc::UnboundedReceiver<Taken>,
    /// How far everything has been read, in cloud time.
    cursor: Time,
    /// The number of the latest reason to catch up.
    trigger: u64,
    /// The catch-up that answers it; `None` once it is done.
    owed: Option<Owed>,
    /// How many sockets there were in this run.
    sockets: u64,
    /// When this person's socket last brought anything.
    heard: Instant,
}

struct Owed {
    begin: Instant,
    task: AbortOnDropHandle<Option<Time>>,
}

/// A person of whom nothing was heard for so long is listed, in case the cloud forgot to tell.
/// Scaled.
const QUIET: Duration = Duration::from_secs(60 * 60);
/// A socket that lived so long was a success.
const PROVEN: Duration = Duration::from_secs(30);
/// A socket that was taken over is read for so long, if the cloud does not close it. Scaled.
const LEAVING: Duration = Duration::from_secs(60);
/// Beyond the visibility time, for the way from the cloud to us.
const MARGIN: Duration = Duration::from_millis(20);

impl Line {
    pub(super) fn new(
        side: Arc<Side>,
        person: PersonId,
        device: Option<Device>,
        cursor: Time,
        taken: mpsc::UnboundedReceiver<Taken>,
        purpose: Purpose,
    ) -> Self {
        let (token, owed, heard) = (None, None, Instant::now());
        Self { side, person, purpose, device, token, taken, cursor, trigger: 0, owed, sockets: 0, heard }
    }

    /// Keeps a socket open until the task is dropped. Nothing that closes it is for good.
    pub(super) async fn run(mut self) {
        let mut backoff = self.side.backoff();
        let mut fate = Fate::Reconnect;
        self.behind();
        loop {
            // Its room is given back before the socket is served: most of a line's life.
            let opened = Box::pin(self.open(fate)).await;
            let begun = Instant::now();
            match opened {
                Ok(ready) => {
                    fate = self.serve(ready).await;
                    self.side.detach(&self.person);
                    self.owed = None;
                    self.behind();
                    tracing::debug!(person = %self.person, ?fate, "socket closed");
                    if begun.elapsed() >= self.side.scale().of(PROVEN) {
                        backoff.reset();
                    }
                }
                Err(next) => fate = next,
            }
            tokio::time::sleep(backoff.pause(self.side.generator.number())).await;
        }
    }

    /// From now on something may be missing (rule 9).
    fn behind(&mut self) {
        self.trigger += 1;
        self.tell_behind();
    }

    /// Tells that a catch-up is owed; told again, its hold begins anew.
    fn tell_behind(&self) {
        if self.purpose == Purpose::Bot {
            return;
        }
        self.side.hub.answer(Inbound::Behind(self.person.clone(), self.trigger));
    }

    /// Opens a socket, with what the end of the last one asks for.
    async fn open(&mut self, fate: Fate) -> Result<Ready, Fate> {
        let side = Arc::clone(&self.side);
        let _permit = side.handshakes.acquire().await.expect("the semaphore is never closed");
        if fate == Fate::NewToken
            && let Some(token) = self.token.take()
        {
            side.cloud.reject_token(&self.person, &token).await;
        }
        let device = device::ready(&side, &self.person, self.device.clone(), fate).await;
        let device = device.map_err(|error| {
            tracing::warn!(person = %self.person, error = causes(&error), "no device");
            fate
        })?;
        side.cloud.set_device(&self.person, Some(device.url.clone()));
        open::ready(&side, &self.person, self.device.insert(device)).await
    }

    /// Opens the socket that takes over from one that the cloud will shut down, after a pause.
    async fn successor(
        side: Arc<Side>,
        person: PersonId,
        device: Device,
        pause: Duration,
    ) -> Result<Ready, Fate> {
        tokio::time::sleep(pause).await;
        let _permit = side.handshakes.acquire().await.expect("the semaphore is never closed");
        open::ready(&side, &person, &device).await
    }

    /// Takes a new socket, with what came on it before it was ready.
    fn begin(&mut self, ready: Ready) -> Open {
        self.sockets += 1;
        self.token = Some(ready.token);
        let mut open = Open::new(self.sockets, ready.socket);
        self.hears_clock(&open);
        tracing::info!(person = %self.person, socket = self.sockets, "socket ready");
        crash::point(crash::SOCKET_READY);
        // However long there was none: what this one brings is younger than what the catch-up brings, and is held.
        self.tell_behind();
        self.catch_up(&open);
        for output in ready.early {
            self.take(output, &mut open);
        }
        open
    }

    /// Reads a ready socket, and whichever takes over from it, to the end. Never waits for anything but sockets (rule 13).
    async fn serve(&mut self, ready: Ready) -> Fate {
        self.heard = Instant::now();
        let Some(device) = self.device.clone() else { return Fate::Register };
        self.side.attach(&self.person, &device.url);
        let mut open = self.begin(ready);
        let mut backoff = self.side.backoff();
        let (side, person) = (Arc::clone(&self.side), self.person.clone());
        let next =
            |pause| Box::pin(Self::successor(Arc::clone(&side), person.clone(), device.clone(), pause));
        // The one that takes over, while it is opened; then the one that was taken over, while it lives.
        let mut successor = None;
        let mut leaving: Option<(Open, Instant)> = None;
        loop {
            let quiet = tokio::time::sleep_until(self.heard + self.side.scale().of(QUIET));
            tokio::select! {
                biased;
                taken = self.taken.recv() => match taken {
                    Some(taken) => {
                        open.taken(taken);
                        if let Some((leaving, _)) = &mut leaving {
                            leaving.taken(taken);
                        }
                    }
                    None => std::future::pending().await,
                },
                output = last_of(&mut leaving) => match output {
                    Some(Output::Closed(_)) | None => leaving = None,
                    Some(output) => {
                        if let Some((leaving, _)) = &mut leaving {
                            self.take(output, leaving);
                        }
                    }
                },
                output = open.socket.next(), if !open.ended => match output {
                    Some(Output::Shutdown) => successor = Some(next(Duration::ZERO)),
                    Some(Output::Closed(_)) | None if successor.is_some() => {
                        open.ended = true;
                        self.behind();
                    }
                    Some(Output::Closed(fate)) => return fate,
                    None => return Fate::Reconnect,
                    Some(output) => self.take(output, &mut open),
                },
                ready = opened(&mut successor) => match ready {
                    Ok(ready) => {
                        successor = None;
                        // What was on its way to the old one need not arrive: the cloud promises nothing about it.
                        if !open.ended {
                            self.trigger += 1;
                        }
                        let taken_over = std::mem::replace(&mut open, self.begin(ready));
                        let until = Instant::now() + self.side.scale().of(LEAVING);
                        leaving = Some((taken_over, until)).filter(|(open, _)| !open.ended);
                        tracing::info!(person = %self.person, gapless = leaving.is_some(), "socket taken over");
                    }
                    Err(fate) if open.ended => return fate,
                    // As long as the old one lives, there is time.
                    Err(_) => successor = Some(next(backoff.pause(self.side.generator.number()))),
                },
                done = done(&mut self.owed), if self.owed.is_some() => {
                    self.owed = None;
                    if let Some(cursor) = done {
                        self.cursor = self.cursor.max(cursor);
                        let sockets = [Some(&mut open), leaving.as_mut().map(|(open, _)| open)];
                        sockets.into_iter().flatten().for_each(|open| self.made_good(open));
                    }
                }
                () = quiet => self.lost(&open),
            }
        }
    }

    fn hears_clock(&self, open: &Open) {
        if let Some(moment) = open.socket.cloud_time() {
            self.side.cloud.heard(moment);
        }
    }

    /// Something was missed, or may have been: a new trigger, and a catch-up for it.
    fn lost(&mut self, open: &Open) {
        // A catch-up that has not begun is put off instead: it reads what was missed now, too.
        if self.owed.as_ref().is_none_or(|owed| owed.begin <= Instant::now()) {
            self.behind();
        }
        self.heard = Instant::now();
        self.catch_up(open);
    }

    /// Owes a catch-up for the latest trigger, in place of any before it.
    fn catch_up(&mut self, open: &Open) {
        if self.purpose == Purpose::Bot {
            return;
        }
        let begin = Instant::now() + self.side.times.visibility + MARGIN;
        // Without the cloud's own word in the frames we know its time to the second only.
        let unsure = if open.socket.cloud_time().is_some() { 0 } else { 1_000 };
        let task = catch_up::Task {
            person: self.person.clone(),
            trigger: self.trigger,
            cursor: self.cursor,
            seen: self.side.cloud.now().plus(unsure),
            begin,
        };
        let side = Arc::clone(&self.side);
        let task = tokio::spawn(async move { catch_up::run(&side, task).await });
        self.owed = Some(Owed { begin, task: AbortOnDropHandle::new(task) });
    }

    /// The catch-up that is done read what this socket had brought in vain: every drop had started it anew.
    fn made_good(&self, open: &mut Open) {
        if let Some(upstream) = open.made_good(&self.person) {
            // Without room for it, whatever comes next on this socket acknowledges the same.
            let _ = self.side.hub.try_take(Inbound::Handled(upstream));
        }
    }

    fn take(&mut self, output: Output, open: &mut Open) {
        self.hears_clock(open);
        match output {
            Output::Event(envelope) => self.event(*envelope, open),
            Output::Gap => {
                tracing::info!(person = %self.person, "gap in the sequence");
                self.lost(open);
            }
            _ => {}
        }
    }

    fn event(&mut self, envelope: Envelope, open: &mut Open) {
        self.heard = Instant::now();
        match envelope.event {
            Event::Activity(activity) => self.activity(&activity, envelope.id, open),
            Event::KmsMessages(messages) => self.side.keys.replies(&self.person, messages),
            Event::Typing(typing) => self.typing(&typing, open),
            Event::Presence(presence) => {
                let seen = status::observation(&presence, &self.side);
                // One that is lost is made good by the next poll.
                let _ = self.side.hub.try_take(Inbound::Statuses(vec![seen]));
            }
            Event::Unreadable { event_type, reason } => {
                tracing::warn!(person = %self.person, event_type, reason, "event cannot be read");
            }
            _ => {}
        }
    }

    fn activity(&mut self, activity: &Activity, id: Option<EnvelopeId>, open: &mut Open) {
        if self.purpose == Purpose::Bot {
            if let Some(id) = &id {
                open.socket.acknowledge(id);
            }
            return;
        }
        crash::point(crash::ACTIVITY_READ);
        if let Some(conversation) = activity.conversation() {
            self.side.conversations.saw_by(conversation, &self.person);
        }
        let reading = Reading {
            socket: &self.person,
            via: Via::Socket,
            arrived: self.side.clock.now(),
            cloud: self.side.cloud.now(),
        };
        let (mut message, parts) = match reading.take(activity, None) {
            Ok(taken) => taken,
            Err(reason) => {
                tracing::debug!(activity = %activity.id, reason, "activity left out");
                if let Some(id) = &id {
                    open.socket.acknowledge(id);
                }
                return;
            }
        };
        self.side.relays.adopt(&mut message);
        self.side.posts.saw(&message);
        if self.side.is_stopping() {
            return;
        }
        let upstream = open.upstream(&self.person);
        if self.side.hub.try_take(Inbound::Message(message, parts, upstream)).is_ok() {
            open.owes(id);
            if self.owed.is_none()
                && let Some(published) = activity.published
            {
                self.cursor = self.cursor.max(time(published).before(self.side.times.overlap));
            }
        } else {
            // Read from a listing when there is room again, and acknowledged only then.
            tracing::warn!(person = %self.person, activity = %activity.id, "hub is full: activity dropped");
            open.drops(id);
            self.lost(open);
        }
    }

    fn typing(&mut self, event: &TypingEvent, open: &mut Open) {
        let Some(actor) = event.actor.id.as_ref().map(person) else { return };
        let id = &event.conversation_id;
        let address = self.side.conversations.address(id).or_else(|| self.side.cloud.likely_address(id));
        let wanted = actor != self.person && self.purpose == Purpose::Person;
        let Some(address) = address.filter(|_| wanted) else { return };
        let typing = Typing {
            from: TypingOrigin::Webex {
                socket: self.person.clone(),
                actor,
                conversation: ConversationId::new(address.as_str()),
            },
            active: event.state == State::Typing,
            stale: false,
        };
        let upstream = open.upstream(&self.person);
        // A hint that is lost is not missed.
        let _ = self.side.hub.try_take(Inbound::Typing(typing, upstream));
    }
}

/// The next thing that a socket tells which was taken over; `None` when it has ended, or has had its time.
async fn last_of(leaving: &mut Option<(Open, Instant)>) -> Option<Output> {
    match leaving {
        Some((open, until)) => tokio::time::timeout_at(*until, open.socket.next()).await.unwrap_or(None),
        None => std::future::pending().await,
    }
}

/// Waits for the socket that takes over, if one is being opened.
async fn opened(
    successor: &mut Option<impl Future<Output = Result<Ready, Fate>> + Unpin>,
) -> Result<Ready, Fate> {
    match successor {
        Some(opening) => opening.await,
        None => std::future::pending().await,
    }
}

/// Waits for the catch-up that is owed; `None` if it was given up with the hub.
async fn done(owed: &mut Option<Owed>) -> Option<Time> {
    match owed {
        Some(owed) => (&mut owed.task).await.unwrap_or_else(|error| match error.try_into_panic() {
            // Without it the person would stay behind, and nobody would know: the line dies with it.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => None,
        }),
        None => std::future::pending().await,
    }
}
