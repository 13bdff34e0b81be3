//! Entries as rows, and back.

use router::entitlement::Client;
use router::envelope::{Body, Form, Link};
use router::ids::{
    ActivityId, ConversationId, DerivedId, EntryId, ImpStreamId, PersonId, Position, SourceId, StanzaId, Time,
};
use router::outbox::{Entry, EntryKind, EntryState, Lane, TargetRef};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row, params};

use crate::error::Failure;
use crate::seal::{DoesNotOpen, Place, Sealer};

pub(crate) const HELD: u8 = 0;
pub(crate) const WAITING: u8 = 1;
pub(crate) const DONE: u8 = 2;
pub(crate) const CLOSED: u8 = 3;

const NO_BODY: u8 = 0;
const CLEAR_BODY: u8 = 1;
const SEALED_BODY: u8 = 2;

/// The columns that every reader of an entry here selects; the body is read apart from them.
pub(crate) const COLUMNS: &str = "id, source, occurrence, part, derived, iv, lane_to, lane_a, lane_b, kind, \
     sender, recipient, carrier, conversation, stanza, time, stamp, target_activity, target_author, \
     target_stanza, committed, run, state, held_by, place, attempt_stream, attempt_n, link_activity, \
     link_conversation, link_stanza, reason, reported, from_jid";

/// A state as its columns.
struct StateColumns<'a> {
    state: u8,
    held_by: Option<String>,
    place: Option<u64>,
    link: LinkColumns<'a>,
    reason: Option<&'a str>,
}

/// A link as its columns.
#[derive(Default)]
pub(crate) struct LinkColumns<'a> {
    pub(crate) activity: Option<&'a str>,
    pub(crate) conversation: Option<&'a str>,
    pub(crate) stanza: Option<&'a str>,
}

impl<'a> LinkColumns<'a> {
    pub(crate) fn of(link: Option<&'a Link>) -> Self {
        match link {
            None => Self::default(),
            Some(Link::Activity(activity, conversation)) => Self {
                activity: Some(activity.as_str()),
                conversation: Some(conversation.as_str()),
                stanza: None,
            },
            Some(Link::Stanza(id)) => Self { stanza: Some(id.as_str()), ..Self::default() },
        }
    }
}

fn state_columns(state: &EntryState) -> StateColumns<'_> {
    let mut columns =
        StateColumns { state: HELD, held_by: None, place: None, link: LinkColumns::default(), reason: None };
    match state {
        EntryState::Held { by } => columns.held_by = Some(held_by(by)),
        EntryState::Waiting(place) => {
            columns.state = WAITING;
            columns.place = Some(*place);
        }
        EntryState::Done(link) => {
            columns.state = DONE;
            columns.link = LinkColumns::of(link.as_ref());
        }
        EntryState::Closed(reason) => {
            columns.state = CLOSED;
            columns.reason = Some(reason);
        }
    }
    columns
}

/// A body as its columns: clear text sealed for this row, a JWE as it came.
pub(crate) struct BodyColumns<'a> {
    pub(crate) form: u8,
    pub(crate) key: Option<&'a str>,
    pub(crate) body: Option<Vec<u8>>,
}

impl<'a> BodyColumns<'a> {
    pub(crate) fn of(body: &'a Body, id: EntryId, sealer: &Sealer) -> Self {
        match body {
            Body::None => Self { form: NO_BODY, key: None, body: None },
            Body::Clear(text) => Self {
                form: CLEAR_BODY,
                key: None,
                body: Some(sealer.seal(Place::Body(id.0), text.as_bytes())),
            },
            Body::Sealed { key, jwe } => {
                Self { form: SEALED_BODY, key: Some(key), body: Some(jwe.as_bytes().to_vec()) }
            }
        }
    }
}

/// How a form of arrival is numbered on disk.
pub(crate) fn form_number(form: Form) -> u8 {
    match form {
        Form::Direct => 0,
        Form::Received => 1,
        Form::Sent => 2,
        Form::Archived => 3,
    }
}

/// Who holds an entry, as one value: ids hold no line breaks.
pub(crate) fn held_by(people: &[PersonId]) -> String {
    people.iter().map(PersonId::as_str).collect::<Vec<_>>().join("\n")
}

