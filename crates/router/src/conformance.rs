//! What every [`Storage`] must do, as one suite. A store runs it with
//! [`storage_conformance!`](crate::storage_conformance), one test for each case.

use crate::entitlement::Client;
use crate::envelope::{Body, Form, Link};
use crate::ids::{
    ActivityId, BatchId, ConversationId, EntryId, ImpStreamId, JabberId, PersonId, Position, SourceId,
    StanzaId, Time,
};
use crate::outbox::{
    Batch, Change, Entry, EntryKind, EntryState, Input, Lane, Loaded, Novelty, Part, Repeat, Report, Storage,
    TargetRef,
};
use crate::tag::Tagger;

/// One store that can be closed and opened again.
pub trait Fixture {
    /// Opens the store with what earlier openings have left in it. The one before has been dropped.
    fn open(&mut self, tagger: Tagger) -> Box<dyn Storage>;
}

/// One case of the suite: its name, and what it does with a fixture of its own. It panics where the store
/// is wrong.
pub type Case = (&'static str, fn(&mut dyn Fixture));

/// The cases, by name.
pub const CASES: &[Case] = &[
    ("a_new_message_gets_the_ids_that_everybody_would_give_it", ids),
    ("an_activity_is_new_once", exact),
    ("a_window_tells_copies_from_messages", window),
    ("a_window_ends_after_ten_minutes", window_border),
    ("the_oldest_message_that_is_unreported_is_repeated", window_oldest),
    ("a_held_message_is_held_by_all_who_bring_it", held),
    ("a_copy_that_waits_releases_what_is_held", released),
    ("a_release_places_only_what_is_held", release),
    ("an_activity_is_found_in_either_direction", target_activity),
    ("a_stanza_is_found_by_either_id", target_stanza),
    ("a_post_of_ours_is_known_by_its_iv", own),
    ("an_attempt_is_noted_and_taken_back", attempt),
    ("what_is_finished_keeps_no_body", bodies),
    ("what_came_back_waits_again", reopen),
    ("a_restart_finds_everything", restart),
    ("small_states_are_kept_and_forgotten", small),
    ("what_is_old_and_finished_is_forgotten", expire),
    ("batches_are_carried_out_in_order", order),
    ("what_people_are_told_is_kept_like_a_message_and_is_none", told),
    ("a_federated_contact_is_kept_by_the_address", federated),
];

/// One `#[test]` for each case of the suite, each with a fixture of its own: any expression that
/// makes a [`Fixture`](crate::conformance::Fixture).
#[macro_export]
macro_rules! storage_conformance {
    ($fixture:expr) => {
        $crate::storage_conformance!(@cases $fixture;
            a_new_message_gets_the_ids_that_everybody_would_give_it
            an_activity_is_new_once
            a_window_tells_copies_from_messages
            a_window_ends_after_ten_minutes
            the_oldest_message_that_is_unreported_is_repeated
            a_held_message_is_held_by_all_who_bring_it
            a_copy_that_waits_releases_what_is_held
            a_release_places_only_what_is_held
            an_activity_is_found_in_either_direction
            a_stanza_is_found_by_either_id
            a_post_of_ours_is_known_by_its_iv
            an_attempt_is_noted_and_taken_back
            what_is_finished_keeps_no_body
            what_came_back_waits_again
            a_restart_finds_everything
            small_states_are_kept_and_forgotten
            what_is_old_and_finished_is_forgotten
            batches_are_carried_out_in_order
            what_people_are_told_is_kept_like_a_message_and_is_none
            a_federated_contact_is_kept_by_the_address
        );
        #[test]
        fn every_case_of_the_suite_is_run() {
            assert_eq!($crate::conformance::CASES.len(), 20);
        }
    };
    (@cases $fixture:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                let case = $crate::conformance::CASES.iter().find(|(name, _)| *name == stringify!($case));
                (case.expect("the case is in the suite").1)(&mut $fixture);
            }
        )*
    };
}

/// A store under test, one commit after the other.
struct Store {
    storage: Box<dyn Storage>,
    batch: u64,
    now: Time,
}

fn tagger() -> Tagger {
    Tagger::new(b"the key of the conformance suite", &[])
}

