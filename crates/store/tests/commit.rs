//! What a commit does to the rows: repeats, changes, retention, and one sync for many batches.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use router::envelope::{Body, Link};
use router::ids::{ActivityId, ConversationId, DerivedId, EntryId, ImpStreamId, Position, StanzaId, Time};
use router::outbox::{
    Change, Entry, EntryKind, EntryState, Input, Lane, Novelty, Part, Repeat, Storage, TargetRef,
};
use store::Store;
use support::{Place, bare, batch, commit, insert, part, person, report, text};

fn read(store: &mut Store, id: EntryId) -> Entry {
    store.entry(id).unwrap().unwrap().entry
}

fn is_new(novelty: &Novelty) -> bool {
    matches!(novelty, Novelty::New { .. })
}

#[test]
fn an_activity_is_new_once_whoever_brings_it() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let first = insert(&mut store, text("a", "one"));
    assert_eq!(
        commit(&mut store, vec![text("a", "one")], vec![]),
        [Novelty::Repeat { entries: vec![first], released: false }]
    );
    drop(store);
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    assert_eq!(
        commit(&mut store, vec![text("a", "one")], vec![]),
        [Novelty::Repeat { entries: vec![first], released: false }]
    );
}

#[test]
fn a_stanza_repeats_only_what_this_report_has_not_reported_and_within_ten_minutes() {
    const WINDOW: i64 = 10 * 60 * 1000;
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let mut say = |stream: &str, time: i64| {
        let input = Input { repeat: Repeat::Window(report(stream)), time: Time(time), ..text("s", "hello") };
        commit(&mut store, vec![input], vec![]).remove(0)
    };
    let occurrence = |novelty| match novelty {
        Novelty::New { occurrence, .. } => Some(occurrence),
        Novelty::Repeat { .. } | Novelty::Own(_) => None,
    };
    assert_eq!(occurrence(say("one", 0)), Some(0));
    assert_eq!(occurrence(say("two", WINDOW)), None, "the other session's copy");
    assert_eq!(occurrence(say("two", WINDOW)), Some(1), "a client that reuses an id");
    assert_eq!(occurrence(say("one", WINDOW)), None, "the copy of that");
    assert_eq!(occurrence(say("three", 2 * WINDOW + 1)), Some(2), "too late to be a copy");
    assert_eq!(occurrence(say("three", 2 * WINDOW)), None, "the oldest row in reach");
}

#[test]
fn batches_given_together_are_one_transaction_and_see_one_another() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let figures = store.figures();
    let batches: Vec<_> =
        (0..100).map(|n| batch(vec![text(&format!("s{}", n / 2), "text")], vec![])).collect();
    let novelties = store.commit(&batches, Time(5)).unwrap();
    assert_eq!(novelties.iter().filter(|answer| is_new(&answer[0])).count(), 50);
    assert_eq!((figures.commits(), figures.batches(), figures.inputs()), (1, 100, 100));
    assert_eq!(store.commit(&[batch(vec![], vec![])], Time(5)).unwrap(), [vec![]]);
    assert_eq!(figures.commits(), 1, "nothing to write, nothing to wait for");
}

#[test]
fn an_entry_reads_back_as_it_was_made() {
    let place = Place::new();
    let mut store = place.open();
    let run = store.load(Time(0)).unwrap().run;
    let tagger = support::tagger();
    let from_webex = Input {
        lane: Lane::ToJabber(ConversationId::new("https://cloud.example/c/1")),
        recipient: None,
        stanza: None,
        from: None,
        conversation: Some(ConversationId::new("https://cloud.example/c/1")),
        parts: ["a.b.c.d.e", "f.g.h.i.j"]
            .map(|jwe| Part {
                kind: EntryKind::Files,
                body: Body::Sealed { key: "kms://k/1".into(), jwe: jwe.into() },
            })
            .into(),
        stamp: Some(Time(900)),
        state: EntryState::Waiting(7),
        ..text("activity", "")
    };
    let mark = Input {
        target: Some(TargetRef::Activity(ActivityId::new("a-1"))),
        parts: vec![bare(EntryKind::Read)],
        ..text("mark", "")
    };
    let notices = Input {
        target: Some(TargetRef::Stanza { author: person("bob"), id: StanzaId::new("s-1") }),
        parts: vec![bare(EntryKind::DeleteNotice), bare(EntryKind::FileNotice), bare(EntryKind::Edit)],
        state: EntryState::Held { by: vec![person("ann"), person("bob")] },
        ..text("notices", "")
    };
    let inputs = vec![text("clear", "grüße"), from_webex, mark, notices];
    let wanted: Vec<_> = inputs
        .iter()
        .zip([1, 2, 4, 5])
        .flat_map(|(input, first)| input.entries(EntryId(first), 0, Time(2_000), run, &tagger))
        .collect();
    assert_eq!(commit(&mut store, inputs, vec![]).len(), 4);
    drop(store);
    let mut store = place.open();
    let loaded = store.load(Time(0)).unwrap();
    assert_eq!(loaded.run, run + 1);
    assert_eq!(loaded.next_place, 1 << 32);
    for (entry, without_body) in wanted.iter().zip(&loaded.entries) {
        assert_eq!(&read(&mut store, entry.id), entry);
        let bare = Entry { body: Body::None, ..entry.clone() };
        assert_eq!(&bare, without_body);
    }
    assert_eq!(loaded.entries.len(), wanted.len());
    assert_eq!(store.entry(EntryId(99)).unwrap(), None);
}

