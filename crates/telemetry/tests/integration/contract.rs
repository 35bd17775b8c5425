//! The contract of all three signals over a run, as snapshots.

use std::collections::BTreeMap;
use std::fmt::Write;

use alluvium_contracts::{Contract, KvStats, LookupResult};
use alluvium_telemetry::{Diagnostics, Redactor};
use opentelemetry::SpanId;
use opentelemetry::logs::AnyValue;
use opentelemetry::trace::Status;
use opentelemetry_sdk::trace::SpanData;

use crate::support::{Kept, a_run, seam};

#[test]
fn golden_span_tree() {
    let kept = Kept::new();
    let context = kept.record(|metrics| {
        let (run, _) = a_run(&seam(), metrics);
        let context = run.context().clone();
        run.finish("failed", Some("compute"));
        context
    });
    let spans = kept.spans.0.lock().unwrap().clone();
    let root = spans.iter().find(|span| span.name == "run").unwrap();
    assert_eq!(root.span_context.span_id(), context.trace().span_id(), "commits carry the run's own span");
    assert_eq!(root.span_context.trace_id().to_string(), context.run_id().as_uuid().simple().to_string());
    assert!(context.trace().is_sampled());
    assert!(spans.iter().all(|span| span.span_context.trace_id() == root.span_context.trace_id()), "one trace");
    insta::assert_snapshot!(tree(&spans).replace(&context.run_id().to_string(), "[run_id]"));
}

fn tree(spans: &[SpanData]) -> String {
    let mut children: BTreeMap<String, Vec<&SpanData>> = BTreeMap::new();
    for span in spans {
        children.entry(span.parent_span_id.to_string()).or_default().push(span);
    }
    let mut text = String::new();
    write(&mut text, &children, SpanId::INVALID, 0);
    text
}

fn write(text: &mut String, children: &BTreeMap<String, Vec<&SpanData>>, parent: SpanId, depth: usize) {
    let mut of_parent = children.get(&parent.to_string()).cloned().unwrap_or_default();
    of_parent.sort_by_key(|span| span.start_time);
    for span in of_parent {
        let mut pairs: Vec<_> = span.attributes.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
        pairs.sort();
        let status = match &span.status {
            Status::Unset => "",
            Status::Ok => " OK",
            Status::Error { .. } => " ERROR",
        };
        writeln!(text, "{}{}{status} {}", "  ".repeat(depth), span.name, pairs.join(" ")).unwrap();
        write(text, children, span.span_context.span_id(), depth + 1);
    }
}

#[test]
fn golden_metrics() {
    let kept = Kept::new();
    kept.record(|metrics| drop(a_run(&seam(), metrics)));
    let mut text = String::new();
    for (name, (unit, lines)) in kept.points() {
        writeln!(text, "{name} [{unit}]\n  {}", lines.join("\n  ")).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn golden_logs() {
    let kept = Kept::new();
    let seam = seam();
    let context = kept.record(|metrics| {
        let (run, _) = a_run(&seam, metrics);
        let _inside = run.enter();
        let diagnostics =
            Diagnostics::new(seam.clone(), Redactor::default()).with_sink(kept.sdk.diagnostics_sink().unwrap());
        diagnostics.artifact(&KvStats::example(), None);
        tracing::warn!(target: "alluvium.cache", notice = "the entry 'x' was damaged", "set aside");
        tracing::debug!(target: "alluvium.cache", "not exported");
        tracing::error!(target: "hyper", "not ours");
        run.context().clone()
    });
    let spans = kept.spans.0.lock().unwrap().clone();
    let mut text = String::new();
    for (record, scope) in kept.logs.0.lock().unwrap().iter() {
        let trace = record.trace_context().expect("a record of a run has its trace");
        assert_eq!(trace.trace_id, context.trace().trace_id());
        let span = spans.iter().find(|span| span.span_context.span_id() == trace.span_id);
        let mut pairs: Vec<_> =
            record.attributes_iter().map(|(key, value)| format!("{key}={}", show(Some(value)))).collect();
        pairs.sort();
        // `tracing` names an event after the path and line of its source, which is nobody's business.
        let name = record.event_name();
        assert!(name.is_none_or(|name| !name.contains(['/', '\\', ':', '.', ' '])), "{name:?}");
        writeln!(
            text,
            "{} {} [{}] {} in {}: {}",
            record.severity_text().unwrap_or_default(),
            name.unwrap_or("-"),
            scope.name(),
            show(record.body()),
            span.map_or("?", |span| span.name.as_ref()),
            pairs.join(" ")
        )
        .unwrap();
    }
    assert!(text.contains(KvStats::KIND));
    insta::assert_snapshot!(text.replace(&context.run_id().to_string(), "[run_id]"));
}

fn show(value: Option<&AnyValue>) -> String {
    match value {
        Some(AnyValue::String(text)) => text.to_string(),
        Some(AnyValue::Int(number)) => number.to_string(),
        Some(AnyValue::Double(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// Span, metric, log and ledger are made from one value: their totals agree.
#[test]
fn the_signals_agree_with_the_outcomes_that_ledgers_store() {
    let kept = Kept::new();
    let outcomes = kept.record(|metrics| a_run(&seam(), metrics).1);
    let abandoned = 1;

    let spans = kept.spans.0.lock().unwrap().clone();
    let result_of = |span: &SpanData| {
        span.attributes.iter().find(|pair| pair.key.as_str() == "cache.result").map(|pair| pair.value.to_string())
    };
    for result in [LookupResult::Hit, LookupResult::Miss, LookupResult::Ok, LookupResult::Error] {
        let expected = outcomes.iter().filter(|outcome| outcome.result == result).count()
            + if result == LookupResult::Error { abandoned } else { 0 };
        let in_spans = spans.iter().filter(|span| result_of(span).as_deref() == Some(result.as_str())).count();
        let needle = format!("cache.result={result} ");
        let in_metrics: usize = kept.points()["alluvium.cache.operations"]
            .1
            .iter()
            .filter(|line| line.contains(&needle))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!((in_spans, in_metrics), (expected, expected), "{result}");
    }

    let bytes: u64 = outcomes.iter().filter_map(|outcome| outcome.bytes).sum();
    let io: u64 = kept.points()["alluvium.cache.io"]
        .1
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(io, bytes);
    let foreign = outcomes.iter().filter(|outcome| outcome.error_type.as_deref() == Some("_OTHER")).count();
    assert_eq!(foreign, 1, "a class that is not in the table is another, in the ledger as in the metric");
}
