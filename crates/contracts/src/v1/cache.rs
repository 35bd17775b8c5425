//! The words of caching: scopes, policies, operations, results, and the one outcome value that feeds every signal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::CacheKey;
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::sample;
use crate::words::words;

words!(
    /// What becomes of a view's result.
    CachePolicy {
        /// Nothing: the view is computed inside whatever reads it.
        None => "none",
        /// Kept in memory for the rest of the process.
        Memory => "memory",
        /// Kept as a Delta table under the cache root.
        DeltaStaging => "delta_staging",
        /// The published output is the entry.
        DeltaOutput => "delta_output",
    }
);

impl Default for CachePolicy {
    /// `delta_staging`.
    fn default() -> Self {
        Self::DeltaStaging
    }
}

words!(
    /// What is cached.
    CacheScope {
        /// A registered input.
        Dataset => "dataset",
        /// A view of a pipeline.
        View => "view",
        /// A user's own table.
        Artifact => "artifact",
        /// A snapshot of the engine's caches.
        Snapshot => "snapshot",
        /// A ledger table (commits only).
        Ledger => "ledger",
        /// A published output (commits only).
        Output => "output",
    }
);

words!(
    /// What was done to a cache.
    CacheOperation {
        /// A lookup.
        Read => "read",
        /// A new entry, or a commit to an output.
        Write => "write",
        /// An entry taken away.
        Evict => "evict",
        /// A snapshot of the engine's caches.
        Snapshot => "snapshot",
        /// Waiting for another process that computes the same key.
        LeaseWait => "lease_wait",
        /// A rehash of an entry's files.
        Verify => "verify",
        /// A collection of condemned entries.
        Gc => "gc",
    }
);

words!(
    /// How a cache operation ended: a lookup is hit, miss or error; any other operation ok or error.
    LookupResult {
        /// The entry was there and valid.
        Hit => "hit",
        /// There was no valid entry.
        Miss => "miss",
        /// The operation was done.
        Ok => "ok",
        /// It failed.
        Error => "error",
    }
);

words!(
    /// What became of a view in a run.
    ViewResult {
        /// Served from the cache.
        Hit => "hit",
        /// Computed and published as an entry.
        Write => "write",
        /// Uncached or uncacheable: computed for this run alone, or inside its readers.
        Computed => "computed",
        /// Not tried, because an ancestor failed.
        Skipped => "skipped",
        /// It failed.
        Error => "error",
    }
);

/// One cache operation as it happened: the same value feeds span, metric and ledger, so that they cannot disagree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheOutcome {
    /// What was done.
    pub operation: CacheOperation,
    /// To what.
    pub scope: CacheScope,
    /// Under which policy.
    pub policy: CachePolicy,
    /// How it ended.
    pub result: LookupResult,
    /// The name of the view, dataset, artifact or output.
    pub name: String,
    /// The key, where one was known.
    pub cache_key: Option<CacheKey>,
    /// How long it took.
    pub duration_ms: f64,
    /// Bytes read or written.
    pub bytes: Option<u64>,
    /// A low-cardinality class of the error, when there was one.
    pub error_type: Option<String>,
}

impl Contract for CacheOutcome {
    const KIND: &'static str = "cache_outcome";
    const VERSION: u32 = 1;
    const DOC: &'static str = "one cache operation as it happened: what span, metric and ledger are fed from";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            operation: CacheOperation::Read,
            scope: CacheScope::View,
            policy: CachePolicy::DeltaStaging,
            result: LookupResult::Hit,
            name: "daily_delays".to_owned(),
            cache_key: Some(CacheKey::of(b"daily_delays")),
            duration_ms: 0.75,
            bytes: Some(48_213),
            error_type: None,
        }
    }
}

/// The operations of a run that leave no row in the inventory: all but lookups and writes of views, outputs, datasets and artifacts, which
/// have theirs, and those on ledgers, which would never be done. As the engine counted them, in the metrics too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheOperations {
    /// The run.
    pub run_id: RunId,
    /// How many of each, sorted.
    pub counts: Vec<OperationCount>,
}

/// How often an operation ended in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationCount {
    /// What was done.
    pub operation: CacheOperation,
    /// To what.
    pub scope: CacheScope,
    /// Under which policy.
    pub policy: CachePolicy,
    /// How it ended.
    pub result: LookupResult,
    /// How often.
    pub count: u64,
}

impl Contract for CacheOperations {
    const KIND: &'static str = "cache_operations";
    const VERSION: u32 = 1;
    const DOC: &'static str = "the operations of a run that leave no row in the inventory, as the engine counted them";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            run_id: sample::run_id(),
            counts: vec![OperationCount {
                operation: CacheOperation::LeaseWait,
                scope: CacheScope::View,
                policy: CachePolicy::DeltaStaging,
                result: LookupResult::Ok,
                count: 2,
            }],
        }
    }
}
