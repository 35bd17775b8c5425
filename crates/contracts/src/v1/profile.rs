//! `[profile]` of the pipeline file: how the engine runs, what SQL may do, and where caches lie.
//!
//! Every field may be left out; `alluvium-profile` says what it then is, and which fields can move a cache key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::at_least_one_if_any;
use crate::v1::kv::EvictionPolicy;
use crate::words::words;

/// `[profile]`: how the engine runs, what SQL may do, and where caches lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileSpec {
    /// A free label, shown in reports.
    pub name: Option<String>,
    /// Values to start from. Default: `default`.
    pub preset: Preset,
    /// Where caches lie. Default: `.alluvium` beside the file; `--cache-root` and `ALLUVIUM_CACHE_ROOT` come first.
    pub cache_output_root: Option<String>,
    /// Where key-value stores lie: always a local directory. Default: `kv` in the cache root.
    pub kv_root: Option<String>,
    /// Partitions that a query runs in. Default: the preset's.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub target_partitions: Option<u32>,
    /// Rows that operators hand on at once. Default: 8192.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub batch_size: Option<u32>,
    /// Memory that queries may hold before they spill, in bytes. Default: the preset's.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub memory_limit_bytes: Option<u64>,
    /// How that memory is shared. Default: `fair`.
    pub memory_pool: Option<MemoryPoolKind>,
    /// Where queries spill to. Default: the system's directory for temporary files.
    pub spill_directory: Option<String>,
    /// Bytes that one session may spill. Default: 100 GiB.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub spill_limit_bytes: Option<u64>,
    /// The catalog of names without one. Default: `datafusion`.
    pub default_catalog: Option<String>,
    /// The schema of names without one. Default: `public`.
    pub default_schema: Option<String>,
    /// Whether `information_schema` answers. Default: true.
    pub information_schema: Option<bool>,
    /// What SQL may do beside asking. Default: `read_only`.
    pub sql_policy: Option<SqlPolicy>,
    /// Where diagnostics go: `none`, `memory`, `otel` or `file:PATH`. Default: `none`.
    pub diagnostics: Option<String>,
    /// Whether each operator of a query has a span of its own, where traces are recorded. Default: false.
    pub query_spans: Option<bool>,
    /// How Parquet files are read.
    pub parquet: ParquetSpec,
    /// What the engine remembers of files while a session lives.
    pub engine_caches: EngineCachesSpec,
    /// When what it remembers is written down, as tables. Default: `off`.
    pub metadata_snapshots: Option<MetadataSnapshots>,
    /// Whether the plans of views are kept, so that a query that was planned before is not planned again. Default: `off`.
    pub stored_plans: Option<StoredPlans>,
    /// How long a process that computes an entry or publishes an output has for it, in seconds: then one that waits for it takes over,
    /// and what the first one computed is published only if the second leaves nothing. More than any view takes. Default: 600.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub lease_deadline_seconds: Option<u64>,
    /// Parts of the engine that can be switched off.
    pub features: FeatureSpec,
    /// The key-value stores, kind by kind.
    pub kv: KvSpec,
}

/// Values to start from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Two partitions and 1 GiB: a laptop that does other things too.
    Dev,
    /// One partition a core; no memory limit.
    #[default]
    Default,
    /// One partition a core and 70 % of the machine's memory.
    Prod,
}

words!(
    /// How operators share the memory of a session.
    MemoryPoolKind {
        /// Operators that can spill share evenly what is left.
        Fair => "fair",
        /// First come, first served.
        Greedy => "greedy",
    }
);

words!(
    /// What SQL may do; each may do what the ones before it may.
    SqlPolicy {
        /// Ask: queries, EXPLAIN, DESCRIBE, SHOW, and EXECUTE of a prepared query.
        ReadOnly => "read_only",
        /// And change its session: SET, RESET, PREPARE, DEALLOCATE, transactions.
        Service => "service",
        /// And write: INSERT, UPDATE, DELETE, MERGE, TRUNCATE, COPY.
        Write => "write",
        /// And define: CREATE, DROP, ALTER, SELECT INTO, and anything else.
        Admin => "admin",
    }
);

