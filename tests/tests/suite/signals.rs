//! Exporters that keep what they get, and a run's signals as text without what differs from run to run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use alluvium_contracts::DiagnosticsEvent;
use alluvium_runs::OpenOptions;
use alluvium_telemetry::sdk::{Sdk, SdkBuilder};
use alluvium_telemetry::{Diagnostics, DiagnosticsSink, JsonLinesSink, MemorySink, Redactor, Seam};
use opentelemetry::logs::AnyValue;
use opentelemetry::trace::Status;
use opentelemetry::{KeyValue, SpanId};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLogRecord};
use opentelemetry_sdk::metrics::InMemoryMetricExporter;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing_subscriber::layer::SubscriberExt;

use crate::lab::later;

#[derive(Debug, Clone, Default)]
struct KeptSpans(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for KeptSpans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

#[derive(Debug, Clone, Default)]
struct KeptLogs(Arc<Mutex<Vec<SdkLogRecord>>>);

impl LogExporter for KeptLogs {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch.iter().map(|(record, _)| record.clone()));
        Ok(())
    }
}

/// As long as there is one dispatcher, `tracing` asks that of the thread that first comes to a span whether anybody wants
/// it, and remembers the answer for all threads. A second one keeps the threads of other tests, which have none, from
/// answering for ours.
static SECOND: LazyLock<tracing::Dispatch> = LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));

/// All signals of whatever is recorded, kept.
pub struct Signals {
    sdk: Sdk,
    spans: KeptSpans,
    metrics: InMemoryMetricExporter,
    logs: KeptLogs,
    memory: Arc<MemorySink>,
    /// The lines of the diagnostics file.
    lines: tempfile::NamedTempFile,
    trace: tempfile::TempPath,
}

impl Signals {
    pub fn new() -> Self {
        let (spans, logs) = (KeptSpans::default(), KeptLogs::default());
        let metrics = InMemoryMetricExporter::default();
        let trace = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let sdk = SdkBuilder::new(Seam::system(), "1.2.3")
            .with_flush_timeout(Duration::from_secs(60))
            .with_span_exporter(spans.clone())
            .with_metric_exporter(metrics.clone())
            .with_log_exporter(logs.clone())
            .with_trace_file(trace.to_path_buf())
            .unwrap()
            .build();
        let lines = tempfile::NamedTempFile::new().unwrap();
        Self { sdk, spans, metrics, logs, memory: Arc::default(), lines, trace }
    }

    /// Makes the providers those of the process, for what does not go through `tracing`.
    pub fn install(&self) {
        self.sdk.install();
    }

    /// How a pipeline is opened whose runs are recorded.
    pub fn options(&self) -> OpenOptions {
        let diagnostics = Diagnostics::new(later(), Redactor::default())
            .with_sink(Arc::clone(&self.memory) as Arc<dyn DiagnosticsSink>)
            .with_sink(Arc::new(JsonLinesSink::open(self.lines.path()).unwrap()))
            .with_sink(self.sdk.diagnostics_sink().unwrap());
        OpenOptions {
            metrics: self.sdk.cache_metrics(),
            diagnostics: Some(diagnostics),
            seam: Some(later()),
            ..OpenOptions::default()
        }
    }

    /// Does `work` while everything is recorded, then ends the providers. On one thread: the subscriber is the thread's.
    pub async fn record<T>(&self, work: impl Future<Output = T>) -> T {
        LazyLock::force(&SECOND);
        let recording = tracing::subscriber::set_default(tracing_subscriber::registry().with(self.sdk.layer()));
        let done = work.await;
        drop(recording);
        let flushed = self.sdk.shutdown();
        assert!(flushed.complete && flushed.trace_file.is_none(), "{flushed:?}");
        done
    }

    pub fn spans(&self) -> Vec<SpanData> {
        self.spans.0.lock().unwrap().clone()
    }

    pub fn diagnostics(&self) -> Vec<DiagnosticsEvent> {
        self.memory.events()
    }

    /// The spans as a tree; siblings in the order of their text, because independent views are worked on at once.
    pub fn tree(&self) -> String {
        let spans = self.spans();
        let ids: Vec<SpanId> = spans.iter().map(|span| span.span_context.span_id()).collect();
        let roots = spans.iter().filter(|span| !ids.contains(&span.parent_span_id));
        let mut texts: Vec<String> = roots.map(|root| branch(&spans, root, 0)).collect();
        texts.sort();
        texts.concat()
    }

    /// Each metric with its unit and its series. Only counts are the same every time.
    pub fn metrics_text(&self) -> String {
        let mut text = String::new();
        for (name, (unit, points)) in self.points() {
            writeln!(text, "{name} [{unit}]").unwrap();
            for (attributes, value) in points {
                let shown = if unit == "By" { "[bytes]".to_owned() } else { value.to_string() };
                writeln!(text, "  {attributes} → {shown}").unwrap();
            }
        }
        text
    }

