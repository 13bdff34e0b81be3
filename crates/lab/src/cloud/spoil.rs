//! Requests that are refused, stalled or cut on purpose, by kind of request.

use std::{future::Future, time::Duration};

use http::{HeaderName, StatusCode};

use super::{Cloud, activities::STALL};
use crate::{
    fault::Kind,
    http::{Answer, Call},
};

/// The faults of one kind of request: statuses, a stall, a cut.
macro_rules! faults {
    ($($what:literal: $explained:literal),* $(,)?) => {
        &[$(
            faults!(@ $what, "401", $explained, " is refused with 401."),
            faults!(@ $what, "403", $explained, " is refused with 403."),
            faults!(@ $what, "404", $explained, " is refused with 404."),
            faults!(@ $what, "409", $explained, " is refused with 409."),
            faults!(@ $what, "429", $explained, " is refused with 429 and `Retry-After: value` (1)."),
            faults!(@ $what, "500", $explained, " is answered with 500."),
            faults!(@ $what, "502", $explained, " is answered with 502."),
            faults!(@ $what, "503", $explained, " is answered with 503."),
            faults!(@ $what, "stall", $explained, " is not answered for ten minutes."),
            faults!(@ $what, "cut", $explained, " ends in a connection that is cut."),
            faults!(@ $what, "slow", $explained, " is answered later, by `value` scaled milliseconds (3000)."),
        )*]
    };
    (@ $what:literal, $how:literal, $explained:literal, $end:literal) => {
        Kind { name: concat!($what, "-", $how), explanation: concat!($explained, $end), unkind: false }
    };
}

/// What can go wrong with requests. `post-stall` is stored nevertheless, late where `late-post` is on.
pub(crate) const FAULTS: &[Kind] = faults! {
    "http": "Any request to the cloud",
    "token": "A request for a token",
    "device": "A request to the device service",
    "people": "A request for people",
    "find": "Looking for a 1:1",
    "create": "Making a conversation",
    "list": "A listing",
    "post": "Posting an activity",
    "presence": "A request for presence",
    "kms": "A request that carries messages to the key service",
    "file": "A request about files",
};

/// The faults of single endpoints.
pub(crate) const MORE_FAULTS: &[Kind] = &[
    Kind { name: "unauthorized", explanation: "A valid token is refused with 401.", unkind: false },
    Kind {
        name: "revoke",
        explanation: "Whoever asks something loses all tokens, but for those of the built-in client; a bot keeps its own.",
        unkind: false,
    },
    Kind {
        name: "http-trickle",
        explanation: "The body of an answer comes in sixteen pieces, over `value` scaled milliseconds (3000).",
        unkind: false,
    },
    Kind {
        name: "clock-skew",
        explanation: "The cloud's clock is ahead of everybody's by `value` milliseconds; negative: behind.",
        unkind: false,
    },
    Kind { name: "refresh-once", explanation: "A refresh token dies with its use.", unkind: false },
    Kind {
        name: "short-tokens",
        explanation: "An access token lives `value` (5) seconds and no longer.",
        unkind: false,
    },
    Kind { name: "device-limit", explanation: "A person counts as having too many devices.", unkind: false },
    Kind {
        name: "device-gone",
        explanation: "A device is forgotten just before it is refreshed, shown or deleted.",
        unkind: false,
    },
];

impl Cloud {
    /// The answer of a request that is to be spoiled, if it is.
    pub(crate) fn spoiled(
        &self,
        what: &str,
        person: Option<&str>,
    ) -> Option<impl Future<Output = Answer> + Send + use<>> {
        let faults = &self.ctx.faults;
        let hit = |how: &str, default| faults.hit_value(&format!("{what}-{how}"), person, default);
        let mut spoil = None;
        for status in [401, 403, 404, 409, 429, 500, 502, 503] {
            if let Some(value) = hit(&status.to_string(), 1) {
                let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let mut answer =
                    Answer::error(code, i64::from(status) * 1_000 + 1_000_000, "This is refused on purpose.");
                if status == 429 {
                    answer = answer.with(HeaderName::from_static("retry-after"), value.to_string());
                }
                spoil = Some((Duration::ZERO, answer));
            }
        }
        // A stalled post is stored all the same, so it is not spoiled here.
        if what != "post" && hit("stall", 1).is_some() {
            spoil = Some((STALL, Answer::cut()));
        }
        if hit("cut", 1).is_some() {
            spoil = Some((Duration::ZERO, Answer::cut()));
        }
        let clock = self.ctx.clock.clone();
        spoil.map(|(wait, answer)| async move {
            clock.sleep(wait).await;
            answer
        })
    }

    /// Spoils a request or slows it down, if it is to be; never a puppet's.
    pub(crate) async fn may_spoil(&self, what: &str, call: &Call) -> Result<(), Answer> {
        if call.is_puppet() {
            return Ok(());
        }
        let person = self.caller_name(call);
        if let Some(answer) = self.spoiled(what, person.as_deref()) {
            return Err(answer.await);
        }
        if let Some(ms) = self.ctx.faults.hit_value(&format!("{what}-slow"), person.as_deref(), 3_000) {
            let wait = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            self.ctx.clock.sleep(self.ctx.clock.scaled(wait)).await;
        }
        Ok(())
    }
}
