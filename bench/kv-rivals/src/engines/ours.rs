//! Ours, with its defaults but for what is said.

use std::path::Path;
use std::time::Duration;

use alluvium_disk_kv_cache::{
    Cache, CacheError, CacheOptions, CacheSettings, Durability, FanoutCache, SetOptions, Settings,
};
use anyhow::Result;

use super::Engine;

/// DiskCache's number, and ours.
const SHARDS: usize = 8;

/// Nothing is evicted while the sides are compared by the number of their entries.
fn options(durability: Durability) -> CacheOptions {
    CacheOptions::new()
        .with_store(Settings::new().with_durability(durability))
        .with_settings(CacheSettings::new().with_size_limit_bytes(1 << 40))
}

/// For sets that write a row of every index.
pub fn tag_and_expiry() -> SetOptions {
    SetOptions::new().with_ttl(Duration::from_secs(86_400)).with_tag("tag")
}

pub struct Single {
    cache: Cache,
    options: SetOptions,
    synced: bool,
}

impl Single {
    pub fn open(dir: &Path, durability: Durability, options: SetOptions) -> Result<Single> {
        Ok(Single { cache: self::options(durability).open(dir)?, options, synced: durability == Durability::System })
    }
}

impl Engine for Single {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.cache.get(key)?)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.cache.set_with(key, value, &self.options)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.cache.delete(key)?)
    }

    fn fill(&mut self, entries: u64, value: &mut dyn FnMut() -> Vec<u8>) -> Result<()> {
        // One by one it would take all day.
        let batch = if self.synced { 10_000 } else { 1 };
        for from in (0..entries).step_by(batch) {
            let numbers = from..entries.min(from + batch as u64);
            self.cache.transact::<_, CacheError>(|txn| {
                numbers.clone().try_for_each(|n| txn.set(super::key(n).as_slice(), &value(), &self.options))
            })?;
        }
        Ok(())
    }
}

pub struct Fanout {
    cache: FanoutCache,
}

impl Fanout {
    pub fn open(dir: &Path) -> Result<Fanout> {
        Ok(Fanout { cache: FanoutCache::open_with(dir, Some(SHARDS), &options(Durability::Process))? })
    }
}

impl Engine for Fanout {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.cache.get(key)?)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.cache.set(key, value)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.cache.delete(key)?)
    }
}