    /// The sum of the points of a metric whose attributes are these, among others.
    pub fn total(&self, metric: &str, attributes: &[&str]) -> u64 {
        let points = self.points();
        let of_metric = points.get(metric).map(|(_, points)| points.as_slice()).unwrap_or_default();
        let matches = |text: &str| attributes.iter().all(|wanted| text.split(' ').any(|pair| pair == *wanted));
        of_metric.iter().filter(|(text, _)| matches(text)).map(|(_, value)| value).sum()
    }

    /// The latest points: by metric its unit, and by attributes the value of a counter, or the count of a histogram.
    fn points(&self) -> BTreeMap<String, (String, Vec<(String, u64)>)> {
        let collected = self.metrics.get_finished_metrics().unwrap();
        let mut found = BTreeMap::new();
        let scopes = collected.last().into_iter().flat_map(ResourceMetrics::scope_metrics);
        for metric in scopes.flat_map(ScopeMetrics::metrics) {
            let mut points: Vec<(String, u64)> = match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                    sum.data_points().map(|point| (pairs(point.attributes()), point.value())).collect()
                }
                AggregatedMetrics::I64(MetricData::Sum(sum)) => sum
                    .data_points()
                    .map(|point| (pairs(point.attributes()), u64::try_from(point.value()).unwrap()))
                    .collect(),
                AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                    histogram.data_points().map(|point| (pairs(point.attributes()), point.count())).collect()
                }
                other => panic!("no instrument of ours makes {other:?}"),
            };
            points.sort();
            found.insert(metric.name().to_owned(), (metric.unit().to_owned(), points));
        }
        found
    }

    /// The log records, a line each: name, span, attributes.
    pub fn logs_text(&self) -> String {
        let spans = self.spans();
        let mut lines = Vec::new();
        for record in self.logs.0.lock().unwrap().iter() {
            let trace = record.trace_context().expect("a record of a run has its trace");
            let span = spans.iter().find(|span| span.span_context.span_id() == trace.span_id);
            let mut pairs: Vec<_> = record
                .attributes_iter()
                .filter(|(key, _)| key.as_str() != "alluvium.diagnostics.payload")
                .map(|(key, value)| shown(key.as_str(), &text_of(value)))
                .collect();
            pairs.sort();
            let name = record.event_name().unwrap_or("-");
            assert!(!name.contains(['/', '\\', ':', '.', ' ']), "a name is no place in a source: {name}");
            let severity = record.severity_text().unwrap_or_default();
            let body = record.body().map(text_of).unwrap_or_default();
            let span = span.map_or("?", |span| span.name.as_ref());
            lines.push(format!("{severity} {name} in {span}: {body} {}\n", pairs.join(" ")));
        }
        lines.sort();
        lines.concat()
    }

    /// Everything that left, by exporter.
    pub fn everything(&self) -> Vec<(&'static str, String)> {
        vec![
            ("spans", format!("{:?}", self.spans())),
            ("metrics", format!("{:?}", self.metrics.get_finished_metrics().unwrap())),
            ("logs", format!("{:?}", self.logs.0.lock().unwrap())),
            ("memory", format!("{:?}", self.memory.events())),
            ("diagnostics file", std::fs::read_to_string(self.lines.path()).unwrap()),
            ("trace file", std::fs::read_to_string(&self.trace).unwrap()),
        ]
    }
}

fn branch(spans: &[SpanData], span: &SpanData, depth: usize) -> String {
    let mut pairs: Vec<_> =
        span.attributes.iter().map(|pair| shown(pair.key.as_str(), &pair.value.to_string())).collect();
    pairs.sort();
    let status = match &span.status {
        Status::Unset => "",
        Status::Ok => " OK",
        Status::Error { .. } => " ERROR",
    };
    let mut text = format!("{}{}{status} {}\n", "  ".repeat(depth), span.name, pairs.join(" "));
    let children = spans.iter().filter(|child| child.parent_span_id == span.span_context.span_id());
    let mut children: Vec<String> = children.map(|child| branch(spans, child, depth + 1)).collect();
    children.sort();
    text.extend(children);
    text
}

/// A pair without what differs from run to run.
fn shown(key: &str, value: &str) -> String {
    match key {
        "run_id" | "cache_key" | "plan_hash" | "cache.bytes" | "duration_ms" => format!("{key}=[{key}]"),
        _ => format!("{key}={value}"),
    }
}

fn pairs<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let mut pairs: Vec<_> = attributes.map(|pair| format!("{}={}", pair.key, pair.value)).collect();
    pairs.sort();
    pairs.join(" ")
}

fn text_of(value: &AnyValue) -> String {
    match value {
        AnyValue::String(text) => text.to_string(),
        AnyValue::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}
