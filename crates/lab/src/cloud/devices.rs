//! Device registration: what owns a Mercury socket, ten at most a person.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use http::{HeaderName, StatusCode};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::{
    Cloud,
    mercury::{Frame, Outgoing},
};
use crate::{
    clock::Time,
    http::{Answer, Call, Handled},
    people::Person,
};

/// How many devices a person may register.
const LIMIT: usize = 10;
/// What a device is told that only people with the connector's licence have.
const ENTITLEMENT: &str = "spark-hybrid-impinterop";

/// What is known about a device.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    id: String,
    /// The short name of whose it is.
    pub(crate) owner: String,
    /// What the client said about itself.
    described: Map<String, Value>,
    created: Time,
    modified: Time,
}

/// A registration and its way out.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) registration: Registration,
    /// The socket that is connected and authorized.
    pub(crate) socket: Option<Socket>,
    /// Frames for a device without a socket, kept only where redelivery is on.
    pub(crate) waiting: VecDeque<Frame>,
    /// When the last frame of each conversation is due, so that frames of one never overtake.
    pub(crate) due: BTreeMap<String, Time>,
}

/// The way to the task that writes to a socket.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    pub(crate) number: u64,
    pub(crate) outgoing: mpsc::Sender<Outgoing>,
    /// It was told of its shutdown: how long it still carries what was on its way, once there is another.
    pub(crate) leaving: Option<Duration>,
}

/// All registrations, by id.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) devices: BTreeMap<String, Device>,
    by_owner: BTreeMap<String, Vec<String>>,
    pub(crate) sockets: u64,
}

impl Devices {
    /// Whose device has this URL.
    pub(crate) fn owner(&self, url: &str) -> Option<&str> {
        self.devices.get(id_of(url)?).map(|device| device.registration.owner.as_str())
    }

    /// The ids of a person's devices, oldest first.
    pub(crate) fn of(&self, name: &str) -> Vec<String> {
        self.by_owner.get(name).cloned().unwrap_or_default()
    }

    fn remove(&mut self, id: &str) -> Option<Device> {
        let device = self.devices.remove(id)?;
        if let Some(ids) = self.by_owner.get_mut(&device.registration.owner) {
            ids.retain(|other| other != id);
        }
        Some(device)
    }
}

fn id_of(url: &str) -> Option<&str> {
    url.rsplit_once("/devices/").map(|(_, id)| id)
}

fn unknown() -> Answer {
    Answer::error(StatusCode::NOT_FOUND, 1_404_002, "Device not found.")
}

impl Cloud {
    fn device_json(&self, device: &Registration, person: &Person) -> Value {
        let mut json = device.described.clone();
        let toggle = |key: &str, value: bool, mutable: bool| {
            json!({"key": key, "type": "boolean", "val": value.to_string(), "value": value, "mutable": mutable,
                   "lastModified": device.created.rfc3339()})
        };
        let own = json!({
            "url": format!("{}/wdm/api/v1/devices/{}", self.origin, device.id),
            "webSocketUrl": format!("{}/v1/apps/wx2/registrations/{}/messages", self.web_socket_origin, device.id),
            "userId": person.person_id,
            "orgId": person.org_id,
            "creationTime": device.created.rfc3339(),
            "modificationTime": device.modified.rfc3339(),
            "features": {
                "developer": self.toggles(&person.name, "developer"),
                "entitlement": [
                    toggle("call-initiation", true, false),
                    toggle("basic-message", true, false),
                    toggle(ENTITLEMENT, person.enabled, false),
                ],
                "user": [toggle("user-presence-enabled", !person.hidden, true)],
            },
            "services": {"encryptionServiceUrl": format!("{}/encryption/api/v1", self.origin)},
            "serviceHostMap": {"serviceLinks": {}, "hostCatalog": {}},
        });
        if let Value::Object(own) = own {
            json.extend(own);
        }
        Value::Object(json)
    }

    fn device_answer(&self, device: &Registration, person: &Person) -> Answer {
        let etag = format!("\"{}-{}\"", device.id, device.modified.0);
        Answer::ok(&self.device_json(device, person)).with(HeaderName::from_static("etag"), etag)
    }

