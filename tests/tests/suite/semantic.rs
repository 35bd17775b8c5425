//! Semantic types of columns on their way: through views under every cache policy, tables, files, and back in as sources.

use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{Contract, Envelope, RunResult, SemanticStatus, SemanticValidation, Severity};
use alluvium_runs::{OpenOptions, Pipeline, RunOptions, Silent};
use alluvium_telemetry::{Diagnostics, DiagnosticsSink, MemorySink, Redactor};
use arrow::array::{AsArray, RecordBatch};
use parquet::arrow::ArrowWriter;

use crate::lab::{Lab, batches, later, results, try_run};

const TOML: &str = r#"
[sources.calls]
format = "parquet"
path = "data/calls.parquet"

[views.ids]
sql = """
select stable_id('NodeId', s) as node, stable_id('EdgeId', s, k) as edge, span_id(s, span_make(k, k + 1)) as span, s
from calls
"""

[views.kept]
cache = "memory"
sql = "select node, edge, span, s from ids where s <> 'x'"

[views.passed]
cache = "none"
sql = "select node as node, edge, span, s from kept"

[views.joined]
sql = "select a.node, b.edge, coalesce(b.s, 'x') as s from passed as a left join ids as b on a.node = b.node"

[views.together]
sql = "select node, edge from ids union all select node, edge from passed"

[views.grouped]
sql = "select node, max(s) as s, count(*) as n from together as t join ids using (node) group by node"

[views.mixed]
sql = "select node as id from ids union all select s from ids"

[views.other]
sql = "select id, count(*) as n from (select node as id from ids union all select edge from ids) group by id"

[outputs.graph]
view = "joined"
path = "out/graph"

[outputs.graph.write]
semantic_types = { node = "NodeId", edge = "EdgeId" }
"#;

fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("data/calls.parquet", &[(1, "a"), (2, "b")]);
    lab
}

/// The extension types of the columns, each empty where there is none.
fn types(batches: &[RecordBatch]) -> Vec<String> {
    let schema = batches[0].schema();
    schema.fields().iter().map(|field| field.extension_type_name().unwrap_or_default().to_owned()).collect()
}

async fn types_of(pipeline: &Pipeline, name: &str) -> Vec<String> {
    types(&batches(pipeline, &format!("select * from {name}")).await)
}

const VIEWS: [(&str, &[&str]); 9] = [
    ("ids", &["NodeId", "EdgeId", "SpanId", ""]),
    ("kept", &["NodeId", "EdgeId", "SpanId", ""]),
    ("passed", &["NodeId", "EdgeId", "SpanId", ""]),
    ("joined", &["NodeId", "EdgeId", ""]),
    ("together", &["NodeId", "EdgeId"]),
    ("grouped", &["NodeId", "", ""]),
    ("mixed", &[""]),
    ("other", &["", ""]),
    ("outputs.graph", &["NodeId", "EdgeId", ""]),
];

#[tokio::test]
async fn types_pass_through_views_and_tables() {
    let lab = lab();
    // Before anything is cached, with entries just written, and by whoever finds the entries.
    for views in [&VIEWS[..8], &VIEWS[..], &VIEWS[..]] {
        let pipeline = lab.open();
        for (view, expected) in views {
            assert_eq!(types_of(&pipeline, view).await, *expected, "{view}");
        }
        assert_eq!(lab.run().await.result, RunResult::Succeeded);
    }
    let again = lab.run().await;
    assert!(results(&again).iter().any(|line| line == "ids: hit"), "{:?}", results(&again));
}

/// The rows of a table or a file as a source of another project.
fn reader(source: &str, path: &Path, options: &str) -> Lab {
    let path = path.display();
    Lab::new(&format!(
        "[sources.graph]\nformat = \"{source}\"\npath = \"{path}\"\n{options}\n[views.read]\nsql = \"select node, edge, s from graph\"\n"
    ))
}

#[tokio::test]
async fn types_come_back_from_delta_and_parquet() {
    let lab = lab();
    lab.run().await;
    let expected = ["NodeId", "EdgeId", ""];
    let delta = reader("delta", &lab.path("out/graph"), "");
    delta.run().await;
    assert_eq!(types_of(&delta.open(), "read").await, expected);

    let rows = batches(&lab.open(), "select * from joined").await;
    let file = lab.path("graph.parquet");
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&file).unwrap(), rows[0].schema(), None).unwrap();
    rows.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    // The engine leaves metadata of Parquet files out, unless it is asked for or declared.
    let plain = reader("parquet", &file, "");
    assert_eq!(types_of(&plain.open(), "read").await, ["", "", ""]);
    let asked = reader("parquet", &file, "options = { skip_metadata = \"false\" }");
    asked.run().await;
    assert_eq!(types_of(&asked.open(), "read").await, expected);
    let id = |name: &str, semantic_type: &str| {
        format!(
            "{{ name = \"{name}\", data_type = \"Utf8\", metadata = {{ \"ARROW:extension:name\" = \"{semantic_type}\" }} }}"
        )
    };
    let schema = format!(
        "schema = [{}, {}, {{ name = \"s\", data_type = \"Utf8\" }}]",
        id("node", "NodeId"),
        id("edge", "EdgeId")
    );
    let declared = reader("parquet", &file, &schema);
    declared.run().await;
    assert_eq!(types_of(&declared.open(), "read").await, expected);
}

