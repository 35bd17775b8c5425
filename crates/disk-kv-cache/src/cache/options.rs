//! How a cache is opened.

use std::path::Path;
use std::sync::Arc;

use crate::cache::files::ValueFiles;
use crate::cache::inner::Inner;
use crate::cache::tables::TABLES;
use crate::cache::view::View;
use crate::directory::{self, Network};
use crate::{
    Cache, CacheError, CacheSettings, Clock, Durability, FanoutCache, OnDamage, OpenCacheError, Settings, Store,
    SystemClock,
};

/// How to open a [`Cache`] or a [`FanoutCache`]: with which store, clock and settings.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    store: Settings,
    settings: Option<CacheSettings>,
    clock: Arc<dyn Clock>,
}

impl Default for CacheOptions {
    fn default() -> CacheOptions {
        // What a cache holds can be computed again: one that is damaged is set aside, and an empty one takes its place.
        let store = Settings::new().with_durability(Durability::Process).with_on_damage(OnDamage::Quarantine);
        CacheOptions { store, settings: None, clock: Arc::new(SystemClock) }
    }
}

impl CacheOptions {
    /// The defaults: a store with [`Durability::Process`] that is set aside where it is found damaged on opening
    /// ([`OnDamage::Quarantine`], told by [`Cache::recovered`]), the settings that the cache was left with or
    /// [`CacheSettings::new`], and the machine's clock.
    pub fn new() -> CacheOptions {
        CacheOptions::default()
    }

    /// The settings of the store. All handles of one directory in one process must agree on them.
    ///
    /// With [`Durability::System`], files of values are synced like commits.
    #[must_use]
    pub fn with_store(mut self, store: Settings) -> CacheOptions {
        self.store = store;
        self
    }

    /// Settings that replace those in the store. Default: those in the store stay.
    #[must_use]
    pub fn with_settings(mut self, settings: CacheSettings) -> CacheOptions {
        self.settings = Some(settings);
        self
    }

    /// The clock by which entries expire. Default: the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> CacheOptions {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the cache in `dir`, and makes it if there is none.
    ///
    /// # Errors
    /// [`OpenCacheError::Store`] if the store cannot be opened, [`OpenCacheError::Cache`] if its settings cannot be read
    /// or changed, [`OpenCacheError::InShards`] if it is a [`FanoutCache`]'s directory.
    pub fn open(&self, dir: impl AsRef<Path>) -> Result<Cache, OpenCacheError> {
        refuse_shards(dir.as_ref())?;
        let store = Store::open(dir, TABLES, self.store.clone())?;
        let inner = self.inner(store, false);
        let stored = match inner.store.read(|txn| View::new(txn, &inner).state()) {
            // `check` is there to mend it.
            Err(CacheError::DamagedState { .. }) => return Ok(Cache::from_inner(inner)),
            stored => stored?,
        };
        match (stored, self.settings) {
            (Some(state), None) => inner.reads.follow(&state.settings),
            (Some(state), Some(wanted)) if state.settings == wanted => inner.reads.follow(&wanted),
            (_, wanted) => inner.write(|transaction| {
                transaction.update_settings(|stored| wanted.unwrap_or(stored))?;
                transaction.begin_state()
            })?,
        }
        Ok(Cache::from_inner(inner))
    }

    /// Opens the cache in `dir` for reading only. Nothing is written, not even what was read; settings are those stored.
    ///
    /// # Errors
    /// As [`Store::open_read_only`], and [`OpenCacheError::InShards`].
    pub fn open_read_only(&self, dir: impl AsRef<Path>) -> Result<Cache, OpenCacheError> {
        refuse_shards(dir.as_ref())?;
        let inner = self.inner(Store::open_read_only(dir, TABLES)?, true);
        match inner.state() {
            Ok(state) => inner.reads.follow(&state.settings),
            Err(CacheError::DamagedState { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Cache::from_inner(inner))
    }

    /// What is asked of a directory's file system.
    pub(crate) fn refused_network(&self) -> Option<Network> {
        (!self.store.allow_network_fs()).then_some(directory::network_file_system as _)
    }

    pub(crate) fn settings(&self) -> Option<CacheSettings> {
        self.settings
    }

    /// Takes [`with_settings`](CacheOptions::with_settings) back.
    pub(crate) fn with_stored_settings(mut self) -> CacheOptions {
        self.settings = None;
        self
    }

    pub(crate) fn store(&self) -> &Settings {
        &self.store
    }

    fn inner(&self, store: Store, read_only: bool) -> Inner {
        let files = ValueFiles::new(store.path(), self.store.durability() == Durability::System);
        Inner { store, files, clock: Arc::clone(&self.clock), reads: Arc::default(), read_only }
    }
}

/// Fails in the directory of a cache in shards: a plain one there would find none of its keys.
fn refuse_shards(dir: &Path) -> Result<(), OpenCacheError> {
    if FanoutCache::is_at(dir) { Err(OpenCacheError::InShards { path: dir.to_path_buf() }) } else { Ok(()) }
}
