//! A project with what it takes to run it: session factory, cache root, caches, ledgers.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_contracts::{CacheRootOrigin, CdfCursor, OutputResult, PlanDocument, StoredPlans};
use alluvium_datasets::{EngineCacheFunctions, ExternalDatasets, PinCounters, PinMemo, Pinner};
use alluvium_delta_cache::{CacheError, DeltaCache, FrameCache};
use alluvium_ledgers::{Ledger, LedgerError, Ledgers};
use alluvium_plans::{PlanStore, PlanStoreCounters, PlanStoreError};
use alluvium_profile::{
    CacheRoot, KvKind, ProfileError, RootError, RuntimeProfile, SessionFactory, SettingOrigin, real_path,
    resolve_cache_root,
};
use alluvium_telemetry::{CacheMetrics, Diagnostics, Seam};

use crate::decide::Decisions;
use crate::error::RunError;
use crate::execute::Outcomes;
use crate::hooks::Hooks;
use crate::project::Project;
use crate::project_error::ProjectError;
use crate::run::RunOptions;
use crate::sinks::{self, SinkError};

/// What the caller decides about opening.
#[derive(Debug, Default)]
pub struct OpenOptions {
    /// The cache root, before everything else that could name one.
    pub cache_root: Option<PathBuf>,
    /// The value of `ALLUVIUM_CACHE_ROOT`, where the caller's environment has one.
    pub env_cache_root: Option<OsString>,
    /// The caller's environment, where it has a say: variables `ALLUVIUM_PROFILE_…` come before the pipeline file.
    pub environment: Vec<(OsString, OsString)>,
    /// The session factory, instead of one made from the pipeline file's profile: for object stores of one's own.
    pub sessions: Option<SessionFactory>,
    /// Clock and ids, instead of the machine's.
    pub seam: Option<Seam>,
    /// Where cache operations are counted, instead of the process's meter provider.
    pub metrics: Option<CacheMetrics>,
    /// What runs tell beside their ledgers, and to whom. Without it, or if it has no sink, the profile says.
    pub diagnostics: Option<Diagnostics>,
}

impl OpenOptions {
    /// The profile of a project: its file under the environment, and the path of its cache root.
    pub(crate) fn profile(&self, project: &Project) -> Result<(RuntimeProfile, PathBuf), OpenError> {
        let profile = RuntimeProfile::builder()
            .with_spec(&project.spec().profile)
            .with_base_dir(project.dir())
            .with_environment(self.environment.iter().cloned())
            .build()?;
        let declared = profile.spec().cache_output_root.as_deref();
        // A path of a variable is relative to the working directory, whichever variable it is.
        let of_file = declared.filter(|_| profile.origin("cache_output_root") == SettingOrigin::File);
        let of_variable = declared.filter(|_| of_file.is_none()).map(OsStr::new);
        let named = self.env_cache_root.as_deref().filter(|root| !root.is_empty()).or(of_variable);
        let root = resolve_cache_root(self.cache_root.as_deref(), named, of_file, project.dir())?;
        Ok((profile, root))
    }
}

/// An opened pipeline.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) project: Project,
    pub(crate) sessions: SessionFactory,
    pub(crate) seam: Seam,
    pub(crate) cache: Arc<DeltaCache>,
    pub(crate) ledgers: Ledgers,
    pub(crate) pinner: Pinner,
    /// Where the profile asks for it.
    pub(crate) plans: Option<PlanStore>,
    pub(crate) diagnostics: Diagnostics,
    pub(crate) hooks: Hooks,
    pub(crate) root: Arc<CacheRoot>,
    pub(crate) root_named_by: CacheRootOrigin,
}