impl Store {
    fn open(fixture: &mut dyn Fixture) -> (Self, Loaded) {
        let mut storage = fixture.open(tagger());
        let loaded = storage.load(Time(1_000)).expect("the store loads");
        (Self { storage, batch: 0, now: Time(1_000) }, loaded)
    }

    fn new(fixture: &mut dyn Fixture) -> Self {
        Self::open(fixture).0
    }

    fn batch(&mut self, inputs: Vec<Input>, changes: Vec<Change>) -> Batch {
        self.batch += 1;
        Batch { id: BatchId(self.batch), inputs, changes }
    }

    fn commit(&mut self, inputs: Vec<Input>, changes: Vec<Change>) -> Vec<Novelty> {
        let batch = self.batch(inputs, changes);
        let mut answers = self.storage.commit(&[batch], self.now).expect("the store commits");
        assert_eq!(answers.len(), 1, "one answer for one batch");
        answers.remove(0)
    }

    fn one(&mut self, input: Input) -> Novelty {
        let mut answers = self.commit(vec![input], Vec::new());
        assert_eq!(answers.len(), 1, "one answer for one input");
        answers.remove(0)
    }

    /// Commits something new; its entries.
    fn new_entries(&mut self, input: Input) -> Vec<EntryId> {
        match self.one(input) {
            Novelty::New { entries, .. } => entries,
            other => panic!("expected something new, got {other:?}"),
        }
    }

    fn change(&mut self, change: Change) {
        self.commit(Vec::new(), vec![change]);
    }

    fn entry(&mut self, id: EntryId) -> Entry {
        self.storage.entry(id).expect("the store reads").expect("there is such an entry").entry
    }

    /// What `target` refers to now, by committing something that does.
    fn lookup(&mut self, name: &str, target: TargetRef) -> Vec<EntryId> {
        let input = Input { target: Some(target), ..to_jabber(name, "lookup", EntryKind::Read) };
        match self.one(input) {
            Novelty::New { target, .. } => target.iter().map(|t| t.id).collect(),
            other => panic!("expected something new, got {other:?}"),
        }
    }
}

fn person(name: &str) -> PersonId {
    PersonId::new(name)
}

fn part(kind: EntryKind, text: &str) -> Part {
    Part { kind, body: Body::Clear(text.into()) }
}

fn to_webex(source: &str, report: Report) -> Input {
    Input {
        source: SourceId::new(source),
        repeat: Repeat::Window(report),
        lane: Lane::to_webex(&person("ann"), &person("bob")),
        sender: person("ann"),
        recipient: Some(person("bob")),
        carrier: person("ann"),
        stanza: Some(StanzaId::new(format!("stanza-{source}"))),
        from: Some("ann@x/phone".into()),
        conversation: None,
        time: Time(1_000_000),
        stamp: None,
        iv: None,
        parts: vec![part(EntryKind::Text, "hello")],
        target: None,
        prompt: true,
        state: EntryState::Waiting(1 << 33),
    }
}

fn to_jabber(activity: &str, conversation: &str, kind: EntryKind) -> Input {
    let conversation = ConversationId::new(conversation);
    Input {
        source: SourceId::new(activity),
        repeat: Repeat::Exact,
        lane: Lane::ToJabber(conversation.clone()),
        sender: person("ann"),
        recipient: None,
        carrier: person("ann"),
        stanza: None,
        from: None,
        conversation: Some(conversation),
        time: Time(1_000_000),
        stamp: None,
        iv: None,
        parts: vec![Part { kind, body: Body::Sealed { key: "kms://key".into(), jwe: "a.b.c.d.e".into() } }],
        target: None,
        prompt: false,
        state: EntryState::Waiting(1 << 33),
    }
}

fn report(session: &str, form: Form, stamped: bool) -> Report {
    Report { stream: ImpStreamId::new("stream"), session: person(session), form, stamped }
}

fn direct() -> Report {
    report("bob", Form::Direct, false)
}

fn is_new(novelty: &Novelty) -> Option<u32> {
    match novelty {
        Novelty::New { occurrence, .. } => Some(*occurrence),
        _ => None,
    }
}

fn repeats(novelty: &Novelty) -> Option<&[EntryId]> {
    match novelty {
        Novelty::Repeat { entries, .. } => Some(entries),
        _ => None,
    }
}