/// Inserts one entry. A finished one keeps no body.
pub(crate) fn insert(db: &Connection, entry: &Entry, sealer: &Sealer) -> Result<(), Failure> {
    let (lane_to, lane_a, lane_b) = match &entry.lane {
        Lane::ToWebex(a, b) => ("webex", a.as_str(), Some(b.as_str())),
        Lane::ToJabber(conversation) => ("jabber", conversation.as_str(), None),
        Lane::Told(person, Client::Webex) => ("webex", person.as_str(), Some("")),
        Lane::Told(person, Client::Jabber) => ("jabber", person.as_str(), Some("")),
    };
    let (target_activity, target_author, target_stanza) = match &entry.target {
        None => (None, None, None),
        Some(TargetRef::Activity(id)) => (Some(id.as_str()), None, None),
        Some(TargetRef::Stanza { author, id }) => (None, Some(author.as_str()), Some(id.as_str())),
    };
    let state = state_columns(&entry.state);
    let body =
        BodyColumns::of(if entry.state.is_finished() { &Body::None } else { &entry.body }, entry.id, sealer);
    // By place: binding a value by its name costs more than writing the row.
    db.prepare_cached(
        "INSERT INTO entries (
             id, source, occurrence, part, derived, iv, lane_to, lane_a, lane_b, kind, sender,
             recipient, carrier, conversation, stanza, time, stamp, target_activity,
             target_author, target_stanza, committed, run, state, held_by, place,
             attempt_stream, attempt_n, link_activity, link_conversation, link_stanza, reason,
             reported, from_jid, body_form, body_key, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        entry.id.0,
        entry.source.as_str(),
        entry.occurrence,
        entry.part,
        entry.derived.as_str(),
        entry.iv.as_ref().map(<[u8; 12]>::as_slice),
        lane_to,
        lane_a,
        lane_b,
        entry.kind.tag(),
        entry.sender.as_str(),
        entry.recipient.as_ref().map(PersonId::as_str),
        entry.carrier.as_str(),
        entry.conversation.as_ref().map(ConversationId::as_str),
        entry.stanza.as_ref().map(StanzaId::as_str),
        entry.time.0,
        entry.stamp.map(|time| time.0),
        target_activity,
        target_author,
        target_stanza,
        entry.committed.0,
        entry.run,
        state.state,
        state.held_by,
        state.place,
        entry.attempt.as_ref().map(|at| at.stream.as_str()),
        entry.attempt.as_ref().map(|at| at.n),
        state.link.activity,
        state.link.conversation,
        state.link.stanza,
        state.reason,
        entry.reported,
        entry.from,
        body.form,
        body.key,
        body.body,
    ])?;
    Ok(())
}

/// The entry of a row of [`COLUMNS`], without its body.
pub(crate) fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    // By place: finding a column by its name costs more than all the rest.
    let columns = &mut (0..);
    let mut column = || columns.next().unwrap_or_default();
    let id = EntryId(row.get(column())?);
    let source = SourceId::new(row.get::<_, Box<str>>(column())?);
    let (occurrence, part) = (row.get(column())?, row.get(column())?);
    let derived = DerivedId::new(row.get::<_, Box<str>>(column())?);
    let iv = match row.get::<_, Option<Vec<u8>>>(column())?.map(<[u8; 12]>::try_from) {
        None => None,
        Some(Ok(iv)) => Some(iv),
        Some(Err(_)) => return Err(nonsense("iv", Type::Blob)),
    };
    let lane_to = column();
    let (lane_a, lane_b) = (row.get::<_, Box<str>>(column())?, text(row, column())?);
    let lane = match (row.get_ref(lane_to)?.as_str()?, lane_b) {
        ("webex", Some(b)) if b.is_empty() => Lane::Told(PersonId::new(lane_a), Client::Webex),
        ("jabber", Some(b)) if b.is_empty() => Lane::Told(PersonId::new(lane_a), Client::Jabber),
        ("webex", Some(b)) => Lane::ToWebex(PersonId::new(lane_a), PersonId::new(b)),
        ("jabber", None) => Lane::ToJabber(ConversationId::new(lane_a)),
        _ => return Err(nonsense("lane_to", Type::Text)),
    };
    let kind = kind(row.get_ref(column())?.as_str()?)?;
    let sender = PersonId::new(row.get::<_, Box<str>>(column())?);
    let recipient = text(row, column())?.map(PersonId::new);
    let carrier = PersonId::new(row.get::<_, Box<str>>(column())?);
    let conversation = text(row, column())?.map(ConversationId::new);
    let stanza = text(row, column())?.map(StanzaId::new);
    let time = Time(row.get(column())?);
    let stamp = row.get::<_, Option<i64>>(column())?.map(Time);
    let target = target(text(row, column())?, text(row, column())?, text(row, column())?);
    let (committed, run) = (Time(row.get(column())?), row.get(column())?);
    let (number, held_by, place) = (row.get(column())?, text(row, column())?, row.get(column())?);
    let attempt = match (text(row, column())?, row.get::<_, Option<u64>>(column())?) {
        (Some(stream), Some(n)) => Some(Position { stream: ImpStreamId::new(stream), n }),
        _ => None,
    };
    let link = link(text(row, column())?, text(row, column())?, text(row, column())?);
    let (reason, reported, from) = (text(row, column())?, row.get(column())?, text(row, column())?);
    let state = state(number, held_by, place, link, reason)?;
    Ok(Entry {
        id,
        source,
        occurrence,
        part,
        derived,
        iv,
        lane,
        kind,
        sender,
        recipient,
        carrier,
        conversation,
        stanza,
        from,
        time,
        stamp,
        target,
        committed,
        state,
        run,
        attempt,
        reported,
        body: Body::None,
    })
}

