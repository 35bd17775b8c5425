//! Snapshots of what the engine remembers of files: its caches as Delta tables, one row an entry, one version a snapshot.
//!
//! The tables have one schema, so that they can be asked together. A column that a cache has nothing to say for is NULL.

use std::path::PathBuf;
use std::sync::Arc;

use alluvium_contracts::{
    CacheCommitMetadata, CacheOperation, CachePolicy, CacheScope, CacheSnapshotEntry, DeltaWritePolicy, EngineCache,
    LookupResult, MaintenancePolicy, RunId, SchemaHash, SchemaMode, WriteMode,
};
use alluvium_plans::PublishedSchema;
use alluvium_profile::Session;
use alluvium_write_policy::{
    MIN_RETENTION_HOURS, Maintenance, ResolvedWritePolicy, TableWrite, TableWriteOutcome, commit_info, head_commit,
    inspect_table,
};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::execution::cache::CacheEntryInfo;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use fail::fail_point;
use object_store::ObjectMeta;
use serde_json::{Map, Value};
use tracing::Instrument as _;

use crate::cache::DeltaCache;
use crate::error::CacheError;
use crate::operation::{Subject, traceparent};

/// The directory of the tables in the cache root, which is their SQL schema too.
pub const SNAPSHOTS: &str = "metadata_cache_snapshots";

/// Snapshots between two pieces of upkeep.
const INTERVAL_COMMITS: u32 = 32;

/// The name of the table of a cache.
#[must_use]
pub const fn snapshot_name(cache: EngineCache) -> &'static str {
    match cache {
        EngineCache::Metadata => "df_metadata_cache",
        EngineCache::Statistics => "df_statistics_cache",
        EngineCache::ListFiles => "df_list_files_cache",
    }
}

/// The engine's caches.
pub const ENGINE_CACHES: [EngineCache; 3] = [EngineCache::Metadata, EngineCache::Statistics, EngineCache::ListFiles];

/// One entry of a cache.
struct Remembered {
    table_name: Option<String>,
    path: String,
    /// The file that it is of; none of a listing.
    file: Option<ObjectMeta>,
    file_count: Option<usize>,
    row_count: Option<usize>,
    details: Option<String>,
    cached_bytes: usize,
    hits: usize,
}

/// A snapshot that was committed.
struct Taken {
    delta_version: u64,
    schema_hash: Option<SchemaHash>,
}

impl DeltaCache {
    /// Writes what the engine's caches of `session` hold into their tables, a version each, and tells of each how that went.
    /// One that fails keeps none of the others from being taken.
    pub async fn snapshot_engine_caches(&self, session: &Session, run_id: RunId) -> Vec<CacheSnapshotEntry> {
        let mut taken = Vec::new();
        for cache in ENGINE_CACHES {
            taken.push(self.snapshot_engine_cache(session, cache, run_id).await);
        }
        taken
    }

    /// The tables that snapshots have been written to: names and directories.
    #[must_use]
    pub fn snapshot_tables(&self) -> Vec<(&'static str, PathBuf)> {
        let tables = ENGINE_CACHES.map(|cache| (snapshot_name(cache), self.snapshot_dir(cache)));
        tables.into_iter().filter(|(_, dir)| dir.join("_delta_log").is_dir()).collect()
    }

    /// The snapshots that a run committed, by their commits: one that was killed may have recorded none of them. What the
    /// entries of each came to together is not told.
    #[must_use]
    pub fn snapshots_committed_by(&self, run_id: RunId) -> Vec<CacheSnapshotEntry> {
        let committed = ENGINE_CACHES.into_iter().filter_map(|cache| {
            let dir = self.snapshot_dir(cache);
            let newest = head_commit(&dir).ok()??.version;
            // Others may have taken theirs since.
            let oldest = newest.saturating_sub(u64::from(INTERVAL_COMMITS));
            (oldest..=newest).rev().find_map(|version| {
                let info = commit_info(&dir, version).ok()?;
                let commit = CacheCommitMetadata::from_commit_info(&info).ok()??;
                (commit.run_id == run_id).then(|| self.committed_snapshot(cache, version, &info, &commit))
            })
        });
        committed.collect()
    }

    fn committed_snapshot(
        &self,
        cache: EngineCache,
        version: u64,
        info: &Map<String, Value>,
        commit: &CacheCommitMetadata,
    ) -> CacheSnapshotEntry {
        CacheSnapshotEntry {
            run_id: commit.run_id,
            event_time_unix_ms: info.get("timestamp").and_then(Value::as_i64).unwrap_or_else(|| self.seam.unix_ms()),
            snapshot_name: commit.name.clone(),
            engine_cache: cache,
            cache_path: format!("{SNAPSHOTS}/{}", commit.name),
            result: commit.cache_result,
            error_type: None,
            delta_version: Some(version),
            schema_hash: commit.schema_hash,
            row_count: commit.row_count,
            cached_bytes: None,
            hit_count: None,
            duration_ms: 0.0,
        }
    }

