//! Tables, keys and the version of the format. `docs/format.md` says what each column means.

use rusqlite::Transaction;

use crate::names;

/// The format that this release writes; it reads every format from 1 on.
pub const FORMAT_VERSION: u32 = 2;

/// "HMsg", at byte 68 of the file: how a store is told from any other SQLite file.
pub(crate) const APPLICATION_ID: i32 = 0x484d_7367;

/// Step `n` brings a file of format `n` to format `n + 1`; an empty file has format 0. A released step
/// is never changed.
pub(crate) const STEPS: [fn(&Transaction<'_>) -> rusqlite::Result<()>; FORMAT_VERSION as usize] =
    [create, name_and_tell];

fn create(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute_batch(
        "
        CREATE TABLE counters (
            one        INTEGER PRIMARY KEY CHECK (one = 1),
            run        INTEGER NOT NULL,
            next_entry INTEGER NOT NULL,
            next_place INTEGER NOT NULL
        ) STRICT;
        -- Places begin in the middle, so that what comes back has room at the front.
        INSERT INTO counters VALUES (1, 0, 1, 4294967296);

        CREATE TABLE entries (
            id                INTEGER PRIMARY KEY,
            source            TEXT NOT NULL,
            occurrence        INTEGER NOT NULL,
            part              INTEGER NOT NULL,
            derived           TEXT NOT NULL,
            iv                BLOB,
            lane_to           TEXT NOT NULL CHECK (lane_to IN ('webex', 'jabber')),
            lane_a            TEXT NOT NULL,
            lane_b            TEXT,
            kind              TEXT NOT NULL,
            sender            TEXT NOT NULL,
            recipient         TEXT,
            carrier           TEXT NOT NULL,
            conversation      TEXT,
            stanza            TEXT,
            time              INTEGER NOT NULL,
            stamp             INTEGER,
            target_activity   TEXT,
            target_author     TEXT,
            target_stanza     TEXT,
            committed         INTEGER NOT NULL,
            run               INTEGER NOT NULL,
            state             INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
            held_by           TEXT,
            place             INTEGER,
            attempt_stream    TEXT,
            attempt_n         INTEGER,
            link_activity     TEXT,
            link_conversation TEXT,
            link_stanza       TEXT,
            reason            TEXT,
            reported          INTEGER NOT NULL,
            body_form         INTEGER NOT NULL CHECK (body_form BETWEEN 0 AND 2),
            body_key          TEXT,
            body              BLOB
        ) STRICT;
        CREATE UNIQUE INDEX entries_source ON entries (source, occurrence, part);
        CREATE INDEX entries_unfinished ON entries (id) WHERE state < 2;
        CREATE INDEX entries_erasable ON entries (id) WHERE state >= 2 AND body_form <> 0;
        CREATE INDEX entries_derived ON entries (derived);
        CREATE INDEX entries_iv ON entries (iv) WHERE iv IS NOT NULL;
        CREATE INDEX entries_activity ON entries (link_activity) WHERE link_activity IS NOT NULL;
        CREATE INDEX entries_target ON entries (target_activity) WHERE target_activity IS NOT NULL;
        CREATE INDEX entries_stanza ON entries (sender, stanza) WHERE stanza IS NOT NULL;

        CREATE TABLE reports (
            entry   INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
            stream  TEXT NOT NULL,
            session TEXT NOT NULL,
            form    INTEGER NOT NULL,
            stamped INTEGER NOT NULL,
            PRIMARY KEY (entry, stream, session, form, stamped)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE streams (stream TEXT PRIMARY KEY, handled INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE cursors (person TEXT PRIMARY KEY, time INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE presence (person TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
        CREATE TABLE kept (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
        CREATE TABLE sealed (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
        ",
    )
}

/// One index of names in place of six of ids. And there are entries that the connector itself says, and each knows
/// which client wrote it.
fn name_and_tell(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute_batch(
        "
        ALTER TABLE entries ADD COLUMN from_jid TEXT;
        DROP INDEX entries_source;
        DROP INDEX entries_derived;
        DROP INDEX entries_iv;
        DROP INDEX entries_activity;
        DROP INDEX entries_target;
        DROP INDEX entries_stanza;
        CREATE TABLE names (
            name  INTEGER NOT NULL,
            entry INTEGER NOT NULL,
            PRIMARY KEY (name, entry)
        ) STRICT, WITHOUT ROWID;
        ALTER TABLE counters ADD COLUMN named INTEGER NOT NULL DEFAULT 1;
        UPDATE counters SET named = next_entry;
        ",
    )?;
    names::fill(tx)
}
