//! The Mercury socket: authorization, readiness, events in sequence, acknowledgements, pings, close codes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::{StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{Cloud, devices::Socket, tokens::Bearer};
use crate::{
    clock::Time,
    fault::Kind,
    http::{Answer, Call, Handled},
    idle::Held,
};

/// How many frames may wait for one socket's writer; what comes on top is lost, as by a cloud that gives up.
const QUEUE: usize = 16_384;
/// How many frames are kept for a device without a socket.
const WAITING: usize = 1_000;
/// How long a client may take to say who it is.
const AUTHORIZATION: Duration = Duration::from_secs(30);
/// How far apart frames of different conversations may get, scaled.
const OVERTAKING: Duration = Duration::from_millis(400);

/// What can go wrong with the socket.
pub(crate) const FAULTS: &[Kind] = &[
    Kind {
        name: "no-redelivery",
        explanation: "What a socket had not acknowledged when it ended, and what happens while there is none, is never sent again.",
        unkind: true,
    },
    Kind {
        name: "overtaking",
        explanation: "Frames of different conversations overtake one another by up to 400 scaled milliseconds.",
        unkind: true,
    },
    Kind {
        name: "mercury-lose",
        explanation: "An activity's frame is lost; its sequence number is missing.",
        unkind: false,
    },
    Kind {
        name: "mercury-lose-silently",
        explanation: "An activity's frame is lost, and no sequence number is missing.",
        unkind: false,
    },
    Kind {
        name: "mercury-repeat",
        explanation: "An activity's frame is sent twice with the same id.",
        unkind: false,
    },
    Kind {
        name: "mercury-close",
        explanation: "A socket is closed at once, with the code `value` (1001) and the reason `text` (on purpose).",
        unkind: false,
    },
    Kind {
        name: "mercury-cut",
        explanation: "A socket's connection is cut at once, without a close frame.",
        unkind: false,
    },
    Kind {
        name: "mercury-shutdown",
        explanation: "A socket is told of an imminent shutdown; once the device has another, it carries for `value` more scaled milliseconds (0) what was on its way, and is closed with 4001.",
        unkind: false,
    },
    Kind {
        name: "mercury-refuse",
        explanation: "The upgrade is refused with HTTP status `value` (503).",
        unkind: false,
    },
    Kind {
        name: "mercury-reject",
        explanation: "After the authorization the socket is closed with the code `value` (4401) and the reason `text` (rejected) in place of readiness.",
        unkind: false,
    },
    Kind { name: "mercury-unready", explanation: "The readiness frame never comes.", unkind: false },
    Kind { name: "mercury-no-pong", explanation: "A ping is not answered.", unkind: false },
    Kind { name: "mercury-wrong-pong", explanation: "A ping is answered with another id.", unkind: false },
];

/// One frame on its way to a device.
#[derive(Debug)]
pub(crate) struct Frame {
    id: String,
    data: Arc<Value>,
    /// Whether it is an activity; only those are lost and repeated by faults, and only those count as undelivered.
    activity: bool,
    /// It counts as undelivered until this is dropped.
    _held: Option<Held>,
}

/// What a socket's task is asked to do.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Write this, not before that time of the lab's clock.
    Frame(Frame, Time),
    /// Look whether a fault wants something of this socket.
    Poke,
    /// Close it.
    Close(u16, String),
}

impl Cloud {
    /// Sends an event to every device of a person. `conversation` keeps events of one conversation in order.
    pub(crate) fn notify(&self, name: &str, conversation: Option<&str>, data: &Arc<Value>) {
        let devices = self.state().devices.of(name);
        for id in devices {
            self.notify_device(&id, conversation, Arc::clone(data), Duration::ZERO);
        }
    }

    /// Sends an event to one device, `delay` from now.
    pub(crate) fn notify_device(
        &self,
        id: &str,
        conversation: Option<&str>,
        data: Arc<Value>,
        delay: Duration,
    ) {
        let activity = data["eventType"] == "conversation.activity";
        let frame =
            Frame { id: self.ctx.rng.uuid(), data, activity, _held: activity.then(|| self.ctx.idle.hold()) };
        let overtaking = self.ctx.faults.is_on("overtaking");
        let mut state = self.state();
        let Some(device) = state.devices.devices.get_mut(id) else { return };
        // By the lab's clock: what the cloud's shows may jump back.
        let mut due = self.ctx.clock.now().plus(delay);
        if let Some(conversation) = conversation
            && overtaking
        {
            due = due.plus(self.ctx.rng.duration_below(self.ctx.clock.scaled(OVERTAKING)));
            let last = device.due.entry(conversation.to_owned()).or_default();
            due = due.max(*last);
            *last = due;
        }
        match &device.socket {
            Some(socket) => {
                let _ = socket.outgoing.try_send(Outgoing::Frame(frame, due));
            }
            None if self.ctx.faults.is_on("no-redelivery") => {}
            None => {
                if device.waiting.len() == WAITING {
                    device.waiting.pop_front();
                }
                // Nobody waits for a device that may never come back.
                device.waiting.push_back(Frame { _held: None, ..frame });
            }
        }
    }

