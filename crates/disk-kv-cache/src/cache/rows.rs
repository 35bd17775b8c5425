//! Changes of rows that can be taken back, for transactions within transactions.

use crate::{ReadTxn, StoreError, WriteTxn};

/// A write transaction that remembers, while it is within an inner one, what it overwrites.
#[derive(Debug)]
pub(crate) struct Rows<'a, 't> {
    txn: &'a mut WriteTxn<'t>,
    undo: Vec<Undo>,
    depth: usize,
    changed: Changed,
}

/// How much was changed, what was taken back included.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Changed {
    pub(crate) rows: u64,
    /// Of keys and values that were put.
    pub(crate) bytes: u64,
}

#[derive(Debug)]
struct Undo {
    table: &'static str,
    key: Vec<u8>,
    before: Option<Vec<u8>>,
}

/// A point to which changes can be taken back.
#[derive(Debug)]
pub(crate) struct Savepoint(usize);

impl<'a, 't> Rows<'a, 't> {
    pub(crate) fn new(txn: &'a mut WriteTxn<'t>) -> Rows<'a, 't> {
        Rows { txn, undo: Vec::new(), depth: 0, changed: Changed::default() }
    }

    pub(crate) fn txn(&self) -> &ReadTxn<'t> {
        self.txn
    }

    pub(crate) fn put(&mut self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.changed.bytes += (key.len() + value.len()) as u64;
        self.remember(table, key)?;
        self.txn.put(table, key, value)
    }

    /// Whether it was there.
    pub(crate) fn delete(&mut self, table: &'static str, key: &[u8]) -> Result<bool, StoreError> {
        self.remember(table, key)?;
        self.txn.delete(table, key)
    }

    /// Begins an inner transaction.
    pub(crate) fn enter(&mut self) -> Savepoint {
        self.depth += 1;
        Savepoint(self.undo.len())
    }

    /// Ends an inner transaction, keeping its changes as the outer one's.
    pub(crate) fn leave(&mut self, _: Savepoint) {
        self.depth -= 1;
        if self.depth == 0 {
            self.undo.clear();
        }
    }

    /// Ends an inner transaction and takes its changes back, the last one first.
    pub(crate) fn take_back(&mut self, Savepoint(kept): Savepoint) -> Result<(), StoreError> {
        self.depth -= 1;
        for Undo { table, key, before } in self.undo.drain(kept..).rev() {
            match before {
                Some(value) => self.txn.put(table, &key, &value)?,
                None => drop(self.txn.delete(table, &key)?),
            }
        }
        Ok(())
    }

    /// How much was changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    fn remember(&mut self, table: &'static str, key: &[u8]) -> Result<(), StoreError> {
        self.changed.rows += 1;
        if self.depth > 0 {
            let before = self.txn.get(table, key)?.map(<[u8]>::to_vec);
            self.undo.push(Undo { table, key: key.to_vec(), before });
        }
        Ok(())
    }
}
