//! The caches under a root, for whoever looks after them: no pipeline has to be sound for that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_contracts::{CacheArtifact, CacheRemoval, LedgerEvent, RemovalResult};
use alluvium_delta_cache::{CacheError, DeltaCache, GcRequest, Selection};
use alluvium_ledgers::Ledgers;
use alluvium_profile::{CacheRoot, KvKind, KvSettings, real_path, resolve_cache_root};
use alluvium_telemetry::Seam;

use crate::error::chain;
use crate::pipeline::{OpenError, OpenOptions};
use crate::project::Project;

/// An opened cache root.
#[derive(Debug)]
pub struct Caches {
    root: Arc<CacheRoot>,
    cache: DeltaCache,
    ledgers: Ledgers,
    seam: Seam,
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
        let mut cache = DeltaCache::open(Arc::clone(&root), seam.clone())?;
        let mut ledgers = Ledgers::open(root.ledgers(), root.kv(KvKind::Queue)?.clone(), seam.clone())?;
        if let Some(metrics) = options.metrics {
            ledgers = ledgers.with_metrics(metrics.clone());
            cache = cache.with_metrics(metrics);
        }
        Ok(Opened::Caches(Box::new(Self { root, cache, ledgers, seam })))
    }

    /// The caches.
    #[must_use]
    pub fn cache(&self) -> &DeltaCache {
        &self.cache
    }

    /// [`DeltaCache::evict`], on record: what went, and what could not be deleted, is a `cache_removal` of `alluvium.cache_artifacts` by
    /// the name `evict`.
    ///
    /// # Errors
    /// As there. A record that cannot be written is a warning: what went is gone.
    pub fn evict(&self, selection: &Selection, dry_run: bool) -> Result<CacheRemoval, CacheError> {
        let removal = self.cache.evict(selection, dry_run)?;
        if removal.entries.iter().any(|entry| entry.result != RemovalResult::Planned) {
            self.record("evict", &removal);
        }
        Ok(removal)
    }

    /// [`DeltaCache::collect_garbage`], on record: a `cache_removal` of `alluvium.cache_artifacts` by the name `gc`, whether anything
    /// went or not, but for a dry run.
    ///
    /// # Errors
    /// As [`evict`](Self::evict).
    ///
    /// # Examples
    /// ```
    /// use alluvium_runs::{Caches, GcRequest, OpenOptions, Opened, Pipeline, Project, RunOptions, Silent, scaffold};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// scaffold(dir.path())?;
    /// let pipeline = Pipeline::open(Project::load(dir.path())?, OpenOptions::default())?;
    /// let (_stop, cancel) = tokio::sync::watch::channel(false);
    /// let run = pipeline.run(RunOptions::default(), &Silent, cancel).await?;
    ///
    /// let Opened::Caches(caches) = Caches::open(dir.path(), OpenOptions::default())? else { return Err("no root".into()) };
    /// let removal = caches.collect_garbage(GcRequest { max_bytes: Some(0), dry_run: false })?;
    /// assert_eq!(removal.entries.len(), run.views.len());
    /// let question = "select name from alluvium.cache_artifacts where artifact_kind = 'cache_removal' and name = 'gc'";
    /// # use futures::TryStreamExt as _;
    /// let rows: Vec<_> = pipeline.sql(question).await?.batches.try_collect().await?;
    /// assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
    /// # Ok(()) }
    /// ```
    pub fn collect_garbage(&self, request: GcRequest) -> Result<CacheRemoval, CacheError> {
        let removal = self.cache.collect_garbage(request)?;
        if !removal.dry_run {
            self.record("gc", &removal);
        }
        Ok(removal)
    }

    /// Its rows have an id of their own in the place of a run's: `cache_runs` has no row of it.
    fn record(&self, name: &str, removal: &CacheRemoval) {
        let artifact = CacheArtifact::of(self.seam.run_id(), self.seam.unix_ms(), name, removal.clone());
        let recorded = artifact.map(|artifact| self.ledgers.record(&[LedgerEvent::CacheArtifacts(artifact)]));
        match recorded {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(target: "alluvium.runs", "a removal could not be recorded: {}", chain(&error));
            }
            Err(error) => tracing::warn!(target: "alluvium.runs", %error, "a removal could not be recorded"),
        }
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// What was found damaged, or could not be deleted, since the root was opened, and since the last call.
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