    async fn snapshot_engine_cache(&self, session: &Session, cache: EngineCache, run_id: RunId) -> CacheSnapshotEntry {
        let name = snapshot_name(cache);
        let subject = Subject { scope: CacheScope::Snapshot, policy: CachePolicy::DeltaStaging, name, cache_key: None };
        let taking = self.begin(CacheOperation::Snapshot, &subject);
        let event_time_unix_ms = self.seam.unix_ms();
        let remembered = remembered(session, cache);
        let writing = async {
            match self.write_snapshot(cache, &remembered, run_id, event_time_unix_ms).await {
                Err(_) if self.set_damaged_table_aside(cache).await => {
                    self.write_snapshot(cache, &remembered, run_id, event_time_unix_ms).await
                }
                written => written,
            }
        };
        let written = writing.instrument(taking.span().clone()).await;
        let cached_bytes = remembered.iter().map(|entry| entry.cached_bytes as u64).sum();
        let outcome = match &written {
            Ok(_) => taking.ok(Some(cached_bytes)),
            Err(error) => {
                tracing::warn!(error = error as &dyn std::error::Error, "the snapshot {name} could not be taken");
                taking.error(error.kind())
            }
        };
        let taken = written.ok();
        CacheSnapshotEntry {
            run_id,
            event_time_unix_ms,
            snapshot_name: name.to_owned(),
            engine_cache: cache,
            cache_path: format!("{SNAPSHOTS}/{name}"),
            result: outcome.result,
            error_type: outcome.error_type,
            delta_version: taken.as_ref().map(|taken| taken.delta_version),
            schema_hash: taken.as_ref().and_then(|taken| taken.schema_hash),
            row_count: taken.as_ref().map(|_| remembered.len() as u64),
            cached_bytes: Some(cached_bytes),
            hit_count: Some(remembered.iter().map(|entry| entry.hits as u64).sum()),
            duration_ms: outcome.duration_ms,
        }
    }

    async fn write_snapshot(
        &self,
        cache: EngineCache,
        remembered: &[Remembered],
        run_id: RunId,
        unix_ms: i64,
    ) -> Result<Taken, CacheError> {
        let (name, dir) = (snapshot_name(cache), self.snapshot_dir(cache));
        let batch = rows(remembered, run_id, unix_ms)
            .map_err(|source| CacheError::Artifact { artifact: name.to_owned(), source: Box::new(source.into()) })?;
        let schema = batch.schema();
        let policy = ResolvedWritePolicy::resolve(&policy(), &schema)
            .map_err(|source| CacheError::Policy { output: name.to_owned(), source })?;
        let schema_hash = schema_hash(&schema);
        let metadata = CacheCommitMetadata {
            cache_operation: CacheOperation::Snapshot,
            cache_scope: CacheScope::Snapshot,
            cache_policy: CachePolicy::DeltaStaging,
            cache_result: LookupResult::Ok,
            name: name.to_owned(),
            run_id,
            cache_key: None,
            schema_hash,
            plan_hash: None,
            layout_hash: Some(policy.layout_hash()),
            delta_inputs: Vec::new(),
            artifact_ids: Vec::new(),
            fencing_token: None,
            traceparent: traceparent(),
            row_count: Some(remembered.len() as u64),
            content_hash: None,
            compute_ms: None,
            stability: None,
            components: Default::default(),
            unstable_rows: Default::default(),
            tags: Vec::new(),
        };
        let stream = futures::stream::iter([Ok(batch)]);
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream));
        let commit = |source| CacheError::Commit { name: name.to_owned(), path: dir.clone(), source };
        let write = TableWrite::new(&dir, schema, vec![stream], &policy).metadata(metadata.to_map());
        fail_point!("snapshot.taken");
        match write.run().await.map_err(commit)? {
            TableWriteOutcome::Committed(committed) => {
                fail_point!("snapshot.committed");
                // Old versions go, so that a run costs the same however many there were.
                let kept = Maintenance::keep_up(&dir, committed.version, &self::policy().maintenance, &self.seam).await;
                if let Err(error) = kept {
                    tracing::warn!(error = &error as &dyn std::error::Error, "upkeep of {} failed", dir.display());
                }
                Ok(Taken { delta_version: committed.version, schema_hash })
            }
            // No transaction, mode or version was asked for that could keep it from landing.
            TableWriteOutcome::AlreadyApplied
            | TableWriteOutcome::Ignored { .. }
            | TableWriteOutcome::Conflict { .. } => Err(CacheError::Contended { output: name.to_owned(), attempts: 1 }),
        }
    }

    /// Moves a table whose log cannot be read to where nobody looks for it. `false`: there is none, or it can be read.
    async fn set_damaged_table_aside(&self, cache: EngineCache) -> bool {
        let (name, dir) = (snapshot_name(cache), self.snapshot_dir(cache));
        if !dir.join("_delta_log").is_dir() || inspect_table(&dir, None).await.is_ok() {
            return false;
        }
        let aside = self.root.path().join("quarantine");
        let to = aside.join(self.seam.entry_id().to_string());
        match std::fs::create_dir_all(&aside).and_then(|()| std::fs::rename(&dir, &to)) {
            Ok(()) => {
                self.notice(format!("the snapshots in {name} were damaged; they are set aside in {}", to.display()));
                true
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "{} cannot be set aside", dir.display());
                false
            }
        }
    }

    fn snapshot_dir(&self, cache: EngineCache) -> PathBuf {
        self.root.path().join(SNAPSHOTS).join(snapshot_name(cache))
    }
}

