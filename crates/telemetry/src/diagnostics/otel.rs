//! Events as OpenTelemetry log records.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use alluvium_contracts::{Contract, DiagnosticsEvent, Severity, contract};
use opentelemetry::logs::{self, AnyValue, LogRecord, Logger, LoggerProvider};
use opentelemetry::{SpanId, TraceFlags, TraceId};

use super::DiagnosticsSink;
use crate::vocabulary::{self, attribute};

/// Emits each event as a log record that is named after the payload's kind and carries the trace and span ids.
pub struct OtelLogsSink<L>(L);

impl<L: Logger + Send + Sync> OtelLogsSink<L> {
    /// Emits by a logger of `provider`.
    pub fn new<P: LoggerProvider<Logger = L>>(provider: &P) -> Self {
        Self(provider.logger(vocabulary::SCOPE))
    }
}

impl<L> fmt::Debug for OtelLogsSink<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtelLogsSink").finish_non_exhaustive()
    }
}

impl<L: Logger + Send + Sync> DiagnosticsSink for OtelLogsSink<L> {
    fn emit(&self, event: &DiagnosticsEvent) {
        let mut record = self.0.create_log_record();
        record.set_event_name(event_name(&event.name));
        record.set_target(vocabulary::SCOPE);
        if let Ok(since_epoch) = u64::try_from(event.event_time_unix_ms) {
            record.set_timestamp(UNIX_EPOCH + Duration::from_millis(since_epoch));
        }
        let (number, text) = severity(event.severity);
        record.set_severity_number(number);
        record.set_severity_text(text);
        record.set_body(AnyValue::from(event.name.clone()));
        if let Ok(payload) = serde_json::to_string(&event.payload) {
            record.add_attribute(attribute::PAYLOAD, payload);
        }
        record.add_attribute(attribute::PAYLOAD_VERSION, i64::from(event.version));
        if let Some(artifact_id) = event.artifact_id {
            record.add_attribute(attribute::ARTIFACT_ID, artifact_id.to_string());
        }
        if let Some(run_id) = event.run_id {
            record.add_attribute(attribute::RUN_ID, run_id.to_string());
        }
        if let Some((trace_id, span_id)) = place(event) {
            record.set_trace_context(trace_id, span_id, Some(TraceFlags::SAMPLED));
        }
        self.0.emit(record);
    }
}

/// The API wants a name that is part of the program. A contract of somebody else's is named in the body.
fn event_name(name: &str) -> &'static str {
    contract(name).map_or(DiagnosticsEvent::KIND, |known| known.kind)
}

fn place(event: &DiagnosticsEvent) -> Option<(TraceId, SpanId)> {
    let trace_id = TraceId::from_hex(event.trace_id.as_deref()?).ok()?;
    Some((trace_id, SpanId::from_hex(event.span_id.as_deref()?).ok()?))
}

fn severity(severity: Severity) -> (logs::Severity, &'static str) {
    match severity {
        Severity::Debug => (logs::Severity::Debug, "DEBUG"),
        Severity::Info => (logs::Severity::Info, "INFO"),
        Severity::Warn => (logs::Severity::Warn, "WARN"),
        Severity::Error => (logs::Severity::Error, "ERROR"),
    }
}
