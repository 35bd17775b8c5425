//! sled: one process, all Rust.
//!
//! What is stored is one tree of sled's. A row of a table is stored under the table's number, a byte, and its key (see
//! `keys` for what stands in it besides); number 0 is for the tables themselves:
//!
//! | stored key | stored value |
//! |---|---|
//! | 0, `t`, name | the number of the table, from 1 on |
//! | 0, `c` | the number of commits (big-endian u64) |
//! | 0, `n`, number | how many rows the table has (big-endian u64) |
//! | number, key | the value |
//!
//! sled's own transactions cannot scan. So a write here collects its changes beside the tree, and sees them laid over it;
//! to commit, it waits until no read is under way, applies them as one batch, which sled's log makes whole or absent, and
//! flushes it: with what is in the log when the process dies, sled begins again.

use std::any::Any;
use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::mem::ManuallyDrop;
use std::ops::Bound;
use std::os::unix::fs::PermissionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{self, AtomicBool};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sled::IVec;

use super::gate::Gate;
use super::{Bounds, Changes, Counted, Engine, EngineKind, Examined, Extent, Place, Room, Snapshot, Table};
use crate::environment::unusable;
use crate::{Damage, Durability, OpenError, Order, StoreError};

mod keys;
mod txn;

use keys::{key, stored, stored_bounds};
use txn::{ReadTxn, WriteTxn};

/// The subdirectory of sled's files.
const DIRECTORY: &str = "sled";
const DATA: &str = "db";
/// Memory for pages that were read. sled's own default is 1 GiB.
const CACHE_BYTES: u64 = 64 << 20;
/// How often, and how long in between, a lock is asked for that a thread of this process may still hold.
const CLOSING_TRIES: u32 = 300;
const CLOSING_PAUSE: Duration = Duration::from_millis(10);
/// How long a flush takes before another one is begun beside it.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);
/// The number of the table of tables.
const TABLES: u8 = 0;
/// The key of the number of commits.
const COMMITS: &[u8] = b"c";
/// Tables one directory can have: their numbers are a byte, as are those of open tables everywhere.
const MAX_NUMBERED: u32 = 255;

/// Directories whose databases this process could not close.
static LEFT_OPEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// An open database.
#[derive(Debug)]
pub(crate) struct Sled {
    path: PathBuf,
    /// Dropped by hand, or not at all.
    db: ManuallyDrop<sled::Db>,
    /// For syncing, if every commit is synced.
    synced: Option<File>,
    /// Reads go in together, a commit alone.
    gate: Gate,
    /// Held by the one write.
    writing: Mutex<()>,
    broken: AtomicBool,
}

impl Sled {
    pub(crate) fn open(place: &Place<'_>) -> Result<Sled, OpenError> {
        let path = place.path;
        let io = |action| move |error| OpenError::io(path, action, error);
        let dir = path.join(DIRECTORY);
        if place.settings.is_none() && !dir.join(DATA).exists() {
            return Err(OpenError::Absent { path: path.to_path_buf() });
        }
        let db = open_database(path).map_err(|error| open_error(path, error))?;
        make_private(&dir).map_err(io("make its files private"))?;
        let syncs = place.settings.is_some_and(|settings| settings.durability() == Durability::System);
        let synced = if syncs { Some(File::open(dir.join(DATA)).map_err(io("open the data file"))?) } else { None };
        Ok(Sled {
            path: path.to_path_buf(),
            db: ManuallyDrop::new(db),
            synced,
            gate: Gate::default(),
            writing: Mutex::new(()),
            broken: AtomicBool::new(false),
        })
    }

    fn error(&self, error: sled::Error) -> StoreError {
        let path = self.path.clone();
        match error {
            sled::Error::Io(source) => {
                // sled itself takes no more work.
                self.broken.store(true, atomic::Ordering::Release);
                StoreError::io(&path, "use the data file", source)
            }
            error @ (sled::Error::Corruption { .. } | sled::Error::ReportableBug(_)) => {
                StoreError::Damaged { path, damage: Damage::Engine(error.into()) }
            }
            error => StoreError::Engine { path, source: error.into() },
        }
    }

