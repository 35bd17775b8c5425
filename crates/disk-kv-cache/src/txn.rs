//! What can be done within a transaction: get, scan, first, last, len; put and delete.

use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};

use heed::types::Bytes;
use heed::{AnyTls, MdbError, RoRange, RoRevRange, RoTxn, RwTxn, WithoutTls};

use crate::StoreError;
use crate::environment::Environment;
use crate::tables::Table;

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 511;
/// LMDB's `MAXDATASIZE`.
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
pub(crate) enum Raw<'t> {
    Read(RoTxn<'t, WithoutTls>),
    Write(RwTxn<'t>),
}

impl<'t> From<RoTxn<'t, WithoutTls>> for Raw<'t> {
    fn from(txn: RoTxn<'t, WithoutTls>) -> Raw<'t> {
        Raw::Read(txn)
    }
}

impl<'t> From<RwTxn<'t>> for Raw<'t> {
    fn from(txn: RwTxn<'t>) -> Raw<'t> {
        Raw::Write(txn)
    }
}

/// A consistent snapshot of all tables; in a [`WriteTxn`], together with what it has changed so far.
///
/// Keys and values are lent from the map itself, without a copy, until the transaction ends or changes something.
pub struct ReadTxn<'t> {
    raw: Raw<'t>,
    tables: &'t [(&'static str, Table)],
    environment: &'t Environment,
}

impl<'t> ReadTxn<'t> {
    pub(crate) fn new(raw: Raw<'t>, tables: &'t [(&'static str, Table)], environment: &'t Environment) -> ReadTxn<'t> {
        ReadTxn { raw, tables, environment }
    }

    /// The value of a key, if there is one.
    ///
    /// # Errors
    /// [`StoreError::UnknownTable`], [`StoreError::KeyLength`], or an error of the engine.
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        check_key(table, key)?;
        self.table(table)?.get(self.raw(), key).map_err(|error| self.environment.error(error))
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
        let table = self.table(table)?;
        // No key is empty, and the engine takes no empty bound.
        let start = match start {
            Bound::Included([]) | Bound::Excluded([]) => Bound::Unbounded,
            start => start,
        };
        let entries = match end {
            Bound::Included([]) | Bound::Excluded([]) => Ok(Entries::None),
            end => match order {
                Order::Ascending => table.range(self.raw(), &(start, end)).map(Entries::Up),
                Order::Descending => table.rev_range(self.raw(), &(start, end)).map(Entries::Down),
            },
        };
        let entries = entries.map_err(|error| self.environment.error(error))?;
        Ok(Scan { entries, environment: self.environment })
    }

    /// The entry with the smallest key, if the table is not empty.
    ///
    /// # Errors
    /// [`StoreError::UnknownTable`], or an error of the engine.
    pub fn first(&self, table: &str) -> Result<Option<Entry<'_>>, StoreError> {
        self.table(table)?.first(self.raw()).map_err(|error| self.environment.error(error))
    }

    /// The entry with the largest key, if the table is not empty.
    ///
    /// # Errors
    /// [`StoreError::UnknownTable`], or an error of the engine.
    pub fn last(&self, table: &str) -> Result<Option<Entry<'_>>, StoreError> {
        self.table(table)?.last(self.raw()).map_err(|error| self.environment.error(error))
    }

    /// The number of entries. Takes the same time for any number.
    ///
    /// # Errors
    /// [`StoreError::UnknownTable`], or an error of the engine.
    pub fn len(&self, table: &str) -> Result<u64, StoreError> {
        self.table(table)?.len(self.raw()).map_err(|error| self.environment.error(error))
    }

    /// Whether the table has no entry.
    ///
    /// # Errors
    /// As [`len`](ReadTxn::len).
    pub fn is_empty(&self, table: &str) -> Result<bool, StoreError> {
        Ok(self.len(table)? == 0)
    }

    fn raw(&self) -> &RoTxn<'_, AnyTls> {
        match &self.raw {
            Raw::Read(txn) => txn,
            Raw::Write(txn) => txn,
        }
    }

    fn table(&self, name: &str) -> Result<Table, StoreError> {
        let found = self.tables.iter().find(|(known, _)| *known == name);
        found.map(|(_, table)| *table).ok_or_else(|| StoreError::UnknownTable {
            path: self.environment.path().to_path_buf(),
            table: name.to_owned(),
        })
    }
}