/// An error with its causes.
fn refused(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

#[tokio::test]
async fn an_output_without_its_types_is_refused_and_stays_as_it_is() {
    let lab = lab();
    lab.run().await;
    let commits = || std::fs::read_dir(lab.path("out/graph/_delta_log")).unwrap().count();
    let before = commits();
    for (from, to, said) in [
        ("select a.node, b.edge", "select a.s as node, b.edge", "`node`"),
        ("select a.s as node, b.edge", "select b.edge as node, b.edge", "`EdgeId` in `node`"),
        ("select b.edge as node, b.edge", "select a.node, b.edge as e", "`edge`"),
    ] {
        lab.edit("alluvium.toml", from, to);
        let error = try_run(&lab.open(), RunOptions::default(), &Silent).await.expect_err(to);
        assert!(error.is_input(), "nothing was computed: {error}");
        let text = refused(&error);
        assert!(text.contains(said), "{to}: {text}");
        assert_eq!(commits(), before, "{to}");
    }
    // As declared, and then as something else that is declared.
    lab.edit("alluvium.toml", "select a.node, b.edge as e", "select b.edge as node, a.node as edge");
    lab.edit("alluvium.toml", "node = \"NodeId\", edge = \"EdgeId\"", "node = \"EdgeId\", edge = \"NodeId\"");
    assert_eq!(lab.run().await.result, RunResult::Succeeded);
    assert_eq!(types_of(&lab.open(), "outputs.graph").await, ["EdgeId", "NodeId", ""]);
}

#[tokio::test]
async fn what_columns_carry_is_kept_with_a_run_and_told_before_a_refusal() {
    let lab = lab();
    let memory = Arc::new(MemorySink::with_capacity(1_000));
    let open = || {
        let diagnostics = Diagnostics::new(later(), Redactor::default());
        let diagnostics = diagnostics.with_sink(Arc::clone(&memory) as Arc<dyn DiagnosticsSink>);
        Lab::open_with(lab.dir(), OpenOptions { diagnostics: Some(diagnostics), ..OpenOptions::default() })
    };
    let told = || {
        let events = memory.events().into_iter().filter(|event| event.name == SemanticValidation::KIND);
        let told = events.map(|event| {
            let payload = serde_json::to_value(&event.payload).unwrap();
            (event.severity, serde_json::from_value::<SemanticValidation>(payload).unwrap())
        });
        told.collect::<Vec<_>>()
    };
    let run = try_run(&open(), RunOptions::default(), &Silent).await.unwrap();
    let kept = batches(
        &lab.open(),
        "select name, document from alluvium.cache_artifacts where artifact_kind = 'semantic_validation'",
    )
    .await;
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!((kept.num_rows(), kept.column(0).as_string::<i32>().value(0)), (1, "graph"));
    let document = kept.column(1).as_string::<i32>().value(0);
    let kept = Envelope::<SemanticValidation>::from_json(document.as_bytes()).unwrap().payload;
    assert_eq!((kept.name.as_str(), kept.run_id, kept.status), ("graph", Some(run.run_id), SemanticStatus::Ok));
    let columns: Vec<_> = kept.columns.iter().map(|column| column.expected.column_name.as_str()).collect();
    assert_eq!(columns, ["edge", "node"]);
    let before = told();
    assert!(before.iter().all(|(severity, told)| *severity == Severity::Info && told.status == SemanticStatus::Ok));
    assert!(!before.is_empty());

    lab.edit("alluvium.toml", "select a.node, b.edge", "select b.edge as node, b.edge");
    try_run(&open(), RunOptions::default(), &Silent).await.unwrap_err();
    let (severity, refused) = told().pop().unwrap();
    assert_eq!((severity, refused.status), (Severity::Error, SemanticStatus::Mismatch));
    let found: Vec<_> = refused.columns.iter().map(|column| (column.found_type.as_deref(), column.status)).collect();
    assert_eq!(found, [(Some("EdgeId"), SemanticStatus::Ok), (Some("EdgeId"), SemanticStatus::Mismatch)]);
}
