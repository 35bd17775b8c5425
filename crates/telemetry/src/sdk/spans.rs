//! Spans as they leave: listed attributes only, each redacted by what it is.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use opentelemetry::trace::Status;
use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use crate::Redactor;
use crate::vocabulary::Content;

/// Redacts on its way to another exporter.
pub(super) struct RedactingSpans<E> {
    inner: E,
    redactor: Redactor,
}

impl<E> RedactingSpans<E> {
    pub(super) fn new(inner: E, redactor: Redactor) -> Self {
        Self { inner, redactor }
    }

    fn redact(&self, span: &mut SpanData) {
        if let Cow::Owned(name) = self.redactor.text(&span.name) {
            span.name = name.into();
        }
        redact_attributes(&self.redactor, &mut span.attributes);
        for event in &mut span.events.events {
            if let Cow::Owned(name) = self.redactor.text(&event.name) {
                event.name = name.into();
            }
            redact_attributes(&self.redactor, &mut event.attributes);
        }
        for link in &mut span.links.links {
            redact_attributes(&self.redactor, &mut link.attributes);
        }
        if let Status::Error { description } = &span.status
            && let Cow::Owned(description) = self.redactor.text(description)
        {
            span.status = Status::error(description);
        }
    }
}

impl<E> fmt::Debug for RedactingSpans<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedactingSpans").finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for RedactingSpans<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(|span| self.redact(span));
        self.inner.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn redact_attributes(redactor: &Redactor, attributes: &mut Vec<KeyValue>) {
    attributes.retain_mut(|attribute| match redactor.allows(attribute.key.as_str()) {
        Some(content) => {
            redact_value(redactor, content, &mut attribute.value);
            true
        }
        None => false,
    });
}

fn redact_value(redactor: &Redactor, content: Content, value: &mut Value) {
    match value {
        Value::String(text) => redact_text(redactor, content, text),
        Value::Array(Array::String(texts)) => texts.iter_mut().for_each(|text| redact_text(redactor, content, text)),
        _ => {}
    }
}

fn redact_text(redactor: &Redactor, content: Content, text: &mut StringValue) {
    if let Cow::Owned(left) = redactor.value(content, text.as_str()) {
        *text = left.into();
    }
}