fn policy() -> DeltaWritePolicy {
    DeltaWritePolicy {
        mode: WriteMode::Overwrite,
        schema_mode: SchemaMode::Overwrite,
        maintenance: MaintenancePolicy {
            checkpoint_interval_commits: Some(INTERVAL_COMMITS),
            vacuum_retention_hours: Some(MIN_RETENTION_HOURS),
            log_retention_hours: Some(MIN_RETENTION_HOURS),
            ..MaintenancePolicy::default()
        },
        ..DeltaWritePolicy::default()
    }
}

fn schema_hash(schema: &SchemaRef) -> Option<SchemaHash> {
    let schema = DFSchema::try_from(Arc::clone(schema)).ok()?;
    PublishedSchema::of(&schema).ok().map(|published| published.hash())
}

/// The entries of a cache, by path.
fn remembered(session: &Session, cache: EngineCache) -> Vec<Remembered> {
    let runtime = session.context().runtime_env();
    let caches = &runtime.cache_manager;
    let mut entries: Vec<Remembered> = match cache {
        EngineCache::Metadata => caches
            .get_file_metadata_cache()
            .list_entries()
            .into_iter()
            .map(|(path, info)| {
                let extra: std::collections::BTreeMap<_, _> =
                    info.value.file_metadata.extra_info().into_iter().collect();
                Remembered {
                    file: Some(info.value.meta.clone()),
                    details: Some(serde_json::json!(extra).to_string()),
                    ..Remembered::of(path.as_ref(), &info)
                }
            })
            .collect(),
        EngineCache::Statistics => caches
            .get_file_statistic_cache()
            .map(|cache| cache.list_entries())
            .into_iter()
            .flatten()
            .map(|(key, info)| {
                let statistics = &info.value.statistics;
                Remembered {
                    table_name: key.table.as_ref().map(ToString::to_string),
                    file: Some(info.value.meta.clone()),
                    row_count: statistics.num_rows.get_value().copied(),
                    details: Some(
                        serde_json::json!({
                            "num_rows": statistics.num_rows.to_string(),
                            "total_byte_size": statistics.total_byte_size.to_string(),
                            "column_count": statistics.column_statistics.len(),
                        })
                        .to_string(),
                    ),
                    ..Remembered::of(key.path.as_ref(), &info)
                }
            })
            .collect(),
        EngineCache::ListFiles => caches
            .get_list_files_cache()
            .map(|cache| cache.list_entries())
            .into_iter()
            .flatten()
            .map(|(key, info)| Remembered {
                table_name: key.table.as_ref().map(ToString::to_string),
                file_count: Some(info.value.files.len()),
                ..Remembered::of(key.path.as_ref(), &info)
            })
            .collect(),
    };
    entries.sort_by(|one, other| (&one.path, &one.table_name).cmp(&(&other.path, &other.table_name)));
    entries
}

impl Remembered {
    fn of<V>(path: &str, info: &CacheEntryInfo<V>) -> Self {
        Self {
            table_name: None,
            path: path.to_owned(),
            file: None,
            file_count: None,
            row_count: None,
            details: None,
            cached_bytes: info.size_bytes,
            hits: info.hits,
        }
    }
}

fn rows(entries: &[Remembered], run_id: RunId, unix_ms: i64) -> Result<RecordBatch, arrow::error::ArrowError> {
    let text = |of: &dyn Fn(&Remembered) -> Option<String>| -> ArrayRef {
        Arc::new(entries.iter().map(of).collect::<StringArray>())
    };
    let count = |of: &dyn Fn(&Remembered) -> Option<i64>| -> ArrayRef {
        Arc::new(entries.iter().map(of).collect::<Int64Array>())
    };
    let whole = |count: usize| i64::try_from(count).ok();
    let columns = [
        ("run_id", text(&|_| Some(run_id.to_string()))),
        ("event_time_unix_ms", count(&|_| Some(unix_ms))),
        ("table_name", text(&|entry| entry.table_name.clone())),
        ("path", text(&|entry| Some(entry.path.clone()))),
        ("file_size_bytes", count(&|entry| i64::try_from(entry.file.as_ref()?.size).ok())),
        ("last_modified_unix_ms", count(&|entry| Some(entry.file.as_ref()?.last_modified.timestamp_millis()))),
        ("e_tag", text(&|entry| entry.file.as_ref()?.e_tag.clone())),
        ("file_count", count(&|entry| entry.file_count.and_then(whole))),
        ("row_count", count(&|entry| entry.row_count.and_then(whole))),
        ("details", text(&|entry| entry.details.clone())),
        ("cached_bytes", count(&|entry| whole(entry.cached_bytes))),
        ("hit_count", count(&|entry| whole(entry.hits))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
}
