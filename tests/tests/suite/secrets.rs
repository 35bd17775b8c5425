//! Credentials that a pipeline names reach no file that it leaves: not the caches, not the ledgers, not the outputs and their logs.

use std::path::Path;

use alluvium_contracts::{ReplayResult, RunResult};
use alluvium_runs::{RunName, RunOptions};

use crate::lab::{Lab, answer, run, try_run};

/// What must be found nowhere.
const PLANTED: [&str; 11] = [
    "hunter2-userinfo",
    "hunter2-query",
    "hunter2-option",
    "hunter2-in-an-error",
    "hunter2-projected",
    "hunter2-profile",
    "plain-as-a-value",
    "plain-as-metadata",
    "plain-as-a-default",
    "plain-in-a-constraint",
    "hunter2-in-a-constraint",
];

/// Every file below `dir` that holds one of them, with which.
fn leaks(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            leaks(&path, found);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for planted in PLANTED {
            if bytes.windows(planted.len()).any(|window| window == planted.as_bytes()) {
                found.push(format!("{planted} in {}", path.display()));
            }
        }
    }
}

#[tokio::test]
async fn planted_credentials_are_in_no_file_that_runs_leave() {
    let lab = Lab::new(
        r##"
[profile]
name = "nightly token=hunter2-profile"
stored_plans = "engine"

[sources.events]
format = "csv"
path = "data/events.csv"
options = { null_regex = "^password=hunter2-option$" }
projection_exprs = ["k", "s", "password", "'secret=hunter2-projected' as p"]

[views.good]
sql = "select k, 'https://reader:hunter2-userinfo@example.com/x?token=hunter2-query' <> s as differs from events"

[views.login]
sql = "select k from events where password = 'plain-as-a-value' and k < 77123"

[views.bad]
sql = "select cast('password=hunter2-in-an-error' as bigint) + k as n from good"

[outputs.good]
view = "good"
path = "out/good"
"##,
    );
    lab.write("data/events.csv", "k,s,password\n1,a,x\n2,b,y\n");
    let options = RunOptions { keep_going: true, ..RunOptions::default() };
    let document = try_run(&lab.open(), options, &alluvium_runs::Silent).await.unwrap();
    assert_eq!(document.result, RunResult::Failed, "{document:#?}");
    run(&lab.open()).await;
    // What drains, asks, and is kept of asking.
    let pipeline = lab.open();
    let manifest = pipeline.manifest_of(&RunName::Latest).await.unwrap();
    assert!(manifest.resolved_sql["good"].contains("example.com"), "{manifest:#?}");
    // Another query than was run is no replay of it.
    let (_stop, cancel) = tokio::sync::watch::channel(false);
    let replayed = pipeline.replay(&RunName::Latest, None, cancel).await.unwrap();
    assert_eq!(replayed.result, ReplayResult::Unreplayable, "{replayed:#?}");
    for name in ["view good", "view bad", "source events"] {
        assert!(replayed.inputs.iter().any(|input| input.name == name), "{name}: {replayed:#?}");
    }
    let why = pipeline.bundles(&["good".to_owned()]).await.unwrap().remove(0).plan_encoding_reason;
    assert!(why.as_deref().is_some_and(|why| why.contains("names credentials")), "{why:?}");
    let login = pipeline.bundles(&["login".to_owned()]).await.unwrap().remove(0);
    let plan = &login.components.canonical_plan;
    assert!(plan.contains(" ?)") && !plan.contains("77123"), "no literal says which of them is the credential: {plan}");
    // Two queries that differ in a credential are two queries, though both are kept alike.
    let keys = lab.keys().await;
    lab.edit("alluvium.toml", "token=hunter2-query", "token=hunter2-query2");
    let changed = lab.keys().await;
    assert_ne!(keys["good"], changed["good"], "its identity is of the real text");
    lab.edit("alluvium.toml", "plain-as-a-value'", "plain-as-a-value2'");
    assert_ne!(keys["login"], lab.keys().await["login"], "and of the real literals");
    // An option that changes is told by its name.
    lab.edit("alluvium.toml", "hunter2-option$", "hunter2-option2$");
    drop(pipeline);
    let document = run(&lab.open()).await;
    let reason = document.views.iter().find(|view| view.name == "good").unwrap().reason.clone();
    assert!(reason.is_some(), "{document:#?}");
    let mut found = Vec::new();
    leaks(&lab.path(".alluvium"), &mut found);
    leaks(&lab.path("out"), &mut found);
    assert!(found.is_empty(), "{found:#?}");
}

/// A name says that it is one: of an option, of metadata, of a default, of a constraint. What the tables themselves are made of stays.
#[tokio::test]
async fn what_only_a_name_calls_a_credential_is_in_no_document() {
    let lab = Lab::new(
        r##"
[sources.events]
format = "csv"
path = "data/events.csv"
schema = [{ name = "k", data_type = "Int64", metadata = { api_key = "plain-as-metadata" } }, { name = "s", data_type = "Utf8" }]

[sources.filled]
format = "csv"
path = "data/events.csv"
schema = [{ name = "k", data_type = "Int64" }, { name = "api_token", data_type = "Utf8" }]

[sources.filled.evolution]
strict = true
allow_extra = ["s"]
allow_missing = ["api_token"]
defaults = { api_token = "plain-as-a-default" }

[sources.counted]
format = "csv"
path = "data/tokens.csv"
schema = [{ name = "token", data_type = "Int64" }]

[views.good]
sql = "select k, s from events"

[views.full]
sql = "select k from filled where api_token <> ''"

[views.tokens]
sql = "select token from counted"

[outputs.good]
view = "good"
path = "out/good"

[outputs.good.write.constraints]
password = "s <> 'plain-in-a-constraint'"
told = "s <> 'password=hunter2-in-a-constraint'"
"##,
    );
    lab.write("data/events.csv", "k,s\n1,a\n2,b\n");
    lab.write("data/tokens.csv", "token\n1\n2\n");
    let document = lab.run().await;
    assert_eq!(document.result, RunResult::Succeeded, "{document:#?}");
    let pipeline = lab.open();
    let documents = answer(&pipeline, "select artifact_kind, name, document from alluvium.cache_artifacts").await;
    for kind in ["plan_bundle_artifact", "dataset_spec", "delta_write_policy", "write_report"] {
        assert!(documents.contains(kind), "{kind} is kept: {documents}");
    }
    let manifests = answer(&pipeline, "select * from alluvium.run_manifests").await;
    let shown = serde_json::to_string(&pipeline.run_record(&RunName::Latest).await.unwrap()).unwrap();
    for (place, text) in [("documents", documents), ("manifests", manifests), ("runs show", shown)] {
        for planted in PLANTED {
            assert!(!text.contains(planted), "{planted} in {place}: {text}");
        }
    }
    let mut found = Vec::new();
    leaks(&lab.path(".alluvium/cache_ledgers"), &mut found);
    leaks(&lab.path(".alluvium/kv"), &mut found);
    assert!(found.is_empty(), "{found:#?}");
    let (_stop, cancel) = tokio::sync::watch::channel(false);
    let replayed = pipeline.replay(&RunName::Latest, None, cancel).await.unwrap();
    assert_eq!(replayed.result, ReplayResult::Unreplayable, "{replayed:#?}");
    let gone = |name: &str| replayed.inputs.iter().any(|input| input.name == name);
    assert!(["source events", "source filled", "output good"].iter().all(|name| gone(name)), "{replayed:#?}");
    assert!(!gone("source counted"), "a column may be called as it likes: {replayed:#?}");
}
