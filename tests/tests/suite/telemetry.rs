//! The signals of whole runs: their contract as snapshots, their agreement with the ledgers, and what they must not say.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alluvium_contracts::{
    AdapterChoice, CacheRootReport, CacheRunSummary, Contract, DatasetFormat, DiagnosticsEvent, Envelope, KvStats,
    PreparedAction, PreparedStatementUse, RunDocument, RunResult, ScanConfiguration, SchemaAdapter,
};
use alluvium_ledgers::{Ledger, LedgerError, Ledgers};
use alluvium_profile::{CacheRoot, KvKind};
use alluvium_runs::{Observer, OpenOptions, Pipeline, Progress, RunOptions, Silent};
use alluvium_telemetry::TraceContext;
use alluvium_telemetry::vocabulary::{DIAGNOSTICS, OPERATOR_SPAN, SPANS};
use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::Int64Type;
use opentelemetry_sdk::trace::SpanData;
use serde_json::Value;
use tokio::sync::Notify;

use crate::lab::{Lab, batches, later, results, try_run};
use crate::signals::Signals;

/// A view under every policy, and an output of its own.
const SOUND: &str = r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.clean]
sql = "select k, s from events where k > 1"

[views.sealed]
sql = "select k + 1 as k, s from clean"
cache = "none"

[views.held]
sql = "select s, max(k) as top from sealed group by s"
cache = "memory"

[views.counted]
sql = "select s, count(*) as n from clean group by s"
cache = "delta_output"

[outputs.counted]
view = "counted"
path = "out/counted"

[outputs.copy]
view = "clean"
path = "out/copy"
"#;

/// One that fails and one below it.
const BROKEN: &str = r#"
[views.broken]
sql = "select k / (k - k) as k from clean"

[views.below]
sql = "select k from broken"
"#;

fn lab() -> Lab {
    lab_of(&format!("{SOUND}{BROKEN}"))
}

fn lab_of(toml: &str) -> Lab {
    let lab = Lab::new(toml);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b"), (4, "c")]);
    lab
}

async fn run_recorded(lab: &Lab, signals: &Signals, options: RunOptions) -> RunDocument {
    signals
        .record(async {
            let pipeline = Lab::open_with(lab.dir(), signals.options());
            try_run(&pipeline, options, &Silent).await.unwrap()
        })
        .await
}

fn going_on() -> RunOptions {
    RunOptions { keep_going: true, ..RunOptions::default() }
}

#[tokio::test]
async fn golden_signals_of_a_run_that_writes_and_of_one_that_hits() {
    let lab = lab();
    let first = Signals::new();
    let document = run_recorded(&lab, &first, going_on()).await;
    assert_eq!(document.result, RunResult::Failed);
    let second = Signals::new();
    run_recorded(&lab, &second, going_on()).await;

    for (signals, document) in [(&first, Some(&document)), (&second, None)] {
        let spans = signals.spans();
        let root = spans.iter().find(|span| span.name == "run").unwrap();
        assert!(spans.iter().all(|span| span.span_context.trace_id() == root.span_context.trace_id()), "one trace");
        if let Some(document) = document {
            let run_id = document.run_id.as_uuid().simple().to_string();
            assert_eq!(root.span_context.trace_id().to_string(), run_id);
            let of_run = |span: &SpanData| {
                let run_id = document.run_id.to_string();
                span.attributes.iter().any(|pair| pair.key.as_str() == "run_id" && pair.value.as_str() == run_id)
            };
            assert!(spans.iter().all(of_run), "every span names the run");
        }
    }
    insta::assert_snapshot!("spans_of_a_run_that_writes", first.tree());
    insta::assert_snapshot!("spans_of_a_run_that_hits", second.tree());
    insta::assert_snapshot!("metrics_of_a_run_that_writes", first.metrics_text());
    insta::assert_snapshot!("metrics_of_a_run_that_hits", second.metrics_text());
    insta::assert_snapshot!("logs_of_a_run_that_writes", first.logs_text());
}