#[test]
fn changes_move_an_entry_through_its_life() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let id = insert(&mut store, text("a", "one"));
    let at = Position { stream: ImpStreamId::new("s"), n: u64::from(u32::MAX) + 5 };
    let link = Link::Activity(ActivityId::new("act"), ConversationId::new("conv"));
    let stanza = Link::Stanza(DerivedId::new("id"));
    let steps: Vec<(Change, EntryState, Option<Position>)> = vec![
        (Change::Release(vec![(id, 3)]), EntryState::Waiting(3), None),
        (Change::Release(vec![(id, 4)]), EntryState::Waiting(3), None),
        (Change::Move(id, 4), EntryState::Waiting(4), None),
        (Change::Move(id, 3), EntryState::Waiting(3), None),
        (Change::Attempt(id, Some(at.clone())), EntryState::Waiting(3), Some(at.clone())),
        (Change::Return(id), EntryState::Waiting(3), None),
        (Change::Attempt(id, Some(at.clone())), EntryState::Waiting(3), Some(at.clone())),
        (Change::Done(id, Some(link.clone())), EntryState::Done(Some(link)), None),
        (Change::Reopen(id, 1), EntryState::Waiting(1), None),
        (Change::Done(id, Some(stanza.clone())), EntryState::Done(Some(stanza)), None),
        (Change::Close(id, "disabled".into()), EntryState::Closed("disabled".into()), None),
        (Change::Release(vec![(id, 9)]), EntryState::Closed("disabled".into()), None),
    ];
    for (change, state, attempt) in steps {
        let said = format!("{change:?}");
        commit(&mut store, vec![], vec![change]);
        let entry = read(&mut store, id);
        assert_eq!((entry.state, entry.attempt), (state, attempt), "after {said}");
    }
    assert!(!read(&mut store, id).reported);
    commit(&mut store, vec![], vec![Change::Reported(id)]);
    assert!(read(&mut store, id).reported);
    assert!(store.load(Time(0)).unwrap().entries.is_empty());
}

#[test]
fn a_body_goes_with_its_receipt_and_towards_jabber_when_it_can_come_back_no_more() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let to_jabber = Input { lane: Lane::ToJabber(ConversationId::new("c")), ..text("j", "text") };
    let (webex, closed) = (insert(&mut store, text("w", "text")), insert(&mut store, text("c", "text")));
    let (jabber, waiting) = (insert(&mut store, to_jabber), insert(&mut store, text("x", "text")));
    let mut after = |changes: Vec<Change>| {
        commit(&mut store, vec![], changes);
        [webex, closed, jabber, waiting].map(|id| read(&mut store, id).body == Body::None)
    };
    let finished =
        vec![Change::Done(webex, None), Change::Close(closed, "late".into()), Change::Done(jabber, None)];
    assert_eq!(after(finished), [true, true, false, false]);
    assert_eq!(
        after(vec![Change::Erase(Time(2_000))]),
        [true, true, false, false],
        "committed at that moment"
    );
    assert_eq!(after(vec![Change::Erase(Time(2_001))]), [true, true, true, false]);
}

