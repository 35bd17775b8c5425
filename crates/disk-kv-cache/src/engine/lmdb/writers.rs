//! Whose turn it is to write, over all threads and processes: a lock of the kernel in front of LMDB's own.
//!
//! LMDB's writer lock is a robust mutex in shared memory. It survives an owner that is killed, but not a *waiter* that is
//! killed between being woken and taking the lock: the wake-up is gone with it, and if another writer has taken the free
//! lock meanwhile, nobody wakes those that still wait until the next one contends. A program whose other processes
//! have finished then waits for ever. (glibc and Linux know of it: see `handle_futex_death` in the kernel.)
//!
//! `flock` keeps its waiters in the kernel, which wakes the next whatever becomes of the others. With it taken first,
//! LMDB's mutex is never waited for.
//!
//! LMDB's other mutex, for the moment in which a reader takes a slot, has the same hole and none of this: two system calls
//! would cost a read more than all else. A reader that kept its slot (`mdb_txn_reset` and `mdb_txn_renew`, which heed does not
//! offer) would not take that mutex at all.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The queue of writers of one environment.
#[derive(Debug)]
pub(super) struct Writers {
    /// A descriptor of its own, locked while a thread of this process writes. (LMDB locks no byte of the data file, so
    /// closing this one drops no lock of LMDB's.)
    data: Mutex<File>,
}

/// The turn to write, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'w>(MutexGuard<'w, File>);

impl Writers {
    /// Those of the environment with this data file.
    pub(super) fn open(data: &Path) -> io::Result<Writers> {
        Ok(Writers { data: Mutex::new(File::open(data)?) })
    }

    /// Waits for the turn.
    pub(super) fn turn(&self) -> io::Result<Turn<'_>> {
        // Nothing in here can panic while it is held, and the lock on the file is taken anew each time.
        let data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match data.lock() {
                Ok(()) => return Ok(Turn(data)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Cannot fail on a descriptor that is open and was locked.
        let _ = self.0.unlock();
    }
}
