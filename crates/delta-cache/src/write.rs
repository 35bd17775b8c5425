//! The life of an entry from lease to publication, whatever its scope.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_contracts::{
    CacheCommitMetadata, CacheKey, CacheOperation, CacheOutcome, CachePolicy, DeltaWritePolicy, EntryId, LookupResult,
    MissExplanation, RunId,
};
use alluvium_datasets::FileStamp;
use alluvium_plans::PlanBundle;
use alluvium_telemetry::{CacheSpan, Stopwatch};
use alluvium_write_policy::{DataFile, ResolvedWritePolicy, WriteError, commit_create, write_files};
use datafusion::physical_plan::SendableRecordBatchStream;
use fail::fail_point;
use tracing::Instrument as _;

use crate::cache::{BeforePublish, DeltaCache, Written};
use crate::content::{Content, Demand};
use crate::entry::{Entry, EntryFile};
use crate::error::{CacheError, SUPERSEDED};
use crate::index::{Publication, Row};
use crate::lease::{Lease, Leases};
use crate::operation::{Subject, traceparent};
use crate::place::entry_parent;
use crate::scope::EntryScope;

/// What became of asking for the lease on a cold key.
pub(crate) enum Turn {
    /// It is ours to compute.
    Ours(Leased),
    /// Somebody else published it while this one waited; by this lookup.
    Found(Arc<Entry>, CacheOutcome),
}

/// What a publication came to.
pub(crate) enum Placed {
    /// Ours stands.
    Ours(Arc<Entry>),
    /// The lease was taken over, and this is what its next owner published.
    Theirs(Arc<Entry>),
}

/// How often a publication is tried by one who was overtaken each time.
const ATTEMPTS: u32 = 3;

/// A key that nobody else computes.
pub(crate) struct Leased {
    lease: Lease,
    /// The entry that held the key then.
    seen: Option<EntryId>,
    explanation: Option<MissExplanation>,
    /// Since it could begin to compute.
    watch: Stopwatch,
}

impl DeltaCache {
    /// Computes and publishes `content`: lease, re-check, `streams`, fresh directory, one Delta commit, one publishing
    /// transaction.
    pub(crate) async fn write_content(
        &self,
        content: &Content<'_>,
        demand: Demand<'_>,
        streams: impl Future<Output = Result<Vec<SendableRecordBatchStream>, CacheError>>,
        before_publish: BeforePublish<'_>,
    ) -> Result<Written, CacheError> {
        // Waiting for the lease is no part of a write: whoever held it may have published, and then there is none.
        let leased = match self.turn(content, demand).await? {
            Turn::Ours(leased) => leased,
            Turn::Found(entry, outcome) => return Ok(Written::Shared(entry, outcome)),
        };
        let writing = self.begin(CacheOperation::Write, &content.staged());
        let written = self.publish_content(content, demand, leased, streams, before_publish);
        match written.instrument(writing.span().clone()).await {
            Ok(Placed::Ours(entry)) => {
                let bytes = entry.size_bytes();
                Ok(Written::Computed(entry, writing.ok(Some(bytes))))
            }
            Ok(Placed::Theirs(entry)) => {
                let outcome = self.overtaken(content, writing);
                Ok(Written::Shared(entry, outcome))
            }
            Err(error) => {
                writing.error(error.kind());
                Err(error)
            }
        }
    }

    /// The outcome of a write whose rows are lost, because the lease was taken over: that of finding those of the next owner.
    pub(crate) fn overtaken(&self, content: &Content<'_>, writing: CacheSpan) -> CacheOutcome {
        writing.error(SUPERSEDED);
        self.begin(CacheOperation::Read, &content.staged()).hit(None)
    }

    /// Takes the lease on the key, and looks again: whoever held it may have published. Failing is the write's failure.
    pub(crate) async fn turn(&self, content: &Content<'_>, demand: Demand<'_>) -> Result<Turn, CacheError> {
        let watch = self.seam.stopwatch();
        self.try_turn(content, demand).await.inspect_err(|error| {
            self.begin(CacheOperation::Write, &content.staged()).since(watch).error(error.kind());
        })
    }

