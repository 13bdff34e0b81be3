//! A store that was put back from a backup: what it says of the far sides was true when it was copied, and is not any
//! more (rule 12).

use crate::entitlement::Client;
use crate::ids::ImpStreamId;
use crate::outbox::{Change, Loaded};

/// What has to be changed in an old copy of a store before a connector goes on from it.
///
/// Every cursor is forgotten, so that the next run reads from its own start on, or from where it is told to. Every post
/// that waits may have been sent since, and is asked after. Streams went on without this copy: their counts, the
/// positions on them and what edges keep about them (`of_streams` tells by the name) are forgotten, and what is
/// unfinished there is sent again, under its id.
#[must_use]
pub fn restored(loaded: &Loaded, of_streams: impl Fn(&str) -> bool) -> Vec<Change> {
    let cursors = loaded.cursors.iter().map(|(person, _)| Change::Cursor(person.clone(), None));
    let kept = loaded.kept.iter().filter(|(key, _)| of_streams(key));
    let kept = kept.map(|(key, _)| Change::Keep(key.clone(), None));
    let mut changes: Vec<Change> = cursors.chain(kept).collect();
    let mut streams: Vec<&ImpStreamId> = loaded.streams.iter().map(|(stream, _)| stream).collect();
    for entry in &loaded.entries {
        match (entry.lane.towards(), &entry.attempt) {
            (Client::Webex, _) => changes.push(Change::Attempt(entry.id, None)),
            (Client::Jabber, Some(at)) => {
                changes.push(Change::Return(entry.id));
                streams.push(&at.stream);
            }
            (Client::Jabber, None) => {}
        }
    }
    streams.sort_unstable();
    streams.dedup();
    changes.extend(streams.into_iter().cloned().map(Change::ForgetStream));
    changes
}
