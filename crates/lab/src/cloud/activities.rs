//! Activities: posted, checked, stored as ciphertext, told to everybody, listed.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::{
    Cloud,
    conversations::{Conversation, DIRECT, HIDDEN, LOCKED, Member, Stored, not_found, person_json, text},
};
use crate::{
    clock::Time,
    fault::Kind,
    http::{Answer, Call, Handled},
    kms::Relayed,
    people::Person,
};

/// How late listings may show what was posted, scaled.
const LATE_LISTING: Duration = Duration::from_secs(2);
/// How late after its arrival a POST that nobody waits for any more may be stored, scaled.
const LATE_POST: Duration = Duration::from_secs(20);
/// How long posting takes at most, scaled.
const WORK: Duration = Duration::from_millis(50);
/// How long a stalled request is kept waiting for its answer.
pub(crate) const STALL: Duration = Duration::from_secs(600);

/// What is unkind about posting and listing.
pub(crate) const FAULTS: &[Kind] = &[
    Kind {
        name: "no-dedup",
        explanation: "A repeated `clientTempId` makes a second activity.",
        unkind: true,
    },
    Kind { name: "no-temp-id", explanation: "Listings leave `clientTempId` out.", unkind: true },
    Kind {
        name: "late-listing",
        explanation: "Listings show an activity up to 2 scaled seconds after it was stored.",
        unkind: true,
    },
    Kind {
        name: "late-post",
        explanation: "A POST of an activity that its sender gave up on, or that ended in a 5xx, may be stored up to 20 scaled seconds after it arrived.",
        unkind: true,
    },
    Kind {
        name: "posting-is-activity",
        explanation: "Posting as a person counts as that person's activity.",
        unkind: true,
    },
    Kind {
        name: "create-conflict",
        explanation: "Making a 1:1 that exists is refused with 409 in place of showing it.",
        unkind: false,
    },
    Kind {
        name: "second-cluster",
        explanation: "Every second new conversation lives in another cluster, which has its own listing.",
        unkind: false,
    },
    Kind {
        name: "newest-first",
        explanation: "Pages of activities come newest first even if asked otherwise.",
        unkind: false,
    },
    Kind {
        name: "create-lost-answer",
        explanation: "A conversation is made, and the connection is cut before the answer.",
        unkind: false,
    },
    Kind {
        name: "post-lost-answer",
        explanation: "An activity is stored, and the connection is cut before the answer.",
        unkind: false,
    },
    Kind {
        name: "post-rotate-1400087",
        explanation: "The conversation's key is rotated, and the POST is refused: key rotation required.",
        unkind: false,
    },
    Kind {
        name: "post-rotate-1409004",
        explanation: "The conversation's key is rotated, and the POST is refused: key already rotated.",
        unkind: false,
    },
    Kind {
        name: "post-kms-refused",
        explanation: "A call with a message for the key service is refused with errorCode 1900000 and the key service's own refusal, sealed for the asking device.",
        unkind: false,
    },
];

/// Something to tell members of a conversation once the state is unlocked.
#[derive(Debug)]
pub(crate) struct Event {
    conversation: String,
    /// Webex ids.
    to: Vec<String>,
    data: Arc<Value>,
}

impl Event {
    /// An activity, to every member.
    pub(crate) fn to_all(conversation: &Conversation, activity: &Map<String, Value>) -> Self {
        Self {
            conversation: conversation.id.clone(),
            to: conversation.members.keys().cloned().collect(),
            data: Arc::new(json!({"eventType": "conversation.activity", "activity": activity})),
        }
    }
}

fn bad(text: &str) -> Answer {
    Answer::error(StatusCode::BAD_REQUEST, 1_400_005, text)
}

/// Whether a text is a compact JWE of the form that conversations keep.
fn is_sealed(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let header = parts.first().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let header = header.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    parts.len() == 5 && header.is_some_and(|header| header["enc"] == "A256GCM" && header["alg"].is_string())
}

/// Refuses an object with a text that is not sealed.
fn check_sealed(object: &Value) -> Result<(), Answer> {
    let files = object["files"]["items"].as_array().into_iter().flatten();
    let texts = [&object["displayName"], &object["content"]].into_iter();
    let texts =
        texts.chain(files.flat_map(|file| [&file["displayName"], &file["scr"], &file["image"]["scr"]]));
    for text in texts {
        if text.as_str().is_some_and(|text| !is_sealed(text)) {
            return Err(bad("This conversation keeps only sealed texts."));
        }
    }
    Ok(())
}

