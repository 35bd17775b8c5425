//! TPC-H's queries and the flights example's in every dialect: what is carried, and what is named instead.

use std::fmt::Write;
use std::path::Path;

use alluvium_contracts::TargetDialect;
use alluvium_runs::{OpenOptions, Pipeline, RunError};

use crate::lab::Lab;
use crate::tpch;

/// The queries of a directory by the names of their files.
fn queries(directory: &Path) -> Vec<(String, String)> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let queries = files.filter(|file| file.extension().is_some_and(|extension| extension == "sql"));
    let name = |file: &Path| file.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut queries: Vec<_> = queries.map(|file| (name(&file), std::fs::read_to_string(&file).unwrap())).collect();
    queries.sort();
    queries
}

/// A line for each query and dialect: `carried`, or each part that is not.
async fn told(pipeline: &Pipeline, queries: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, sql) in queries {
        for to in TargetDialect::ALL {
            let document = pipeline.transpile(sql, "generic", *to).await.unwrap();
            let parts = document.not_carried.iter().map(|part| format!("{}: {}", part.construct, part.reason));
            let said = match &document.sql {
                Some(_) => "carried".to_owned(),
                None => parts.collect::<Vec<_>>().join(&format!("\n{:36}", "")),
            };
            writeln!(text, "{name:<24}{to:<12}{said}").unwrap();
        }
    }
    text
}

/// Does `work` where the unparser, which recurses with the depth of a plan, has the room that the binary gives it too.
pub fn with_room<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(8 * 1024 * 1024);
        builder.spawn_scoped(scope, || runtime.block_on(work())).unwrap().join().unwrap();
    });
}

#[test]
fn golden_dialects_of_tpch() {
    with_room(dialects_of_tpch);
}

async fn dialects_of_tpch() {
    let queries = queries(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tpch"));
    assert_eq!(queries.len(), 22);
    let lab = tpch::empty();
    let pipeline = lab.open();
    insta::assert_snapshot!("dialects_of_tpch", told(&pipeline, &queries).await);
    let mut text = String::new();
    let (name, third) = &queries[2];
    for to in TargetDialect::ALL {
        let document = pipeline.transpile(third, "generic", *to).await.unwrap();
        writeln!(text, "-- {name} for {to}\n{}\n", document.sql.unwrap_or_default()).unwrap();
    }
    insta::assert_snapshot!("texts_of_a_query", text);
}

#[test]
fn golden_dialects_of_flights() {
    with_room(dialects_of_flights);
}

async fn dialects_of_flights() {
    let root = tempfile::tempdir().unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/flights");
    let options = OpenOptions { cache_root: Some(root.path().to_owned()), ..OpenOptions::default() };
    let pipeline = Lab::open_with(&project, options);
    let queries = queries(&project.join("views"));
    assert!(queries.len() > 5, "{queries:?}");
    insta::assert_snapshot!("dialects_of_flights", told(&pipeline, &queries).await);
}

#[tokio::test]
async fn views_are_tables_of_their_names_and_nothing_is_computed() {
    let lab = Lab::new(
        "[sources.t]\nformat = \"parquet\"\npath = \"t.parquet\"\n\
         [views.a]\nsql = \"select k, upper(s) as s from t\"\n[views.b]\nsql = \"select k from a\"\n",
    );
    lab.parquet("t.parquet", &[(1, "a")]);
    let pipeline = lab.open();
    let document = pipeline.transpile("SELECT `k` FROM b WHERE `k` > 0", "mysql", TargetDialect::Duckdb).await.unwrap();
    let sql = document.sql.unwrap();
    assert!(sql.contains("\"b\".\"k\"") && !sql.to_lowercase().contains("upper"), "{sql}");
    for (sql, from) in [("select k from nothing", "generic"), ("drop table t", "generic"), ("select 1", "klingon")] {
        let error = pipeline.transpile(sql, from, TargetDialect::Generic).await.unwrap_err();
        assert!(matches!(error, RunError::Sql { .. }) && error.is_input(), "{sql}: {error:?}");
    }
    assert!(!lab.path(".alluvium/view_cache").exists(), "nothing was computed");
}
