//! The cache itself: what opens it, lookup, and what scans what was found.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_contracts::{CacheKey, CacheOperation, CacheOutcome, CachePolicy, EntryId, MissExplanation, RunId};
use alluvium_datasets::{ChangedError, PinnedFile, PinnedFiles};
use alluvium_plans::{PlanBundle, explain};
use alluvium_profile::{CacheRoot, KvKind, Session};
use alluvium_telemetry::{CacheMetrics, Seam};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use fail::fail_point;

use crate::artifact_record::Artifacts;
use crate::content::{Content, Demand};
use crate::entry::{Check, Entry, EntryFile, add_up, check};
use crate::error::CacheError;
use crate::index::{Index, Latest, Row};
use crate::materialize;
use crate::memory::Memory;
use crate::operation::Subject;
use crate::provider::ComputedView;
use crate::reading::Reading;
use crate::scope::EntryScope;
use crate::unstable_rows::UnstableRows;

/// Asked right before a publication: have the sources changed since they were pinned?
pub type BeforePublish<'a> = &'a (dyn Fn() -> Result<(), ChangedError> + Send + Sync);

/// The caches under one root. Cheap to share behind an [`Arc`].
#[derive(Debug)]
pub struct DeltaCache {
    pub(crate) root: Arc<CacheRoot>,
    pub(crate) index: Index,
    pub(crate) seam: Seam,
    pub(crate) metrics: CacheMetrics,
    pub(crate) memory: Memory,
    pub(crate) artifacts: Artifacts,
    pub(crate) lease_deadline: Duration,
    pub(crate) undeleted: AtomicU64,
    notices: Mutex<Vec<String>>,
}

/// The answer of a lookup.
#[must_use]
#[derive(Debug, Clone)]
pub enum Lookup {
    /// A checked entry, and the outcome for the ledger.
    Hit(Arc<Entry>, CacheOutcome),
    /// No valid entry, with the difference to the view's nearest earlier one.
    Miss(MissExplanation),
}

/// What to write.
#[derive(Debug, Clone, Copy)]
pub struct WriteRequest<'a> {
    /// The view, with its key.
    pub bundle: &'a PlanBundle,
    /// Its key: only a view that has one can be written.
    pub key: CacheKey,
    /// The run on whose behalf.
    pub run_id: RunId,
    /// Compute even if a valid entry is there.
    pub fresh: bool,
    /// What the entry can be evicted by, beside its view.
    pub tags: &'a [String],
    /// Which rows of unstable views its computation reads: an entry that was computed from others is not taken.
    pub unstable_rows: &'a UnstableRows,
    /// Keeps the entry from deletion; so that it is for the caller to hold until the last scan is done.
    pub reading: &'a Reading,
}

/// How a write ended.
#[must_use]
#[derive(Debug, Clone)]
pub enum Written {
    /// Computed and published here; and the outcome of the write, for the ledger.
    Computed(Arc<Entry>, CacheOutcome),
    /// Another process published it while this one waited for the lease, or after it had taken the lease over; and the outcome of
    /// the lookup that found it.
    Shared(Arc<Entry>, CacheOutcome),
}

impl DeltaCache {
    /// How long the owner of a lease has before one who waits takes over: ten minutes.
    pub const DEFAULT_LEASE_DEADLINE: Duration = Duration::from_secs(600);

    /// Opens the caches under `root`.
    ///
    /// # Errors
    /// [`CacheError::Root`] when the index cannot be opened.
    pub fn open(root: Arc<CacheRoot>, seam: Seam) -> Result<Self, CacheError> {
        let index = Index::new(root.kv(KvKind::Index)?.clone());
        Ok(Self {
            root,
            index,
            seam,
            metrics: CacheMetrics::global().clone(),
            memory: Memory::default(),
            artifacts: Artifacts::default(),
            undeleted: AtomicU64::default(),
            notices: Mutex::default(),
            lease_deadline: Self::DEFAULT_LEASE_DEADLINE,
        })
    }

    /// Sets how long this process has a lease before one who waits takes over: longer than any view takes. Default:
    /// [`DEFAULT_LEASE_DEADLINE`](Self::DEFAULT_LEASE_DEADLINE).
    #[must_use]
    pub fn with_lease_deadline(mut self, deadline: Duration) -> Self {
        self.lease_deadline = deadline;
        self
    }

