//! A project with what it takes to run it: session factory, cache root, caches, ledgers.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use alluvium_contracts::PlanDocument;
use alluvium_datasets::{PinCounters, PinMemo, Pinner};
use alluvium_delta_cache::{CacheError, DeltaCache};
use alluvium_ledgers::{LedgerError, Ledgers};
use alluvium_profile::{CacheRoot, KvKind, RootError, RuntimeProfile, SessionFactory, resolve_cache_root};
use alluvium_telemetry::{CacheMetrics, Diagnostics, Redactor, Seam};

use crate::decide::Decisions;
use crate::error::RunError;
use crate::execute::Outcomes;
use crate::project::Project;
use crate::run::RunOptions;

/// What the caller decides about opening.
#[derive(Debug, Default)]
pub struct OpenOptions {
    /// The cache root, before everything else that could name one.
    pub cache_root: Option<PathBuf>,
    /// The value of `ALLUVIUM_CACHE_ROOT`, where the caller's environment has one.
    pub env_cache_root: Option<OsString>,
    /// The session factory, instead of one made from the pipeline file's profile: for object stores of one's own.
    pub sessions: Option<SessionFactory>,
    /// Clock and ids, instead of the machine's.
    pub seam: Option<Seam>,
    /// Where cache operations are counted, instead of the process's meter provider.
    pub metrics: Option<CacheMetrics>,
    /// What runs tell beside their ledgers, and to whom. Without it nobody is told.
    pub diagnostics: Option<Diagnostics>,
}

/// An opened pipeline.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) project: Project,
    pub(crate) sessions: SessionFactory,
    pub(crate) seam: Seam,
    pub(crate) cache: DeltaCache,
    pub(crate) ledgers: Ledgers,
    pub(crate) pinner: Pinner,
    pub(crate) diagnostics: Diagnostics,
    pub(crate) root: Arc<CacheRoot>,
    /// Who named the root: `flag`, `environment`, `pipeline_file` or `default`.
    pub(crate) root_named_by: &'static str,
}

/// A pipeline cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The cache root cannot be used.
    #[error("the cache root cannot be used")]
    Root(#[from] RootError),
    /// The caches under it cannot be opened.
    #[error("the caches cannot be opened")]
    Cache(#[from] CacheError),
    /// The ledgers under it cannot be opened.
    #[error("the ledgers cannot be opened")]
    Ledger(#[from] LedgerError),
}

impl OpenError {
    /// Whether the user named a cache root that cannot be one.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Root(_))
    }
}

impl Pipeline {
    /// Opens a project: resolves and creates the cache root, opens caches and ledgers.
    ///
    /// # Errors
    /// [`OpenError`] when the cache root cannot be used.
    pub fn open(project: Project, options: OpenOptions) -> Result<Self, OpenError> {
        let spec = &project.spec().profile;
        let path = resolve_cache_root(
            options.cache_root.as_deref(),
            options.env_cache_root.as_deref(),
            spec.cache_output_root.as_deref(),
            project.dir(),
        )?;
        let root_named_by = match () {
            () if options.cache_root.is_some() => "flag",
            () if options.env_cache_root.as_ref().is_some_and(|path| !path.is_empty()) => "environment",
            () if spec.cache_output_root.is_some() => "pipeline_file",
            () => "default",
        };
        let seam = options.seam.unwrap_or_else(Seam::system);
        let root = Arc::new(CacheRoot::open(&path, &seam)?);
        let memo = PinMemo::new(root.kv(KvKind::Runtime)?.clone(), root.kv(KvKind::Schema)?.clone());
        let ledgers = Ledgers::open(root.ledgers(), root.kv(KvKind::Queue)?.clone(), seam.clone())?;
        let mut cache = DeltaCache::open(Arc::clone(&root), seam.clone())?;
        if let Some(metrics) = options.metrics {
            cache = cache.with_metrics(metrics);
        }
        let diagnostics = options.diagnostics.unwrap_or_else(|| Diagnostics::new(seam.clone(), Redactor::default()));
        Ok(Self {
            sessions: options.sessions.unwrap_or_else(|| SessionFactory::new(RuntimeProfile::from(spec))),
            cache,
            pinner: Pinner::new(Some(memo), seam.clone()),
            ledgers,
            diagnostics,
            root,
            root_named_by,
            seam,
            project,
        })
    }

    /// What a run would decide, without computing anything: a hit or not, and for each miss which component of the
    /// identity changed from what to what.
    ///
    /// # Errors
    /// [`RunError`] when the pipeline is wrong or its sources cannot be pinned.
    pub async fn plan(&self, select: &[String]) -> Result<PlanDocument, RunError> {
        let options = RunOptions { select: select.to_vec(), ..RunOptions::default() };
        Ok(Decisions::take(self, &options, &Outcomes::default()).await?.document())
    }

    /// What pinning has hashed and inferred since the pipeline was opened.
    #[must_use]
    pub fn pin_counters(&self) -> PinCounters {
        self.pinner.counters()
    }

    /// What was found damaged since the last call.
    pub(crate) fn take_notices(&self) -> Vec<String> {
        let mut notices = self.root.notices();
        notices.extend(self.cache.take_notices());
        notices
    }
}
