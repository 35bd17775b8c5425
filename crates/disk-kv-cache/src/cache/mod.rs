//! The cache: keys to values, with expiry, tags and eviction, for many threads and processes.

pub(crate) mod check;
pub(crate) mod entry;
pub(crate) mod error;
pub(crate) mod fifo;
pub(crate) mod files;
pub(crate) mod inner;
pub(crate) mod iter;
pub(crate) mod options;
pub(crate) mod reads;
pub(crate) mod row;
pub(crate) mod rows;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod stream;
pub(crate) mod tables;
pub(crate) mod transaction;
pub(crate) mod upkeep;
pub(crate) mod view;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::files::NewFile;
use crate::cache::inner::Inner;
use crate::cache::row::Content;
use crate::{
    CacheError, CacheOptions, CacheSettings, Item, Items, Key, KeyBuf, Keys, OpenCacheError, Order, Recovered,
    SetOptions, Side, Transaction, ValueReader, View,
};

/// A cache in one directory: keys to values, with expiry, tags and eviction.
///
/// Cloning is cheap. Any number of threads and processes of one host may use a directory at once; each operation is one
/// transaction, and a write that returned `Ok` is seen by every later read in any process. A value and its key are under
/// a checksum, which every read verifies: what comes back is what was stored, or an error.
///
/// Several operations together: [`transact`](Cache::transact) to change, [`view`](Cache::view) to read. Within either, use
/// the handle it gives: the cache itself answers [`StoreError::Nested`](crate::StoreError::Nested) there.
///
/// ```
/// use std::time::Duration;
/// use alluvium_disk_kv_cache::{Cache, SetOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let dir = temp.path();
/// let cache = Cache::open(dir)?;
/// cache.set(&("rate", "EUR"), b"1.08")?;
/// cache.set_with(&("rate", "USD"), b"1", &SetOptions::new().with_ttl(Duration::from_secs(60)).with_tag("rates"))?;
/// assert_eq!(cache.get(&("rate", "EUR"))?.as_deref(), Some(b"1.08".as_slice()));
/// assert_eq!(cache.evict("rates")?, 1);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