/// A pipeline cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The project that would name the cache root is wrong.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The profile is wrong.
    #[error("the profile cannot be used")]
    Profile(#[from] ProfileError),
    /// The profile names a sink of diagnostics that is none, or that this program has not.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The profile asks for stored plans in a form that this build has not.
    #[error(transparent)]
    Plans(#[from] PlanStoreError),
    /// The cache root cannot be used.
    #[error("the cache root cannot be used")]
    Root(#[from] RootError),
    /// What is published would go when the caches go.
    #[error("{place}: output `{name}` lies in the cache root {}, which may be deleted at any time; move the output", root.display())]
    OutputInRoot {
        /// File and line.
        place: String,
        /// The output.
        name: String,
        /// The root, without symbolic links.
        root: PathBuf,
    },
    /// The caches under it cannot be opened.
    #[error("the caches cannot be opened")]
    Cache(#[from] CacheError),
    /// The ledgers under it cannot be opened.
    #[error("the ledgers cannot be opened")]
    Ledger(#[from] LedgerError),
}

impl OpenError {
    /// Whether the user declared something that cannot be: a cache root, a setting, a sink.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        match self {
            Self::Project(error) => error.is_input(),
            Self::Root(_) | Self::OutputInRoot { .. } | Self::Profile(_) | Self::Sink(_) | Self::Plans(_) => true,
            Self::Cache(_) | Self::Ledger(_) => false,
        }
    }
}

impl Pipeline {
    /// Opens a project: resolves and creates the cache root, opens caches and ledgers.
    ///
    /// # Errors
    /// [`OpenError`] when the cache root cannot be used.
    pub fn open(project: Project, options: OpenOptions) -> Result<Self, OpenError> {
        let (profile, path) = options.profile(&project)?;
        let root_named_by = match () {
            () if options.cache_root.is_some() => CacheRootOrigin::Flag,
            () if options.env_cache_root.as_ref().is_some_and(|path| !path.is_empty()) => CacheRootOrigin::Environment,
            () => match profile.origin("cache_output_root") {
                SettingOrigin::File => CacheRootOrigin::PipelineFile,
                SettingOrigin::Environment => CacheRootOrigin::Environment,
                _ => CacheRootOrigin::Default,
            },
        };
        outside(&path, &project)?;
        let seam = options.seam.unwrap_or_else(Seam::system);
        let root = Arc::new(CacheRoot::open_with(&path, profile.kv_settings(), &seam)?);
        let memo = PinMemo::new(root.kv(KvKind::Runtime)?.clone(), root.kv(KvKind::Schema)?.clone());
        let mut ledgers = Ledgers::open(root.ledgers(), root.kv(KvKind::Queue)?.clone(), seam.clone())?;
        let mut cache =
            DeltaCache::open(Arc::clone(&root), seam.clone())?.with_lease_deadline(profile.lease_deadline());
        if let Some(metrics) = options.metrics {
            ledgers = ledgers.with_metrics(metrics.clone());
            cache = cache.with_metrics(metrics);
        }
        // A caller that listens comes before the profile.
        let diagnostics = match options.diagnostics.filter(Diagnostics::is_enabled) {
            Some(diagnostics) => diagnostics,
            None => sinks::of_profile(&profile, &seam)?,
        };
        let pinner = Pinner::new(Some(memo), seam.clone());
        let sessions = match options.sessions {
            Some(sessions) => sessions,
            None => SessionFactory::new(profile)
                .with_extension(Arc::new(FrameCache))
                .with_extension(Arc::new(ExternalDatasets::new(pinner.clone(), project.dir())))
                .with_extension(Arc::new(EngineCacheFunctions))
                .with_diagnostics(diagnostics.clone()),
        };
        let plans = match sessions.profile().stored_plans() {
            StoredPlans::Off => None,
            StoredPlans::Engine | StoredPlans::Substrait => {
                Some(PlanStore::new(root.cache(KvKind::Plan)?.clone(), sessions.profile())?)
            }
        };
        Ok(Self {
            sessions,
            plans,
            cache: Arc::new(cache),
            pinner,
            ledgers,
            diagnostics,
            hooks: Hooks::default(),
            root,
            root_named_by,
            seam,
            project,
        })
    }

    /// Like [`open`](Self::open), where there is a cache root already; `None` where there is none, and none is made.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_existing(project: Project, options: OpenOptions) -> Result<Option<Self>, OpenError> {
        let (profile, path) = options.profile(&project)?;
        match CacheRoot::open_existing_with(&path, profile.kv_settings())? {
            Some(_) => Self::open(project, options).map(Some),
            None => Ok(None),
        }
    }

    /// What a run would decide, without computing anything: a hit or not, and for each miss which component of the
    /// identity changed from what to what. An output that is up to date says which statistics its readers wait for.
    ///
    /// # Errors
    /// [`RunError`] when the pipeline is wrong or its sources cannot be pinned.
    pub async fn plan(&self, select: &[String]) -> Result<PlanDocument, RunError> {
        let options = RunOptions { select: select.to_vec(), ..RunOptions::default() };
        let decisions = Decisions::take(self, &options, &Outcomes::default()).await?;
        let mut document = decisions.document();
        for planned in document.outputs.iter_mut().filter(|planned| planned.result == OutputResult::Hit) {
            let pending = decisions.pending_statistics(self, &planned.name).await?;
            if !pending.is_empty() {
                let columns = pending.join(", ");
                planned.reason = Some(format!("statistics of {columns} wait for the next write: readers use them"));
            }
        }
        Ok(document)
    }

    /// The caches that runs use: a library's own artifacts go there too.
    #[must_use]
    pub fn cache(&self) -> &Arc<DeltaCache> {
        &self.cache
    }

    /// What pinning has hashed and inferred since the pipeline was opened.
    #[must_use]
    pub fn pin_counters(&self) -> PinCounters {
        self.pinner.counters()
    }

    /// What became of kept plans since the pipeline was opened; none unless the profile's `stored_plans` asks for them.
    #[must_use]
    pub fn plan_counters(&self) -> Option<PlanStoreCounters> {
        self.plans.as_ref().map(PlanStore::counters)
    }

    /// How far each consumer has read the changes of Delta sources: by the runs of this cache root that succeeded, whichever pipeline they
    /// were of.
    ///
    /// # Errors
    /// [`RunError::Ledger`] when the store of the ledgers cannot be read.
    ///
    /// # Examples
    /// ```
    /// use alluvium_runs::{OpenOptions, Pipeline, Project, RunOptions, Silent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let (producer, consumer) = (dir.path().join("producer"), dir.path().join("consumer"));
    /// # for dir in [&producer, &consumer] { std::fs::create_dir(dir)?; }
    /// std::fs::write(producer.join("orders.csv"), "id\n1\n2\n")?;
    /// std::fs::write(producer.join("alluvium.toml"), r#"
    ///     sources.raw = { format = "csv", path = "orders.csv" }
    ///     views.orders = { sql = "select id from raw" }
    ///     outputs.orders = { view = "orders", path = "lake", write = { enable_features = ["change_data_feed"] } }
    /// "#)?;
    /// std::fs::write(consumer.join("alluvium.toml"), r#"
    ///     sources.orders = { format = "delta", path = "../producer/lake", cdf_consumer = "nightly", cdf = { starting_version = 0 } }
    ///     views.arrived = { sql = "select id from orders__cdf where _change_type = 'insert'" }
    /// "#)?;
    /// let (_stop, cancel) = tokio::sync::watch::channel(false);
    /// for dir in [&producer, &consumer] {
    ///     let pipeline = Pipeline::open(Project::load(dir)?, OpenOptions::default())?;
    ///     pipeline.run(RunOptions::default(), &Silent, cancel.clone()).await?;
    /// }
    /// // The run succeeded, so its consumer has read version 0.
    /// let pipeline = Pipeline::open(Project::load(&consumer)?, OpenOptions::default())?;
    /// let [cursor] = pipeline.cursors()?.try_into().map_err(|_| "one consumer")?;
    /// assert_eq!((cursor.consumer.as_str(), cursor.dataset_name.as_str(), cursor.version), ("nightly", "orders", 0));
    /// # Ok(()) }
    /// ```
    pub fn cursors(&self) -> Result<Vec<CdfCursor>, RunError> {
        Ok(self.ledgers.cursors()?)
    }

    /// What is not in the answers of ledgers because it was set aside as damaged: of each such ledger where that lies, and what to do. Told
    /// for as long as it lies there.
    ///
    /// # Errors
    /// [`RunError::Ledger`] when the directory of the ledgers cannot be read.
    pub fn ledgers_set_aside(&self) -> Result<Vec<(Ledger, String)>, RunError> {
        let told = self.ledgers.set_aside()?.into_iter().map(|(ledger, dir)| {
            let told = format!(
                "ledger {ledger} was damaged and is set aside in {}: what it told of earlier runs is in no answer; `alluvium table verify` \
                 says what is left of it; delete that directory when you need it no more",
                dir.display()
            );
            (ledger, told)
        });
        Ok(told.collect())
    }

    /// What was found damaged since the last call.
    pub(crate) fn take_notices(&self) -> Vec<String> {
        let mut notices = self.root.notices();
        notices.extend(self.cache.take_notices());
        notices.extend(self.ledgers.take_notices());
        notices.extend(self.plans.iter().flat_map(PlanStore::take_notices));
        notices
    }
}

/// Refuses outputs in the cache root. A path that cannot be followed is the business of whoever uses it.
fn outside(root: &Path, project: &Project) -> Result<(), OpenError> {
    let Ok(root) = real_path(root) else {
        return Ok(());
    };
    for (name, output) in &project.spec().outputs {
        if real_path(&project.dir().join(&output.path)).is_ok_and(|path| path.starts_with(&root)) {
            return Err(OpenError::OutputInRoot { place: project.place("outputs", name), name: name.clone(), root });
        }
    }
    Ok(())
}