    async fn try_turn(&self, content: &Content<'_>, demand: Demand<'_>) -> Result<Turn, CacheError> {
        let Content { scope, key, .. } = *content;
        let Demand { run_id, fresh, .. } = demand;
        let seen_before = self.held(scope, key)?;
        let lease = self.lease(key.as_bytes(), &content.staged()).await?;
        fail_point!("view.lease.acquired");
        // Whoever held the lease before may have published; a fresh run too takes what is newer than itself, or its own for another view.
        let seen = self.held(scope, key)?;
        if !fresh || seen != seen_before || self.is_own(scope, key, run_id)? {
            let watch = self.seam.stopwatch();
            let found = match self.valid_entry(content)? {
                None if !fresh && lease.is_exclusive() => self.adopt(content)?,
                found => found,
            };
            // The same lookup again counts only where it has another answer.
            if let Some(entry) = found {
                let reading = self.begin(CacheOperation::Read, &content.staged()).since(watch);
                return Ok(Turn::Found(entry, reading.hit(None)));
            }
        }
        let seen = self.held(scope, key)?;
        let differences = || self.differences(scope, content.name, Some(key), content.components, content.bundle);
        // What is there under the key and not taken is anew, and no miss.
        let explanation = if fresh || seen.is_some() { None } else { Some(differences()?) };
        Ok(Turn::Ours(Leased { lease, seen, explanation, watch: self.seam.stopwatch() }))
    }

