//! Queues within a cache: entries under `(prefix, number)`, pushed and pulled at either end.

use std::ops::Bound;

use crate::cache::transaction::Transaction;
use crate::cache::view::View;
use crate::{CacheError, Item, Key, KeyBuf, Order, SetOptions};

/// An end of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end of the smallest number.
    Front,
    /// The end of the largest number.
    Back,
}

impl Side {
    /// The order in which this side comes first.
    fn order(self) -> Order {
        match self {
            Side::Front => Order::Ascending,
            Side::Back => Order::Descending,
        }
    }
}

/// The encoded keys in which those of a queue lie: of all tuples `(prefix, integer, …)`.
struct Range {
    start: Vec<u8>,
    end: Vec<u8>,
}

impl Range {
    fn new(prefix: &str) -> Range {
        // Up to the end of the tuple, which is one byte; then whatever integers begin with.
        let mut start = (prefix,).to_key().as_bytes().to_vec();
        start.pop();
        let mut end = start.clone();
        start.push(crate::key::FIRST_INTEGER);
        end.push(crate::key::LAST_INTEGER + 1);
        Range { start, end }
    }

    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(&self.start), Bound::Excluded(&self.end))
    }
}

impl View<'_, '_> {
    /// See [`Cache::peek`](crate::Cache::peek).
    ///
    /// # Errors
    /// As there.
    pub fn peek(&self, prefix: &str, side: Side) -> Result<Option<(KeyBuf, Item)>, CacheError> {
        self.first_in(Range::new(prefix).bounds(), side.order(), |key| number_of(key).is_some())
    }
}

impl Transaction<'_, '_> {
    /// See [`Cache::push`](crate::Cache::push).
    ///
    /// # Errors
    /// As there.
    pub fn push(&mut self, prefix: &str, value: &[u8], side: Side, options: &SetOptions) -> Result<KeyBuf, CacheError> {
        let range = Range::new(prefix);
        // Expired entries count too: a number that is taken is taken.
        let head = self.head(&range, side)?.and_then(|key| number_of(key.as_bytes()));
        let number = match (head, side) {
            (None, _) => Some(0),
            (Some(last), Side::Back) => last.checked_add(1),
            (Some(first), Side::Front) => first.checked_sub(1),
        };
        let number = number.ok_or_else(|| CacheError::QueueFull { prefix: prefix.to_owned() })?;
        let key = (prefix, number).to_key();
        self.set(&key, value, options)?;
        Ok(key)
    }

    /// See [`Cache::pull`](crate::Cache::pull).
    ///
    /// # Errors
    /// As there. A damaged entry is removed, if the transaction commits.
    pub fn pull(&mut self, prefix: &str, side: Side) -> Result<Option<(KeyBuf, Item)>, CacheError> {
        let range = Range::new(prefix);
        while let Some(key) = self.head(&range, side)? {
            match self.pop(&key)? {
                Some(item) => return Ok(Some((key, item))),
                None => drop(self.delete(&key)?),
            }
        }
        Ok(None)
    }

    /// The key at an end of a queue, expired or not.
    fn head(&self, range: &Range, side: Side) -> Result<Option<KeyBuf>, CacheError> {
        for entry in self.rows.txn().scan(super::tables::ENTRIES, range.bounds(), side.order())? {
            let (key, _) = entry?;
            if number_of(key).is_some() {
                return Ok(Some(KeyBuf::trusted(key.to_vec())));
            }
        }
        Ok(None)
    }
}

/// The number of a key that is in a queue. Others lie between those: longer tuples, and integers beyond 64 bits; they are
/// nobody's but their user's.
fn number_of(key: &[u8]) -> Option<i64> {
    Some(KeyBuf::trusted(key.to_vec()).decode::<(String, i64)>().ok()?.1)
}
