//! The puppet's socket: one task reads it without pause, another opens and records what it brought, in order.

use std::sync::Arc;

use tokio::sync::mpsc;
use webex_api::{
    EnvelopeId, Timestamp,
    client::{MercuryConfig, MercurySocket},
    mercury::{Envelope, Event, Output},
    typing::State,
};

use super::{Line, NetworkDial, WebexApp, failed, random};
use crate::{people::PuppetError, seen::Kind};

/// How many events may wait to be opened; key replies never wait here.
const EVENTS: usize = 16_384;

/// Opens the socket, waits until it is ready, and starts both tasks.
pub(super) async fn start(app: &Arc<WebexApp>, line: &Arc<Line>) -> Result<(), PuppetError> {
    let mut socket = connect(app, line).await?;
    loop {
        match socket.next().await {
            Some(Output::Ready) => break,
            Some(Output::Closed(_)) | None => {
                return Err(failed("the socket was closed before it was ready"));
            }
            Some(_) => {}
        }
    }
    let (events, incoming) = mpsc::channel(EVENTS);
    let (done, acknowledged) = mpsc::channel(EVENTS);
    app.ctx.spawn(read(Arc::clone(app), Arc::clone(line), socket, events, acknowledged));
    app.ctx.spawn(open(Arc::clone(app), Arc::clone(line), incoming, done));
    Ok(())
}

async fn connect(app: &Arc<WebexApp>, line: &Line) -> Result<MercurySocket, PuppetError> {
    let mut config = MercuryConfig::new(Arc::clone(&app.reach.tls));
    config.dial = Arc::new(NetworkDial(app.ctx.network.clone()));
    let now = Timestamp(app.ctx.clock.now().0);
    let url = &line.device.web_socket_url;
    MercurySocket::connect(&config, url, &line.token, now, random(&app.ctx)).await.map_err(failed)
}

/// Reads on and on; an event is acknowledged once it is recorded.
async fn read(
    app: Arc<WebexApp>,
    line: Arc<Line>,
    mut socket: MercurySocket,
    events: mpsc::Sender<Box<Envelope>>,
    mut acknowledged: mpsc::Receiver<EnvelopeId>,
) {
    loop {
        let output = tokio::select! {
            biased;
            () = line.stop.cancelled() => return,
            Some(id) = acknowledged.recv() => {
                socket.acknowledge(&id);
                continue;
            }
            output = socket.next() => output,
        };
        match output {
            Some(Output::Event(envelope)) => match &envelope.event {
                Event::KmsMessages(messages) => {
                    for message in messages {
                        line.keys.handle(message);
                    }
                }
                _ => {
                    if events.try_send(envelope).is_err() {
                        tracing::error!(client = %app.client, "a puppet is hopelessly behind");
                    }
                }
            },
            Some(Output::Closed(fate)) => {
                // No fault touches a puppet's socket, so the lab is going down or the device was deleted.
                tracing::debug!(client = %app.client, ?fate, "a puppet's socket ended");
                return;
            }
            None => return,
            Some(_) => {}
        }
    }
}

async fn open(
    app: Arc<WebexApp>,
    line: Arc<Line>,
    mut incoming: mpsc::Receiver<Box<Envelope>>,
    done: mpsc::Sender<EnvelopeId>,
) {
    while let Some(envelope) = incoming.recv().await {
        match &envelope.event {
            Event::Activity(activity) => {
                app.saw(&line, activity).await;
                if let Some(id) = envelope.id {
                    // The reader may have ended.
                    let _ = done.send(id).await;
                }
            }
            Event::Typing(typing) => {
                let id = typing.actor.id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
                let text = if typing.state == State::Typing { "typing" } else { "paused" };
                app.record_of(&id, Kind::Typing, text);
            }
            Event::Presence(presence) => app.shows(presence),
            _ => {}
        }
    }
}