#[tokio::test]
async fn each_run_tells_its_diagnostics() {
    let lab = lab();
    let signals = Signals::new();
    let document = run_recorded(&lab, &signals, going_on()).await;
    let events = signals.diagnostics();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    let of_sources = [CacheRootReport::KIND, ScanConfiguration::KIND, AdapterChoice::KIND];
    let (statements, stores) = ([PreparedStatementUse::KIND; 6], [KvStats::KIND; 4]);
    assert_eq!(names, [&of_sources[..], &statements, &stores, &[CacheRunSummary::KIND]].concat());
    assert!(names.iter().all(|name| DIAGNOSTICS.iter().any(|word| word.name == *name)), "{names:?}");
    assert!(events.iter().all(|event| event.run_id == Some(document.run_id) && event.trace_id.is_some()));
    // What was redacted is still what its contract says.
    for event in &events {
        let document = serde_json::json!({ "kind": event.name, "version": event.version, "payload": event.payload });
        let valid = alluvium_contracts::validate(document.to_string().as_bytes(), Some(&event.name));
        assert!(valid.is_ok(), "{valid:?}: {document}");
    }
    let scan: ScanConfiguration = payload(&events[1]);
    assert_eq!((scan.dataset_name.as_str(), scan.format, scan.file_count), ("events", DatasetFormat::Parquet, 1));
    let adapter: AdapterChoice = payload(&events[2]);
    assert_eq!((adapter.adapter, adapter.groups.len()), (SchemaAdapter::Engine, 1));
    let statement: PreparedStatementUse = payload(&events[3]);
    assert_eq!((statement.name.as_str(), statement.action), ("caches", PreparedAction::Installed));
    let root = &events[0].payload;
    assert_eq!(root["named_by"], "default");
    assert_eq!(root["kv_kinds"], serde_json::json!(["index", "queue", "runtime", "schema"]));
    assert!(root["path"].as_str().unwrap().starts_with("path#"), "{root:?}");
    let index = events.iter().find(|event| event.payload.get("kind") == Some(&"index".into())).unwrap();
    assert!(index.payload["entry_count"].as_u64().unwrap() > 0 && index.payload["volume_bytes"].as_u64().unwrap() > 0);
}

/// The run summary, the inventory and the metrics: over a first run, over one that hits, and over one that fails.
#[tokio::test]
async fn summary_metrics_and_ledger_have_the_same_totals() {
    let lab = lab_of(SOUND);
    for (hits, writes, errors) in [(0, 2, 0), (2, 0, 0), (2, 0, 1)] {
        if errors > 0 {
            lab.write("alluvium.toml", &format!("{SOUND}{BROKEN}"));
        }
        let signals = Signals::new();
        let document = run_recorded(&lab, &signals, going_on()).await;
        let expected = if errors > 0 { RunResult::Failed } else { RunResult::Succeeded };
        assert_eq!(document.result, expected);
        totals_agree(&lab, &signals, &document, [hits, writes, errors]).await;
    }
}

async fn totals_agree(lab: &Lab, signals: &Signals, document: &RunDocument, expected: [u64; 3]) {
    let pipeline = lab.open();
    let run = format!("run_id = '{}'", document.run_id);
    let count = async |sql: String| number(&pipeline, &sql).await;
    let of_views = |result: &str| {
        format!(
            "select count(*) from alluvium.cache_inventory where {run} and cache_scope = 'view' and result = '{result}'"
        )
    };
    let operations = |pairs: &[&str]| signals.total("alluvium.cache.operations", pairs);

    let hits = operations(&["cache.scope=view", "cache.operation=read", "cache.result=hit"]);
    let writes = operations(&["cache.scope=view", "cache.operation=write", "cache.result=ok"])
        - operations(&["cache.scope=view", "cache.policy=memory", "cache.operation=write"]);
    let errors = operations(&["cache.scope=view", "cache.operation=write", "cache.result=error"]);
    for (result, column, metric) in
        [("hit", "hit_count", hits), ("write", "write_count", writes), ("error", "error_count", errors)]
    {
        let summary = count(format!("select {column} from alluvium.cache_runs where {run}")).await;
        let ledger = count(of_views(result)).await;
        assert_eq!((summary, ledger), (metric, metric), "{result}: {:?}", results(document));
    }
    assert_eq!([hits, writes, errors], expected, "{:?}", results(document));

    // Bytes: of every row that says `write`, once where the output is its view's entry. The ledgers' own are in no row.
    let written = count(format!(
        "select coalesce(sum(size_bytes), 0) from alluvium.cache_inventory \
         where {run} and result = 'write' and not (cache_scope = 'output' and view_name = 'counted')"
    ))
    .await;
    let bytes = |scope| signals.total("alluvium.cache.io", &["cache.operation=write", scope]);
    assert_eq!(bytes("cache.scope=view") + bytes("cache.scope=output"), written);

    // And each signal agrees with the others, operation by operation.
    let spans = signals.spans();
    let ended = cache_spans(&spans).count() as u64;
    assert_eq!((operations(&[]), signals.total("alluvium.cache.operation.duration", &[])), (ended, ended));
}

