//! The run that work belongs to: its id, its place in a trace, and how both reach every task and thread of it.
//!
//! The ids are a plain value, [`RunContext`], handed down like any argument. What lies below an interface that does not
//! take it finds it by [`RunContext::current`]: the context of the OpenTelemetry API carries it, not a task-local of
//! Tokio's, because that context already has to follow the work for spans to find their parents, is the same on plain
//! threads, and needs no runtime. One mechanism cannot disagree with itself. Like a task-local it does not cross
//! `spawn` by itself: [`carry`] what is spawned.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_contracts::{CacheOperation, CacheOutcome, CachePolicy, CacheScope, LookupResult, OperationCount, RunId};
use opentelemetry::context::FutureExt;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, ContextGuard, TraceFlags, TraceId};
use tracing::span::EnteredSpan;
use tracing::{Instrument, Span, field};

use crate::vocabulary::{TARGET_RUN, attribute, span};
use crate::{Seam, TraceContext, end_span};

/// A run's ids, and what it did to the caches so far. Cloning is cheap; holding one keeps no span open. Equal to another of the same ids.
#[derive(Debug, Clone)]
pub struct RunContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ids: Ids,
    counts: Mutex<BTreeMap<Kind, u64>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Ids {
    run_id: RunId,
    trace: TraceContext,
    parent: Option<TraceContext>,
}

/// What operations are counted by, as in the metrics.
type Kind = (CacheOperation, CacheScope, CachePolicy, LookupResult);

impl PartialEq for RunContext {
    fn eq(&self, other: &Self) -> bool {
        self.0.ids == other.0.ids
    }
}

impl Eq for RunContext {}

impl RunContext {
    /// The run that the current task or thread works for; `None` outside of one.
    #[must_use]
    pub fn current() -> Option<Self> {
        Context::map_current(|context| context.get::<Self>().cloned())
    }

    /// The run.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.0.ids.run_id
    }

    /// The place of the run's own span: what commits carry and child processes are handed.
    #[must_use]
    pub fn trace(&self) -> &TraceContext {
        &self.0.ids.trace
    }

    /// The place of whoever started the run, where it was given.
    #[must_use]
    pub fn parent(&self) -> Option<&TraceContext> {
        self.0.ids.parent.as_ref()
    }

    /// The `traceparent` of the run's span, for commit metadata.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.0.ids.trace.to_string()
    }

    /// The cache operations of the run so far that have no row of their own in a ledger: neither lookups nor writes, nor any on ledgers.
    /// As many as the metrics count of them.
    #[must_use]
    pub fn other_operations(&self) -> Vec<OperationCount> {
        let counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(&(operation, scope, policy, result), &count): (&Kind, &u64)| OperationCount {
            operation,
            scope,
            policy,
            result,
            count,
        };
        counts.iter().map(of).collect()
    }

    /// Counts an operation that has ended.
    pub(crate) fn count(&self, outcome: &CacheOutcome) {
        let CacheOutcome { operation, scope, policy, result, .. } = *outcome;
        if matches!(operation, CacheOperation::Read | CacheOperation::Write) || scope == CacheScope::Ledger {
            return;
        }
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((operation, scope, policy, result)).or_default() += 1;
    }
}

/// The span of a run, and the way into it. It ends when this is dropped.
///
/// ```
/// use alluvium_telemetry::{RunContext, RunSpan, Seam};
///
/// let seam = Seam::system();
/// let run = RunSpan::begin(&seam, seam.run_id(), None);
/// {
///     let _inside = run.enter();
///     assert_eq!(RunContext::current().as_ref(), Some(run.context()));
/// }
/// assert_eq!(RunContext::current(), None);
/// run.finish("succeeded", None);
/// ```
#[derive(Debug)]
pub struct RunSpan {
    context: RunContext,
    span: Span,
    carrier: Context,
}

