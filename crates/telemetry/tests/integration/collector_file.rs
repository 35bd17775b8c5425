//! The files for operators: the Collector's configuration against the real keys of its components, and the dashboard and
//! alert rules against the vocabulary.

use std::collections::BTreeSet;
use std::path::Path;

use alluvium_telemetry::vocabulary::{DURATION_BUCKETS_S, ERROR_TYPES, METRIC_KEYS, METRICS, SPANS};
use regex::Regex;
use serde_norway::{Mapping, Value};

const KINDS: [&str; 4] = ["receivers", "processors", "connectors", "exporters"];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/observability").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(text: &str) -> Value {
    serde_norway::from_str(text).unwrap()
}

fn collector() -> Value {
    yaml(&read("collector.yaml"))
}

fn known() -> Value {
    yaml(include_str!("collector_keys.yaml"))
}

fn mapping(value: &Value) -> &Mapping {
    value.as_mapping().unwrap_or_else(|| panic!("not a mapping: {value:?}"))
}

fn names(value: &Value) -> Vec<&str> {
    value.as_sequence().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// `type/name` is a component of that type.
fn type_of(component: &str) -> &str {
    component.split('/').next().unwrap_or(component)
}

/// Problems of a configuration: components and keys that the Collector does not know.
fn problems(collector: &Value, known: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for key in mapping(collector).keys().map(|key| key.as_str().unwrap()) {
        if key != "service" && !KINDS.contains(&key) {
            problems.push(format!("{key}: not a section"));
        }
    }
    for kind in KINDS {
        for (name, settings) in mapping(&collector[kind]) {
            let name = name.as_str().unwrap();
            let place = format!("{kind}.{name}");
            match known[kind].get(type_of(name)) {
                Some(component) => {
                    assert!(component["source"].as_str().is_some_and(|source| source.len() > 20), "{place}: no source");
                    check(&place, settings, &component["keys"], &mut problems);
                }
                None => problems.push(format!("{place}: no such component, or a deprecated name of one")),
            }
        }
    }
    problems
}

fn check(place: &str, settings: &Value, keys: &Value, problems: &mut Vec<String>) {
    for (key, value) in mapping(settings) {
        let key = key.as_str().unwrap();
        let place = format!("{place}.{key}");
        if let Some(items) = keys.get(format!("{key}[]")) {
            for item in value.as_sequence().unwrap() {
                check(&place, item, items, problems);
            }
            continue;
        }
        match keys.get(key) {
            Some(Value::Null) if !value.is_mapping() => {}
            Some(inner @ Value::Mapping(_)) if value.is_mapping() => check(&place, value, inner, problems),
            Some(_) => problems.push(format!("{place}: a value of another shape")),
            None => problems.push(format!("{place}: no such key")),
        }
    }
}

#[test]
fn every_component_and_key_of_the_collector_file_is_real() {
    assert_eq!(problems(&collector(), &known()), Vec::<String>::new());
}

/// The mistakes that a file like this has been seen with.
#[test]
fn a_deprecated_name_and_a_misspelt_key_are_found() {
    for (good, bad, problem) in [
        ("otlp_grpc:\n", "otlp:\n", "exporters.otlp: no such component"),
        ("  span_metrics:\n", "  spanmetrics:\n", "connectors.spanmetrics: no such component"),
        ("allow_all_keys:", "allow_all:", "processors.redaction.allow_all: no such key"),
        ("threshold_ms:", "threshold:", "policies.latency.threshold: no such key"),
        ("aggregation_cardinality_limit:", "dimensions_cache_size:", "dimensions_cache_size: no such key"),
        ("decision_wait: 1h", "decision_wait: {}", "decision_wait: a value of another shape"),
    ] {
        let text = read("collector.yaml");
        assert!(text.contains(good), "{good}");
        let problems = problems(&yaml(&text.replacen(good, bad, 1)), &known());
        assert!(problems.iter().any(|found| found.contains(problem)), "{problem}: {problems:?}");
    }
}

#[test]
fn pipelines_use_what_is_declared_and_count_before_they_sample() {
    let collector = collector();
    let pipelines = mapping(&collector["service"]["pipelines"]);
    let declared = |kind: &str| -> BTreeSet<String> {
        mapping(&collector[kind]).keys().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let used = |place: &str| -> BTreeSet<String> {
        pipelines.values().flat_map(|pipeline| names(&pipeline[place])).map(str::to_owned).collect()
    };
    let connectors = declared("connectors");
    assert_eq!(used("processors"), declared("processors"));
    assert_eq!(used("receivers"), declared("receivers").union(&connectors).cloned().collect());
    assert_eq!(used("exporters"), declared("exporters").union(&connectors).cloned().collect());

    let of = |name: &str, place: &str| names(&pipelines[name][place]);
    for signal in ["traces/in", "metrics", "logs"] {
        assert!(of(signal, "receivers").contains(&"otlp"), "{signal} takes what runs send");
        assert_eq!(of(signal, "processors")[0], "memory_limiter", "{signal}");
        assert!(of(signal, "processors").contains(&"redaction"), "{signal} is redacted");
    }
    assert!(of("traces/in", "exporters").contains(&"span_metrics"));
    assert!(!of("traces/in", "processors").contains(&"tail_sampling"), "what is sampled first is counted wrong");
    assert_eq!(of("traces/out", "processors"), ["tail_sampling"]);
    assert!(of("metrics", "processors").contains(&"resource"), "or every run makes new series");
    assert_eq!(collector["processors"]["resource"]["attributes"][0]["key"], "service.instance.id");
    assert_eq!(
        collector["processors"]["tail_sampling"]["decision_wait"], "1h",
        "or long runs are judged before their end"
    );
    assert!(collector["processors"]["tail_sampling"]["num_traces"].is_u64(), "what waits is bounded");
    assert_eq!(collector["processors"]["redaction"]["allow_all_keys"], Value::Bool(true), "or it strips everything");
}

#[test]
fn the_collector_blocks_what_we_plant() {
    let collector = collector();
    let redaction = &collector["processors"]["redaction"];
    let patterns: Vec<Regex> =
        names(&redaction["blocked_values"]).into_iter().map(|p| Regex::new(p).unwrap()).collect();
    for secret in [
        "postgres://ada:hunter2@db/prod",
        "in /home/ada/x.csv",
        "/Users/ada",
        "AKIAIOSFODNN7EXAMPLE",
        "Bearer 0123456789abcdef0123",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl",
    ] {
        assert!(patterns.iter().any(|pattern| pattern.is_match(secret)), "{secret}");
    }
    for fine in ["route_delays", "b3:c6084fdc2bf06f8c", "path#29fde71e3ef29831", "s3://path#29fde71e3ef29831"] {
        assert!(!patterns.iter().any(|pattern| pattern.is_match(fine)), "{fine}");
    }
    let keys: Vec<Regex> =
        names(&redaction["blocked_key_patterns"]).into_iter().map(|p| Regex::new(p).unwrap()).collect();
    assert!(keys.iter().any(|pattern| pattern.is_match("aws.Secret_Access_Key")));
    assert!(!keys.iter().any(|pattern| METRIC_KEYS.iter().any(|key| pattern.is_match(key))));
}

#[test]
fn span_metrics_speak_the_vocabulary() {
    let collector = collector();
    let connector = &collector["connectors"]["span_metrics"];
    let dimensions: Vec<&str> =
        connector["dimensions"].as_sequence().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(dimensions, METRIC_KEYS);
    let buckets: Vec<f64> = names(&connector["histogram"]["explicit"]["buckets"]).into_iter().map(seconds).collect();
    assert_eq!(buckets, DURATION_BUCKETS_S);
}

fn seconds(duration: &str) -> f64 {
    let (number, per_second) = if let Some(micros) = duration.strip_suffix("us") {
        (micros, 1e6)
    } else if let Some(millis) = duration.strip_suffix("ms") {
        (millis, 1e3)
    } else {
        (duration.strip_suffix('s').unwrap(), 1.0)
    };
    number.parse::<f64>().unwrap() / per_second
}

/// A name as Prometheus has it: its OTLP endpoint writes units out, and drops those in braces.
fn prometheus(name: &str, unit: &str, instrument: &str) -> String {
    let unit = match unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    let total = if instrument == "counter" { "_total" } else { "" };
    format!("{}{unit}{total}", name.replace('.', "_"))
}

#[test]
fn dashboard_and_alerts_ask_for_what_there_is() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut queries: Vec<String> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "panels have ids of their own");
    let queries_of_panels = queries.len();
    let windows = Regex::new(r"increase\([^\[]*\[(\w+)\]").unwrap();
    let offsets = Regex::new(r"offset (\w+)").unwrap();
    let alerts = yaml(&read("alerts.yaml"));
    for group in alerts["groups"].as_sequence().unwrap() {
        for rule in group["rules"].as_sequence().unwrap() {
            assert!(rule["alert"].is_string() && rule["annotations"]["summary"].is_string(), "{rule:?}");
            queries.push(rule["expr"].as_str().unwrap().to_owned());
        }
    }

    for (alert, query) in alerts["groups"][0]["rules"].as_sequence().unwrap().iter().zip(&queries[queries_of_panels..])
    {
        // Series of the Collector outlive the runs that they count.
        assert!(!query.contains("absent_over_time"), "{alert:?}");
        let windows: BTreeSet<&str> =
            windows.captures_iter(query).map(|found| found.get(1).unwrap().as_str()).collect();
        let offsets: BTreeSet<&str> =
            offsets.captures_iter(query).map(|found| found.get(1).unwrap().as_str()).collect();
        assert!(offsets.is_subset(&windows), "a series is new in the window that is counted: {query}");
    }

    let mut metrics: BTreeSet<String> =
        METRICS.iter().map(|metric| prometheus(metric.name, metric.unit, metric.instrument)).collect();
    metrics
        .extend(["traces_span_metrics_calls_total", "traces_span_metrics_duration_seconds_bucket"].map(str::to_owned));
    let name = Regex::new(r#"\b(?:alluvium|traces)_[a-z_]+(?:\.\*)?"#).unwrap();
    let labels = Regex::new(r#"([a-z_]+)=~?"([^"]*)""#).unwrap();
    let values: BTreeSet<&str> = SPANS.iter().map(|span| span.name).chain(ERROR_TYPES.iter().map(|e| e.name)).collect();
    for query in &queries {
        for found in name.find_iter(query).map(|found| found.as_str()) {
            let prefix = found.strip_suffix(".*");
            let there = prefix.map_or(metrics.contains(found), |prefix| metrics.iter().any(|m| m.starts_with(prefix)));
            assert!(there, "{found} in {query}");
        }
        for label in labels.captures_iter(query) {
            match &label[1] {
                "span_name" if !label[2].contains('\\') => assert!(values.contains(&label[2]), "{query}"),
                "cache_result" => assert!(["hit", "miss", "ok", "error"].contains(&&label[2]), "{query}"),
                "span_name" | "status_code" | "otel_metric_overflow" | "__name__" => {}
                other => panic!("{other} is no label: {query}"),
            }
        }
    }
    assert!(queries.len() > 15, "the queries were found");
}
