//! How each kind of key-value store is used, as the contract says it.

use std::fs;
use std::io;
use std::path::Path;

use alluvium_contracts::KvStats;
use alluvium_disk_kv_cache::{
    CacheOptions, CacheSettings, EngineKind, OpenCacheError, Order, ReadTxn, Stats, Store, StoreError,
};

use crate::kv_cache::KvCache;
use crate::kv_kind::KvKind;
use crate::kv_settings::{KvSettings, policy};
use crate::root_error::RootError;

/// What a kind was found to hold.
#[derive(Debug)]
pub(crate) struct Found<'k> {
    pub(crate) kind: KvKind,
    /// Its directory in the key-value root.
    pub(crate) directory: &'k Path,
    pub(crate) store: &'k Store,
    /// The cache, where this process has it open; another one is read as it lies there.
    pub(crate) cache: Option<&'k KvCache>,
}

impl Found<'_> {
    /// Counts and measures: takes as long as reading the tables of the store does.
    pub(crate) fn stats(&self, settings: &KvSettings, event_time_unix_ms: i64) -> Result<KvStats, RootError> {
        let kind = self.kind;
        let of_kind = settings.kind(kind);
        let unusable = |source| RootError::Kv { kind, source };
        let (mut entry_count, mut volume_bytes) = self.store.read(|txn| rows(txn, kind)).map_err(unusable)?;
        let cached = match self.cache {
            Some(cache) => cache.inner().stats().map_err(OpenCacheError::from),
            None => at_rest(self.directory),
        };
        let cached = cached.map_err(|source| RootError::KvCache { kind, source })?;
        entry_count += cached.entries;
        volume_bytes += cached.volume_bytes;
        let counted = |count| of_kind.statistics.then_some(count);
        let file_bytes = bytes_below(self.directory)
            .map_err(|source| RootError::io(self.directory, "measure", self.directory, source))?;
        Ok(KvStats {
            event_time_unix_ms,
            kind: kind.as_str().to_owned(),
            engine: engine(self.store.engine()).to_owned(),
            directory: kind.as_str().to_owned(),
            shards: of_kind.shards,
            size_limit_bytes: Some(of_kind.size_limit_bytes),
            cull_limit: of_kind.cull_limit,
            eviction_policy: policy(of_kind.eviction),
            statistics: of_kind.statistics,
            tag_index: kind.is_cache(),
            min_file_size_bytes: kind.is_cache().then(|| CacheSettings::new().min_file_size_bytes()),
            entry_count,
            volume_bytes,
            file_bytes,
            hits: counted(cached.hits),
            misses: counted(cached.misses),
            damaged: cached.damaged,
        })
    }
}

/// The sum over the shards that lie in a directory. Nothing is made or changed.
fn at_rest(directory: &Path) -> Result<Stats, OpenCacheError> {
    let mut sum = Stats::default();
    for shard in 0.. {
        let directory = directory.join(format!("{shard:03}"));
        if !directory.is_dir() {
            break;
        }
        let stats = CacheOptions::new().open_read_only(directory)?.stats()?;
        sum.entries += stats.entries;
        sum.volume_bytes += stats.volume_bytes;
        sum.hits += stats.hits;
        sum.damaged += stats.damaged;
        sum.misses += stats.misses;
    }
    Ok(sum)
}

/// The rows of a kind's own tables and the bytes of their keys and values; `meta` is not counted.
fn rows(txn: &ReadTxn<'_>, kind: KvKind) -> Result<(u64, u64), StoreError> {
    let (mut count, mut bytes) = (0, 0);
    for table in kind.tables().iter().filter(|table| **table != "meta") {
        for row in txn.scan(table, .., Order::Ascending)? {
            let (key, value) = row?;
            count += 1;
            bytes += (key.len() + value.len()) as u64;
        }
    }
    Ok((count, bytes))
}

fn engine(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Lmdb => "lmdb",
        EngineKind::Sled => "sled",
        _ => "unknown",
    }
}

/// The bytes that the files below a directory take on the device; what vanishes meanwhile counts nothing.
fn bytes_below(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if gone(&error) => continue,
            Err(error) => return Err(error),
        };
        bytes += match metadata.is_dir() {
            true => bytes_below(&entry.path())?,
            // An LMDB file is sparse: its length is that of its map.
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}
