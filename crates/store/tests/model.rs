//! Any sequence of batches leaves the file as it leaves the store in memory, also across restarts.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use router::entitlement::Client;
use router::envelope::{Body, Form, Link};
use router::ids::{
    ActivityId, BatchId, ConversationId, EntryId, ImpStreamId, PersonId, Position, SourceId, StanzaId, Time,
};
use router::memory::MemoryStorage;
use router::outbox::{
    Batch, Change, EntryKind, EntryState, Input, Lane, Loaded, Part, Repeat, Report, Storage, TargetRef,
};
use store::Options;
use support::{Place, person, tagger};

const MINUTE: i64 = 60_000;

/// Names are few, so that they meet.
fn names() -> impl Strategy<Value = PersonId> {
    prop_oneof![Just(person("ann")), Just(person("bob"))]
}

fn streams() -> impl Strategy<Value = ImpStreamId> {
    (0..2).prop_map(|n| ImpStreamId::new(format!("stream-{n}")))
}

fn conversations() -> impl Strategy<Value = ConversationId> {
    (0..2).prop_map(|n| ConversationId::new(format!("c{n}")))
}

fn ids() -> impl Strategy<Value = EntryId> {
    (1..12u64).prop_map(EntryId)
}

fn places() -> impl Strategy<Value = u64> {
    (1u64 << 32)..(1 << 32) + 50
}

fn times() -> impl Strategy<Value = Time> {
    (0..6i64).prop_map(|n| Time(n * 7 * MINUTE))
}

fn repeats() -> impl Strategy<Value = Repeat> {
    let forms = prop_oneof![Just(Form::Direct), Just(Form::Received), Just(Form::Sent), Just(Form::Archived)];
    let windows = (streams(), names(), forms, any::<bool>()).prop_map(|(stream, session, form, stamped)| {
        Repeat::Window(Report { stream, session, form, stamped })
    });
    prop_oneof![Just(Repeat::Exact), windows]
}

fn states() -> impl Strategy<Value = EntryState> {
    prop_oneof![
        3 => vec(names(), 1..2).prop_map(|by| EntryState::Held { by }),
        3 => places().prop_map(EntryState::Waiting),
        1 => Just(EntryState::Closed("refused".into())),
    ]
}

fn targets() -> impl Strategy<Value = Option<TargetRef>> {
    prop_oneof![
        2 => Just(None),
        1 => (0..4).prop_map(|n| Some(TargetRef::Activity(ActivityId::new(format!("m{n}"))))),
        1 => (names(), 0..4).prop_map(|(author, n)| {
            Some(TargetRef::Stanza { author, id: StanzaId::new(format!("m{n}")) })
        }),
    ]
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let kinds = prop_oneof![
        Just(EntryKind::Text),
        Just(EntryKind::Edit),
        Just(EntryKind::Undelivered),
        Just(EntryKind::Read)
    ];
    let bodies = prop_oneof![
        Just(Body::None),
        "[a-z]{0,8}".prop_map(|text| Body::Clear(text.into())),
        "[a-z]{0,8}".prop_map(|jwe| Body::Sealed { key: "kms://k".into(), jwe: jwe.into() }),
    ];
    vec((kinds, bodies).prop_map(|(kind, body)| Part { kind, body }), 1..3)
}

prop_compose! {
    fn inputs()(
        (source, stanza) in (0..4, proptest::option::of(0..4)),
        repeat in repeats(),
        lane in prop_oneof![
            Just(Lane::to_webex(&person("ann"), &person("bob"))),
            conversations().prop_map(Lane::ToJabber),
            Just(Lane::Told(person("ann"), Client::Jabber)),
            Just(Lane::Told(person("ann"), Client::Webex)),
        ],
        (sender, carrier) in (names(), names()),
        conversation in proptest::option::of(conversations()),
        (time, stamp) in (times(), proptest::option::of(times())),
        parts in parts(),
        target in targets(),
        state in states(),
    ) -> Input {
        Input {
            source: SourceId::new(format!("m{source}")),
            repeat,
            lane,
            sender,
            recipient: None,
            carrier,
            stanza: stanza.map(|n: i32| StanzaId::new(format!("m{n}"))),
            from: stanza.map(|n: i32| format!("ann@x/{n}").into()),
            conversation,
            time,
            stamp,
            iv: None,
            parts,
            target,
            prompt: time.0 % 2 == 0,
            state,
        }
    }
}