fn ids(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let input = Input {
        parts: vec![part(EntryKind::Text, "one"), part(EntryKind::Text, "two")],
        ..to_webex("s", direct())
    };
    let entries = store.new_entries(input.clone());
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].0, entries[0].0 + 1, "the parts of a message have consecutive numbers");
    let expected = input.entries(entries[0], 0, store.now, 1, &tagger());
    for (id, expected) in entries.into_iter().zip(expected) {
        assert_eq!(store.entry(id), expected);
        assert!(expected.iv.is_some());
    }
}

fn exact(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let entries = store.new_entries(to_jabber("a", "c", EntryKind::Text));
    let again = Input { time: Time(9_000_000), ..to_jabber("a", "c", EntryKind::Text) };
    assert_eq!(store.one(again.clone()), Novelty::Repeat { entries: entries.clone(), released: false });
    // Twice in one batch is once.
    let twice = store.commit(vec![to_jabber("b", "c", EntryKind::Text); 2], Vec::new());
    assert_eq!(is_new(&twice[0]), Some(0));
    assert!(repeats(&twice[1]).is_some());
    // Also once it is finished.
    store.change(Change::Done(entries[0], None));
    assert_eq!(store.one(again), Novelty::Repeat { entries, released: false });
}

fn window(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let first = store.new_entries(to_webex("s", direct()));
    // The same message in its other forms, on either session, stamped or not, on another stream.
    let other_stream = Report { stream: ImpStreamId::new("another"), ..direct() };
    for form in [
        report("ann", Form::Sent, false),
        report("bob", Form::Received, false),
        report("bob", Form::Direct, true),
        report("ann", Form::Direct, false),
        other_stream,
    ] {
        assert_eq!(repeats(&store.one(to_webex("s", form.clone()))), Some(first.as_slice()), "{form:?}");
    }
    // In a form that has reported it already it is another message: clients reuse ids.
    assert_eq!(is_new(&store.one(to_webex("s", direct()))), Some(1));
    let second = store.one(to_webex("s", report("ann", Form::Sent, false)));
    assert!(repeats(&second).is_some_and(|entries| entries != first));
    // Another source id is another message.
    assert_eq!(is_new(&store.one(to_webex("t", direct()))), Some(0));
}

fn window_border(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    store.new_entries(to_webex("s", direct()));
    let at = |ms: i64, form| Input { time: Time(1_000_000 + ms), ..to_webex("s", form) };
    let ten = 10 * 60 * 1000;
    assert!(repeats(&store.one(at(ten, report("ann", Form::Sent, false)))).is_some());
    assert!(repeats(&store.one(at(-ten, report("ann", Form::Sent, true)))).is_some());
    assert_eq!(is_new(&store.one(at(ten + 1, report("bob", Form::Received, false)))), Some(1));
    assert_eq!(is_new(&store.one(at(-ten - 1, report("bob", Form::Received, true)))), Some(2));
}

fn window_oldest(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let first = store.new_entries(to_webex("s", direct()));
    let second = store.new_entries(to_webex("s", direct()));
    let stamped = || to_webex("s", report("bob", Form::Direct, true));
    assert_eq!(repeats(&store.one(stamped())), Some(first.as_slice()));
    assert_eq!(repeats(&store.one(stamped())), Some(second.as_slice()));
    assert_eq!(is_new(&store.one(stamped())), Some(2));
    // Reports survive.
    drop(store);
    let (mut store, _) = Store::open(fixture);
    assert_eq!(is_new(&store.one(stamped())), Some(3));
}

fn held_by(who: &str, stamp: Option<Time>, report: Report) -> Input {
    Input {
        state: EntryState::Held { by: vec![person(who)] },
        stamp,
        parts: vec![part(EntryKind::Text, "one"), part(EntryKind::Text, "two")],
        ..to_webex("s", report)
    }
}

fn held(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let entries = store.new_entries(held_by("bob", None, direct()));
    let again = store.one(held_by("ann", Some(Time(7)), report("ann", Form::Sent, true)));
    assert_eq!(again, Novelty::Repeat { entries: entries.clone(), released: false });
    store.one(held_by("bob", Some(Time(5)), report("bob", Form::Direct, true)));
    drop(store);
    let (_, loaded) = Store::open(fixture);
    assert_eq!(loaded.entries.len(), 2);
    for entry in loaded.entries {
        assert_eq!(entry.state, EntryState::Held { by: vec![person("bob"), person("ann")] });
        assert_eq!(entry.stamp, Some(Time(7)));
    }
}

