//! [`DequeTxn`]: the operations of a deque within one write transaction.

use std::fmt;
use std::marker::PhantomData;

use super::items::{self, ITEMS, MAX_LEN, META};
use crate::collection::seal;
use crate::{CollectionError, Value, WriteTxn};

/// A [`Deque`](crate::Deque) within [`transact`](crate::Deque::transact). It sees its own changes.
///
/// Methods do what those of the deque with the same name do.
pub struct DequeTxn<'a, 't, V> {
    txn: &'a mut WriteTxn<'t>,
    values: PhantomData<fn() -> V>,
}

impl<'a, 't, V: Value> DequeTxn<'a, 't, V> {
    pub(super) fn new(txn: &'a mut WriteTxn<'t>) -> DequeTxn<'a, 't, V> {
        DequeTxn { txn, values: PhantomData }
    }

    /// Adds an item at the back, and drops one from the front if there are too many.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn push_back(&mut self, value: &V) -> Result<(), CollectionError> {
        let span = items::span(self.txn)?;
        self.put(span.end, value)?;
        if items::max_len(self.txn)?.is_some_and(|max| span.end - span.start >= max) {
            self.delete(span.start)?;
        }
        Ok(())
    }

    /// Adds an item at the front, and drops one from the back if there are too many.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn push_front(&mut self, value: &V) -> Result<(), CollectionError> {
        let span = items::span(self.txn)?;
        self.put(span.start - 1, value)?;
        if items::max_len(self.txn)?.is_some_and(|max| span.end - span.start >= max) {
            self.delete(span.end - 1)?;
        }
        Ok(())
    }

    /// Takes the item at the back.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn pop_back(&mut self) -> Result<Option<V>, CollectionError> {
        let Some((position, value)) = items::back(self.txn)? else { return Ok(None) };
        let value = V::from_bytes(value)?;
        self.delete(position)?;
        Ok(Some(value))
    }

    /// Takes the item at the front.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn pop_front(&mut self) -> Result<Option<V>, CollectionError> {
        let Some((position, value)) = items::front(self.txn)? else { return Ok(None) };
        let value = V::from_bytes(value)?;
        self.delete(position)?;
        Ok(Some(value))
    }

    /// The item at `index`.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn get(&self, index: u64) -> Result<Option<V>, CollectionError> {
        super::decoded(items::get(self.txn, index)?)
    }

    /// Replaces the item at `index`. `false`: there is none.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn set(&mut self, index: u64, value: &V) -> Result<bool, CollectionError> {
        let span = items::span(self.txn)?;
        let inside = index < span.end - span.start;
        if inside {
            self.put(span.start + index, value)?;
        }
        Ok(inside)
    }

    /// Takes the item at `index` out.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn remove(&mut self, index: u64) -> Result<Option<V>, CollectionError> {
        let Some((position, value)) = items::get(self.txn, index)? else { return Ok(None) };
        let value = V::from_bytes(value)?;
        self.take_out(position)?;
        Ok(Some(value))
    }

    /// Takes the first item that equals `value` out. `false`: there is none.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn remove_value(&mut self, value: &V) -> Result<bool, CollectionError>
    where
        V: PartialEq,
    {
        let mut found = None;
        for item in items::scan(self.txn)? {
            let (position, bytes) = item?;
            if V::from_bytes(bytes)? == *value {
                found = Some(position);
                break;
            }
        }
        if let Some(position) = found {
            self.take_out(position)?;
        }
        Ok(found.is_some())
    }

    /// Moves `steps` items from the back to the front; a negative number, from the front to the back.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn rotate(&mut self, steps: i64) -> Result<(), CollectionError> {
        let span = items::span(self.txn)?;
        let len = span.end - span.start;
        if len < 2 {
            return Ok(());
        }
        // As a number of steps from the back, then whichever way is shorter.
        let steps = i128::from(steps).rem_euclid(i128::from(len)) as u64;
        if steps <= len / 2 {
            for step in 0..steps {
                self.relocate(span.end - 1 - step, span.start - 1 - step)?;
            }
        } else {
            for step in 0..len - steps {
                self.relocate(span.start + step, span.end + step)?;
            }
        }
        Ok(())
    }

    /// Turns the order of the items around.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn reverse(&mut self) -> Result<(), CollectionError> {
        let span = items::span(self.txn)?;
        for step in 0..(span.end - span.start) / 2 {
            let (low, high) = (span.start + step, span.end - 1 - step);
            let first = items::at(self.txn, low)?.1.to_vec();
            self.copy(high, low)?;
            self.put_bytes(high, &first)?;
        }
        Ok(())
    }

    /// Removes all items.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn clear(&mut self) -> Result<(), CollectionError> {
        // By what is there, not by positions: it has to work on a damaged deque too.
        while let Some((key, _)) = self.txn.first(ITEMS)? {
            let key = key.to_vec();
            self.txn.delete(ITEMS, &key)?;
        }
        Ok(())
    }

    /// The number of items.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn len(&self) -> Result<u64, CollectionError> {
        items::len(self.txn)
    }

    /// Whether there is no item.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn is_empty(&self) -> Result<bool, CollectionError> {
        Ok(self.len()? == 0)
    }

    /// Sets the largest number of items, and drops items from the front until it is kept.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn set_max_len(&mut self, max_len: Option<u64>) -> Result<(), CollectionError> {
        let Some(max) = max_len else {
            self.txn.delete(META, MAX_LEN)?;
            return Ok(());
        };
        self.txn.put(META, MAX_LEN, &seal(MAX_LEN, &max.to_be_bytes()))?;
        let span = items::span(self.txn)?;
        let surplus = (span.end - span.start).saturating_sub(max);
        (span.start..span.start + surplus).try_for_each(|position| self.delete(position))
    }

    /// Takes an item out and closes the gap from the side that has fewer items.
    fn take_out(&mut self, position: u64) -> Result<(), CollectionError> {
        let span = items::span(self.txn)?;
        if position - span.start < span.end - position {
            for hole in (span.start + 1..=position).rev() {
                self.copy(hole - 1, hole)?;
            }
            self.delete(span.start)
        } else {
            for hole in position..span.end - 1 {
                self.copy(hole + 1, hole)?;
            }
            self.delete(span.end - 1)
        }
    }

    /// Moves an item to a position that is free.
    fn relocate(&mut self, from: u64, to: u64) -> Result<(), CollectionError> {
        self.copy(from, to)?;
        self.delete(from)
    }

    /// Copies an item over what is at `to`. Its checksum is over the position too, and is made anew.
    fn copy(&mut self, from: u64, to: u64) -> Result<(), CollectionError> {
        let value = items::at(self.txn, from)?.1.to_vec();
        self.put_bytes(to, &value)
    }

    fn put(&mut self, position: u64, value: &V) -> Result<(), CollectionError> {
        self.put_bytes(position, &value.to_bytes()?)
    }

    fn put_bytes(&mut self, position: u64, value: &[u8]) -> Result<(), CollectionError> {
        let key = position.to_be_bytes();
        Ok(self.txn.put(ITEMS, &key, &seal(&key, value))?)
    }

    fn delete(&mut self, position: u64) -> Result<(), CollectionError> {
        self.txn.delete(ITEMS, &position.to_be_bytes())?;
        Ok(())
    }
}

impl<V> fmt::Debug for DequeTxn<'_, '_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DequeTxn").finish_non_exhaustive()
    }
}
