//! Activities as they are read: pages of a conversation, single ones, and which have children.

use serde_json::{Value, json};

use super::{
    Cloud,
    conversations::{Conversation, Stored, not_found, text},
};
use crate::{
    clock::Time,
    http::{Answer, Call, Handled},
    people::Person,
};

/// How many activities a page has if nobody says.
const PAGE: usize = 50;

impl Cloud {
    /// An activity as listings show it.
    pub(crate) fn listed(
        &self,
        conversation: &Conversation,
        stored: &Stored,
        viewer: &str,
        now: Time,
    ) -> Value {
        let mut json = stored.json.clone();
        if self.ctx.faults.is_on("no-temp-id") {
            json.remove("clientTempId");
        }
        if json.contains_key("target") {
            json.insert("target".into(), self.target_json(conversation, viewer, now).into());
        }
        Value::Object(json)
    }

    /// `GET /conversations/{id}/activities`: a page, newest first unless asked otherwise.
    pub(crate) fn activities(&self, call: &Call, id: &str) -> Handled {
        let me = self.caller(call)?;
        let now = self.now();
        let limit = call.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE);
        let limit = limit.clamp(1, 1_000);
        let since = call.number("sinceDate").map_or(i64::MIN, |ms| ms);
        let until = call.number("maxDate").map_or(i64::MAX, |ms| ms);
        let oldest_first = call.query.get("lastActivityFirst").is_some_and(|first| first == "false")
            && !self.ctx.faults.is_on("newest-first");
        let mut state = self.state();
        let found = state.conversations.of_member(id, &me.person_id).ok_or_else(not_found)?;
        let visible: Vec<&Stored> = found
            .activities
            .iter()
            .filter(|stored| stored.visible <= now && (since..=until).contains(&stored.published.0))
            .collect();
        let page: Vec<&Stored> = if let Some(middle) = call.number("midDate") {
            let at = visible.partition_point(|stored| stored.published.0 < middle);
            let first = at.saturating_sub(limit / 2);
            visible.into_iter().skip(first).take(limit).rev().collect()
        } else if oldest_first {
            visible.into_iter().take(limit).collect()
        } else {
            visible.into_iter().rev().take(limit).collect()
        };
        let items: Vec<Value> =
            page.into_iter().map(|stored| self.listed(found, stored, &me.person_id, now)).collect();
        Ok(Answer::ok(&json!({"items": items})))
    }

    /// `GET /activities/{id}` and `GET /conversations/{id}/activities/{id}`.
    pub(crate) fn activity(&self, call: &Call, id: &str) -> Handled {
        let me = self.caller(call)?;
        self.find_activity(&me, id).map(|json| Answer::ok(&json)).ok_or_else(not_found)
    }

    fn find_activity(&self, me: &Person, id: &str) -> Option<Value> {
        let now = self.now();
        let state = self.state();
        state.conversations.of_person(&me.person_id).find_map(|conversation| {
            let stored =
                conversation.activities.iter().find(|stored| stored.id == id && stored.visible <= now)?;
            Some(self.listed(conversation, stored, &me.person_id, now))
        })
    }

    /// `POST /bulk_activities_fetch`.
    pub(crate) fn bulk_activities(&self, call: &Call) -> Handled {
        let me = self.caller(call)?;
        let body: Value = call.json()?;
        let urls = body["activityUrls"].as_array().into_iter().flatten().filter_map(text);
        let one = |url: String| {
            let id = url.rsplit('/').next().unwrap_or_default().to_owned();
            match self.find_activity(&me, &id) {
                Some(activity) => json!({"status": "200", "data": {"activity": activity}}),
                None => json!({"status": "404"}),
            }
        };
        Ok(Answer::ok(&json!({"multistatus": urls.map(one).collect::<Vec<_>>()})))
    }

    /// `GET /conversations/{id}/parents`: which activities have edits, replies or reactions.
    pub(crate) fn parents(&self, call: &Call, id: &str) -> Handled {
        let me = self.caller(call)?;
        let mut state = self.state();
        let found = state.conversations.of_member(id, &me.person_id).ok_or_else(not_found)?;
        let of = |kind: &str| -> Vec<&Value> {
            let parents = found.activities.iter().filter_map(|stored| stored.json.get("parent"));
            parents.filter(|parent| parent["type"] == kind).map(|parent| &parent["id"]).collect()
        };
        Ok(Answer::ok(&json!({"edit": of("edit"), "reply": of("reply"), "reaction": of("reaction")})))
    }
}