/// The one write transaction over all tables. It can do all that a [`ReadTxn`] can, and sees its own changes.
pub struct WriteTxn<'t> {
    reads: ReadTxn<'t>,
    /// The largest value for which the map had no room.
    full_for: Option<u64>,
}

impl<'t> WriteTxn<'t> {
    /// `reads` is around a [`Raw::Write`].
    pub(crate) fn new(reads: ReadTxn<'t>) -> WriteTxn<'t> {
        WriteTxn { reads, full_for: None }
    }

    /// Sets the value of a key. A value may be empty, and may have up to 4 GiB less one byte.
    ///
    /// # Errors
    /// [`StoreError::UnknownTable`], [`StoreError::KeyLength`], [`StoreError::ValueLength`], or an error of the engine.
    /// [`StoreError::Full`] should be passed on: [`Store::write`](crate::Store::write) then makes room and tries again.
    pub fn put(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        check_key(table, key)?;
        if value.len() as u64 > MAX_VALUE_BYTES {
            return Err(StoreError::ValueLength { table: table.to_owned(), bytes: value.len() });
        }
        self.change(table, value.len() as u64, |table, txn| table.put(txn, key, value))
    }

    /// Deletes a key. `false`: it was not there.
    ///
    /// # Errors
    /// As [`put`](WriteTxn::put). Deleting needs room too, for changed copies of pages.
    pub fn delete(&mut self, table: &str, key: &[u8]) -> Result<bool, StoreError> {
        check_key(table, key)?;
        self.change(table, 0, |table, txn| table.delete(txn, key))
    }

    fn change<T>(
        &mut self,
        table: &str,
        value_bytes: u64,
        change: impl FnOnce(Table, &mut RwTxn<'t>) -> heed::Result<T>,
    ) -> Result<T, StoreError> {
        let table = self.reads.table(table)?;
        change(table, self.raw_mut()).map_err(|error| {
            if matches!(error, heed::Error::Mdb(MdbError::MapFull)) {
                self.full_for = self.full_for.max(Some(value_bytes));
            }
            self.reads.environment.error(error)
        })
    }

    fn raw_mut(&mut self) -> &mut RwTxn<'t> {
        match &mut self.reads.raw {
            Raw::Write(txn) => txn,
            Raw::Read(_) => unreachable!("a WriteTxn is only made around a write transaction"),
        }
    }

    /// Whether the map was found full, and the size of the largest value that did not fit.
    pub(crate) fn full_for(&self) -> Option<u64> {
        self.full_for
    }

    pub(crate) fn commit(self) -> heed::Result<()> {
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
        f.debug_struct("ReadTxn").field("path", &self.environment.path()).finish_non_exhaustive()
    }
}

impl fmt::Debug for WriteTxn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTxn").field("path", &self.environment.path()).finish_non_exhaustive()
    }
}

/// The entries of a [`ReadTxn::scan`], as pairs of key and value.
pub struct Scan<'s> {
    entries: Entries<'s>,
    environment: &'s Environment,
}

enum Entries<'s> {
    None,
    Up(RoRange<'s, Bytes, Bytes>),
    Down(RoRevRange<'s, Bytes, Bytes>),
}

impl<'s> Iterator for Scan<'s> {
    type Item = Result<Entry<'s>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.entries {
            Entries::None => None,
            Entries::Up(entries) => entries.next(),
            Entries::Down(entries) => entries.next(),
        };
        next.map(|entry| entry.map_err(|error| self.environment.error(error)))
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
