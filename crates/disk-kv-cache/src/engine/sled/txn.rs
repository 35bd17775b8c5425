//! sled's transactions behind the traits of an engine: reads under a lock, and a write as changes laid over the tree.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::MutexGuard;

use sled::IVec;
use typed_arena::Arena;

use super::{Sled, TABLES, count_key, key, stored, stored_bounds};
use crate::engine::gate::Pass;
use crate::engine::{Bounds, Changes, Commit, Entries, Room, Snapshot, Table};
use crate::{Entry, Order, StoreError};

/// A read. No commit can come while it is under way.
pub(super) struct ReadTxn<'e> {
    sled: &'e Sled,
    /// What was lent, kept where it is until the transaction ends.
    lent: Arena<IVec>,
    _pass: Pass<'e>,
}

impl<'e> ReadTxn<'e> {
    pub(super) fn new(sled: &'e Sled, pass: Pass<'e>) -> ReadTxn<'e> {
        ReadTxn { sled, lent: Arena::new(), _pass: pass }
    }
}

impl Snapshot for ReadTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        Ok(self.sled.get(table, key)?.map(|value| &**self.lent.alloc(value)))
    }

    fn range<'s>(&'s self, table: Table, bounds: Bounds<'_>, order: Order) -> Result<Entries<'s>, StoreError> {
        Ok(Box::new(self.sled.range(table, bounds, order).map(|row| row.map(|row| lend(&self.lent, row)))))
    }

    fn first(&self, table: Table, order: Order) -> Result<Option<Entry<'_>>, StoreError> {
        self.range(table, (Bound::Unbounded, Bound::Unbounded), order)?.next().transpose()
    }

    fn len(&self, table: Table) -> Result<u64, StoreError> {
        self.sled.rows(table)
    }
}

fn lend(lent: &Arena<IVec>, (stored, value): (IVec, IVec)) -> Entry<'_> {
    let (stored, value): (&IVec, &IVec) = (lent.alloc(stored), lent.alloc(value));
    (lend_key(lent, stored), value)
}

/// The key of a row; kept beside what was lent if it is not within the stored one.
fn lend_key<'s>(lent: &'s Arena<IVec>, stored: &'s [u8]) -> &'s [u8] {
    match key(stored) {
        Cow::Borrowed(key) => key,
        Cow::Owned(key) => lent.alloc(key.into()),
    }
}

/// Changes by stored key; `None` is a deletion.
type Overlay = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The one write.
pub(super) struct WriteTxn<'e> {
    sled: &'e Sled,
    changes: Overlay,
    /// By how many rows each table has grown.
    grown: HashMap<u8, i64>,
    lent: Arena<IVec>,
    _writing: MutexGuard<'e, ()>,
}

impl<'e> WriteTxn<'e> {
    pub(super) fn new(sled: &'e Sled, writing: MutexGuard<'e, ()>) -> WriteTxn<'e> {
        WriteTxn { sled, changes: BTreeMap::new(), grown: HashMap::new(), lent: Arena::new(), _writing: writing }
    }

    fn change(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<bool, StoreError> {
        // Nothing that was lent is in use any more.
        if self.lent.len() > 0 {
            self.lent = Arena::new();
        }
        let was_there = match self.changes.get(&stored(table, key)) {
            Some(change) => change.is_some(),
            None => self.sled.get(table, key)?.is_some(),
        };
        if was_there || value.is_some() {
            self.changes.insert(stored(table, key), value.map(<[u8]>::to_vec));
        }
        *self.grown.entry(table.0).or_default() += i64::from(value.is_some()) - i64::from(was_there);
        Ok(was_there)
    }
}

impl Snapshot for WriteTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        match self.changes.get(&stored(table, key)) {
            Some(change) => Ok(change.as_deref()),
            None => Ok(self.sled.get(table, key)?.map(|value| &**self.lent.alloc(value))),
        }
    }

    fn range<'s>(&'s self, table: Table, bounds: Bounds<'_>, order: Order) -> Result<Entries<'s>, StoreError> {
        let base = self.sled.range(table, bounds, order).map(|row| row.map(|row| lend(&self.lent, row)));
        let changed = self.changes.range(stored_bounds(table, bounds));
        let changed = changed.map(|(stored, value)| (lend_key(&self.lent, stored), value));
        let changed: Box<dyn Iterator<Item = _> + 's> = match order {
            Order::Ascending => Box::new(changed),
            Order::Descending => Box::new(changed.rev()),
        };
        Ok(Box::new(Laid { base: base.peekable(), changed: changed.peekable(), order }))
    }

    fn first(&self, table: Table, order: Order) -> Result<Option<Entry<'_>>, StoreError> {
        self.range(table, (Bound::Unbounded, Bound::Unbounded), order)?.next().transpose()
    }

    fn len(&self, table: Table) -> Result<u64, StoreError> {
        let grown = self.grown.get(&table.0).copied().unwrap_or(0);
        Ok(self.sled.rows(table)?.saturating_add_signed(grown))
    }
}

impl Changes for WriteTxn<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.change(table, key, Some(value)).map(drop)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.change(table, key, None)
    }

    fn no_room(&self) -> Option<Room> {
        None
    }

    fn commit(mut self: Box<Self>) -> Result<Commit, StoreError> {
        if self.changes.is_empty() {
            return Ok(Commit::Done);
        }
        let mut batch = sled::Batch::default();
        for number in self.grown.keys() {
            let table = Table(*number);
            batch.insert(stored(Table(TABLES), &count_key(table)), &self.len(table)?.to_be_bytes());
        }
        for (key, change) in std::mem::take(&mut self.changes) {
            match change {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.sled.apply(batch)?;
        Ok(Commit::Done)
    }
}

/// Changes laid over the rows of a table, both in one order.
struct Laid<B: Iterator, C: Iterator> {
    base: std::iter::Peekable<B>,
    changed: std::iter::Peekable<C>,
    order: Order,
}

impl<'s, B, C> Iterator for Laid<B, C>
where
    B: Iterator<Item = Result<Entry<'s>, StoreError>>,
    C: Iterator<Item = (&'s [u8], &'s Option<Vec<u8>>)>,
{
    type Item = Result<Entry<'s>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let side = match (self.base.peek(), self.changed.peek()) {
                (Some(Err(_)), _) | (_, None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(Ok((base, _))), Some((changed, _))) => match self.order {
                    Order::Ascending => (*base).cmp(changed),
                    Order::Descending => (*changed).cmp(base),
                },
            };
            if side.is_lt() {
                return self.base.next();
            }
            if side.is_eq() {
                // Changed: what was there before does not count.
                self.base.next();
            }
            let (key, value) = self.changed.next()?;
            if let Some(value) = value {
                return Some(Ok((key, value)));
            }
        }
    }
}
