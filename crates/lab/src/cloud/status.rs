//! Presence: composed, listed, subscribed to, told when it changes, and expiring.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Cloud, conversations::text};
use crate::{
    clock::Time,
    http::{Answer, Call, Handled},
    people::Person,
};

/// Who was active this lately is active. Not scaled: presence borders are not.
const ACTIVE: Duration = Duration::from_secs(600);
/// How far the last activity must move before subscribers are told without a change of status.
const RESOLUTION: Duration = Duration::from_secs(60);
/// The cloud's word for it.
const OUT_OF_OFFICE: &str = "ooo";
/// How long a subscription lasts if nobody says.
const SUBSCRIPTION: Duration = Duration::from_secs(600);
/// How many people one request may name.
const SUBJECTS: usize = 50;

/// What is known beyond the roster.
#[derive(Debug, Default)]
pub(crate) struct Statuses {
    /// Subscribers of each subject, by short names, and until when.
    subscribers: BTreeMap<String, BTreeMap<String, Time>>,
    /// What subscribers were told last of each subject.
    told: BTreeMap<String, (String, Option<Time>)>,
    /// When a status that was set with a time to live ends.
    expiries: BTreeMap<String, Time>,
    /// The device that last acted, by short name of its owner.
    last_seen: BTreeMap<String, String>,
    since: BTreeMap<String, (String, Time)>,
}

/// The composed status of a person: a hidden one is `unknown`, whatever it does. Only the calendar says that somebody is out
/// of office, and whoever uses Webex meanwhile is active.
fn composed(person: &Person, now: Time) -> &str {
    let absence = person.absence.filter(|(from, until)| person.calendar && *from <= now && now < *until);
    let counts = |active: Time| absence.is_none_or(|(from, _)| active > from);
    match (&person.status, person.last_active) {
        _ if person.pending => "pending",
        _ if person.hidden => "unknown",
        (Some(status), _) => status,
        (None, Some(last)) if now.since(last) <= ACTIVE && counts(last) => "active",
        (None, _) if absence.is_some() => OUT_OF_OFFICE,
        (None, _) => "inactive",
    }
}

fn bad(text: &str) -> Answer {
    Answer::error(StatusCode::BAD_REQUEST, 1_400_006, text)
}

impl Cloud {
    /// A status object.
    fn status_json(&self, person: &Person, now: Time) -> Value {
        let status = composed(person, now).to_owned();
        let mut state = self.state();
        let statuses = &mut state.statuses;
        let since = statuses.since.entry(person.name.clone()).or_insert_with(|| (status.clone(), now));
        if since.0 != status {
            *since = (status.clone(), now);
        }
        let mut json = Map::new();
        json.insert(
            "url".into(),
            format!("{}/apheleia/api/v1/compositions?userId={}", self.origin, person.person_id).into(),
        );
        json.insert("subject".into(), person.person_id.clone().into());
        json.insert("statusTime".into(), since.1.rfc3339().into());
        json.insert("status".into(), status.into());
        json.insert("vectorCounters".into(), json!({"sourceDC": "lab", "counters": {"lab": now.0}}));
        json.insert("suppressNotifications".into(), false.into());
        if !person.hidden
            && let Some(last) = person.last_active
        {
            json.insert("lastActive".into(), last.rfc3339().into());
            if let Some(device) = statuses.last_seen.get(&person.name) {
                json.insert("lastSeenDeviceUrl".into(), device.clone().into());
            }
        }
        let expires = statuses.expiries.get(&person.name);
        let ttl =
            expires.map_or(-1, |expires| i64::try_from(expires.since(now).as_secs()).unwrap_or(i64::MAX));
        json.insert("expiresTTL".into(), ttl.into());
        if let Some(expires) = expires {
            json.insert("expiresTime".into(), expires.rfc3339().into());
        }
        Value::Object(json)
    }