impl Cloud {
    pub(crate) fn activity_url(&self, conversation: &Conversation, id: &str) -> String {
        let conversation = self.conversation_url(conversation);
        let base = conversation.split("/conversations/").next().unwrap_or_default();
        format!("{base}/activities/{id}")
    }

    /// Tells everybody what happened.
    pub(crate) fn announce(&self, events: Vec<Event>) {
        for event in events {
            for id in &event.to {
                if let Some(person) = self.ctx.people.by_id(id) {
                    self.notify(&person.name, Some(&event.conversation), &event.data);
                }
            }
        }
    }

    /// Passes a `kmsMessage` on to the key service; a refusal there is a refusal here.
    pub(crate) fn relay(&self, body: &Value, me: &Person) -> Result<Option<Relayed>, Answer> {
        let Some(message) = body["kmsMessage"].as_str() else { return Ok(None) };
        let refused = |text: &str| Answer::error(StatusCode::BAD_REQUEST, 1_900_000, text);
        let denied = self.ctx.faults.hit("post-kms-refused", Some(&me.name));
        let now = self.now();
        let trusted = |asker: &_| !denied && self.trusts(asker);
        match self.kms.relay(message, now, &self.ctx.rng, &trusted) {
            Some(relayed) if relayed.status < 400 => Ok(Some(relayed)),
            Some(relayed) => Err(refused(&relayed.message)),
            None => Err(refused("The message for the key service was not understood.")),
        }
    }

    /// `POST /conversations/{id}/activities` and `/content`. It goes on when the sender is gone, as a cloud's would.
    pub(crate) async fn activity_post(self: &Arc<Self>, call: &Call, conversation: &str) -> Handled {
        let me = self.caller(call)?;
        let mut body: Value = call.json()?;
        let faults = &self.ctx.faults;
        if !call.is_puppet()
            && let Some(answer) = self.spoiled("post", Some(&me.name))
        {
            let answer = answer.await;
            if answer.status.is_server_error() && faults.is_on("late-post") && self.ctx.rng.below(2) == 0 {
                self.store_late(&me, call, conversation, body);
            }
            return Err(answer);
        }
        let (done, stored) = oneshot::channel();
        let cloud = Arc::clone(self);
        let device = call.header("cisco-device-url").map(str::to_owned);
        let hit = |name| !call.is_puppet() && faults.hit(name, Some(&me.name));
        let (stalled, lost) = (hit("post-stall"), hit("post-lost-answer"));
        let rotated = if call.is_puppet() { None } else { self.rotated(&me, conversation, &body) };
        if let Some(refusal) = rotated {
            return Err(refusal);
        }
        let conversation = conversation.to_owned();
        let held = self.ctx.idle.hold();
        self.ctx.spawn(async move {
            let _held = held;
            let late = cloud.ctx.faults.is_on("late-post");
            if late {
                cloud.ctx.clock.sleep(cloud.ctx.rng.duration_below(cloud.ctx.clock.scaled(WORK))).await;
                // Nobody waits for this answer any more: now the cloud may take its time.
                if stalled || done.is_closed() {
                    let wait = cloud.ctx.rng.duration_below(cloud.ctx.clock.scaled(LATE_POST));
                    cloud.ctx.clock.sleep(wait).await;
                }
            }
            let answer = cloud.store_activity(&me, device.as_deref(), &conversation, body.take());
            // A sender who is gone learns it from a listing, or never.
            let _ = done.send(answer);
        });
        if stalled {
            self.ctx.clock.sleep(STALL).await;
            return Err(Answer::cut());
        }
        match stored.await {
            Ok(_) if lost => Err(Answer::cut()),
            Ok(answer) => answer,
            Err(_) => Err(Answer::cut()),
        }
    }

    fn store_late(self: &Arc<Self>, me: &Person, call: &Call, conversation: &str, body: Value) {
        let (cloud, me, conversation) = (Arc::clone(self), me.clone(), conversation.to_owned());
        let device = call.header("cisco-device-url").map(str::to_owned);
        let held = self.ctx.idle.hold();
        self.ctx.spawn(async move {
            let _held = held;
            let wait = cloud.ctx.rng.duration_below(cloud.ctx.clock.scaled(LATE_POST));
            cloud.ctx.clock.sleep(wait).await;
            // There is nobody to tell.
            let _ = cloud.store_activity(&me, device.as_deref(), &conversation, body);
        });
    }

