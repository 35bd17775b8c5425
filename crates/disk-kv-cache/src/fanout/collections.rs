//! Deques and indexes beside the shards, by name.

use crate::{Deque, FanoutCache, FromKey, Index, Key, OpenError, Settings, Value, named_dir};

/// The kinds of deques and of indexes.
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
        let dir = named_dir(&self.path, DEQUES, name)?;
        if self.read_only { Deque::open_read_only(dir) } else { Deque::open(dir, self.kept()) }
    }

    /// An [`Index`] of its own below this cache, by name: any text. The same name is the same index. It is never evicted,
    /// and each change is synced to the device.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn index<K: Key + FromKey, V: Value>(&self, name: &str) -> Result<Index<K, V>, OpenError> {
        let dir = named_dir(&self.path, INDEXES, name)?;
        if self.read_only { Index::open_read_only(dir) } else { Index::open(dir, self.kept()) }
    }

    /// How what is no cache is stored: shared as the shards are and on the file systems that they may be on, but synced, and
    /// refused where it is found damaged.
    fn kept(&self) -> Settings {
        let shards = self.options.store();
        Settings::new().with_sharing(shards.sharing()).with_allow_network_fs(shards.allow_network_fs())
    }
}