    /// Somebody used Webex, with that device.
    pub(crate) fn active(&self, me: &Person, device: Option<&str>) {
        let now = self.now();
        {
            let mut state = self.state();
            let seen = &mut state.statuses.last_seen;
            match device {
                Some(device) => seen.insert(me.name.clone(), device.to_owned()),
                None => seen.remove(&me.name),
            };
        }
        // Whoever has a token is in the roster.
        let _ = self.ctx.people.update(&me.name, |person| person.last_active = Some(now));
    }

    /// Tells the subscribers of a person, if there is news.
    pub(crate) fn person_changed(&self, person: &Person) {
        let now = self.now();
        let status = composed(person, now).to_owned();
        let last = if person.hidden { None } else { person.last_active };
        let subscribers: Vec<String> = {
            let mut state = self.state();
            let statuses = &mut state.statuses;
            let told = statuses.told.get(&person.name);
            let news = told.is_none_or(|(told, before)| {
                let moved = match (before, last) {
                    (Some(before), Some(last)) => last.since(*before) >= RESOLUTION || last < *before,
                    (before, last) => *before != last,
                };
                *told != status || moved
            });
            if !news {
                // What the calendar says may be for later.
                if person.absence.is_some() {
                    self.status_moved.notify_one();
                }
                return;
            }
            let Some(subscribers) = statuses.subscribers.get(&person.name) else { return };
            let names =
                subscribers.iter().filter(|(_, until)| **until > now).map(|(name, _)| name.clone()).collect();
            statuses.told.insert(person.name.clone(), (status, last));
            names
        };
        let mut data = self.status_json(person, now);
        data["eventType"] = "apheleia.subscription_update".into();
        let data = Arc::new(data);
        for name in subscribers {
            self.notify(&name, None, &data);
        }
        self.status_moved.notify_one();
    }

    /// The person that a request names by id.
    fn subject(&self, id: Option<&str>) -> Result<Person, Answer> {
        let unknown = || Answer::error(StatusCode::NOT_FOUND, 1_404_003, "The person is unknown.");
        id.and_then(|id| self.ctx.people.by_id(id)).ok_or_else(unknown)
    }

    fn subjects(&self, body: &Value) -> Result<Vec<String>, Answer> {
        let subjects: Vec<String> =
            body["subjects"].as_array().into_iter().flatten().filter_map(text).collect();
        if subjects.len() > SUBJECTS { Err(bad("At most 50 subjects can be named.")) } else { Ok(subjects) }
    }

    /// `GET /compositions?userId=` and `POST /compositions`.
    pub(crate) fn compositions(&self, call: &Call) -> Handled {
        self.caller(call)?;
        let now = self.now();
        if call.method == http::Method::GET {
            let person = self.subject(call.query.get("userId").map(String::as_str))?;
            return Ok(Answer::ok(&self.status_json(&person, now)));
        }
        let list: Vec<Value> = self
            .subjects(&call.json()?)?
            .iter()
            .map(|id| match self.ctx.people.by_id(id) {
                Some(person) => self.status_json(&person, now),
                None => json!({"subject": id, "status": "unknown"}),
            })
            .collect();
        Ok(Answer::ok(&json!({"statusList": list})))
    }

    /// `POST /subscriptions`; a time to live of 0 ends them.
    pub(crate) fn subscriptions(&self, call: &Call) -> Handled {
        let me = self.caller(call)?;
        let body: Value = call.json()?;
        let ttl = body["subscriptionTtl"].as_u64().map_or(SUBSCRIPTION, Duration::from_secs);
        let status = body["includeStatus"].as_bool().unwrap_or(false);
        let now = self.now();
        let mut responses = Vec::new();
        for id in self.subjects(&body)? {
            let Some(person) = self.ctx.people.by_id(&id) else {
                responses.push(json!({"subject": id, "responseCode": 404, "subscriptionTtl": 0}));
                continue;
            };
            {
                let mut state = self.state();
                let statuses = &mut state.statuses;
                let subscribers = statuses.subscribers.entry(person.name.clone()).or_default();
                if ttl.is_zero() {
                    subscribers.remove(&me.name);
                } else {
                    subscribers.insert(me.name.clone(), now.plus(ttl));
                }
                let last = if person.hidden { None } else { person.last_active };
                statuses.told.insert(person.name.clone(), (composed(&person, now).to_owned(), last));
            }
            let mut response = json!({"subject": id, "responseCode": 200, "subscriptionTtl": ttl.as_secs()});
            if status {
                response["status"] = self.status_json(&person, now);
            }
            responses.push(response);
        }
        self.status_moved.notify_one();
        Ok(Answer::ok(&json!({"responses": responses})))
    }