/// The spans of operations, whether they say how they ended or not.
fn cache_spans(spans: &[SpanData]) -> impl Iterator<Item = &SpanData> {
    spans.iter().filter(|span| span.name.starts_with("cache."))
}

/// Tells when a view was begun as often as it should be.
struct Begun {
    view: &'static str,
    left: AtomicUsize,
    all: Notify,
}

impl Observer for Begun {
    fn notify(&self, progress: &Progress) {
        if matches!(progress, Progress::ViewStarted { name } if name == self.view)
            && self.left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            self.all.notify_one();
        }
    }
}

/// Runs that are at the same view: one of them computes it, and the other waits, finds it, and has written nothing.
#[tokio::test]
async fn who_waits_for_an_entry_and_finds_it_has_no_span_of_a_write() {
    let lab = lab_of(SOUND);
    let key = lab.keys().await["clean"].unwrap();
    let digits: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::create_dir_all(lab.path(".alluvium/leases")).unwrap();
    let lease = std::fs::File::create(lab.path(&format!(".alluvium/leases/{digits}.lock"))).unwrap();
    lease.lock().unwrap();
    let signals = Signals::new();
    let begun = Begun { view: "clean", left: AtomicUsize::new(2), all: Notify::new() };
    let (one, other) = signals
        .record(async {
            let pipeline = Lab::open_with(lab.dir(), signals.options());
            let run = || try_run(&pipeline, RunOptions::default(), &begun);
            // Both have looked for the entry in vain before either may compute it.
            let release = async {
                begun.all.notified().await;
                drop(lease);
            };
            let (one, other, ()) = tokio::join!(run(), run(), release);
            (one.unwrap(), other.unwrap())
        })
        .await;
    let mut of_clean = [&one, &other].map(|run| results(run).into_iter().find(|of| of.starts_with("clean: ")).unwrap());
    of_clean.sort();
    assert_eq!(of_clean, ["clean: hit", "clean: write"]);
    let spans = signals.spans();
    let has = |span: &SpanData, key: &str, value: &str| {
        span.attributes.iter().any(|pair| pair.key.as_str() == key && pair.value.as_str() == value)
    };
    let writes = cache_spans(&spans).filter(|span| span.name == "cache.write" && has(span, "cache.name", "clean"));
    assert_eq!(writes.count(), 1, "{}", signals.tree());
    for span in cache_spans(&spans) {
        assert!(span.attributes.iter().any(|pair| pair.key.as_str() == "cache.result"), "{span:?}");
    }
    let ended = cache_spans(&spans).count() as u64;
    assert_eq!(signals.total("alluvium.cache.operations", &[]), ended, "{}", signals.tree());
}

/// A ledger is a cache scope like any other, though no ledger tells of it.
#[tokio::test]
async fn what_is_done_to_ledgers_is_measured() {
    let lab = lab_of(SOUND);
    lab.run().await;
    let inventory = lab.path(".alluvium/cache_ledgers/datafusion_view_cache_inventory_v1");
    std::fs::remove_dir_all(inventory.join("_delta_log")).unwrap();

    let signals = Signals::new();
    let ledgers = ["cache.scope=ledger"];
    signals
        .record(async {
            let pipeline = Lab::open_with(lab.dir(), signals.options());
            looked_up_during_a_drain(&lab, &signals).await;
            batches(&pipeline, "select * from alluvium.cache_inventory").await;
            try_run(&pipeline, RunOptions { fresh: true, ..RunOptions::default() }, &Silent).await.unwrap();
            batches(&pipeline, "select * from alluvium.cache_runs").await;
        })
        .await;
    let of = |more: &[&str]| signals.total("alluvium.cache.operations", &[&ledgers, more].concat());
    assert_eq!(of(&["cache.operation=lease_wait", "cache.result=error", "error.type=ledger"]), 1);
    assert_eq!(of(&["cache.operation=read", "cache.result=error", "error.type=ledger"]), 1);
    assert_eq!(of(&["cache.operation=evict", "cache.result=ok"]), 1, "the damaged one is set aside");
    assert_eq!(of(&["cache.operation=read", "cache.result=miss"]), 1, "and then there is none");
    assert_eq!(of(&["cache.operation=read", "cache.result=hit"]), 1, "a query looks up what it asks");
    assert_eq!(of(&["cache.operation=write", "cache.result=ok"]), 4, "every ledger but that of snapshots");
    assert!(signals.total("alluvium.cache.io", &ledgers) > 1_000);
}

