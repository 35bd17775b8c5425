//! The instruments of cache operations.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use alluvium_contracts::{CacheOutcome, CachePolicy, CacheScope, LookupResult};
use opentelemetry::metrics::{Counter, Histogram, Meter};
use opentelemetry::{KeyValue, global};

use crate::vocabulary::{self, DURATION_BUCKETS_S, attribute, metric};

const SCOPES: [CacheScope; 6] = [
    CacheScope::Dataset,
    CacheScope::View,
    CacheScope::Artifact,
    CacheScope::Snapshot,
    CacheScope::Ledger,
    CacheScope::Output,
];
const POLICIES: [CachePolicy; 4] =
    [CachePolicy::None, CachePolicy::Memory, CachePolicy::DeltaStaging, CachePolicy::DeltaOutput];

/// A cell that nobody has counted yet.
const UNCOUNTED: u64 = u64::MAX;

/// The instruments by which cache operations are counted. Cloning is cheap.
#[derive(Clone)]
pub struct CacheMetrics {
    operations: Counter<u64>,
    duration: Histogram<f64>,
    io: Counter<u64>,
    entries: Arc<EntryCounts>,
}

impl CacheMetrics {
    /// Instruments of `meter`.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let about = |name: &str| {
            let metric = vocabulary::METRICS.iter().find(|metric| metric.name == name);
            metric.map_or(("", ""), |metric| (metric.unit, metric.meaning))
        };
        let entries = Arc::new(EntryCounts::default());
        let observed = Arc::clone(&entries);
        let (unit, meaning) = about(metric::ENTRIES);
        meter
            .i64_observable_up_down_counter(metric::ENTRIES)
            .with_unit(unit)
            .with_description(meaning)
            .with_callback(move |observer| {
                observed.each(|scope, policy, count| {
                    observer.observe(
                        i64::try_from(count).unwrap_or(i64::MAX),
                        &[
                            KeyValue::new(attribute::CACHE_POLICY, policy.as_str()),
                            KeyValue::new(attribute::CACHE_SCOPE, scope.as_str()),
                        ],
                    );
                });
            })
            .build();
        let counter = |name: &'static str| {
            let (unit, meaning) = about(name);
            meter.u64_counter(name).with_unit(unit).with_description(meaning).build()
        };
        let (unit, meaning) = about(metric::DURATION);
        Self {
            operations: counter(metric::OPERATIONS),
            duration: meter
                .f64_histogram(metric::DURATION)
                .with_unit(unit)
                .with_description(meaning)
                .with_boundaries(DURATION_BUCKETS_S.to_vec())
                .build(),
            io: counter(metric::IO),
            entries,
        }
    }

    /// Instruments of the process's meter provider, as it is when this is first called: install the provider before the
    /// first cache operation.
    #[must_use]
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<CacheMetrics> = OnceLock::new();
        GLOBAL.get_or_init(|| Self::new(&global::meter(vocabulary::SCOPE)))
    }

    /// Sets how many entries of `scope` under `policy` a cache holds.
    pub fn set_entry_count(&self, scope: CacheScope, policy: CachePolicy, count: u64) {
        self.entries.set(scope, policy, count);
    }

    /// Counts one operation.
    pub(crate) fn count(&self, outcome: &CacheOutcome) {
        let attributes = [
            KeyValue::new(attribute::CACHE_OPERATION, outcome.operation.as_str()),
            KeyValue::new(attribute::CACHE_POLICY, outcome.policy.as_str()),
            KeyValue::new(attribute::CACHE_RESULT, outcome.result.as_str()),
            KeyValue::new(attribute::CACHE_SCOPE, outcome.scope.as_str()),
            KeyValue::new(attribute::ERROR_TYPE, error_type(outcome).unwrap_or_default()),
        ];
        // An attribute is absent, not empty, where there is no error.
        let attributes = if outcome.result == LookupResult::Error { &attributes[..] } else { &attributes[..4] };
        self.operations.add(1, attributes);
        self.duration.record(outcome.duration_ms / 1e3, attributes);
        if let Some(bytes) = outcome.bytes {
            self.io.add(bytes, attributes);
        }
    }
}

impl fmt::Debug for CacheMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheMetrics").finish_non_exhaustive()
    }
}

/// The class of a failed outcome, as it leaves on every signal; `None` for any other.
pub(crate) fn error_type(outcome: &CacheOutcome) -> Option<&'static str> {
    (outcome.result == LookupResult::Error)
        .then(|| outcome.error_type.as_deref().map_or(vocabulary::OTHER_ERROR, vocabulary::error_type))
}

/// One cell a scope and policy, so that what is observed has a bound.
struct EntryCounts([[AtomicU64; POLICIES.len()]; SCOPES.len()]);

impl Default for EntryCounts {
    fn default() -> Self {
        Self([(); SCOPES.len()].map(|()| [(); POLICIES.len()].map(|()| AtomicU64::new(UNCOUNTED))))
    }
}

impl EntryCounts {
    fn set(&self, scope: CacheScope, policy: CachePolicy, count: u64) {
        let row = SCOPES.iter().position(|known| *known == scope);
        let column = POLICIES.iter().position(|known| *known == policy);
        if let (Some(row), Some(column)) = (row, column) {
            self.0[row][column].store(count, Ordering::Relaxed);
        }
    }

    fn each(&self, mut observe: impl FnMut(CacheScope, CachePolicy, u64)) {
        for (scope, row) in SCOPES.iter().zip(&self.0) {
            for (policy, cell) in POLICIES.iter().zip(row) {
                let count = cell.load(Ordering::Relaxed);
                if count != UNCOUNTED {
                    observe(*scope, *policy, count);
                }
            }
        }
    }
}
