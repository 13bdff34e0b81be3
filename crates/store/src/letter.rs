//! Letters to the process that has the store, from one that has not: sealed files in a folder beside it.
//!
//! A letter is there whole or not at all, and is read in the order of its name. Whoever reads it commits what it says
//! and removes it only then, so it may be read twice: what it says must bear that.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::seal::{Place, Sealer, StoreKey};

/// The folder of the letters to a store.
#[must_use]
pub fn folder(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push("-letters");
    name.into()
}

/// Lays a letter down, and answers where. Letters are read in the order of their names.
///
/// # Errors
/// What the file system answers; there is no letter then.
pub fn lay_down(store: &Path, key: &StoreKey, name: &str, content: &[u8]) -> io::Result<PathBuf> {
    let folder = folder(store);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let unfinished = folder.join(format!(".{name}"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(&Sealer::new(key).seal(Place::Letter(name), content))?;
    file.sync_all()?;
    let letter = folder.join(name);
    std::fs::rename(&unfinished, &letter)?;
    File::open(&folder)?.sync_all()?;
    Ok(letter)
}

/// All letters that wait, in the order in which they are to be read.
///
/// # Errors
/// The folder is there and cannot be read.
pub fn waiting(store: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder(store)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut letters = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")) {
            letters.push(path);
        }
    }
    letters.sort();
    Ok(letters)
}

/// Opens a letter; `None` if it is no letter under this key.
///
/// # Errors
/// It cannot be read.
pub fn open(letter: &Path, key: &StoreKey) -> io::Result<Option<Vec<u8>>> {
    let name = letter.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let sealed = std::fs::read(letter)?;
    Ok(Sealer::new(key).open(Place::Letter(name), &sealed).ok())
}

/// Removes a letter that was read and committed.
///
/// # Errors
/// What the file system answers; the letter will be read again.
pub fn remove(letter: &Path) -> io::Result<()> {
    std::fs::remove_file(letter)?;
    match letter.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
