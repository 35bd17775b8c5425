//! What can be done within a transaction: get, scan, first, last, len; put and delete.

use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};
use std::path::Path;

use crate::engine::{Bounds, Changes, Commit, Entries, Room, Snapshot, Table};
use crate::long_keys::{self, Problem};
use crate::{Damage, StoreError};

/// The longest key, in bytes: 16 MiB. A key of up to 503 bytes costs least.
pub const MAX_KEY_BYTES: usize = 16 << 20;
/// LMDB's `MAXDATASIZE`; the same for every engine.
const MAX_VALUE_BYTES: u64 = 0xFFFF_FFFF;

/// A key and its value, lent by a transaction.
pub type Entry<'t> = (&'t [u8], &'t [u8]);

/// The order of a [`ReadTxn::scan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// From the smallest key up. Keys compare byte by byte; a prefix comes before what it begins.
    #[default]
    Ascending,
    /// From the largest key down.
    Descending,
}

/// A transaction of the engine.
enum Raw<'t> {
    Read(Box<dyn Snapshot + 't>),
    Write(Box<dyn Changes + 't>),
}

/// A consistent snapshot of all tables; in a [`WriteTxn`], together with what it has changed so far.
///
/// Keys and values are lent until the transaction ends or changes something: by LMDB from the map itself, without a copy.
pub struct ReadTxn<'t> {
    raw: Raw<'t>,
    tables: &'t [(&'static str, Table)],
    path: &'t Path,
}

impl<'t> ReadTxn<'t> {
    pub(crate) fn new(raw: Box<dyn Snapshot + 't>, tables: &'t [(&'static str, Table)], path: &'t Path) -> ReadTxn<'t> {
        ReadTxn { raw: Raw::Read(raw), tables, path }
    }

    /// The value of a key, if there is one.
    ///
    /// # Errors
    /// [`StoreError::UnknownTable`], [`StoreError::KeyLength`], or an error of the engine.
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        check_key(table, key)?;
        let rows = (self.raw(), self.table(table)?);
        if long_keys::is_long(key) {
            long_keys::get(rows.0, rows.1, key).map_err(|problem| self.error(table, problem))
        } else {
            rows.0.get(rows.1, key)
        }
    }

    /// The entries whose keys lie in a range, in key order. Bounds may be any bytes, of any length.
    ///
    /// ```no_run
    /// # use alluvium_disk_kv_cache::{Order, ReadTxn, StoreError};
    /// # fn f(txn: &ReadTxn<'_>) -> Result<(), StoreError> {
    /// txn.scan("table", .., Order::Descending)?;
    /// txn.scan("table", b"from".as_slice()..b"to".as_slice(), Order::Ascending)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StoreError::UnknownTable`], or an error of the engine; each item of the iterator may be such an error too.
    pub fn scan<'k>(
        &self,
        table: &str,
        range: impl RangeBounds<&'k [u8]>,
        order: Order,
    ) -> Result<Scan<'_>, StoreError> {
        self.scan_bounds(table, (range.start_bound().cloned(), range.end_bound().cloned()), order)
    }

    /// The entries whose keys begin with `prefix`, in key order.
    ///
    /// # Errors
    /// As [`scan`](ReadTxn::scan).
    pub fn scan_prefix(&self, table: &str, prefix: &[u8], order: Order) -> Result<Scan<'_>, StoreError> {
        // The first key past all those with the prefix: its last byte that can be raised is, and the rest cut off.
        let end = prefix.iter().rposition(|byte| *byte < u8::MAX).map(|at| {
            let mut end = prefix[..=at].to_vec();
            end[at] += 1;
            end
        });
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.scan_bounds(table, (Bound::Included(prefix), end), order)
    }

    fn scan_bounds(
        &self,
        table: &str,
        (start, end): (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
    ) -> Result<Scan<'_>, StoreError> {
        let (rows, number) = (self.raw(), self.table(table)?);
        let scan = |entries| Ok(Scan { entries, path: self.path, table: self.name(number) });
        // No key is empty, and an engine takes no empty bound.
        let start = match start {
            Bound::Included([]) | Bound::Excluded([]) => Bound::Unbounded,
            start => start,
        };
        if matches!(end, Bound::Included([]) | Bound::Excluded([])) {
            return scan(None);
        }
        let stored = |bound, is_start| {
            long_keys::bound(rows, number, bound, is_start).map_err(|problem| self.error(table, problem))
        };
        let (start, end) = (stored(start, true)?, stored(end, false)?);
        let bounds: Bounds<'_> = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
        if is_empty(bounds) {
            return scan(None);
        }
        scan(Some(rows.range(number, bounds, order)?))
    }

    /// The entry with the smallest key, if the table is not empty.
    ///
    /// # Errors
    /// [`StoreError::UnknownTable`], or an error of the engine.
    pub fn first(&self, table: &str) -> Result<Option<Entry<'_>>, StoreError> {
        self.end(table, Order::Ascending)
    }

    /// The entry with the largest key, if the table is not empty.
    ///
    /// # Errors
    /// [`StoreError::UnknownTable`], or an error of the engine.
    pub fn last(&self, table: &str) -> Result<Option<Entry<'_>>, StoreError> {
        self.end(table, Order::Descending)
    }

    fn end(&self, table: &str, order: Order) -> Result<Option<Entry<'_>>, StoreError> {
        let row = self.raw().first(self.table(table)?, order)?;
        row.map(long_keys::entry).transpose().map_err(|problem| self.error(table, problem))
    }

    /// The number of entries. Takes the same time for any number.
    ///
    /// # Errors
    /// [`StoreError::UnknownTable`], or an error of the engine.
    pub fn len(&self, table: &str) -> Result<u64, StoreError> {
        self.raw().len(self.table(table)?)
    }

    /// Whether the table has no entry.
    ///
    /// # Errors
    /// As [`len`](ReadTxn::len).
    pub fn is_empty(&self, table: &str) -> Result<bool, StoreError> {
        Ok(self.len(table)? == 0)
    }

    pub(crate) fn path(&self) -> &'t Path {
        self.path
    }

    fn raw(&self) -> &dyn Snapshot {
        match &self.raw {
            Raw::Read(txn) => &**txn,
            Raw::Write(txn) => &**txn,
        }
    }

    fn table(&self, name: &str) -> Result<Table, StoreError> {
        let found = self.tables.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, table)| *table)
            .ok_or_else(|| StoreError::UnknownTable { path: self.path.to_path_buf(), table: name.to_owned() })
    }

    fn name(&self, table: Table) -> &'static str {
        self.tables.iter().find(|(_, known)| *known == table).map_or("", |(name, _)| name)
    }

    fn error(&self, table: &str, problem: Problem) -> StoreError {
        error(self.path, table, problem)
    }
}