/// `[profile.parquet]`: how Parquet files are read. Options that can change rows are declared by each source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParquetSpec {
    /// Whether filters run while a file is decoded. Default: false.
    pub pushdown_filters: Option<bool>,
    /// Whether the engine orders such filters by what they cost. Default: false.
    pub reorder_filters: Option<bool>,
    /// Bytes at the end of a file that are read at once in search of its footer. Default: 524288.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub metadata_size_hint_bytes: Option<u64>,
    /// Bytes of decoded columns that a filter may keep for the projection. Default: the engine's.
    pub predicate_cache_bytes: Option<u64>,
}

words!(
    /// How much the engine trusts a file to be what it was a moment ago.
    EngineCachePreset {
        /// Not at all: listings, statistics and footers are read anew for each query.
        Strict => "strict",
        /// Listings for 30 seconds; statistics and footers while a file keeps its size and time.
        AlwaysLatest => "always_latest",
        /// Listings never, because pinned lists name the files; statistics and footers as `always_latest`.
        SnapshotPinned => "snapshot_pinned",
    }
);

words!(
    /// When snapshots of the engine's caches are taken.
    MetadataSnapshots {
        /// Never.
        Off => "off",
        /// When a run ends, of its session.
        OnRunEnd => "on_run_end",
    }
);

words!(
    /// Whether plans are kept, and how.
    StoredPlans {
        /// They are not: every query is planned.
        Off => "off",
        /// In the engine's own encoding, where it has one for all of a plan.
        Engine => "engine",
        /// As Substrait, where that carries all of a plan; else in the engine's own encoding. Builds with the feature
        /// `substrait` can.
        Substrait => "substrait",
    }
);

/// `[profile.engine_caches]`: what the engine remembers of files while a session lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineCachesSpec {
    /// Limits to start from. Default: `strict`.
    pub preset: Option<EngineCachePreset>,
    /// Bytes of footers; 0: none. Default: the preset's.
    pub metadata_limit_bytes: Option<u64>,
    /// Bytes of statistics; 0: none. Default: the preset's.
    pub statistics_limit_bytes: Option<u64>,
    /// Bytes of listings; 0: none. Default: the preset's.
    pub listing_limit_bytes: Option<u64>,
    /// How long a listing may hide a new file, in seconds. Default: 30.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub listing_ttl_seconds: Option<u64>,
}

/// `[profile.features]`: parts of the engine that can be switched off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureSpec {
    /// Whether a top-k filters its scan by what it has found. Default: true.
    pub topk_dynamic_filters: Option<bool>,
    /// Whether a hash join filters its probe side's scan by its build side. Default: true.
    pub join_dynamic_filters: Option<bool>,
    /// Whether a MIN or MAX filters its scan by what it has found. Default: true.
    pub aggregate_dynamic_filters: Option<bool>,
}

/// `[profile.kv]`: the key-value stores, kind by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KvSpec {
    /// Stored plans. Default: 512 MiB.
    pub plan: KvCacheSpec,
    /// What was extracted from files. Default: 8 GiB, 24 hours, 8 shards.
    pub extract: KvCacheSpec,
    /// What was learned of schemas. Default: 256 MiB, 5 minutes.
    pub schema: KvCacheSpec,
    /// Listings of repositories. Default: 512 MiB, 30 minutes.
    pub repo_scan: KvCacheSpec,
    /// What was measured of files and artifacts. Default: 256 MiB, 24 hours.
    pub runtime: KvCacheSpec,
    /// Events on their way. Default: 128 MiB.
    pub queue: KvStoreSpec,
    /// Which entries there are. Default: 128 MiB.
    pub index: KvStoreSpec,
    /// Locks and counters. Default: 64 MiB.
    pub coordination: KvStoreSpec,
}

/// `[profile.kv.KIND]` of a kind that may forget: a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KvCacheSpec {
    /// Bytes beyond which entries are evicted.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub size_limit_bytes: Option<u64>,
    /// How long an entry is kept, in seconds, unless whoever stores it says otherwise; 0: for ever.
    pub ttl_seconds: Option<u64>,
    /// Stores that the entries are spread over, so that several processes write at once.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub shards: Option<u32>,
    /// Entries that one write removes at most; 0: none. Default: 10.
    pub cull_limit: Option<u32>,
    /// Which entries go first. Default: `least_recently_stored`.
    pub eviction_policy: Option<EvictionPolicy>,
    /// Whether hits and misses are counted. Default: true.
    pub statistics: Option<bool>,
}

/// `[profile.kv.KIND]` of a kind that never forgets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KvStoreSpec {
    /// Bytes beyond which `alluvium doctor` warns. Nothing is evicted, and no write is refused.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub size_limit_bytes: Option<u64>,
}
