//! One transaction: what is new, what repeats, and the changes that the router decided.

use router::ids::{ConversationId, EntryId, ImpStreamId, PersonId, SourceId, Time};
use router::outbox::{
    Batch, Change, Entry, EntryState, EntrySummary, Input, Novelty, Repeat, Report, Stored, TargetRef, WINDOW,
};
use router::tag::Tagger;
use rusqlite::{Connection, OptionalExtension, Params, Transaction, named_params, params};

use crate::error::Failure;
use crate::rows::{self, CLOSED, COLUMNS, DONE, HELD, LinkColumns, WAITING};
use crate::seal::{Place, Sealer};

/// What the next entries are numbered from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) run: u32,
    pub(crate) next_entry: u64,
    pub(crate) next_place: u64,
}

/// The writer of one transaction.
pub(crate) struct Writer<'a> {
    pub(crate) tx: &'a Transaction<'a>,
    pub(crate) sealer: &'a Sealer,
    pub(crate) tagger: &'a Tagger,
    pub(crate) now: Time,
    pub(crate) counters: Counters,
}

impl Writer<'_> {
    /// Carries out one batch: the inputs, then the changes, each in order.
    pub(crate) fn batch(&mut self, batch: &Batch) -> Result<Vec<Novelty>, Failure> {
        let novelties = batch.inputs.iter().map(|input| self.input(input)).collect::<Result<_, _>>()?;
        for change in &batch.changes {
            self.change(change)?;
        }
        Ok(novelties)
    }

    fn input(&mut self, input: &Input) -> Result<Novelty, Failure> {
        if let Some(own) = self.own(input)? {
            return Ok(Novelty::Own(own));
        }
        if let Some(occurrence) = self.repeated(input)? {
            let entries = self.entries_of(&input.source, occurrence)?;
            let released = self.brought(&entries, input)?;
            if let (Repeat::Window(report), Some(first)) = (&input.repeat, entries.first()) {
                self.remember(*first, report)?;
            }
            return Ok(Novelty::Repeat { entries, released });
        }
        let target = match &input.target {
            Some(target) => target_of(self.tx, target)?,
            None => Vec::new(),
        };
        let occurrence = self.next_occurrence(&input.source)?;
        let first = EntryId(self.counters.next_entry);
        let rows = input.entries(first, occurrence, self.now, self.counters.run, self.tagger);
        for entry in &rows {
            rows::insert(self.tx, entry, self.sealer)?;
            if let EntryState::Waiting(place) = entry.state {
                self.place_given(place);
            }
        }
        self.counters.next_entry += rows.len() as u64;
        if let (Repeat::Window(report), Some(first)) = (&input.repeat, rows.first()) {
            self.remember(first.id, report)?;
        }
        Ok(Novelty::New { entries: rows.iter().map(|entry| entry.id).collect(), occurrence, target })
    }

    /// The occurrence that this input repeats (rules 2 and 3).
    fn repeated(&self, input: &Input) -> Result<Option<u32>, Failure> {
        let source = input.source.as_str();
        let window = i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX);
        let found = match &input.repeat {
            Repeat::Exact => self
                .tx
                .prepare_cached("SELECT min(occurrence) FROM entries WHERE source = ?1")?
                .query_row([source], |row| row.get(0))?,
            Repeat::Window(report) => self
                .tx
                .prepare_cached(
                    "SELECT min(occurrence) FROM entries
                     WHERE source = :source AND part = 0 AND time BETWEEN :from AND :to
                       AND NOT EXISTS (SELECT 1 FROM reports
                                       WHERE entry = entries.id AND stream = :stream AND session = :session
                                         AND form = :form AND stamped = :stamped)",
                )?
                .query_row(
                    named_params! {
                        ":source": source,
                        ":from": input.time.plus(-window).0,
                        ":to": input.time.plus(window).0,
                        ":stream": report.stream.as_str(),
                        ":session": report.session.as_str(),
                        ":form": rows::form_number(report.form),
                        ":stamped": report.stamped,
                    },
                    |row| row.get(0),
                )?,
        };
        Ok(found)
    }

    fn entries_of(&self, source: &SourceId, occurrence: u32) -> Result<Vec<EntryId>, Failure> {
        let mut find = self
            .tx
            .prepare_cached("SELECT id FROM entries WHERE source = ?1 AND occurrence = ?2 ORDER BY part")?;
        let ids = find.query_map(params![source.as_str(), occurrence], |row| row.get(0).map(EntryId))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    fn next_occurrence(&self, source: &SourceId) -> Result<u32, Failure> {
        let mut last = self.tx.prepare_cached("SELECT max(occurrence) FROM entries WHERE source = ?1")?;
        let last: Option<u32> = last.query_row([source.as_str()], |row| row.get(0))?;
        Ok(last.map_or(0, |n| n.saturating_add(1)))
    }

    fn remember(&self, first: EntryId, report: &Report) -> Result<(), Failure> {
        self.run(
            "INSERT OR IGNORE INTO reports VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                first.0,
                report.stream.as_str(),
                report.session.as_str(),
                rows::form_number(report.form),
                report.stamped
            ],
        )
    }

    /// What a copy of a held message changes about it (rule 8): a waiting copy releases it at its own
    /// place, a held one adds its holders and its stamp. Says whether it was released.
    fn brought(&mut self, entries: &[EntryId], input: &Input) -> Result<bool, Failure> {
        let mut released = false;
        for (id, n) in entries.iter().zip(0..) {
            let Some(Entry { state: EntryState::Held { mut by }, .. }) = find(self.tx, *id)? else {
                continue;
            };
            match &input.state {
                EntryState::Waiting(first) => {
                    self.release(*id, first + n)?;
                    released = true;
                }
                EntryState::Held { by: more } => {
                    by.extend(more.iter().filter(|person| !by.contains(person)).cloned().collect::<Vec<_>>());
                    self.run(
                        "UPDATE entries SET held_by = ?2, stamp = max(coalesce(stamp, ?3), coalesce(?3, stamp)) WHERE id = ?1",
                        params![id.0, rows::held_by(&by), input.stamp.map(|time| time.0)],
                    )?;
                }
                EntryState::Done(_) | EntryState::Closed(_) => {}
            }
        }
        Ok(released)
    }

    /// The post of ours that this is (rule 6): same IV, same author, and no other conversation.
    fn own(&self, input: &Input) -> Result<Option<EntrySummary>, Failure> {
        let Some(iv) = &input.iv else { return Ok(None) };
        let found = summaries(
            self.tx,
            "iv = ?1 AND sender = ?2 AND coalesce(link_conversation = ?3, TRUE)",
            params![
                iv.as_slice(),
                input.sender.as_str(),
                input.conversation.as_ref().map(ConversationId::as_str)
            ],
        )?;
        Ok(found.into_iter().next())
    }

    fn change(&mut self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::Release(places) => {
                for (id, place) in places {
                    self.release(*id, *place)?;
                }
                Ok(())
            }
            Change::Move(id, place) => self.run(
                "UPDATE entries SET place = ?2 WHERE id = ?1 AND state = ?3",
                params![id.0, place, WAITING],
            ),
            Change::Attempt(id, at) => self.run(
                "UPDATE entries SET run = ?2, attempt_stream = ?3, attempt_n = ?4 WHERE id = ?1",
                params![
                    id.0,
                    self.counters.run,
                    at.as_ref().map(|at| at.stream.as_str()),
                    at.as_ref().map(|at| at.n)
                ],
            ),
            Change::Return(id) => {
                self.run("UPDATE entries SET attempt_stream = NULL, attempt_n = NULL WHERE id = ?1", [id.0])
            }
            Change::Done(id, link) => {
                let link = LinkColumns::of(link.as_ref());
                self.run(
                    "UPDATE entries SET state = ?2, held_by = NULL, attempt_stream = NULL, attempt_n = NULL,
                         link_activity = ?3, link_conversation = ?4, link_stanza = ?5, reason = NULL,
                         body_form = iif(lane_to = 'webex', 0, body_form),
                         body_key = iif(lane_to = 'webex', NULL, body_key),
                         body = iif(lane_to = 'webex', NULL, body)
                     WHERE id = ?1",
                    params![id.0, DONE, link.activity, link.conversation, link.stanza],
                )
            }
            Change::Close(id, reason) => self.run(
                "UPDATE entries SET state = ?2, held_by = NULL, attempt_stream = NULL, attempt_n = NULL,
                     reason = ?3, link_activity = NULL, link_conversation = NULL, link_stanza = NULL,
                     body_form = 0, body_key = NULL, body = NULL
                 WHERE id = ?1",
                params![id.0, CLOSED, reason],
            ),
            Change::Reopen(id, place) => {
                self.place_given(*place);
                self.run(
                    "UPDATE entries SET state = ?2, held_by = NULL, place = ?3, attempt_stream = NULL,
                         attempt_n = NULL, link_activity = NULL, link_conversation = NULL, link_stanza = NULL, reason = NULL
                     WHERE id = ?1",
                    params![id.0, WAITING, place],
                )
            }
            Change::Reported(id) => self.run("UPDATE entries SET reported = TRUE WHERE id = ?1", [id.0]),
            Change::Erase(before) => self.run(
                "UPDATE entries SET body_form = 0, body_key = NULL, body = NULL
                 WHERE state >= 2 AND body_form <> 0 AND committed < ?1",
                [before.0],
            ),
            Change::Handled(stream, n) => self.run(
                "INSERT INTO streams VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET handled = excluded.handled",
                params![stream.as_str(), n],
            ),
            Change::ForgetStream(stream) => self.forget_stream(stream),
            Change::Cursor(person, time) => self.cursor(person, *time),
            Change::Keep(key, Some(value)) => self.run(
                "INSERT INTO kept VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
                params![key, self.sealer.seal(Place::Kept(key), value)],
            ),
            Change::Keep(key, None) => self.run("DELETE FROM kept WHERE key = ?1", [key]),
            Change::Directory(value) => self.run(
                "INSERT INTO sealed VALUES ('directory', ?1)
                 ON CONFLICT DO UPDATE SET value = excluded.value",
                [self.sealer.seal(Place::Directory, value)],
            ),
            Change::Presence(person, value) => self.run(
                "INSERT INTO presence VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
                params![person.as_str(), value],
            ),
            Change::Expire(before) => self.expire(*before),
        }
    }

    /// Gives a held entry its place in its lane.
    fn release(&mut self, id: EntryId, place: u64) -> Result<(), Failure> {
        self.place_given(place);
        self.run(
            "UPDATE entries SET state = ?3, held_by = NULL, place = ?2 WHERE id = ?1 AND state = ?4",
            params![id.0, place, WAITING, HELD],
        )
    }

    /// Its reports go with their entries: no stream has the same name again.
    fn forget_stream(&self, stream: &ImpStreamId) -> Result<(), Failure> {
        self.run("DELETE FROM streams WHERE stream = ?1", [stream.as_str()])
    }

    fn cursor(&self, person: &PersonId, time: Option<Time>) -> Result<(), Failure> {
        match time {
            Some(time) => self.run(
                "INSERT INTO cursors VALUES (?1, ?2) ON CONFLICT DO UPDATE SET time = excluded.time",
                params![person.as_str(), time.0],
            ),
            None => self.run("DELETE FROM cursors WHERE person = ?1", [person.as_str()]),
        }
    }

    /// Entries stand in the order of their commit, so that the old ones are read and no others. A message
    /// goes with all its parts.
    fn expire(&self, before: Time) -> Result<(), Failure> {
        let first_kept: Option<u64> = self
            .tx
            .prepare_cached("SELECT id FROM entries WHERE committed >= ?1 ORDER BY id LIMIT 1")?
            .query_row([before.0], |row| row.get(0))
            .optional()?;
        self.run(
            "DELETE FROM entries WHERE id < ?1 AND state >= ?2
                 AND NOT EXISTS (SELECT 1 FROM entries AS part
                                 WHERE part.source = entries.source AND part.occurrence = entries.occurrence
                                   AND part.state < ?2)",
            params![first_kept.unwrap_or(self.counters.next_entry), DONE],
        )
    }

    fn place_given(&mut self, place: u64) {
        self.counters.next_place = self.counters.next_place.max(place.saturating_add(1));
    }

    fn run(&self, sql: &str, given: impl Params) -> Result<(), Failure> {
        self.tx.prepare_cached(sql)?.execute(given)?;
        Ok(())
    }
}