fn released(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let entries = store.new_entries(held_by("bob", None, direct()));
    let place = 1 << 34;
    let copy = |form| Input {
        state: EntryState::Waiting(place),
        ..held_by("ann", None, report("ann", form, false))
    };
    let answer = store.one(copy(Form::Sent));
    assert_eq!(answer, Novelty::Repeat { entries: entries.clone(), released: true });
    assert_eq!(store.entry(entries[0]).state, EntryState::Waiting(place));
    assert_eq!(store.entry(entries[1]).state, EntryState::Waiting(place + 1));
    // Another copy finds nothing to release, and holds nothing again.
    let later = Input { state: EntryState::Waiting(place + 9), ..copy(Form::Received) };
    assert_eq!(store.one(later), Novelty::Repeat { entries: entries.clone(), released: false });
    store.one(held_by("ann", Some(Time(1)), report("ann", Form::Direct, true)));
    assert_eq!(store.entry(entries[0]).state, EntryState::Waiting(place));
    drop(store);
    assert!(Store::open(fixture).1.next_place > place + 1);
}

fn release(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let held = store.new_entries(held_by("bob", None, direct()));
    let waiting = store.new_entries(to_webex("t", direct()));
    let place = 1 << 35;
    store.change(Change::Release(vec![(held[1], place), (waiting[0], place + 1)]));
    assert!(matches!(store.entry(held[0]).state, EntryState::Held { .. }));
    assert_eq!(store.entry(held[1]).state, EntryState::Waiting(place));
    assert_eq!(store.entry(waiting[0]).state, EntryState::Waiting(1 << 33));
    store.change(Change::Move(waiting[0], 3));
    assert_eq!(store.entry(waiting[0]).state, EntryState::Waiting(3));
    drop(store);
    assert!(Store::open(fixture).1.next_place > place + 1);
}

fn target_activity(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let native = store.new_entries(to_jabber("a", "c", EntryKind::Text));
    let about = |id: &str| TargetRef::Activity(ActivityId::new(id));
    let notice = Part { kind: EntryKind::DeleteNotice, body: Body::None };
    let edit = Input {
        parts: vec![part(EntryKind::Edit, "better"), notice],
        target: Some(about("a")),
        ..to_jabber("e", "c", EntryKind::Edit)
    };
    let Novelty::New { entries: edited, target, .. } = store.one(edit) else { panic!("an edit is new") };
    // What it refers to is looked up before it exists itself.
    assert_eq!(target.iter().map(|t| t.id).collect::<Vec<_>>(), native);
    assert_eq!(target[0].source, SourceId::new("a"));
    assert_eq!(target[0].sender, person("ann"));
    assert_eq!(target[0].conversation, Some(ConversationId::new("c")));
    assert_eq!(target[0].derived, store.entry(native[0]).derived);
    // The next one finds the edit too, but not its notice.
    assert_eq!(store.lookup("m1", about("a")), [native[0], edited[0]]);
    // What was posted is found by what it became.
    let posted = store.new_entries(to_webex("s", direct()));
    assert!(store.lookup("m2", about("p")).is_empty());
    let link = Link::Activity(ActivityId::new("p"), ConversationId::new("c"));
    store.change(Change::Done(posted[0], Some(link.clone())));
    assert_eq!(store.lookup("m3", about("p")), posted);
    // An entry is handed out with its target as it is now.
    store.change(Change::Close(native[0], "gone".into()));
    let stored = store.storage.entry(edited[0]).expect("the store reads").expect("it is there");
    assert_eq!(stored.target.len(), 2);
    assert_eq!(stored.target[0].state, EntryState::Closed("gone".into()));
    let mark = Input { target: Some(about("p")), ..to_jabber("m4", "c", EntryKind::Read) };
    let mark = store.new_entries(mark);
    let stored = store.storage.entry(mark[0]).expect("the store reads").expect("it is there");
    assert_eq!(stored.target[0].activity(), Some((ActivityId::new("p"), ConversationId::new("c"))));
}

