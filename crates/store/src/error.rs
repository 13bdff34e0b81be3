//! Why a store cannot be opened, and how a failure later on is told.

use std::io;
use std::path::{Path, PathBuf};

use router::outbox::StorageError;
use rusqlite::ErrorCode;

use crate::schema::FORMAT_VERSION;
use crate::seal::DoesNotOpen;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the store {path} is in use by another process: stop that one, or give this one a store of its own"
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error(
        "the store {path} has format {found}, this release reads up to {FORMAT_VERSION}: use the release that wrote it, or a later one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The file is something else.
    #[error("{path} is not a store of this connector: name another file")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "the store {path} is damaged: restore it from a backup, or move it away to start with an empty one"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was written under another key.
    #[error("the store {path} was written under another key: give the key file that belongs to it")]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("the disk of the store {path} is full: free some space and start again")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be reached.
    #[error("the store {path} cannot be opened or created")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Anything else that SQLite reports.
    #[error("the store {path} cannot be opened")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    pub(crate) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Corrupt { path, source: Box::new(error) }
            }
            Some(ErrorCode::DiskFull) => Self::Full { path },
            _ => Self::Sqlite { path, source: Box::new(error) },
        }
    }
}

/// What can go wrong in a transaction.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Sealed(#[from] DoesNotOpen),
}

impl Failure {
    /// The failure as the caller sees it; `path` names the store.
    pub(crate) fn at(self, path: &Path) -> StorageError {
        let code = match &self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            Self::Sealed(_) => Some(ErrorCode::DatabaseCorrupt),
        };
        let path = path.display();
        let what = match code {
            Some(ErrorCode::DiskFull) => {
                format!("the disk of the store {path} is full: free some space and start again")
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                format!("the store {path} is damaged: restore it from a backup")
            }
            Some(ErrorCode::SystemIoFailure) => {
                format!("the disk of the store {path} does not read or write: look at the system's log")
            }
            _ => format!("the store {path} failed"),
        };
        StorageError { what, source: Some(Box::new(self)) }
    }
}
