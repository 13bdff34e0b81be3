//! The file: opened, locked, brought up to date, committed to and read.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use router::ids::{EntryId, ImpStreamId, PersonId, Time};
use router::outbox::{Batch, EntrySummary, Loaded, Novelty, Storage, StorageError, Stored, TargetRef};
use router::tag::Tagger;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use crate::commit::{self, Counters, Writer};
use crate::error::{Failure, OpenError};
use crate::figures::Figures;
use crate::find::Index;
use crate::names::{Names, YOUNG};
use crate::schema::{APPLICATION_ID, FORMAT_VERSION, STEPS};
use crate::seal::{Place, Sealer, StoreKey};

/// The free space in bytes that is left to others unless another floor is set: 256 MiB.
pub const DEFAULT_FLOOR: u64 = 256 << 20;

/// How long another process may have the file that only looks at it.
pub(crate) const LOOKS: std::time::Duration = std::time::Duration::from_millis(500);

/// More different statements than the store has, so that each is compiled once.
const STATEMENTS: usize = 64;

/// After so many pages of 4 KiB the log is copied into the file and begun again: what was written often meanwhile is
/// copied once.
const LOG_PAGES: i64 = 4000;

/// Memory for pages, in KiB. What is read for a message lies together, so that more brings no speed: benches/README.md.
const CACHE_KIB: i64 = 4 << 10;

/// What the log may keep on disk once it has been begun again, in bytes.
const LOG_BYTES: i64 = 16 << 20;

/// How a store behaves.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Free bytes of the disk below which [`Storage::room`] says 0; default [`DEFAULT_FLOOR`].
    pub floor: u64,
    /// The most pages of 4 KiB that the file may have; `None`, the default: the disk decides.
    pub max_pages: Option<u32>,
    /// Which of SQLite's file systems it lies on; `None`, the default: the operating system's.
    #[cfg(feature = "testing")]
    pub file_system: Option<&'static str>,
    /// What it does wrong on purpose; `None`, the default: nothing.
    #[cfg(feature = "testing")]
    pub broken: Option<Broken>,
    /// How many names are kept in memory before they go into the file's index.
    #[cfg(feature = "testing")]
    pub young: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            floor: DEFAULT_FLOOR,
            max_pages: None,
            #[cfg(feature = "testing")]
            file_system: None,
            #[cfg(feature = "testing")]
            broken: None,
            #[cfg(feature = "testing")]
            young: YOUNG,
        }
    }
}

/// A way to break the promise, so that a test can be seen to find it.
#[cfg(feature = "testing")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A commit returns before the disk has it (`synchronous=NORMAL`).
    Unsynced,
    /// Opening leaves the log as it is, and does not write its content anew.
    LeavesLog,
}

impl Options {
    #[cfg(feature = "testing")]
    fn connect(self, path: &Path) -> rusqlite::Result<Connection> {
        match self.file_system {
            Some(name) => Connection::open_with_flags_and_vfs(path, rusqlite::OpenFlags::default(), name),
            None => Connection::open(path),
        }
    }

    #[cfg(not(feature = "testing"))]
    fn connect(self, path: &Path) -> rusqlite::Result<Connection> {
        Connection::open(path)
    }

    /// The pragma that says when a commit returns.
    fn synchronous(self) -> &'static str {
        #[cfg(feature = "testing")]
        if self.broken == Some(Broken::Unsynced) {
            return "NORMAL";
        }
        "FULL"
    }

    fn young(self) -> usize {
        #[cfg(feature = "testing")]
        return self.young;
        #[cfg(not(feature = "testing"))]
        YOUNG
    }

    fn leaves_log(self) -> bool {
        #[cfg(feature = "testing")]
        return self.broken == Some(Broken::LeavesLog);
        #[cfg(not(feature = "testing"))]
        false
    }
}