fn target_stanza(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let about = |author: &str, id: &str| TargetRef::Stanza { author: person(author), id: StanzaId::new(id) };
    let native = store.new_entries(to_webex("s", direct()));
    let written = store.new_entries(to_jabber("a", "c", EntryKind::Text));
    let derived = store.entry(written[0]).derived;
    assert_eq!(store.lookup("m1", about("ann", "stanza-s")), native);
    assert!(store.lookup("m2", about("bob", "stanza-s")).is_empty(), "ids are its author's own");
    assert_eq!(store.lookup("m3", about("bob", derived.as_str())), written, "ours in whosever voice");
    assert!(store.lookup("m4", about("ann", "unknown")).is_empty());
}

fn own(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let posted = store.new_entries(to_webex("s", direct()));
    let iv = store.entry(posted[0]).iv;
    let back = |conversation: &str| Input { iv, ..to_jabber("p", conversation, EntryKind::Text) };
    let Novelty::Own(own) = store.one(back("c")) else { panic!("it is ours") };
    assert_eq!(own.id, posted[0]);
    let link = Link::Activity(ActivityId::new("p"), ConversationId::new("c"));
    store.change(Change::Done(posted[0], Some(link)));
    assert!(matches!(store.one(back("c")), Novelty::Own(_)));
    // By another author, or elsewhere, it is somebody's own message.
    assert!(is_new(&store.one(Input { source: SourceId::new("q"), ..back("elsewhere") })).is_some());
    let bob = Input { sender: person("bob"), source: SourceId::new("r"), ..back("c") };
    assert!(is_new(&store.one(bob)).is_some());
}

fn attempt(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let stanza = store.new_entries(to_jabber("a", "c", EntryKind::Text))[0];
    let post = store.new_entries(to_webex("s", direct()))[0];
    let position = Position { stream: ImpStreamId::new("stream"), n: 1 << 40 };
    store.change(Change::Attempt(stanza, Some(position.clone())));
    assert_eq!(store.entry(stanza).attempt, Some(position.clone()));
    drop(store);
    let (mut store, loaded) = Store::open(fixture);
    assert_eq!((loaded.run, loaded.entries[0].attempt.clone()), (2, Some(position)));
    assert_eq!((loaded.entries[0].run, loaded.entries[1].run), (1, 1));
    store.change(Change::Attempt(post, None));
    assert_eq!(store.entry(post).run, 2, "this run may have posted it");
    store.change(Change::Return(stanza));
    assert_eq!(store.entry(stanza).attempt, None);
    assert_eq!(store.entry(stanza).state, EntryState::Waiting(1 << 33));
    store.change(Change::Reported(stanza));
    assert!(store.entry(stanza).reported);
}

fn bodies(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let stanza = store.new_entries(to_jabber("a", "c", EntryKind::Text))[0];
    let post = store.new_entries(to_webex("s", direct()))[0];
    let closed = store.new_entries(to_webex("t", direct()))[0];
    let sealed = Body::Sealed { key: "kms://key".into(), jwe: "a.b.c.d.e".into() };
    assert_eq!(store.entry(stanza).body, sealed);
    assert_eq!(store.entry(post).body, Body::Clear("hello".into()));
    store.commit(
        Vec::new(),
        vec![Change::Done(stanza, None), Change::Done(post, None), Change::Close(closed, "never".into())],
    );
    assert_eq!(store.entry(post).body, Body::None);
    assert_eq!(store.entry(closed).body, Body::None);
    assert_eq!(store.entry(closed).state, EntryState::Closed("never".into()));
    assert_eq!(store.entry(stanza).body, sealed, "a stanza may come back as failed");
    let waiting = store.new_entries(to_jabber("b", "c", EntryKind::Text))[0];
    store.change(Change::Erase(store.now));
    assert_eq!(store.entry(stanza).body, sealed, "it was not committed before that");
    store.change(Change::Erase(store.now.plus(1)));
    assert_eq!(store.entry(stanza).body, Body::None);
    assert_eq!(store.entry(waiting).body, sealed, "it is not finished");
    // What begins closed has no body either.
    let refused = Input { state: EntryState::Closed("refused".into()), ..to_webex("u", direct()) };
    let refused = store.new_entries(refused)[0];
    assert_eq!(store.entry(refused).body, Body::None);
}

