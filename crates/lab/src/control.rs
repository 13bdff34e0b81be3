//! The control interface: what a driver of the lab asks people and stand-ins to do, and what it asks about.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cloud::Cloud,
    ctx::Ctx,
    fault::Switch,
    http::{Answer, Call, Handled, serve as serve_http},
    imp::nodes::NodeChange,
    net::Listener,
    people::{Act, Change, Puppet, PuppetError},
    seen::{Client, Line},
};

/// How long the connector may take to say whether it is idle.
const STATUS: Duration = Duration::from_secs(2);

/// The control interface of one lab.
#[derive(Debug)]
pub struct Control {
    ctx: Arc<Ctx>,
    cloud: Arc<Cloud>,
    /// Base address of the connector's status interface.
    status: String,
    /// A connector was seen or announced, so it counts.
    connector: AtomicBool,
}

#[derive(Deserialize)]
struct Say {
    client: String,
    to: String,
    text: String,
}

#[derive(Deserialize)]
struct Acting {
    client: String,
    #[serde(flatten)]
    act: Act,
}

#[derive(Deserialize)]
struct Advance {
    advance_ms: u64,
}

fn refuse(status: StatusCode, error: &dyn std::fmt::Display) -> Answer {
    Answer::json(status, &json!({"error": error.to_string()}))
}

fn refuse_puppet(error: &PuppetError) -> Answer {
    let status = match error {
        PuppetError::Nobody(_) | PuppetError::UnknownMessage(_) => StatusCode::NOT_FOUND,
        PuppetError::Unsupported(_) => StatusCode::BAD_REQUEST,
        PuppetError::Offline(_) => StatusCode::CONFLICT,
        PuppetError::Failed(_) => StatusCode::BAD_GATEWAY,
    };
    refuse(status, error)
}

/// Serves the interface until the lab stops.
pub(crate) async fn serve(control: Arc<Control>, listener: Listener) {
    let ctx = Arc::clone(&control.ctx);
    serve_http(ctx, listener, None, move |call| {
        let control = Arc::clone(&control);
        async move {
            match control.handle(&call).await {
                Ok(answer) | Err(answer) => answer,
            }
        }
    })
    .await;
}

impl Control {
    pub(crate) fn new(ctx: &Arc<Ctx>, cloud: &Arc<Cloud>, status: String) -> Arc<Self> {
        let (ctx, cloud) = (Arc::clone(ctx), Arc::clone(cloud));
        Arc::new(Self { ctx, cloud, status, connector: AtomicBool::new(false) })
    }

    pub(crate) fn status(&self) -> &str {
        &self.status
    }

    /// From now on the connector is asked whether it is idle.
    pub(crate) fn connector_runs(&self) {
        self.connector.store(true, Ordering::SeqCst);
    }

    async fn handle(&self, call: &Call) -> Handled {
        match (call.method.as_str(), call.segments().as_slice()) {
            ("POST", ["say"]) => self.say(call).await,
            ("POST", ["act"]) => self.act(call).await,
            ("GET", ["seen"]) => self.seen(call),
            ("POST", ["fault"]) => {
                let switch: Switch = body(call)?;
                self.ctx.faults.switch(&switch).map_err(|error| refuse(StatusCode::NOT_FOUND, &error))?;
                self.cloud.poke();
                Ok(Answer::ok(&json!({})))
            }
            ("GET", ["mails"]) => Ok(Answer::ok(&json!(self.ctx.mails.all()))),
            ("GET", ["faults"]) => Ok(Answer::ok(&json!(self.ctx.faults.list()))),
            ("POST", ["user"]) => {
                let change: Change = body(call)?;
                self.ctx.people.change(&change).map_err(|error| refuse(StatusCode::NOT_FOUND, &error))?;
                Ok(Answer::ok(&json!({})))
            }
            ("POST", ["node"]) => {
                let change: NodeChange = body(call)?;
                self.ctx.nodes.change(change).map_err(|error| refuse(StatusCode::NOT_FOUND, &error))?;
                Ok(Answer::ok(&json!({})))
            }
            ("POST", ["clock"]) => {
                let advance: Advance = body(call)?;
                self.ctx.clock.advance(Duration::from_millis(advance.advance_ms));
                Ok(Answer::ok(&json!({"now_ms": self.ctx.clock.now().0})))
            }
            ("GET", ["idle"]) => Ok(Answer::ok(&Value::Bool(self.is_idle().await))),
            _ => Err(refuse(StatusCode::NOT_FOUND, &"there is no such call")),
        }
    }