/// The trace id that a run would begin its trace with; the SDK's generator of ids looks for it.
#[cfg(feature = "sdk")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct TraceSeed(pub(crate) TraceId);

impl RunSpan {
    /// Begins the span of a run under `parent`, or else under the OpenTelemetry span that is active, or else in a trace
    /// of its own whose id is the run's.
    ///
    /// There is always a place in a trace, whether or not anybody records it: what the SDK recorded where there is one,
    /// else ids drawn from `seam`.
    #[must_use]
    pub fn begin(seam: &Seam, run_id: RunId, parent: Option<TraceContext>) -> Self {
        let mut base = Context::current();
        if let Some(parent) = &parent {
            base = base.with_remote_span_context(parent.to_remote());
        }
        let parent = parent.or_else(|| TraceContext::from_span_context(base.span().span_context()));
        let own_trace = TraceId::from_bytes(*run_id.as_uuid().as_bytes());
        #[cfg(feature = "sdk")]
        if parent.is_none() {
            base = base.with_value(TraceSeed(own_trace));
        }

        let base_guard = base.clone().attach();
        let span = tracing::info_span!(
            target: TARGET_RUN,
            span::RUN,
            { attribute::RUN_ID } = %run_id,
            { attribute::RESULT } = field::Empty,
            { attribute::ERROR_TYPE } = field::Empty,
            otel.status_code = field::Empty,
        );
        // Where a layer records the span, entering it makes it the active one.
        let recorded = span.in_scope(Context::current);
        drop(base_guard);

        let recorded_place = TraceContext::from_span_context(recorded.span().span_context());
        let is_parents =
            |place: &TraceContext| parent.as_ref().is_some_and(|parent| parent.span_id() == place.span_id());
        let (trace, carrier) = match recorded_place {
            Some(place) if !is_parents(&place) => (place, recorded),
            _ => (unrecorded(seam, own_trace, parent.as_ref()), base),
        };
        let context = RunContext(Arc::new(Inner { ids: Ids { run_id, trace, parent }, counts: Mutex::default() }));
        let carrier = carrier.with_value(context.clone());
        Self { context, span, carrier }
    }

    /// The run's ids.
    #[must_use]
    pub fn context(&self) -> &RunContext {
        &self.context
    }

    /// The span, for what is recorded on it.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Makes the rest of this scope, on this thread, part of the run.
    #[must_use]
    pub fn enter(&self) -> RunGuard {
        let span = self.span.clone().entered();
        RunGuard { _context: self.carrier.clone().attach(), _span: span }
    }

    /// Makes `work` part of the run, whichever threads poll it.
    pub fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.with_context(self.carrier.clone()).instrument(self.span.clone())
    }

    /// Ends the span with the word for how the run ended, and the class of its error where it failed.
    pub fn finish(self, result: &str, error_type: Option<&str>) {
        end_span(&self.span, result, error_type);
    }
}

/// The place of a run that nobody records: whoever continues its trace finds the same trace id and state.
fn unrecorded(seam: &Seam, own_trace: TraceId, parent: Option<&TraceContext>) -> TraceContext {
    let Some(parent) = parent else {
        return TraceContext::new(own_trace, seam.span_id(), TraceFlags::default());
    };
    let context = TraceContext::new(parent.trace_id(), seam.span_id(), parent.flags());
    match parent.state() {
        Some(state) => context.with_state(state),
        None => context,
    }
}

/// Leaves the run when it is dropped.
#[derive(Debug)]
pub struct RunGuard {
    // Dropped in this order: the context was attached inside the span.
    _context: ContextGuard,
    _span: EnteredSpan,
}

/// Makes `work` part of whatever the caller is part of: its run, its trace and its span. For what is handed to `spawn`.
pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    work.with_current_context().instrument(Span::current())
}

