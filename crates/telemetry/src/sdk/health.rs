//! Whether exporters deliver: the SDK tells nobody but its log.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::logs::Severity;
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

use crate::Redactor;

/// What became of the batches that were handed to exporters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// Batches that were taken.
    pub delivered: u64,
    /// Batches that were refused, or never answered.
    pub failed: u64,
    /// Spans, data points and log records that a collector rejected of batches that it took.
    pub rejected: u64,
    /// Spans and log records that were in no batch: a full queue dropped them, or the time was over.
    pub dropped: u64,
    /// Why, of the latest batch that failed, or of which something was rejected; redacted.
    pub last_error: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    delivered: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    ended: AtomicU64,
    exported: AtomicU64,
    last_error: Mutex<Option<String>>,
    /// What lies behind it, as the client tells.
    cause: Mutex<Option<String>>,
}

impl Health {
    pub(super) fn delivery(&self, redactor: &Redactor) -> Delivery {
        let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Where the time was over before the exporter gave up, there is a cause alone.
        let why = [last_error, cause].into_iter().flatten().collect::<Vec<_>>().join(": ");
        Delivery {
            delivered: self.delivered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            // In this order: what is exported meanwhile has ended before.
            dropped: {
                let exported = self.exported.load(Ordering::Acquire);
                self.ended.load(Ordering::Acquire).saturating_sub(exported)
            },
            last_error: (!why.is_empty()).then(|| redactor.text(&why).into_owned()),
        }
    }

    /// A span or a log record is complete, and an exporter is owed it.
    fn ended(&self) {
        self.ended.fetch_add(1, Ordering::Release);
    }

    fn exported(&self, count: usize) {
        self.exported.fetch_add(count as u64, Ordering::Release);
    }

    /// A collector took a batch but for `count` of what was in it.
    pub(super) fn rejected(&self, count: u64, why: String) {
        self.rejected.fetch_add(count, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// A request could not be sent, or had no answer.
    #[cfg(feature = "otlp-http")]
    pub(super) fn failed_by(&self, error: &(dyn std::error::Error + 'static)) {
        let chain: Vec<String> =
            std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(chain.join(": "));
    }

    fn note(&self, result: &OTelSdkResult) {
        match result {
            Ok(()) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        }
    }
}

/// An exporter whose results are noted.
pub(super) struct Watched<E> {
    inner: E,
    health: Arc<Health>,
}

impl<E> Watched<E> {
    pub(super) fn new(inner: E, health: &Arc<Health>) -> Self {
        Self { inner, health: Arc::clone(health) }
    }

    async fn noting(&self, export: impl Future<Output = OTelSdkResult>) -> OTelSdkResult {
        let result = export.await;
        self.health.note(&result);
        result
    }
}

impl<E> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.health.exported(batch.len());
        self.noting(self.inner.export(batch)).await
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

impl<E: LogExporter> LogExporter for Watched<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.health.exported(batch.iter().count());
        self.noting(self.inner.export(batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Watched<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.noting(self.inner.export(metrics)).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

/// A processor before which everything that it is given is counted.
#[derive(Debug)]
pub(super) struct Counted<P> {
    inner: P,
    health: Arc<Health>,
}

impl<P> Counted<P> {
    pub(super) fn new(inner: P, health: &Arc<Health>) -> Self {
        Self { inner, health: Arc::clone(health) }
    }
}

impl<P: SpanProcessor> SpanProcessor for Counted<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.health.ended();
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Counted<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.health.ended();
        self.inner.emit(record, scope);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
