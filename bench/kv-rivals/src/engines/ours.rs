//! Ours, with its defaults: `Durability::Process`, so that a write survives `kill -9`.

use std::path::Path;
use std::time::Duration;

use alluvium_disk_kv_cache::{Cache, CacheOptions, CacheSettings, FanoutCache, SetOptions};
use anyhow::Result;

use super::Engine;

/// DiskCache's number, and ours.
const SHARDS: usize = 8;

/// The defaults, but nothing is evicted while the sides are compared by the number of their entries.
fn options() -> CacheOptions {
    CacheOptions::new().with_settings(CacheSettings::new().with_size_limit_bytes(1 << 40))
}

pub struct Single {
    cache: Cache,
    options: SetOptions,
}

impl Single {
    pub fn open(dir: &Path, full: bool) -> Result<Single> {
        let plain = SetOptions::new();
        let options = if full { plain.with_ttl(Duration::from_secs(86_400)).with_tag("tag") } else { plain };
        Ok(Single { cache: self::options().open(dir)?, options })
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
}

pub struct Fanout {
    cache: FanoutCache,
}

impl Fanout {
    pub fn open(dir: &Path) -> Result<Fanout> {
        Ok(Fanout { cache: FanoutCache::open_with(dir, Some(SHARDS), &options())? })
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