    fn puppet(&self, client: &str) -> Result<Arc<dyn Puppet>, Answer> {
        let client: Client = client.parse().map_err(|error| refuse(StatusCode::BAD_REQUEST, &error))?;
        self.ctx.puppets.get(&client).map_err(|error| refuse(StatusCode::NOT_FOUND, &error))
    }

    async fn say(&self, call: &Call) -> Handled {
        let say: Say = body(call)?;
        let _held = self.ctx.idle.hold();
        let puppet = self.puppet(&say.client)?;
        let said = puppet.say(&say.to, &say.text).await.map_err(|error| refuse_puppet(&error))?;
        Ok(Answer::ok(&json!({"id": said})))
    }

    async fn act(&self, call: &Call) -> Handled {
        let acting: Acting = body(call)?;
        let _held = self.ctx.idle.hold();
        let puppet = self.puppet(&acting.client)?;
        puppet.act(&acting.act).await.map_err(|error| refuse_puppet(&error))?;
        Ok(Answer::ok(&json!({})))
    }

    /// Without `client`, the lines of all clients.
    fn seen(&self, call: &Call) -> Handled {
        let after = match call.query.get("after") {
            None => 0,
            Some(after) => {
                after.parse().map_err(|_| refuse(StatusCode::BAD_REQUEST, &"`after` is not a number"))?
            }
        };
        let lines: Vec<Line> = match call.query.get("client") {
            None => self.ctx.seen.all_after(after),
            Some(client) => {
                let client: Client =
                    client.parse().map_err(|error| refuse(StatusCode::BAD_REQUEST, &error))?;
                self.ctx.seen.after(&client, after)
            }
        };
        let mut text = String::new();
        for line in lines {
            text.push_str(&serde_json::to_string(&line).unwrap_or_default());
            text.push('\n');
        }
        Ok(Answer::bytes(StatusCode::OK, "application/x-ndjson", text.into()))
    }

    /// Whether nothing is on its way. A connector counts once it was announced or seen, whether or not it answers.
    pub(crate) async fn is_idle(&self) -> bool {
        if !self.ctx.idle.is_idle() {
            return false;
        }
        match self.connector_idle().await {
            Some(idle) => {
                self.connector_runs();
                // What the connector did meanwhile may be on its way by now.
                idle && self.ctx.idle.is_idle()
            }
            None => !self.connector.load(Ordering::SeqCst),
        }
    }

    /// What the connector says; `None` if it cannot be reached.
    async fn connector_idle(&self) -> Option<bool> {
        let address = self.status.strip_prefix("http://")?;
        let (host, port) = address.rsplit_once(':')?;
        let ask = async {
            let io = self.ctx.network.dial(host, port.parse().ok()?).await.ok()?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.ok()?;
            let connection = tokio::spawn(connection);
            let request =
                Request::get("/idle").header(header::HOST, address).body(Empty::<Bytes>::new()).ok()?;
            let body = sender.send_request(request).await.ok()?.into_body().collect().await.ok()?.to_bytes();
            connection.abort();
            Some(body.trim_ascii() == b"true")
        };
        tokio::time::timeout(STATUS, ask).await.ok().flatten()
    }
}

/// The body as JSON, with the control interface's own form of refusal.
fn body<T: for<'de> Deserialize<'de>>(call: &Call) -> Result<T, Answer> {
    serde_json::from_slice(&call.body).map_err(|error| refuse(StatusCode::BAD_REQUEST, &error))
}