    /// What was found damaged and set aside since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks for a valid entry of the view. Reads the index and stats the entry's files; hashes those whose stamp moved.
    /// A damaged entry is set aside, noticed, and answered as a miss. A view without a key always misses. What is found can
    /// be scanned for as long as `reading` lives.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be read, [`CacheError::Io`] when a damaged entry cannot be set aside.
    pub fn lookup(&self, _reading: &Reading, bundle: &PlanBundle) -> Result<Lookup, CacheError> {
        let reading = self.begin(CacheOperation::Read, &Subject::view(bundle, CachePolicy::DeltaStaging));
        let content = bundle.cache_key().map(|key| Content::of_view(bundle, key, &[]));
        let found = reading.span().in_scope(|| content.as_ref().map_or(Ok(None), |content| self.find(content)));
        match found {
            Ok(Some(entry)) => Ok(Lookup::Hit(entry, reading.hit(None))),
            Ok(None) => {
                reading.miss();
                Ok(Lookup::Miss(self.differences(
                    EntryScope::View,
                    bundle.name(),
                    bundle.cache_key(),
                    bundle.components(),
                    Some(bundle),
                )?))
            }
            Err(error) => {
                reading.error(error.kind());
                Err(error)
            }
        }
    }

    /// Computes and publishes a view: lease, re-check, fresh directory, one Delta commit, one publishing transaction.
    /// Where another process publishes the key meanwhile, its entry is taken instead: one that was waited for, or one of a process
    /// that took the lease over when it was past its deadline.
    ///
    /// # Errors
    /// [`CacheError::Compute`] when the query fails, [`CacheError::SourceChanged`] when `before_publish` finds a source
    /// changed, and what files, commits and the index may fail with. Nothing is published then.
    pub async fn write(
        &self,
        session: &Session,
        request: WriteRequest<'_>,
        before_publish: BeforePublish<'_>,
    ) -> Result<Written, CacheError> {
        let WriteRequest { bundle, key, run_id, fresh, tags, unstable_rows, reading: _ } = request;
        let content = Content { unstable_rows: Some(unstable_rows), ..Content::of_view(bundle, key, tags) };
        let demand = Demand { published: bundle.published(), run_id, fresh };
        let streams = async {
            materialize::streams(session, bundle.plan(), bundle.published())
                .await
                .map_err(|error| content.uncomputed(error))
        };
        self.write_content(&content, demand, streams, before_publish).await
    }

    /// What scans an entry.
    ///
    /// # Errors
    /// [`CacheError::Scan`] when its record does not fit `schema`.
    pub fn provider(&self, entry: &Entry, schema: &SchemaRef) -> Result<Arc<dyn TableProvider>, CacheError> {
        self.files_provider(&entry.view, &entry.table_dir(self.root.path()), &entry.files, Vec::new(), schema)
    }

    /// What scans a view that nothing keeps: its query, computed inside the reader's.
    #[must_use]
    pub fn computed(&self, bundle: &PlanBundle) -> Arc<dyn TableProvider> {
        Arc::new(ComputedView::new(bundle.plan().clone(), Arc::clone(bundle.published().arrow())))
    }

    /// Executes a view that nothing reads, for its errors and its number of rows.
    ///
    /// # Errors
    /// [`CacheError::Compute`] when the query fails.
    pub async fn count(&self, session: &Session, bundle: &PlanBundle) -> Result<u64, CacheError> {
        materialize::count(session, bundle.plan(), bundle.published()).await.map_err(compute(bundle.name()))
    }

    /// What differs from the nearest earlier entry of this name. Where `bundle` says what is computed, so does the explanation.
    pub(crate) fn differences(
        &self,
        scope: EntryScope,
        name: &str,
        key: Option<CacheKey>,
        components: &BTreeMap<String, String>,
        bundle: Option<&PlanBundle>,
    ) -> Result<MissExplanation, CacheError> {
        let latest = self.index.latest(&scope.latest_row(name))?;
        let earlier = latest.iter().map(Latest::earlier);
        Ok(explain(earlier, key, components, || bundle.and_then(PlanBundle::outline)))
    }

    /// A valid entry, by the index or by its own commit.
    pub(crate) fn find(&self, content: &Content<'_>) -> Result<Option<Arc<Entry>>, CacheError> {
        match self.valid_entry(content)? {
            None if !self.leases(&self.lease_dir()).is_held(content.key.as_bytes())? => self.adopt(content),
            found => Ok(found),
        }
    }