/// Looks a damaged ledger up while a drainer does not finish.
async fn looked_up_during_a_drain(lab: &Lab, signals: &Signals) {
    let root = CacheRoot::open(&lab.path(".alluvium"), &later()).unwrap();
    let ledgers = Ledgers::open(root.ledgers(), root.kv(KvKind::Queue).unwrap().clone(), later()).unwrap();
    let ledgers = ledgers.with_metrics(signals.options().metrics.unwrap()).with_drain_wait(Duration::from_millis(5));
    let lock = std::fs::File::create(ledgers.path().join(".drain.lock")).unwrap();
    lock.lock().unwrap();
    let found = ledgers.table(Ledger::CacheInventory).await;
    assert!(matches!(found, Err(LedgerError::Busy { .. })), "a damaged one is set aside by nobody else");
}

/// The operators of a query, asked for by the profile: they change no key and say nothing of the query.
#[tokio::test]
async fn operators_have_spans_where_the_profile_asks_for_them() {
    let lab = lab_of(SOUND);
    let keys = lab.keys().await;
    let signals = Signals::new();
    signals.install();
    let environment = vec![("ALLUVIUM_PROFILE_QUERY_SPANS".into(), "true".into())];
    let document = signals
        .record(async {
            let pipeline = Lab::open_with(lab.dir(), OpenOptions { environment, ..signals.options() });
            try_run(&pipeline, RunOptions::default(), &Silent).await.unwrap()
        })
        .await;
    assert_eq!(document.result, RunResult::Succeeded);

    let spans = signals.spans();
    let is_ours = |span: &SpanData| SPANS.iter().any(|known| known.name == span.name);
    let operators: Vec<_> = spans.iter().filter(|span| !is_ours(span)).collect();
    let named = |name: &str| operators.iter().filter(|span| span.name == name).count();
    assert!(named("FilterExec") > 0 && named("DataSourceExec") > 0 && named("AggregateExec") > 0, "{}", signals.tree());
    for span in &operators {
        let keys: Vec<&str> = span.attributes.iter().map(|pair| pair.key.as_str()).collect();
        assert!(
            keys.iter().all(|key| OPERATOR_SPAN.contains(key)) && keys.contains(&"run_id"),
            "{}: {keys:?}",
            span.name
        );
        let mut above = *span;
        while let Some(parent) = spans.iter().find(|one| one.span_context.span_id() == above.parent_span_id) {
            above = parent;
            if is_ours(above) {
                break;
            }
        }
        assert!(["cache.write", "view"].contains(&above.name.as_ref()), "{} is below {}", span.name, above.name);
    }
    let rows = |span: &SpanData| {
        span.attributes.iter().any(|pair| format!("{}={}", pair.key, pair.value) == "operator.rows=3")
    };
    assert!(operators.iter().any(|span| span.name == "FilterExec" && rows(span)), "three rows pass k > 1");

    // Without them the same keys, and so hits.
    assert_eq!(lab.keys().await, keys);
    let again = lab.run().await;
    assert!(results(&again).contains(&"clean: hit".to_owned()), "{:?}", results(&again));
}

#[tokio::test]
async fn a_trace_context_goes_in_and_into_every_commit() {
    let parent: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let lab = lab();
    let signals = Signals::new();
    let options = RunOptions { parent: Some(parent.clone()), ..going_on() };
    let document = run_recorded(&lab, &signals, options).await;

    let spans = signals.spans();
    let root = spans.iter().find(|span| span.name == "run").unwrap();
    assert_eq!(root.parent_span_id, parent.span_id());
    let expected = format!("00-{}-{}-01", parent.trace_id(), root.span_context.span_id());
    let mut commits = Vec::new();
    for table in ["out/counted", "out/copy", ".alluvium/view_cache"] {
        commits.extend(first_commits(&lab.path(table)));
    }
    assert_eq!(commits.len(), 3, "two outputs and the entry of `clean`");
    for commit in commits {
        assert_eq!(commit["traceparent"], expected.as_str());
        assert_eq!(commit["run_id"], document.run_id.to_string());
    }
    // And from there to the rows.
    let rows = format!("select count(*) from alluvium.cache_inventory where run_id = '{}'", document.run_id);
    assert_eq!(number(&lab.open(), &rows).await, 8, "six views and two outputs");
}

