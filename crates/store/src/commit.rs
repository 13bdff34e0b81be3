//! One transaction: what is new, what repeats, and the changes that the router decided.

use router::envelope::Link;
use router::ids::{EntryId, ImpStreamId, PersonId, Time};
use router::outbox::{
    Batch, Change, Entry, EntryState, EntrySummary, Input, Novelty, Repeat, Report, WINDOW,
};
use router::tag::Tagger;
use rusqlite::{Connection, OptionalExtension, Params, Transaction, params};

use crate::error::Failure;
use crate::find::Index;
use crate::names::Name;
use crate::rows::{self, CLOSED, COLUMNS, DONE, HELD, LinkColumns, WAITING};
use crate::seal::{Place, Sealer};

/// How many entries are read at once to be forgotten.
const EXPIRED_AT_ONCE: usize = 1000;

/// What the next entries are numbered from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) run: u32,
    pub(crate) next_entry: u64,
    pub(crate) next_place: u64,
    /// All names of entries below this one stand in the file's index.
    pub(crate) named: u64,
}

/// The writer of one transaction.
pub(crate) struct Writer<'a> {
    pub(crate) tx: &'a Transaction<'a>,
    pub(crate) sealer: &'a Sealer,
    pub(crate) tagger: &'a Tagger,
    pub(crate) now: Time,
    pub(crate) index: &'a mut Index,
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

    /// Ends the transaction's work: names move on into the file.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        let next = EntryId(self.counters.next_entry);
        if let Some(named) = self.index.names.settle(self.tx, next)? {
            self.counters.named = named.0;
        }
        Ok(())
    }

    fn input(&mut self, input: &Input) -> Result<Novelty, Failure> {
        if let Some(own) = self.own(input)? {
            return Ok(Novelty::Own(own));
        }
        let mut known = self.index.named(self.tx, Name::Source(input.source.as_str()))?;
        known.retain(|entry| entry.source == input.source);
        if let Some(occurrence) = self.repeated(input, &known)? {
            known.retain(|entry| entry.occurrence == occurrence);
            known.sort_unstable_by_key(|entry| entry.part);
            let released = self.brought(&known, input)?;
            let entries: Vec<EntryId> = known.iter().map(|entry| entry.id).collect();
            if let (Repeat::Window(report), Some(first)) = (&input.repeat, entries.first()) {
                self.remember(*first, report)?;
            }
            return Ok(Novelty::Repeat { entries, released });
        }
        let target = match &input.target {
            Some(target) => self.index.target(self.tx, target)?,
            None => Vec::new(),
        };
        let last = known.iter().map(|entry| entry.occurrence).max();
        let occurrence = last.map_or(0, |n| n.saturating_add(1));
        let first = EntryId(self.counters.next_entry);
        let rows = input.entries(first, occurrence, self.now, self.counters.run, self.tagger);
        let entries: Vec<EntryId> = rows.iter().map(|entry| entry.id).collect();
        self.counters.next_entry += rows.len() as u64;
        if let EntryState::Waiting(place) = input.state {
            self.place_given(place.saturating_add(rows.len().saturating_sub(1) as u64));
        }
        for entry in rows {
            rows::insert(self.tx, &entry, self.sealer)?;
            for name in Name::all(&entry) {
                self.index.names.add(self.tx, name, entry.id, EntryId(self.counters.named))?;
            }
            self.index.remember(entry);
        }
        if let (Repeat::Window(report), Some(first)) = (&input.repeat, entries.first()) {
            self.remember(*first, report)?;
        }
        Ok(Novelty::New { entries, occurrence, target })
    }

    /// The occurrence among these entries of its source that this input repeats (rules 2 and 3).
    fn repeated(&self, input: &Input, known: &[Entry]) -> Result<Option<u32>, Failure> {
        let Repeat::Window(report) = &input.repeat else {
            return Ok(known.iter().map(|entry| entry.occurrence).min());
        };
        let window = i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX);
        let mut found = None;
        for entry in known.iter().filter(|entry| entry.part == 0) {
            if entry.time.since(input.time).saturating_abs() <= window
                && found.is_none_or(|found| entry.occurrence < found)
                && !self.is_reported(entry.id, report)?
            {
                found = Some(entry.occurrence);
            }
        }
        Ok(found)
    }

    fn is_reported(&self, first: EntryId, report: &Report) -> Result<bool, Failure> {
        let mut find = self.tx.prepare_cached(
            "SELECT TRUE FROM reports WHERE entry = ?1 AND stream = ?2 AND session = ?3 AND form = ?4 AND stamped = ?5",
        )?;
        Ok(find.exists(params![
            first.0,
            report.stream.as_str(),
            report.session.as_str(),
            rows::form_number(report.form),
            report.stamped
        ])?)
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
    fn brought(&mut self, entries: &[Entry], input: &Input) -> Result<bool, Failure> {
        let mut released = false;
        for (Entry { id, state, lane, .. }, n) in entries.iter().zip(0..) {
            let EntryState::Held { by } = state else { continue };
            if *lane != input.lane {
                continue;
            }
            let mut by = by.clone();
            match &input.state {
                EntryState::Waiting(first) => {
                    self.release(*id, first + n)?;
                    released = true;
                }
                EntryState::Held { by: more } => {
                    self.index.changed(*id);
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
        let own = self.index.named(self.tx, Name::Iv(iv))?.into_iter().find(|entry| {
            entry.iv.as_ref() == Some(iv)
                && entry.sender == input.sender
                && match &entry.state {
                    EntryState::Done(Some(Link::Activity(_, conversation))) => {
                        input.conversation.as_ref() == Some(conversation)
                    }
                    _ => true,
                }
        });
        Ok(own.map(|entry| entry.summary()))
    }

    fn change(&mut self, change: &Change) -> Result<(), Failure> {
        if let Change::Move(id, _)
        | Change::Attempt(id, Some(_))
        | Change::Return(id)
        | Change::Done(id, _)
        | Change::Close(id, _)
        | Change::Reopen(id, _)
        | Change::Reported(id) = change
        {
            self.index.changed(*id);
        }
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
            Change::Attempt(id, at) => {
                if at.is_none() {
                    self.index.attempted(*id, self.counters.run);
                }
                let (stream, n) = (at.as_ref().map(|at| at.stream.as_str()), at.as_ref().map(|at| at.n));
                self.run(
                    "UPDATE entries SET run = ?2, attempt_stream = ?3, attempt_n = ?4 WHERE id = ?1",
                    params![id.0, self.counters.run, stream, n],
                )
            }
            Change::Return(id) => {
                self.run("UPDATE entries SET attempt_stream = NULL, attempt_n = NULL WHERE id = ?1", [id.0])
            }
            Change::Done(id, link) => {
                if let Some(Link::Activity(activity, _)) = link {
                    let name = Name::Activity(activity.as_str());
                    self.index.names.add(self.tx, name, *id, EntryId(self.counters.named))?;
                }
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
        self.index.changed(id);
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
    fn expire(&mut self, before: Time) -> Result<(), Failure> {
        let first_kept: Option<u64> = self
            .tx
            .prepare_cached("SELECT id FROM entries WHERE committed >= ?1 ORDER BY id LIMIT 1")?
            .query_row([before.0], |row| row.get(0))
            .optional()?;
        let first_kept = first_kept.unwrap_or(self.counters.next_entry);
        let first: Option<u64> = self.tx.query_row("SELECT min(id) FROM entries", [], |row| row.get(0))?;
        for from in (first.unwrap_or(first_kept)..first_kept).step_by(EXPIRED_AT_ONCE) {
            let until = first_kept.min(from + EXPIRED_AT_ONCE as u64);
            let finished = "id >= ?1 AND id < ?2 AND state >= ?3";
            for entry in rows::entries(self.tx, finished, params![from, until, DONE])? {
                self.forget(&entry)?;
            }
        }
        Ok(())
    }

    /// Forgets a finished entry, unless a part of its message is unfinished.
    fn forget(&mut self, entry: &Entry) -> Result<(), Failure> {
        let parts = self.index.named(self.tx, Name::Source(entry.source.as_str()))?;
        let waits = |part: &Entry| {
            (&part.source, part.occurrence) == (&entry.source, entry.occurrence) && !part.state.is_finished()
        };
        if parts.iter().any(waits) {
            return Ok(());
        }
        self.index.names.forget(self.tx, entry)?;
        self.run("DELETE FROM entries WHERE id = ?1", [entry.id.0])
    }

    fn place_given(&mut self, place: u64) {
        self.counters.next_place = self.counters.next_place.max(place.saturating_add(1));
    }

    fn run(&self, sql: &str, given: impl Params) -> Result<(), Failure> {
        self.tx.prepare_cached(sql)?.execute(given)?;
        Ok(())
    }
}

/// All unfinished entries without their bodies, in order of their numbers.
pub(crate) fn unfinished(db: &Connection) -> Result<Vec<Entry>, Failure> {
    Ok(rows::entries(db, &format!("state < {DONE}"), [])?)
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
