//! Diagnostics: facts about a run that are too wide for an attribute, each a payload with a contract.
//!
//! A payload is redacted and cut to size once, here; every sink then gets the same event. Whatever a sink does, and
//! however a payload fails to encode, the caller goes on.

mod choice;
mod json_lines;
mod limits;
mod memory;
mod otel;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium_contracts::{ArtifactId, Contract, DiagnosticsEvent, DiagnosticsEventKind, Severity};
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use serde_json::Value;

pub use choice::{DIAGNOSTICS_VARIABLE, DiagnosticsChoice, DiagnosticsChoiceError};
pub use json_lines::JsonLinesSink;
#[cfg(feature = "sdk")]
pub(crate) use json_lines::is_pipe;
pub use limits::DiagnosticsLimits;
pub use memory::MemorySink;
pub use otel::OtelLogsSink;

use crate::{Redactor, RunContext, Seam, TraceContext};

/// Where events go. A sink never blocks for long, and never panics on purpose; one that does is survived.
pub trait DiagnosticsSink: fmt::Debug + Send + Sync {
    /// Takes one event.
    fn emit(&self, event: &DiagnosticsEvent);
}

/// Tells sinks of events and artifacts. Each is a payload with a contract, which names it and its version. Cloning is cheap,
/// and clones count together.
///
/// ```
/// use std::sync::Arc;
///
/// use alluvium_contracts::{Contract, KvStats};
/// use alluvium_telemetry::{Diagnostics, MemorySink, Redactor, Seam};
///
/// let memory = Arc::new(MemorySink::default());
/// let diagnostics = Diagnostics::new(Seam::system(), Redactor::default()).with_sink(memory.clone());
/// diagnostics.artifact(&KvStats::example(), None);
/// assert_eq!(memory.events()[0].name, "kv_stats");
/// ```
#[derive(Debug, Clone)]
pub struct Diagnostics {
    seam: Seam,
    redactor: Redactor,
    limits: DiagnosticsLimits,
    sinks: Vec<Arc<dyn DiagnosticsSink>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    emitted: AtomicU64,
    dropped: AtomicU64,
}

/// What was dropped is told once, at the end.
impl Drop for Counts {
    fn drop(&mut self) {
        let dropped = *self.dropped.get_mut();
        if dropped > 0 {
            tracing::warn!(target: "alluvium.diagnostics", "diagnostics are not complete: {dropped} events were dropped");
        }
    }
}

impl Diagnostics {
    /// Diagnostics without a sink: emitting costs a branch.
    #[must_use]
    pub fn new(seam: Seam, redactor: Redactor) -> Self {
        Self { seam, redactor, limits: DiagnosticsLimits::default(), sinks: Vec::new(), counts: Arc::default() }
    }

    /// Adds a sink.
    #[must_use]
    pub fn with_sink(mut self, sink: Arc<dyn DiagnosticsSink>) -> Self {
        self.sinks.push(sink);
        self
    }

    /// Replaces the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: DiagnosticsLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether anybody listens: ask before gathering what costs something.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.sinks.is_empty()
    }

    /// Events that were not handed on: past the limit, or their payload did not encode.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// Tells of a document that was made. `artifact_id` says where it is stored, if it is.
    pub fn artifact<T: Contract>(&self, payload: &T, artifact_id: Option<ArtifactId>) {
        self.hand_on(payload, DiagnosticsEventKind::Artifact, Severity::Info, artifact_id);
    }

    /// Tells of something that happened, or was found so.
    pub fn event<T: Contract>(&self, payload: &T, severity: Severity) {
        self.hand_on(payload, DiagnosticsEventKind::Event, severity, None);
    }

    fn hand_on<T: Contract>(
        &self,
        payload: &T,
        event_kind: DiagnosticsEventKind,
        severity: Severity,
        artifact_id: Option<ArtifactId>,
    ) {
        if !self.is_enabled() {
            return;
        }
        let within = self.counts.emitted.fetch_add(1, Ordering::Relaxed) < self.limits.max_events;
        let encoded = within.then(|| serde_json::to_value(payload).ok()).flatten();
        let Some(payload) = encoded else {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let run = RunContext::current();
        let active = Context::map_current(|context| TraceContext::from_span_context(context.span().span_context()));
        let trace = active.or_else(|| run.as_ref().map(|run| run.trace().clone()));
        let event = DiagnosticsEvent {
            name: T::KIND.to_owned(),
            event_kind,
            severity,
            event_time_unix_ms: self.seam.unix_ms(),
            run_id: run.map(|run| run.run_id()),
            trace_id: trace.as_ref().map(|trace| trace.trace_id().to_string()),
            span_id: trace.as_ref().map(|trace| trace.span_id().to_string()),
            version: T::VERSION,
            artifact_id,
            payload: self.leaving(payload),
        };
        for sink in &self.sinks {
            // Foreign code: its panic must not become the run's.
            if catch_unwind(AssertUnwindSafe(|| sink.emit(&event))).is_err() {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A payload as it leaves: redacted first, so that no secret is cut in two and then not known for one.
    fn leaving(&self, mut payload: Value) -> BTreeMap<String, Value> {
        self.redactor.json(&mut payload);
        self.limits.cut(&mut payload);
        match payload {
            Value::Object(map) => map.into_iter().collect(),
            other => BTreeMap::from([("value".to_owned(), other)]),
        }
    }
}

#[cfg(test)]
mod tests;
