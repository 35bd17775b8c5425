//! What a cache span costs: without a receiver, and recorded by the SDK. Prints medians in nanoseconds, as one JSON object
//! that `cargo xtask bench telemetry` reads.
//!
//! ```sh
//! cargo run --release -p alluvium-telemetry --features sdk --example cost
//! ```

use std::time::Duration;

use alluvium_contracts::{CacheKey, CacheOperation, CachePolicy, CacheScope};
use alluvium_telemetry::sdk::SdkBuilder;
use alluvium_telemetry::{CacheMetrics, CacheSpan, CacheStart, RunSpan, Seam};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing_subscriber::layer::SubscriberExt;

/// Cache operations a measurement, and measurements.
const BATCH: u32 = 200;
const ROUNDS: usize = 201;

/// Takes everything and keeps nothing, so that what is measured is ours and the SDK's.
#[derive(Debug)]
struct Nowhere;

impl SpanExporter for Nowhere {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}

impl PushMetricExporter for Nowhere {
    async fn export(&self, _: &ResourceMetrics) -> OTelSdkResult {
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

fn main() {
    let seam = Seam::system();
    let silent = CacheMetrics::global();
    let silent_ns = median(&seam, silent);

    let sdk = SdkBuilder::new(seam.clone(), "0").with_span_exporter(Nowhere).with_metric_exporter(Nowhere).build();
    let metrics = sdk.cache_metrics().unwrap_or_else(|| CacheMetrics::global().clone());
    let counted_ns = median(&seam, &metrics);
    let subscriber = tracing_subscriber::registry().with(sdk.layer());
    let recorded_ns = tracing::subscriber::with_default(subscriber, || median(&seam, &metrics));
    sdk.shutdown();
    println!("{}", serde_json::json!({ "silent_ns": silent_ns, "counted_ns": counted_ns, "recorded_ns": recorded_ns }));
}

/// The median over all measurements of the time that one operation takes in a run.
fn median(seam: &Seam, metrics: &CacheMetrics) -> u64 {
    let run = RunSpan::begin(seam, seam.run_id(), None);
    let _inside = run.enter();
    let start = CacheStart {
        operation: CacheOperation::Read,
        scope: CacheScope::View,
        policy: CachePolicy::DeltaStaging,
        name: "route_delays",
        cache_key: Some(CacheKey::of(b"route_delays")),
    };
    let mut times: Vec<u64> = (0..ROUNDS)
        .map(|_| {
            let watch = seam.stopwatch();
            for _ in 0..BATCH {
                std::hint::black_box(CacheSpan::start(metrics, seam, start).hit(Some(4_096)));
            }
            u64::try_from(watch.elapsed().as_nanos()).unwrap_or(u64::MAX) / u64::from(BATCH)
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}