    /// Lets every socket look whether a fault wants something of it.
    pub(crate) fn poke(&self) {
        for device in self.state().devices.devices.values() {
            if let Some(socket) = &device.socket {
                let _ = socket.outgoing.try_send(Outgoing::Poke);
            }
        }
    }

    /// `GET /v1/apps/wx2/registrations/{id}/messages`: the upgrade.
    pub(crate) fn mercury(self: &Arc<Self>, call: &mut Call, id: &str) -> Handled {
        let found = {
            let state = self.state();
            let registration = state.devices.devices.get(id).map(|device| &device.registration);
            registration.map(|registration| (registration.owner.clone(), registration.is_puppet()))
        };
        let (owner, puppet) =
            found.ok_or_else(|| Answer::error(StatusCode::NOT_FOUND, 1_404_002, "Device not found."))?;
        if !puppet && let Some(status) = self.ctx.faults.hit_value("mercury-refuse", Some(&owner), 503) {
            let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
            return Err(Answer::error(
                status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
                1_503_000,
                "The socket is refused.",
            ));
        }
        let key = call.headers.get(header::SEC_WEBSOCKET_KEY).cloned();
        let (Some(upgrade), Some(key)) = (call.upgrade.take(), key) else {
            return Err(Answer::error(StatusCode::BAD_REQUEST, 1_400_003, "This is a WebSocket's address."));
        };
        let cloud = Arc::clone(self);
        let id = id.to_owned();
        self.ctx.spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let config = WebSocketConfig::default()
                        .read_buffer_size(4 * 1024)
                        .write_buffer_size(0)
                        .max_message_size(Some(1024 * 1024))
                        .max_frame_size(Some(1024 * 1024));
                    let stream =
                        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config))
                            .await;
                    Line {
                        cloud,
                        device: id,
                        owner,
                        puppet,
                        stream,
                        sequence: 0,
                        unacknowledged: Vec::new(),
                    }
                    .run()
                    .await;
                }
                Err(error) => tracing::debug!(%error, "a socket was not upgraded"),
            }
        });
        Ok(Answer::empty(StatusCode::SWITCHING_PROTOCOLS)
            .with(header::CONNECTION, "upgrade")
            .with(header::UPGRADE, "websocket")
            .with(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes())))
    }
}

/// One socket, from the upgrade on.
struct Line {
    cloud: Arc<Cloud>,
    device: String,
    owner: String,
    /// A built-in person's, which no fault touches.
    puppet: bool,
    stream: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    sequence: u64,
    /// What was written and not acknowledged, in the order written.
    unacknowledged: Vec<Frame>,
}

/// How a socket ends.
enum End {
    /// The other side is gone, or is to be left without a word.
    Gone,
    /// With a close frame.
    Close(u16, String),
}

impl Line {
    /// Whether a fault spoils this occasion, and the number that it takes.
    fn hit(&self, name: &str, default: i64) -> Option<i64> {
        if self.puppet { None } else { self.cloud.ctx.faults.hit_value(name, Some(&self.owner), default) }
    }

    async fn run(mut self) {
        let end = match self.authorize().await {
            Ok(()) => self.serve().await,
            Err(end) => end,
        };
        if let End::Close(code, reason) = end {
            let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
            // 1005 is what the other side makes of a close frame without a code.
            let frame = (code != 1005).then_some(frame);
            // The handshake is finished within a moment or not at all.
            let _ = tokio::time::timeout(Duration::from_secs(2), async {
                if self.stream.close(frame).await.is_ok() {
                    while let Some(Ok(_)) = self.stream.next().await {}
                }
            })
            .await;
        }
    }

