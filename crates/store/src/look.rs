//! Looking at a store without having it: nothing is locked for long, changed, left beside it or brought up to date.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::OpenError;
use crate::schema::{APPLICATION_ID, FORMAT_VERSION};
use crate::seal::{Place, Sealer, StoreKey};
use crate::sqlite::{LOOKS, kept_of, key_fits_as_it_is};

/// A kept value behind its name.
pub type Kept = (Box<str>, Box<[u8]>);

/// A store that is being looked at.
pub struct Look {
    db: Connection,
    path: PathBuf,
    sealer: Sealer,
    format: u32,
}

impl Look {
    /// Looks at the store at `path`; `None` if there is none yet.
    ///
    /// # Errors
    /// As [`Store::open`](crate::Store::open). [`OpenError::Locked`] means that a connector runs with it: another look is
    /// waited for.
    pub fn at(path: &Path, key: &StoreKey) -> Result<Option<Self>, OpenError> {
        let sqlite = |error| OpenError::from_sqlite(path, error);
        match std::fs::metadata(path) {
            Ok(found) if found.len() == 0 => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(OpenError::Io { path: path.to_path_buf(), source }),
        }
        let db = connect(path).map_err(sqlite)?;
        let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, u32>(0)).map_err(sqlite);
        if number("application_id")? != APPLICATION_ID.cast_unsigned() {
            return Err(OpenError::Foreign { path: path.to_path_buf() });
        }
        let format = number("user_version")?;
        if format > FORMAT_VERSION {
            return Err(OpenError::Newer { path: path.to_path_buf(), found: format });
        }
        let sealer = Sealer::new(key);
        if !key_fits_as_it_is(&db, &sealer).map_err(sqlite)? {
            return Err(OpenError::OtherKey { path: path.to_path_buf() });
        }
        Ok(Some(Self { db, path: path.to_path_buf(), sealer, format }))
    }

    /// Its format, at most [`FORMAT_VERSION`].
    #[must_use]
    pub fn format(&self) -> u32 {
        self.format
    }

    /// The kept values by their names.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn kept(&self) -> Result<Vec<Kept>, OpenError> {
        let rows = kept_of(&self.db).map_err(|error| OpenError::from_sqlite(&self.path, error))?;
        let open = |(key, sealed): (Box<str>, Vec<u8>)| {
            let value = self.sealer.open(Place::Kept(&key), &sealed);
            let value =
                value.map_err(|error| OpenError::Corrupt { path: self.path.clone(), source: error.into() });
            value.map(|value| (key, value.into()))
        };
        rows.into_iter().map(open).collect()
    }
}

/// For itself, since SQLite otherwise leaves shared memory for others beside the file.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    // Another who looks has it for a moment.
    db.busy_timeout(LOOKS)?;
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // A log that a killed process left stays as it is; one that SQLite makes to look at a file without one goes again.
    let log = path.with_file_name([path.file_name().unwrap_or_default(), "-wal".as_ref()].join("".as_ref()));
    let left = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, left)?;
    Ok(db)
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").field("path", &self.path).field("format", &self.format).finish_non_exhaustive()
    }
}
