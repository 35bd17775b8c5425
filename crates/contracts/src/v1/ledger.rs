//! The rows of the ledgers: those that are written wait as events ([`LedgerEvent`]) in the outbox until they are drained.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{ArtifactId, CacheKey, PlanFingerprint, SchemaHash};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::artifact::CacheArtifact;
use crate::v1::cache::{CachePolicy, CacheScope, LookupResult, ViewResult};
use crate::v1::documents::RunResult;
use crate::v1::manifest::RunManifest;
use crate::v1::sample;
use crate::words::words;

/// One row of `alluvium.cache_inventory`: what became of one view, output, dataset or artifact in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheInventoryEntry {
    /// The run.
    pub run_id: RunId,
    /// When the row was made, in milliseconds since 1970-01-01 UTC.
    pub event_time_unix_ms: i64,
    /// `view`, `output`, `dataset` or `artifact`.
    pub cache_scope: CacheScope,
    /// The view (for an output, the one that it publishes), dataset or artifact.
    pub view_name: String,
    /// The output, where the row is about one.
    pub output_name: Option<String>,
    /// Its policy; for an output, that of its view.
    pub cache_policy: CachePolicy,
    /// What became of it.
    pub result: ViewResult,
    /// Why: an explanation of a miss, a reason for uncacheability, or the error.
    pub reason: Option<String>,
    /// The cache key, where there is one.
    pub cache_key: Option<CacheKey>,
    /// The plan fingerprint, where there is one.
    pub plan_fingerprint: Option<PlanFingerprint>,
    /// The digest of the published schema.
    pub schema_hash: Option<SchemaHash>,
    /// The entry's directory relative to the cache root, or the output's path as written in the pipeline file.
    pub cache_path: Option<String>,
    /// The Delta version of the table after the run.
    pub delta_version: Option<u64>,
    /// Rows in the table.
    pub row_count: Option<u64>,
    /// Data files in the table.
    pub file_count: Option<u64>,
    /// Bytes in those files.
    pub size_bytes: Option<u64>,
    /// How long it took in this run.
    pub duration_ms: f64,
    /// How much computing a hit saved.
    pub saved_ms: Option<f64>,
    /// The plan bundle that it was computed by: a document in `alluvium.cache_artifacts`. Null where no plan computes it, or
    /// nothing was computed or found.
    pub plan_artifact_id: Option<ArtifactId>,
}

impl Contract for CacheInventoryEntry {
    const KIND: &'static str = "cache_inventory_entry";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a row of alluvium.cache_inventory";
    const FORM: Form = Form::Bare;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            run_id: sample::run_id(),
            event_time_unix_ms: sample::UNIX_MS,
            cache_scope: CacheScope::View,
            view_name: "daily_delays".to_owned(),
            output_name: None,
            cache_policy: CachePolicy::DeltaStaging,
            result: ViewResult::Write,
            reason: Some("source flights: version 41 → 42".to_owned()),
            cache_key: Some(CacheKey::of(b"daily_delays")),
            plan_fingerprint: Some(PlanFingerprint::of(b"daily_delays")),
            schema_hash: Some(SchemaHash::of(b"daily_delays")),
            cache_path: Some("view_cache/daily_delays__5f/1c3f7a52-8f0e-4b6d-a1c4-0e5d2b7f9a61".to_owned()),
            delta_version: Some(0),
            row_count: Some(181),
            file_count: Some(1),
            size_bytes: Some(48_213),
            duration_ms: 430.25,
            saved_ms: None,
            plan_artifact_id: Some(ArtifactId::of(b"daily_delays")),
        }
    }
}