/// An open store; it has its file for itself until it is dropped.
pub struct Store {
    db: Connection,
    path: PathBuf,
    sealer: Sealer,
    tagger: Tagger,
    counters: Counters,
    index: Index,
    floor: u64,
    figures: Arc<Figures>,
    /// A commit has failed: what is on disk is unknown to this process (rule 12).
    failed: bool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store at `path`, makes it if there is none, and brings an older format up to date.
    ///
    /// `tagger` makes the ids under which new entries are written on the other side; `key` seals what
    /// must not lie on disk in the clear.
    ///
    /// # Errors
    /// The file is in use, newer, foreign, damaged, of another key, or cannot be reached.
    pub fn open(path: &Path, key: &StoreKey, tagger: Tagger, options: Options) -> Result<Self, OpenError> {
        // Made here and not by SQLite, so that nobody else may read it from the first moment on.
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| OpenError::Io { path: path.to_path_buf(), source })?;
        // Its name as well is on the disk before anything is promised.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| OpenError::Io { path: path.to_path_buf(), source })?;
        let sqlite = |error| OpenError::from_sqlite(path, error);
        let mut db = options.connect(path).map_err(sqlite)?;
        let found = lock(&db).map_err(sqlite)?;
        if found.application != APPLICATION_ID && !found.empty {
            return Err(OpenError::Foreign { path: path.to_path_buf() });
        }
        if found.format > FORMAT_VERSION {
            return Err(OpenError::Newer { path: path.to_path_buf(), found: found.format });
        }
        configure(&db, options).map_err(sqlite)?;
        migrate(&mut db, found.format).map_err(sqlite)?;
        let sealer = Sealer::new(key);
        if !key_fits(&db, &sealer).map_err(sqlite)? {
            return Err(OpenError::OtherKey { path: path.to_path_buf() });
        }
        let counters = counters(&db).map_err(sqlite)?;
        let names = Names::read(&db, EntryId(counters.named), options.young()).map_err(sqlite)?;
        Ok(Self {
            db,
            path: path.to_path_buf(),
            sealer,
            tagger,
            counters,
            index: Index::new(names),
            floor: options.floor,
            figures: Arc::default(),
            failed: false,
        })
    }

    /// What this store counts, readable from any thread.
    #[must_use]
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    fn read_all(&mut self) -> Result<Loaded, Failure> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute("UPDATE counters SET run = run + 1", [])?;
        let counters = counters(&tx)?;
        let mut kept = Vec::new();
        for (key, sealed) in kept_of(&tx)? {
            let value = self.sealer.open(Place::Kept(&key), &sealed)?.into();
            kept.push((key, value));
        }
        let directory = match sealed_value(&tx, "directory")? {
            Some(sealed) => Some(self.sealer.open(Place::Directory, &sealed)?.into()),
            None => None,
        };
        let entries = commit::unfinished(&tx)?;
        let mut targets = Vec::new();
        for entry in &entries {
            if let Some(target) = &entry.target {
                targets.push((entry.id, self.index.target(&tx, target)?));
            }
        }
        let loaded = Loaded {
            run: counters.run,
            entries,
            targets,
            delivered: commit::delivered(&tx)?,
            streams: all(&tx, "SELECT stream, handled FROM streams ORDER BY stream", |row| {
                Ok((ImpStreamId::new(row.get::<_, Box<str>>(0)?), row.get(1)?))
            })?,
            cursors: all(&tx, "SELECT person, time FROM cursors ORDER BY person", |row| {
                Ok((PersonId::new(row.get::<_, Box<str>>(0)?), Time(row.get(1)?)))
            })?,
            kept,
            directory,
            presence: all(&tx, "SELECT person, value FROM presence ORDER BY person", |row| {
                Ok((PersonId::new(row.get::<_, Box<str>>(0)?), row.get::<_, Vec<u8>>(1)?.into()))
            })?,
            next_place: counters.next_place,
        };
        tx.commit()?;
        self.counters = counters;
        Ok(loaded)
    }

    fn write_all(&mut self, batches: &[Batch], now: Time) -> Result<Vec<Vec<Novelty>>, Failure> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut writer = Writer {
            tx: &tx,
            sealer: &self.sealer,
            tagger: &self.tagger,
            now,
            index: &mut self.index,
            counters: self.counters,
        };
        let novelties = batches.iter().map(|batch| writer.batch(batch)).collect::<Result<_, _>>()?;
        writer.settle()?;
        let counters = writer.counters;
        if counters != self.counters {
            tx.prepare_cached("UPDATE counters SET next_entry = ?1, next_place = ?2, named = ?3")?
                .execute(params![counters.next_entry, counters.next_place, counters.named])?;
        }
        tx.commit()?;
        self.counters = counters;
        Ok(novelties)
    }

    fn fail(&mut self, failure: Failure) -> StorageError {
        self.failed = true;
        failure.at(&self.path)
    }
}

impl Storage for Store {
    fn load(&mut self, _now: Time) -> Result<Loaded, StorageError> {
        self.read_all().map_err(|failure| self.fail(failure))
    }

