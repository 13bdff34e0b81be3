//! The disks as a file system of SQLite's.

use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rsqlite_vfs::{
    AccessMode, DeviceCharacteristics, FileKind, LockLevel, OpenOptions, OpenRequest, OpenedFile, OsCallback,
    SQLiteIoMethods, SQLiteVfs, SyncOptions, VfsError, VfsErrorCode, VfsFile, VfsResult, VfsStore,
    register_vfs,
};
// SQLite itself is in there.
use rusqlite as _;

use crate::chance::Chance;
use crate::disk::{Disk, FileId, Files, Refused, WeakDisk};

/// The name under which SQLite knows the disks: the `vfs` of a connection.
pub const NAME: &str = "faulty";

/// The disks that live.
static MOUNTED: Mutex<Vec<WeakDisk>> = Mutex::new(Vec::new());

/// Makes a disk reachable for SQLite, in place of an older one of the same folder.
pub(crate) fn mount(disk: &Disk) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(register);
    let mut mounted = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    mounted.retain(|other| other.get().is_some_and(|other| other.folder() != disk.folder()));
    mounted.push(disk.weak());
}

#[allow(unsafe_code, reason = "SQLite is told of a file system by pointers")]
fn register() {
    let os = System(Mutex::new(Chance::new(1)));
    // SAFETY: the callbacks are the crate's own, over the types that it asks for; nothing overrides their
    // layout. The one registration of this name is made once, and never taken back. What the callbacks
    // share is behind mutexes, and each open file is used by its one connection.
    let registered = unsafe { register_vfs::<Methods, Shim>(NAME, os, false) };
    registered.expect("SQLite takes another file system").into_raw();
}

fn find(path: &str) -> VfsResult<(Disk, &str)> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mounted = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let disk = mounted.iter().filter_map(WeakDisk::get).find(|disk| disk.folder() == Path::new(folder));
    disk.map(|disk| (disk, name))
        .ok_or_else(|| error(VfsErrorCode::CantOpen, "there is no disk for this folder"))
}

fn error(code: VfsErrorCode, what: &'static str) -> VfsError {
    VfsError::new(code, what.into())
}

impl Refused {
    fn or(self, failed: VfsErrorCode) -> VfsError {
        match self {
            Self::Full => error(VfsErrorCode::Full, "no room is left on the disk"),
            Self::Failed => error(failed, "the disk has failed"),
        }
    }
}

struct System(Mutex<Chance>);

impl OsCallback for System {
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn random(&self, buf: &mut [u8]) -> usize {
        let mut chance = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buf.fill_with(|| chance.below(256).to_le_bytes()[0]);
        buf.len()
    }

    fn epoch_timestamp_in_ms(&self) -> VfsResult<i64> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

struct Open {
    disk: Disk,
    file: FileId,
}

impl VfsFile for Open {
    fn device_characteristics(&self) -> DeviceCharacteristics {
        // What SQLite's own file system says of a disk: a torn write spoils no byte outside it.
        DeviceCharacteristics::POWERSAFE_OVERWRITE
    }

    fn read(&mut self, buf: &mut [u8], offset: u64) -> VfsResult<usize> {
        Ok(self.disk.read(self.file, buf, offset))
    }

    fn write(&mut self, buf: &[u8], offset: u64) -> VfsResult<()> {
        self.disk.write(self.file, buf, offset).map_err(|refused| refused.or(VfsErrorCode::IoWrite))
    }

    fn truncate(&mut self, size: u64) -> VfsResult<()> {
        self.disk.truncate(self.file, size);
        Ok(())
    }

    fn sync(&mut self, _options: SyncOptions) -> VfsResult<()> {
        self.disk.sync(self.file).map_err(|refused| refused.or(VfsErrorCode::IoSync))
    }

    fn size(&self) -> VfsResult<u64> {
        Ok(self.disk.length(self.file))
    }

    fn lock(&mut self, _level: LockLevel) -> VfsResult<()> {
        Ok(())
    }

    fn unlock(&mut self, _level: LockLevel) -> VfsResult<()> {
        Ok(())
    }

    fn check_reserved_lock(&self) -> VfsResult<bool> {
        Ok(false)
    }
}

struct Disks;

impl VfsStore for Disks {
    type File = Open;
    type AppData = System;

    fn open_file(_: &System, request: OpenRequest<'_>) -> VfsResult<OpenedFile<Open>> {
        let (disk, name) = match request.filename {
            Some(filename) => find(filename.path())?,
            // A file that only this connection sees, and nobody after it.
            None => (Disk::unmounted(Path::new(""), Files::new()), ""),
        };
        let main = request.options.kind() == Some(FileKind::MainDb);
        let Some(file) = disk.open(name, request.options.create(), main) else {
            return Err(error(VfsErrorCode::CantOpen, "there is no such file"));
        };
        Ok(OpenedFile { file: Open { disk, file }, access: request.options.access() })
    }

    fn close_file(_: &System, name: Option<&str>, file: Open, options: OpenOptions) -> VfsResult<()> {
        if let Some((_, name)) = name.and_then(|path| path.rsplit_once('/'))
            && options.delete_on_close()
        {
            file.disk.delete(name, false);
        }
        Ok(())
    }

    fn access(_: &System, path: &str, _mode: AccessMode) -> VfsResult<bool> {
        let (disk, name) = find(path)?;
        Ok(disk.exists(name))
    }

    fn full_pathname(_: &System, path: &str) -> VfsResult<String> {
        Ok(path.to_owned())
    }

    fn delete_file(_: &System, path: &str, sync_dir: bool) -> VfsResult<()> {
        let (disk, name) = find(path)?;
        if disk.delete(name, sync_dir) {
            Ok(())
        } else {
            Err(error(VfsErrorCode::IoDeleteNoEntry, "there is no such file"))
        }
    }
}

struct Methods;

impl SQLiteIoMethods for Methods {
    type Store = Disks;
}

struct Shim;

impl SQLiteVfs<Methods> for Shim {
    type Os = System;

    fn os(data: &System) -> &System {
        data
    }
}
