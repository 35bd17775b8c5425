//! The write transaction of a cache: what every change is made of.

use std::time::Duration;

use crate::cache::entry::{Found, NewEntry, Stamp};
use crate::cache::inner::{Effects, Inner};
use crate::cache::row::{Content, TagList};
use crate::cache::rows::{self, Rows};
use crate::cache::state::State;
use crate::cache::tables::{STATE, STATE_KEY};
use crate::cache::view::View;
use crate::clock::nanos;
use crate::{CacheError, Item, Key, KeyBuf, Order, WriteTxn};

/// How a value is stored: for how long, and under which tags. The default: for ever, and none.
///
/// ```
/// use std::time::Duration;
/// use alluvium_disk_kv_cache::SetOptions;
///
/// let options = SetOptions::new().with_ttl(Duration::from_secs(60)).with_tag("prices").with_tag("eu");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetOptions {
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<String>,
}

impl SetOptions {
    /// For ever, without tags.
    pub fn new() -> SetOptions {
        SetOptions::default()
    }

    /// The value expires this long after it was stored. Zero: at once.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> SetOptions {
        self.ttl = Some(ttl);
        self
    }

    /// One more tag. [Evicting](crate::Cache::evict) any of its tags removes an entry.
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<String>) -> SetOptions {
        self.tags.push(tag.into());
        self
    }
}

/// A write transaction on a cache: several operations, all or none. See [`Cache::transact`](crate::Cache::transact).
#[derive(Debug)]
pub struct Transaction<'a, 't> {
    pub(crate) rows: Rows<'a, 't>,
    pub(crate) state: State,
    pub(crate) effects: Effects,
    pub(crate) cache: &'a Inner,
    /// The state as it lies in the store.
    stored: Option<State>,
    /// Room for one row.
    pub(crate) buffer: Vec<u8>,
}

/// A point to which a transaction can be taken back.
#[derive(Debug)]
pub(crate) struct Savepoint {
    rows: rows::Savepoint,
    state: State,
    created: usize,
    removed: usize,
    taken: usize,
}

impl<'a, 't> Transaction<'a, 't> {
    pub(crate) fn new(txn: &'a mut WriteTxn<'t>, cache: &'a Inner, stored: Option<State>) -> Transaction<'a, 't> {
        let (rows, state) = (Rows::new(txn), stored.unwrap_or_default());
        Transaction { rows, state, effects: Effects::default(), cache, stored, buffer: Vec::new() }
    }

    /// Writes the state, if it changed, and hands out what is to be done after the commit.
    pub(crate) fn end(mut self) -> Result<(Effects, State), CacheError> {
        if self.stored != Some(self.state) {
            self.rows.put(STATE, STATE_KEY, &self.state.to_bytes())?;
        }
        Ok((self.effects, self.state))
    }

    /// What reads through this transaction see: what is committed, and its own changes.
    pub fn view(&self) -> View<'_, 't> {
        View::of_a_write(self.rows.txn(), self.cache)
    }

