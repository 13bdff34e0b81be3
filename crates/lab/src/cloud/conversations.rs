//! Conversations: found, made, shown and listed. Of texts only ciphertext is kept.

use std::collections::{BTreeMap, BTreeSet};

use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use super::{Cloud, State};
use crate::{
    clock::Time,
    http::{Answer, Call, Handled},
    people::Person,
};

/// How many conversations a listing without a limit shows on one page.
const PAGE: usize = 100;
/// The tag of a conversation of two.
pub(crate) const DIRECT: &str = "ONE_ON_ONE";
/// The tag of a conversation that only moderators may change.
pub(crate) const LOCKED: &str = "LOCKED";
/// The tag, of one member, of a conversation that the member does not want to see until somebody writes.
pub(crate) const HIDDEN: &str = "HIDDEN";

/// One conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) id: String,
    /// The base path of the cluster that it lives in.
    base: &'static str,
    published: Time,
    /// Tags that all members see.
    pub(crate) tags: BTreeSet<String>,
    /// The sealed title.
    pub(crate) title: Option<String>,
    pub(crate) title_key: Option<String>,
    pub(crate) default_key: Option<String>,
    pub(crate) resource: Option<String>,
    /// By Webex id.
    pub(crate) members: BTreeMap<String, Member>,
    pub(crate) activities: Vec<Stored>,
}

/// One member of a conversation.
#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) moderator: bool,
    /// The last activity that the member has read, and when that was published.
    pub(crate) seen: Option<(String, Time)>,
    /// Tags that only this member sees.
    pub(crate) tags: BTreeSet<String>,
}

/// One activity, as it is kept.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) id: String,
    pub(crate) published: Time,
    /// From when on listings show it.
    pub(crate) visible: Time,
    pub(crate) json: Map<String, Value>,
}

impl Stored {
    pub(crate) fn verb(&self) -> &str {
        self.json.get("verb").and_then(Value::as_str).unwrap_or_default()
    }
}

/// All conversations.
#[derive(Debug, Default)]
pub(crate) struct Conversations {
    by_id: BTreeMap<String, Conversation>,
    direct: BTreeMap<(String, String), String>,
    of: BTreeMap<String, BTreeSet<String>>,
}

impl Conversations {
    /// The conversation, if that person is in it.
    pub(crate) fn of_member(&mut self, id: &str, person_id: &str) -> Option<&mut Conversation> {
        self.by_id.get_mut(id).filter(|conversation| conversation.members.contains_key(person_id))
    }

    /// All conversations that a person is in, by id.
    pub(crate) fn of_person(&self, person_id: &str) -> impl Iterator<Item = &Conversation> {
        self.of.get(person_id).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }

    fn direct(&self, one: &str, other: &str) -> Option<&Conversation> {
        self.direct.get(&pair(one, other)).and_then(|id| self.by_id.get(id))
    }

    /// Notes that a person is in a conversation now.
    pub(crate) fn joined(&mut self, id: &str, person_id: &str) {
        self.of.entry(person_id.to_owned()).or_default().insert(id.to_owned());
    }

    /// Notes that a person is in a conversation no longer.
    pub(crate) fn left(&mut self, id: &str, person_id: &str) {
        if let Some(ids) = self.of.get_mut(person_id) {
            ids.remove(id);
        }
    }
}

fn pair(one: &str, other: &str) -> (String, String) {
    let (low, high) = if one <= other { (one, other) } else { (other, one) };
    (low.to_owned(), high.to_owned())
}

/// What of a conversation is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    participants: bool,
    activities: usize,
}

impl Shown {
    /// Everybody in it, none of what was said.
    pub(crate) const MEMBERS: Self = Self { participants: true, activities: 0 };

    fn asked(call: &Call) -> Self {
        let participants = call.query.get("participantsLimit").is_none_or(|limit| limit != "0")
            && call.query.get("includeParticipants").is_none_or(|include| include == "true");
        let activities = call.number("activitiesLimit").and_then(|limit| usize::try_from(limit).ok());
        Self { participants, activities: activities.unwrap_or(0).min(1_000) }
    }
}

