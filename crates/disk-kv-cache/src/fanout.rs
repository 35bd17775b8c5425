//! One cache in several stores, so that several processes write at once.

mod collections;
mod merge;
mod open;
mod record;
mod transact;

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use twox_hash::XxHash3_64;

pub use crate::fanout::merge::{FanoutItems, FanoutKeys, Merge};
pub use crate::fanout::transact::FanoutTransaction;
use crate::{
    Cache, CacheError, CacheOptions, CacheSettings, Item, Key, KeyBuf, Maintenance, OpenCacheError, Order, Problem,
    SetOptions, Stats, ValueReader, named_dir,
};

/// Shards of a new cache, unless told otherwise.
const SHARDS: usize = 8;
const MAX_SHARDS: usize = 1_000;
/// The kind of sub-caches.
const CACHES: &str = "cache";

/// A [`Cache`] in several shards, each a store of its own: writers of different shards do not wait for each other.
///
/// A key lies in the shard that its hash names, for ever: the number of shards is kept, and another is refused; so is a cache
/// that has lost one, until it is put back or [begun anew](FanoutCache::repair). Every
/// operation on a key is that of [`Cache`], waits for its turn as that does, and is never dropped. Operations on all keys
/// go through the shards one after the other. The size limit is divided among them.
///
/// [`transact`](FanoutCache::transact) has all writers of all shards wait, and a crash between two commits splits it: where
/// that matters, use a [sub-cache](FanoutCache::cache), whose keys lie together.
#[derive(Clone)]
pub struct FanoutCache {
    shards: Arc<[Cache]>,
    path: PathBuf,
    options: CacheOptions,
    read_only: bool,
}

impl FanoutCache {
    /// A cache of its own below this one, by name: any text. The same name is the same cache.
    ///
    /// # Errors
    /// As [`CacheOptions::open`].
    pub fn cache(&self, name: &str) -> Result<Cache, OpenCacheError> {
        let dir = named_dir(&self.path, CACHES, name)?;
        if self.read_only { self.options.open_read_only(dir) } else { self.options.open(dir) }
    }

    /// The shards, in their order.
    pub fn shards(&self) -> &[Cache] {
        &self.shards
    }

    /// The shard that has a key, or would have it: for transactions on keys that lie together.
    pub fn shard_of<K: Key + ?Sized>(&self, key: &K) -> &Cache {
        self.shard(&key.to_key())
    }

