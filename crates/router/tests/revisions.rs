//! Edits, deletes and marks (rules 19 and 20).

mod rig;

use std::time::Duration;

use rig::{Rig, person};
use router::envelope::{Kind, Marked};
use router::ids::{ActivityId, ConversationId, StanzaId};
use router::inbound::Outcome;
use router::outbox::{Entry, EntryKind};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn edit(rig: &mut Rig, activity: &str, of: &str) {
    let origin = rig.webex_origin("ann", "ann", "bob", activity);
    rig.webex_with(origin, Kind::Edit { of: ActivityId::new(of) });
}

fn delete(rig: &mut Rig, activity: &str, of: &str) {
    let origin = rig.webex_origin("ann", "ann", "bob", activity);
    rig.webex_with(origin, Kind::Delete { of: ActivityId::new(of) });
}

fn kinds(entries: &[Entry]) -> Vec<(&str, EntryKind)> {
    entries.iter().map(|e| (e.source.as_str(), e.kind.clone())).collect()
}

#[test]
fn an_edit_of_what_waits_takes_its_place_without_a_notice() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    rig.webex("ann", "ann", "bob", "two");
    rig.webex("ann", "ann", "bob", "three");
    edit(&mut rig, "edit", "two");
    edit(&mut rig, "again", "two");
    let expected = [("one", EntryKind::Text), ("again", EntryKind::Edit), ("three", EntryKind::Text)];
    assert_eq!(kinds(&rig.deliver_all()), expected);
}

#[test]
fn an_edit_of_what_was_attempted_follows_with_its_notice() {
    for delivered in [false, true] {
        let mut rig = Rig::new();
        rig.webex("ann", "ann", "bob", "one");
        let (ticket, entry, _) = rig.delivery();
        if delivered {
            rig.delivered(ticket, &entry);
        }
        edit(&mut rig, "edit", "one");
        if !delivered {
            rig.delivered(ticket, &entry);
        }
        let expected = [("edit", EntryKind::Edit), ("edit", EntryKind::DeleteNotice)];
        assert_eq!(kinds(&rig.deliver_all()), expected, "the new text first, then the notice");
    }
}

#[test]
fn a_delete_removes_what_waits_and_is_noticed_otherwise() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    rig.webex("ann", "ann", "bob", "two");
    delete(&mut rig, "del-two", "two");
    delete(&mut rig, "del-one", "one");
    assert_eq!(kinds(&rig.deliver_all()), [("one", EntryKind::Text), ("del-one", EntryKind::DeleteNotice)]);
    // Of what we do not know the notice is handed out: whether it may have been shown an edge finds out (rule 17).
    delete(&mut rig, "del-other", "posted long ago");
    assert_eq!(kinds(&rig.deliver_all()), [("del-other", EntryKind::DeleteNotice)]);
}

#[test]
fn a_delete_of_what_was_wedged_or_never_committed_is_not_noticed() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "one");
    let (ticket, ..) = rig.delivery();
    // Committed while its message is on its way, which then turns out not to be carried.
    delete(&mut rig, "del", "one");
    rig.receipt(ticket, Outcome::Uncarried("no Jabber account".into()));
    assert!(rig.deliveries().is_empty());
    delete(&mut rig, "del again", "one");
    assert!(rig.deliveries().is_empty());

    let origin = rig.webex_origin("ann", "ann", "bob", "gone");
    rig.webex_with(origin, Kind::Tombstone);
    delete(&mut rig, "del gone", "gone");
    assert!(rig.deliveries().is_empty());
    assert!(rig.router.idle());
}

#[test]
fn several_marks_become_the_last_and_marks_move_forward_only() {
    let mut rig = Rig::new();
    for activity in ["one", "two", "three"] {
        rig.webex("ann", "ann", "bob", activity);
        rig.deliver_all();
        rig.pass(seconds(1));
    }
    let derived = |rig: &Rig, activity: &str| {
        let source = router::ids::SourceId::new(activity);
        let _ = rig;
        rig::tagger().derive("text", &source, 0, 0)
    };
    let mark = |rig: &mut Rig, activity: &str| {
        let origin = rig.jabber_origin("bob", "bob", "ann", "", "");
        let id = StanzaId::new(derived(rig, activity).as_str());
        rig.jabber_with(origin, Kind::Read(Marked::Stanza(id)), "");
    };
    rig.jabber("bob", "bob", "ann", "busy", "keeps the lane busy");
    let (ticket, entry, _) = rig.delivery();
    for activity in ["one", "three", "two"] {
        mark(&mut rig, activity);
    }
    rig.delivered(ticket, &entry);
    let (_, read, _) = rig.delivery();
    assert_eq!((read.kind, &read.carrier), (EntryKind::Read, &person("bob")));
    let stored = router::outbox::Storage::entry(&mut rig.storage, read.id).expect("memory reads");
    let target = stored.expect("the entry is there").target;
    assert_eq!(target.len(), 1);
    assert_eq!(target[0].activity(), Some((ActivityId::new("three"), ConversationId::new("ann+bob"))));
    assert!(rig.deliveries().is_empty());
}
