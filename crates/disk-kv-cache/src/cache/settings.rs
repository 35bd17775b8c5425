//! What a cache keeps and for how long: settings that lie in the store and hold for all who use it.

use crate::Eviction;

/// The settings of a [`Cache`](crate::Cache). They lie in its store: all processes share them, and they last.
///
/// ```
/// use alluvium_disk_kv_cache::{CacheSettings, Eviction};
///
/// let settings = CacheSettings::new().with_eviction(Eviction::LeastRecentlyUsed).with_size_limit_bytes(64 << 20);
/// assert_eq!(settings.cull_limit(), 10);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    pub(crate) eviction: Eviction,
    pub(crate) statistics: bool,
    pub(crate) cull_limit: u32,
    pub(crate) size_limit_bytes: u64,
    pub(crate) min_file_size_bytes: u64,
}

impl Default for CacheSettings {
    fn default() -> CacheSettings {
        CacheSettings {
            eviction: Eviction::default(),
            statistics: false,
            cull_limit: 10,
            size_limit_bytes: 1 << 30,
            min_file_size_bytes: 32 << 10,
        }
    }
}

impl CacheSettings {
    /// The defaults: least recently stored goes first, 10 entries culled a write, 1 GiB, files from 32 KiB, no
    /// statistics.
    pub fn new() -> CacheSettings {
        CacheSettings::default()
    }

    /// Which entries go when the cache is too large. Default: [`Eviction::LeastRecentlyStored`].
    #[must_use]
    pub fn with_eviction(mut self, eviction: Eviction) -> CacheSettings {
        self.eviction = eviction;
        self
    }

    /// Whether hits and misses are counted. Default: no.
    #[must_use]
    pub fn with_statistics(mut self, statistics: bool) -> CacheSettings {
        self.statistics = statistics;
        self
    }

    /// How many entries one write removes at most: expired ones first, then by [`Eviction`]. 0: none. Default: 10.
    #[must_use]
    pub fn with_cull_limit(mut self, entries: u32) -> CacheSettings {
        self.cull_limit = entries;
        self
    }

    /// The [volume](crate::Cache::volume) in bytes from which on writes evict. Default: 1 GiB.
    ///
    /// The map of the store must have room for it, if values are not in files: see
    /// [`Settings::with_max_map_bytes`](crate::Settings::with_max_map_bytes).
    #[must_use]
    pub fn with_size_limit_bytes(mut self, bytes: u64) -> CacheSettings {
        self.size_limit_bytes = bytes;
        self
    }

    /// The length in bytes from which on a value gets a file of its own. Default: 32 KiB.
    #[must_use]
    pub fn with_min_file_size_bytes(mut self, bytes: u64) -> CacheSettings {
        self.min_file_size_bytes = bytes;
        self
    }

    /// See [`with_eviction`](CacheSettings::with_eviction).
    pub fn eviction(&self) -> Eviction {
        self.eviction
    }

    /// See [`with_statistics`](CacheSettings::with_statistics).
    pub fn statistics(&self) -> bool {
        self.statistics
    }

    /// See [`with_cull_limit`](CacheSettings::with_cull_limit).
    pub fn cull_limit(&self) -> u32 {
        self.cull_limit
    }

    /// See [`with_size_limit_bytes`](CacheSettings::with_size_limit_bytes).
    pub fn size_limit_bytes(&self) -> u64 {
        self.size_limit_bytes
    }

    /// See [`with_min_file_size_bytes`](CacheSettings::with_min_file_size_bytes).
    pub fn min_file_size_bytes(&self) -> u64 {
        self.min_file_size_bytes
    }
}
