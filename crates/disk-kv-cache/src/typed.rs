//! A cache of one type of keys and one type of values.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::tag::Tagged;
use crate::{
    Cache, CacheError, Codec, CodecError, FromKey, Item, Key, KeyError, MessagePack, Order, SetOptions, TypeTag,
};

/// A [`Cache`] of values of type `V` under keys of type `K`.
///
/// A value is stored with its codec, its type and its version. One with others, or one that is not a `V` though it says
/// so, is a miss: [`mismatches`](TypedCache::mismatches) counts those. Other types may lie in the same cache, under other
/// keys. In MessagePack, a value is stored as a [`Record`](crate::Record) of that name and version is.
///
/// ```
/// use alluvium_disk_kv_cache::{Cache, TypeTag, TypedCache};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, PartialEq, Debug)]
/// struct Rate { per_euro: f64 }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let dir = temp.path();
/// let rates: TypedCache<String, Rate> = TypedCache::new(Cache::open(dir)?, TypeTag::new("rate", 1));
/// rates.set(&"USD".to_owned(), &Rate { per_euro: 1.08 })?;
/// assert_eq!(rates.get(&"USD".to_owned())?, Some(Rate { per_euro: 1.08 }));
///
/// let later: TypedCache<String, Rate> = TypedCache::new(Cache::open(dir)?, TypeTag::new("rate", 2));
/// assert_eq!(later.get(&"USD".to_owned())?, None);
/// # Ok(()) }
/// ```
pub struct TypedCache<K: ?Sized, V, C = MessagePack> {
    cache: Cache,
    tag: TypeTag,
    mismatches: Arc<AtomicU64>,
    types: Types<K, V, C>,
}

/// Takes keys, gives values; owns neither.
type Types<K, V, C> = PhantomData<(fn(&K), fn() -> V, C)>;

/// Why an operation on a [`TypedCache`] failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TypedError {
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The value cannot be written.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A key in the cache is not of the type of keys.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A typed value with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypedItem<V> {
    /// The value.
    pub value: V,
    /// When it expires; `None`: never.
    pub expires_at: Option<std::time::SystemTime>,
    /// Its tags, sorted.
    pub tags: Vec<String>,
}

impl<K: Key + ?Sized, V: Serialize + DeserializeOwned, C: Codec> TypedCache<K, V, C> {
    /// Values of the type that `tag` names, in a cache.
    pub fn new(cache: Cache, tag: TypeTag) -> TypedCache<K, V, C> {
        TypedCache { cache, tag, mismatches: Arc::default(), types: PhantomData }
    }

    /// The cache underneath: for all that has nothing to do with types, such as evicting and culling.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// How often this handle and its clones found a value of another type or version, or one that could not be decoded.
    pub fn mismatches(&self) -> u64 {
        self.mismatches.load(Ordering::Relaxed)
    }

    /// The value of a key, if it is there, has not expired, and is of this type and version.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub fn get(&self, key: &K) -> Result<Option<V>, TypedError> {
        Ok(self.cache.get_with(key, |bytes| self.decode(bytes))?.flatten())
    }

    /// The value of a key with its expiry and tags.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub fn get_item(&self, key: &K) -> Result<Option<TypedItem<V>>, TypedError> {
        Ok(self.cache.get_item(key)?.and_then(|item| self.typed(item)))
    }

    /// Stores a value, for ever and without tags.
    ///
    /// # Errors
    /// [`TypedError::Codec`] if it cannot be written, and as [`Cache::set`].
    pub fn set(&self, key: &K, value: &V) -> Result<(), TypedError> {
        self.set_with(key, value, &SetOptions::new())
    }

    /// Stores a value with a time to live and tags.
    ///
    /// # Errors
    /// [`TypedError::Codec`] if it cannot be written, and as [`Cache::set_with`].
    pub fn set_with(&self, key: &K, value: &V, options: &SetOptions) -> Result<(), TypedError> {
        Ok(self.cache.set_with(key, &self.tag.encode::<C>(value)?, options)?)
    }

    /// Stores a value unless there is one of this type and version. `false`: there is.
    ///
    /// # Errors
    /// [`TypedError::Codec`] if it cannot be written, and as [`Cache::add`].
    pub fn add(&self, key: &K, value: &V, options: &SetOptions) -> Result<bool, TypedError> {
        let bytes = self.tag.encode::<C>(value)?;
        Ok(self.cache.transact::<_, CacheError>(|txn| {
            if txn.view().get(key)?.and_then(|found| self.decode(&found)).is_some() {
                return Ok(false);
            }
            txn.set(key, &bytes, options).map(|()| true)
        })?)
    }

    /// Removes an entry and returns it. One of another type or version is removed too, and not returned.
    ///
    /// # Errors
    /// As [`Cache::pop`].
    pub fn pop(&self, key: &K) -> Result<Option<TypedItem<V>>, TypedError> {
        Ok(self.cache.pop(key)?.and_then(|item| self.typed(item)))
    }

    /// Removes an entry. `false`: there was none.
    ///
    /// # Errors
    /// As [`Cache::delete`].
    pub fn delete(&self, key: &K) -> Result<bool, TypedError> {
        Ok(self.cache.delete(key)?)
    }

    /// Gives an entry another time to live, from now on; `None`: for ever. `false`: there is none.
    ///
    /// # Errors
    /// As [`Cache::touch`].
    pub fn touch(&self, key: &K, ttl: Option<Duration>) -> Result<bool, TypedError> {
        Ok(self.cache.touch(key, ttl)?)
    }

    /// All entries of this type and version, in the order of their keys. Each may be an error: of the cache, or a key
    /// that is not a `K`.
    pub fn items(&self, order: Order) -> impl Iterator<Item = Result<(K, TypedItem<V>), TypedError>>
    where
        K: FromKey,
    {
        self.cache.items(order).filter_map(|entry| match entry {
            Ok((key, item)) => {
                let item = self.typed(item)?;
                Some(key.decode().map(|key| (key, item)).map_err(TypedError::from))
            }
            Err(error) => Some(Err(error.into())),
        })
    }

    fn decode(&self, bytes: &[u8]) -> Option<V> {
        let value = Tagged::split(bytes).filter(|found| found.is::<C>(self.tag));
        let value = value.and_then(|found| C::decode(found.content).ok());
        if value.is_none() {
            self.mismatches.fetch_add(1, Ordering::Relaxed);
        }
        value
    }

    fn typed(&self, item: Item) -> Option<TypedItem<V>> {
        let value = self.decode(&item.value)?;
        Some(TypedItem { value, expires_at: item.expires_at, tags: item.tags })
    }
}

impl<K: ?Sized, V, C> Clone for TypedCache<K, V, C> {
    fn clone(&self) -> Self {
        let (cache, mismatches) = (self.cache.clone(), Arc::clone(&self.mismatches));
        TypedCache { cache, tag: self.tag, mismatches, types: PhantomData }
    }
}

impl<K: ?Sized, V, C> fmt::Debug for TypedCache<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedCache").field("cache", &self.cache).finish_non_exhaustive()
    }
}
