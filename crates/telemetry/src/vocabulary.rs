//! Every word that leaves the process as a signal: spans, attributes, metrics, results, errors and events.
//!
//! This is the one place. Code takes its names from here, Views and the redacting exporters let through what is listed
//! here and nothing else, and `docs/observability/vocabulary.md` is [`page`] written to a file.
//!
//! A name with dots is OpenTelemetry's or ours in its style. A name with underscores is also a column of the ledgers and
//! a key of the commits, so that one search finds a run, an entry or a trace in all three.

mod page;
mod tables;

pub use page::page;
pub use tables::{ATTRIBUTES, DIAGNOSTICS, ERROR_TYPES, METRICS, OPERATOR_SPAN, RESOURCE_ATTRIBUTES, SPANS};

/// The instrumentation scope of everything that Alluvium emits, and the prefix of its `tracing` targets.
pub const SCOPE: &str = "alluvium";

/// The `tracing` target of cache spans and events.
pub const TARGET_CACHE: &str = "alluvium.cache";

/// The `tracing` target of the spans of a run.
pub const TARGET_RUN: &str = "alluvium.run";

/// Names of attributes.
pub mod attribute {
    /// What was done to a cache.
    pub const CACHE_OPERATION: &str = "cache.operation";
    /// To what.
    pub const CACHE_SCOPE: &str = "cache.scope";
    /// Under which policy.
    pub const CACHE_POLICY: &str = "cache.policy";
    /// How it ended.
    pub const CACHE_RESULT: &str = "cache.result";
    /// A class of the error, where there was one.
    pub const ERROR_TYPE: &str = "error.type";
    /// The name of the view, dataset, artifact, output or ledger.
    pub const CACHE_NAME: &str = "cache.name";
    /// The key of the content.
    pub const CACHE_KEY: &str = "cache_key";
    /// Where the entry lies; leaves hashed.
    pub const CACHE_PATH: &str = "cache.path";
    /// Bytes read or written.
    pub const CACHE_BYTES: &str = "cache.bytes";
    /// How long the operation took, in milliseconds.
    pub const DURATION_MS: &str = "duration_ms";
    /// The run.
    pub const RUN_ID: &str = "run_id";
    /// The view that a span is about.
    pub const VIEW_NAME: &str = "view_name";
    /// How a run or a view ended.
    pub const RESULT: &str = "result";
    /// The identity of the computation.
    pub const PLAN_HASH: &str = "plan_hash";
    /// The text of a query; its literals leave as `?`.
    pub const DB_QUERY_TEXT: &str = "db.query.text";
    /// Rows that an operator gave.
    pub const OPERATOR_ROWS: &str = "operator.rows";
    /// Time that it computed, over all its partitions, in milliseconds.
    pub const OPERATOR_COMPUTE_MS: &str = "operator.compute_ms";
    /// Bytes that it read from files.
    pub const OPERATOR_SCANNED_BYTES: &str = "operator.scanned_bytes";
    /// Bytes that it spilled.
    pub const OPERATOR_SPILLED_BYTES: &str = "operator.spilled_bytes";
    /// Where a diagnostics artifact is stored.
    pub const ARTIFACT_ID: &str = "artifact_id";
    /// The JSON of a diagnostics event.
    pub const PAYLOAD: &str = "alluvium.diagnostics.payload";
    /// The version of that JSON's shape.
    pub const PAYLOAD_VERSION: &str = "alluvium.diagnostics.version";
}

/// Names of metrics.
pub mod metric {
    /// Cache operations that ended.
    pub const OPERATIONS: &str = "alluvium.cache.operations";
    /// How long they took.
    pub const DURATION: &str = "alluvium.cache.operation.duration";
    /// Bytes that they read or wrote.
    pub const IO: &str = "alluvium.cache.io";
    /// Entries that a cache holds.
    pub const ENTRIES: &str = "alluvium.cache.entry.count";
}

/// Names of spans.
pub mod span {
    /// One execution of a pipeline.
    pub const RUN: &str = "run";
    /// One view in a run.
    pub const VIEW: &str = "view";
    /// The planning of a view.
    pub const PLAN: &str = "plan";
    /// A lookup.
    pub const READ: &str = "cache.read";
    /// A new entry, or a commit to an output or a ledger.
    pub const WRITE: &str = "cache.write";
    /// An entry taken away, or a damaged ledger set aside.
    pub const EVICT: &str = "cache.evict";
    /// A snapshot of the engine's caches.
    pub const SNAPSHOT: &str = "cache.snapshot";
    /// Waiting for another process that computes the same key, or drains the ledgers.
    pub const LEASE_WAIT: &str = "cache.lease_wait";
    /// A rehash of an entry's files.
    pub const VERIFY: &str = "cache.verify";
    /// A collection of condemned entries.
    pub const GC: &str = "cache.gc";
}