/// One row of `alluvium.cache_runs`: one run as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheRunSummary {
    /// The run.
    pub run_id: RunId,
    /// The profile's label.
    pub profile_name: Option<String>,
    /// When it started, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: i64,
    /// When it ended, in milliseconds since 1970-01-01 UTC. For a killed run, the last sign of life that it left.
    pub finished_unix_ms: i64,
    /// How it ended.
    pub result: RunResult,
    /// Views served from the cache.
    pub hit_count: u64,
    /// Views computed and published as entries.
    pub write_count: u64,
    /// Views computed for this run alone.
    pub computed_count: u64,
    /// Views not tried.
    pub skipped_count: u64,
    /// Views that failed.
    pub error_count: u64,
    /// Computing that hits saved.
    pub saved_ms: f64,
}

impl Contract for CacheRunSummary {
    const KIND: &'static str = "cache_run_summary";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a row of alluvium.cache_runs";
    const FORM: Form = Form::Bare;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            run_id: sample::run_id(),
            profile_name: Some("nightly".to_owned()),
            started_unix_ms: sample::UNIX_MS,
            finished_unix_ms: sample::UNIX_MS + 2_431,
            result: RunResult::Succeeded,
            hit_count: 7,
            write_count: 3,
            computed_count: 1,
            skipped_count: 0,
            error_count: 0,
            saved_ms: 9_120.5,
        }
    }
}

words!(
    /// Which of the engine's caches a snapshot is of.
    EngineCache {
        /// Metadata of files: Parquet footers.
        Metadata => "metadata",
        /// Statistics of files.
        Statistics => "statistics",
        /// Listings of directories.
        ListFiles => "list_files",
    }
);

/// One row of `alluvium.cache_snapshots`: a snapshot of one of the engine's caches, kept as a Delta table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheSnapshotEntry {
    /// The run at whose end it was taken.
    pub run_id: RunId,
    /// When it was taken, in milliseconds since 1970-01-01 UTC.
    pub event_time_unix_ms: i64,
    /// The name under which the snapshot is registered, such as `df_metadata_cache`.
    pub snapshot_name: String,
    /// The cache that it is of.
    pub engine_cache: EngineCache,
    /// The table's directory relative to the cache root.
    pub cache_path: String,
    /// How it ended: `ok` or `error`.
    pub result: LookupResult,
    /// A low-cardinality class of the error, when there was one.
    pub error_type: Option<String>,
    /// The version of the table that holds it; none when it failed.
    pub delta_version: Option<u64>,
    /// The digest of the table's schema.
    pub schema_hash: Option<SchemaHash>,
    /// Entries of the cache, one row each.
    pub row_count: Option<u64>,
    /// What the cache itself says it holds, in bytes.
    pub cached_bytes: Option<u64>,
    /// Lookups that found an entry, over all entries.
    pub hit_count: Option<u64>,
    /// How long it took.
    pub duration_ms: f64,
}

impl Contract for CacheSnapshotEntry {
    const KIND: &'static str = "cache_snapshot_entry";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a row of alluvium.cache_snapshots";
    const FORM: Form = Form::Bare;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            run_id: sample::run_id(),
            event_time_unix_ms: sample::UNIX_MS,
            snapshot_name: "df_metadata_cache".to_owned(),
            engine_cache: EngineCache::Metadata,
            cache_path: "metadata_cache_snapshots/df_metadata_cache".to_owned(),
            result: LookupResult::Ok,
            error_type: None,
            delta_version: Some(11),
            schema_hash: Some(SchemaHash::of(b"df_metadata_cache")),
            row_count: Some(6),
            cached_bytes: Some(181_204),
            hit_count: Some(30),
            duration_ms: 12.5,
        }
    }
}

/// What an outbox holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "ledger", content = "row", rename_all = "snake_case")]
pub enum LedgerEvent {
    /// A row of `cache_inventory`.
    CacheInventory(CacheInventoryEntry),
    /// A row of `cache_runs`.
    CacheRuns(CacheRunSummary),
    /// A row of `run_manifests`.
    RunManifests(Box<RunManifest>),
    /// A row of `cache_artifacts`.
    CacheArtifacts(CacheArtifact),
    /// A row of `cache_snapshots`.
    CacheSnapshots(CacheSnapshotEntry),
}
