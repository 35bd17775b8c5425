//! The layer with some of the signals, and beside other layers.

use alluvium_telemetry::sdk::SdkBuilder;
use alluvium_telemetry::{RunContext, RunSpan, Seam, TraceContext, carry, view_span};
use opentelemetry::trace::TraceContextExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, registry};

use crate::support::{Kept, KeptLogs, KeptSpans};

#[test]
fn each_signal_works_without_the_others() {
    let spans = KeptSpans::default();
    let sdk = SdkBuilder::new(Seam::system(), "0").with_span_exporter(spans.clone()).build();
    tracing::subscriber::with_default(registry().with(sdk.layer()), || drop(view_span("a")));
    assert!(sdk.shutdown().complete);
    assert_eq!(spans.0.lock().unwrap().len(), 1);

    let logs = KeptLogs::default();
    let sdk = SdkBuilder::new(Seam::system(), "0").with_log_exporter(logs.clone()).build();
    tracing::subscriber::with_default(registry().with(sdk.layer()), || {
        drop(view_span("a"));
        tracing::info!(target: "alluvium.cli", "said");
    });
    assert!(sdk.shutdown().complete);
    assert_eq!(logs.0.lock().unwrap().len(), 1);

    let nothing = SdkBuilder::new(Seam::system(), "0").build();
    tracing::subscriber::with_default(registry().with(nothing.layer()), || drop(view_span("a")));
    assert!(nothing.shutdown().complete);
}

#[test]
fn a_quiet_log_does_not_silence_the_spans() {
    let kept = Kept::new();
    let quiet = tracing_subscriber::fmt::layer().with_writer(std::io::sink).with_filter(LevelFilter::OFF);
    tracing::subscriber::with_default(registry().with(quiet).with(kept.sdk.layer()), || drop(view_span("a")));
    assert!(kept.sdk.shutdown().complete);
    assert_eq!(kept.spans.0.lock().unwrap().len(), 1);
}

#[test]
fn a_parent_from_outside_is_the_parent_of_the_run() {
    let kept = Kept::new();
    let parent: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    kept.record(|_| {
        let seam = Seam::system();
        let run = RunSpan::begin(&seam, seam.run_id(), Some(parent.clone()));
        let unsampled = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".parse().unwrap();
        let silent = RunSpan::begin(&seam, seam.run_id(), Some(unsampled));
        assert!(!silent.context().trace().is_sampled(), "whoever began that trace does not record it");
        assert_eq!(run.context().trace().trace_id(), parent.trace_id());
    });
    let spans = kept.spans.0.lock().unwrap();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].parent_span_id, parent.span_id());
    assert_eq!(spans[0].span_context.trace_id(), parent.trace_id());
}

#[test]
fn spans_of_spawned_tasks_find_their_parents_and_their_run() {
    let kept = Kept::new();
    let metrics = kept.sdk.cache_metrics().unwrap();
    drop(metrics);
    let subscriber = registry().with(kept.sdk.layer());
    // Tasks run on other threads, where only the process's subscriber would be seen: hand it along.
    let dispatch = tracing::Dispatch::new(subscriber);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let context = tracing::dispatcher::with_default(&dispatch, || {
        let seam = Seam::system();
        let run = RunSpan::begin(&seam, seam.run_id(), None);
        runtime.block_on(run.scope(async {
            let tasks = ["a", "b"].map(|name| {
                tokio::spawn(carry(async move {
                    let view = view_span(name);
                    tracing::Instrument::instrument(
                        async {
                            tokio::task::yield_now().await;
                            drop(view_span("inner"));
                        },
                        view,
                    )
                    .await;
                    RunContext::current().unwrap()
                }))
            });
            for task in tasks {
                task.await.unwrap();
            }
        }));
        let context = run.context().clone();
        run.finish("succeeded", None);
        context
    });
    assert!(!opentelemetry::Context::current().span().span_context().is_valid(), "nothing is left attached");
    assert!(kept.sdk.shutdown().complete);
    let spans = kept.spans.0.lock().unwrap();
    assert_eq!(spans.len(), 5);
    let run_id = context.run_id().to_string();
    let run = context.trace().span_id();
    let views: Vec<_> = spans.iter().filter(|span| span.name == "view" && span.parent_span_id == run).collect();
    assert_eq!(views.len(), 2);
    for view in views {
        assert!(spans.iter().any(|span| span.parent_span_id == view.span_context.span_id()), "its inner span");
    }
    for span in spans.iter() {
        let has_run = span.attributes.iter().any(|pair| pair.key.as_str() == "run_id" && pair.value.as_str() == run_id);
        assert!(has_run, "{span:?}");
    }
}
