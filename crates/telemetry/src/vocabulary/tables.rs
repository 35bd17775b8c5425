//! The tables of the vocabulary.

use alluvium_contracts::{
    AdapterChoice, CacheOperation, CachePolicy, CacheRootReport, CacheRunSummary, CacheScope, Contract, KvStats,
    LookupResult, MaintenanceEvent, PreparedStatementUse, ScanConfiguration, SemanticValidation,
};

use super::{Attribute, Content, Metric, On, SpanName, Word, attribute, metric, span};

macro_rules! words {
    ($($word:expr),+ $(,)?) => { &[$($word.as_str()),+] };
}

const POLICIES: &[&str] =
    words![CachePolicy::None, CachePolicy::Memory, CachePolicy::DeltaStaging, CachePolicy::DeltaOutput];
const SCOPES: &[&str] = words![
    CacheScope::Dataset,
    CacheScope::View,
    CacheScope::Artifact,
    CacheScope::Snapshot,
    CacheScope::Ledger,
    CacheScope::Output,
];
const OPERATIONS: &[&str] = words![
    CacheOperation::Read,
    CacheOperation::Write,
    CacheOperation::Evict,
    CacheOperation::Snapshot,
    CacheOperation::LeaseWait,
    CacheOperation::Verify,
    CacheOperation::Gc,
];
const RESULTS: &[&str] = words![LookupResult::Hit, LookupResult::Miss, LookupResult::Ok, LookupResult::Error];
const ERROR_NAMES: [&str; ERROR_TYPES.len()] = {
    let mut names = [""; ERROR_TYPES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = ERROR_TYPES[index].name;
        index += 1;
    }
    names
};

const fn bounded(name: &'static str, meaning: &'static str, values: &'static [&'static str]) -> Attribute {
    Attribute { name, on: On::Everything, content: Content::Word, meaning, values }
}

const fn open(name: &'static str, content: Content, meaning: &'static str) -> Attribute {
    Attribute { name, on: On::SpansAndLogs, content, meaning, values: &[] }
}

/// Every attribute that may leave on a span, a log record or a metric.
pub const ATTRIBUTES: &[Attribute] = &[
    bounded(attribute::CACHE_OPERATION, "What was done to the cache.", OPERATIONS),
    bounded(attribute::CACHE_SCOPE, "What is cached.", SCOPES),
    bounded(attribute::CACHE_POLICY, "What becomes of a result.", POLICIES),
    bounded(attribute::CACHE_RESULT, "How it ended: a lookup as hit, miss or error; the rest as ok or error.", RESULTS),
    bounded(attribute::ERROR_TYPE, "The class of the error; absent where there was none.", &ERROR_NAMES),
    open(attribute::CACHE_NAME, Content::Name, "The view, dataset, artifact, output or ledger."),
    open(attribute::CACHE_KEY, Content::Id, "The cache key, as in the inventory and in commits."),
    open(attribute::CACHE_PATH, Content::Path, "Where the entry lies."),
    open(attribute::CACHE_BYTES, Content::Number, "Bytes read or written."),
    open(attribute::DURATION_MS, Content::Number, "How long the operation took, in milliseconds; on logs."),
    open(attribute::RUN_ID, Content::Id, "The run, as in the ledgers and in commits."),
    open(attribute::VIEW_NAME, Content::Name, "The view, as in the inventory."),
    open(attribute::RESULT, Content::Name, "How the run or the view ended, in the words of the ledgers."),
    open(attribute::PLAN_HASH, Content::Id, "The plan fingerprint, as in commits."),
    open(attribute::DB_QUERY_TEXT, Content::Sql, "A query, with `?` for each literal."),
    open(attribute::OPERATOR_ROWS, Content::Number, "Rows that an operator gave."),
    open(attribute::OPERATOR_COMPUTE_MS, Content::Number, "Time that an operator computed, over all its partitions."),
    open(attribute::OPERATOR_SCANNED_BYTES, Content::Number, "Bytes that an operator read from files."),
    open(attribute::OPERATOR_SPILLED_BYTES, Content::Number, "Bytes that an operator spilled."),
    open(attribute::ARTIFACT_ID, Content::Id, "Where a diagnostics artifact is stored."),
    open(attribute::PAYLOAD, Content::Text, "The JSON of a diagnostics event; redacted value by value before."),
    open(attribute::PAYLOAD_VERSION, Content::Number, "The version of that JSON's shape."),
    open("notice", Content::Text, "What a person is told, on logs."),
];

/// Prefixes of the attributes that describe the process, which a person sets in `OTEL_RESOURCE_ATTRIBUTES`.
pub const RESOURCE_ATTRIBUTES: &[Word] = &[
    Word { name: "service.name", meaning: "`OTEL_SERVICE_NAME`, else `alluvium`." },
    Word { name: "service.version", meaning: "The version of the binary." },
    Word { name: "service.instance.id", meaning: "A random UUID, one a process." },
    Word { name: "telemetry.sdk.*", meaning: "The SDK's name, language and version." },
];

const CACHE_SPAN: &[&str] = &[
    attribute::CACHE_OPERATION,
    attribute::CACHE_SCOPE,
    attribute::CACHE_POLICY,
    attribute::CACHE_RESULT,
    attribute::CACHE_NAME,
    attribute::CACHE_KEY,
    attribute::CACHE_BYTES,
    attribute::RUN_ID,
    attribute::ERROR_TYPE,
];