impl Cache {
    /// Opens the cache in `dir`, and makes it if there is none: with the defaults of [`CacheOptions`].
    ///
    /// # Errors
    /// As [`CacheOptions::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Cache, OpenCacheError> {
        CacheOptions::new().open(dir)
    }

    pub(crate) fn from_inner(inner: Inner) -> Cache {
        Cache { inner: Arc::new(inner) }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The directory, as a canonical path.
    pub fn path(&self) -> &Path {
        self.inner.store.path()
    }

    /// What happened if the cache that lay here was damaged, and was set aside when this process opened it.
    pub fn recovered(&self) -> Option<&Recovered> {
        self.inner.store.recovered()
    }

    /// A copy of the value of a key, if it is there and has not expired.
    ///
    /// # Errors
    /// [`CacheError::Damaged`] if the bytes are not those that were stored, and those of the store and its files.
    pub fn get<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Vec<u8>>, CacheError> {
        let key = key.to_key();
        self.inner.read(|view| Ok(view.read_value(key.as_bytes())?.map(Cow::into_owned)))
    }

    /// The value of a key with its expiry and tags.
    ///
    /// # Errors
    /// As [`get`](Cache::get).
    pub fn get_item<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Item>, CacheError> {
        let key = key.to_key();
        self.inner.read(|view| view.read_item(key.as_bytes()))
    }

    /// The values of several keys, as of one moment and in their order.
    ///
    /// # Errors
    /// As [`get`](Cache::get).
    pub fn get_many<K: Key>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Vec<u8>>>, CacheError> {
        let keys: Vec<KeyBuf> = keys.into_iter().map(|key| key.to_key()).collect();
        self.inner.read(|view| {
            let value = |key: &KeyBuf| Ok(view.read_value(key.as_bytes())?.map(Cow::into_owned));
            keys.iter().map(value).collect()
        })
    }

    /// Lends the value of a key to `f`, without a copy unless it has a file of its own.
    ///
    /// `f` may run more than once, and must not use this cache.
    ///
    /// # Errors
    /// As [`get`](Cache::get).
    pub fn get_with<K: Key + ?Sized, T>(
        &self,
        key: &K,
        mut f: impl FnMut(&[u8]) -> T,
    ) -> Result<Option<T>, CacheError> {
        let key = key.to_key();
        self.inner.read(|view| Ok(view.read_value(key.as_bytes())?.map(|value| f(&value))))
    }

    /// The value of a key as a stream, for values too large to hold in memory. It stays whole whatever happens to the
    /// entry meanwhile. Each block of 64 KiB is verified before a byte of it is lent.
    ///
    /// # Errors
    /// As [`get`](Cache::get); damage to a block of a file shows when the block is reached.
    pub fn read<K: Key + ?Sized>(&self, key: &K) -> Result<Option<ValueReader>, CacheError> {
        let key = key.to_key();
        self.inner.read(|view| view.open_key(key.as_bytes()))
    }

    /// Whether a key is there and has not expired. Does not count as a read.
    ///
    /// # Errors
    /// As [`get`](Cache::get).
    pub fn contains<K: Key + ?Sized>(&self, key: &K) -> Result<bool, CacheError> {
        let key = key.to_key();
        self.inner.read(|view| Ok(view.live(key.as_bytes())?.is_some()))
    }

    /// Reads several things as of one moment. A snapshot keeps the store from reusing pages: `f` should be short. It may
    /// run more than once, and must not use this cache but through the view.
    ///
    /// # Errors
    /// What `f` returns, and those of the store.
    pub fn view<T>(&self, f: impl FnMut(View<'_, '_>) -> Result<T, CacheError>) -> Result<T, CacheError> {
        self.inner.read(f)
    }

    /// Stores a value, for ever and without tags, in place of what is there.
    ///
    /// # Errors
    /// [`CacheError::NoSpace`], [`CacheError::File`], and those of the store: among them
    /// [`StoreError::KeyLength`](crate::StoreError::KeyLength) and, when the map is full before the size limit is
    /// reached, [`StoreError::Full`](crate::StoreError::Full).
    pub fn set<K: Key + ?Sized>(&self, key: &K, value: &[u8]) -> Result<(), CacheError> {
        self.set_with(key, value, &SetOptions::new())
    }

    /// Stores a value with a time to live and tags, in place of what is there.
    ///
    /// # Errors
    /// As [`set`](Cache::set), and [`CacheError::Tags`].
    pub fn set_with<K: Key + ?Sized>(&self, key: &K, value: &[u8], options: &SetOptions) -> Result<(), CacheError> {
        let key = key.to_key();
        self.store(&key, value, |content| self.inner.write(|txn| txn.set_content(&key, content, options)))
    }

    /// Stores a value that is read from `value` to its end. Nothing is locked while it is read.
    ///
    /// # Errors
    /// As [`set_with`](Cache::set_with), and [`CacheError::Source`] if reading fails.
    pub fn set_from<K: Key + ?Sized>(
        &self,
        key: &K,
        mut value: impl std::io::Read,
        options: &SetOptions,
    ) -> Result<(), CacheError> {
        use std::io::Read as _;

        let key = key.to_key();
        let min = self.inner.reads.min_file_size_bytes();
        let mut head = Vec::new();
        value.by_ref().take(min).read_to_end(&mut head).map_err(|source| CacheError::Source { source })?;
        if (head.len() as u64) < min {
            return self.set_with(&key, &head, options);
        }
        let file = self.new_file(&key, &mut head.as_slice().chain(value))?;
        let stored = self.inner.write(|txn| txn.set_content(&key, Content::File(file.reference()), options));
        if stored.is_ok() {
            file.keep();
        }
        stored
    }

    /// Stores several values in one transaction.
    ///
    /// # Errors
    /// As [`set_with`](Cache::set_with); then none is stored.
    pub fn set_many<'v, K: Key>(
        &self,
        entries: impl IntoIterator<Item = (K, &'v [u8])>,
        options: &SetOptions,
    ) -> Result<(), CacheError> {
        let entries: Vec<_> = entries.into_iter().map(|(key, value)| (key.to_key(), value)).collect();
        self.inner.write(|txn| entries.iter().try_for_each(|(key, value)| txn.set(key, value, options)))
    }

    /// Stores a value unless the key is there and has not expired. `false`: it is, and nothing was changed. Of all
    /// threads and processes that add a key, exactly one is told `true`.
    ///
    /// # Errors
    /// As [`set_with`](Cache::set_with).
    pub fn add<K: Key + ?Sized>(&self, key: &K, value: &[u8], options: &SetOptions) -> Result<bool, CacheError> {
        let key = key.to_key();
        // Most additions that fail need no write transaction, and no file.
        if self.contains(&key)? {
            return Ok(false);
        }
        self.store(&key, value, |content| {
            self.inner.write(|txn| {
                if txn.view().contains(&key)? {
                    return Ok(false);
                }
                txn.set_content(&key, content, options).map(|()| true)
            })
        })
    }

    /// Gives an entry another time to live, from now on; `None`: for ever. `false`: there is no such entry.
    ///
    /// # Errors
    /// [`CacheError::Damaged`] if there is one that cannot be read, and those of the store.
    pub fn touch<K: Key + ?Sized>(&self, key: &K, ttl: Option<Duration>) -> Result<bool, CacheError> {
        self.inner.write(|txn| txn.touch(key, ttl))
    }

    /// Removes an entry and returns it. Of all that pop it, exactly one gets it. Neither a hit nor a miss.
    ///
    /// # Errors
    /// As [`get`](Cache::get). A damaged entry is removed, and the error returned.
    pub fn pop<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Item>, CacheError> {
        self.inner.write(|txn| despite_damage(txn.pop(key)))?
    }

    /// Removes an entry. `false`: there was none that had not expired.
    ///
    /// # Errors
    /// Those of the store.
    pub fn delete<K: Key + ?Sized>(&self, key: &K) -> Result<bool, CacheError> {
        self.inner.write(|txn| txn.delete(key))
    }

    /// Removes several entries in one transaction, and counts those that were there.
    ///
    /// # Errors
    /// Those of the store; then none is removed.
    pub fn delete_many<K: Key>(&self, keys: impl IntoIterator<Item = K>) -> Result<u64, CacheError> {
        let keys: Vec<KeyBuf> = keys.into_iter().map(|key| key.to_key()).collect();
        self.inner.write(|txn| {
            let mut deleted = 0;
            for key in &keys {
                deleted += u64::from(txn.delete(key)?);
            }
            Ok(deleted)
        })
    }

    /// Adds to an integer and returns the sum; a key that is not there begins at 0. Expiry and tags stay.
    ///
    /// Values are decimal text, as `set(key, b"41")` stores. No increment is lost, whoever else makes some.
    ///
    /// # Errors
    /// [`CacheError::NotAnInteger`], [`CacheError::Overflow`], and those of [`set`](Cache::set).
    pub fn incr<K: Key + ?Sized>(&self, key: &K, delta: i64) -> Result<i64, CacheError> {
        Ok(self.incr_with(key, delta, Some(0), &SetOptions::new())?.unwrap_or_default())
    }

    /// Subtracts from an integer: [`incr`](Cache::incr) by `-delta`.
    ///
    /// # Errors
    /// As [`incr`](Cache::incr).
    pub fn decr<K: Key + ?Sized>(&self, key: &K, delta: i64) -> Result<i64, CacheError> {
        let key = key.to_key();
        let difference = self.inner.write(|txn| txn.add_to(&key, -i128::from(delta), Some(0), &SetOptions::new()))?;
        Ok(difference.unwrap_or_default())
    }

    /// Adds to an integer. A key that is not there, or has expired, is made with `options` and begins at `default`;
    /// without a default the answer is `None` and nothing is made. An entry that is there keeps its expiry and tags.
    ///
    /// # Errors
    /// As [`incr`](Cache::incr), and [`CacheError::Tags`].
    pub fn incr_with<K: Key + ?Sized>(
        &self,
        key: &K,
        delta: i64,
        default: Option<i64>,
        options: &SetOptions,
    ) -> Result<Option<i64>, CacheError> {
        let key = key.to_key();
        self.inner.write(|txn| txn.incr(&key, delta, default, options))
    }

    /// Adds a value at an end of the queue `prefix`, and returns its key: the tuple of the prefix and a number. Entries
    /// of a queue are entries of the cache, and are evicted like others.
    ///
    /// # Errors
    /// As [`set_with`](Cache::set_with), and [`CacheError::QueueFull`].
    pub fn push(&self, prefix: &str, value: &[u8], side: Side, options: &SetOptions) -> Result<KeyBuf, CacheError> {
        self.inner.write(|txn| txn.push(prefix, value, side, options))
    }

    /// Removes the value at an end of the queue `prefix`, passing over what has expired. Of all that pull it, exactly
    /// one gets it. Neither a hit nor a miss.
    ///
    /// # Errors
    /// As [`get`](Cache::get). A damaged entry is removed, and the error returned.
    pub fn pull(&self, prefix: &str, side: Side) -> Result<Option<(KeyBuf, Item)>, CacheError> {
        self.inner.write(|txn| despite_damage(txn.pull(prefix, side)))?
    }

    /// The value at an end of the queue `prefix`, passing over what has expired.
    ///
    /// # Errors
    /// As [`get`](Cache::get).
    pub fn peek(&self, prefix: &str, side: Side) -> Result<Option<(KeyBuf, Item)>, CacheError> {
        self.inner.read(|view| view.peek(prefix, side))
    }

    /// The smallest (`Ascending`) or largest key with its item, passing over what has expired.
    ///
    /// # Errors
    /// As [`get`](Cache::get).
    pub fn peek_item(&self, order: Order) -> Result<Option<(KeyBuf, Item)>, CacheError> {
        self.inner.read(|view| view.peek_item(order))
    }

    /// Runs `f` in one write transaction: all it does is done at once, or, if it returns an error or panics, nothing of
    /// it. [`Transaction::transact`] nests.
    ///
    /// Other writers wait meanwhile. `f` may run more than once, and must not use this cache but through the transaction.
    ///
    /// ```
    /// # use alluvium_disk_kv_cache::{Cache, CacheError, SetOptions};
    /// # fn f(cache: &Cache) -> Result<(), CacheError> {
    /// cache.transact::<_, CacheError>(|txn| {
    ///     let options = SetOptions::new();
    ///     txn.incr("total", 10, Some(0), &options)?;
    ///     txn.set("latest", b"10", &options)
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `f` returns, or those of the store.
    pub fn transact<T, E: From<CacheError>>(
        &self,
        f: impl FnMut(&mut Transaction<'_, '_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.inner.write(f)
    }

    /// The bytes of all entries: keys, rows, files, and their rows in the indexes. The room that the data file takes on
    /// the device does not shrink with it, but is used again.
    ///
    /// # Errors
    /// Those of the store.
    pub fn volume(&self) -> Result<u64, CacheError> {
        Ok(self.inner.state()?.volume)
    }

    /// The number of entries, those included that have expired and were not yet removed. Takes the same time for any
    /// number.
    ///
    /// # Errors
    /// Those of the store.
    pub fn len(&self) -> Result<u64, CacheError> {
        self.inner.read(|view| view.len())
    }

    /// Whether there is no entry, not even one that has expired.
    ///
    /// # Errors
    /// Those of the store.
    pub fn is_empty(&self) -> Result<bool, CacheError> {
        self.inner.read(|view| view.is_empty())
    }

    /// All keys, in their order.
    pub fn keys(&self, order: Order) -> Keys {
        Keys::new(self.clone(), None, order, iter::key)
    }

    /// All keys in their order, beginning with `from` or else the next one.
    pub fn keys_from<K: Key + ?Sized>(&self, from: &K, order: Order) -> Keys {
        Keys::new(self.clone(), Some(from.to_key()), order, iter::key)
    }

    /// All entries, in the order of their keys. Does not count as reading them.
    pub fn items(&self, order: Order) -> Items {
        Items::new(self.clone(), None, order, iter::item)
    }

    /// All entries in the order of their keys, beginning with `from` or else the next one.
    pub fn items_from<K: Key + ?Sized>(&self, from: &K, order: Order) -> Items {
        Items::new(self.clone(), Some(from.to_key()), order, iter::item)
    }

    /// The keys that have a tag, in no particular order; those that have expired are left out.
    ///
    /// # Errors
    /// As [`get`](Cache::get).
    pub fn keys_by_tag(&self, tag: &str) -> Result<Vec<KeyBuf>, CacheError> {
        self.inner.read(|view| view.keys_by_tag(tag))
    }

    /// The settings in the store.
    ///
    /// # Errors
    /// Those of the store.
    pub fn settings(&self) -> Result<CacheSettings, CacheError> {
        Ok(self.inner.state()?.settings)
    }

    /// Changes the settings in the store, for all who use it: other handles follow with their next write, or after 256
    /// reads. Another policy of eviction takes time in proportion to the number of entries.
    ///
    /// # Errors
    /// Those of the store.
    pub fn update_settings(&self, change: impl Fn(CacheSettings) -> CacheSettings) -> Result<(), CacheError> {
        self.inner.write(|txn| txn.update_settings(&change))
    }

    /// Stores a value with `store`, in a file if it is long enough for one, which is written first.
    fn store<T>(
        &self,
        key: &KeyBuf,
        value: &[u8],
        store: impl FnOnce(Content<'_>) -> Result<T, CacheError>,
    ) -> Result<T, CacheError>
    where
        T: Stored,
    {
        if (value.len() as u64) < self.inner.reads.min_file_size_bytes() {
            return store(Content::Inline(value));
        }
        let file = self.new_file(key, &mut &*value)?;
        let stored = store(Content::File(file.reference()))?;
        if stored.refers_to_file() {
            file.keep();
        }
        Ok(stored)
    }

    fn new_file(&self, key: &KeyBuf, value: &mut dyn std::io::Read) -> Result<NewFile, CacheError> {
        // A key that the store refuses costs no file.
        self.inner.store.read(|txn| txn.get(tables::ENTRIES, key.as_bytes()).map(|_| ()))?;
        let files = &self.inner.files;
        files.create(value).map_err(|error| CacheError::write(files.path(), error))
    }
}

/// What a write answers, and whether the store now refers to the file it was given.
trait Stored {
    fn refers_to_file(&self) -> bool;
}

impl Stored for () {
    fn refers_to_file(&self) -> bool {
        true
    }
}

/// Of an addition.
impl Stored for bool {
    fn refers_to_file(&self) -> bool {
        *self
    }
}

/// Lets a transaction commit the removal of what it found damaged, and the caller have the error.
fn despite_damage<T>(popped: Result<T, CacheError>) -> Result<Result<T, CacheError>, CacheError> {
    match popped {
        Err(error) if !error.is_damage() => Err(error),
        popped => Ok(popped),
    }
}
