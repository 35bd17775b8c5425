//! The cache itself: lookup, and an entry's life from lease to publication.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_contracts::{
    CacheCommitMetadata, CacheKey, CacheOperation, CacheOutcome, CachePolicy, CacheScope, DeltaWritePolicy,
    LookupResult, MissExplanation, RunId,
};
use alluvium_datasets::{ChangedError, FileStamp, PinnedFile, PinnedFiles};
use alluvium_plans::{PlanBundle, explain};
use alluvium_profile::{CacheRoot, KvKind, Session};
use alluvium_telemetry::{CacheMetrics, Seam};
use alluvium_write_policy::{DataFile, ResolvedWritePolicy, commit_create, write_files};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use fail::fail_point;
use tracing::Instrument as _;

use crate::entry::{Check, Entry, EntryFile, check};
use crate::error::CacheError;
use crate::index::{Index, Publication, Row};
use crate::lease::Lease;
use crate::materialize;
use crate::memory::Memory;
use crate::operation::{Subject, traceparent};
use crate::provider::ComputedView;
use crate::reading::Reading;

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
    notices: Mutex<Vec<String>>,
    lease_deadline: Duration,
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
    /// Keeps the entry from deletion; so that it is for the caller to hold until the last scan is done.
    pub reading: &'a Reading,
}

/// How a write ended.
#[must_use]
#[derive(Debug, Clone)]
pub enum Written {
    /// Computed and published here; and the outcome of the write, for the ledger.
    Computed(Arc<Entry>, CacheOutcome),
    /// Another process published it while this one waited for the lease; and the outcome of the lookup that found it.
    Shared(Arc<Entry>, CacheOutcome),
}

/// What became of a write.
enum UnderLease {
    Written(Arc<Entry>),
    /// Somebody else published it while this one waited.
    Found(Arc<Entry>, CacheOutcome),
}