    pub(crate) fn valid_entry(&self, content: &Content<'_>) -> Result<Option<Arc<Entry>>, CacheError> {
        let Content { scope, name, key, .. } = *content;
        let mut entry = match self.index.entry(scope, key)? {
            Row::Absent => return Ok(None),
            Row::Damaged => {
                self.notice(format!("the index row of {} `{name}` was damaged and is dropped", scope.word()));
                self.evicting(&content.staged(), None, || Ok(self.index.remove(scope, key, None)?))?;
                return Ok(None);
            }
            Row::Found(entry) if !content.rests_on(&entry) => return Ok(None),
            Row::Found(entry) => entry,
        };
        fail_point!("view.row.found");
        let size_bytes = entry.size_bytes();
        let verify = || self.begin(CacheOperation::Verify, &content.staged());
        let checked = match add_up(&entry.files, entry.row_count) {
            Ok(()) => check(&entry.table_dir(self.root.path()), std::mem::take(&mut entry.files), verify),
            Err(what) => Check::Damaged(what),
        };
        match checked {
            Check::Untouched(files) => Ok(Some(Arc::new(Entry { files, ..entry }))),
            Check::Restamped(files) => {
                let entry = Entry { files, ..entry };
                self.index.restamp(&entry)?;
                Ok(Some(Arc::new(entry)))
            }
            Check::Damaged(what) => {
                let subject = Subject { name: &entry.view, ..content.staged() };
                self.evicting(&subject, Some(size_bytes), || self.set_aside(&entry, &what))?;
                Ok(None)
            }
        }
    }

    /// Measures `remove`, which says whether there was something to take away.
    pub(crate) fn evicting(
        &self,
        subject: &Subject<'_>,
        size_bytes: Option<u64>,
        remove: impl FnOnce() -> Result<bool, CacheError>,
    ) -> Result<(), CacheError> {
        let watch = self.seam.stopwatch();
        let evicting = || self.begin(CacheOperation::Evict, subject).since(watch);
        match remove() {
            Ok(true) => drop(evicting().ok(size_bytes)),
            // Another process was quicker.
            Ok(false) => {}
            Err(error) => {
                evicting().error(error.kind());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes a damaged entry out of the index first, then moves its directory where nobody looks for entries. `false`:
    /// another process has done it.
    pub(crate) fn set_aside(&self, entry: &Entry, what: &str) -> Result<bool, CacheError> {
        if !self.index.remove(entry.scope, entry.key, Some(entry.id))? {
            return Ok(false);
        }
        let subject = Subject::entry(entry);
        if !self.quarantine(&subject, entry.id, &entry.dir, what)? {
            let Subject { scope, name, .. } = subject;
            self.notice(format!("the entry of {scope} `{name}` was damaged ({what}); nothing of it is left"));
        }
        Ok(true)
    }

    /// Moves the directory of a damaged entry where nobody looks for entries, and tells of it. `false`: there is none.
    pub(crate) fn quarantine(
        &self,
        subject: &Subject<'_>,
        id: EntryId,
        dir: &str,
        what: &str,
    ) -> Result<bool, CacheError> {
        let aside = self.root.path().join("quarantine");
        std::fs::create_dir_all(&aside).map_err(CacheError::io("create the directory", &aside))?;
        let from = self.root.path().join(dir);
        let to = aside.join(id.to_string());
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(source) => {
                return Err(CacheError::Io { action: "set aside the damaged entry", path: from, source });
            }
        }
        let Subject { scope, name, .. } = subject;
        self.notice(format!("the entry of {scope} `{name}` was damaged ({what}); it is set aside in {}", to.display()));
        Ok(true)
    }

    pub(crate) fn files_provider(
        &self,
        name: &str,
        table_dir: &Path,
        files: &[EntryFile],
        partition_columns: Vec<String>,
        schema: &SchemaRef,
    ) -> Result<Arc<dyn TableProvider>, CacheError> {
        let pinned = files
            .iter()
            .map(|file| PinnedFile {
                path: table_dir.join(&file.path),
                size_bytes: file.stamp.size_bytes,
                modified_unix_ns: file.stamp.modified_ns,
                row_count: Some(file.row_count),
                partition_values: file.partition_values.clone(),
            })
            .collect();
        PinnedFiles::try_new(Arc::clone(schema), partition_columns, pinned)
            .map(|provider| Arc::new(provider) as Arc<dyn TableProvider>)
            .map_err(|source| CacheError::Scan { name: name.to_owned(), source })
    }

    pub(crate) fn notice(&self, notice: String) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        // What was found when deciding is found again when carrying it out.
        if !notices.contains(&notice) {
            tracing::warn!(target: "alluvium.notice", notice);
            notices.push(notice);
        }
    }
}

pub(crate) fn compute(name: &str) -> impl FnOnce(datafusion::common::DataFusionError) -> CacheError {
    let view = name.to_owned();
    move |source| CacheError::Compute { view, source: Box::new(source) }
}
