//! Exporters that keep what they get, a clock that ticks, and a sequence of cache operations.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_contracts::{CacheKey, CacheOperation, CacheOutcome, CachePolicy, CacheScope};
use alluvium_telemetry::sdk::{Sdk, SdkBuilder};
use alluvium_telemetry::{
    CacheMetrics, CacheSpan, CacheStart, Clock, Ids, RunSpan, Seam, end_span, plan_span, view_span,
};
use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLogRecord};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, Temporality};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing_subscriber::layer::SubscriberExt;
use uuid::Uuid;

/// Keeps spans; the SDK's own forgets them at shutdown.
#[derive(Debug, Clone, Default)]
pub struct KeptSpans(pub Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for KeptSpans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// Keeps log records.
#[derive(Debug, Clone, Default)]
pub struct KeptLogs(pub Arc<Mutex<Vec<(SdkLogRecord, InstrumentationScope)>>>);

impl LogExporter for KeptLogs {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch.iter().map(|(record, scope)| (record.clone(), scope.clone())));
        Ok(())
    }
}

/// A millisecond passes at each look.
#[derive(Debug, Default)]
pub struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn since_epoch(&self) -> Duration {
        Duration::from_secs(1_750_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Ids in sequence.
#[derive(Debug, Default)]
pub struct Counting(AtomicU64);

impl Ids for Counting {
    fn ordered(&self) -> Uuid {
        Uuid::from_u128(0x0197_0000_0000_7000_8000_0000_0000_0000 + u128::from(self.0.fetch_add(1, Ordering::Relaxed)))
    }

    fn random(&self) -> Uuid {
        Uuid::from_u128(0x4000_8000_0000_0000_0001 + u128::from(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

pub fn seam() -> Seam {
    Seam::new(Arc::new(Ticking::default()), Arc::new(Counting::default()))
}

/// All three signals, kept.
pub struct Kept {
    pub sdk: Sdk,
    pub spans: KeptSpans,
    pub metrics: InMemoryMetricExporter,
    pub logs: KeptLogs,
}

impl Kept {
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub fn with(change: impl FnOnce(SdkBuilder) -> SdkBuilder) -> Self {
        let (spans, logs) = (KeptSpans::default(), KeptLogs::default());
        let metrics = InMemoryMetricExporter::default();
        let sdk = change(SdkBuilder::new(Seam::system(), "1.2.3").with_flush_timeout(Duration::from_secs(30)))
            .with_span_exporter(spans.clone())
            .with_metric_exporter(metrics.clone())
            .with_log_exporter(logs.clone())
            .build();
        Self { sdk, spans, metrics, logs }
    }

    /// Does `work` while everything is recorded, then ends the providers.
    pub fn record<T>(&self, work: impl FnOnce(&CacheMetrics) -> T) -> T {
        let metrics = self.sdk.cache_metrics().unwrap();
        let done =
            tracing::subscriber::with_default(tracing_subscriber::registry().with(self.sdk.layer()), || work(&metrics));
        let flushed = self.sdk.shutdown();
        assert!(flushed.complete, "{flushed:?}");
        done
    }

    /// The latest points of each metric: name, unit, and a line a series.
    pub fn points(&self) -> BTreeMap<String, (String, Vec<String>)> {
        let collected = self.metrics.get_finished_metrics().unwrap();
        let mut found = BTreeMap::new();
        let scopes = collected.last().into_iter().flat_map(ResourceMetrics::scope_metrics);
        for metric in scopes.flat_map(ScopeMetrics::metrics) {
            let mut lines = match metric.data() {
                AggregatedMetrics::U64(data) => lines(data),
                AggregatedMetrics::I64(data) => lines(data),
                AggregatedMetrics::F64(data) => lines(data),
            };
            lines.sort();
            found.insert(metric.name().to_owned(), (metric.unit().to_owned(), lines));
        }
        found
    }
}

fn lines<T: std::fmt::Debug + Copy>(data: &MetricData<T>) -> Vec<String> {
    fn attributes<'a>(attributes: impl Iterator<Item = &'a opentelemetry::KeyValue>) -> String {
        let mut pairs: Vec<_> = attributes.map(|pair| format!("{}={}", pair.key, pair.value)).collect();
        pairs.sort();
        pairs.join(" ")
    }
    match data {
        MetricData::Sum(sum) => {
            assert_eq!(sum.temporality(), Temporality::Cumulative);
            sum.data_points().map(|point| format!("{} → {:?}", attributes(point.attributes()), point.value())).collect()
        }
        MetricData::Histogram(histogram) => histogram
            .data_points()
            .map(|point| {
                let (count, sum, buckets) = (point.count(), point.sum(), point.bounds().count());
                format!("{} → {count} in {sum:?} over {buckets} buckets", attributes(point.attributes()))
            })
            .collect(),
        other => panic!("no instrument of ours makes {other:?}"),
    }
}

/// One run that meets everything: a miss that is written, a hit, a failure, and one operation of every other kind.
pub fn a_run(seam: &Seam, metrics: &CacheMetrics) -> (RunSpan, Vec<CacheOutcome>) {
    let run = RunSpan::begin(seam, seam.run_id(), None);
    let mut outcomes = Vec::new();
    {
        let _inside = run.enter();
        let start = |operation, scope, policy, name| {
            let cache_key = matches!(scope, CacheScope::View).then(|| CacheKey::of(str::as_bytes(name)));
            CacheSpan::start(metrics, seam, CacheStart { operation, scope, policy, name, cache_key })
        };
        let staged = |operation, name| start(operation, CacheScope::View, CachePolicy::DeltaStaging, name);

        let view = view_span("route_delays");
        view.in_scope(|| {
            end_span(&plan_span("route_delays"), "planned", None);
            outcomes.push(staged(CacheOperation::Read, "route_delays").miss());
            outcomes.push(staged(CacheOperation::LeaseWait, "route_delays").ok(None));
            let writing = staged(CacheOperation::Write, "route_delays");
            outcomes.push(writing.ok(Some(4_096)));
        });
        end_span(&view, "write", None);
        drop(view);

        let view = view_span("late");
        view.in_scope(|| outcomes.push(staged(CacheOperation::Read, "late").hit(Some(1_024))));
        end_span(&view, "hit", None);
        drop(view);

        let view = view_span("broken");
        view.in_scope(|| {
            outcomes.push(staged(CacheOperation::Read, "broken").miss());
            outcomes.push(staged(CacheOperation::Write, "broken").error("compute"));
        });
        end_span(&view, "error", Some("compute"));
        drop(view);

        let out = |operation| start(operation, CacheScope::Output, CachePolicy::DeltaOutput, "report");
        outcomes.push(out(CacheOperation::Write).ok(Some(512)));
        outcomes.push(out(CacheOperation::Write).error("an error of a foreign crate: /home/ada"));
        outcomes.push(start(CacheOperation::Snapshot, CacheScope::Snapshot, CachePolicy::Memory, "metadata").ok(None));
        outcomes.push(start(CacheOperation::Verify, CacheScope::Dataset, CachePolicy::None, "flights").ok(None));
        outcomes.push(start(CacheOperation::Evict, CacheScope::Artifact, CachePolicy::DeltaStaging, "mine").ok(None));
        outcomes.push(staged(CacheOperation::Gc, "*").ok(Some(9)));
        drop(staged(CacheOperation::Read, "left"));
        metrics.set_entry_count(CacheScope::View, CachePolicy::DeltaStaging, 2);
    }
    (run, outcomes)
}