    fn commit(&mut self, batches: &[Batch], now: Time) -> Result<Vec<Vec<Novelty>>, StorageError> {
        if self.failed {
            return Err(StorageError {
                what: format!(
                    "the store {} has failed before, and what is in it is unknown here: start again",
                    self.path.display()
                ),
                source: None,
            });
        }
        if batches.iter().all(|batch| batch.inputs.is_empty() && batch.changes.is_empty()) {
            return Ok(vec![Vec::new(); batches.len()]);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "how long a commit takes is a figure, and decides nothing"
        )]
        let began = Instant::now();
        let novelties = self.write_all(batches, now).map_err(|failure| self.fail(failure))?;
        let inputs = batches.iter().map(|batch| batch.inputs.len()).sum();
        self.figures.count(batches.len(), inputs, began.elapsed());
        Ok(novelties)
    }

    fn entry(&mut self, id: EntryId) -> Result<Option<Stored>, StorageError> {
        self.index.stored(&self.db, id, &self.sealer).map_err(|failure| failure.at(&self.path))
    }

    fn target(&mut self, target: &TargetRef) -> Result<Vec<EntrySummary>, StorageError> {
        self.index.target(&self.db, target).map_err(|failure| failure.at(&self.path))
    }

    fn room(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(self.floor))
    }
}

/// What stands at the head of a file.
struct Found {
    application: i32,
    format: u32,
    empty: bool,
}

/// Takes the file for this process, by a lock that its end releases, and looks at what it is.
fn lock(db: &Connection) -> rusqlite::Result<Found> {
    // Whoever only looks has it for a moment.
    db.busy_timeout(LOOKS)?;
    // Before anything is read: a log opened under this mode needs no shared memory, and the lock of the
    // first transaction is kept.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    db.execute_batch("BEGIN EXCLUSIVE; COMMIT;")?;
    Ok(Found {
        application: db.pragma_query_value(None, "application_id", |row| row.get(0))?,
        format: db.pragma_query_value(None, "user_version", |row| row.get(0))?,
        empty: db.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?,
    })
}

fn configure(db: &Connection, options: Options) -> rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // Or each statement with a range is compiled anew for each value in it.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "foreign_keys", true)?;
    // What is erased is overwritten, not only unlinked.
    db.pragma_update(None, "secure_delete", true)?;
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(format!("no write-ahead log on this file system, only `{mode}`")),
        ));
    }
    db.pragma_update(None, "synchronous", options.synchronous())?;
    if !options.leaves_log() {
        // A sync that failed may have lost what can still be read: what the log holds is written anew, and
        // synced, before anybody relies on it.
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    db.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    db.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    if let Some(pages) = options.max_pages {
        db.pragma_update_and_check(None, "max_page_count", pages, |_: &Row<'_>| Ok(()))?;
    }
    Ok(())
}

/// Each step is a transaction of its own with the number that it reaches, so that a crash between two
/// leaves a file of one format or the other.
fn migrate(db: &mut Connection, from: u32) -> rusqlite::Result<()> {
    for (reached, step) in (1u32..).zip(STEPS).skip(from as usize) {
        let tx = db.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        step(&tx)?;
        tx.pragma_update(None, "user_version", reached)?;
        tx.commit()?;
    }
    Ok(())
}

/// Whether this is the key of the store; a new store takes the key that it is first opened with.
fn key_fits(db: &Connection, sealer: &Sealer) -> rusqlite::Result<bool> {
    if sealed_value(db, "key-check")?.is_none() {
        let check = sealer.seal(Place::KeyCheck, b"");
        db.execute("INSERT INTO sealed VALUES ('key-check', ?1)", [check])?;
    }
    key_fits_as_it_is(db, sealer)
}

/// The same for one that is only looked at; any key fits a store that was never opened with one.
pub(crate) fn key_fits_as_it_is(db: &Connection, sealer: &Sealer) -> rusqlite::Result<bool> {
    let check = sealed_value(db, "key-check")?;
    Ok(check.is_none_or(|sealed| sealer.open(Place::KeyCheck, &sealed).is_ok()))
}

/// The kept values, sealed, by their names.
pub(crate) fn kept_of(db: &Connection) -> rusqlite::Result<Vec<(Box<str>, Vec<u8>)>> {
    all(db, "SELECT key, value FROM kept ORDER BY key", |row| Ok((row.get(0)?, row.get(1)?)))
}

fn sealed_value(db: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    db.query_row("SELECT value FROM sealed WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn counters(db: &Connection) -> rusqlite::Result<Counters> {
    db.query_row("SELECT run, next_entry, next_place, named FROM counters", [], |row| {
        Ok(Counters {
            run: row.get(0)?,
            next_entry: row.get(1)?,
            next_place: row.get(2)?,
            named: row.get(3)?,
        })
    })
}

fn all<T>(
    db: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare(sql)?.query_map([], read)?.collect()
}