    /// `POST /devices`.
    pub(crate) fn device_create(&self, call: &Call) -> Handled {
        let person = self.caller(call)?;
        let described = described(call)?;
        let limited = !call.is_puppet() && self.ctx.faults.hit("device-limit", Some(&person.name));
        let now = self.now();
        let mut state = self.state();
        let devices = &mut state.devices;
        let owned = devices.by_owner.entry(person.name.clone()).or_default();
        if owned.len() >= LIMIT || limited {
            return Err(Answer::error(
                StatusCode::FORBIDDEN,
                1_403_010,
                "User has excessive device registrations",
            ));
        }
        let id = self.ctx.rng.uuid();
        owned.push(id.clone());
        let registration = Registration {
            id: id.clone(),
            owner: person.name.clone(),
            described,
            created: now,
            modified: now,
        };
        let device = Device {
            registration: registration.clone(),
            socket: None,
            waiting: VecDeque::new(),
            due: BTreeMap::new(),
        };
        devices.devices.insert(id, device);
        drop(state);
        Ok(self.device_answer(&registration, &person))
    }

    /// `GET /devices`; 404 when there is none.
    pub(crate) fn device_list(&self, call: &Call) -> Handled {
        let person = self.caller(call)?;
        let shown: Vec<Value> = {
            let state = self.state();
            let ids = state.devices.of(&person.name);
            ids.iter()
                .filter_map(|id| state.devices.devices.get(id))
                .map(|device| device.registration.listed(self))
                .collect()
        };
        if shown.is_empty() { Err(unknown()) } else { Ok(Answer::ok(&json!({"devices": shown}))) }
    }

    /// `PUT /devices/{id}` refreshes, `GET` shows, `DELETE` ends a registration and its socket.
    pub(crate) fn device_one(&self, call: &Call, id: &str) -> Handled {
        let person = self.caller(call)?;
        if !call.is_puppet() && self.ctx.faults.hit("device-gone", Some(&person.name)) {
            self.state().devices.remove(id);
        }
        let mut state = self.state();
        let device =
            state.devices.devices.get_mut(id).filter(|device| device.registration.owner == person.name);
        let registration = &mut device.ok_or_else(unknown)?.registration;
        match call.method.as_str() {
            "PUT" => {
                let mut described = described(call)?;
                registration.described.append(&mut described);
                registration.modified = self.now();
            }
            "GET" => {}
            "DELETE" => {
                if let Some(device) = state.devices.remove(id)
                    && let Some(socket) = device.socket
                {
                    // 1000 with a reason of its own: the client asked for it and must not come back.
                    let _ = socket.outgoing.try_send(Outgoing::Close(1000, "device deleted".to_owned()));
                }
                return Ok(Answer::empty(StatusCode::NO_CONTENT));
            }
            _ => return Err(Answer::empty(StatusCode::METHOD_NOT_ALLOWED)),
        }
        // The answer looks toggles up in the same state.
        let shown = registration.clone();
        drop(state);
        Ok(self.device_answer(&shown, &person))
    }
}

impl Registration {
    /// Whether it is a built-in person's.
    pub(crate) fn is_puppet(&self) -> bool {
        self.described.get("name").is_some_and(|name| name == super::PUPPET)
    }

    /// The short form, for the list.
    fn listed(&self, cloud: &Cloud) -> Value {
        let mut json = self.described.clone();
        json.insert("url".into(), format!("{}/wdm/api/v1/devices/{}", cloud.origin, self.id).into());
        json.insert(
            "webSocketUrl".into(),
            format!("{}/v1/apps/wx2/registrations/{}/messages", cloud.web_socket_origin, self.id).into(),
        );
        json.insert("creationTime".into(), self.created.rfc3339().into());
        json.insert("modificationTime".into(), self.modified.rfc3339().into());
        Value::Object(json)
    }
}

/// What the client says about itself: only the members that a registration keeps.
fn described(call: &Call) -> Result<Map<String, Value>, Answer> {
    const KEPT: [&str; 8] =
        ["name", "deviceName", "deviceType", "model", "localizedModel", "systemName", "systemVersion", "ttl"];
    let mut body: Map<String, Value> = call.json()?;
    body.retain(|name, value| KEPT.contains(&name.as_str()) && (value.is_string() || value.is_number()));
    Ok(body)
}
