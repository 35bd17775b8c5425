//! Files that the kernel locks for a process, and unlocks when it dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::CacheError;

/// A file that is locked for as long as the value lives, and gone afterwards. A second one of the same path is refused in
/// this process too.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    /// Holds the kernel's lock until it is closed.
    _file: File,
}

impl LockFile {
    /// Locks the file at `path`, and makes it if it is not there. None while somebody else holds it.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>, CacheError> {
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
                .map_err(CacheError::io("open the lock file", path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(CacheError::io("lock the lock file", path)(source)),
            }
            // An earlier owner may have removed the name between our open and our lock: then this lock guards nothing.
            let opened = file.metadata().map_err(CacheError::io("stat the lock file", path))?;
            match std::fs::metadata(path) {
                Ok(named) if (named.dev(), named.ino()) == (opened.dev(), opened.ino()) => {
                    return Ok(Some(Self { path: path.to_owned(), _file: file }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(CacheError::io("stat the lock file", path)(source)),
            }
        }
    }

    /// Whether somebody holds the file at `path`. It is not made.
    pub(crate) fn is_held(path: &Path) -> bool {
        match File::open(path) {
            Ok(file) => file.try_lock_shared().is_err(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Removed while still locked, so that nobody can have locked a file that is about to lose its name unnoticed.
        let _ = std::fs::remove_file(&self.path);
    }
}
