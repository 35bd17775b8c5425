//! However many names, keys, paths and classes of errors there are, series stay within the documented bound.

use alluvium_contracts::{CacheKey, CacheOperation, CachePolicy, CacheScope};
use alluvium_telemetry::vocabulary::MAX_SERIES;
use alluvium_telemetry::{CacheSpan, CacheStart, Seam};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::Kept;

const DISTINCT: usize = 100_000;

#[test]
fn a_hundred_thousand_names_keys_and_errors_make_a_handful_of_series() {
    let kept = Kept::new();
    let metrics = kept.sdk.cache_metrics().unwrap();
    let seam = Seam::system();
    let operations = prop::sample::select(vec![CacheOperation::Read, CacheOperation::Write, CacheOperation::Gc]);
    let scopes = prop::sample::select(vec![CacheScope::View, CacheScope::Dataset, CacheScope::Output]);
    let policies = prop::sample::select(vec![CachePolicy::DeltaStaging, CachePolicy::Memory]);
    // One case of many operations: what is under test is a sum over all of them.
    let cases = u32::try_from(DISTINCT).unwrap();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let seen = std::cell::RefCell::new(std::collections::HashSet::new());
    runner
        .run(&(operations, scopes, policies, any::<u64>()), |(operation, scope, policy, salt)| {
            let name = format!("view/{salt}");
            let start =
                CacheStart { operation, scope, policy, name: &name, cache_key: Some(CacheKey::of(name.as_bytes())) };
            let span = CacheSpan::start(&metrics, &seam, start);
            match salt % 4 {
                0 => drop(span.hit(Some(salt % 1_000))),
                1 => drop(span.miss()),
                2 => drop(span.ok(None)),
                _ => drop(span.error(&format!("cannot open /data/{name}"))),
            }
            seen.borrow_mut().insert(name);
            Ok(())
        })
        .unwrap();
    assert!(seen.borrow().len() > DISTINCT * 9 / 10, "the names were distinct");
    assert!(kept.sdk.shutdown().complete);
    for (name, (_, series)) in kept.points() {
        // 3 operations, 3 scopes, 2 policies, 4 results.
        assert!(series.len() <= 3 * 3 * 2 * 4, "{name}: {} series", series.len());
        assert!(!series.iter().any(|line| line.contains("/data/") || line.contains("overflow")), "{name}");
    }
}

/// Somebody who goes round the vocabulary, with an instrument of his own, is bounded too.
#[test]
fn views_bound_what_goes_round_the_vocabulary() {
    let kept = Kept::new();
    let meter = kept.sdk.meter_provider().unwrap().meter("careless");
    let ours = meter.u64_counter("alluvium.cache.operations").build();
    let foreign = meter.f64_histogram("careless.duration").build();
    for index in 0..DISTINCT {
        let path = format!("/data/{index}");
        ours.add(1, &[KeyValue::new("error.type", path.clone()), KeyValue::new("cache.path", path.clone())]);
        foreign.record(1.0, &[KeyValue::new("cache.path", path.clone()), KeyValue::new("run_id", path)]);
    }
    assert!(kept.sdk.shutdown().complete);
    let points = kept.points();
    let series = &points["alluvium.cache.operations"].1;
    assert!(series.len() <= MAX_SERIES, "{} series", series.len());
    assert!(series.iter().any(|line| line.starts_with("otel.metric.overflow=true")), "what is over is counted");
    let total: usize = series.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!(total, DISTINCT);
    assert_eq!(points["careless.duration"].1.len(), 1, "no attribute of it is in the vocabulary");
}
