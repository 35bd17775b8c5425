//! The operations on ledgers as signals: counted like those of any cache, with no row of their own, since a ledger that told of
//! its commits would never be done.

use alluvium_contracts::{CacheOperation, CachePolicy, CacheScope};
use alluvium_telemetry::{CacheMetrics, CacheSpan, CacheStart, Seam};

use crate::LedgerError;

/// The class of everything that goes wrong with a ledger.
const ERROR: &str = "ledger";

/// Starts operations, and lends the clock that they are measured by.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    pub(crate) seam: Seam,
    pub(crate) metrics: CacheMetrics,
}

impl Meter {
    pub(crate) fn begin(&self, operation: CacheOperation, name: &str) -> CacheSpan {
        // No view's policy applies to a ledger.
        let (scope, policy) = (CacheScope::Ledger, CachePolicy::None);
        CacheSpan::start(&self.metrics, &self.seam, CacheStart { operation, scope, policy, name, cache_key: None })
    }

    /// Measures `work`, which answers `None` where it turned out that there was nothing to do.
    pub(crate) fn measure<T>(
        &self,
        operation: CacheOperation,
        name: &str,
        work: impl FnOnce() -> Result<Option<T>, LedgerError>,
    ) -> Result<Option<T>, LedgerError> {
        let watch = self.seam.stopwatch();
        let done = work();
        if !matches!(done, Ok(None)) {
            end(self.begin(operation, name).since(watch), &done, None);
        }
        done
    }
}

/// Ends an operation by whether it went well.
pub(crate) fn end<T>(measured: CacheSpan, done: &Result<T, LedgerError>, bytes: Option<u64>) {
    match done {
        Ok(_) => drop(measured.ok(bytes)),
        Err(_) => drop(measured.error(ERROR)),
    }
}

/// Ends a lookup by whether it found the ledger.
pub(crate) fn end_lookup(measured: CacheSpan, found: Result<bool, &LedgerError>) {
    match found {
        Ok(true) => drop(measured.hit(None)),
        Ok(false) => drop(measured.miss()),
        Err(_) => drop(measured.error(ERROR)),
    }
}
