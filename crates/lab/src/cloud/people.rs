//! People as the conversation service and the public API show them, and their toggles.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use super::{Cloud, conversations::text, tokens::Bearer};
use crate::{
    http::{Answer, Call, Handled},
    people::{LICENSE_ID, ORG_ID, Person},
};

/// The licence that everybody in the organization has.
const BASIC: &str = "lab-license-basic";
/// How many addresses one lookup may have.
const LOOKUPS: usize = 100;
/// How many people one page may have, and how many it has if nobody says.
const PAGE: usize = 100;

/// A public id.
fn public(kind: &str, id: &str) -> String {
    STANDARD_NO_PAD.encode(format!("ciscospark://us/{kind}/{id}"))
}

/// The UUID in a public id; a bare UUID is taken as it is.
fn private(id: &str) -> String {
    let decoded =
        STANDARD_NO_PAD.decode(id.trim_end_matches('=')).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.as_deref().and_then(|text| text.rsplit_once('/')).map_or(id, |(_, id)| id).to_owned()
}

impl Cloud {
    fn public_person(&self, person: &Person, admin: bool) -> Value {
        let mut names = person.display_name.split(' ');
        let mut json = json!({
            "id": public("PEOPLE", &person.person_id),
            "emails": [person.mail],
            "displayName": person.display_name,
            "nickName": person.name,
            "firstName": names.next(),
            "lastName": names.next(),
            "orgId": public("ORGANIZATION", &person.org_id),
            "created": "2024-01-01T00:00:00.000Z",
            "lastModified": "2024-01-01T00:00:00.000Z",
            "type": if person.bot { "bot" } else { "person" },
        });
        if admin {
            let mut licenses = vec![BASIC];
            if person.enabled {
                licenses.push(LICENSE_ID);
            }
            json["licenses"] = json!(licenses);
            json["roles"] = json!([]);
            json["loginEnabled"] = true.into();
            json["invitePending"] = person.pending.into();
        }
        json
    }

    /// `GET /v1/people`: pages of an administrator's own organization, or a few by id or address.
    pub(crate) fn people(&self, call: &Call) -> Handled {
        let bearer = self.bearer(call)?;
        let admin = bearer == Bearer::Admin;
        let items = |people: Vec<Person>| {
            let items: Vec<Value> = people.iter().map(|person| self.public_person(person, admin)).collect();
            json!({"notFoundIds": [], "items": items})
        };
        if let Some(ids) = call.query.get("id") {
            let found = ids.split(',').filter_map(|id| self.ctx.people.by_id(&private(id)));
            return Ok(Answer::ok(&items(found.collect())));
        }
        if let Some(mail) = call.query.get("email") {
            return Ok(Answer::ok(&items(self.ctx.people.by_mail(mail).into_iter().collect())));
        }
        if !admin {
            return Err(Answer::error(
                StatusCode::BAD_REQUEST,
                1_400_007,
                "Email, displayName, or id list should be specified.",
            ));
        }
        let number = |name: &str| call.number(name).and_then(|number| usize::try_from(number).ok());
        let (max, offset) = (number("max").unwrap_or(PAGE).clamp(1, PAGE), number("offset").unwrap_or(0));
        let all: Vec<Person> = self
            .ctx
            .people
            .all()
            .into_iter()
            .filter(|person| person.org_id == ORG_ID && !person.bot)
            .collect();
        let more = all.len() > offset + max;
        let answer = Answer::ok(&items(all.into_iter().skip(offset).take(max).collect()));
        Ok(if more { answer.with(header::LINK, self.next_link(call, offset + max)) } else { answer })
    }

    /// `GET /v1/people/{id}` and `/v1/people/me`.
    pub(crate) fn person(&self, call: &Call, id: &str) -> Handled {
        let found = if id == "me" {
            self.caller(call)?
        } else {
            self.bearer(call)?;
            let unknown = || Answer::error(StatusCode::NOT_FOUND, 1_404_003, "The person is unknown.");
            self.ctx.people.by_id(&private(id)).ok_or_else(unknown)?
        };
        let admin = self.bearer(call)? == Bearer::Admin;
        Ok(Answer::ok(&self.public_person(&found, admin)))
    }