    /// Checks one activity, stores it, does what it says, and tells everybody.
    pub(crate) fn store_activity(
        &self,
        me: &Person,
        device: Option<&str>,
        conversation: &str,
        body: Value,
    ) -> Handled {
        let verb = text(&body["verb"]).ok_or_else(|| bad("The activity has no verb."))?;
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        // The key service is asked only for who is in the conversation.
        self.state().conversations.of_member(conversation, &me.person_id).ok_or_else(not_found)?;
        let relayed = self.relay(&body, me)?;
        let mut events = Vec::new();
        let answer = {
            let mut state = self.state();
            let found = state.conversations.of_member(conversation, &me.person_id).ok_or_else(not_found)?;
            if !self.ctx.faults.is_on("no-dedup")
                && let Some(stored) = repeated(found, &body, me)
            {
                return Ok(Answer::ok(&Value::Object(stored.json.clone())));
            }
            let moved = self.apply(found, me, &verb, &body, relayed.as_ref())?;
            let json = self.activity_json(found, me, &verb, &body, now);
            let id = json.get("id").and_then(text).unwrap_or_default();
            events.push(Event::to_all(found, &json));
            if matches!(verb.as_str(), "post" | "share") {
                self.ctx.mails.invite(&self.ctx.people, me, found.members.keys());
            }
            for left in &moved.left {
                found.members.remove(left);
            }
            if verb != "acknowledge" {
                let late = self.ctx.faults.is_on("late-listing");
                let wait = if late { self.ctx.clock.scaled(LATE_LISTING) } else { Duration::ZERO };
                let visible = now.plus(self.ctx.rng.duration_below(wait));
                found.activities.push(Stored { id, published: now, visible, json: json.clone() });
                self.hold_until(visible, now);
            }
            for left in &moved.left {
                state.conversations.left(conversation, left);
            }
            for joined in &moved.joined {
                state.conversations.joined(conversation, joined);
            }
            let mut answer = json;
            if let Some(relayed) = relayed {
                answer.insert("kmsMessage".into(), relayed.message.into());
            }
            answer
        };
        self.announce(events);
        self.acted(me, device);
        Ok(Answer::ok(&Value::Object(answer)))
    }

    /// What is not in listings yet is not delivered yet.
    fn hold_until(&self, visible: Time, now: Time) {
        if visible > now {
            let (held, clock) = (self.ctx.idle.hold(), self.ctx.clock.clone());
            let visible = self.unskewed(visible);
            self.ctx.spawn(async move {
                clock.sleep_until(visible).await;
                drop(held);
            });
        }
    }

    /// Rotates the conversation's key where a fault asks for it, and refuses the post as the cloud would.
    fn rotated(&self, me: &Person, conversation: &str, body: &Value) -> Option<Answer> {
        if body["verb"] != "post" && body["verb"] != "share" {
            return None;
        }
        let now = self.now();
        let key = body["encryptionKeyUrl"].as_str().unwrap_or_default();
        let required =
            self.kms.has_ended(key, now) || self.ctx.faults.hit("post-rotate-1400087", Some(&me.name));
        if !required && !self.ctx.faults.hit("post-rotate-1409004", Some(&me.name)) {
            return None;
        }
        let mut state = self.state();
        let found = state.conversations.of_member(conversation, &me.person_id)?;
        found.default_key = Some(self.kms.rotate(found.resource.as_deref()?, now, &self.ctx.rng)?);
        Some(if required {
            Answer::error(StatusCode::BAD_REQUEST, 1_400_087, "Key rotation is required.")
        } else {
            Answer::error(StatusCode::CONFLICT, 1_409_004, "The key was rotated already.")
        })
    }

