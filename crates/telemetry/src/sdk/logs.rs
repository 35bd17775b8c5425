//! Log records as they leave: listed attributes only, each redacted by what it is.
//!
//! The SDK's exporters see records that can no longer be changed, so redaction sits where a record is filled.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::{InstrumentationScope, Key, SpanId, TraceFlags, TraceId};
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger, SdkLoggerProvider};

use crate::Redactor;
use crate::vocabulary::Content;

/// A provider whose records are redacted.
pub(super) struct RedactingLogs {
    inner: SdkLoggerProvider,
    redactor: Redactor,
}

impl RedactingLogs {
    pub(super) fn new(inner: SdkLoggerProvider, redactor: Redactor) -> Self {
        Self { inner, redactor }
    }
}

impl LoggerProvider for RedactingLogs {
    type Logger = RedactingLogger;

    fn logger_with_scope(&self, scope: InstrumentationScope) -> RedactingLogger {
        RedactingLogger { inner: self.inner.logger_with_scope(scope), redactor: self.redactor.clone() }
    }
}

pub(super) struct RedactingLogger {
    inner: SdkLogger,
    redactor: Redactor,
}

impl Logger for RedactingLogger {
    type LogRecord = RedactingRecord;

    fn create_log_record(&self) -> RedactingRecord {
        RedactingRecord { inner: self.inner.create_log_record(), redactor: self.redactor.clone() }
    }

    fn emit(&self, record: RedactingRecord) {
        self.inner.emit(record.inner);
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }
}

pub(super) struct RedactingRecord {
    inner: SdkLogRecord,
    redactor: Redactor,
}

impl RedactingRecord {
    fn redacted(&self, content: Content, value: AnyValue) -> AnyValue {
        let text = |text: &str| self.redactor.value(content, text).into_owned();
        match value {
            AnyValue::String(value) => AnyValue::String(text(value.as_str()).into()),
            // Bytes are text as far as anybody knows.
            AnyValue::Bytes(bytes) => AnyValue::String(text(&String::from_utf8_lossy(&bytes)).into()),
            AnyValue::ListAny(items) => {
                AnyValue::ListAny(Box::new(items.into_iter().map(|item| self.redacted(content, item)).collect()))
            }
            AnyValue::Map(map) => AnyValue::Map(Box::new(
                map.into_iter()
                    .map(|(key, value)| (Key::from(text(key.as_str())), self.redacted(content, value)))
                    .collect(),
            )),
            other => other,
        }
    }
}

impl LogRecord for RedactingRecord {
    /// A contract's name is one word. `tracing` names its events after the path and line of their source, which have none here.
    fn set_event_name(&mut self, name: &'static str) {
        if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
            self.inner.set_event_name(name);
        }
    }

    fn set_target<T: Into<Cow<'static, str>>>(&mut self, target: T) {
        self.inner.set_target(target);
    }

    fn set_timestamp(&mut self, timestamp: SystemTime) {
        self.inner.set_timestamp(timestamp);
    }

    fn set_observed_timestamp(&mut self, timestamp: SystemTime) {
        self.inner.set_observed_timestamp(timestamp);
    }

    fn set_severity_text(&mut self, text: &'static str) {
        self.inner.set_severity_text(text);
    }

    fn set_severity_number(&mut self, number: Severity) {
        self.inner.set_severity_number(number);
    }

    fn set_body(&mut self, body: AnyValue) {
        let body = self.redacted(Content::Text, body);
        self.inner.set_body(body);
    }

    fn add_attributes<I, K, V>(&mut self, attributes: I)
    where
        I: IntoIterator<Item = (K, V)>,
        K: Into<Key>,
        V: Into<AnyValue>,
    {
        for (key, value) in attributes {
            self.add_attribute(key, value);
        }
    }

    fn add_attribute<K: Into<Key>, V: Into<AnyValue>>(&mut self, key: K, value: V) {
        let key = key.into();
        if let Some(content) = self.redactor.allows(key.as_str()) {
            let value = self.redacted(content, value.into());
            self.inner.add_attribute(key, value);
        }
    }

    fn set_trace_context(&mut self, trace_id: TraceId, span_id: SpanId, flags: Option<TraceFlags>) {
        self.inner.set_trace_context(trace_id, span_id, flags);
    }
}
