//! [`Index`]: the handle, one transaction a call.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of a type with lifetimes of its own is not general enough for `transact`"
)]

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::path::Path;

use super::table::{self, KeyValue};
use super::txn::{IndexTxn, decode_key};
use crate::collection::{BATCH, CollectionIter};
use crate::{CollectionError, FromKey, Key, OpenError, Order, ReadTxn, Settings, Store, StoreError, Value};

/// A map in a directory of its own, shared by any number of threads and processes. It never evicts.
///
/// Entries are in the order in which their keys were **inserted**, as in DiskCache's `Index` and Python's `OrderedDict`:
/// setting a key that is there keeps its place, removing and setting it again makes it the last. Keys may have any length.
///
/// Every method is one transaction: all of it happens or nothing, and no other writer comes between.
/// [`transact`](Index::transact) makes one transaction of several. With [`Settings::new`], each change is synced to the
/// device.
///
/// ```
/// use alluvium_disk_kv_cache::{Index, Settings};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let dir = temp.path();
/// let index: Index<String, u64> = Index::open(dir, Settings::new())?;
/// index.insert(&"orders".into(), &3)?;
/// index.insert(&"customers".into(), &5)?;
/// assert_eq!(index.get_or_insert(&"orders".into(), &0)?, 3);
///
/// let keys: Vec<String> = index.keys()?.collect::<Result<_, _>>()?;
/// assert_eq!(keys, ["orders", "customers"]);
/// assert_eq!(index.pop_last()?, Some(("customers".to_owned(), 5)));
/// # Ok(()) }
/// ```
pub struct Index<K, V> {
    store: Store,
    kinds: PhantomData<fn() -> (K, V)>,
}