    /// `POST /events`: somebody says how it is.
    pub(crate) fn status_event(&self, call: &Call) -> Handled {
        let me = self.caller(call)?;
        let body: Value = call.json()?;
        if body["subject"].as_str() != Some(&me.person_id) {
            return Err(Answer::error(StatusCode::FORBIDDEN, 1_403_003, "Only the own status can be set."));
        }
        let event = text(&body["eventType"]).ok_or_else(|| bad("The event has no type."))?;
        if event == OUT_OF_OFFICE {
            return Err(bad("Only a calendar says that somebody is out of office."));
        }
        let now = self.now();
        let until = body["ttl"].as_u64().filter(|ttl| *ttl > 0).map(|ttl| now.plus(Duration::from_secs(ttl)));
        let set = !matches!(event.as_str(), "active" | "inactive" | "clear");
        {
            let mut state = self.state();
            match until {
                Some(until) if set => state.statuses.expiries.insert(me.name.clone(), until),
                _ => state.statuses.expiries.remove(&me.name),
            };
        }
        if event == "active" {
            self.active(&me, call.header("cisco-device-url"));
        }
        // Whoever has a token is in the roster.
        let _ = self.ctx.people.update(&me.name, |person| person.status = set.then(|| event.clone()));
        self.status_moved.notify_one();
        Ok(Answer::ok(
            &json!({"subject": me.person_id, "eventType": event, "ttl": body["ttl"], "label": body["label"]}),
        ))
    }
}

/// Ends what expires and tells what time alone changes, as long as the cloud lives.
pub(crate) async fn watch(cloud: Weak<Cloud>) {
    loop {
        let Some(strong) = cloud.upgrade() else { return };
        let (expired, changed, next) = strong.due(strong.now());
        for name in expired {
            // The names come from the roster.
            let _ = strong.ctx.people.update(&name, |person| person.status = None);
        }
        for person in changed {
            strong.person_changed(&person);
        }
        match next {
            Some(next) => tokio::select! {
                biased;
                () = strong.status_moved.notified() => {}
                () = strong.sleep_until(next) => {}
            },
            None => strong.status_moved.notified().await,
        }
    }
}

impl Cloud {
    /// Whose status has expired, who is watched and other than told, and when to look again.
    fn due(&self, now: Time) -> (Vec<String>, Vec<Person>, Option<Time>) {
        let mut state = self.state();
        let statuses = &mut state.statuses;
        let expired: Vec<String> = statuses
            .expiries
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &expired {
            statuses.expiries.remove(name);
        }
        let mut next = statuses.expiries.values().min().copied();
        let mut changed = Vec::new();
        for (name, subscribers) in &mut statuses.subscribers {
            subscribers.retain(|_, until| *until > now);
            if subscribers.is_empty() {
                continue;
            }
            let Some(person) = self.ctx.people.by_name(name) else { continue };
            let border =
                person.last_active.map(|last| Time(last.plus(ACTIVE).0 + 1)).filter(|border| *border > now);
            let absence = person.absence.filter(|_| person.calendar).map(|(from, until)| [from, until]);
            let absence = absence.into_iter().flatten().filter(|border| *border > now).min();
            next = [next, border, absence, subscribers.values().min().copied()].into_iter().flatten().min();
            if statuses.told.get(name).is_some_and(|(told, _)| told != composed(&person, now)) {
                changed.push(person);
            }
        }
        (expired, changed, next)
    }
}