    /// Writes what `streams` yield, in published batches, and publishes it. If the lease was taken over meanwhile, what its next owner
    /// published is the answer, or else what was written here, once the lease is had again.
    pub(crate) async fn publish_content(
        &self,
        content: &Content<'_>,
        demand: Demand<'_>,
        leased: Leased,
        streams: impl Future<Output = Result<Vec<SendableRecordBatchStream>, CacheError>>,
        before_publish: BeforePublish<'_>,
    ) -> Result<Placed, CacheError> {
        let Leased { mut lease, mut seen, explanation, watch } = leased;
        let Content { scope, name, key, .. } = *content;
        let Demand { published, run_id, fresh: _ } = demand;
        let id = self.seam.entry_id();
        let dir = format!("{}/{id}", entry_parent(scope, name, key));
        let table_dir = self.root.path().join(&dir);
        let uncommitted = Uncommitted(Some(table_dir.clone()));

        let schema = Arc::clone(published.arrow());
        let streams = streams.await?;
        let policy = ResolvedWritePolicy::resolve(&DeltaWritePolicy::default(), &schema)
            .map_err(|source| CacheError::Policy { output: name.to_owned(), source })?;
        let staged =
            write_files(&table_dir, Arc::clone(&schema), streams, &policy).await.map_err(|source| match source {
                WriteError::Stream { source } => content.uncomputed(*source),
                source => CacheError::Write { name: name.to_owned(), path: table_dir.clone(), source },
            })?;
        fail_point!("view.files.written");
        before_publish().map_err(|source| CacheError::SourceChanged { name: name.to_owned(), source })?;
        let row_count = staged.row_count();
        let compute_ms = watch.elapsed_ms();
        let plan_artifact_id = content.plan_artifact_id();
        let metadata = CacheCommitMetadata {
            cache_operation: CacheOperation::Write,
            cache_scope: scope.word(),
            cache_policy: CachePolicy::DeltaStaging,
            cache_result: LookupResult::Ok,
            name: name.to_owned(),
            run_id,
            cache_key: Some(key),
            schema_hash: Some(published.hash()),
            plan_hash: content.plan_fingerprint,
            layout_hash: Some(policy.layout_hash()),
            delta_inputs: content.inputs.to_vec(),
            artifact_ids: plan_artifact_id.into_iter().collect(),
            fencing_token: Some(lease.token),
            traceparent: traceparent(),
            row_count: Some(row_count),
            // A hit is checked by the digests of its files.
            content_hash: None,
            compute_ms: Some(compute_ms),
            stability: Some(content.stability),
            components: content.components.clone(),
            unstable_rows: content.unstable_rows.cloned().unwrap_or_default(),
            tags: content.tags.to_vec(),
        };
        fail_point!("view.commit.before");
        let committed = commit_create(&table_dir, schema, staged, &policy, &metadata.to_map())
            .await
            .map_err(|source| CacheError::Commit { name: name.to_owned(), path: table_dir.clone(), source })?;
        fail_point!("view.commit.after");
        // Whoever comes here without a lease in its way finds it by its commit, and may scan it: what is not published is collected.
        uncommitted.keep();
        let entry = Entry {
            scope,
            key,
            view: name.to_owned(),
            id,
            dir,
            fencing_token: lease.token,
            run_id,
            created_unix_ms: self.seam.unix_ms(),
            plan_fingerprint: content.plan_fingerprint,
            plan_artifact_id,
            schema_hash: published.hash(),
            stability: content.stability,
            compute_ms,
            row_count,
            files: stamped(&table_dir, &committed.files)?,
            log_digest: Entry::hash_log(&table_dir)
                .map_err(|error| CacheError::io("read the commit in", &table_dir)(std::io::Error::other(error)))?,
            components: content.components.clone(),
            unstable_rows: content.unstable_rows.cloned().unwrap_or_default(),
            tags: content.tags.to_vec(),
            explanation,
        };
        let outline = content.bundle.and_then(PlanBundle::outline);
        for _ in 0..ATTEMPTS {
            match self.index.publish(&entry, outline.as_ref(), seen, lease.token)? {
                Publication::Published => {
                    fail_point!("view.published");
                    return Ok(Placed::Ours(Arc::new(entry)));
                }
                Publication::Superseded => {}
            }
            // Whoever took the lease over computes the same, or has published it. This one may hold the same lock: it lets go first.
            drop(lease);
            lease = self.lease(key.as_bytes(), &content.staged()).await?;
            let held = self.held(scope, key)?;
            if held != seen
                && let Some(winner) = self.valid_entry(content)?
                && winner.id != id
            {
                return Ok(Placed::Theirs(winner));
            }
            // They left nothing. What is committed here stands for its key, whatever became of the sources since: see `crate::adopt`.
            seen = self.held(scope, key)?;
        }
        Err(CacheError::Superseded { name: name.to_owned() })
    }

    fn held(&self, scope: EntryScope, key: CacheKey) -> Result<Option<EntryId>, CacheError> {
        Ok(match self.index.entry(scope, key)? {
            Row::Found(entry) => Some(entry.id),
            Row::Absent | Row::Damaged => None,
        })
    }

    /// Whether this run has written the entry of a key for another view that says the same. Other scopes are given their rows.
    fn is_own(&self, scope: EntryScope, key: CacheKey, run_id: RunId) -> Result<bool, CacheError> {
        let is_own = |row| matches!(row, Row::Found(Entry { run_id: writer, .. }) if writer == run_id);
        Ok(scope == EntryScope::View && is_own(self.index.entry(scope, key)?))
    }

    pub(crate) async fn lease(&self, resource: &[u8; 32], subject: &Subject<'_>) -> Result<Lease, CacheError> {
        let waiting = || self.begin(CacheOperation::LeaseWait, subject);
        self.leases(&self.lease_dir()).acquire(resource, waiting).await
    }

    pub(crate) fn leases<'a>(&'a self, dir: &'a Path) -> Leases<'a> {
        Leases { index: &self.index, dir, length: self.lease_deadline, seam: &self.seam }
    }

    pub(crate) fn lease_dir(&self) -> PathBuf {
        self.root.path().join("leases")
    }
}

/// The directory of an entry that goes unless it is committed.
struct Uncommitted(Option<PathBuf>);

impl Uncommitted {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Uncommitted {
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
