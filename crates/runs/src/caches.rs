//! The caches under a root, for whoever looks after them: no pipeline has to be sound for that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_delta_cache::DeltaCache;
use alluvium_profile::{CacheRoot, KvSettings, real_path, resolve_cache_root};
use alluvium_telemetry::Seam;

use crate::pipeline::{OpenError, OpenOptions};
use crate::project::Project;

/// An opened cache root.
#[derive(Debug)]
pub struct Caches {
    root: Arc<CacheRoot>,
    cache: DeltaCache,
}

impl Caches {
    /// Opens the root that `options` name, or else that of the project in `directory`, which is loaded only then. Where
    /// there is no root, none is made.
    ///
    /// # Errors
    /// [`OpenError`] when the project or its profile is wrong, or the root cannot be used.
    pub fn open(directory: &Path, options: OpenOptions) -> Result<Opened, OpenError> {
        let seam = options.seam.clone().unwrap_or_else(Seam::system);
        let named = options.env_cache_root.as_deref().filter(|root| !root.is_empty());
        let path = match (options.cache_root.as_deref(), named) {
            (None, None) => options.profile(&Project::load(directory)?)?.1,
            (flag, named) => resolve_cache_root(flag, named, None, directory)?,
        };
        let Some(found) = CacheRoot::open_existing(&path)? else {
            return Ok(Opened::Absent(real_path(&path).unwrap_or(path)));
        };
        // The root says itself where its key-value stores lie.
        let settings = KvSettings::default().with_root(found.kv_root());
        let root = Arc::new(CacheRoot::open_with(&path, settings, &seam)?);
        let mut cache = DeltaCache::open(Arc::clone(&root), seam)?;
        if let Some(metrics) = options.metrics {
            cache = cache.with_metrics(metrics);
        }
        Ok(Opened::Caches(Box::new(Self { root, cache })))
    }

    /// The caches.
    #[must_use]
    pub fn cache(&self) -> &DeltaCache {
        &self.cache
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// What was found damaged since the root was opened, and since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<String> {
        let mut notices = self.root.notices();
        notices.extend(self.cache.take_notices());
        notices
    }
}

/// What lay where a cache root was looked for.
#[must_use]
#[derive(Debug)]
pub enum Opened {
    /// A root.
    Caches(Box<Caches>),
    /// Nothing, at this place: nothing was cached yet.
    Absent(PathBuf),
}
