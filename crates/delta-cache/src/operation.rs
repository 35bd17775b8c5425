//! The operations of the cache as signals: each is measured once, and ends as the outcome that everybody is fed from.

use alluvium_contracts::{CacheKey, CacheOperation, CachePolicy, CacheScope};
use alluvium_plans::PlanBundle;
use alluvium_telemetry::{CacheMetrics, CacheSpan, CacheStart, RunContext, Seam};

use crate::cache::DeltaCache;
use crate::error::CacheError;
use crate::scope::EntryScope;

/// What operations are done to: all that a span says of them but which operation it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) scope: CacheScope,
    pub(crate) policy: CachePolicy,
    pub(crate) name: &'a str,
    pub(crate) cache_key: Option<CacheKey>,
}

impl<'a> Subject<'a> {
    /// A view under a policy.
    pub(crate) fn view(bundle: &'a PlanBundle, policy: CachePolicy) -> Self {
        Self { scope: CacheScope::View, policy, name: bundle.name(), cache_key: bundle.cache_key() }
    }

    /// Starts an operation on it.
    pub(crate) fn begin(&self, operation: CacheOperation, metrics: &CacheMetrics, seam: &Seam) -> CacheSpan {
        let Self { scope, policy, name, cache_key } = *self;
        CacheSpan::start(metrics, seam, CacheStart { operation, scope, policy, name, cache_key })
    }
}

impl DeltaCache {
    /// Counts its operations by `metrics` instead of those of the process: for a process that has several.
    #[must_use]
    pub fn with_metrics(mut self, metrics: CacheMetrics) -> Self {
        self.metrics = metrics;
        self
    }

    pub(crate) fn begin(&self, operation: CacheOperation, subject: &Subject<'_>) -> CacheSpan {
        subject.begin(operation, &self.metrics, &self.seam)
    }

    /// Brings the count of entries in the metrics up to date: reads the lengths of tables.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be read.
    pub fn count_entries(&self) -> Result<(), CacheError> {
        let counts = self.index.counts()?;
        for (scope, entries) in counts.entries {
            self.metrics.set_entry_count(scope.word(), CachePolicy::DeltaStaging, entries);
        }
        self.metrics.set_entry_count(CacheScope::Output, CachePolicy::DeltaOutput, counts.outputs);
        for scope in EntryScope::ALL {
            self.metrics.set_entry_count(scope.word(), CachePolicy::Memory, self.memory.len(scope));
        }
        Ok(())
    }
}

/// The place of the run in its trace, for commits; `None` outside of a run.
pub(crate) fn traceparent() -> Option<String> {
    RunContext::current().map(|run| run.traceparent())
}
