//! A cache outcome as a `tracing` event.

use alluvium_contracts::{CacheOutcome, LookupResult};

/// Emits `outcome` as an event of target `alluvium.cache`: an error as a warning, everything else at debug level.
pub fn record(outcome: &CacheOutcome) {
    macro_rules! emit {
        ($level:ident) => {
            tracing::event!(
                target: "alluvium.cache",
                tracing::Level::$level,
                "cache.operation" = outcome.operation.as_str(),
                "cache.scope" = outcome.scope.as_str(),
                "cache.policy" = outcome.policy.as_str(),
                "cache.result" = outcome.result.as_str(),
                "name" = outcome.name.as_str(),
                "cache_key" = outcome.cache_key.map(tracing::field::display),
                "duration_ms" = outcome.duration_ms,
                "bytes" = outcome.bytes,
                "error.type" = outcome.error_type.as_deref(),
            )
        };
    }
    match outcome.result {
        LookupResult::Error => emit!(WARN),
        LookupResult::Hit | LookupResult::Miss | LookupResult::Ok => emit!(DEBUG),
    }
}