const fn cache_span(name: &'static str, meaning: &'static str) -> SpanName {
    SpanName { name, meaning, attributes: CACHE_SPAN }
}

/// Every span but those of operators.
pub const SPANS: &[SpanName] = &[
    SpanName {
        name: span::RUN,
        meaning: "One execution of a pipeline. Its trace id is the run id where the run began the trace.",
        attributes: &[attribute::RUN_ID, attribute::RESULT, attribute::ERROR_TYPE],
    },
    SpanName {
        name: span::VIEW,
        meaning: "One view in a run.",
        attributes: &[attribute::RUN_ID, attribute::VIEW_NAME, attribute::RESULT, attribute::ERROR_TYPE],
    },
    SpanName {
        name: span::PLAN,
        meaning: "The planning of a view.",
        attributes: &[
            attribute::RUN_ID,
            attribute::VIEW_NAME,
            attribute::PLAN_HASH,
            attribute::RESULT,
            attribute::ERROR_TYPE,
        ],
    },
    cache_span(span::READ, "A lookup."),
    cache_span(span::WRITE, "A new entry, or a commit to an output or a ledger."),
    cache_span(span::EVICT, "An entry taken away, or a damaged ledger set aside."),
    cache_span(span::SNAPSHOT, "A snapshot of the engine's caches."),
    cache_span(span::LEASE_WAIT, "Waiting for another process that computes the same key, or drains the ledgers."),
    cache_span(span::VERIFY, "A rehash of an entry's files."),
    cache_span(span::GC, "A collection of condemned entries."),
];

/// What the span of an operator carries. It is called as the engine calls the operator, so there is no list of names.
pub const OPERATOR_SPAN: &[&str] = &[
    attribute::RUN_ID,
    attribute::OPERATOR_ROWS,
    attribute::OPERATOR_COMPUTE_MS,
    attribute::OPERATOR_SCANNED_BYTES,
    attribute::OPERATOR_SPILLED_BYTES,
];

/// Every metric.
pub const METRICS: &[Metric] = &[
    Metric {
        name: metric::OPERATIONS,
        instrument: "counter",
        unit: "{operation}",
        meaning: "Cache operations that ended.",
        attributes: &super::METRIC_KEYS,
    },
    Metric {
        name: metric::DURATION,
        instrument: "histogram",
        unit: "s",
        meaning: "How long cache operations took.",
        attributes: &super::METRIC_KEYS,
    },
    Metric {
        name: metric::IO,
        instrument: "counter",
        unit: "By",
        meaning: "Bytes that cache operations read or wrote.",
        attributes: &super::METRIC_KEYS,
    },
    Metric {
        name: metric::ENTRIES,
        instrument: "observable up-down counter",
        unit: "{entry}",
        meaning: "Entries that a cache holds, as last counted by this process.",
        attributes: &[attribute::CACHE_POLICY, attribute::CACHE_SCOPE],
    },
];

/// Every class of error.
pub const ERROR_TYPES: &[Word] = &[
    Word { name: "compute", meaning: "The query failed." },
    Word { name: "source_changed", meaning: "A source changed while it was read." },
    Word { name: "superseded", meaning: "Another process took the lease over and published." },
    Word { name: "foreign_commit", meaning: "The head of an output is not ours." },
    Word { name: "contended", meaning: "Others kept committing to an output." },
    Word { name: "policy", meaning: "The write policy cannot be honoured." },
    Word { name: "write", meaning: "Data files could not be written." },
    Word { name: "commit", meaning: "The Delta commit failed." },
    Word { name: "read", meaning: "A table or its log could not be read." },
    Word { name: "index", meaning: "The index or the leases could not be used." },
    Word { name: "root", meaning: "The cache root could not be used." },
    Word { name: "io", meaning: "A file operation failed." },
    Word { name: "scan", meaning: "An entry could not be scanned." },
    Word { name: "damaged", meaning: "An entry's files are not as they were written; it was set aside." },
    Word { name: "shadow_mismatch", meaning: "An exact entry holds other rows than its view; it was set aside." },
    Word { name: "pipeline", meaning: "The pipeline file or its SQL is wrong; nothing was computed." },
    Word { name: "hook", meaning: "A hook of the host program refused it." },
    Word { name: "pin", meaning: "A source could not be read when it was pinned." },
    Word {
        name: "constraint",
        meaning: "The rows of a source are not what is declared of them; nothing was computed.",
    },
    Word { name: "session", meaning: "No session of the engine could be made." },
    Word { name: "ledger", meaning: "The ledgers could not be written or read." },
    Word { name: super::ABANDONED, meaning: "Dropped before it was finished: cancelled, or left by an early return." },
    Word { name: super::PANIC, meaning: "A thread panicked in it." },
    Word { name: super::OTHER_ERROR, meaning: "Any other." },
];

/// What runs tell in their diagnostics, by the kinds of the payloads' contracts. What an embedding program tells beside is named
/// after its contract too.
pub const DIAGNOSTICS: &[Word] = &[
    told::<CacheRootReport>(),
    told::<ScanConfiguration>(),
    told::<AdapterChoice>(),
    told::<PreparedStatementUse>(),
    told::<SemanticValidation>(),
    told::<MaintenanceEvent>(),
    told::<KvStats>(),
    told::<CacheRunSummary>(),
];

const fn told<T: Contract>() -> Word {
    Word { name: T::KIND, meaning: T::DOC }
}
