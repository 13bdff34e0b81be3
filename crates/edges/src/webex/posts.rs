//! What was posted, as far as we saw it: a tombstone in a listing no longer says what it was.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use router::envelope::{Envelope, Kind, Origin};
use router::outbox::Entry;
use webex_api::ActivityId;

use super::locked;

/// By what a post of ours is known.
#[derive(Debug)]
struct Mark {
    client_temp_id: Option<Box<str>>,
    iv: Option<[u8; 12]>,
}

/// Posts that came by sockets and listings, by their ids; the oldest are forgotten at will.
#[derive(Debug, Default)]
pub(super) struct Posts {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    marks: BTreeMap<Box<str>, Mark>,
    /// The ids as they came.
    order: VecDeque<Box<str>>,
}

impl Seen {
    fn remember(&mut self, id: &str, mark: Mark) {
        if self.marks.insert(id.into(), mark).is_none() {
            self.order.push_back(id.into());
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.marks.remove(&oldest);
        }
    }
}

/// More are not remembered: each takes some hundred bytes.
const MOST: usize = 20_000;

impl Posts {
    /// Remembers a post.
    pub(super) fn saw(&self, envelope: &Envelope) {
        let (Origin::Webex(origin), Kind::Text) = (&envelope.origin, &envelope.kind) else { return };
        let mark = Mark { client_temp_id: origin.client_temp_id.clone(), iv: origin.iv };
        locked(&self.seen).remember(origin.activity.as_str(), mark);
    }

    /// Whether this activity was seen, and was something other than this entry.
    pub(super) fn is_other(&self, activity: &ActivityId, entry: &Entry) -> bool {
        locked(&self.seen).marks.get(activity.as_str()).is_some_and(|mark| {
            let by_id = mark.client_temp_id.as_deref() == Some(entry.derived.as_str());
            let by_iv = entry.iv.is_some() && mark.iv == entry.iv;
            !by_id && !by_iv
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_whatever_its_name() {
        let mut seen = Seen::default();
        let mark = || Mark { client_temp_id: None, iv: None };
        seen.remember("z", mark());
        for n in 0..MOST {
            seen.remember(&format!("m{n}"), mark());
        }
        seen.remember("a", mark());
        assert_eq!(seen.marks.len(), MOST);
        assert!(seen.marks.contains_key("a") && !seen.marks.contains_key("z"));
    }
}