    /// Waits for the first frame, which must carry a token of the device's owner.
    async fn authorize(&mut self) -> Result<(), End> {
        let authorized = tokio::time::timeout(AUTHORIZATION, async {
            loop {
                let frame = self.read().await?;
                if frame["type"] == "authorization" {
                    let token =
                        frame["data"]["token"].as_str().and_then(|token| token.strip_prefix("Bearer "));
                    let bearer = token.and_then(|token| self.cloud.token_bearer(token));
                    return Ok(bearer == Some(Bearer::Person(self.owner.clone())));
                }
            }
        })
        .await;
        if let Some(code) = self.hit("mercury-reject", 4401) {
            let reason = self.cloud.ctx.faults.text("mercury-reject", "rejected");
            return Err(End::Close(u16::try_from(code).unwrap_or(4401), reason));
        }
        match authorized {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(End::Close(4401, "authentication failed".to_owned())),
            Ok(Err(end)) => Err(end),
            Err(_) => Err(End::Close(1008, "no authorization".to_owned())),
        }
    }

    /// The next frame of the client, as JSON; what is none is passed over.
    async fn read(&mut self) -> Result<Value, End> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    if let Ok(frame) = serde_json::from_str::<Value>(text.as_str()) {
                        return Ok(frame);
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
                Some(Ok(_)) => {}
            }
        }
    }

    async fn write(&mut self, frame: &Value) -> Result<(), End> {
        self.stream.send(Message::text(frame.to_string())).await.map_err(|_| End::Gone)
    }

    /// Takes the device over from an earlier socket, and carries frames until the end.
    async fn serve(&mut self) -> End {
        let (outgoing, mut frames) = mpsc::channel(QUEUE);
        let mut due: BTreeMap<(Time, u64), Frame> = BTreeMap::new();
        let mut order = 0;
        let number = {
            let mut state = self.cloud.state();
            state.devices.sockets += 1;
            let number = state.devices.sockets;
            let Some(device) = state.devices.devices.get_mut(&self.device) else {
                return End::Close(4404, "device deleted".to_owned());
            };
            match device.socket.replace(Socket { number, outgoing, leaving: None }) {
                Some(Socket { outgoing: old, leaving: Some(rest), .. }) => {
                    let clock = self.cloud.ctx.clock.clone();
                    self.cloud.ctx.spawn(async move {
                        clock.sleep(rest).await;
                        let _ = old.try_send(Outgoing::Close(4001, "shutdown".to_owned()));
                    });
                }
                Some(Socket { outgoing: old, .. }) => {
                    let _ = old.try_send(Outgoing::Close(4000, "replaced".to_owned()));
                }
                None => {}
            }
            for frame in std::mem::take(&mut device.waiting) {
                order += 1;
                due.insert((Time::default(), order), frame);
            }
            number
        };
        let end = self.carry(&mut frames, &mut due, &mut order).await;
        self.leave(number, frames, due);
        end
    }

    async fn carry(
        &mut self,
        frames: &mut mpsc::Receiver<Outgoing>,
        due: &mut BTreeMap<(Time, u64), Frame>,
        order: &mut u64,
    ) -> End {
        let cloud = Arc::clone(&self.cloud);
        if self.hit("mercury-unready", 0).is_none() {
            let ready = json!({"eventType": "mercury.buffer_state"});
            let id = self.cloud.ctx.rng.uuid();
            if let Err(end) = self.event(&id, &ready).await {
                return end;
            }
        }
        loop {
            let next = due.keys().next().map(|(when, _)| *when);
            let step = tokio::select! {
                biased;
                incoming = self.stream.next() => Step::Incoming(incoming),
                outgoing = frames.recv() => Step::Outgoing(outgoing),
                () = cloud.ctx.clock.sleep_until(next.unwrap_or_default()), if next.is_some() => Step::Due,
            };
            let done = match step {
                Step::Incoming(Some(Ok(Message::Text(text)))) => self.incoming(text.as_str()).await,
                Step::Incoming(Some(Ok(Message::Close(_)))) => {
                    // Its answer is waiting to be written; a client without one takes the socket for broken.
                    let _ = self.stream.flush().await;
                    Err(End::Gone)
                }
                Step::Incoming(Some(Err(_)) | None) => Err(End::Gone),
                Step::Incoming(Some(Ok(_))) => Ok(()),
                Step::Outgoing(Some(Outgoing::Frame(frame, when))) => {
                    *order += 1;
                    due.insert((when, *order), frame);
                    Ok(())
                }
                Step::Outgoing(Some(Outgoing::Poke)) => self.poked().await,
                Step::Outgoing(Some(Outgoing::Close(code, reason))) => Err(End::Close(code, reason)),
                Step::Outgoing(None) => Err(End::Gone),
                Step::Due => match due.pop_first() {
                    Some((_, frame)) => self.deliver(frame).await,
                    None => Ok(()),
                },
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn incoming(&mut self, text: &str) -> Result<(), End> {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return Ok(()) };
        match frame["type"].as_str() {
            Some("ack") => {
                if let Some(id) = frame["messageId"].as_str() {
                    self.unacknowledged.retain(|frame| frame.id != id);
                }
                Ok(())
            }
            Some("ping") => {
                if self.hit("mercury-no-pong", 0).is_some() {
                    return Ok(());
                }
                let id = if self.hit("mercury-wrong-pong", 0).is_some() {
                    Value::from(self.cloud.ctx.rng.uuid())
                } else {
                    frame["id"].clone()
                };
                let now = self.cloud.now().0;
                self.write(&json!({"id": id, "type": "pong", "wsWriteTimestamp": now})).await
            }
            _ => Ok(()),
        }
    }

    async fn poked(&mut self) -> Result<(), End> {
        let cloud = Arc::clone(&self.cloud);
        if let Some(code) = self.hit("mercury-close", 1001) {
            let reason = cloud.ctx.faults.text("mercury-close", "on purpose");
            return Err(End::Close(u16::try_from(code).unwrap_or(1001), reason));
        }
        if self.hit("mercury-cut", 0).is_some() {
            return Err(End::Gone);
        }
        if let Some(rest) = self.hit("mercury-shutdown", 0) {
            let rest = cloud.ctx.clock.scaled(Duration::from_millis(u64::try_from(rest).unwrap_or(0)));
            if let Some(device) = cloud.state().devices.devices.get_mut(&self.device)
                && let Some(socket) = &mut device.socket
            {
                socket.leaving = Some(rest);
            }
            return self.write(&json!({"id": cloud.ctx.rng.uuid(), "type": "shutdown"})).await;
        }
        Ok(())
    }

    async fn deliver(&mut self, frame: Frame) -> Result<(), End> {
        let (lost, silent, twice) = {
            let hit = |name| frame.activity && self.hit(name, 0).is_some();
            (hit("mercury-lose"), hit("mercury-lose-silently"), hit("mercury-repeat"))
        };
        if lost {
            self.sequence += 1;
        }
        if lost || silent {
            return Ok(());
        }
        let (id, data) = (frame.id.clone(), Arc::clone(&frame.data));
        // Noted first: what a broken socket could not take is undelivered as well.
        self.unacknowledged.push(frame);
        for _ in 0..=usize::from(twice) {
            self.event(&id, &data).await?;
        }
        self.poked().await
    }

    async fn event(&mut self, id: &str, data: &Value) -> Result<(), End> {
        self.sequence += 1;
        let now = self.cloud.now().0;
        let envelope = json!({
            "id": id,
            "sequenceNumber": self.sequence,
            "timestamp": now,
            "wsWriteTimestamp": now,
            "trackingId": format!("lab_{id}"),
            "alertType": "none",
            "filterMessage": false,
            "headers": {},
            "data": data,
        });
        self.write(&envelope).await
    }

    /// Gives the device up, unless another socket has it; keeps what was not acknowledged where redelivery is on.
    fn leave(
        &mut self,
        number: u64,
        mut frames: mpsc::Receiver<Outgoing>,
        due: BTreeMap<(Time, u64), Frame>,
    ) {
        let redelivery = !self.cloud.ctx.faults.is_on("no-redelivery");
        let mut state = self.cloud.state();
        // With the state locked: whoever hands a frame over finds either this socket or that it is gone.
        frames.close();
        let Some(device) = state.devices.devices.get_mut(&self.device) else { return };
        let mut rest: Vec<Frame> = std::mem::take(&mut self.unacknowledged);
        rest.extend(due.into_values());
        while let Ok(outgoing) = frames.try_recv() {
            if let Outgoing::Frame(frame, _) = outgoing {
                rest.push(frame);
            }
        }
        let current = device.socket.as_ref().map(|socket| socket.number);
        if current == Some(number) {
            device.socket = None;
        }
        if !redelivery {
            return;
        }
        for frame in rest.into_iter().filter(|frame| frame.activity) {
            match &device.socket {
                Some(socket) => {
                    let _ = socket.outgoing.try_send(Outgoing::Frame(frame, Time::default()));
                }
                None => device.waiting.push_back(Frame { _held: None, ..frame }),
            }
        }
    }
}

enum Step {
    Incoming(Option<Result<Message, tokio_tungstenite::tungstenite::Error>>),
    Outgoing(Option<Outgoing>),
    Due,
}
