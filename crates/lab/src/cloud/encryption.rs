//! The service that carries messages to the key service, which answers to the asking device alone, by Mercury.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::{Value, json};

use super::{Cloud, conversations::text};
use crate::{
    http::{Answer, Call, Handled},
    kms::{Door, Home, Reply, Spoilt},
    people::{ORG_ID, Person},
};

/// How many messages one request may carry.
const MESSAGES: usize = 50;

impl Cloud {
    pub(crate) async fn encryption(self: &Arc<Self>, call: &Call, path: &[&str]) -> Handled {
        self.may_spoil("kms", call).await?;
        match (call.method.as_str(), path) {
            ("GET", ["kms", user]) => {
                let me = self.caller(call)?;
                if me.person_id != *user {
                    return Err(Answer::error(StatusCode::FORBIDDEN, 1_403_005, "That is somebody else."));
                }
                let (cluster, key) = self.kms.info(self.home(&me));
                Ok(Answer::ok(&json!({"kmsCluster": cluster, "rsaPublicKey": key})))
            }
            ("POST", ["kms", "messages"]) => self.kms_messages(call),
            _ => Err(super::no_address()),
        }
    }

    /// Which key service a person belongs to.
    fn home(&self, person: &Person) -> Home {
        let moved = self.ctx.faults.is_on_for("kms-on-premises", &person.name);
        if moved || person.org_id != ORG_ID { Home::OnPremises } else { Home::Cloud }
    }

    /// `POST /kms/messages`. The answer to the request says nothing; what it asked comes by Mercury.
    fn kms_messages(&self, call: &Call) -> Handled {
        let me = self.caller(call)?;
        let body: Value = call.json()?;
        let messages: Vec<String> =
            body["kmsMessages"].as_array().into_iter().flatten().filter_map(text).collect();
        if messages.is_empty() || messages.len() > MESSAGES {
            return Err(Answer::error(
                StatusCode::BAD_REQUEST,
                1_400_010,
                "Between 1 and 50 messages are expected.",
            ));
        }
        let faults = &self.ctx.faults;
        let who = Some(me.name.as_str());
        let hit = |name| !call.is_puppet() && faults.hit(name, who);
        for message in messages {
            if hit("kms-forget") {
                self.kms.forget_all();
            }
            let now = self.now();
            let spoil = || match () {
                () if hit("kms-deny-key") => Spoilt::Denied,
                () if hit("kms-revoked") => Spoilt::Revoked,
                () if hit("kms-moved") => Spoilt::Moved,
                () => Spoilt::Not,
            };
            let short =
                || if call.is_puppet() { None } else { faults.hit_value("kms-short-lived", who, 60_000) };
            let door = Door {
                refuse_unknown: faults.is_on("kms-refuse-unknown"),
                trusted: &|asker| self.trusts(asker),
                spoil: &spoil,
                ends: &|| Some(now.plus(Duration::from_millis(u64::try_from(short()?).unwrap_or(0)))),
            };
            let Reply::To { device, mut message } = self.kms.message(&message, now, &self.ctx.rng, &door)
            else {
                continue;
            };
            if hit("kms-drop") {
                continue;
            }
            if hit("kms-garble") {
                let last = if message.ends_with('A') { 'B' } else { 'A' };
                message.pop();
                message.push(last);
            }
            let delay = if call.is_puppet() { None } else { faults.hit_value("kms-delay", who, 3_000) };
            let delay = delay.unwrap_or(0);
            let delay = self.ctx.clock.scaled(Duration::from_millis(u64::try_from(delay).unwrap_or(0)));
            let data = Arc::new(json!({
                "eventType": "encryption.kms_message",
                "encryption": {"kmsMessages": [message]},
            }));
            // A refusal may name no device, and then goes to all of the asking person's; it never goes to somebody else.
            let mut ids = self.state().devices.of(&me.name);
            if let Some((_, named)) = device.rsplit_once("/devices/") {
                ids.retain(|id| id == named);
            }
            for id in ids {
                self.notify_device(&id, None, Arc::clone(&data), delay);
            }
        }
        Ok(Answer::json(StatusCode::ACCEPTED, &json!({})))
    }
}