#[test]
fn a_copy_of_a_held_message_releases_it_or_joins_its_holders() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let held = |who: &str, stamp: Option<i64>| Input {
        parts: vec![part("one"), part("two")],
        state: EntryState::Held { by: vec![person(who)] },
        stamp: stamp.map(Time),
        ..text("a", "")
    };
    let id = insert(&mut store, held("ann", None));
    let entries = vec![id, EntryId(id.0 + 1)];
    let repeat = |released| [Novelty::Repeat { entries: entries.clone(), released }];
    assert_eq!(commit(&mut store, vec![held("bob", Some(5))], vec![]), repeat(false));
    assert_eq!(commit(&mut store, vec![held("bob", None)], vec![]), repeat(false));
    let entry = read(&mut store, id);
    assert_eq!(entry.state, EntryState::Held { by: vec![person("ann"), person("bob")] });
    assert_eq!(entry.stamp, Some(Time(5)));
    let waiting = Input { state: EntryState::Waiting(40), ..held("ann", None) };
    assert_eq!(commit(&mut store, vec![waiting.clone()], vec![]), repeat(true));
    assert_eq!(read(&mut store, id).state, EntryState::Waiting(40));
    assert_eq!(read(&mut store, entries[1]).state, EntryState::Waiting(41));
    let later = Input { state: EntryState::Waiting(50), ..waiting };
    assert_eq!(commit(&mut store, vec![later], vec![]), repeat(false));
    assert_eq!(read(&mut store, id).state, EntryState::Waiting(40), "a released message keeps its place");
}

#[test]
fn a_post_of_ours_is_known_by_its_iv_author_and_conversation() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let id = insert(&mut store, text("a", "one"));
    let iv = read(&mut store, id).iv;
    let back = |author: &str, conversation: &str, n: u32| Input {
        sender: person(author),
        conversation: Some(ConversationId::new(conversation)),
        lane: Lane::ToJabber(ConversationId::new(conversation)),
        iv,
        ..text(&format!("activity-{author}-{n}"), "")
    };
    let own = |novelties: Vec<Novelty>| matches!(&novelties[0], Novelty::Own(summary) if summary.id == id);
    assert!(own(commit(&mut store, vec![back("ann", "c", 1)], vec![])), "it overtakes the receipt");
    let link = Link::Activity(ActivityId::new("act"), ConversationId::new("c"));
    commit(&mut store, vec![], vec![Change::Done(id, Some(link))]);
    assert!(own(commit(&mut store, vec![back("ann", "c", 2)], vec![])));
    assert!(!own(commit(&mut store, vec![back("ann", "d", 3)], vec![])), "copied to another conversation");
    assert!(!own(commit(&mut store, vec![back("bob", "c", 4)], vec![])), "by somebody else");
}

#[test]
fn targets_are_found_by_activity_and_stanza_with_earlier_edits() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let two = Input { parts: vec![part("one"), part("two")], ..text("a", "") };
    let id = insert(&mut store, two);
    let second = EntryId(id.0 + 1);
    let lane = Lane::ToJabber(ConversationId::new("conv"));
    let to_jabber = insert(&mut store, Input { lane, stanza: None, ..text("came", "three") });
    let derived = |store: &mut Store, id| read(store, id).derived;
    let (posted, written) = (derived(&mut store, second), derived(&mut store, to_jabber));
    let link = Link::Activity(ActivityId::new("act"), ConversationId::new("conv"));
    commit(&mut store, vec![], vec![Change::Done(id, Some(link))]);
    let by_stanza =
        |author: &str, id: &str| TargetRef::Stanza { author: person(author), id: StanzaId::new(id) };
    let activity = |id: &str| TargetRef::Activity(ActivityId::new(id));
    let mut lookup = |source: &str, kind: EntryKind, target: TargetRef| {
        let input = Input { parts: vec![bare(kind)], stanza: None, target: Some(target), ..text(source, "") };
        match commit(&mut store, vec![input], vec![]).remove(0) {
            Novelty::New { entries, target, .. } => {
                let stored = store.entry(entries[0]).unwrap().unwrap();
                let now: Vec<_> = stored.target.iter().map(|summary| summary.id).collect();
                let then: Vec<_> = target.iter().map(|summary| summary.id).collect();
                (entries[0], then, now)
            }
            other => panic!("{other:?}"),
        }
    };
    let cases = [
        (activity("act"), vec![id]),
        (by_stanza("bob", written.as_str()), vec![to_jabber]),
        (by_stanza("bob", posted.as_str()), vec![]),
        (activity("came"), vec![to_jabber]),
        (by_stanza("ann", "stanza-a"), vec![id, second]),
        (by_stanza("bob", "stanza-a"), vec![]),
        (activity("a"), vec![]),
    ];
    for (n, (target, wanted)) in cases.into_iter().enumerate() {
        let (_, found, _) = lookup(&format!("mark-{n}"), EntryKind::Read, target.clone());
        assert_eq!(found, wanted, "{target:?}");
    }
    let (edit, found, now) = lookup("edit-1", EntryKind::Edit, activity("act"));
    assert_eq!(found, [id]);
    assert_eq!(now, [id, edit], "afterwards it is one of its own");
    assert_eq!(lookup("edit-2", EntryKind::Edit, activity("act")).1, [id, edit]);
    let loaded = store.load(Time(0)).unwrap();
    assert_eq!(loaded.targets.iter().find(|(of, _)| *of == edit).unwrap().1.len(), 3);
}

