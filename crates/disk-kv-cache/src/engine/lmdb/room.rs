//! Room on the device: taken while running out of it is still an error, and told from other failures.
//!
//! LMDB uses its lock file through a map, and makes it as one hole. When the device is full, the first write to a page of
//! a hole is a SIGBUS: for who makes the store, and again for the reader whose slot is the first on a page. So the file is
//! written in full before LMDB maps it. (The data file is never written through a map.)

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock};

use super::MAX_READERS;
use crate::error::is_no_space;

const LOCK: &str = "lock.mdb";
/// The length LMDB gives the lock file: the two locks, and a cache line for each reader. (Where it is a little more, that
/// lies on the last page of these.)
const LOCK_BYTES: usize = MAX_READERS as usize * 64 + 128;
/// Unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;
const PROBE: &str = "room.probe";
/// More than a device that cannot take a page has left in its last blocks.
const PROBE_BYTES: usize = 64 << 10;

/// Makes the lock file of the store in `dir` one without holes, unless somebody uses it.
///
/// The caller holds the directory's lock, and this process has no environment there: closing the file drops the locks
/// that LMDB would hold on it.
pub(super) fn fill_lock_file(dir: &Path) -> io::Result<()> {
    let path = dir.join(LOCK);
    match fs::symlink_metadata(&path) {
        // Not opened, where it need not be.
        Ok(found) if found.len() >= LOCK_BYTES as u64 && found.blocks() * BLOCK_BYTES >= found.len() => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path)?;
    // LMDB holds a lock on the first byte as long as it has the file open, and who gets it alone begins the file anew.
    if fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    file.write_all_at(&[0; LOCK_BYTES], 0)
}

/// What LMDB meant by an error: it says EIO of a write that was cut short, which is what a device does that fills up.
pub(super) fn cause(dir: &Path, error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(libc::EIO) {
        return error;
    }
    let path = dir.join(PROBE);
    // One that was left behind; the new one is nobody else's, and no link.
    let _ = fs::remove_file(&path);
    let probe = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let probed = probe.and_then(|mut probe| probe.write_all(&[1; PROBE_BYTES]));
    let _ = fs::remove_file(path);
    probed.err().filter(is_no_space).unwrap_or(error)
}
