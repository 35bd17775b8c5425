//! The cache in a directory: one store, or the shards of a `FanoutCache`.

use std::io::ErrorKind;
use std::path::Path;

use alluvium_disk_kv_cache::{
    Cache, CacheOptions, Durability, FanoutCache, Item, Key, KeyBuf, OpenCacheError, OpenError, Order,
};

use super::args::OpenArgs;

/// A cache of either kind.
#[derive(Debug, Clone)]
pub enum Target {
    /// One store.
    Plain(Cache),
    /// Several.
    Fanout(FanoutCache),
}

/// Does the same with a cache of either kind.
macro_rules! with_cache {
    ($target:expr, $cache:ident => $do:expr) => {
        match $target {
            $crate::kv::target::Target::Plain($cache) => $do,
            $crate::kv::target::Target::Fanout($cache) => $do,
        }
    };
}
pub(crate) use with_cache;

/// Keys in order, of either kind of cache.
pub type KeyIter = Box<dyn Iterator<Item = Result<KeyBuf, alluvium_disk_kv_cache::CacheError>>>;
/// Entries in order, of either kind of cache.
pub type ItemIter = Box<dyn Iterator<Item = Result<(KeyBuf, Item), alluvium_disk_kv_cache::CacheError>>>;

impl Target {
    /// Opens the cache in `dir` for writing; makes one of `shards` shards, or a plain one, if there is none.
    pub fn open(dir: &Path, shards: Option<usize>, args: &OpenArgs) -> Result<Target, OpenCacheError> {
        let options = options(args);
        if shards.is_some() || FanoutCache::is_at(dir) {
            return FanoutCache::open_with(dir, shards, &options).map(Target::Fanout);
        }
        options.open(dir).map(Target::Plain)
    }

    /// As [`open`](Target::open), but for reading only where the media can be nothing but read.
    pub fn open_or_read(dir: &Path, shards: Option<usize>, args: &OpenArgs) -> Result<Target, OpenCacheError> {
        match Target::open(dir, shards, args) {
            Err(OpenCacheError::Store(error)) if is_read_only_media(&error) => Target::open_read_only(dir, args),
            opened => opened,
        }
    }

    /// Opens the cache in `dir` and makes none. It is not changed at all: not even what was read is counted.
    pub fn open_read_only(dir: &Path, args: &OpenArgs) -> Result<Target, OpenCacheError> {
        let options = options(args);
        if FanoutCache::is_at(dir) {
            return FanoutCache::open_read_only(dir, &options).map(Target::Fanout);
        }
        options.open_read_only(dir).map(Target::Plain)
    }

    /// Opens for writing the cache that is in `dir`, and makes none.
    pub fn open_existing(dir: &Path, args: &OpenArgs) -> Result<Target, OpenCacheError> {
        drop(Target::open_read_only(dir, args)?);
        Target::open(dir, None, args)
    }

    /// Begins anew the shards that a cache has lost, and returns their names. A plain cache has none to lose. `shards`: how
    /// many it had, where nothing is left that tells.
    pub fn repair(dir: &Path, shards: Option<usize>, args: &OpenArgs) -> Result<Vec<String>, OpenCacheError> {
        if shards.is_none() && !FanoutCache::is_at(dir) {
            return Ok(Vec::new());
        }
        FanoutCache::repair(dir, shards, &options(args))
    }

    /// The store that has a key, or would have it.
    pub fn store_of(&self, key: &KeyBuf) -> &Cache {
        match self {
            Target::Plain(cache) => cache,
            Target::Fanout(cache) => cache.shard_of(key),
        }
    }

    /// The number of shards; `None`: a plain cache.
    pub fn shards(&self) -> Option<usize> {
        match self {
            Target::Plain(_) => None,
            Target::Fanout(cache) => Some(cache.shards().len()),
        }
    }

    /// The keys in order, from `from` on.
    pub fn keys(&self, from: Option<&KeyBuf>, order: Order) -> KeyIter {
        with_cache!(self, cache => match from {
            None => Box::new(cache.keys(order)),
            Some(from) => Box::new(cache.keys_from(from, order)),
        })
    }

    /// The entries in order, from `from` on.
    pub fn items(&self, from: Option<&KeyBuf>, order: Order) -> ItemIter {
        with_cache!(self, cache => match from {
            None => Box::new(cache.items(order)),
            Some(from) => Box::new(cache.items_from(from, order)),
        })
    }
}

/// Whether something cannot be opened for writing because the media can be nothing but read.
pub fn is_read_only_media(error: &OpenError) -> bool {
    matches!(error, OpenError::PermissionDenied { source, .. } if source.kind() == ErrorKind::ReadOnlyFilesystem)
}

fn options(args: &OpenArgs) -> CacheOptions {
    CacheOptions::new().with_store(args.store(Durability::Process))
}

/// Whether `key` is a text that begins with `prefix`.
pub fn has_prefix(key: &KeyBuf, prefix: &str) -> bool {
    // All but the last byte of an encoded text is part of every text that begins with it.
    let encoded = prefix.to_key();
    let (_, begin) = encoded.as_bytes().split_last().unwrap_or((&0, &[]));
    key.as_bytes().starts_with(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_those_of_texts() {
        for (key, prefix, expected) in
            [("abc", "ab", true), ("ab", "ab", true), ("a", "ab", false), ("a\0b", "a", true)]
        {
            assert_eq!(has_prefix(&key.to_key(), prefix), expected, "{key:?} {prefix:?}");
        }
        assert!(has_prefix(&"x".to_key(), ""));
        assert!(!has_prefix(&b"x".as_slice().to_key(), "") && !has_prefix(&("x",).to_key(), "x"));
    }
}