impl<K: Key + FromKey, V: Value> Index<K, V> {
    /// Opens the index in `dir`, creating it if there is none.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(dir: impl AsRef<Path>, settings: Settings) -> Result<Index<K, V>, OpenError> {
        Ok(Index { store: Store::open(dir, table::TABLES, settings)?, kinds: PhantomData })
    }

    /// Opens the index in `dir` for reading only, also where the file system can only be read. What would change it is
    /// [`StoreError::ReadOnly`].
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub fn open_read_only(dir: impl AsRef<Path>) -> Result<Index<K, V>, OpenError> {
        Ok(Index { store: Store::open_read_only(dir, table::TABLES)?, kinds: PhantomData })
    }

    /// The directory, as a canonical path.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    /// Runs `f` in one write transaction: what it did is committed when it returns `Ok`, and undone when it returns an
    /// error.
    ///
    /// `f` may run more than once, each time from the same state: see [`Store::write`]. It should have no effect but on
    /// the index.
    ///
    /// # Errors
    /// What `f` returns, or a [`CollectionError`].
    pub fn transact<T, E: From<StoreError>>(
        &self,
        mut f: impl FnMut(&mut IndexTxn<'_, '_, K, V>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.store.write(|txn| f(&mut IndexTxn::new(txn)))
    }

    /// The value of a key, if it is there.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn get(&self, key: &K) -> Result<Option<V>, CollectionError> {
        let key = key.to_key();
        self.read(|txn| {
            let found = table::get(txn, key.as_bytes())?;
            Ok(found.map(|(_, value)| V::from_bytes(value)).transpose()?)
        })
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn contains_key(&self, key: &K) -> Result<bool, CollectionError> {
        let key = key.to_key();
        self.read(|txn| Ok(table::get(txn, key.as_bytes())?.is_some()))
    }

    /// Sets the value of a key. A new key becomes the last; one that is there keeps its place.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn insert(&self, key: &K, value: &V) -> Result<(), CollectionError> {
        self.transact(|txn| txn.insert(key, value))
    }

    /// Sets the values of several keys, in one transaction.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "update")]
    pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<(), CollectionError> {
        let entries: Vec<(K, V)> = entries.into_iter().collect();
        self.transact(|txn| entries.iter().try_for_each(|(key, value)| txn.insert(key, value)))
    }

    /// The value of a key; `value` becomes it if there is none.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "setdefault")]
    pub fn get_or_insert(&self, key: &K, value: &V) -> Result<V, CollectionError> {
        match self.get(key)? {
            Some(found) => Ok(found),
            None => self.transact(|txn| txn.get_or_insert(key, value)),
        }
    }

    /// The value of a key; if there is none, what `compute` returns becomes it: memoization that never forgets.
    ///
    /// `compute` runs outside any transaction, so two callers may both compute; the first to finish decides for both.
    /// For one computation only, hold a [`Lock`](crate::Lock) meanwhile.
    ///
    /// # Errors
    /// What `compute` returns, or a [`CollectionError`].
    #[doc(alias = "memoize")]
    pub fn get_or_insert_with<E: From<CollectionError>>(
        &self,
        key: &K,
        compute: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        match self.get(key)? {
            Some(found) => Ok(found),
            None => {
                let value = compute()?;
                Ok(self.get_or_insert(key, &value)?)
            }
        }
    }

    /// As [`get_or_insert_with`](Index::get_or_insert_with), for a computation that is awaited. The index itself blocks
    /// the thread for one read and one write.
    ///
    /// # Errors
    /// As [`get_or_insert_with`](Index::get_or_insert_with).
    pub async fn get_or_insert_with_async<E: From<CollectionError>>(
        &self,
        key: &K,
        compute: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        match self.get(key)? {
            Some(found) => Ok(found),
            None => {
                let value = compute().await?;
                Ok(self.get_or_insert(key, &value)?)
            }
        }
    }

    /// Takes a key out, and returns its value.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "pop")]
    pub fn remove(&self, key: &K) -> Result<Option<V>, CollectionError> {
        self.transact(|txn| txn.remove(key))
    }

    /// Takes a key out without reading its value, which may be of another type. `false`: it is not there.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn delete(&self, key: &K) -> Result<bool, CollectionError> {
        self.transact(|txn| txn.delete(key))
    }

    /// Takes the entry that was inserted first.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "popitem")]
    pub fn pop_first(&self) -> Result<Option<(K, V)>, CollectionError> {
        self.transact(|txn| txn.pop_first())
    }

    /// Takes the entry that was inserted last.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "popitem")]
    pub fn pop_last(&self) -> Result<Option<(K, V)>, CollectionError> {
        self.transact(|txn| txn.pop_last())
    }

    /// The entry that was inserted first.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "peekitem")]
    pub fn first(&self) -> Result<Option<(K, V)>, CollectionError> {
        self.read(|txn| table::end(txn, Order::Ascending)?.map(decoded).transpose())
    }

    /// The entry that was inserted last.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "peekitem")]
    pub fn last(&self) -> Result<Option<(K, V)>, CollectionError> {
        self.read(|txn| table::end(txn, Order::Descending)?.map(decoded).transpose())
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn clear(&self) -> Result<(), CollectionError> {
        self.transact(|txn| txn.clear())
    }

    /// The number of entries.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn len(&self) -> Result<u64, CollectionError> {
        self.read(|txn| Ok(txn.len(table::ORDER)?))
    }

    /// Whether there is no entry.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn is_empty(&self) -> Result<bool, CollectionError> {
        Ok(self.len()? == 0)
    }

    /// The entries in order of insertion, or from either end, in batches: see [`CollectionIter`]. [`to_vec`](Index::to_vec) is a
    /// snapshot instead.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "items")]
    pub fn iter(&self) -> Result<CollectionIter<'_, (K, V)>, CollectionError> {
        self.iter_with(decoded)
    }

    /// The keys in order of insertion, as [`iter`](Index::iter).
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn keys(&self) -> Result<CollectionIter<'_, K>, CollectionError> {
        self.iter_with(|(key, _)| decode_key(key))
    }

    /// The values in order of their keys' insertion, as [`iter`](Index::iter).
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn values(&self) -> Result<CollectionIter<'_, V>, CollectionError> {
        self.iter_with(|(_, value)| Ok(V::from_bytes(value)?))
    }

    fn iter_with<'i, T>(
        &'i self,
        decode: impl Fn(KeyValue<'_>) -> Result<T, CollectionError> + 'i,
    ) -> Result<CollectionIter<'i, T>, CollectionError> {
        let span = self.read(table::span)?;
        Ok(CollectionIter::new(span, move |range, order| {
            self.read(|txn| {
                let entries = table::scan(txn, range, order)?.take(BATCH);
                entries.map(|entry| entry.and_then(|(number, entry)| Ok((number, decode(entry)?)))).collect()
            })
        }))
    }

    /// All entries in order of insertion, as they were at one moment.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn to_vec(&self) -> Result<Vec<(K, V)>, CollectionError> {
        self.read(|txn| table::scan(txn, 0..u64::MAX, Order::Ascending)?.map(|entry| decoded(entry?.1)).collect())
    }

    /// Whether the entries equal others, in the same order: how two ordered maps compare.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn equals_in_order(&self, others: &[(K, V)]) -> Result<bool, CollectionError>
    where
        K: PartialEq,
        V: PartialEq,
    {
        Ok(self.to_vec()? == others)
    }

    /// Whether the entries equal those of a map, in any order.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn equals(&self, others: &HashMap<K, V>) -> Result<bool, CollectionError>
    where
        K: Eq + Hash,
        V: PartialEq,
    {
        let entries = self.to_vec()?;
        Ok(entries.len() == others.len() && entries.iter().all(|(key, value)| others.get(key) == Some(value)))
    }

    fn read<T>(&self, f: impl FnOnce(&ReadTxn<'_>) -> Result<T, CollectionError>) -> Result<T, CollectionError> {
        self.store.read(f)
    }
}

fn decoded<K: FromKey, V: Value>((key, value): KeyValue<'_>) -> Result<(K, V), CollectionError> {
    Ok((decode_key(key)?, V::from_bytes(value)?))
}

impl<K, V> Clone for Index<K, V> {
    fn clone(&self) -> Index<K, V> {
        Index { store: self.store.clone(), kinds: PhantomData }
    }
}

impl<K, V> fmt::Debug for Index<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("path", &self.store.path()).finish_non_exhaustive()
    }
}