    /// `POST /users`: addresses to people. Nobody is ever created: an unknown address gives an entry without an id.
    pub(crate) fn users_lookup(&self, call: &Call) -> Handled {
        self.bearer(call)?;
        let asked: Vec<Value> = call.json()?;
        if asked.len() > LOOKUPS {
            return Err(Answer::error(
                StatusCode::BAD_REQUEST,
                1_400_008,
                "At most 100 addresses can be looked up.",
            ));
        }
        let mut found = Map::new();
        for mail in asked.iter().filter_map(|entry| text(&entry["email"])) {
            let entry = match self.ctx.people.by_mail(&mail) {
                Some(person) => json!({"id": person.person_id, "userExists": true}),
                None => json!({"userExists": false}),
            };
            found.insert(mail, entry);
        }
        Ok(Answer::ok(&Value::Object(found)))
    }

    fn own_user(person: &Person) -> Value {
        json!({
            "id": person.person_id,
            "email": person.mail,
            "name": person.display_name,
            "displayName": person.display_name,
            "orgId": person.org_id,
            "type": "person",
        })
    }

    /// `GET /users`: the own person.
    pub(crate) fn user(&self, call: &Call) -> Handled {
        Ok(Answer::ok(&Self::own_user(&self.caller(call)?)))
    }

    /// `PATCH /users/user`: another display name.
    pub(crate) fn user_rename(&self, call: &Call) -> Handled {
        let me = self.caller(call)?;
        let body: Value = call.json()?;
        if let Some(name) = text(&body["displayName"]) {
            // Whoever has a token is in the roster.
            let _ = self.ctx.people.update(&me.name, |person| person.display_name = name);
        }
        Ok(Answer::ok(&Self::own_user(&self.caller(call)?)))
    }

    /// The toggles that somebody set.
    pub(crate) fn toggles(&self, name: &str, kind: &str) -> Vec<Value> {
        let state = self.state();
        let mine = state.toggles.iter().filter(|((owner, of, _), _)| owner == name && of == kind);
        mine.map(|(_, value)| value.clone()).collect()
    }

    /// `POST /features/users/{id}/{user|developer}` and `…/toggles`.
    pub(crate) fn feature(&self, call: &Call, id: &str, kind: &str) -> Handled {
        let me = self.caller(call)?;
        if id != me.person_id {
            return Err(Answer::error(StatusCode::FORBIDDEN, 1_403_004, "Only own toggles can be set."));
        }
        let body: Value = call.json()?;
        match (&body, kind) {
            (Value::Array(toggles), "toggles") => {
                let set = toggles.iter().map(|toggle| {
                    let kind = if toggle["type"] == "DEV" { "developer" } else { "user" };
                    self.set_toggle(&me, kind, toggle)
                });
                let set: Result<Vec<Value>, Answer> = set.collect();
                Ok(Answer::ok(&json!({"featureToggles": set?})))
            }
            (toggle, "user" | "developer") => Ok(Answer::ok(&self.set_toggle(&me, kind, toggle)?)),
            _ => Err(Answer::error(StatusCode::NOT_FOUND, 1_404_000, "There is no such address.")),
        }
    }

    fn set_toggle(&self, me: &Person, kind: &str, toggle: &Value) -> Result<Value, Answer> {
        let key = text(&toggle["key"])
            .ok_or_else(|| Answer::error(StatusCode::BAD_REQUEST, 1_400_009, "The toggle has no key."))?;
        let value = text(&toggle["val"]).unwrap_or_else(|| toggle["val"].to_string());
        if key == "user-presence-enabled" {
            // Whoever has a token is in the roster.
            let _ = self.ctx.people.update(&me.name, |person| person.hidden = value == "false");
        }
        let stored = json!({
            "key": key,
            "val": value,
            "value": toggle["val"],
            "type": if kind == "developer" { "DEVELOPER" } else { "USER" },
            "mutable": toggle["mutable"].as_bool().unwrap_or(true),
            "lastModified": self.now().rfc3339(),
        });
        self.state().toggles.insert((me.name.clone(), kind.to_owned(), key), stored.clone());
        let data = json!({"eventType": "featureToggle_update", "featureToggle": stored});
        self.notify(&me.name, None, &std::sync::Arc::new(data));
        Ok(stored)
    }
}