fn error(path: &Path, table: &str, problem: Problem) -> StoreError {
    match problem {
        Problem::Store(error) => error,
        Problem::Row => {
            StoreError::Damaged { path: path.to_path_buf(), damage: Damage::LongKey { table: table.to_owned() } }
        }
    }
}

/// Whether no key can lie within the bounds.
fn is_empty(bounds: Bounds<'_>) -> bool {
    match bounds {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start >= end,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

/// The one write transaction over all tables. It can do all that a [`ReadTxn`] can, and sees its own changes.
pub struct WriteTxn<'t> {
    reads: ReadTxn<'t>,
}

impl<'t> WriteTxn<'t> {
    pub(crate) fn new(raw: Box<dyn Changes + 't>, tables: &'t [(&'static str, Table)], path: &'t Path) -> WriteTxn<'t> {
        WriteTxn { reads: ReadTxn { raw: Raw::Write(raw), tables, path } }
    }

    /// Sets the value of a key. A value may be empty, and may have up to 4 GiB less one byte; less the key and 4 bytes if
    /// the key is longer than 503 bytes.
    ///
    /// # Errors
    /// [`StoreError::UnknownTable`], [`StoreError::KeyLength`], [`StoreError::ValueLength`], or an error of the engine.
    /// [`StoreError::Full`] should be passed on: [`Store::write`](crate::Store::write) then makes room and tries again.
    pub fn put(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        check_key(table, key)?;
        if value.len() as u64 > MAX_VALUE_BYTES - long_keys::overhead_bytes(key) {
            return Err(StoreError::ValueLength { table: table.to_owned(), bytes: value.len() });
        }
        let (number, path) = (self.reads.table(table)?, self.reads.path);
        if long_keys::is_long(key) {
            long_keys::put(self.raw_mut(), number, key, value).map_err(|problem| error(path, table, problem))
        } else {
            self.raw_mut().put(number, key, value)
        }
    }

    /// Deletes a key. `false`: it was not there.
    ///
    /// # Errors
    /// As [`put`](WriteTxn::put). Deleting needs room too, for changed copies of pages.
    pub fn delete(&mut self, table: &str, key: &[u8]) -> Result<bool, StoreError> {
        check_key(table, key)?;
        let (number, path) = (self.reads.table(table)?, self.reads.path);
        if long_keys::is_long(key) {
            long_keys::delete(self.raw_mut(), number, key).map_err(|problem| error(path, table, problem))
        } else {
            self.raw_mut().delete(number, key)
        }
    }

    fn raw_mut(&mut self) -> &mut (dyn Changes + 't) {
        match &mut self.reads.raw {
            Raw::Write(txn) => &mut **txn,
            Raw::Read(_) => unreachable!("a WriteTxn is only made around a write transaction"),
        }
    }

    /// What was lacking, if a change has found no room.
    pub(crate) fn no_room(&self) -> Option<Room> {
        match &self.reads.raw {
            Raw::Write(txn) => txn.no_room(),
            Raw::Read(_) => None,
        }
    }

    pub(crate) fn commit(self) -> Result<Commit, StoreError> {
        match self.reads.raw {
            Raw::Write(txn) => txn.commit(),
            Raw::Read(_) => unreachable!("a WriteTxn is only made around a write transaction"),
        }
    }
}

impl<'t> Deref for WriteTxn<'t> {
    type Target = ReadTxn<'t>;

    fn deref(&self) -> &ReadTxn<'t> {
        &self.reads
    }
}

impl fmt::Debug for ReadTxn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadTxn").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for WriteTxn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTxn").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The entries of a [`ReadTxn::scan`], as pairs of key and value.
pub struct Scan<'s> {
    /// `None`: no key lies within the bounds.
    entries: Option<Entries<'s>>,
    path: &'s Path,
    table: &'static str,
}

impl<'s> Iterator for Scan<'s> {
    type Item = Result<Entry<'s>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.entries.as_mut()?.next()?;
        Some(row.and_then(|row| long_keys::entry(row).map_err(|problem| error(self.path, self.table, problem))))
    }
}

impl fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").finish_non_exhaustive()
    }
}

fn check_key(table: &str, key: &[u8]) -> Result<(), StoreError> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        Ok(())
    } else {
        Err(StoreError::KeyLength { table: table.to_owned(), bytes: key.len() })
    }
}