    /// Runs `f` in a transaction within this one. If it returns an error, what it changed is taken back; what was
    /// changed before stays.
    ///
    /// # Errors
    /// What `f` returns, or those of the store while taking back.
    pub fn transact<T, E: From<CacheError>>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let inner = self.enter();
        let answer = f(self);
        match &answer {
            Ok(_) => self.leave(inner),
            Err(_) => self.take_back(inner)?,
        }
        answer
    }

    /// Begins an inner transaction.
    pub(crate) fn enter(&mut self) -> Savepoint {
        Savepoint {
            rows: self.rows.enter(),
            state: self.state,
            created: self.effects.created.len(),
            removed: self.effects.removed.len(),
            taken: self.effects.taken.len(),
        }
    }

    /// Ends an inner transaction, keeping its changes as the outer one's.
    pub(crate) fn leave(&mut self, inner: Savepoint) {
        self.rows.leave(inner.rows);
    }

    /// Ends an inner transaction and takes its changes back.
    pub(crate) fn take_back(&mut self, inner: Savepoint) -> Result<(), CacheError> {
        self.rows.take_back(inner.rows)?;
        self.state = inner.state;
        self.effects.created.truncate(inner.created);
        self.effects.removed.truncate(inner.removed);
        self.effects.taken.truncate(inner.taken);
        Ok(())
    }

    /// A copy of the value of a key. See [`Cache::get`](crate::Cache::get).
    ///
    /// # Errors
    /// As there.
    pub fn get<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Vec<u8>>, CacheError> {
        Ok(self.view().get(key)?.map(std::borrow::Cow::into_owned))
    }

    /// The value of a key with its expiry and tags. See [`Cache::get_item`](crate::Cache::get_item).
    ///
    /// # Errors
    /// As there.
    pub fn get_item<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Item>, CacheError> {
        self.view().get_item(key)
    }

    /// See [`Cache::contains`](crate::Cache::contains).
    ///
    /// # Errors
    /// As there.
    pub fn contains<K: Key + ?Sized>(&self, key: &K) -> Result<bool, CacheError> {
        self.view().contains(key)
    }

    /// See [`View::value_len`].
    ///
    /// # Errors
    /// As there.
    pub fn value_len<K: Key + ?Sized>(&self, key: &K) -> Result<Option<u64>, CacheError> {
        self.view().value_len(key)
    }

    /// See [`Cache::peek_item`](crate::Cache::peek_item).
    ///
    /// # Errors
    /// As there.
    pub fn peek_item(&self, order: Order) -> Result<Option<(KeyBuf, Item)>, CacheError> {
        self.view().peek_item(order)
    }

    /// See [`Cache::keys_by_tag`](crate::Cache::keys_by_tag).
    ///
    /// # Errors
    /// As there.
    pub fn keys_by_tag(&self, tag: &str) -> Result<Vec<KeyBuf>, CacheError> {
        self.view().keys_by_tag(tag)
    }

    /// See [`Cache::len`](crate::Cache::len).
    ///
    /// # Errors
    /// As there.
    pub fn len(&self) -> Result<u64, CacheError> {
        self.view().len()
    }

    /// See [`Cache::is_empty`](crate::Cache::is_empty).
    ///
    /// # Errors
    /// As there.
    pub fn is_empty(&self) -> Result<bool, CacheError> {
        self.view().is_empty()
    }

    /// See [`Cache::set`](crate::Cache::set).
    ///
    /// # Errors
    /// As there.
    pub fn set<K: Key + ?Sized>(&mut self, key: &K, value: &[u8], options: &SetOptions) -> Result<(), CacheError> {
        let key = key.to_key();
        let content = self.content(value)?;
        self.set_content(&key, content, options)
    }

    /// See [`Cache::add`](crate::Cache::add).
    ///
    /// # Errors
    /// As there.
    pub fn add<K: Key + ?Sized>(&mut self, key: &K, value: &[u8], options: &SetOptions) -> Result<bool, CacheError> {
        let key = key.to_key();
        if self.view().live(key.as_bytes())?.is_some() {
            return Ok(false);
        }
        self.set(&key, value, options)?;
        Ok(true)
    }

    /// See [`Cache::touch`](crate::Cache::touch).
    ///
    /// # Errors
    /// As there.
    pub fn touch<K: Key + ?Sized>(&mut self, key: &K, ttl: Option<Duration>) -> Result<bool, CacheError> {
        let key = key.to_key();
        let Some(row) = self.view().live(key.as_bytes())? else {
            return Ok(false);
        };
        let tags = TagList::from(row.tags);
        let expires = self.expires(ttl);
        match row.content {
            Content::Inline(value) => {
                let value = value.to_vec();
                self.restore(&key, Content::Inline(&value), expires, &tags, Stamp::Keep)?;
            }
            Content::File(file) => self.restore(&key, Content::File(file), expires, &tags, Stamp::Keep)?,
        }
        Ok(true)
    }

    /// See [`Cache::delete`](crate::Cache::delete).
    ///
    /// # Errors
    /// As there.
    pub fn delete<K: Key + ?Sized>(&mut self, key: &K) -> Result<bool, CacheError> {
        let key = key.to_key();
        let (now, key) = (self.cache.now(), key.as_bytes());
        let found = self.find(key)?;
        let live = match &found {
            Found::Absent => return Ok(false),
            Found::Damaged => true,
            Found::Entry(old) => old.expires.is_none_or(|expires| expires > now),
        };
        self.remove(key, found)?;
        Ok(live)
    }

    /// See [`Cache::pop`](crate::Cache::pop).
    ///
    /// # Errors
    /// As there. A damaged entry is removed, if the transaction commits.
    pub fn pop<K: Key + ?Sized>(&mut self, key: &K) -> Result<Option<Item>, CacheError> {
        let key = key.to_key();
        let item = self.view().item_under(key.as_bytes());
        if matches!(&item, Ok(Some(_)) | Err(CacheError::Damaged { .. })) {
            let found = self.find(key.as_bytes())?;
            self.remove(key.as_bytes(), found)?;
        }
        item
    }

    /// See [`Cache::incr_with`](crate::Cache::incr_with).
    ///
    /// # Errors
    /// As there.
    pub fn incr<K: Key + ?Sized>(
        &mut self,
        key: &K,
        delta: i64,
        default: Option<i64>,
        options: &SetOptions,
    ) -> Result<Option<i64>, CacheError> {
        self.add_to(key, delta.into(), default, options)
    }

    /// Adds to an integer: [`incr`](Transaction::incr), for differences as well, one of which is beyond 64 bits.
    pub(crate) fn add_to<K: Key + ?Sized>(
        &mut self,
        key: &K,
        delta: i128,
        default: Option<i64>,
        options: &SetOptions,
    ) -> Result<Option<i64>, CacheError> {
        let key = key.to_key();
        let sum = |value: i64| {
            let sum = (i128::from(value) + delta).try_into();
            sum.map_err(|_| CacheError::Overflow { key: key.clone(), value })
        };
        let Some(row) = self.view().live(key.as_bytes())? else {
            let Some(default) = default else { return Ok(None) };
            let value: i64 = sum(default)?;
            self.set(&key, value.to_string().as_bytes(), options)?;
            return Ok(Some(value));
        };
        let value = self.view().value(key.as_bytes(), row.content)?;
        let value = std::str::from_utf8(&value).ok().and_then(|text| text.parse::<i64>().ok());
        let value = value.ok_or_else(|| CacheError::NotAnInteger { key: key.clone() })?;
        let next = sum(value)?;
        let (expires, tags) = (row.expires, TagList::from(row.tags));
        let text = next.to_string();
        let content = self.content(text.as_bytes())?;
        self.restore(&key, content, expires, &tags, Stamp::Read)?;
        Ok(Some(next))
    }

    /// Changes the settings, for all who use the cache.
    pub(crate) fn update_settings(
        &mut self,
        change: impl FnOnce(crate::CacheSettings) -> crate::CacheSettings,
    ) -> Result<(), CacheError> {
        let before = self.state.settings;
        self.state.settings = change(before);
        if before.eviction != self.state.settings.eviction {
            self.reorder()?;
        }
        Ok(())
    }

    /// Writes the state even if it did not change: the cache is begun.
    pub(crate) fn begin_state(&mut self) -> Result<(), CacheError> {
        Ok(self.rows.put(STATE, STATE_KEY, &self.state.to_bytes())?)
    }

    /// Stores a value whose file, if it has one, was written before.
    pub(crate) fn set_content(
        &mut self,
        key: &KeyBuf,
        content: Content<'_>,
        options: &SetOptions,
    ) -> Result<(), CacheError> {
        let tags = TagList::new(&options.tags).map_err(|_| CacheError::Tags)?;
        let expires = self.expires(options.ttl);
        self.restore(key, content, expires, &tags, Stamp::Stored)?;
        self.cull_after_write()
    }

    fn restore(
        &mut self,
        key: &KeyBuf,
        content: Content<'_>,
        expires: Option<u64>,
        tags: &TagList,
        stamp: Stamp,
    ) -> Result<(), CacheError> {
        self.record_reads()?;
        let found = self.find(key.as_bytes())?;
        self.write(key.as_bytes(), found, &NewEntry { content, expires, tags, stamp })
    }

    /// A value as it is to be stored: in the row, or in a new file.
    fn content<'v>(&mut self, value: &'v [u8]) -> Result<Content<'v>, CacheError> {
        if (value.len() as u64) < self.state.settings.min_file_size_bytes {
            return Ok(Content::Inline(value));
        }
        let files = &self.cache.files;
        let file = files.create(&mut &*value).map_err(|error| CacheError::write(files.path(), error))?;
        let reference = file.reference();
        self.effects.created.push(file);
        Ok(Content::File(reference))
    }

    fn expires(&self, ttl: Option<Duration>) -> Option<u64> {
        ttl.map(|ttl| self.cache.now().saturating_add(nanos(ttl)))
    }
}