/// One entry without its body.
fn find(db: &Connection, id: EntryId) -> Result<Option<Entry>, Failure> {
    let mut find = db.prepare_cached(&format!("SELECT {COLUMNS} FROM entries WHERE id = ?1"))?;
    Ok(find.query_row([id.0], rows::entry).optional()?)
}

/// What a reference means now, in order of numbers.
pub(crate) fn target_of(db: &Connection, target: &TargetRef) -> Result<Vec<EntrySummary>, Failure> {
    match target {
        TargetRef::Activity(id) => summaries(
            db,
            "id IN (SELECT id FROM entries WHERE source = ?1 AND lane_to = 'jabber'
                    UNION SELECT id FROM entries WHERE link_activity = ?1
                    UNION SELECT id FROM entries WHERE target_activity = ?1 AND kind = 'edit')",
            [id.as_str()],
        ),
        TargetRef::Stanza { author, id } => {
            let written = summaries(db, "derived = ?1", [id.as_str()])?;
            if !written.is_empty() {
                return Ok(written);
            }
            summaries(db, "sender = ?1 AND stanza = ?2 AND kind <> 'read'", [author.as_str(), id.as_str()])
        }
    }
}

/// One entry with its body, and what it refers to.
pub(crate) fn stored(db: &Connection, id: EntryId, sealer: &Sealer) -> Result<Option<Stored>, Failure> {
    let Some(mut entry) = find(db, id)? else { return Ok(None) };
    entry.body = rows::body(db, id, sealer)?;
    let target = match &entry.target {
        Some(target) => target_of(db, target)?,
        None => Vec::new(),
    };
    Ok(Some(Stored { entry, target }))
}

/// The entries for which a condition holds, in order of their numbers.
fn summaries(db: &Connection, condition: &str, given: impl Params) -> Result<Vec<EntrySummary>, Failure> {
    let mut find =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM entries WHERE {condition} ORDER BY id"))?;
    let found = find.query_map(given, rows::summary)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// All unfinished entries without their bodies, in order of their numbers.
pub(crate) fn unfinished(db: &Connection) -> Result<Vec<Entry>, Failure> {
    let mut find =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM entries WHERE state < {DONE} ORDER BY id"))?;
    let found = find.query_map([], rows::entry)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// What was delivered to Jabber and still has its body, as it waited, in order of numbers.
pub(crate) fn delivered(db: &Connection) -> Result<Vec<Entry>, Failure> {
    let mut find = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM entries
         WHERE state >= 2 AND body_form <> 0 AND state = {DONE} AND place IS NOT NULL ORDER BY id"
    ))?;
    let found = find.query_map([], |row| {
        Ok(Entry { state: EntryState::Waiting(row.get("place")?), ..rows::entry(row)? })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}
