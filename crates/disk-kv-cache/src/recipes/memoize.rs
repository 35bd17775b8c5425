//! Memoization in a cache: compute a value once, and find it from then on.

use std::path::Path;

use thiserror::Error;

use super::LockError;
use crate::{Cache, CacheError, FanoutCache, Item, Key, KeyBuf, SetOptions, Value, ValueError};

/// A cache that computed values can be kept in: [`Cache`] and [`FanoutCache`].
pub trait MemoCache: sealed::Sealed + Clone + Send + 'static {
    /// The entry of a key.
    ///
    /// # Errors
    /// [`CacheError`].
    fn recall(&self, key: &KeyBuf) -> Result<Option<Item>, CacheError>;

    /// Stores a value.
    ///
    /// # Errors
    /// [`CacheError`].
    fn remember(&self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> Result<(), CacheError>;

    /// The directory.
    fn path(&self) -> &Path;
}

pub(super) mod sealed {
    /// Keeps the trait ours to extend.
    pub trait Sealed {}
}

impl sealed::Sealed for Cache {}

impl MemoCache for Cache {
    fn recall(&self, key: &KeyBuf) -> Result<Option<Item>, CacheError> {
        self.get_item(key)
    }

    fn remember(&self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> Result<(), CacheError> {
        self.set_with(key, value, options)
    }

    fn path(&self) -> &Path {
        Cache::path(self)
    }
}

impl sealed::Sealed for FanoutCache {}

impl MemoCache for FanoutCache {
    fn recall(&self, key: &KeyBuf) -> Result<Option<Item>, CacheError> {
        self.get_item(key)
    }

    fn remember(&self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> Result<(), CacheError> {
        self.set_with(key, value, options)
    }

    /// That of the first shard.
    fn path(&self) -> &Path {
        self.shards()[0].path()
    }
}

/// Why a memoized value could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MemoError<E> {
    /// The computation failed. Nothing was stored.
    #[error("the value could not be computed")]
    Compute(#[source] E),
    /// The cache failed.
    #[error("the cache of the computed values failed")]
    Cache(#[source] CacheError),
    /// The value was computed but cannot become bytes.
    #[error("the computed value cannot be stored")]
    Value(#[source] ValueError),
    /// Waiting for the one that computes failed.
    #[error("the turn to compute the value could not be had")]
    Turn(#[source] LockError),
}

/// The value under `key`; if there is none, what `compute` returns, which is stored there.
///
/// The key is made by the caller, of what the value depends on: a name and the arguments that matter, as a tuple. What
/// should be ignored is left out. A stored value of another type or version (see [`Record`](crate::Record)), or a damaged
/// one, is computed anew. Two callers at once may both compute: [`Stampede`](super::Stampede) prevents that.
///
/// ```
/// use std::time::Duration;
/// use alluvium_disk_kv_cache::{Cache, SetOptions, memoize};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let dir = temp.path();
/// let cache = Cache::open(dir)?;
/// let hourly = SetOptions::new().with_ttl(Duration::from_secs(3600)).with_tag("rates");
/// let rate = memoize(&cache, &("rate", "EUR"), &hourly, || Ok::<_, std::io::Error>(1.08))?;
/// assert_eq!(rate, 1.08);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`MemoError`].
pub fn memoize<C: MemoCache, K: Key + ?Sized, V: Value, E>(
    cache: &C,
    key: &K,
    options: &SetOptions,
    compute: impl FnOnce() -> Result<V, E>,
) -> Result<V, MemoError<E>> {
    let key = key.to_key();
    if let Some(found) = recall(cache, &key).map_err(MemoError::Cache)? {
        return Ok(found);
    }
    let value = compute().map_err(MemoError::Compute)?;
    store(cache, &key, &value, options)?;
    Ok(value)
}

/// As [`memoize`], for a computation that is awaited. The cache itself blocks the thread for one read and one write.
///
/// # Errors
/// [`MemoError`].
pub async fn memoize_async<C: MemoCache, K: Key + ?Sized, V: Value, E>(
    cache: &C,
    key: &K,
    options: &SetOptions,
    compute: impl AsyncFnOnce() -> Result<V, E>,
) -> Result<V, MemoError<E>> {
    let key = key.to_key();
    if let Some(found) = recall(cache, &key).map_err(MemoError::Cache)? {
        return Ok(found);
    }
    let value = compute().await.map_err(MemoError::Compute)?;
    store(cache, &key, &value, options)?;
    Ok(value)
}

fn recall<C: MemoCache, V: Value>(cache: &C, key: &KeyBuf) -> Result<Option<V>, CacheError> {
    Ok(entry(cache, key)?.and_then(|item| V::from_bytes(&item.value).ok()))
}

fn store<C: MemoCache, V: Value, E>(
    cache: &C,
    key: &KeyBuf,
    value: &V,
    options: &SetOptions,
) -> Result<(), MemoError<E>> {
    let bytes = value.to_bytes().map_err(MemoError::Value)?;
    cache.remember(key, &bytes, options).map_err(MemoError::Cache)
}

/// The entry of a key; a damaged one is as good as none, since it can be computed again.
pub(super) fn entry<C: MemoCache>(cache: &C, key: &KeyBuf) -> Result<Option<Item>, CacheError> {
    match cache.recall(key) {
        Err(CacheError::Damaged { .. }) => Ok(None),
        found => found,
    }
}