/// A person as conversations show one.
pub(crate) fn person_json(person: &Person) -> Value {
    json!({
        "id": person.person_id,
        "objectType": "person",
        "entryUUID": person.person_id,
        "entryEmail": person.mail,
        "emailAddress": person.mail,
        "displayName": person.display_name,
        "orgId": person.org_id,
        "type": if person.bot { "ROBOT" } else { "PERSON" },
    })
}

pub(crate) fn not_found() -> Answer {
    Answer::error(StatusCode::NOT_FOUND, 1_404_001, "Conversation not found.")
}

impl Cloud {
    /// The absolute address of a conversation.
    pub(crate) fn conversation_url(&self, conversation: &Conversation) -> String {
        format!("{}{}/conversations/{}", self.origin, conversation.base, conversation.id)
    }

    /// A conversation as the target of an activity.
    pub(crate) fn target_json(
        &self,
        conversation: &Conversation,
        viewer: &str,
        now: Time,
    ) -> Map<String, Value> {
        let member = conversation.members.get(viewer);
        let tags: BTreeSet<&String> =
            conversation.tags.iter().chain(member.iter().flat_map(|member| &member.tags)).collect();
        let last = |wanted: &dyn Fn(&Stored) -> bool| {
            let visible = |stored: &&Stored| stored.visible <= now && wanted(stored);
            conversation.activities.iter().rev().find(visible).map(|stored| stored.published.rfc3339())
        };
        let mut json = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(name.to_owned(), value);
            }
        };
        put("id", Some(conversation.id.clone().into()));
        put("objectType", Some("conversation".into()));
        put("url", Some(self.conversation_url(conversation).into()));
        put("published", Some(conversation.published.rfc3339().into()));
        put("tags", Some(json!(tags)));
        put("displayName", conversation.title.clone().map(Value::from));
        put("encryptionKeyUrl", conversation.title_key.clone().map(Value::from));
        put("defaultActivityEncryptionKeyUrl", conversation.default_key.clone().map(Value::from));
        put("kmsResourceObjectUrl", conversation.resource.clone().map(Value::from));
        put(
            "lastReadableActivityDate",
            last(&|stored| matches!(stored.verb(), "post" | "share")).map(Value::from),
        );
        put("lastRelevantActivityDate", last(&|_| true).map(Value::from));
        let seen = member.and_then(|member| member.seen.as_ref());
        put("lastSeenActivityDate", seen.map(|(_, when)| when.rfc3339().into()));
        put("participants", Some(json!({"items": []})));
        put("activities", Some(json!({"items": []})));
        json
    }

    /// A conversation as one of its members sees it.
    pub(crate) fn conversation_json(
        &self,
        conversation: &Conversation,
        viewer: &str,
        shown: Shown,
        now: Time,
    ) -> Map<String, Value> {
        let mut json = self.target_json(conversation, viewer, now);
        if shown.participants {
            let members = conversation.members.iter().filter_map(|(id, member)| {
                let mut json = person_json(&self.ctx.people.by_id(id)?);
                let mut room = json!({"isModerator": member.moderator});
                if let Some((activity, when)) = &member.seen {
                    room["lastSeenActivityUUID"] = activity.clone().into();
                    room["lastSeenActivityDate"] = when.rfc3339().into();
                }
                json["roomProperties"] = room;
                Some(json)
            });
            json.insert("participants".into(), json!({"items": members.collect::<Vec<_>>()}));
        }
        if shown.activities > 0 {
            let visible: Vec<&Stored> =
                conversation.activities.iter().filter(|stored| stored.visible <= now).collect();
            let first = visible.len().saturating_sub(shown.activities);
            let items: Vec<Value> = visible[first..]
                .iter()
                .map(|stored| self.listed(conversation, stored, viewer, now))
                .collect();
            json.insert("activities".into(), json!({"items": items}));
        }
        json
    }

    /// `GET /conversations/user/{other}`: the conversation of two people.
    pub(crate) fn find_direct(&self, call: &Call, other: &str) -> Handled {
        let me = self.caller(call)?;
        let state = self.state();
        let found = state.conversations.direct(&me.person_id, other).ok_or_else(not_found)?;
        let json = self.conversation_json(found, &me.person_id, Shown::asked(call), self.now());
        Ok(Answer::ok(&Value::Object(json)))
    }

    /// `GET /conversations/{id}`.
    pub(crate) fn conversation(&self, call: &Call, id: &str) -> Handled {
        let me = self.caller(call)?;
        let mut state = self.state();
        let found = state.conversations.of_member(id, &me.person_id).ok_or_else(not_found)?;
        let json = self.conversation_json(found, &me.person_id, Shown::asked(call), self.now());
        Ok(Answer::ok(&Value::Object(json)))
    }

    /// `GET /conversations`: what moved since a moment, newest first, page by page; this cluster's only.
    pub(crate) fn conversations(&self, call: &Call, base: &str) -> Handled {
        let me = self.caller(call)?;
        let now = self.now();
        let since = Time(call.number("sinceDate").unwrap_or(i64::MIN));
        let touched = |conversation: &Conversation| {
            let visible = conversation.activities.iter().rev().find(|stored| stored.visible <= now);
            visible.map(|stored| stored.published)
        };
        let state = self.state();
        let hidden = |conversation: &Conversation| {
            conversation.members.get(&me.person_id).is_some_and(|member| member.tags.contains(HIDDEN))
        };
        let mut others = false;
        let mut found: Vec<(Time, &Conversation)> = state
            .conversations
            .of_person(&me.person_id)
            .filter(|conversation| {
                others |= conversation.base != base;
                conversation.base == base && !hidden(conversation)
            })
            .filter_map(|conversation| Some((touched(conversation)?, conversation)))
            .filter(|(when, _)| *when >= since)
            .collect();
        found.sort_by(|(one, a), (other, b)| other.cmp(one).then_with(|| a.id.cmp(&b.id)));
        let number = |name: &str| call.number(name).and_then(|number| usize::try_from(number).ok());
        let limit = number("conversationsLimit").unwrap_or(PAGE).clamp(1, PAGE);
        let offset = number("offset").unwrap_or(0);
        let shown = Shown::asked(call);
        let items: Vec<Value> = found
            .iter()
            .skip(offset)
            .take(limit)
            .map(|(_, conversation)| self.conversation_json(conversation, &me.person_id, shown, now).into())
            .collect();
        let more = found.len() > offset + items.len();
        let mut body = json!({"items": items});
        if base == super::CONVERSATION && others {
            body["additionalUrls"] = json!([format!("{}{}", self.origin, super::SECOND_CLUSTER)]);
        }
        let answer = Answer::ok(&body);
        Ok(if more { answer.with(header::LINK, self.next_link(call, offset + limit)) } else { answer })
    }

    /// A `Link` header to the same address with another `offset`.
    pub(crate) fn next_link(&self, call: &Call, offset: usize) -> String {
        let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
        let mut parts: Vec<&str> =
            query.split('&').filter(|part| !part.is_empty() && !part.starts_with("offset=")).collect();
        let offset = format!("offset={offset}");
        parts.push(&offset);
        format!("<{}{path}?{}>; rel=\"next\"", self.origin, parts.join("&"))
    }

    /// `POST /conversations`: makes one, after the key service agreed.
    pub(crate) fn conversation_create(&self, call: &Call) -> Handled {
        let me = self.caller(call)?;
        let body: Value = call.json()?;
        let bad = |text: &str| Answer::error(StatusCode::BAD_REQUEST, 1_400_004, text);
        let tags: BTreeSet<String> = body["tags"].as_array().into_iter().flatten().filter_map(text).collect();
        let items = body["activities"]["items"].as_array().cloned().unwrap_or_default();
        let mut members = BTreeSet::from([me.person_id.clone()]);
        for item in items.iter().filter(|item| item["verb"] == "add") {
            let id = text(&item["object"]["id"]).or_else(|| text(&item["object"]["entryUUID"]));
            let person = id.and_then(|id| self.ctx.people.by_id(&id));
            members.insert(person.ok_or_else(|| bad("A participant is unknown."))?.person_id);
        }
        let direct = tags.contains(DIRECT);
        if direct && members.len() != 2 {
            return Err(bad("A conversation of two needs two participants."));
        }
        let now = self.now();
        if direct && let Some(there) = self.there_already(&self.state(), &me, &members, now) {
            return there;
        }
        let relayed = self.relay(&body, &me)?;
        let mut state = self.state();
        // Somebody may have been quicker while the key service was asked.
        if direct && let Some(there) = self.there_already(&state, &me, &members, now) {
            return there;
        }
        let (answer, events) = self.create(&mut state, &me, &body, tags, &members, relayed.as_ref(), now);
        drop(state);
        self.announce(events);
        let mut answer = answer;
        if let Some(relayed) = relayed {
            answer.insert("kmsMessage".into(), relayed.message.into());
        }
        self.acted(&me, call.header("cisco-device-url"));
        if let Some(post) = items.iter().find(|item| item["verb"] == "post" || item["verb"] == "share") {
            let id = answer.get("id").and_then(text).unwrap_or_default();
            self.store_activity(&me, None, &id, post.clone())?;
        }
        if !call.is_puppet() && self.ctx.faults.hit("create-lost-answer", Some(&me.name)) {
            return Err(Answer::cut());
        }
        Ok(Answer::json(StatusCode::CREATED, &Value::Object(answer)))
    }

    /// The answer to making a 1:1 that exists: it is shown, or said to be in the way.
    fn there_already(
        &self,
        state: &State,
        me: &Person,
        members: &BTreeSet<String>,
        now: Time,
    ) -> Option<Handled> {
        let (one, other) = (members.first()?, members.last()?);
        let found = state.conversations.direct(one, other)?;
        if self.ctx.faults.is_on("create-conflict") {
            let text = "The conversation exists already.";
            return Some(Err(Answer::error(StatusCode::CONFLICT, 1_409_001, text)));
        }
        let json = self.conversation_json(found, &me.person_id, Shown::MEMBERS, now);
        Some(Ok(Answer::ok(&Value::Object(json))))
    }

    #[expect(clippy::too_many_arguments, reason = "each is one part of the request, already judged")]
    fn create(
        &self,
        state: &mut State,
        me: &Person,
        body: &Value,
        tags: BTreeSet<String>,
        members: &BTreeSet<String>,
        relayed: Option<&crate::kms::Relayed>,
        now: Time,
    ) -> (Map<String, Value>, Vec<super::activities::Event>) {
        state.conversations_made += 1;
        let second = self.ctx.faults.is_on("second-cluster") && state.conversations_made.is_multiple_of(2);
        let id = self.ctx.rng.uuid();
        let locked = tags.contains(LOCKED);
        let mut conversation = Conversation {
            id: id.clone(),
            base: if second { super::SECOND_CLUSTER } else { super::CONVERSATION },
            published: now,
            tags,
            title: text(&body["displayName"]),
            title_key: text(&body["encryptionKeyUrl"]),
            default_key: text(&body["defaultActivityEncryptionKeyUrl"]),
            resource: relayed.and_then(|relayed| relayed.resource.clone()),
            members: BTreeMap::new(),
            activities: Vec::new(),
        };
        for member in members {
            let moderator = locked && *member == me.person_id;
            conversation.members.insert(member.clone(), Member { moderator, ..Member::default() });
            state.conversations.joined(&id, member);
        }
        if conversation.tags.contains(DIRECT) {
            let ids: Vec<&String> = members.iter().collect();
            state.conversations.direct.insert(pair(ids[0], ids[1]), id.clone());
        }
        let mut object = self.conversation_json(&conversation, &me.person_id, Shown::MEMBERS, now);
        // What was said and read comes later, and differs between members.
        object.remove("lastSeenActivityDate");
        let create = json!({
            "objectType": "activity",
            "verb": "create",
            "actor": person_json(me),
            "object": object,
        });
        let activity_id = self.ctx.rng.uuid();
        let mut json = match create {
            Value::Object(json) => json,
            _ => Map::new(),
        };
        json.insert("id".into(), activity_id.clone().into());
        json.insert("url".into(), self.activity_url(&conversation, &activity_id).into());
        json.insert("published".into(), now.rfc3339().into());
        json.insert("vectorCounters".into(), json!({"sourceDC": "lab", "counters": {"lab": 1}}));
        let events = vec![super::activities::Event::to_all(&conversation, &json)];
        conversation.activities.push(Stored { id: activity_id, published: now, visible: now, json });
        let answer = self.conversation_json(&conversation, &me.person_id, Shown::MEMBERS, now);
        state.conversations.by_id.insert(id, conversation);
        (answer, events)
    }
}

/// A JSON text.
pub(crate) fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
