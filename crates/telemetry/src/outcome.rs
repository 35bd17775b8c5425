//! A cache outcome as a log event and in the metrics.

use alluvium_contracts::{CacheOutcome, LookupResult};

use crate::RunContext;
use crate::metrics::{CacheMetrics, error_type};
use crate::vocabulary::{TARGET_CACHE, attribute};

/// Counts an operation that no [`CacheSpan`](crate::CacheSpan) measured, and logs it: an error as a warning, everything
/// else at debug level.
pub fn record(outcome: &CacheOutcome) {
    CacheMetrics::global().count(outcome);
    if let Some(run) = RunContext::current() {
        run.count(outcome);
    }
    log(outcome);
}

/// Emits `outcome` as an event of target `alluvium.cache`.
pub(crate) fn log(outcome: &CacheOutcome) {
    macro_rules! emit {
        ($level:ident, $message:literal) => {
            tracing::event!(
                target: TARGET_CACHE,
                tracing::Level::$level,
                { attribute::CACHE_OPERATION } = outcome.operation.as_str(),
                { attribute::CACHE_SCOPE } = outcome.scope.as_str(),
                { attribute::CACHE_POLICY } = outcome.policy.as_str(),
                { attribute::CACHE_RESULT } = outcome.result.as_str(),
                { attribute::CACHE_NAME } = outcome.name.as_str(),
                { attribute::CACHE_KEY } = outcome.cache_key.map(tracing::field::display),
                { attribute::DURATION_MS } = outcome.duration_ms,
                { attribute::CACHE_BYTES } = outcome.bytes,
                { attribute::ERROR_TYPE } = error_type(outcome),
                { attribute::RUN_ID } = RunContext::current().map(|run| tracing::field::display(run.run_id())),
                $message,
            )
        };
    }
    match outcome.result {
        LookupResult::Error => emit!(WARN, "cache operation failed"),
        LookupResult::Hit | LookupResult::Miss | LookupResult::Ok => emit!(DEBUG, "cache operation"),
    }
}