    fn usable(&self) -> Result<(), StoreError> {
        if self.broken.load(atomic::Ordering::Acquire) {
            return Err(StoreError::Broken { path: self.path.clone() });
        }
        Ok(())
    }

    fn begin_read(&self, nested: bool) -> Result<ReadTxn<'_>, StoreError> {
        let pass = self.gate.enter(nested);
        self.usable()?;
        Ok(ReadTxn::new(self, pass))
    }

    fn begin_write(&self) -> Result<WriteTxn<'_>, StoreError> {
        // A write that panicked has changed nothing.
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.usable()?;
        Ok(WriteTxn::new(self, writing))
    }

    /// Applies changes as a whole, and has them in the log before it returns.
    fn apply(&self, mut batch: sled::Batch) -> Result<(), StoreError> {
        let commits = self.number(COMMITS)?.unwrap_or(0) + 1;
        batch.insert(stored(Table(TABLES), COMMITS), &commits.to_be_bytes());
        let applied = {
            let _alone = self.gate.alone();
            self.db.apply_batch(batch)
        };
        let flushed = applied.and_then(|()| flush(&self.db)).map_err(|error| self.error(error));
        let synced = flushed.and_then(|()| match &self.synced {
            Some(file) => file.sync_all().map_err(|error| StoreError::io(&self.path, "sync the data file", error)),
            None => Ok(()),
        });
        if synced.is_err() {
            // In memory it may be done, and in the file not.
            self.broken.store(true, atomic::Ordering::Release);
        }
        synced
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.db.get(stored(table, key)).map_err(|error| self.error(error))
    }

    fn range(
        &self,
        table: Table,
        bounds: Bounds<'_>,
        order: Order,
    ) -> Box<dyn Iterator<Item = Result<(IVec, IVec), StoreError>> + '_> {
        let rows = self.db.range(stored_bounds(table, bounds)).map(|row| row.map_err(|error| self.error(error)));
        match order {
            Order::Ascending => Box::new(rows),
            Order::Descending => Box::new(rows.rev()),
        }
    }

    /// The rows a table is said to have.
    fn rows(&self, table: Table) -> Result<u64, StoreError> {
        self.number(&count_key(table))?.ok_or_else(|| self.inconsistent("numbers of rows", 1, 0))
    }

    /// A number in the table of tables.
    fn number(&self, key: &[u8]) -> Result<Option<u64>, StoreError> {
        match self.get(Table(TABLES), key)?.as_deref().map(<[u8; 8]>::try_from) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(u64::from_be_bytes(number))),
            Some(Err(_)) => Err(self.inconsistent("whole numbers", 1, 0)),
        }
    }

    fn inconsistent(&self, counted: &'static str, expected: u64, found: u64) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            damage: Damage::Count { table: String::new(), counted, expected, found },
        }
    }

    /// Names and numbers of all tables.
    fn numbered(&self) -> Result<Vec<(String, Table)>, StoreError> {
        let names = (Bound::Included(b"t".as_slice()), Bound::Excluded(b"u".as_slice()));
        let mut numbered = Vec::new();
        for row in self.range(Table(TABLES), names, Order::Ascending) {
            let (stored, number) = row?;
            match (std::str::from_utf8(&key(&stored)[1..]), &*number) {
                (Ok(name), [number]) if *number != TABLES => numbered.push((name.to_owned(), Table(*number))),
                _ => return Err(self.inconsistent("tables with a name and a number", 1, 0)),
            }
        }
        Ok(numbered)
    }

    /// Reads everything.
    fn count(&self) -> Result<Vec<Counted>, StoreError> {
        let mut counted = Vec::new();
        let mut rows = HashMap::new();
        for row in self.db.iter() {
            let (stored, _) = row.map_err(|error| self.error(error))?;
            let number = stored.first().copied().unwrap_or(TABLES);
            *rows.entry(number).or_insert(0) += 1;
        }
        rows.remove(&TABLES);
        for (name, table) in self.numbered()? {
            let (expected, found) = (self.rows(table)?, rows.remove(&table.0).unwrap_or(0));
            if expected != found {
                let damage = Damage::Count { table: name, counted: "rows", expected, found };
                return Err(StoreError::Damaged { path: self.path.clone(), damage });
            }
            counted.push(Counted { table: name, rows: found });
        }
        match rows.into_values().sum::<u64>() {
            0 => Ok(counted),
            strays => Err(self.inconsistent("rows of no table", 0, strays)),
        }
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        if self.broken.load(atomic::Ordering::Acquire) {
            // After a failure of the device, sled may wait for ever for writes that will never be done. So it stays, and with it
            // its lock: a write that it has not given up must not meet another process in the file.
            LEFT_OPEN.lock().unwrap_or_else(PoisonError::into_inner).push(self.path.clone());
            return;
        }
        // When it is dropped sled flushes, and then there is nothing left to flush.
        if flush(&self.db).is_ok() {
            // SAFETY: nothing uses `db` after this: `drop` runs once, and the field is private to this module.
            unsafe { ManuallyDrop::drop(&mut self.db) };
        }
    }
}

