//! The rows of the ledgers, which wait as events in the outbox until they are drained.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cache::{CachePolicy, CacheScope, ViewResult};
use crate::digest::{CacheKey, PlanFingerprint, SchemaHash};
use crate::documents::RunResult;
use crate::envelope::Contract;
use crate::ids::RunId;

/// One row of `alluvium.cache_inventory`: what became of one view or output in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheInventoryEntry {
    /// The run.
    pub run_id: RunId,
    /// When the row was made, in milliseconds since 1970-01-01 UTC.
    pub event_time_unix_ms: i64,
    /// `view` or `output`.
    pub cache_scope: CacheScope,
    /// The view (for an output, the one that it publishes).
    pub view_name: String,
    /// The output, where the row is about one.
    pub output_name: Option<String>,
    /// The view's policy.
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
}

impl Contract for CacheInventoryEntry {
    const KIND: &'static str = "cache_inventory_entry";
    const VERSION: u32 = 1;
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
    /// When it ended, in milliseconds since 1970-01-01 UTC. For a killed run, when it was found.
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
}

/// What an outbox holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "ledger", content = "row", rename_all = "snake_case")]
pub enum LedgerEvent {
    /// A row of `cache_inventory`.
    CacheInventory(CacheInventoryEntry),
    /// A row of `cache_runs`.
    CacheRuns(CacheRunSummary),
}
