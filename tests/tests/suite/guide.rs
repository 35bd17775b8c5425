//! The SQL of the guide, as it stands there: every query is asked, and those about provenance lead from a version to its run and back.

use std::path::Path;

use alluvium_contracts::{CacheCommitMetadata, PlanBundleArtifact};
use alluvium_runs::{Pipeline, RunName};
use alluvium_telemetry::TraceContext;
use alluvium_write_policy::commit_info;
use serde_json::Value;

use crate::lab::{Lab, batches, run};

/// The queries of the guide, in its order.
fn queries() -> Vec<String> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let blocks = guide.split("```sql\n").skip(1).map(|rest| rest.split_once("```").unwrap().0.trim().to_owned());
    blocks.collect()
}

/// The one query that holds all of `words`.
fn query(words: &[&str]) -> String {
    let found: Vec<String> =
        queries().into_iter().filter(|query| words.iter().all(|word| query.contains(word))).collect();
    let [query] = found.as_slice() else { panic!("{words:?}: {found:#?}") };
    query.clone()
}

async fn rows(pipeline: &Pipeline, sql: &str) -> Vec<Value> {
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    for batch in batches(pipeline, sql).await {
        writer.write(&batch).unwrap();
    }
    writer.finish().unwrap();
    serde_json::from_slice(&writer.into_inner()).unwrap_or_default()
}

/// The pipeline that the queries speak of, with four versions of its output, and of one that was there before.
async fn lab() -> Lab {
    let lab = Lab::new(
        r#"
[sources.flights]
format = "parquet"
path = "data/flights.parquet"

[views.daily_delays]
sql = "select s, sum(k) as k from flights group by s"

[outputs.daily]
view = "daily_delays"
path = "out/daily"
"#,
    );
    for k in 0..8 {
        if k == 4 {
            std::fs::remove_dir_all(lab.path("out/daily")).unwrap();
        }
        lab.parquet("data/flights.parquet", &[(k, "a")]);
        run(&lab.open()).await;
    }
    lab
}

#[tokio::test]
async fn every_query_of_the_guide_can_be_asked() {
    let lab = lab().await;
    let pipeline = lab.open();
    let queries = queries();
    assert!(queries.len() >= 6, "{queries:#?}");
    for query in queries {
        let answer = pipeline.sql(&query).await;
        assert!(answer.is_ok(), "{query}: {:#?}", answer.err());
        rows(&pipeline, &query).await;
    }
}

#[tokio::test]
async fn a_version_leads_to_run_manifest_plan_inputs_and_trace_and_back() {
    let lab = lab().await;
    let pipeline = lab.open();
    let metadata =
        CacheCommitMetadata::from_commit_info(&commit_info(&lab.path("out/daily"), 3).unwrap()).unwrap().unwrap();
    let manifest = pipeline.manifest_of(&RunName::parse(&metadata.run_id.to_string()).unwrap()).await.unwrap();

    let table_id = manifest.outputs[0].table_id.as_ref().unwrap();
    let asked = query(&["run_inputs", "c.delta_version = 3"]).replace('…', table_id);
    let [found] = rows(&pipeline, &asked).await.try_into().unwrap();
    let told = |column: &str| found[column].as_str().unwrap_or_else(|| panic!("{column}: {found:#}")).to_owned();
    assert_eq!(told("run_id"), metadata.run_id.to_string());
    assert_eq!(Some(told("traceparent")), metadata.traceparent);
    assert_eq!(told("sql"), "select s, sum(k) as k from flights group by s");
    assert_eq!(Some(told("plan_fingerprint")), metadata.plan_hash.map(|hash| hash.to_string()));
    assert_eq!((told("name"), told("path")), ("flights".to_owned(), "data/flights.parquet".to_owned()));
    assert_eq!(told("pin"), manifest.delta_inputs[0].pin.to_string());
    let plan = alluvium_contracts::Envelope::<PlanBundleArtifact>::from_json(told("plan").as_bytes()).unwrap().payload;
    assert_eq!((plan.view_name.as_str(), Some(plan.plan_fingerprint)), ("daily_delays", metadata.plan_hash));

    // And back: from the run, and from its trace, to the version.
    let run_id = metadata.run_id.to_string();
    let trace = metadata.traceparent.unwrap().parse::<TraceContext>().unwrap().trace_id().to_string();
    for (words, name) in
        [(["cache_scope, name", "where run_id = '…'"], run_id), (["run_commits", "traceparent like"], trace)]
    {
        let made = rows(&pipeline, &query(&words).replace('…', &name)).await;
        let versions: Vec<_> =
            made.iter().filter(|row| row["name"] == "daily").map(|row| &row["delta_version"]).collect();
        assert_eq!(versions, [3], "{words:?}: {made:#?}");
    }
}
