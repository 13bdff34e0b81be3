//! The cloud as its clients meet it, over its own doors, in memory and under a paused clock.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod device;
mod files;
mod keys;
mod mercury;
mod people;
mod presence;
mod refusals;
mod session;
mod tokens;
mod unkind;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use lab::{
    Lab,
    clock::Time,
    endpoints::User,
    net::{BoxIo, Network, Pipes},
    options::Options,
    seen::{App, Client},
};
use serde_json::{Value, json};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// 1 May 2024, 10:00 UTC.
const START: Time = Time(1_714_557_600_000);

/// A lab of this test alone.
async fn lab_with(change: impl FnOnce(&mut Options)) -> Lab {
    let mut options = Options { stand_ins: true, ..Options::default() };
    change(&mut options);
    Lab::start_on(options, Network::Pipes(Pipes::default()), START).await.unwrap()
}

async fn lab() -> Lab {
    lab_with(|_| {}).await
}

fn user(lab: &Lab, name: &str) -> User {
    lab.endpoints().users.iter().find(|user| user.name == name).unwrap().clone()
}

fn token(lab: &Lab, name: &str) -> String {
    format!("Bearer {}", user(lab, name).access_token)
}

async fn dial(lab: &Lab) -> BoxIo {
    let port = lab.endpoints().cloud.rsplit_once(':').unwrap().1.parse().unwrap();
    lab.ctx().network.dial("127.0.0.1", port).await.unwrap()
}

/// An answer of the cloud.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// One request on a connection of its own; `None` if the connection ended without an answer.
async fn try_send(
    lab: &Lab,
    method: &str,
    path: &str,
    auth: &str,
    kind: &str,
    body: String,
) -> Option<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(dial(lab).await)).await.unwrap();
    let connection = tokio::spawn(connection);
    let path = path.strip_prefix(&lab.endpoints().cloud).unwrap_or(path);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "cloud")
        .header(header::AUTHORIZATION, auth)
        .header(header::CONTENT_TYPE, kind)
        .header("trackingid", "test_1")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.ok()?;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    connection.abort();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Some(Answer { status: parts.status, headers: parts.headers, body })
}

async fn send(lab: &Lab, method: &str, path: &str, auth: &str, body: Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    try_send(lab, method, path, auth, "application/json", body).await.expect("an answer")
}

async fn get(lab: &Lab, path: &str, auth: &str) -> Answer {
    send(lab, "GET", path, auth, Value::Null).await
}

/// Switches a fault.
fn fault(lab: &Lab, switch: Value) {
    lab.ctx().faults.switch(&serde_json::from_value(switch).unwrap()).unwrap();
}

/// A built-in person writes in Webex.
async fn say(lab: &Lab, from: &str, to: &str, text: &str) -> String {
    lab.ctx().puppets.get(&Client::new(from, App::Webex)).unwrap().say(to, text).await.unwrap()
}

/// The 1:1 of two people, made by one of them, as that one sees it.
async fn direct(lab: &Lab, me: &str, other: &str) -> Value {
    say(lab, me, other, "hello").await;
    let path = format!("/conversation/api/v1/conversations/user/{}", user(lab, other).person_id);
    get(lab, &path, &token(lab, me)).await.body
}

/// A comment that looks sealed.
fn comment(conversation: &Value, temporary: &str) -> Value {
    // The header is {"enc":"A256GCM","alg":"dir"}; the rest is what nobody but a member could read.
    let sealed = format!("eyJlbmMiOiJBMjU2R0NNIiwiYWxnIjoiZGlyIn0..AAAAAAAAAAAAAAAA.{temporary}.AAAA");
    json!({
        "objectType": "activity",
        "verb": "post",
        "clientTempId": temporary,
        "encryptionKeyUrl": conversation["defaultActivityEncryptionKeyUrl"],
        "object": {"objectType": "comment", "displayName": sealed},
        "target": {"objectType": "conversation", "id": conversation["id"]},
    })
}

async fn post(lab: &Lab, me: &str, conversation: &Value, activity: Value) -> Answer {
    let path = format!("{}/activities?personRefresh=true", conversation["url"].as_str().unwrap());
    send(lab, "POST", &path, &token(lab, me), activity).await
}

/// The activities that a listing shows now, oldest first.
async fn listed(lab: &Lab, me: &str, conversation: &Value) -> Vec<Value> {
    let path = format!("{}/activities?lastActivityFirst=false", conversation["url"].as_str().unwrap());
    get(lab, &path, &token(lab, me)).await.body["items"].as_array().unwrap().clone()
}

/// Registers a device.
async fn device(lab: &Lab, name: &str) -> Value {
    let body = json!({"name": "test", "deviceType": "WEB", "model": "test", "systemName": "TEST"});
    let answer = send(lab, "POST", "/wdm/api/v1/devices", &token(lab, name), body).await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.body
}

/// A socket that sends what it is told and reads frame by frame.
struct Socket(WebSocketStream<BoxIo>);

impl Socket {
    /// Opens the socket of a device, without authorization.
    async fn open(lab: &Lab, device: &Value) -> Self {
        let url = format!("{}?outboundWireFormat=text", device["webSocketUrl"].as_str().unwrap());
        Self(tokio_tungstenite::client_async(url, dial(lab).await).await.unwrap().0)
    }

    /// Opens it, authorizes, and takes the readiness frame.
    async fn ready(lab: &Lab, device: &Value, name: &str) -> Self {
        let mut socket = Self::open(lab, device).await;
        socket.authorize(&token(lab, name)).await;
        let first = socket.read().await.unwrap();
        assert_eq!(first["data"]["eventType"], "mercury.buffer_state");
        assert_eq!(first["sequenceNumber"], 1);
        socket
    }

    async fn authorize(&mut self, bearer: &str) {
        self.write(json!({"id": "1", "type": "authorization", "data": {"token": bearer}})).await;
    }

    async fn write(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn ack(&mut self, frame: &Value) {
        self.write(json!({"messageId": frame["id"], "type": "ack"})).await;
    }

    /// The next frame, or the close code.
    async fn read(&mut self) -> Result<Value, u16> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(text.as_str()).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    /// What comes within a second of the paused clock.
    async fn soon(&mut self) -> Option<Value> {
        tokio::time::timeout(Duration::from_secs(1), self.read()).await.ok().and_then(Result::ok)
    }

    /// The next activity, acknowledged.
    async fn activity(&mut self) -> Value {
        loop {
            let frame = self.read().await.unwrap();
            self.ack(&frame).await;
            if frame["data"]["eventType"] == "conversation.activity" {
                return frame["data"]["activity"].clone();
            }
        }
    }
}
