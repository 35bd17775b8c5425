//! The health of a key-value store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::{Contract, Form, UnknownFields};
use crate::v1::sample;
use crate::words::words;

words!(
    /// Which entries go first when a store is full.
    EvictionPolicy {
        /// Those stored longest ago.
        LeastRecentlyStored => "least_recently_stored",
        /// Those read longest ago.
        LeastRecentlyUsed => "least_recently_used",
        /// Those read least often.
        LeastFrequentlyUsed => "least_frequently_used",
        /// None, unless they have expired.
        None => "none",
    }
);

/// One store of `kv/`: its settings, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvStats {
    /// When this was read, in milliseconds since 1970-01-01 UTC.
    pub event_time_unix_ms: i64,
    /// The kind of store: plan, extract, schema, repo_scan, runtime, queue, index or coordination.
    pub kind: String,
    /// The engine, such as `lmdb`.
    pub engine: String,
    /// The store's directory, relative to the key-value root.
    pub directory: String,
    /// Shards; 1 for a store that is not sharded.
    pub shards: u32,
    /// The store is culled beyond this many bytes; none for no limit.
    pub size_limit_bytes: Option<u64>,
    /// Entries that one write removes at most.
    pub cull_limit: u32,
    /// Which entries go first.
    pub eviction_policy: EvictionPolicy,
    /// Whether hits and misses are counted.
    pub statistics: bool,
    /// Whether entries are indexed by tag.
    pub tag_index: bool,
    /// Entries, expired ones included.
    pub entry_count: u64,
    /// Bytes of live keys and values.
    pub volume_bytes: u64,
    /// Bytes that the store's files take.
    pub file_bytes: u64,
    /// Lookups that found an entry, since counting began.
    pub hits: Option<u64>,
    /// Lookups that found none, since counting began.
    pub misses: Option<u64>,
    /// Entries that were evicted, since counting began.
    pub evictions: Option<u64>,
}

impl Contract for KvStats {
    const KIND: &'static str = "kv_stats";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a key-value store: its settings, its volume, its hits and misses";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            event_time_unix_ms: sample::UNIX_MS,
            kind: "plan".to_owned(),
            engine: "lmdb".to_owned(),
            directory: "plan".to_owned(),
            shards: 1,
            size_limit_bytes: Some(512 << 20),
            cull_limit: 10,
            eviction_policy: EvictionPolicy::LeastRecentlyStored,
            statistics: true,
            tag_index: true,
            entry_count: 22,
            volume_bytes: 1_204_881,
            file_bytes: 4 << 20,
            hits: Some(187),
            misses: Some(22),
            evictions: Some(0),
        }
    }
}