/// One entry without its body.
pub(crate) fn find(db: &Connection, id: EntryId) -> rusqlite::Result<Option<Entry>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM entries WHERE id = ?1"))?
        .query_row([id.0], entry)
        .optional()
}

/// The entries for which a condition holds, without their bodies, in order of their numbers.
pub(crate) fn entries(db: &Connection, condition: &str, given: impl Params) -> rusqlite::Result<Vec<Entry>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM entries WHERE {condition} ORDER BY id"))?
        .query_map(given, entry)?
        .collect()
}

/// The body of an entry.
pub(crate) fn body(db: &Connection, id: EntryId, sealer: &Sealer) -> Result<Body, Failure> {
    let mut find: CachedStatement<'_> =
        db.prepare_cached("SELECT body_form, body_key, body FROM entries WHERE id = ?1")?;
    let (form, key, body) = find.query_row([id.0], |row| {
        Ok((row.get::<_, u8>(0)?, row.get::<_, Option<Box<str>>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?))
    })?;
    match (form, key, body) {
        (NO_BODY, _, _) => Ok(Body::None),
        (CLEAR_BODY, _, Some(sealed)) => {
            let clear = sealer.open(Place::Body(id.0), &sealed)?;
            Ok(Body::Clear(String::from_utf8(clear).map_err(|_| DoesNotOpen)?.into()))
        }
        (SEALED_BODY, Some(key), Some(jwe)) => {
            let jwe = String::from_utf8(jwe).map_err(|_| nonsense("body", Type::Blob))?;
            Ok(Body::Sealed { key: key.into(), jwe: jwe.into() })
        }
        _ => Err(nonsense("body_form", Type::Integer).into()),
    }
}

fn kind(tag: &str) -> rusqlite::Result<EntryKind> {
    Ok(match tag {
        "text" => EntryKind::Text,
        "files" => EntryKind::Files,
        "file-notice" => EntryKind::FileNotice,
        "edit" => EntryKind::Edit,
        "delete-notice" => EntryKind::DeleteNotice,
        "read" => EntryKind::Read,
        "undelivered" => EntryKind::Undelivered,
        "late" => EntryKind::Late,
        "refused" => EntryKind::Refused,
        "space-notice" => EntryKind::SpaceNotice,
        "half-notice" => EntryKind::HalfNotice,
        "gap-notice" => EntryKind::GapNotice,
        _ => return Err(nonsense("kind", Type::Text)),
    })
}

fn target(
    activity: Option<Box<str>>,
    author: Option<Box<str>>,
    stanza: Option<Box<str>>,
) -> Option<TargetRef> {
    match (activity, author, stanza) {
        (Some(id), ..) => Some(TargetRef::Activity(ActivityId::new(id))),
        (None, Some(author), Some(id)) => {
            Some(TargetRef::Stanza { author: PersonId::new(author), id: StanzaId::new(id) })
        }
        _ => None,
    }
}

fn link(
    activity: Option<Box<str>>,
    conversation: Option<Box<str>>,
    stanza: Option<Box<str>>,
) -> Option<Link> {
    match (activity, conversation, stanza) {
        (Some(activity), Some(conversation), _) => {
            Some(Link::Activity(ActivityId::new(activity), ConversationId::new(conversation)))
        }
        (_, _, Some(stanza)) => Some(Link::Stanza(DerivedId::new(stanza))),
        _ => None,
    }
}

fn state(
    number: u8,
    held_by: Option<Box<str>>,
    place: Option<u64>,
    link: Option<Link>,
    reason: Option<Box<str>>,
) -> rusqlite::Result<EntryState> {
    match (number, held_by, place, reason) {
        (HELD, Some(by), ..) => Ok(EntryState::Held { by: by.lines().map(PersonId::new).collect() }),
        (WAITING, _, Some(place), _) => Ok(EntryState::Waiting(place)),
        (DONE, ..) => Ok(EntryState::Done(link)),
        (CLOSED, .., Some(reason)) => Ok(EntryState::Closed(reason)),
        _ => Err(nonsense("state", Type::Integer)),
    }
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Box<str>>> {
    row.get(column)
}

/// A value that this release never writes: the file is damaged.
fn nonsense(column: &'static str, found: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        0,
        found,
        Box::new(FromSqlError::Other(format!("unknown value in column {column}").into())),
    )
}
