//! One person's Mercury socket: opened, read without pause, opened again; and what each new socket, gap and
//! drop has to be caught up with.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use router::envelope::{Typing, TypingOrigin, Via};
use router::ids::{ConversationId, PersonId, StreamId, Time, Upstream};
use router::inbound::Inbound;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use webex_api::EnvelopeId;
use webex_api::activity::Activity;
use webex_api::auth::AccessToken;
use webex_api::client::{MercuryError, MercurySocket};
use webex_api::device::Device;
use webex_api::mercury::{Envelope, Event, Fate, Output, TypingEvent};
use webex_api::typing::State;

use super::catch_up;
use super::device;
use super::http::CloudError;
use super::intake::{Reading, person, time};
use super::{Side, status};
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
    /// Tells sockets of one run apart.
    socket: u64,
    /// Inputs handed over from this socket.
    n: u64,
    /// Frames to acknowledge once their input is taken.
    unacknowledged: VecDeque<(u64, EnvelopeId)>,
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
        let unacknowledged = VecDeque::new();
        let (token, owed, heard) = (None, None, Instant::now());
        Self {
            side,
            person,
            purpose,
            device,
            token,
            taken,
            cursor,
            trigger: 0,
            owed,
            socket: 0,
            n: 0,
            unacknowledged,
            heard,
        }
    }

    /// Keeps a socket open until the task is dropped. Nothing that closes it is for good.
    pub(super) async fn run(mut self) {
        let mut backoff = self.side.backoff();
        let mut fate = Fate::Reconnect;
        self.behind();
        loop {
            let opened = self.open(fate).await;
            let begun = Instant::now();
            match opened {
                Ok((socket, early)) => {
                    fate = self.serve(socket, early).await;
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

    /// Opens a socket and waits until it is ready. Gives what came before readiness, too.
    async fn open(&mut self, fate: Fate) -> Result<(MercurySocket, Vec<Output>), Fate> {
        let side = Arc::clone(&self.side);
        let _permit = side.handshakes.acquire().await.expect("the semaphore is never closed");
        if fate == Fate::NewToken
            && let Some(token) = self.token.take()
        {
            side.cloud.reject_token(&self.person, &token).await;
        }
        let device = device::ready(&side, &self.person, self.device.take(), fate).await;
        let device = device.map_err(|error| {
            tracing::warn!(person = %self.person, error = causes(&error), "no device");
            fate
        })?;
        self.device = Some(device.clone());
        side.cloud.set_device(&self.person, Some(device.url.clone()));
        let failed = |error: &CloudError| {
            tracing::warn!(person = %self.person, error = causes(error), "no token for the socket");
            Fate::Reconnect
        };
        let token = side.cloud.token(&self.person).await.map_err(|error| failed(&error))?;
        self.token = Some(token.clone());
        let now = webex_api::Timestamp(side.clock.now().0);
        let random = super::http::random(&side.generator);
        let connected =
            MercurySocket::connect(&side.mercury, &device.web_socket_url, &token, now, random).await;
        let mut socket = connected.map_err(|error: MercuryError| {
            tracing::warn!(person = %self.person, error = causes(&error), "no socket");
            error.fate()
        })?;
        let mut early = Vec::new();
        loop {
            match socket.next().await {
                Some(Output::Ready) => return Ok((socket, early)),
                Some(Output::Closed(fate)) => return Err(fate),
                None => return Err(Fate::Reconnect),
                Some(other) => early.push(other),
            }
        }
    }

    /// Reads a ready socket to its end. Never waits for anything but the socket itself (rule 13).
    async fn serve(&mut self, mut socket: MercurySocket, early: Vec<Output>) -> Fate {
        self.socket += 1;
        self.n = 0;
        self.unacknowledged.clear();
        self.heard = Instant::now();
        self.hears_clock(&socket);
        if let Some(device) = &self.device {
            self.side.attach(&self.person, &device.url);
        }
        tracing::info!(person = %self.person, socket = self.socket, "socket ready");
        // However long there was none: what this one brings is younger than what the catch-up brings, and is held.
        self.tell_behind();
        self.catch_up(&socket);
        for output in early {
            self.take(output, &mut socket);
        }
        loop {
            let quiet = tokio::time::sleep_until(self.heard + self.side.scale().of(QUIET));
            tokio::select! {
                biased;
                taken = self.taken.recv() => match taken {
                    Some(taken) => self.acknowledge(taken, &mut socket),
                    None => std::future::pending().await,
                },
                output = socket.next() => match output {
                    None => return Fate::Reconnect,
                    Some(Output::Closed(fate)) => return fate,
                    // It would be closed soon anyway; what is missed meanwhile is listed.
                    Some(Output::Shutdown) => return Fate::Reconnect,
                    Some(output) => self.take(output, &mut socket),
                },
                done = done(&mut self.owed), if self.owed.is_some() => {
                    self.owed = None;
                    if let Some(cursor) = done {
                        self.cursor = self.cursor.max(cursor);
                    }
                }
                () = quiet => self.lost(&socket),
            }
        }
    }

    fn hears_clock(&self, socket: &MercurySocket) {
        if let Some(moment) = socket.cloud_time() {
            self.side.cloud.heard(moment);
        }
    }

    /// Something was missed, or may have been: a new trigger, and a catch-up for it.
    fn lost(&mut self, socket: &MercurySocket) {
        // A catch-up that has not begun is put off instead: it reads what was missed now, too.
        if self.owed.as_ref().is_none_or(|owed| owed.begin <= Instant::now()) {
            self.behind();
        }
        self.heard = Instant::now();
        self.catch_up(socket);
    }

    /// Owes a catch-up for the latest trigger, in place of any before it.
    fn catch_up(&mut self, socket: &MercurySocket) {
        if self.purpose == Purpose::Bot {
            return;
        }
        let begin = Instant::now() + self.side.times.visibility + MARGIN;
        // Without the cloud's own word in the frames we know its time to the second only.
        let unsure = if socket.cloud_time().is_some() { 0 } else { 1_000 };
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

    /// What was handed over is committed: the cloud may forget it.
    fn acknowledge(&mut self, (socket_number, n): Taken, socket: &mut MercurySocket) {
        if socket_number != self.socket {
            return;
        }
        while let Some((taken, id)) = self.unacknowledged.front()
            && *taken <= n
        {
            socket.acknowledge(id);
            self.unacknowledged.pop_front();
        }
    }

    fn take(&mut self, output: Output, socket: &mut MercurySocket) {
        self.hears_clock(socket);
        match output {
            Output::Event(envelope) => self.event(*envelope, socket),
            Output::Gap => {
                tracing::info!(person = %self.person, "gap in the sequence");
                self.lost(socket);
            }
            _ => {}
        }
    }

    fn event(&mut self, envelope: Envelope, socket: &mut MercurySocket) {
        self.heard = Instant::now();
        match envelope.event {
            Event::Activity(activity) => self.activity(&activity, envelope.id, socket),
            Event::KmsMessages(messages) => self.side.keys.replies(&self.person, messages),
            Event::Typing(typing) => self.typing(&typing),
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

    fn upstream(&mut self) -> Upstream {
        self.n += 1;
        Upstream { stream: StreamId::Mercury(self.person.clone(), self.socket), n: self.n }
    }

    fn activity(&mut self, activity: &Activity, id: Option<EnvelopeId>, socket: &mut MercurySocket) {
        if self.purpose == Purpose::Bot {
            if let Some(id) = &id {
                socket.acknowledge(id);
            }
            return;
        }
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
                    socket.acknowledge(id);
                }
                return;
            }
        };
        self.side.relays.adopt(&mut message);
        self.side.posts.saw(&message);
        if self.side.is_stopping() {
            return;
        }
        let upstream = self.upstream();
        let n = upstream.n;
        if self.side.hub.try_take(Inbound::Message(message, parts, upstream)).is_ok() {
            self.unacknowledged.extend(id.map(|id| (n, id)));
            if self.owed.is_none()
                && let Some(published) = activity.published
            {
                self.cursor = self.cursor.max(time(published).before(self.side.times.overlap));
            }
        } else {
            // Left unacknowledged, and read from a listing when there is room again.
            tracing::warn!(person = %self.person, activity = %activity.id, "hub is full: activity dropped");
            self.lost(socket);
        }
    }

    fn typing(&mut self, event: &TypingEvent) {
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
        let upstream = self.upstream();
        // A hint that is lost is not missed.
        let _ = self.side.hub.try_take(Inbound::Typing(typing, upstream));
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