/// What an error is called when its own class is not in [`ERROR_TYPES`]: OpenTelemetry's word for "another".
pub const OTHER_ERROR: &str = "_OTHER";

/// The class of a cache operation that was dropped before it was finished.
pub const ABANDONED: &str = "abandoned";

/// The class of a cache operation in which a thread panicked.
pub const PANIC: &str = "panic";

/// The attributes of metrics; Views drop every other.
pub const METRIC_KEYS: [&str; 5] = [
    attribute::CACHE_POLICY,
    attribute::CACHE_SCOPE,
    attribute::CACHE_OPERATION,
    attribute::CACHE_RESULT,
    attribute::ERROR_TYPE,
];

/// The most series that one metric makes. What would make more is counted under `otel.metric.overflow`.
pub const MAX_SERIES: usize = 512;

/// Upper bounds of the buckets of durations, in seconds: 100 µs to 60 s, three a decade.
pub const DURATION_BUCKETS_S: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// Where an attribute may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Metrics, spans and logs.
    Everything,
    /// Spans and logs: its values have no bound.
    SpansAndLogs,
}

/// What a value of an attribute is, which decides how it is redacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// One of a few words of ours.
    Word,
    /// A name that a person gave.
    Name,
    /// A digest or an id.
    Id,
    /// A number.
    Number,
    /// A path or URL: leaves hashed unless opted in.
    Path,
    /// SQL: leaves with `?` for each literal.
    Sql,
    /// Free text: credentials, quoted text and paths are taken out.
    Text,
}

/// An attribute.
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// Where it may stand.
    pub on: On,
    /// What its values are.
    pub content: Content,
    /// Its meaning.
    pub meaning: &'static str,
    /// All its values, where it has few.
    pub values: &'static [&'static str],
}

/// A span.
#[derive(Debug, Clone, Copy)]
pub struct SpanName {
    /// Its name.
    pub name: &'static str,
    /// Its meaning.
    pub meaning: &'static str,
    /// What it carries.
    pub attributes: &'static [&'static str],
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its instrument.
    pub instrument: &'static str,
    /// Its unit, in UCUM.
    pub unit: &'static str,
    /// Its meaning.
    pub meaning: &'static str,
    /// What it carries.
    pub attributes: &'static [&'static str],
}

/// A word with its meaning.
#[derive(Debug, Clone, Copy)]
pub struct Word {
    /// The word on the wire.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

/// The class under which an error leaves: `kind` where the table has it, else [`OTHER_ERROR`], so that a class made from
/// a message cannot make a series.
#[must_use]
pub fn error_type(kind: &str) -> &'static str {
    ERROR_TYPES.iter().find(|known| known.name == kind).map_or(OTHER_ERROR, |known| known.name)
}

/// The attribute called `name`, where it may leave at all.
#[must_use]
pub fn attribute_named(name: &str) -> Option<&'static Attribute> {
    ATTRIBUTES.iter().find(|attribute| attribute.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_references_resolve() {
        let names: BTreeSet<_> = ATTRIBUTES.iter().map(|attribute| attribute.name).collect();
        assert_eq!(names.len(), ATTRIBUTES.len(), "an attribute is listed twice");
        let used = SPANS.iter().flat_map(|span| span.attributes).chain(METRICS.iter().flat_map(|m| m.attributes));
        let used = used.chain(OPERATOR_SPAN);
        for name in used {
            assert!(names.contains(name), "{name} is used and not listed");
        }
    }

    #[test]
    fn metrics_carry_bounded_attributes_only() {
        for name in METRICS.iter().flat_map(|metric| metric.attributes).chain(&METRIC_KEYS) {
            let attribute = attribute_named(name).unwrap();
            assert_eq!(attribute.on, On::Everything, "{name}");
            assert!(!attribute.values.is_empty(), "{name} has no list of values");
        }
    }

    #[test]
    fn the_words_of_the_contracts_fit_the_bound() {
        let count = |name: &str| attribute_named(name).unwrap().values.len();
        // A lookup ends in three ways and any other operation in two; an error has one class.
        let ends = count(attribute::CACHE_OPERATION) * 2 + 1 + count(attribute::ERROR_TYPE);
        assert!(ends < MAX_SERIES, "{ends} series for one scope and policy");
    }

    #[test]
    fn an_unknown_error_is_another() {
        assert_eq!(error_type("compute"), "compute");
        assert_eq!(error_type("no such file /home/ada"), OTHER_ERROR);
    }

    #[test]
    fn buckets_go_up() {
        assert!(DURATION_BUCKETS_S.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((DURATION_BUCKETS_S[0], DURATION_BUCKETS_S[17]), (100e-6, 60.0));
    }
}