fn links() -> impl Strategy<Value = Option<Link>> {
    let activity = (0..4, conversations())
        .prop_map(|(n, conversation)| Some(Link::Activity(ActivityId::new(format!("m{n}")), conversation)));
    prop_oneof![Just(None), activity]
}

fn changes() -> impl Strategy<Value = Change> {
    let values = || vec(any::<u8>(), 0..6).prop_map(Vec::into_boxed_slice);
    prop_oneof![
        4 => vec((ids(), places()), 0..4).prop_map(Change::Release),
        2 => (ids(), proptest::option::of((streams(), 0..9u64))).prop_map(|(id, at)| {
            Change::Attempt(id, at.map(|(stream, n)| Position { stream, n }))
        }),
        1 => ids().prop_map(Change::Return),
        3 => (ids(), links()).prop_map(|(id, link)| Change::Done(id, link)),
        1 => ids().prop_map(|id| Change::Close(id, "reason".into())),
        1 => (ids(), places()).prop_map(|(id, place)| Change::Reopen(id, place)),
        1 => ids().prop_map(Change::Reported),
        1 => times().prop_map(Change::Erase),
        1 => (streams(), 0..99u64).prop_map(|(stream, n)| Change::Handled(stream, n)),
        1 => streams().prop_map(Change::ForgetStream),
        1 => (names(), proptest::option::of(times())).prop_map(|(who, time)| Change::Cursor(who, time)),
        1 => ("[ab]", proptest::option::of(values())).prop_map(|(key, value)| Change::Keep(key.into(), value)),
        1 => values().prop_map(Change::Directory),
        1 => (names(), values()).prop_map(|(who, value)| Change::Presence(who, value)),
        1 => times().prop_map(Change::Expire),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(Vec<Input>, Vec<Change>)>),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let batches = vec((vec(inputs(), 0..3), vec(changes(), 0..4)), 1..3);
    vec(prop_oneof![6 => batches.prop_map(Step::Commit), 1 => Just(Step::Restart)], 1..25)
}

/// Everything that can be read from a store. The next place is left out: a store may skip some.
fn contents(store: &mut dyn Storage) -> String {
    let loaded = Loaded { next_place: 0, ..store.load(Time(0)).unwrap() };
    let entries: Vec<_> = (1..60).map(|id| store.entry(EntryId(id)).unwrap()).collect();
    format!("{loaded:#?}\n{entries:#?}")
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(50)
}

proptest! {
    // Every commit waits for the disk, so cases are few; `PROPTEST_CASES` makes them more.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn the_file_and_the_memory_agree(steps in steps(), young in prop_oneof![0..6usize, Just(16_384)]) {
        let place = Place::new();
        let mut model = MemoryStorage::new(tagger());
        // Names that go into the file's index at once, soon, or not within this test.
        let mut options = Options::default();
        options.young = young;
        let mut store = place.open_with(options);
        model.load(Time(0)).unwrap();
        store.load(Time(0)).unwrap();
        for (step, now) in steps.into_iter().zip((0i64..).step_by(3)) {
            match step {
                Step::Commit(batches) => {
                    let batches: Vec<_> = batches
                        .into_iter()
                        .map(|(inputs, changes)| Batch { id: BatchId(1), inputs, changes })
                        .collect();
                    let now = Time(now * MINUTE);
                    let (theirs, ours) = (model.commit(&batches, now).unwrap(), store.commit(&batches, now).unwrap());
                    prop_assert_eq!(ours, theirs);
                }
                Step::Restart => {
                    drop(store);
                    store = place.open_with(options);
                    prop_assert_eq!(contents(&mut store), contents(&mut model));
                }
            }
        }
        prop_assert_eq!(contents(&mut store), contents(&mut model));
    }
}
