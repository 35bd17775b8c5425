//! The operators of a query as spans.

use std::time::{Duration, SystemTime};

use alluvium_telemetry::vocabulary::OPERATOR_SPAN;
use alluvium_telemetry::{Operator, QueryTrace, RunSpan, Seam, view_span};
use opentelemetry_sdk::trace::SpanData;

use crate::support::Kept;

fn at(ms: u64) -> Option<SystemTime> {
    Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_750_000_000_000 + ms))
}

fn operator(name: &str, began: Option<SystemTime>, ended: Option<SystemTime>, inputs: Vec<Operator>) -> Operator {
    Operator { name: name.to_owned(), began, ended, inputs, ..Operator::default() }
}

#[test]
fn operators_nest_as_rows_flow_and_keep_their_own_times() {
    let kept = Kept::new();
    kept.sdk.install();
    let measured = Operator {
        output_rows: Some(2),
        compute_ns: Some(1_500_000),
        scanned_bytes: Some(4_096),
        spilled_bytes: Some(0),
        ..operator("DataSourceExec", at(1), at(5), Vec::new())
    };
    // An operator that measures no times, and one that was never asked for rows.
    let query = operator("PublishExec", None, None, vec![measured, operator("EmptyExec", None, None, Vec::new())]);
    let seam = Seam::system();
    let mut expected = None;
    kept.record(|_| {
        assert!(QueryTrace::begin().is_none(), "nobody records what is outside of a span");
        let run = RunSpan::begin(&seam, seam.run_id(), None);
        expected = Some(run.context().run_id().to_string());
        let _inside = run.enter();
        let trace = view_span("late").in_scope(|| QueryTrace::begin().unwrap());
        trace.end(&query);
    });

    let spans = kept.spans.0.lock().unwrap().clone();
    let named = |name: &str| spans.iter().find(|span| span.name == name);
    let (view, publish, source) =
        (named("view").unwrap(), named("PublishExec").unwrap(), named("DataSourceExec").unwrap());
    assert!(named("EmptyExec").is_none());
    assert_eq!(publish.parent_span_id, view.span_context.span_id());
    assert_eq!(source.parent_span_id, publish.span_context.span_id());
    assert!(spans.iter().all(|span| span.span_context.trace_id() == view.span_context.trace_id()));
    let times = |span: &SpanData| (Some(span.start_time), Some(span.end_time));
    assert_eq!((times(source), times(publish)), ((at(1), at(5)), (at(1), at(5))));
    let attributes: Vec<String> = source.attributes.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
    let expected = format!("run_id={}", expected.unwrap());
    assert_eq!(
        attributes,
        [
            &expected,
            "operator.rows=2",
            "operator.compute_ms=1.5",
            "operator.scanned_bytes=4096",
            "operator.spilled_bytes=0"
        ]
    );
    assert_eq!(source.attributes.len(), OPERATOR_SPAN.len());
}