/// A run that nobody records has a place in a trace all the same.
#[tokio::test]
async fn commits_carry_a_trace_context_without_any_receiver() {
    let lab = lab();
    let document = try_run(&lab.open(), going_on(), &Silent).await.unwrap();
    let commit = &first_commits(&lab.path("out/copy"))[0];
    let trace_id = document.run_id.as_uuid().simple().to_string();
    assert!(commit["traceparent"].as_str().unwrap().starts_with(&format!("00-{trace_id}-")), "{commit}");
}

/// Credentials that look like some, in data, SQL and paths.
const CREDENTIALS: [&str; 2] = ["hunter2", "AKIAIOSFODNN7EXAMPLE"];
/// What else exporters must not say: a literal, a value of the data, a directory.
const PRIVATE: [&str; 3] = ["1990-01-01", "lovelace", "out/secret-place"];

#[tokio::test]
async fn planted_secrets_are_in_nothing_that_is_exported_or_kept() {
    let lab = Lab::new(
        r#"
[sources.people]
format = "csv"
path = "data/secret-place/people.csv"

[views.chosen]
sql = "select name, note from people where born >= '1990-01-01' and note <> 'token=AKIAIOSFODNN7EXAMPLE'"

[views.cast]
sql = "select cast(note as int) as n from chosen"

[views.token]
sql = "select cast(name as int) as n from chosen where name like 'AKIA%'"

[outputs.chosen]
view = "chosen"
path = "out/secret-place"
"#,
    );
    lab.write(
        "data/secret-place/people.csv",
        "name,born,note\nlovelace,1990-01-01,password=hunter2\nAKIAIOSFODNN7EXAMPLE,1991-01-01,lovelace s3://ada:hunter2@bucket/x\n",
    );
    let signals = Signals::new();
    let document = run_recorded(&lab, &signals, going_on()).await;
    assert_eq!(results(&document), ["chosen: write", "cast: error", "token: error"], "{document:#?}");

    for (exporter, text) in signals.everything() {
        assert!(text.len() > 200, "{exporter} got something to leak: {text}");
        for secret in CREDENTIALS.iter().chain(&PRIVATE) {
            assert!(!text.contains(secret), "{secret} left by {exporter}: {text}");
        }
        let home = lab.dir().to_str().unwrap();
        assert!(!text.contains(home), "{home} left by {exporter}: {text}");
    }
    let printed = serde_json::to_string_pretty(&Envelope::new(document)).unwrap();
    let pipeline = lab.open();
    let ledgers = crate::lab::answer(&pipeline, "select * from alluvium.cache_inventory").await
        + &crate::lab::answer(&pipeline, "select * from alluvium.cache_runs").await;
    assert!(printed.contains("[redacted]") && ledgers.contains("[redacted]"), "the reasons had something to redact");
    // What a person writes into SQL is kept as it stands, for replay, but for credentials.
    let mut documents = String::new();
    for ledger in ["run_manifests", "cache_artifacts"] {
        documents += &crate::lab::answer(&pipeline, &format!("select * from alluvium.{ledger}")).await;
    }
    assert!(documents.len() > 1_000 && documents.contains("1990-01-01"), "{documents}");
    for secret in CREDENTIALS {
        assert!(!documents.contains(secret), "{secret} is in a document: {documents}");
        assert!(!printed.contains(secret), "{secret} is printed: {printed}");
        assert!(!ledgers.contains(secret), "{secret} is in the ledgers: {ledgers}");
    }
}

fn payload<T: Contract>(event: &DiagnosticsEvent) -> T {
    serde_json::from_value(serde_json::json!(event.payload)).unwrap()
}

async fn number(pipeline: &Pipeline, sql: &str) -> u64 {
    let batches = batches(pipeline, sql).await;
    let column = batches[0].column(0);
    assert!(!column.is_null(0), "{sql}");
    u64::try_from(column.as_primitive::<Int64Type>().value(0)).unwrap()
}

/// The `commitInfo` of version 0 of every table at or below `dir`.
fn first_commits(dir: &std::path::Path) -> Vec<Value> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.ends_with("_delta_log") {
            let text = std::fs::read_to_string(entry.join("00000000000000000000.json")).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            found.extend(lines.filter_map(|line| line.get("commitInfo").cloned()));
        } else if entry.is_dir() {
            found.extend(first_commits(&entry));
        }
    }
    found
}
