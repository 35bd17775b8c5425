//! A run of three cache operations, sent to a collector by OTLP, and written to a trace file.
//!
//! ```sh
//! cargo run -p alluvium-telemetry --features otlp-http,otlp-grpc --example otlp -- http://localhost:4318 trace.json
//! OTEL_EXPORTER_OTLP_PROTOCOL=grpc \
//! cargo run -p alluvium-telemetry --features otlp-http,otlp-grpc --example otlp -- http://localhost:4317
//! ```
//!
//! It prints a JSON object: the run, what was done, and how long the set-up and the end of telemetry took.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use alluvium_contracts::{CacheOperation, CacheOutcome, CachePolicy, CacheScope, Contract, KvStats};
use alluvium_telemetry::sdk::{SdkBuilder, Settings};
use alluvium_telemetry::{
    CacheStart, Diagnostics, Redactor, RunSpan, Seam, TraceContext, cache_span, end_span, view_span,
};
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next();
    let trace_file = arguments.next().map(PathBuf::from);

    let seam = Seam::system();
    let setting_up = seam.stopwatch();
    let settings = Settings::from_environment(endpoint.as_deref())?;
    let mut builder = SdkBuilder::new(seam.clone(), env!("CARGO_PKG_VERSION")).with_otlp(&settings)?;
    if let Some(path) = trace_file {
        builder = builder.with_trace_file(path)?;
    }
    let sdk = builder.build();
    sdk.install();
    tracing_subscriber::registry().with(sdk.layer()).init();
    let set_up_ms = setting_up.elapsed_ms();

    let run = RunSpan::begin(&seam, seam.run_id(), TraceContext::from_environment());
    let (context, outcomes) = (run.context().clone(), {
        let _inside = run.enter();
        work(&seam, &sdk)
    });
    run.finish("failed", Some("compute"));

    let ending = seam.stopwatch();
    let flushed = sdk.shutdown();
    println!(
        "{}",
        json!({
            "run_id": context.run_id(),
            "traceparent": context.traceparent(),
            "outcomes": outcomes,
            "set_up_ms": set_up_ms,
            "shutdown_ms": ending.elapsed_ms(),
            "complete": flushed.complete,
            "delivered": flushed.delivery.delivered,
            "failed": flushed.delivery.failed,
            "last_error": flushed.delivery.last_error,
        })
    );
    Ok(())
}

fn work(seam: &Seam, sdk: &alluvium_telemetry::sdk::Sdk) -> Vec<CacheOutcome> {
    let start = |operation| CacheStart {
        operation,
        scope: CacheScope::View,
        policy: CachePolicy::DeltaStaging,
        name: "route_delays",
        cache_key: None,
    };
    let view = view_span("route_delays");
    let outcomes = view.in_scope(|| {
        let miss = cache_span(seam, start(CacheOperation::Read)).miss();
        let write = cache_span(seam, start(CacheOperation::Write)).ok(Some(4_096));
        let error = cache_span(seam, start(CacheOperation::Write)).error("compute");
        vec![miss, write, error]
    });
    end_span(&view, "error", Some("compute"));
    let mut diagnostics = Diagnostics::new(seam.clone(), Redactor::default());
    if let Some(sink) = sdk.diagnostics_sink() {
        diagnostics = diagnostics.with_sink(Arc::clone(&sink));
    }
    diagnostics.artifact(&KvStats::example(), None);
    outcomes
}