    /// What an activity does to its conversation, after it was found allowed.
    fn apply(
        &self,
        found: &mut Conversation,
        me: &Person,
        verb: &str,
        body: &Value,
        relayed: Option<&Relayed>,
    ) -> Result<Moved, Answer> {
        let object = &body["object"];
        let object_id = object["id"].as_str().unwrap_or_default();
        let moderates = found.members.get(&me.person_id).is_some_and(|member| member.moderator);
        let locked = found.tags.contains(LOCKED) && !moderates;
        let forbidden = || Answer::error(StatusCode::FORBIDDEN, 1_403_001, "Only a moderator may do that.");
        let mut moved = Moved::default();
        match verb {
            "post" | "share" => {
                check_sealed(object)?;
                let key = body["encryptionKeyUrl"].as_str().or(object["encryptionKeyUrl"].as_str());
                let key = key.ok_or_else(|| bad("The activity names no key."))?;
                let bound =
                    found.resource.as_deref().is_some_and(|resource| self.kms.is_bound(key, resource));
                if found.resource.is_some() && !bound {
                    return Err(Answer::error(
                        StatusCode::BAD_REQUEST,
                        1_400_049,
                        "The key is not one of this conversation.",
                    ));
                }
                if body["parent"]["type"] == "edit" {
                    let original = body["parent"]["id"].as_str().unwrap_or_default();
                    self.replace(found, me, original)?;
                }
                for member in found.members.values_mut() {
                    member.tags.remove(HIDDEN);
                }
                // Whoever writes has read what is above.
                let seen = found.activities.last().map(|last| (last.id.clone(), last.published));
                if let Some(member) = found.members.get_mut(&me.person_id) {
                    member.advance(seen);
                }
            }
            "acknowledge" => {
                let read = found.activities.iter().find(|stored| stored.id == object_id);
                let read = read.ok_or_else(|| bad("The activity that was read is unknown."))?;
                let seen = Some((read.id.clone(), read.published));
                if let Some(member) = found.members.get_mut(&me.person_id) {
                    member.advance(seen);
                }
            }
            "delete" => self.replace(found, me, object_id)?,
            "update" => {
                if locked {
                    return Err(forbidden());
                }
                check_sealed(object)?;
                found.title = text(&object["displayName"]);
                found.title_key =
                    text(&object["encryptionKeyUrl"]).or_else(|| text(&body["encryptionKeyUrl"]));
            }
            "updateKey" => {
                let key = text(&object["defaultActivityEncryptionKeyUrl"]);
                found.default_key = Some(key.ok_or_else(|| bad("The activity names no key."))?);
                if let Some(resource) = relayed.and_then(|relayed| relayed.resource.clone()) {
                    found.resource = Some(resource);
                }
            }
            "add" if object["objectType"] == "person" => {
                let person = self.ctx.people.by_id(object_id).ok_or_else(|| bad("The person is unknown."))?;
                if locked || found.tags.contains(DIRECT) {
                    return Err(forbidden());
                }
                found.members.entry(person.person_id.clone()).or_default();
                moved.joined.push(person.person_id);
            }
            "leave" => {
                if (locked && object_id != me.person_id) || found.tags.contains(DIRECT) {
                    return Err(forbidden());
                }
                if !found.members.contains_key(object_id) {
                    return Err(bad("The person is not in the conversation."));
                }
                moved.left.push(object_id.to_owned());
            }
            "lock" | "unlock" => {
                if !found.tags.contains(LOCKED) || moderates {
                    if verb == "lock" {
                        found.tags.insert(LOCKED.to_owned());
                    } else {
                        found.tags.remove(LOCKED);
                    }
                    if let Some(member) = found.members.get_mut(&me.person_id) {
                        member.moderator = verb == "lock";
                    }
                } else {
                    return Err(forbidden());
                }
            }
            "assignModerator" | "unassignModerator" => {
                if locked {
                    return Err(forbidden());
                }
                let member = found.members.get_mut(object_id);
                member.ok_or_else(|| bad("The person is not in the conversation."))?.moderator =
                    verb == "assignModerator";
            }
            "hide" | "unhide" | "favorite" | "unfavorite" | "mute" | "unmute" | "tag" | "untag" => {
                let named = object["tags"].as_array().into_iter().flatten().filter_map(text);
                if let Some(member) = found.members.get_mut(&me.person_id) {
                    member.retag(verb, named);
                }
            }
            // Reactions, card actions and what else there is are kept as they came.
            _ => check_sealed(object)?,
        }
        Ok(moved)
    }

    /// Empties an activity and the edits that replaced it; only its author may, or a moderator.
    fn replace(&self, found: &mut Conversation, me: &Person, id: &str) -> Result<(), Answer> {
        let moderates = found.members.get(&me.person_id).is_some_and(|member| member.moderator);
        let target = found.activities.iter().find(|stored| stored.id == id);
        let target = target.ok_or_else(|| bad("The activity is unknown."))?;
        if target.json["actor"]["id"] != me.person_id.as_str() && !moderates {
            return Err(Answer::error(StatusCode::FORBIDDEN, 1_403_002, "The activity is somebody else's."));
        }
        for stored in &mut found.activities {
            let edit = stored
                .json
                .get("parent")
                .is_some_and(|parent| parent["id"] == id && parent["type"] == "edit");
            if stored.id == id || edit {
                stored.bury();
            }
        }
        Ok(())
    }

