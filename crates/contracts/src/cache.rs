//! The words of caching: scopes, policies, operations, results, and the one outcome value that feeds every signal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::CacheKey;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
        }

        impl $name {
            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_agree_with_serde() {
        for policy in [CachePolicy::None, CachePolicy::Memory, CachePolicy::DeltaStaging, CachePolicy::DeltaOutput] {
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.as_str());
        }
        for operation in [CacheOperation::LeaseWait, CacheOperation::Gc, CacheOperation::Snapshot] {
            assert_eq!(serde_json::to_value(operation).unwrap(), operation.as_str());
        }
        for result in [ViewResult::Hit, ViewResult::Skipped, ViewResult::Computed] {
            assert_eq!(serde_json::to_value(result).unwrap(), result.as_str());
        }
    }
}
