//! LMDB's transactions behind the traits of an engine.

use std::ops::Deref;

use heed::{AnyTls, MdbError, RoTxn, RwTxn, WithoutTls};

use super::tables::Handle;
use super::{Inside, Lmdb};
use crate::engine::{Bounds, Changes, Commit, Entries, Room, Snapshot, Table};
use crate::{Entry, Order, StoreError};

/// A transaction and what keeps the map in its place while it lives. Fields are dropped in this order.
pub(super) struct ReadTxn<'e, X> {
    pub(super) txn: X,
    pub(super) inside: Inside<'e>,
}

/// The one write.
pub(super) struct WriteTxn<'e> {
    pub(super) reads: ReadTxn<'e, RwTxn<'e>>,
    /// The largest value for which the map had no room.
    pub(super) no_room_for: Option<u64>,
}

impl<'e, X> ReadTxn<'e, X> {
    fn lmdb(&self) -> &'e Lmdb {
        self.inside.lmdb
    }

    fn table(&self, table: Table) -> Handle {
        self.lmdb().tables.get(table)
    }
}

/// Both transactions of heed lend themselves as one that reads.
trait Reads {
    fn reads(&self) -> &RoTxn<'_, AnyTls>;
}

impl Reads for RoTxn<'_, WithoutTls> {
    fn reads(&self) -> &RoTxn<'_, AnyTls> {
        self
    }
}

impl Reads for RwTxn<'_> {
    fn reads(&self) -> &RoTxn<'_, AnyTls> {
        self.deref().deref()
    }
}

impl<X: Reads> Snapshot for ReadTxn<'_, X> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        self.table(table).get(self.txn.reads(), key).map_err(|error| self.lmdb().error(error))
    }

    fn range<'s>(&'s self, table: Table, bounds: Bounds<'_>, order: Order) -> Result<Entries<'s>, StoreError> {
        let lmdb = self.lmdb();
        let sorted = move |entry: heed::Result<Entry<'s>>| entry.map_err(|error| lmdb.error(error));
        let (table, txn) = (self.table(table), self.txn.reads());
        let entries: heed::Result<Entries<'s>> = match order {
            Order::Ascending => table.range(txn, &bounds).map(|entries| Box::new(entries.map(sorted)) as _),
            Order::Descending => table.rev_range(txn, &bounds).map(|entries| Box::new(entries.map(sorted)) as _),
        };
        entries.map_err(|error| lmdb.error(error))
    }

    fn first(&self, table: Table, order: Order) -> Result<Option<Entry<'_>>, StoreError> {
        let (table, txn) = (self.table(table), self.txn.reads());
        let entry = match order {
            Order::Ascending => table.first(txn),
            Order::Descending => table.last(txn),
        };
        entry.map_err(|error| self.lmdb().error(error))
    }

    fn len(&self, table: Table) -> Result<u64, StoreError> {
        self.table(table).len(self.txn.reads()).map_err(|error| self.lmdb().error(error))
    }
}

impl WriteTxn<'_> {
    /// Sorts the error of a change, and remembers if it was for lack of room.
    fn failed(&mut self, error: heed::Error, value_bytes: u64) -> StoreError {
        if matches!(error, heed::Error::Mdb(MdbError::MapFull)) {
            self.no_room_for = self.no_room_for.max(Some(value_bytes));
        }
        self.reads.lmdb().error(error)
    }
}

impl Snapshot for WriteTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        self.reads.get(table, key)
    }

    fn range<'s>(&'s self, table: Table, bounds: Bounds<'_>, order: Order) -> Result<Entries<'s>, StoreError> {
        self.reads.range(table, bounds, order)
    }

    fn first(&self, table: Table, order: Order) -> Result<Option<Entry<'_>>, StoreError> {
        self.reads.first(table, order)
    }

    fn len(&self, table: Table) -> Result<u64, StoreError> {
        self.reads.len(table)
    }
}

impl Changes for WriteTxn<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let table = self.reads.table(table);
        table.put(&mut self.reads.txn, key, value).map_err(|error| self.failed(error, value.len() as u64))
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        let table = self.reads.table(table);
        table.delete(&mut self.reads.txn, key).map_err(|error| self.failed(error, 0))
    }

    fn no_room(&self) -> Option<Room> {
        self.no_room_for.map(|value_bytes| Room { full_bytes: self.reads.inside.map_bytes, value_bytes })
    }

    fn commit(self: Box<Self>) -> Result<Commit, StoreError> {
        if let Some(room) = self.no_room() {
            return Ok(Commit::NoRoom(room));
        }
        let ReadTxn { txn, inside } = self.reads;
        match txn.commit() {
            Ok(()) => Ok(Commit::Done),
            Err(heed::Error::Mdb(MdbError::MapFull)) => {
                Ok(Commit::NoRoom(Room { full_bytes: inside.map_bytes, value_bytes: 0 }))
            }
            Err(error) => Err(inside.lmdb.error(error)),
        }
    }
}
