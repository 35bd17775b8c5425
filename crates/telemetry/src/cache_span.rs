//! One cache operation from its start to the outcome that feeds span, metrics, log and ledger alike.

use alluvium_contracts::{CacheKey, CacheOperation, CacheOutcome, CachePolicy, CacheScope, LookupResult};
use tracing::{Span, field};

use crate::metrics::{CacheMetrics, error_type};
use crate::outcome::log;
use crate::vocabulary::{self, TARGET_CACHE, attribute, span};
use crate::{RunContext, Seam, Stopwatch};

/// What is known of a cache operation when it starts.
#[derive(Debug, Clone, Copy)]
pub struct CacheStart<'a> {
    /// What is done.
    pub operation: CacheOperation,
    /// To what.
    pub scope: CacheScope,
    /// Under which policy.
    pub policy: CachePolicy,
    /// The name of the view, dataset, artifact or output.
    pub name: &'a str,
    /// The key, where one is known.
    pub cache_key: Option<CacheKey>,
}

/// Starts a cache operation: its span and its clock.
#[must_use = "the operation is measured until it is finished"]
pub fn cache_span(seam: &Seam, start: CacheStart<'_>) -> CacheSpan {
    CacheSpan::start(CacheMetrics::global(), seam, start)
}

/// A cache operation that is under way. It ends by [`hit`](Self::hit), [`miss`](Self::miss), [`ok`](Self::ok) or
/// [`error`](Self::error); dropped before, it is counted as the error `abandoned`, or `panic` in a panicking thread.
///
/// ```
/// use alluvium_contracts::{CacheOperation, CachePolicy, CacheScope, LookupResult};
/// use alluvium_telemetry::{CacheStart, Seam, cache_span};
///
/// let start = CacheStart {
///     operation: CacheOperation::Read,
///     scope: CacheScope::View,
///     policy: CachePolicy::DeltaStaging,
///     name: "route_delays",
///     cache_key: None,
/// };
/// let reading = cache_span(&Seam::system(), start);
/// let outcome = reading.hit(Some(4_096));
/// assert_eq!(outcome.result, LookupResult::Hit); // the ledger stores this value
/// ```
#[derive(Debug)]
#[must_use = "the operation is measured until it is finished"]
pub struct CacheSpan {
    span: Span,
    watch: Stopwatch,
    metrics: CacheMetrics,
    /// All but its end, until `ended`.
    outcome: CacheOutcome,
    ended: bool,
}

impl CacheSpan {
    /// Starts an operation that is counted by `metrics`, not by those of the process.
    pub fn start(metrics: &CacheMetrics, seam: &Seam, start: CacheStart<'_>) -> Self {
        let span = open(&start);
        let outcome = CacheOutcome {
            operation: start.operation,
            scope: start.scope,
            policy: start.policy,
            result: LookupResult::Error,
            name: start.name.to_owned(),
            cache_key: start.cache_key,
            duration_ms: 0.0,
            bytes: None,
            error_type: None,
        };
        Self { span, watch: seam.stopwatch(), metrics: metrics.clone(), outcome, ended: false }
    }

    /// Measures from when `watch` was started, for work that turns out to be an operation when it is done: one that has begun counts,
    /// whatever becomes of it. The span itself begins now.
    pub fn since(mut self, watch: Stopwatch) -> Self {
        self.watch = watch;
        self
    }

    /// The span, to instrument what the operation does. It stays open while a clone of it lives.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// A lookup found a valid entry, and read `bytes` of it.
    pub fn hit(self, bytes: Option<u64>) -> CacheOutcome {
        self.finish(LookupResult::Hit, bytes, None)
    }

    /// A lookup found none.
    pub fn miss(self) -> CacheOutcome {
        self.finish(LookupResult::Miss, None, None)
    }

    /// Anything but a lookup was done, and read or wrote `bytes`.
    pub fn ok(self, bytes: Option<u64>) -> CacheOutcome {
        self.finish(LookupResult::Ok, bytes, None)
    }

    /// It failed, with an error of class `kind`: a word of [`vocabulary::ERROR_TYPES`]; any other leaves as `_OTHER`.
    pub fn error(self, kind: &str) -> CacheOutcome {
        self.finish(LookupResult::Error, None, Some(kind))
    }

    fn finish(mut self, result: LookupResult, bytes: Option<u64>, kind: Option<&str>) -> CacheOutcome {
        self.end(result, bytes, kind);
        self.outcome.clone()
    }

    fn end(&mut self, result: LookupResult, bytes: Option<u64>, kind: Option<&str>) {
        self.ended = true;
        let outcome = &mut self.outcome;
        outcome.result = result;
        outcome.bytes = bytes;
        outcome.duration_ms = self.watch.elapsed_ms();
        outcome.error_type = kind.map(|kind| vocabulary::error_type(kind).to_owned());
        self.span.record(attribute::CACHE_RESULT, result.as_str());
        if let Some(bytes) = bytes {
            self.span.record(attribute::CACHE_BYTES, bytes);
        }
        if let Some(kind) = error_type(outcome) {
            self.span.record(attribute::ERROR_TYPE, kind);
            self.span.record("otel.status_code", "ERROR");
        }
        self.metrics.count(outcome);
        if let Some(run) = RunContext::current() {
            run.count(outcome);
        }
        self.span.in_scope(|| log(outcome));
    }
}

impl Drop for CacheSpan {
    fn drop(&mut self) {
        if !self.ended {
            let kind = if std::thread::panicking() { vocabulary::PANIC } else { vocabulary::ABANDONED };
            self.end(LookupResult::Error, None, Some(kind));
        }
    }
}

/// The span of an operation: a span's name is part of its callsite, so there is one callsite an operation.
fn open(start: &CacheStart<'_>) -> Span {
    macro_rules! open {
        ($name:expr) => {{
            let span = tracing::info_span!(
                target: TARGET_CACHE,
                $name,
                { attribute::CACHE_OPERATION } = start.operation.as_str(),
                { attribute::CACHE_SCOPE } = start.scope.as_str(),
                { attribute::CACHE_POLICY } = start.policy.as_str(),
                { attribute::CACHE_NAME } = start.name,
                { attribute::CACHE_KEY } = field::Empty,
                { attribute::RUN_ID } = field::Empty,
                { attribute::CACHE_RESULT } = field::Empty,
                { attribute::CACHE_BYTES } = field::Empty,
                { attribute::ERROR_TYPE } = field::Empty,
                otel.status_code = field::Empty,
            );
            // Text is made only where somebody reads it.
            if !span.is_disabled() {
                if let Some(key) = start.cache_key {
                    span.record(attribute::CACHE_KEY, field::display(key));
                }
                if let Some(run) = RunContext::current() {
                    span.record(attribute::RUN_ID, field::display(run.run_id()));
                }
            }
            span
        }};
    }
    match start.operation {
        CacheOperation::Read => open!(span::READ),
        CacheOperation::Write => open!(span::WRITE),
        CacheOperation::Evict => open!(span::EVICT),
        CacheOperation::Snapshot => open!(span::SNAPSHOT),
        CacheOperation::LeaseWait => open!(span::LEASE_WAIT),
        CacheOperation::Verify => open!(span::VERIFY),
        CacheOperation::Gc => open!(span::GC),
    }
}