fn reopen(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let id = store.new_entries(to_jabber("a", "c", EntryKind::Text))[0];
    store.change(Change::Attempt(id, Some(Position { stream: ImpStreamId::new("stream"), n: 1 })));
    let (before, link) = (store.entry(id), Link::Stanza(store.entry(id).derived));
    store.change(Change::Done(id, Some(link.clone())));
    assert_eq!(store.entry(id).state, EntryState::Done(Some(link)));
    drop(store);
    let (mut store, loaded) = Store::open(fixture);
    assert_eq!(loaded.delivered, [Entry { body: Body::None, attempt: None, ..before }], "as it waited");
    store.change(Change::Reopen(id, 5));
    let entry = store.entry(id);
    assert_eq!((entry.state, entry.attempt), (EntryState::Waiting(5), None));
    assert_ne!(entry.body, Body::None);
    drop(store);
    let (_, loaded) = Store::open(fixture);
    assert_eq!((loaded.entries.len(), loaded.delivered.len()), (1, 0));
}

fn restart(fixture: &mut dyn Fixture) {
    let (mut store, empty) = Store::open(fixture);
    assert_eq!(empty.run, 1);
    assert!(empty.entries.is_empty() && empty.directory.is_none());
    let first = store.new_entries(to_jabber("a", "c", EntryKind::Text))[0];
    let done = store.new_entries(to_jabber("b", "c", EntryKind::Text))[0];
    store.change(Change::Done(done, None));
    let target = Some(TargetRef::Activity(ActivityId::new("b")));
    let mark = Input { target: target.clone(), ..to_jabber("m", "c", EntryKind::Read) };
    let mark = store.new_entries(Input { state: EntryState::Waiting(1 << 40), ..mark })[0];
    let before = store.entry(first);
    drop(store);
    let (_, loaded) = Store::open(fixture);
    assert_eq!(loaded.run, 2);
    assert_eq!(loaded.entries.iter().map(|e| e.id).collect::<Vec<_>>(), [first, mark]);
    assert_eq!(loaded.entries[0], Entry { body: Body::None, ..before });
    assert_eq!(loaded.entries[1].target, target);
    assert_eq!(loaded.targets.len(), 1);
    assert_eq!((loaded.targets[0].0, loaded.targets[0].1[0].id), (mark, done));
    assert!(loaded.next_place > 1 << 40);
}

fn small(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let (stream, other) = (ImpStreamId::new("stream"), ImpStreamId::new("other"));
    let value = |text: &str| Some(text.as_bytes().into());
    store.commit(
        Vec::new(),
        vec![
            Change::Handled(stream.clone(), 1 << 33),
            Change::Handled(other.clone(), 2),
            Change::Cursor(person("ann"), Some(Time(7))),
            Change::Cursor(person("bob"), Some(Time(8))),
            Change::Keep("a".into(), value("one")),
            Change::Keep("b".into(), value("two")),
            Change::Directory(Box::from(*b"who")),
            Change::Presence(person("ann"), Box::from(*b"here")),
        ],
    );
    store.commit(
        Vec::new(),
        vec![
            Change::Handled(stream.clone(), 1 << 34),
            Change::ForgetStream(other),
            Change::Cursor(person("bob"), None),
            Change::Keep("a".into(), value("three")),
            Change::Keep("b".into(), None),
        ],
    );
    drop(store);
    let (_, loaded) = Store::open(fixture);
    assert_eq!(loaded.streams, [(stream, 1 << 34)]);
    assert_eq!(loaded.cursors, [(person("ann"), Time(7))]);
    assert_eq!(loaded.kept, [("a".into(), Box::from(*b"three"))]);
    assert_eq!(loaded.directory.as_deref(), Some(b"who".as_slice()));
    assert_eq!(loaded.presence, [(person("ann"), Box::from(*b"here"))]);
}