    /// See [`Cache::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Vec<u8>>, CacheError> {
        let key = key.to_key();
        self.shard(&key).get(&key)
    }

    /// See [`Cache::get_item`].
    ///
    /// # Errors
    /// As there.
    pub fn get_item<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Item>, CacheError> {
        let key = key.to_key();
        self.shard(&key).get_item(&key)
    }

    /// See [`Cache::get_many`]; the moment is one for each shard.
    ///
    /// # Errors
    /// As there.
    pub fn get_many<K: Key>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Vec<u8>>>, CacheError> {
        let keys: Vec<KeyBuf> = keys.into_iter().map(|key| key.to_key()).collect();
        let mut values = vec![None; keys.len()];
        for (shard, places) in self.by_shard(&keys) {
            let found = shard.get_many(places.iter().map(|place| &keys[*place]))?;
            for (place, value) in places.into_iter().zip(found) {
                values[place] = value;
            }
        }
        Ok(values)
    }

    /// See [`Cache::get_with`].
    ///
    /// # Errors
    /// As there.
    pub fn get_with<K: Key + ?Sized, T>(&self, key: &K, f: impl FnMut(&[u8]) -> T) -> Result<Option<T>, CacheError> {
        let key = key.to_key();
        self.shard(&key).get_with(&key, f)
    }

    /// See [`Cache::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read<K: Key + ?Sized>(&self, key: &K) -> Result<Option<ValueReader>, CacheError> {
        let key = key.to_key();
        self.shard(&key).read(&key)
    }

    /// See [`Cache::contains`].
    ///
    /// # Errors
    /// As there.
    pub fn contains<K: Key + ?Sized>(&self, key: &K) -> Result<bool, CacheError> {
        let key = key.to_key();
        self.shard(&key).contains(&key)
    }

    /// See [`Cache::set`].
    ///
    /// # Errors
    /// As there.
    pub fn set<K: Key + ?Sized>(&self, key: &K, value: &[u8]) -> Result<(), CacheError> {
        let key = key.to_key();
        self.shard(&key).set(&key, value)
    }

    /// See [`Cache::set_with`].
    ///
    /// # Errors
    /// As there.
    pub fn set_with<K: Key + ?Sized>(&self, key: &K, value: &[u8], options: &SetOptions) -> Result<(), CacheError> {
        let key = key.to_key();
        self.shard(&key).set_with(&key, value, options)
    }

    /// See [`Cache::set_from`].
    ///
    /// # Errors
    /// As there.
    pub fn set_from<K: Key + ?Sized>(&self, key: &K, value: impl Read, options: &SetOptions) -> Result<(), CacheError> {
        let key = key.to_key();
        self.shard(&key).set_from(&key, value, options)
    }

    /// See [`Cache::set_many`]; one transaction for each shard.
    ///
    /// # Errors
    /// As there; then the entries of some shards may have been stored.
    pub fn set_many<'v, K: Key>(
        &self,
        entries: impl IntoIterator<Item = (K, &'v [u8])>,
        options: &SetOptions,
    ) -> Result<(), CacheError> {
        let (keys, values): (Vec<_>, Vec<_>) = entries.into_iter().map(|(key, value)| (key.to_key(), value)).unzip();
        self.by_shard(&keys).into_iter().try_for_each(|(shard, places)| {
            shard.set_many(places.into_iter().map(|place| (&keys[place], values[place])), options)
        })
    }

    /// See [`Cache::add`].
    ///
    /// # Errors
    /// As there.
    pub fn add<K: Key + ?Sized>(&self, key: &K, value: &[u8], options: &SetOptions) -> Result<bool, CacheError> {
        let key = key.to_key();
        self.shard(&key).add(&key, value, options)
    }

    /// See [`Cache::touch`].
    ///
    /// # Errors
    /// As there.
    pub fn touch<K: Key + ?Sized>(&self, key: &K, ttl: Option<Duration>) -> Result<bool, CacheError> {
        let key = key.to_key();
        self.shard(&key).touch(&key, ttl)
    }

    /// See [`Cache::pop`].
    ///
    /// # Errors
    /// As there.
    pub fn pop<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Item>, CacheError> {
        let key = key.to_key();
        self.shard(&key).pop(&key)
    }

    /// See [`Cache::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete<K: Key + ?Sized>(&self, key: &K) -> Result<bool, CacheError> {
        let key = key.to_key();
        self.shard(&key).delete(&key)
    }

    /// See [`Cache::delete_many`]; one transaction for each shard.
    ///
    /// # Errors
    /// As there; then the entries of some shards may have been removed.
    pub fn delete_many<K: Key>(&self, keys: impl IntoIterator<Item = K>) -> Result<u64, CacheError> {
        let keys: Vec<KeyBuf> = keys.into_iter().map(|key| key.to_key()).collect();
        let mut deleted = 0;
        for (shard, places) in self.by_shard(&keys) {
            deleted += shard.delete_many(places.into_iter().map(|place| &keys[place]))?;
        }
        Ok(deleted)
    }

    /// See [`Cache::incr`].
    ///
    /// # Errors
    /// As there.
    pub fn incr<K: Key + ?Sized>(&self, key: &K, delta: i64) -> Result<i64, CacheError> {
        let key = key.to_key();
        self.shard(&key).incr(&key, delta)
    }

    /// See [`Cache::decr`].
    ///
    /// # Errors
    /// As there.
    pub fn decr<K: Key + ?Sized>(&self, key: &K, delta: i64) -> Result<i64, CacheError> {
        let key = key.to_key();
        self.shard(&key).decr(&key, delta)
    }

    /// See [`Cache::incr_with`].
    ///
    /// # Errors
    /// As there.
    pub fn incr_with<K: Key + ?Sized>(
        &self,
        key: &K,
        delta: i64,
        default: Option<i64>,
        options: &SetOptions,
    ) -> Result<Option<i64>, CacheError> {
        let key = key.to_key();
        self.shard(&key).incr_with(&key, delta, default, options)
    }

    /// See [`Cache::peek_item`].
    ///
    /// # Errors
    /// As there.
    pub fn peek_item(&self, order: Order) -> Result<Option<(KeyBuf, Item)>, CacheError> {
        self.items(order).next().transpose()
    }

    /// See [`Cache::keys`]: the keys of all shards, in one order.
    pub fn keys(&self, order: Order) -> FanoutKeys {
        Merge::new(self.shards.iter().map(|shard| shard.keys(order)), order)
    }

    /// See [`Cache::keys_from`].
    pub fn keys_from<K: Key + ?Sized>(&self, from: &K, order: Order) -> FanoutKeys {
        Merge::new(self.shards.iter().map(|shard| shard.keys_from(from, order)), order)
    }

    /// See [`Cache::items`]: the entries of all shards, in one order.
    pub fn items(&self, order: Order) -> FanoutItems {
        Merge::new(self.shards.iter().map(|shard| shard.items(order)), order)
    }

    /// See [`Cache::items_from`].
    pub fn items_from<K: Key + ?Sized>(&self, from: &K, order: Order) -> FanoutItems {
        Merge::new(self.shards.iter().map(|shard| shard.items_from(from, order)), order)
    }

    /// See [`Cache::keys_by_tag`].
    ///
    /// # Errors
    /// As there.
    pub fn keys_by_tag(&self, tag: &str) -> Result<Vec<KeyBuf>, CacheError> {
        let mut keys = Vec::new();
        for shard in self.shards.iter() {
            keys.extend(shard.keys_by_tag(tag)?);
        }
        Ok(keys)
    }

    /// See [`Cache::expire`].
    ///
    /// # Errors
    /// As there.
    pub fn expire(&self) -> Result<u64, CacheError> {
        self.sum(Cache::expire)
    }

    /// See [`Cache::evict`].
    ///
    /// # Errors
    /// As there.
    pub fn evict(&self, tag: &str) -> Result<u64, CacheError> {
        self.sum(|shard| shard.evict(tag))
    }

    /// See [`Cache::cull`].
    ///
    /// # Errors
    /// As there.
    pub fn cull(&self) -> Result<u64, CacheError> {
        self.sum(Cache::cull)
    }

    /// See [`Cache::clear`]. Sub-caches stay.
    ///
    /// # Errors
    /// As there.
    pub fn clear(&self) -> Result<u64, CacheError> {
        self.sum(Cache::clear)
    }

    /// See [`Cache::maintain`].
    ///
    /// # Errors
    /// As there.
    pub fn maintain(&self) -> Result<Maintenance, CacheError> {
        let mut sum = Maintenance::default();
        for shard in self.shards.iter() {
            let done = shard.maintain()?;
            sum.expired += done.expired;
            sum.culled += done.culled;
            sum.orphan_files += done.orphan_files;
        }
        Ok(sum)
    }

    /// See [`Cache::check`]. Sub-caches are checked on their own.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, fix: bool) -> Result<Vec<Problem>, CacheError> {
        let mut problems = Vec::new();
        for shard in self.shards.iter() {
            problems.extend(shard.check(fix)?);
        }
        Ok(problems)
    }

    /// See [`Cache::stats`]: the sums over all shards.
    ///
    /// # Errors
    /// As there.
    pub fn stats(&self) -> Result<Stats, CacheError> {
        self.sum_stats(Cache::stats)
    }

    /// See [`Cache::reset_stats`].
    ///
    /// # Errors
    /// As there.
    pub fn reset_stats(&self) -> Result<Stats, CacheError> {
        self.sum_stats(Cache::reset_stats)
    }

    /// See [`Cache::volume`].
    ///
    /// # Errors
    /// As there.
    pub fn volume(&self) -> Result<u64, CacheError> {
        self.sum(Cache::volume)
    }

    /// See [`Cache::len`].
    ///
    /// # Errors
    /// As there.
    pub fn len(&self) -> Result<u64, CacheError> {
        self.sum(Cache::len)
    }

    /// See [`Cache::is_empty`].
    ///
    /// # Errors
    /// As there.
    pub fn is_empty(&self) -> Result<bool, CacheError> {
        Ok(self.len()? == 0)
    }

    /// The settings; the size limit is that of all shards together, rounded down to a multiple of their number.
    ///
    /// # Errors
    /// As [`Cache::settings`].
    pub fn settings(&self) -> Result<CacheSettings, CacheError> {
        let shard = self.shards[0].settings()?;
        Ok(shard.with_size_limit_bytes(shard.size_limit_bytes().saturating_mul(self.shards.len() as u64)))
    }

    /// See [`Cache::update_settings`]; the size limit is that of all shards together.
    ///
    /// # Errors
    /// As there.
    pub fn update_settings(&self, change: impl Fn(CacheSettings) -> CacheSettings) -> Result<(), CacheError> {
        let changed = divided(change(self.settings()?), self.shards.len());
        self.shards.iter().try_for_each(|shard| shard.update_settings(|_| changed))
    }

    fn shard(&self, key: &KeyBuf) -> &Cache {
        &self.shards[place(key, self.shards.len())]
    }

    /// The shards of several keys, each with the places of its keys.
    fn by_shard(&self, keys: &[KeyBuf]) -> Vec<(&Cache, Vec<usize>)> {
        let mut shards: Vec<_> = self.shards.iter().map(|shard| (shard, Vec::new())).collect();
        for (place, key) in keys.iter().enumerate() {
            shards[self::place(key, self.shards.len())].1.push(place);
        }
        shards.retain(|(_, places)| !places.is_empty());
        shards
    }

    fn sum(&self, each: impl Fn(&Cache) -> Result<u64, CacheError>) -> Result<u64, CacheError> {
        self.shards.iter().map(each).sum()
    }

    fn sum_stats(&self, each: impl Fn(&Cache) -> Result<Stats, CacheError>) -> Result<Stats, CacheError> {
        let mut sum = Stats::default();
        for shard in self.shards.iter() {
            let stats = each(shard)?;
            sum.entries += stats.entries;
            sum.volume_bytes += stats.volume_bytes;
            sum.hits += stats.hits;
            sum.misses += stats.misses;
            sum.damaged += stats.damaged;
        }
        Ok(sum)
    }
}

impl fmt::Debug for FanoutCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, shards) = (&self.path, self.shards.len());
        f.debug_struct("FanoutCache").field("path", path).field("shards", &shards).finish_non_exhaustive()
    }
}

/// Which of several shards a key lies in. This choice is part of the format.
fn place(key: &KeyBuf, shards: usize) -> usize {
    (XxHash3_64::oneshot(key.as_bytes()) % shards as u64) as usize
}

/// The settings of each of several shards.
fn divided(settings: CacheSettings, shards: usize) -> CacheSettings {
    settings.with_size_limit_bytes(settings.size_limit_bytes() / shards as u64)
}