#[test]
fn small_state_survives_and_is_forgotten_when_told() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let (one, two) = (ImpStreamId::new("one"), ImpStreamId::new("two"));
    commit(
        &mut store,
        vec![],
        vec![
            Change::Handled(one.clone(), 5),
            Change::Handled(one.clone(), 6),
            Change::Handled(two.clone(), 1),
            Change::ForgetStream(two),
            Change::Cursor(person("ann"), Some(Time(3))),
            Change::Cursor(person("bob"), Some(Time(4))),
            Change::Cursor(person("bob"), None),
            Change::Keep("jabber.link".into(), Some(b"resume".as_slice().into())),
            Change::Keep("gone".into(), Some(b"x".as_slice().into())),
            Change::Keep("gone".into(), None),
            Change::Directory(b"people".as_slice().into()),
            Change::Presence(person("ann"), b"away".as_slice().into()),
        ],
    );
    drop(store);
    let loaded = place.open().load(Time(0)).unwrap();
    assert_eq!(loaded.streams, [(one, 6)]);
    assert_eq!(loaded.cursors, [(person("ann"), Time(3))]);
    assert_eq!(loaded.kept, [("jabber.link".into(), b"resume".as_slice().into())]);
    assert_eq!(loaded.directory.as_deref(), Some(b"people".as_slice()));
    assert_eq!(loaded.presence, [(person("ann"), b"away".as_slice().into())]);
}

#[test]
fn retention_forgets_finished_entries_only_and_their_ids_are_not_given_again() {
    let place = Place::new();
    let mut store = place.open();
    store.load(Time(0)).unwrap();
    let window = |source: &str| Input { repeat: Repeat::Window(report("one")), ..text(source, "x") };
    let old = insert(&mut store, window("old"));
    let waiting = insert(&mut store, window("waiting"));
    commit(&mut store, vec![], vec![Change::Done(old, None), Change::Expire(Time(2_000))]);
    assert!(store.entry(old).unwrap().is_some(), "committed at that very moment");
    commit(&mut store, vec![], vec![Change::Expire(Time(2_001))]);
    assert!(store.entry(old).unwrap().is_none());
    assert!(store.entry(waiting).unwrap().is_some());
    assert_eq!(insert(&mut store, window("old")), EntryId(3), "new again, under a new number");
}

#[test]
fn what_is_forgotten_leaves_no_names_behind() {
    let place = Place::new();
    let mut options = store::Options::default();
    options.young = 0;
    let mut store = place.open_with(options);
    store.load(Time(0)).unwrap();
    let link = |n: u64| Link::Activity(ActivityId::new(format!("a{n}")), ConversationId::new("c"));
    for n in 0..40 {
        let id =
            insert(&mut store, Input { parts: vec![part("one"), part("two")], ..text(&format!("m{n}"), "") });
        let done = [id, EntryId(id.0 + 1)].map(|id| Change::Done(id, Some(link(id.0))));
        commit(&mut store, vec![], done.to_vec());
    }
    let kept = insert(&mut store, text("waiting", "x"));
    commit(&mut store, vec![], vec![Change::Expire(Time(i64::MAX))]);
    drop(store);
    let db = rusqlite::Connection::open(place.file()).unwrap();
    let entries = db
        .prepare("SELECT DISTINCT entry FROM names")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<Vec<u64>, _>>();
    assert_eq!(entries.unwrap(), [kept.0]);
}
