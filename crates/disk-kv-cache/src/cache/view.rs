//! A consistent snapshot of a cache.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Bound;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cache::files::{FileName, FileRef, ReadError};
use crate::cache::inner::Inner;
use crate::cache::row::{Content, Row, RowError};
use crate::cache::state::State;
use crate::cache::tables::{ENTRIES, FILES, STATE, STATE_KEY, TAGS, tag_range};
use crate::{CacheError, EntryDamage, Key, KeyBuf, Order, ReadTxn};

/// A value with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item {
    /// The value.
    pub value: Vec<u8>,
    /// When it expires; `None`: never.
    pub expires_at: Option<SystemTime>,
    /// Its tags, sorted.
    pub tags: Vec<String>,
}

/// A consistent snapshot of a cache: what was committed when it was taken. See [`Cache::view`](crate::Cache::view).
#[derive(Debug, Clone, Copy)]
pub struct View<'a, 't> {
    txn: &'a ReadTxn<'t>,
    cache: &'a Inner,
    /// Whether nobody else can commit meanwhile.
    of_a_write: bool,
}

impl<'a, 't> View<'a, 't> {
    pub(crate) fn new(txn: &'a ReadTxn<'t>, cache: &'a Inner) -> View<'a, 't> {
        View { txn, cache, of_a_write: false }
    }

    pub(crate) fn of_a_write(txn: &'a ReadTxn<'t>, cache: &'a Inner) -> View<'a, 't> {
        View { txn, cache, of_a_write: true }
    }

