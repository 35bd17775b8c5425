//! `[profile]` from file and environment to what a run does, what SQL may do, and what the doctor says.

use std::ffi::OsString;

use alluvium_contracts::{CheckStatus, DoctorDocument, ViewResult};
use alluvium_profile::Query;
use alluvium_runs::{OpenError, OpenOptions, Pipeline, Project, doctor};
use futures::TryStreamExt as _;

use crate::lab::{Lab, answer, later, run};

const TOML: &str = r#"
[profile]
name = "tested"
kv_root = "kv-elsewhere"
default_schema = "s"
diagnostics = "file:events.jsonl"
batch_size = 100

[profile.kv.index]
size_limit_bytes = 1

[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.first]
sql = "select k, s from events"
cache = "delta_staging"
"#;

fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b")]);
    lab
}

fn with(variables: &[(&str, &str)]) -> OpenOptions {
    let environment = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    OpenOptions { environment, seam: Some(later()), ..OpenOptions::default() }
}

async fn refused(lab: &Lab, options: OpenOptions, sql: &str) -> String {
    let pipeline = Lab::open_with(lab.dir(), options);
    match pipeline.sql(sql).await {
        Ok(_) => panic!("not refused: {sql}"),
        Err(error) => {
            assert!(error.is_input(), "{error:?}");
            std::error::Error::source(&error).unwrap().to_string()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_by_the_profile_of_its_file() {
    let lab = lab();
    assert_eq!(lab.run().await.views[0].result, ViewResult::Write);
    assert!(lab.path("kv-elsewhere/index").is_dir() && !lab.path(".alluvium/kv").exists());
    assert_eq!(lab.run().await.views[0].result, ViewResult::Hit);
    assert!(lab.sql("execute columns('first')").await.contains("| s            | first "));
    let told = std::fs::read_to_string(lab.path("events.jsonl")).unwrap();
    assert!(told.contains("prepared_statement") && told.contains("columns"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_comes_before_the_file() {
    let lab = lab();
    lab.run().await;
    let executed = |options| async {
        let pipeline = Lab::open_with(lab.dir(), options);
        answer(&pipeline, "select value from information_schema.df_settings where name like '%batch_size'").await
    };
    assert!(executed(with(&[])).await.contains("100"));
    assert!(executed(with(&[("ALLUVIUM_PROFILE_BATCH_SIZE", "123")])).await.contains("123"));

    // A neutral setting leaves the entry valid, a semantic one does not.
    let results = |name: &'static str, value: &'static str| {
        let pipeline = Lab::open_with(lab.dir(), with(&[(name, value)]));
        async move { run(&pipeline).await.views[0].result }
    };
    assert_eq!(results("ALLUVIUM_PROFILE_BATCH_SIZE", "7").await, ViewResult::Hit);
    assert_eq!(results("ALLUVIUM_PROFILE_SQL_POLICY", "admin").await, ViewResult::Hit);
    assert_eq!(results("ALLUVIUM_PROFILE_FEATURES_JOIN_DYNAMIC_FILTERS", "false").await, ViewResult::Write);

    let open = |variables: &[(&str, &str)]| Pipeline::open(Project::load(lab.dir()).unwrap(), with(variables));
    for (variable, value, said) in [
        ("ALLUVIUM_PROFILE_BATCHSIZE", "1", "ALLUVIUM_PROFILE_BATCH_SIZE"),
        ("ALLUVIUM_PROFILE_BATCH_SIZE", "many", "many"),
        ("ALLUVIUM_PROFILE_KV_ROOT", "/tmp/none/of/it", "kv-elsewhere"),
        ("ALLUVIUM_PROFILE_DIAGNOSTICS", "loud", "file:PATH"),
        ("ALLUVIUM_PROFILE_DIAGNOSTICS", "otel", "otel"),
        ("ALLUVIUM_PROFILE_CACHE_OUTPUT_ROOT", "s3://bucket", "s3://"),
    ] {
        let error: OpenError = open(&[(variable, value)]).unwrap_err();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            text.push_str(&source.to_string());
            cause = source.source();
        }
        assert!(error.is_input() && text.contains(said), "{variable}={value}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_may_do_what_the_policy_says() {
    let lab = lab();
    lab.run().await;
    let policy = |word: &'static str| with(&[("ALLUVIUM_PROFILE_SQL_POLICY", word)]);
    let out = lab.path("copied.csv");
    let copy = format!("copy (select * from first) to '{}' stored as csv", out.display());
    let said = refused(&lab, policy("service"), &copy).await;
    assert!(said.contains("COPY") && said.contains("`write`"), "{said}");
    assert!(!out.exists());
    answer(&Lab::open_with(lab.dir(), policy("write")), &copy).await;
    assert!(out.exists());

    // Asking is more than SELECT.
    assert!(lab.sql("explain select * from first").await.contains("logical_plan"));
    assert!(lab.sql("show tables").await.contains("first"));
    assert!(lab.sql("describe first").await.contains("Int64"));
    let said = refused(&lab, policy("read_only"), "set datafusion.execution.batch_size = 1").await;
    assert!(said.contains("`read_only`") && said.contains("`service`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_read_in_its_dialect() {
    let lab = lab();
    lab.run().await;
    let pipeline = lab.open();
    let query = Query::sql_in("select `k` from `first` order by 1", "bigquery").unwrap();
    let batches: Vec<_> = pipeline.query(query).await.unwrap().batches.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 2);
    assert!(pipeline.sql_in("select `k` from `first`", "postgresql").await.is_err());
    assert!(pipeline.sql_in("select 1", "klingon").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_a_project_runs_on_and_changes_nothing() {
    let lab = lab();
    let examined = |options: OpenOptions| doctor(&Project::load(lab.dir()).unwrap(), &options).unwrap();
    let check = |document: &DoctorDocument, name: &str| {
        document
            .checks
            .iter()
            .find(|check| check.name == name)
            .unwrap_or_else(|| panic!("{name}: {document:#?}"))
            .clone()
    };
    let before = examined(with(&[]));
    assert!(!lab.path(".alluvium").exists() && !lab.path("kv-elsewhere").exists(), "nothing is made");
    assert_eq!(before.profile_name.as_deref(), Some("tested"));
    assert_eq!(before.settings["batch_size"], "100");
    assert_eq!(before.limits["kv.index.size_limit_bytes"], Some(1));
    assert!(before.engine_versions["datafusion"].starts_with("55."));
    assert_eq!(before.roots[0].origin, "default");
    assert_eq!(before.roots[1].origin, "[profile]");

    lab.run().await;
    let after = examined(with(&[("ALLUVIUM_PROFILE_BATCH_SIZE", "7")]));
    assert_ne!(before.profile_hash, after.profile_hash);
    assert!(after.roots[0].root_id.is_some() && after.roots[1].size_bytes > Some(0));
    // A store that never forgets and has outgrown its limit is for a person to look at.
    let index = check(&after, "kv index");
    assert_eq!(index.status, CheckStatus::Warning);
    assert!(index.fix.unwrap().contains("[profile.kv.index]"));
    assert_eq!(check(&after, "kv queue").status, CheckStatus::Ok);

    let broken = examined(with(&[("ALLUVIUM_PROFILE_SPILL_DIRECTORY", "/proc/nowhere")]));
    assert_eq!(check(&broken, "session").status, CheckStatus::Error);
    std::fs::write(lab.path(".alluvium/root.json"), "{").unwrap();
    let damaged = examined(with(&[]));
    assert_eq!(check(&damaged, "cache root").status, CheckStatus::Warning);
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_shows_what_is_declared_of_sources_beside_the_ledgers() {
    let lab = lab();
    lab.edit(
        "alluvium.toml",
        "path = \"data/events.parquet\"",
        "path = \"data/events.parquet\"\n\n[sources.events.evolution]\ndefaults = { c = 7 }",
    );
    lab.run().await;
    let said =
        lab.sql("select table_name, constraint_type, column_name, expression from alluvium.table_constraints").await;
    assert!(said.contains("events") && said.contains("| DEFAULT         | c           | 7 "), "{said}");
    // Asked for with everything else, it leaves the ledgers where they are.
    let said = lab.sql("select table_name from information_schema.tables where table_schema = 'alluvium'").await;
    assert!(said.contains("table_constraints") && said.contains("cache_runs"), "{said}");
    assert!(lab.sql("select count(*) as n from alluvium.cache_runs").await.contains("| 1 "));
    assert!(lab.sql("select count(*) as n from predicate_cache()").await.contains("| 0 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_table_is_a_dataset_of_the_project() {
    let lab = lab();
    let create = "create external table t stored as parquet location 'data/events.parquet'";
    let admin = || with(&[("ALLUVIUM_PROFILE_SQL_POLICY", "admin")]);
    answer(&Lab::open_with(lab.dir(), admin()), create).await;
    // Not the engine's own table, which would take the file for what it is called.
    let said = refused(&lab, admin(), &format!("{create} options ('aws_secret_access_key' 'hunter2')")).await;
    assert!(said.contains("the external table t cannot be created") && !said.contains("hunter2"), "{said}");
}
