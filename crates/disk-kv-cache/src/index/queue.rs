//! An index as a queue: values pushed and pulled under numbers that the index gives them.
//!
//! As in DiskCache, an empty queue begins in the middle of the numbers of 15 digits.

use super::{Index, IndexTxn, table};
use crate::{CollectionError, FromKey, Key, MAX_KEY_BYTES, Order, ReadTxn, Side, Value};

const FIRST: u64 = 500_000_000_000_000;
/// Numbers of at most 15 digits.
const END: u64 = 1_000_000_000_000_000;

/// What keys of a queue look like: a number, or a prefix with a number.
trait QueueKey: Key {
    fn at(&self, number: u64) -> Self;
    fn number(&self) -> u64;
}

impl QueueKey for u64 {
    fn at(&self, number: u64) -> u64 {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

impl QueueKey for (String, u64) {
    fn at(&self, number: u64) -> (String, u64) {
        (self.0.clone(), number)
    }

    fn number(&self) -> u64 {
        self.1
    }
}

/// Queues: for keys that are numbers.
impl<V: Value> Index<u64, V> {
    /// Adds a value at one end, under the next number there, which it returns.
    ///
    /// ```
    /// use alluvium_disk_kv_cache::{Index, Settings, Side};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let temp = tempfile::tempdir()?;
    /// let index: Index<u64, String> = Index::open(temp.path(), Settings::new())?;
    /// let number = index.push(&"first".into(), Side::Back)?;
    /// index.push(&"second".into(), Side::Back)?;
    /// assert_eq!(index.pull(Side::Front)?, Some((number, "first".to_owned())));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn push(&self, value: &V, side: Side) -> Result<u64, CollectionError> {
        self.transact(|txn| txn.push(value, side))
    }

    /// Takes the value at one end, with its number. Only numbers of at most 15 digits are part of the queue.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn pull(&self, side: Side) -> Result<Option<(u64, V)>, CollectionError> {
        self.transact(|txn| txn.pull(side))
    }
}

/// Queues by prefix: for keys that are a text and a number.
impl<V: Value> Index<(String, u64), V> {
    /// Adds a value at one end of the queue of a prefix, under the next number there, which it returns.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn push_to(&self, prefix: &str, value: &V, side: Side) -> Result<u64, CollectionError> {
        self.transact(|txn| txn.push_to(prefix, value, side))
    }

    /// Takes the value at one end of the queue of a prefix, with its number.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn pull_from(&self, prefix: &str, side: Side) -> Result<Option<(u64, V)>, CollectionError> {
        self.transact(|txn| txn.pull_from(prefix, side))
    }
}

impl<V: Value> IndexTxn<'_, '_, u64, V> {
    /// See [`Index::push`].
    ///
    /// # Errors
    /// As there.
    pub fn push(&mut self, value: &V, side: Side) -> Result<u64, CollectionError> {
        push(self, &0, value, side)
    }

    /// See [`Index::pull`].
    ///
    /// # Errors
    /// As there.
    pub fn pull(&mut self, side: Side) -> Result<Option<(u64, V)>, CollectionError> {
        pull(self, &0, side)
    }
}

impl<V: Value> IndexTxn<'_, '_, (String, u64), V> {
    /// See [`Index::push_to`].
    ///
    /// # Errors
    /// As there.
    pub fn push_to(&mut self, prefix: &str, value: &V, side: Side) -> Result<u64, CollectionError> {
        Ok(push(self, &(prefix.to_owned(), 0), value, side)?.1)
    }

    /// See [`Index::pull_from`].
    ///
    /// # Errors
    /// As there.
    pub fn pull_from(&mut self, prefix: &str, side: Side) -> Result<Option<(u64, V)>, CollectionError> {
        let pulled = pull(self, &(prefix.to_owned(), 0), side)?;
        Ok(pulled.map(|((_, number), value)| (number, value)))
    }
}

fn push<K: QueueKey + FromKey, V: Value>(
    txn: &mut IndexTxn<'_, '_, K, V>,
    queue: &K,
    value: &V,
    side: Side,
) -> Result<K, CollectionError> {
    let number = match (end(txn.txn, queue, side)?, side) {
        (None, _) => Some(FIRST),
        (Some(key), Side::Front) => key.number().checked_sub(1),
        (Some(key), Side::Back) => Some(key.number() + 1).filter(|number| *number < END),
    };
    let key = queue.at(number.ok_or(CollectionError::QueueFull)?);
    txn.insert(&key, value)?;
    Ok(key)
}

fn pull<K: QueueKey + FromKey, V: Value>(
    txn: &mut IndexTxn<'_, '_, K, V>,
    queue: &K,
    side: Side,
) -> Result<Option<(K, V)>, CollectionError> {
    let Some(key) = end(txn.txn, queue, side)? else { return Ok(None) };
    let value = txn.remove(&key)?;
    Ok(value.map(|value| (key, value)))
}

/// The key at one end of a queue. Keys of queues are in the engine's order of numbers, as [`Key`] keeps it.
fn end<K: QueueKey + FromKey>(txn: &ReadTxn<'_>, queue: &K, side: Side) -> Result<Option<K>, CollectionError> {
    let (first, end) = (queue.at(0).to_key(), queue.at(END).to_key());
    if end.as_bytes().len() >= MAX_KEY_BYTES {
        // Cut keys are not in the order of their numbers.
        return Err(CollectionError::InvalidSetting {
            field: "the prefix of a queue",
            rule: "short enough for a key of the store (MAX_KEY_BYTES)",
        });
    }
    let order = match side {
        Side::Front => Order::Ascending,
        Side::Back => Order::Descending,
    };
    match txn.scan(table::ENTRIES, first.as_bytes()..end.as_bytes(), order)?.next() {
        Some(entry) => super::txn::decode_key(entry?.0).map(Some),
        None => Ok(None),
    }
}
