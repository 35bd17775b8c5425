//! The cache of a kind: entries that may be evicted, by key and tag.

use std::path::Path;
use std::time::Duration;

use alluvium_disk_kv_cache::{CacheError, CacheOptions, FanoutCache, Maintenance, OpenCacheError, SetOptions};
use alluvium_telemetry::Seam;

use crate::kv_clock::SeamClock;
use crate::kv_keys::{KvKey, KvTag};
use crate::kv_kind::KvKind;
use crate::kv_settings::KvKindSettings;

/// The cache of one kind, made by [`CacheRoot::cache`](crate::CacheRoot::cache). Cloning is cheap; all processes share what
/// is in it. Commits survive the death of a process, not a power cut: whatever is lost is computed again.
#[derive(Debug, Clone)]
pub struct KvCache {
    kind: KvKind,
    ttl: Option<Duration>,
    cache: FanoutCache,
}

impl KvCache {
    /// Opens the cache below `directory`, with the settings of its kind in place of those that it was left with. Entries expire
    /// by the clock of `seam`. Shards that are lost, and a file that counts them and is damaged, are made anew: whether that was
    /// so, comes back too.
    pub(crate) fn open(
        directory: &Path,
        kind: KvKind,
        settings: &KvKindSettings,
        seam: &Seam,
    ) -> Result<(Self, bool), OpenCacheError> {
        let clock = SeamClock::new(seam.clone());
        let options = CacheOptions::new().with_settings(settings.cache()).with_clock(clock);
        let shards = Some(usize::try_from(settings.shards).unwrap_or(usize::MAX));
        let open = || FanoutCache::open_with(directory, shards, &options);
        let (cache, is_mended) = match open() {
            Err(
                OpenCacheError::MissingShard { .. }
                | OpenCacheError::OtherShard { .. }
                | OpenCacheError::ShardsUnknown { .. },
            ) => {
                FanoutCache::repair(directory, shards, &options)?;
                (open()?, true)
            }
            opened => (opened?, false),
        };
        Ok((Self { kind, ttl: settings.ttl, cache }, is_mended))
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> KvKind {
        self.kind
    }

    /// A copy of the value of a key, if it is there and has not expired.
    ///
    /// # Errors
    /// [`CacheError::Damaged`] if the bytes are not those that were stored, and those of the store.
    pub fn get(&self, key: &KvKey) -> Result<Option<Vec<u8>>, CacheError> {
        self.cache.get(key)
    }

    /// Stores a value with its tags for as long as the kind keeps its entries.
    ///
    /// # Errors
    /// Those of the store.
    pub fn set(&self, key: &KvKey, value: &[u8], tags: &[KvTag]) -> Result<(), CacheError> {
        let options = SetOptions::new();
        let options = match self.ttl {
            Some(ttl) => options.with_ttl(ttl),
            None => options,
        };
        let options = tags.iter().fold(options, |options, tag| options.with_tag(tag.as_str()));
        self.cache.set_with(key, value, &options)
    }

    /// Removes an entry. `false`: there was none.
    ///
    /// # Errors
    /// Those of the store.
    pub fn delete(&self, key: &KvKey) -> Result<bool, CacheError> {
        self.cache.delete(key)
    }

    /// Removes all entries that have a tag, and counts them.
    ///
    /// # Errors
    /// Those of the store.
    pub fn evict(&self, tag: &KvTag) -> Result<u64, CacheError> {
        self.cache.evict(tag.as_str())
    }

    /// Expires, culls, and removes what processes left behind when they died.
    ///
    /// # Errors
    /// Those of the store.
    pub fn maintain(&self) -> Result<Maintenance, CacheError> {
        self.cache.maintain()
    }

    /// The cache itself, for what is not here: streams, memoizing, iteration. Its entries have no time to live unless they
    /// are given one.
    #[must_use]
    pub fn inner(&self) -> &FanoutCache {
        &self.cache
    }
}