impl DeltaCache {
    /// How long a waiter gives the owner of a lease before it takes over: ten minutes.
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
            notices: Mutex::default(),
            lease_deadline: Self::DEFAULT_LEASE_DEADLINE,
        })
    }

    /// Sets how long a waiter gives the owner of a lease.
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
        let reading = self.begin(CacheOperation::Read, &staged(bundle));
        match reading.span().in_scope(|| self.find(bundle)) {
            Ok(Some(entry)) => Ok(Lookup::Hit(entry, reading.hit(None))),
            Ok(None) => {
                reading.miss();
                Ok(Lookup::Miss(self.explanation(bundle)?))
            }
            Err(error) => {
                reading.error(error.kind());
                Err(error)
            }
        }
    }

    /// Computes and publishes a view: lease, re-check, fresh directory, one Delta commit, one publishing transaction.
    /// Where another process publishes the key meanwhile, its entry is taken instead.
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
        let writing = self.begin(CacheOperation::Write, &staged(request.bundle));
        let written = self.write_under_lease(session, request, before_publish);
        match written.instrument(writing.span().clone()).await {
            Ok(UnderLease::Written(entry)) => {
                let bytes = entry.size_bytes();
                Ok(Written::Computed(entry, writing.ok(Some(bytes))))
            }
            Ok(UnderLease::Found(entry, outcome)) => {
                // Nothing was written: it was a lookup, which has been counted.
                writing.discard();
                Ok(Written::Shared(entry, outcome))
            }
            Err(error) => {
                writing.error(error.kind());
                Err(error)
            }
        }
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
        materialize::count(session, bundle).await.map_err(compute(bundle.name()))
    }

    /// What differs from the nearest earlier entry of the view's name.
    fn explanation(&self, bundle: &PlanBundle) -> Result<MissExplanation, CacheError> {
        let latest = self.index.latest(bundle.name())?;
        let earlier = latest.iter().map(|latest| (latest.key, &latest.components));
        Ok(explain(earlier, bundle.components()))
    }

    /// A valid entry of the view, by the index or by its own commit.
    fn find(&self, bundle: &PlanBundle) -> Result<Option<Arc<Entry>>, CacheError> {
        let Some(key) = bundle.cache_key() else { return Ok(None) };
        match self.valid_entry(key, bundle)? {
            None if !Lease::is_held(&self.leases(), key.as_bytes()) => self.adopt(key, bundle),
            found => Ok(found),
        }
    }

    fn valid_entry(&self, key: CacheKey, bundle: &PlanBundle) -> Result<Option<Arc<Entry>>, CacheError> {
        let mut entry = match self.index.entry(key)? {
            Row::Absent => return Ok(None),
            Row::Damaged => {
                self.notice(format!("the index row of view `{}` was damaged and is dropped", bundle.name()));
                self.evicting(&staged(bundle), None, || Ok(self.index.remove(key, None)?))?;
                return Ok(None);
            }
            Row::Found(entry) => entry,
        };
        fail_point!("view.row.found");
        let size_bytes = entry.size_bytes();
        let verify = || self.begin(CacheOperation::Verify, &staged(bundle));
        match check(&entry.table_dir(self.root.path()), std::mem::take(&mut entry.files), verify) {
            Check::Untouched(files) => Ok(Some(Arc::new(Entry { files, ..entry }))),
            Check::Restamped(files) => {
                let entry = Entry { files, ..entry };
                self.index.restamp(&entry)?;
                Ok(Some(Arc::new(entry)))
            }
            Check::Damaged(what) => {
                let subject = Subject { name: &entry.view, ..staged(bundle) };
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
        let evicting = self.begin(CacheOperation::Evict, subject);
        match evicting.span().in_scope(remove) {
            Ok(true) => drop(evicting.ok(size_bytes)),
            // Another process was quicker.
            Ok(false) => evicting.discard(),
            Err(error) => {
                evicting.error(error.kind());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes a damaged entry out of the index first, then moves its directory where nobody looks for entries. `false`:
    /// another process has done it.
    pub(crate) fn set_aside(&self, entry: &Entry, what: &str) -> Result<bool, CacheError> {
        if !self.index.remove(entry.key, Some(entry.id))? {
            return Ok(false);
        }
        let aside = self.root.path().join("quarantine");
        std::fs::create_dir_all(&aside).map_err(CacheError::io("create the directory", &aside))?;
        let from = entry.table_dir(self.root.path());
        let to = aside.join(entry.id.to_string());
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(CacheError::Io { action: "set aside the damaged entry", path: from, source });
            }
        }
        self.notice(format!(
            "the entry of view `{}` was damaged ({what}); it is set aside in {}",
            entry.view,
            to.display()
        ));
        Ok(true)
    }

    async fn write_under_lease(
        &self,
        session: &Session,
        request: WriteRequest<'_>,
        before_publish: BeforePublish<'_>,
    ) -> Result<UnderLease, CacheError> {
        let WriteRequest { bundle, key, run_id, fresh, tags, reading: _ } = request;
        let seen_before = self.held(key)?;
        let lease = self.lease(key.as_bytes(), &staged(bundle)).await?;
        fail_point!("view.lease.acquired");
        // Whoever held the lease before may have published; a fresh run too takes what is newer than itself.
        let seen = self.held(key)?;
        if !fresh || seen != seen_before {
            let watch = self.seam.stopwatch();
            let found = match self.valid_entry(key, bundle)? {
                None if !fresh && lease.is_exclusive() => self.adopt(key, bundle)?,
                found => found,
            };
            // The same lookup again counts only where it has another answer.
            if let Some(entry) = found {
                let reading = self.begin(CacheOperation::Read, &staged(bundle)).since(watch);
                return Ok(UnderLease::Found(entry, reading.hit(None)));
            }
        }
        let seen = self.held(key)?;
        let explanation = if fresh { None } else { Some(self.explanation(bundle)?) };

        let watch = self.seam.stopwatch();
        let id = self.seam.entry_id();
        let dir = format!("{}/{id}", entry_parent(bundle.name(), key));
        let table_dir = self.root.path().join(&dir);
        let unpublished = Unpublished(Some(table_dir.clone()));

        let schema = Arc::clone(bundle.published().arrow());
        let streams = materialize::streams(session, bundle).await.map_err(compute(bundle.name()))?;
        let policy = ResolvedWritePolicy::resolve(&DeltaWritePolicy::default(), &schema)
            .map_err(|source| CacheError::Policy { output: bundle.name().to_owned(), source })?;
        let staged = write_files(&table_dir, Arc::clone(&schema), streams, &policy)
            .await
            .map_err(|source| CacheError::writing(bundle.name(), &table_dir, source))?;
        fail_point!("view.files.written");
        before_publish().map_err(|source| CacheError::SourceChanged { name: bundle.name().to_owned(), source })?;
        let row_count = staged.row_count();
        let compute_ms = watch.elapsed_ms();
        let metadata = CacheCommitMetadata {
            cache_operation: CacheOperation::Write,
            cache_scope: CacheScope::View,
            cache_policy: CachePolicy::DeltaStaging,
            cache_result: LookupResult::Ok,
            name: bundle.name().to_owned(),
            run_id,
            cache_key: Some(key),
            schema_hash: Some(bundle.published().hash()),
            plan_hash: Some(bundle.identity().plan_fingerprint),
            layout_hash: Some(policy.layout_hash()),
            delta_inputs: bundle.inputs().to_vec(),
            artifact_ids: bundle.artifact_id().into_iter().collect(),
            fencing_token: Some(lease.token),
            traceparent: traceparent(),
            row_count: Some(row_count),
            // A hit is checked by the digests of its files.
            content_hash: None,
            compute_ms: Some(compute_ms),
            stability: Some(bundle.identity().stability),
            components: bundle.components().clone(),
            tags: tags.to_vec(),
        };
        fail_point!("view.commit.before");
        let committed = commit_create(&table_dir, schema, staged, &policy, &metadata.to_map())
            .await
            .map_err(|source| CacheError::Commit { name: bundle.name().to_owned(), path: table_dir.clone(), source })?;
        fail_point!("view.commit.after");
        let entry = Entry {
            key,
            view: bundle.name().to_owned(),
            id,
            dir,
            fencing_token: lease.token,
            run_id,
            created_unix_ms: self.seam.unix_ms(),
            plan_fingerprint: bundle.identity().plan_fingerprint,
            schema_hash: bundle.published().hash(),
            stability: bundle.identity().stability,
            compute_ms,
            row_count,
            files: stamped(&table_dir, &committed.files)?,
            log_digest: Entry::hash_log(&table_dir)
                .map_err(|error| CacheError::io("read the commit in", &table_dir)(std::io::Error::other(error)))?,
            components: bundle.components().clone(),
            tags: tags.to_vec(),
            explanation,
        };
        match self.index.publish(&entry, seen)? {
            Publication::Published => {}
            Publication::Superseded => {
                return Err(CacheError::Superseded { name: bundle.name().to_owned() });
            }
        }
        fail_point!("view.published");
        unpublished.keep();
        Ok(UnderLease::Written(Arc::new(entry)))
    }

    fn held(&self, key: CacheKey) -> Result<Option<alluvium_contracts::EntryId>, CacheError> {
        Ok(match self.index.entry(key)? {
            Row::Found(entry) => Some(entry.id),
            Row::Absent | Row::Damaged => None,
        })
    }

    pub(crate) async fn lease(&self, resource: &[u8; 32], subject: &Subject<'_>) -> Result<Lease, CacheError> {
        let waiting = || self.begin(CacheOperation::LeaseWait, subject);
        Lease::acquire(&self.index, &self.leases(), resource, self.lease_deadline, &self.seam, waiting).await
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

/// A view whose entry is a table of the cache's.
fn staged(bundle: &PlanBundle) -> Subject<'_> {
    Subject::view(bundle, CachePolicy::DeltaStaging)
}

/// Removes a directory that was never published, however the write ended.
pub(crate) struct Unpublished(pub(crate) Option<PathBuf>);

impl Unpublished {
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        let Some(dir) = &self.0 else { return };
        let _ = std::fs::remove_dir_all(dir);
        // The view's own directory goes too where this was its only entry: it is removed only when empty.
        if let Some(parent) = dir.parent() {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

pub(crate) fn stamped(table_dir: &Path, files: &[DataFile]) -> Result<Vec<EntryFile>, CacheError> {
    files
        .iter()
        .map(|file| {
            let path = table_dir.join(&file.path);
            let io = |source| CacheError::Io { action: "stat the written file", path: path.clone(), source };
            let stamp = FileStamp::of(&path).map_err(io)?;
            let digest = match file.digest {
                Some(digest) => digest,
                None => alluvium_datasets::hash_file(&path).map_err(|error| io(std::io::Error::other(error)))?.0,
            };
            Ok(EntryFile {
                path: file.path.clone(),
                stamp,
                digest,
                row_count: file.row_count,
                partition_values: file.partition_values.clone(),
            })
        })
        .collect()
}

pub(crate) fn compute(name: &str) -> impl FnOnce(datafusion::common::DataFusionError) -> CacheError {
    let view = name.to_owned();
    move |source| CacheError::Compute { view, source: Box::new(source) }
}

/// Where the entries of a view under a key lie, relative to the cache root.
pub(crate) fn entry_parent(view: &str, key: CacheKey) -> String {
    format!("view_cache/{}__{}", segment(view), key.hex())
}

/// A name as one path segment that can neither escape nor collide: everything but letters, digits, `_` and `-` is
/// percent-encoded, and a name too long for a file system ends in its digest.
fn segment(name: &str) -> String {
    const LONGEST: usize = 120;
    let encoded: String = name
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    if encoded.len() <= LONGEST {
        return encoded;
    }
    let digest = alluvium_contracts::ContentDigest::of(name.as_bytes()).hex();
    format!("{}~{}", &encoded[..LONGEST - 17], &digest[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_neither_escape_nor_collide() {
        assert_eq!(segment("route_delays"), "route_delays");
        assert_eq!(segment("../x"), "%2E%2E%2Fx");
        assert_ne!(segment("a/b"), segment("a%2Fb"));
        let long = "x".repeat(300);
        assert!(segment(&long).len() <= 120);
        assert_ne!(segment(&long), segment(&format!("{long}y")));
    }
}