fn expire(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let done = store.new_entries(to_webex("s", direct()))[0];
    let link = Link::Activity(ActivityId::new("p"), ConversationId::new("c"));
    store.change(Change::Done(done, Some(link)));
    let waiting = store.new_entries(to_webex("t", direct()))[0];
    store.now = Time(5_000);
    store.change(Change::Expire(Time(1_000)));
    assert!(repeats(&store.one(to_webex("s", report("ann", Form::Sent, false)))).is_some());
    store.change(Change::Expire(Time(1_001)));
    assert!(store.storage.entry(done).expect("the store reads").is_none());
    assert!(store.lookup("m", TargetRef::Activity(ActivityId::new("p"))).is_empty());
    assert!(is_new(&store.one(to_webex("s", direct()))).is_some());
    assert!(store.storage.entry(waiting).expect("the store reads").is_some(), "it is not finished");
}

fn order(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let id = store.new_entries(to_webex("s", direct()))[0];
    let first = store.batch(vec![to_webex("t", direct())], vec![Change::Close(id, "first".into())]);
    let second = store.batch(
        vec![to_webex("t", report("ann", Form::Sent, false)), to_webex("t", direct())],
        vec![Change::Close(id, "second".into()), Change::Close(id, "third".into())],
    );
    let answers = store.storage.commit(&[first, second], store.now).expect("the store commits");
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(is_new(&answers[0][0]), Some(0));
    assert!(repeats(&answers[1][0]).is_some());
    assert_eq!(is_new(&answers[1][1]), Some(1));
    assert_eq!(store.entry(id).state, EntryState::Closed("third".into()));
    assert!(store.storage.commit(&[], store.now).expect("the store commits").is_empty());
}

fn told(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let of = |client| Input {
        lane: Lane::Told(person("ann"), client),
        parts: vec![Part { kind: EntryKind::Undelivered, body: Body::None }],
        state: EntryState::Waiting(1 << 40),
        repeat: Repeat::Exact,
        ..to_webex(&format!("told/{client:?}"), direct())
    };
    let ids = [Client::Jabber, Client::Webex].map(|client| store.new_entries(of(client))[0]);
    let before = ids.map(|id| store.entry(id));
    assert_eq!(before[0].lane, Lane::Told(person("ann"), Client::Jabber));
    assert_eq!(before[0].from.as_deref(), Some("ann@x/phone"));
    assert!(repeats(&store.one(of(Client::Jabber))).is_some(), "it is told once");
    drop(store);
    let (mut store, loaded) = Store::open(fixture);
    assert_eq!(loaded.entries, before);
    // Neither a mark nor anything else means it.
    let stanza = before[0].stanza.clone().expect("it names the stanza that it is about");
    assert!(store.lookup("m", TargetRef::Stanza { author: person("ann"), id: stanza }).is_empty());
    // What takes the place of a message releases no earlier copy of it that is held.
    let held = to_webex("s", report("ann", Form::Sent, false));
    let held = store.new_entries(Input { state: EntryState::Held { by: vec![person("ann")] }, ..held })[0];
    let refused = Input { repeat: Repeat::Window(report("bob", Form::Direct, false)), ..of(Client::Jabber) };
    let answer = store.one(Input { source: SourceId::new("s"), ..refused });
    assert_eq!(answer, Novelty::Repeat { entries: vec![held], released: false });
    assert!(matches!(store.entry(held).state, EntryState::Held { .. }));
}

fn federated(fixture: &mut dyn Fixture) {
    let mut store = Store::new(fixture);
    let (contact, ann) = (PersonId::federated(&JabberId::new("pat@partner.example")), person("ann"));
    let from = |place| Input {
        lane: Lane::to_webex(&contact, &ann),
        sender: contact.clone(),
        carrier: contact.clone(),
        recipient: Some(ann.clone()),
        state: EntryState::Waiting(place),
        ..to_webex("s", report("ann", Form::Direct, false))
    };
    let id = store.new_entries(from(1 << 40))[0];
    let entry = store.entry(id);
    assert_eq!((entry.sender.federated_address(), &entry.sender), (Some("pat@partner.example"), &contact));
    drop(store);
    let (mut store, loaded) = Store::open(fixture);
    assert_eq!(loaded.entries, [Entry { body: Body::None, ..entry }]);
    let copy = Input { repeat: Repeat::Window(report("ann", Form::Received, false)), ..from(1 << 41) };
    assert_eq!(repeats(&store.one(copy)), Some(&[id][..]));
}