impl Engine for Sled {
    fn open_tables(
        &self,
        names: &[&'static str],
        create: bool,
        _nested: bool,
    ) -> Result<Vec<(&'static str, Table)>, OpenError> {
        let unusable = |error| unusable(&self.path, error);
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let numbered = self.numbered().map_err(unusable)?;
        let mut next = numbered.iter().map(|(_, table)| u32::from(table.0)).max().unwrap_or(0) + 1;
        let mut opened = Vec::new();
        let mut batch = sled::Batch::default();
        for name in names {
            match numbered.iter().find(|(known, _)| known == name) {
                Some((_, table)) => opened.push((*name, *table)),
                None if !create => {}
                None if next > MAX_NUMBERED => return Err(OpenError::TooManyTables { max: MAX_NUMBERED }),
                None => {
                    let table = Table(next as u8);
                    batch.insert(stored(Table(TABLES), &[b"t", name.as_bytes()].concat()), &[table.0]);
                    batch.insert(stored(Table(TABLES), &count_key(table)), &0_u64.to_be_bytes());
                    opened.push((*name, table));
                    next += 1;
                }
            }
        }
        if next as usize > numbered.len() + 1 {
            self.apply(batch).map_err(unusable)?;
        }
        Ok(opened)
    }

    fn read(&self, nested: bool) -> Result<Box<dyn Snapshot + '_>, StoreError> {
        Ok(Box::new(self.begin_read(nested)?))
    }

    fn write(&self, _nested: bool) -> Result<Box<dyn Changes + '_>, StoreError> {
        Ok(Box::new(self.begin_write()?))
    }

    fn make_room(&self, _room: Room) -> Result<(), StoreError> {
        // Its files have no bound, so no write has asked for room.
        Ok(())
    }

    fn extent(&self) -> Result<Option<Extent>, StoreError> {
        Ok(None)
    }

    fn check(&self, nested: bool) -> Result<Vec<Counted>, StoreError> {
        let _reading = self.begin_read(nested)?;
        unpanicked_store(|| self.count(), |error| self.error(error))
    }

    fn commits(&self) -> Option<u64> {
        // What a broken one has in memory need not be in its files.
        self.usable().and_then(|()| self.number(COMMITS)).ok().map(Option::unwrap_or_default)
    }

    #[cfg(all(test, feature = "lmdb"))]
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Opens the files of a store that nobody has open, and reads everything. sled has a checksum for all it writes; but what it
/// finds garbled in its log it takes for the end of it, and begins again with the state before.
pub(super) fn examine(dir: &Path) -> Result<Examined, OpenError> {
    let db = match open_database(dir) {
        Ok(db) => db,
        Err(error) => {
            return match open_error(dir, error) {
                OpenError::Damaged { damage, .. } => Ok(Examined::Damaged(damage)),
                error => Err(error),
            };
        }
    };
    let sled = Sled {
        path: dir.to_path_buf(),
        db: ManuallyDrop::new(db),
        synced: None,
        gate: Gate::default(),
        writing: Mutex::new(()),
        broken: AtomicBool::new(false),
    };
    match sled.check(false) {
        Ok(_) => Ok(Examined::Sound { commits: sled.commits().unwrap_or(0) }),
        Err(StoreError::Damaged { damage, .. }) => Ok(Examined::Damaged(damage)),
        Err(error) => Err(unusable(dir, error)),
    }
}