/// Like [`carry`], for a function that is handed to a thread.
pub fn carry_fn<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let (context, span) = (Context::current(), Span::current());
    move || {
        span.in_scope(|| {
            let _context = context.attach();
            work()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(parent: Option<&str>) -> RunSpan {
        let seam = Seam::system();
        RunSpan::begin(&seam, seam.run_id(), parent.map(|parent| parent.parse().unwrap()))
    }

    #[test]
    fn a_run_that_nobody_records_has_a_place_all_the_same() {
        let run = begin(None);
        let id = run.context().run_id().as_uuid().simple().to_string();
        let traceparent = run.context().traceparent();
        assert!(traceparent.starts_with(&format!("00-{id}-")), "{traceparent}");
        assert!(traceparent.ends_with("-00"), "nobody recorded it: {traceparent}");
        assert_eq!(traceparent.parse::<TraceContext>().unwrap(), *run.context().trace());
    }

    #[test]
    fn a_parent_is_continued_and_its_span_is_not_taken_for_the_runs() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let run = begin(Some(parent));
        assert_eq!(run.context().parent().unwrap().to_string(), parent);
        let own = run.context().trace();
        assert_eq!(own.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_ne!(own.span_id().to_string(), "b7ad6b7169203331");
        assert!(own.is_sampled());
    }

    #[test]
    fn a_state_goes_on_however_it_is_spelt() {
        let parent: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
        let seam = Seam::system();
        let run = RunSpan::begin(&seam, seam.run_id(), Some(parent.with_state("a=1,b=2")));
        assert_eq!(run.context().trace().state(), Some("a=1,b=2"));
        let spelt: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
        let run = RunSpan::begin(&seam, seam.run_id(), Some(spelt.with_state("a=1, b=2")));
        assert_ne!(run.context().trace().span_id().to_string(), "b7ad6b7169203331");
    }

    #[test]
    fn a_run_counts_what_has_no_row_of_its_own() {
        let (run, seam) = (begin(None), Seam::system());
        let start = |operation, scope| {
            let (policy, name, cache_key) = (CachePolicy::DeltaStaging, "v", None);
            crate::cache_span(&seam, crate::CacheStart { operation, scope, policy, name, cache_key })
        };
        start(CacheOperation::Gc, CacheScope::View).ok(None);
        let inside = run.enter();
        for _ in 0..2 {
            start(CacheOperation::LeaseWait, CacheScope::View).ok(None);
        }
        start(CacheOperation::Evict, CacheScope::Dataset).error("io");
        start(CacheOperation::Evict, CacheScope::Ledger).ok(None);
        start(CacheOperation::Read, CacheScope::View).hit(None);
        start(CacheOperation::Write, CacheScope::View).ok(None);
        drop(inside);
        let counted = run.context().other_operations();
        let counted: Vec<_> = counted.iter().map(|one| (one.operation, one.scope, one.result, one.count)).collect();
        let expected = [
            (CacheOperation::Evict, CacheScope::Dataset, LookupResult::Error, 1),
            (CacheOperation::LeaseWait, CacheScope::View, LookupResult::Ok, 2),
        ];
        assert_eq!(counted, expected);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_run_follows_tasks_and_threads() {
        let (first, second) = (begin(None), begin(None));
        let seen = |run: &RunSpan| {
            run.scope(async {
                tokio::task::yield_now().await;
                let task = tokio::spawn(carry(async { RunContext::current() })).await.unwrap();
                let blocking = tokio::task::spawn_blocking(carry_fn(RunContext::current)).await.unwrap();
                let thread = std::thread::spawn(carry_fn(RunContext::current)).join().unwrap();
                let lost = tokio::spawn(async { RunContext::current() }).await.unwrap();
                assert_eq!(lost, None, "what is not carried belongs to no run");
                [RunContext::current(), task, blocking, thread]
            })
        };
        let (a, b) = tokio::join!(seen(&first), seen(&second));
        assert_eq!(a, [(); 4].map(|()| Some(first.context().clone())));
        assert_eq!(b, [(); 4].map(|()| Some(second.context().clone())));
        assert_eq!(RunContext::current(), None);
    }
}
