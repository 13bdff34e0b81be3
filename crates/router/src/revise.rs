//! Edits, deletes and marks: what they mean for what waits before them (rules 19 and 20).

use std::collections::BTreeMap;

use crate::ids::{ActivityId, EntryId, PersonId, SourceId, Time};
use crate::machine::Router;
use crate::outbox::{Change, EntryKind, EntryState, EntrySummary, Input, Lane, TargetRef};

/// How many marks of our own are kept in mind until they come back.
const OWN_MARKS: usize = 1024;

const REPLACED: &str = "rule 19: replaced by a later text";
const DELETED: &str = "rule 19: deleted before it was delivered";
const NO_NOTICE: &str = "rule 19: nothing was shown that a notice could be about";
const OVERTAKEN: &str = "rule 20: overtaken by a later mark";

/// How the earlier message stands that an edit or a delete is about.
struct Standing {
    /// The far side may have some of it, or nothing is known about it.
    shown: bool,
    /// Its parts that can still be taken back, with their places where they have one.
    waiting: Vec<EntryId>,
}

/// Forgets how far people have read what is older than this.
pub(crate) fn forget_marks(marked: &mut BTreeMap<(Lane, PersonId), Time>, before: Time) {
    marked.retain(|_, about| *about >= before);
}

impl Router {
    /// These entries have got their places just now, in order.
    pub(crate) fn placed(&mut self, ids: &[EntryId]) {
        let mut messages: Vec<Vec<EntryId>> = Vec::new();
        let mut index: BTreeMap<(SourceId, u32), usize> = BTreeMap::new();
        for id in ids {
            let Some(entry) = self.lanes.get(*id).map(|live| &live.entry) else { continue };
            if entry.target.is_none() {
                continue;
            }
            let at = *index.entry((entry.source.clone(), entry.occurrence)).or_insert(messages.len());
            match messages.get_mut(at) {
                Some(message) => message.push(*id),
                None => messages.push(vec![*id]),
            }
        }
        for message in messages {
            let first = message.first().and_then(|id| self.lanes.get(*id));
            match first.map(|live| live.entry.kind.clone()) {
                Some(EntryKind::Edit) => self.edit(&message),
                Some(EntryKind::DeleteNotice) => self.delete(&message),
                Some(EntryKind::Read) => self.mark(&message),
                _ => {}
            }
        }
    }

    /// What is unattempted is replaced in its place, without a notice; of anything else the waiting parts
    /// go, and the notice stays.
    fn edit(&mut self, own: &[EntryId]) {
        let standing = self.standing(own);
        let place = standing.waiting.iter().find_map(|id| self.lanes.get(*id)?.place());
        for id in &standing.waiting {
            self.close(*id, REPLACED);
        }
        if standing.shown {
            return;
        }
        for id in own {
            let Some(kind) = self.lanes.get(*id).map(|live| live.entry.kind.clone()) else { continue };
            if kind == EntryKind::DeleteNotice {
                self.close(*id, NO_NOTICE);
            } else if let Some(place) = place {
                self.lanes.place(*id, place);
                self.outgoing.change(Change::Move(*id, place));
            }
        }
    }

    fn delete(&mut self, own: &[EntryId]) {
        let standing = self.standing(own);
        for id in &standing.waiting {
            self.close(*id, DELETED);
        }
        if !standing.shown {
            for id in own {
                self.close(*id, NO_NOTICE);
            }
        }
    }

    /// How what these entries refer to stands now: the message itself and its earlier edits.
    fn standing(&self, own: &[EntryId]) -> Standing {
        let Some(live) = own.first().and_then(|id| self.lanes.get(*id)) else {
            return Standing { shown: true, waiting: Vec::new() };
        };
        let Some(TargetRef::Activity(activity)) = &live.entry.target else {
            return Standing { shown: true, waiting: Vec::new() };
        };
        let lane = &live.entry.lane;
        let mut unfinished = self.lanes.of_activity(lane, activity);
        unfinished.retain(|id| !own.contains(id));
        let attempted = |id: &EntryId| self.lanes.get(*id).is_some_and(|l| l.attempted());
        let waiting: Vec<EntryId> = unfinished.iter().filter(|id| !attempted(id)).copied().collect();
        // What the store knew, where memory knows nothing newer.
        let shown_before = |t: &EntrySummary| match self.lanes.get(t.id) {
            Some(live) => live.attempted(),
            None => !matches!(t.state, EntryState::Closed(_)),
        };
        let unknown = live.targets.is_empty() && unfinished.is_empty();
        let shown = unknown || unfinished.iter().any(attempted) || live.targets.iter().any(shown_before);
        Standing { shown, waiting }
    }

    /// Several marks become the last, and marks move forward only.
    fn mark(&mut self, own: &[EntryId]) {
        let Some(live) = own.first().and_then(|id| self.lanes.get(*id)) else { return };
        let (lane, reader) = (live.entry.lane.clone(), live.entry.carrier.clone());
        let about: Option<Time> = live.targets.iter().map(|t| t.time).max();
        let last = self.marked.get(&(lane.clone(), reader.clone())).copied();
        if let (Some(about), Some(last)) = (about, last)
            && about < last
        {
            for id in own {
                self.close(*id, OVERTAKEN);
            }
            return;
        }
        for earlier in self.lanes.waiting_marks(&lane, &reader) {
            if !own.contains(&earlier) {
                self.close(earlier, OVERTAKEN);
            }
        }
        if let Some(about) = about {
            self.marked.insert((lane, reader), about);
        }
    }

    /// Remembers a mark that we are about to set in Webex: it will come back as if the reader had set it.
    pub(crate) fn note_own_mark(&mut self, id: EntryId) {
        let Some(live) = self.lanes.get(id) else { return };
        let reader = live.entry.carrier.clone();
        let activities: Vec<ActivityId> =
            live.targets.iter().filter_map(|t| t.activity()).map(|(activity, _)| activity).collect();
        for activity in activities {
            if self.own_marks.len() == OWN_MARKS {
                self.own_marks.pop_front();
            }
            self.own_marks.push_back((reader.clone(), activity));
        }
    }

    /// Whether this mark is one that we set ourselves.
    pub(crate) fn is_own_mark(&self, input: &Input) -> bool {
        let Some(TargetRef::Activity(activity)) = &input.target else { return false };
        let is = |(reader, marked): &(PersonId, ActivityId)| *reader == input.sender && marked == activity;
        self.own_marks.iter().any(is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConversationId;

    #[test]
    fn marks_about_what_is_forgotten_are_forgotten() {
        let reader = |n: &str| (Lane::ToJabber(ConversationId::new("c")), PersonId::new(n));
        let mut marked = BTreeMap::from([(reader("ann"), Time(99)), (reader("bob"), Time(100))]);
        forget_marks(&mut marked, Time(100));
        assert_eq!(marked.into_keys().collect::<Vec<_>>(), [reader("bob")]);
    }
}
