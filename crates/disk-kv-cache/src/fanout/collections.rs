//! Deques and indexes beside the shards, by name.

use super::segment;
use crate::{Deque, FanoutCache, FromKey, Index, Key, OpenError, Settings, Value};

/// The directories of deques and of indexes.
const DEQUES: &str = "deque";
const INDEXES: &str = "index";

impl FanoutCache {
    /// A [`Deque`] of its own below this cache, by name: any text. The same name is the same deque. It is never evicted,
    /// and each change is synced to the device.
    ///
    /// ```
    /// # use alluvium_disk_kv_cache::FanoutCache;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let temp = tempfile::tempdir()?;
    /// # let cache = FanoutCache::open(temp.path())?;
    /// let recent = cache.deque::<String>("recent/searches")?;
    /// recent.set_max_len(Some(100))?;
    /// recent.push_back(&"orders".into())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Deque::open`].
    pub fn deque<V: Value>(&self, name: &str) -> Result<Deque<V>, OpenError> {
        Deque::open(self.path.join(DEQUES).join(segment(name)), Settings::new())
    }

    /// An [`Index`] of its own below this cache, by name: any text. The same name is the same index. It is never evicted,
    /// and each change is synced to the device.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn index<K: Key + FromKey, V: Value>(&self, name: &str) -> Result<Index<K, V>, OpenError> {
        Index::open(self.path.join(INDEXES).join(segment(name)), Settings::new())
    }
}