    /// The value of a key, if it is there and has not expired. Lent from the map without a copy, unless it has a file of
    /// its own.
    ///
    /// # Errors
    /// [`CacheError::Damaged`] if its bytes are not those that were stored.
    pub fn get<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Cow<'a, [u8]>>, CacheError> {
        self.read_value(key.to_key().as_bytes())
    }

    /// The value of a key with its expiry and tags.
    ///
    /// # Errors
    /// As [`get`](View::get).
    pub fn get_item<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Item>, CacheError> {
        self.read_item(key.to_key().as_bytes())
    }

    /// Whether a key is there and has not expired. Neither a hit nor a miss.
    ///
    /// # Errors
    /// [`CacheError::Damaged`] if its row is not what was stored.
    pub fn contains<K: Key + ?Sized>(&self, key: &K) -> Result<bool, CacheError> {
        Ok(self.live(key.to_key().as_bytes())?.is_some())
    }

    /// The length of a key's value in bytes, without reading it. Neither a hit nor a miss.
    ///
    /// # Errors
    /// As [`contains`](View::contains).
    pub fn value_len<K: Key + ?Sized>(&self, key: &K) -> Result<Option<u64>, CacheError> {
        Ok(self.live(key.to_key().as_bytes())?.map(|row| match row.content {
            Content::Inline(value) => value.len() as u64,
            Content::File(file) => file.bytes,
        }))
    }

    /// The smallest (`Ascending`) or largest key with its item; what has expired is passed over.
    ///
    /// # Errors
    /// As [`get`](View::get).
    pub fn peek_item(&self, order: Order) -> Result<Option<(KeyBuf, Item)>, CacheError> {
        self.first_in((Bound::Unbounded, Bound::Unbounded), order, |_| true)
    }

    /// The keys with a tag, in no particular order; those that have expired are left out.
    ///
    /// # Errors
    /// [`CacheError::Damaged`] if a row is not what was stored.
    pub fn keys_by_tag(&self, tag: &str) -> Result<Vec<KeyBuf>, CacheError> {
        let mut keys = Vec::new();
        let (start, end) = tag_range(tag);
        for entry in self.txn.scan(TAGS, start.as_slice()..end.as_slice(), Order::Ascending)? {
            let (_, key) = entry?;
            if self.live(key)?.is_some() {
                keys.push(KeyBuf::trusted(key.to_vec()));
            }
        }
        Ok(keys)
    }

    /// The number of entries, those included that have expired and were not yet removed.
    ///
    /// # Errors
    /// Those of the store.
    pub fn len(&self) -> Result<u64, CacheError> {
        Ok(self.txn.len(ENTRIES)?)
    }

    /// Whether there is no entry, not even one that has expired.
    ///
    /// # Errors
    /// Those of the store.
    pub fn is_empty(&self) -> Result<bool, CacheError> {
        Ok(self.txn.is_empty(ENTRIES)?)
    }

    /// The live entry with the first key in a range of encoded keys that is `wanted`.
    pub(crate) fn first_in(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<(KeyBuf, Item)>, CacheError> {
        for entry in self.txn.scan(ENTRIES, range, order)? {
            let (key, bytes) = entry?;
            if !wanted(key) {
                continue;
            }
            if let Some(item) = self.item_of(key, bytes)? {
                return Ok(Some((KeyBuf::trusted(key.to_vec()), item)));
            }
        }
        Ok(None)
    }

    pub(crate) fn read_value(&self, key: &[u8]) -> Result<Option<Cow<'a, [u8]>>, CacheError> {
        self.read(key, |row| self.value(key, row.content))
    }

    pub(crate) fn read_item(&self, key: &[u8]) -> Result<Option<Item>, CacheError> {
        self.read(key, |row| self.item(key, row))
    }

    /// What `lend` makes of a live row, counted as a hit; or a miss. Damage is neither.
    pub(crate) fn read<T>(
        &self,
        key: &[u8],
        lend: impl FnOnce(&Row<'a>) -> Result<T, CacheError>,
    ) -> Result<Option<T>, CacheError> {
        let Some(row) = self.live(key)? else {
            self.cache.reads.miss();
            return Ok(None);
        };
        let lent = lend(&row)?;
        self.cache.reads.hit(row.id, row.seq);
        Ok(Some(lent))
    }

    /// The row of a key, unless it has expired.
    pub(crate) fn live(&self, key: &[u8]) -> Result<Option<Row<'a>>, CacheError> {
        match self.txn.get(ENTRIES, key)? {
            Some(bytes) => self.parse_live(key, bytes),
            None => Ok(None),
        }
    }

    pub(crate) fn parse(&self, key: &[u8], bytes: &'a [u8]) -> Result<Row<'a>, CacheError> {
        Row::read(key, bytes).map_err(|error| match error {
            RowError::Damaged => {
                self.cache.reads.damaged();
                CacheError::Damaged { key: KeyBuf::trusted(key.to_vec()), damage: EntryDamage::Row }
            }
            RowError::Newer(found) => self.cache.newer(found),
        })
    }

    /// A row that has been found, unless it has expired.
    pub(crate) fn parse_live(&self, key: &[u8], bytes: &'a [u8]) -> Result<Option<Row<'a>>, CacheError> {
        let row = self.parse(key, bytes)?;
        // Most entries of most caches never expire: those need not know the time.
        Ok((row.expires.is_none() || row.is_live(self.cache.now())).then_some(row))
    }

    /// The item of a row that has been found, unless it has expired.
    pub(crate) fn item_of(&self, key: &[u8], bytes: &'a [u8]) -> Result<Option<Item>, CacheError> {
        self.parse_live(key, bytes)?.map(|row| self.item(key, &row)).transpose()
    }

    /// The item of a key, unless it has expired. Neither a hit nor a miss.
    pub(crate) fn item_under(&self, key: &[u8]) -> Result<Option<Item>, CacheError> {
        self.live(key)?.map(|row| self.item(key, &row)).transpose()
    }

    pub(crate) fn value(&self, key: &[u8], content: Content<'a>) -> Result<Cow<'a, [u8]>, CacheError> {
        match content {
            Content::Inline(value) => Ok(Cow::Borrowed(value)),
            Content::File(file) => self.read_file(key, file).map(Cow::Owned),
        }
    }

    pub(crate) fn item(&self, key: &[u8], row: &Row<'a>) -> Result<Item, CacheError> {
        let expires_at = row.expires.map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos));
        let value = self.value(key, row.content)?.into_owned();
        Ok(Item { value, expires_at, tags: row.tags.to_vec() })
    }

    fn read_file(&self, key: &[u8], file: FileRef) -> Result<Vec<u8>, CacheError> {
        let files = &self.cache.files;
        files.open(file).and_then(crate::cache::files::FileReader::read_all).map_err(|error| self.damaged(key, error))
    }

    /// Counts and sorts why a value's file cannot be read.
    pub(crate) fn damaged(&self, key: &[u8], error: ReadError) -> CacheError {
        // A file that is missing from a snapshot counts once it is known that its entry was not replaced: see
        // `Inner::read`.
        if matches!(error, ReadError::Damaged) || (matches!(error, ReadError::Missing) && self.of_a_write) {
            self.cache.reads.damaged();
        }
        CacheError::read(self.cache.files.path(), key, error)
    }

    /// Settings and counters. `None`: the cache is not yet begun.
    pub(crate) fn state(&self) -> Result<Option<State>, CacheError> {
        let Some(bytes) = self.txn.get(STATE, STATE_KEY)? else {
            return Ok(None);
        };
        match State::read(bytes) {
            Ok(state) => Ok(Some(state)),
            Err(RowError::Damaged) => Err(CacheError::DamagedState { path: self.cache.store.path().to_path_buf() }),
            Err(RowError::Newer(found)) => Err(self.cache.newer(found)),
        }
    }

    /// Those files that an entry refers to.
    pub(crate) fn referred(&self, files: &[FileName]) -> Result<HashSet<FileName>, CacheError> {
        let mut referred = HashSet::new();
        for file in files {
            if self.txn.get(FILES, &file.0)?.is_some() {
                referred.insert(*file);
            }
        }
        Ok(referred)
    }

    pub(crate) fn txn(&self) -> &'a ReadTxn<'t> {
        self.txn
    }

    pub(crate) fn cache(&self) -> &'a Inner {
        self.cache
    }
}
