//! One computation of a key at a time, over all processes: a file that the one who computes keeps locked.
//!
//! The file is removed when the computation ends, so there are no more files than computations. That makes a file that
//! someone has opened already a file without a name: whoever locks such a one has locked nothing, and opens it anew.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use crate::KeyBuf;

/// The directory of the files.
#[derive(Debug, Clone)]
pub(super) struct Flights {
    dir: PathBuf,
}

/// The turn to compute a key, until it is dropped.
#[derive(Debug)]
pub(super) struct Flight {
    file: File,
    path: PathBuf,
    pid: u32,
}

impl Flights {
    /// Those in a directory below `parent`.
    pub(super) fn open(parent: &Path) -> io::Result<Flights> {
        let dir = parent.join("flights");
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ if !dir.symlink_metadata()?.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
            _ => Ok(Flights { dir }),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The turn to compute a key, unless another has it.
    pub(super) fn try_begin(&self, key: &KeyBuf) -> io::Result<Option<Flight>> {
        let path = self.dir.join(&blake3::hash(key.as_bytes()).to_hex()[..32]);
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) if file.metadata()?.nlink() == 0 => {}
                Ok(()) => return Ok(Some(Flight { file, path, pid: process::id() })),
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // In a child made by fork, the turn is the parent's.
        if self.pid == process::id() {
            // Its name first: whoever waits for the lock must find that it is gone. A file that stays does no harm.
            let _ = fs::remove_file(&self.path);
            let _ = self.file.unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;
    use crate::Key;

    #[test]
    fn one_at_a_time_and_no_file_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let flights = Flights::open(dir.path()).unwrap();
        let (inside, flown) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    while flown.load(Ordering::SeqCst) < 400 {
                        if let Some(flight) = flights.try_begin(&"key".to_key()).unwrap() {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            flown.fetch_add(1, Ordering::SeqCst);
                            thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(flight);
                        }
                    }
                });
            }
        });
        let other = flights.try_begin(&"other".to_key()).unwrap();
        assert!(other.is_some() && flights.try_begin(&"key".to_key()).unwrap().is_some());
        assert!(flights.try_begin(&"other".to_key()).unwrap().is_none());
        drop(other);
        assert_eq!(fs::read_dir(flights.dir()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_not_followed() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("flights")).unwrap();
        assert!(Flights::open(dir.path()).is_err());
    }
}