    /// The activity as it is stored and told.
    fn activity_json(
        &self,
        found: &Conversation,
        me: &Person,
        verb: &str,
        body: &Value,
        now: Time,
    ) -> Map<String, Value> {
        let id = self.ctx.rng.uuid();
        let mut object = body["object"].clone();
        match verb {
            "add" | "leave" | "assignModerator" | "unassignModerator" if object["objectType"] == "person" => {
                let person = object["id"].as_str().and_then(|id| self.ctx.people.by_id(id));
                if let Some(person) = person {
                    object = person_json(&person);
                }
            }
            "delete" => object["verb"] = "tombstone".into(),
            _ if object["objectType"] == "conversation" => {
                object["activities"] = json!({"items": []});
                object["participants"] = json!({"items": []});
            }
            _ => {}
        }
        let mut json = Map::new();
        json.insert("id".into(), id.clone().into());
        json.insert("objectType".into(), "activity".into());
        json.insert("url".into(), self.activity_url(found, &id).into());
        json.insert("verb".into(), verb.into());
        json.insert("published".into(), now.rfc3339().into());
        json.insert("actor".into(), person_json(me));
        json.insert("object".into(), object);
        json.insert("target".into(), self.target_json(found, "", now).into());
        for name in ["clientTempId", "encryptionKeyUrl", "parent"] {
            if !body[name].is_null() {
                json.insert(name.into(), body[name].clone());
            }
        }
        let counter = found.activities.len() + 1;
        json.insert("vectorCounters".into(), json!({"sourceDC": "lab", "counters": {"lab": counter}}));
        json
    }

    /// `POST /conversations/{id}/status/typing`: told to the others, and to nobody's other devices.
    pub(crate) fn typing(&self, call: &Call, id: &str) -> Handled {
        let me = self.caller(call)?;
        let body: Value = call.json()?;
        let event = body["eventType"].as_str().unwrap_or_default();
        if event != "status.start_typing" && event != "status.stop_typing" {
            return Err(bad("The event type is not one of typing."));
        }
        let others: Vec<String> = {
            let mut state = self.state();
            let found = state.conversations.of_member(id, &me.person_id).ok_or_else(not_found)?;
            found.members.keys().filter(|member| **member != me.person_id).cloned().collect()
        };
        let data = Arc::new(json!({"eventType": event, "actor": person_json(&me), "conversationId": id}));
        for other in others.iter().filter_map(|other| self.ctx.people.by_id(other)) {
            self.notify(&other.name, None, &data);
        }
        Ok(Answer::empty(StatusCode::NO_CONTENT))
    }

    /// Somebody did something with a token: that counts as activity, where the cloud is so unkind.
    pub(crate) fn acted(&self, me: &Person, device: Option<&str>) {
        if self.ctx.faults.is_on("posting-is-activity") && !me.bot {
            self.active(me, device);
        }
    }
}

/// Who came and who went.
#[derive(Debug, Default)]
struct Moved {
    joined: Vec<String>,
    left: Vec<String>,
}

impl Member {
    /// Read state moves forward only.
    fn advance(&mut self, seen: Option<(String, Time)>) {
        let Some(seen) = seen else { return };
        if self.seen.as_ref().is_none_or(|(_, before)| *before <= seen.1) {
            self.seen = Some(seen);
        }
    }

    fn retag(&mut self, verb: &str, named: impl Iterator<Item = String>) {
        let tag = match verb {
            "hide" | "unhide" => Some(HIDDEN),
            "favorite" | "unfavorite" => Some("FAVORITE"),
            "mute" | "unmute" => Some("MUTED"),
            _ => None,
        };
        let tags = tag.map(str::to_owned).into_iter().chain(named.filter(|_| tag.is_none()));
        for tag in tags {
            if verb.starts_with("un") {
                self.tags.remove(&tag);
            } else {
                self.tags.insert(tag);
            }
        }
    }
}

impl Stored {
    /// Turns an activity into a tombstone: the content is gone, who and when stay.
    fn bury(&mut self) {
        self.json.insert("verb".into(), "tombstone".into());
        self.json.insert("object".into(), json!({"objectType": "activity", "id": self.id}));
        self.json.remove("encryptionKeyUrl");
    }
}

/// The activity of the same author with the same `clientTempId`, stored before.
fn repeated<'a>(found: &'a Conversation, body: &Value, me: &Person) -> Option<&'a Stored> {
    let temporary = body["clientTempId"].as_str()?;
    found.activities.iter().rev().find(|stored| {
        stored.json.get("clientTempId").and_then(Value::as_str) == Some(temporary)
            && stored.json["actor"]["id"] == me.person_id.as_str()
    })
}
