//! Variables of the standard that the SDK passes over in silence: what they say is not understood, or not done.
//!
//! They may be set for other programs, so they end nothing. Values are not repeated: headers hold credentials.

/// A value that means something.
type Meaning = fn(&str) -> bool;

const WHOLE_NUMBER: (Meaning, &str) = (|value| value.parse::<u64>().is_ok(), "write a whole number");
const PAIRS: (Meaning, &str) = (
    |value| value.split_terminator(',').all(|pair| pair.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty())),
    "write key=value, with commas between",
);
const RATIO: (Meaning, &str) =
    (|value| value.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio)), "write a number from 0 to 1");
const COMPRESSION: (Meaning, &str) = (|value| is_one_of(value, &["gzip", "none"]), "write gzip or none");
const TEMPORALITY: (Meaning, &str) =
    (|value| is_one_of(value, &["cumulative", "delta", "lowmemory"]), "write cumulative, delta or lowmemory");
const SAMPLER: (Meaning, &str) = (
    |value| {
        let samplers = ["always_on", "always_off", "traceidratio"];
        samplers.contains(&value.strip_prefix("parentbased_").unwrap_or(value))
    },
    "write always_on, always_off or traceidratio, or one of them after parentbased_",
);
const FLAG: (Meaning, &str) = (|value| is_one_of(value, &["true", "false"]), "write true or false");
const NOTHING: (Meaning, &str) = (|_| false, "Alluvium shows a collector no certificate of its own");

fn is_one_of(value: &str, known: &[&str]) -> bool {
    known.iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Variables of OTLP, each also by signal: `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`.
const OF_OTLP: [(&str, (Meaning, &str)); 5] = [
    ("TIMEOUT", WHOLE_NUMBER),
    ("HEADERS", PAIRS),
    ("COMPRESSION", COMPRESSION),
    ("CLIENT_KEY", NOTHING),
    ("CLIENT_CERTIFICATE", NOTHING),
];

const OTHERS: [(&str, (Meaning, &str)); 16] = [
    ("OTEL_SDK_DISABLED", FLAG),
    ("OTEL_RESOURCE_ATTRIBUTES", PAIRS),
    ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", TEMPORALITY),
    ("OTEL_TRACES_SAMPLER", SAMPLER),
    ("OTEL_METRIC_EXPORT_INTERVAL", WHOLE_NUMBER),
    ("OTEL_BSP_SCHEDULE_DELAY", WHOLE_NUMBER),
    ("OTEL_BSP_MAX_QUEUE_SIZE", WHOLE_NUMBER),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", WHOLE_NUMBER),
    ("OTEL_BSP_EXPORT_TIMEOUT", WHOLE_NUMBER),
    ("OTEL_BLRP_SCHEDULE_DELAY", WHOLE_NUMBER),
    ("OTEL_BLRP_MAX_QUEUE_SIZE", WHOLE_NUMBER),
    ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", WHOLE_NUMBER),
    ("OTEL_BLRP_EXPORT_TIMEOUT", WHOLE_NUMBER),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", WHOLE_NUMBER),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", WHOLE_NUMBER),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", WHOLE_NUMBER),
];

/// A warning for each variable that is passed over.
pub(super) fn warnings(variable: &impl Fn(&str) -> Option<String>) -> Vec<String> {
    let of_otlp = OF_OTLP.iter().flat_map(|(name, meaning)| {
        ["", "TRACES_", "METRICS_", "LOGS_"].map(|signal| (format!("OTEL_EXPORTER_OTLP_{signal}{name}"), *meaning))
    });
    let is_ratio = variable("OTEL_TRACES_SAMPLER").is_some_and(|sampler| sampler.ends_with("traceidratio"));
    let argument = is_ratio.then(|| ("OTEL_TRACES_SAMPLER_ARG".to_owned(), RATIO));
    of_otlp
        .chain(OTHERS.iter().map(|(name, meaning)| ((*name).to_owned(), *meaning)))
        .chain(argument)
        .filter(|(name, (means_something, _))| variable(name).is_some_and(|value| !means_something(value.trim())))
        .map(|(name, (_, expected))| format!("{name} is not heeded: {expected}"))
        .collect()
}
