//! Secrets planted wherever a value can be handed in, and looked for in everything that leaves.

use std::sync::Arc;

use alluvium_contracts::{CacheOperation, CachePolicy, CacheScope, Contract, Form, UnknownFields};
use alluvium_telemetry::{
    CacheSpan, CacheStart, Diagnostics, JsonLinesSink, MemorySink, PathPolicy, Redactor, RunSpan, Seam, view_span,
};
use opentelemetry::KeyValue;
use opentelemetry::trace::{Status, TraceContextExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::Kept;

/// What must be found nowhere.
const SECRETS: [&str; 6] = ["hunter2", "AKIAIOSFODNN7EXAMPLE", "1990-01-01", "/home/ada", "lovelace", "s3://vault"];

const PLANTED: &str = "cannot read s3://vault/x?sig=hunter2 as AKIAIOSFODNN7EXAMPLE with password=hunter2 \
                       from /home/ada/lovelace.csv: bad value '1990-01-01'";

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Planted {
    message: String,
    sql: String,
    cache_root: String,
    options: Vec<(String, String)>,
    secret_access_key: String,
}

impl Contract for Planted {
    const KIND: &'static str = "planted";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a payload of this test";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        planted()
    }
}

fn planted() -> Planted {
    Planted {
        message: PLANTED.to_owned(),
        sql: "SELECT * FROM t WHERE born = '1990-01-01' AND pw = 'hunter2'".to_owned(),
        cache_root: "/home/ada/lovelace".to_owned(),
        options: vec![("url".to_owned(), "postgres://lovelace:hunter2@db".to_owned())],
        secret_access_key: "hunter2".to_owned(),
    }
}

/// Everything that `kept` and the files got, as one text.
fn everything(policy: PathPolicy) -> (String, Vec<&'static str>) {
    let dir = tempfile::tempdir().unwrap();
    let (trace, lines) = (dir.path().join("trace.json"), dir.path().join("events.jsonl"));
    let redactor = Redactor::default().with_paths(policy);
    let kept = Kept::with(|builder| builder.with_redactor(redactor.clone()).with_trace_file(trace.clone()).unwrap());
    let memory = Arc::new(MemorySink::default());
    kept.record(|metrics| {
        let seam = Seam::system();
        let run = RunSpan::begin(&seam, seam.run_id(), None);
        let _inside = run.enter();
        let start = CacheStart {
            operation: CacheOperation::Write,
            scope: CacheScope::View,
            policy: CachePolicy::DeltaStaging,
            name: "/home/ada/lovelace",
            cache_key: None,
        };
        let writing = CacheSpan::start(metrics, &seam, start);
        // Past the vocabulary, as a careless caller or another crate would.
        writing.span().in_scope(|| {
            let context = opentelemetry::Context::current();
            let span = context.span();
            span.set_attribute(KeyValue::new("db.query.text", "SELECT 'hunter2', '1990-01-01'"));
            span.set_attribute(KeyValue::new("cache.path", "/home/ada/lovelace"));
            span.set_attribute(KeyValue::new("user.password", "hunter2"));
            span.set_attribute(KeyValue::new("notice", PLANTED));
            span.add_event(PLANTED.to_owned(), vec![KeyValue::new("x", "hunter2"), KeyValue::new("notice", PLANTED)]);
            span.set_status(Status::error(PLANTED));
        });
        drop(writing.error(PLANTED));
        let view = view_span("lovelace s3://vault/x");
        view.in_scope(|| {
            tracing::error!(target: "alluvium.cache", notice = PLANTED, password = "hunter2", "{PLANTED}");
        });
        let diagnostics = Diagnostics::new(seam, redactor.clone())
            .with_sink(kept.sdk.diagnostics_sink().unwrap())
            .with_sink(Arc::new(JsonLinesSink::open(&lines).unwrap()))
            .with_sink(memory.clone());
        diagnostics.artifact(&planted(), None);
    });
    let parts = [
        ("spans", format!("{:?}", kept.spans.0.lock().unwrap())),
        ("logs", format!("{:?}", kept.logs.0.lock().unwrap())),
        ("metrics", format!("{:?}", kept.metrics.get_finished_metrics().unwrap())),
        ("memory", format!("{:?}", memory.events())),
        ("lines", std::fs::read_to_string(&lines).unwrap()),
        ("trace file", std::fs::read_to_string(&trace).unwrap()),
    ];
    let empty = parts.iter().filter(|(_, text)| text.len() < 100).map(|(name, _)| *name).collect();
    (parts.map(|(name, text)| format!("== {name}\n{text}\n")).concat(), empty)
}

#[test]
fn planted_secrets_are_in_nothing_that_leaves() {
    let (text, empty) = everything(PathPolicy::Hashed);
    assert_eq!(empty, Vec::<&str>::new(), "each got something to leak");
    for secret in SECRETS {
        // The name of a view is a name: only what it says of paths and credentials is taken out.
        let text = if secret == "lovelace" { text.replace("lovelace s3://path#", "") } else { text.clone() };
        if let Some(at) = text.find(secret) {
            let from = text.floor_char_boundary(at.saturating_sub(300));
            panic!("{secret} left in: {}", &text[from..text.floor_char_boundary(at + 100)]);
        }
    }
}

#[test]
fn opting_in_to_paths_shows_paths_and_nothing_else() {
    let (text, _) = everything(PathPolicy::Shown);
    assert!(text.contains("~/lovelace.csv") && text.contains("s3://vault/x"), "paths are shown");
    for secret in ["hunter2", "AKIAIOSFODNN7EXAMPLE", "1990-01-01", "/home/ada"] {
        assert!(!text.contains(secret), "{secret} left");
    }
}
