//! [`IndexTxn`]: the operations of an index within one write transaction.

use std::fmt;
use std::marker::PhantomData;

use super::table;
use crate::{CollectionError, FromKey, Key, KeyBuf, Order, Value, WriteTxn};

/// An [`Index`](crate::Index) within [`transact`](crate::Index::transact). It sees its own changes.
///
/// Methods do what those of the index with the same name do.
pub struct IndexTxn<'a, 't, K, V> {
    pub(super) txn: &'a mut WriteTxn<'t>,
    kinds: PhantomData<fn() -> (K, V)>,
}

impl<'a, 't, K: Key + FromKey, V: Value> IndexTxn<'a, 't, K, V> {
    pub(super) fn new(txn: &'a mut WriteTxn<'t>) -> IndexTxn<'a, 't, K, V> {
        IndexTxn { txn, kinds: PhantomData }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn get(&self, key: &K) -> Result<Option<V>, CollectionError> {
        Ok(match table::get(self.txn, key.to_key().as_bytes())? {
            Some((_, value)) => Some(V::from_bytes(value)?),
            None => None,
        })
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn contains_key(&self, key: &K) -> Result<bool, CollectionError> {
        Ok(table::get(self.txn, key.to_key().as_bytes())?.is_some())
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn insert(&mut self, key: &K, value: &V) -> Result<(), CollectionError> {
        table::put(self.txn, key.to_key().as_bytes(), &value.to_bytes()?)
    }

    /// The value of a key; `value` becomes it if there is none.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn get_or_insert(&mut self, key: &K, value: &V) -> Result<V, CollectionError> {
        if let Some(found) = self.get(key)? {
            return Ok(found);
        }
        let bytes = value.to_bytes()?;
        table::put(self.txn, key.to_key().as_bytes(), &bytes)?;
        Ok(V::from_bytes(&bytes)?)
    }

    /// Takes a key out, and returns its value.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn remove(&mut self, key: &K) -> Result<Option<V>, CollectionError> {
        let value = self.get(key)?;
        if value.is_some() {
            table::delete(self.txn, key.to_key().as_bytes())?;
        }
        Ok(value)
    }

    /// Takes a key out without reading its value. `false`: it is not there.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn delete(&mut self, key: &K) -> Result<bool, CollectionError> {
        table::delete(self.txn, key.to_key().as_bytes())
    }

    /// Takes the entry that was inserted first.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn pop_first(&mut self) -> Result<Option<(K, V)>, CollectionError> {
        self.pop(Order::Ascending)
    }

    /// Takes the entry that was inserted last.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn pop_last(&mut self) -> Result<Option<(K, V)>, CollectionError> {
        self.pop(Order::Descending)
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn clear(&mut self) -> Result<(), CollectionError> {
        table::clear(self.txn)
    }

    /// The number of entries.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn len(&self) -> Result<u64, CollectionError> {
        Ok(self.txn.len(table::ORDER)?)
    }

    /// Whether there is no entry.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn is_empty(&self) -> Result<bool, CollectionError> {
        Ok(self.len()? == 0)
    }

    fn pop(&mut self, order: Order) -> Result<Option<(K, V)>, CollectionError> {
        let Some((key, value)) = table::end(self.txn, order)? else { return Ok(None) };
        let entry = (decode_key(key)?, V::from_bytes(value)?);
        let key = key.to_vec();
        table::delete(self.txn, &key)?;
        Ok(Some(entry))
    }
}

/// The key that encoded bytes are.
pub(super) fn decode_key<K: FromKey>(bytes: &[u8]) -> Result<K, CollectionError> {
    Ok(KeyBuf::trusted(bytes.to_vec()).decode()?)
}

impl<K, V> fmt::Debug for IndexTxn<'_, '_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexTxn").finish_non_exhaustive()
    }
}