fn open_database(path: &Path) -> sled::Result<sled::Db> {
    // Every commit is flushed by hand, so no thread need do it.
    let config = sled::Config::new().path(path.join(DIRECTORY)).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let mut tries = if is_left_open(path) { 0 } else { CLOSING_TRIES };
    loop {
        match unpanicked(|| config.open()) {
            // No store of this crate has it open. But a thread of sled's pool may not be done with one that was closed.
            Err(error) if is_locked(&error) && tries > 0 => {
                tries -= 1;
                thread::park_timeout(CLOSING_PAUSE);
            }
            opened => return opened,
        }
    }
}

fn is_left_open(path: &Path) -> bool {
    LEFT_OPEN.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|left| left == path)
}

/// Flushes, and comes back from it.
///
/// When a write of the log fails, as on a full device, sled may forget to wake those who wait for it. A flush that begins
/// afterwards sees the failure and wakes them all. So as long as this one is not back, another one is begun now and then.
fn flush(db: &sled::Db) -> sled::Result<()> {
    thread::scope(|threads| {
        let (done, wait) = mpsc::channel::<()>();
        let again = move || {
            while wait.recv_timeout(FLUSH_PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = thread::Builder::new().spawn_scoped(threads, || db.flush());
            }
        };
        // Without a thread to spare it is a flush like any other.
        let _ = thread::Builder::new().spawn_scoped(threads, again);
        let flushed = db.flush();
        drop(done);
        flushed.map(drop)
    })
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

/// The store's directory may be readable by others; sled's need not be.
fn make_private(dir: &Path) -> std::io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

fn open_error(path: &Path, error: sled::Error) -> OpenError {
    match error {
        error if is_locked(&error) && is_left_open(path) => OpenError::Broken { path: path.to_path_buf() },
        error if is_locked(&error) => {
            OpenError::HeldByAnotherProcess { path: path.to_path_buf(), engine: EngineKind::Sled }
        }
        sled::Error::Io(error) => OpenError::io(path, "open the database", error),
        error @ sled::Error::Unsupported(_) => OpenError::Engine { path: path.to_path_buf(), source: error.into() },
        error => OpenError::Damaged { path: path.to_path_buf(), damage: Damage::Engine(error.into()) },
    }
}

/// sled panics on some damage: then it is damage.
fn unpanicked<T>(f: impl FnOnce() -> sled::Result<T>) -> sled::Result<T> {
    panic::catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| Err(sled::Error::ReportableBug(said(&*panic))))
}

fn unpanicked_store<T>(
    f: impl FnOnce() -> Result<T, StoreError>,
    sorted: impl FnOnce(sled::Error) -> StoreError,
) -> Result<T, StoreError> {
    panic::catch_unwind(AssertUnwindSafe(f))
        .unwrap_or_else(|panic| Err(sorted(sled::Error::ReportableBug(said(&*panic)))))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().cloned();
    said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned())).unwrap_or_default()
}

fn count_key(table: Table) -> [u8; 2] {
    [b'n', table.0]
}
