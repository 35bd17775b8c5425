//! `[outputs.NAME.write]`: every field reaches the table that is published, or is refused by name with nothing published.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use alluvium_contracts::{DeltaWritePolicy, OutputResult, RunResult};
use alluvium_runs::{RunOptions, Silent};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use serde_json::{Value, json};

use crate::input::refusal;
use crate::lab::{Lab, run, try_run};

const OUTPUT: &str = "out/rows";

/// A pipeline whose one output is written as `write` says: rows of `k`, a number, and `s`, two texts.
fn lab(write: &str) -> Lab {
    let lab = Lab::new(&format!(
        r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.rows]
sql = "select k, with_metadata(s, 'ARROW:extension:name', 'Parity') as s, md5(cast(k as varchar)) as t from events"

[outputs.rows]
view = "rows"
path = "{OUTPUT}"

[outputs.rows.write]
{write}
"#
    ));
    let rows: Vec<(i64, &str)> = (0..3_000).rev().map(|k| (k, if k % 2 == 0 { "even" } else { "odd" })).collect();
    lab.parquet("data/events.parquet", &rows);
    lab
}

fn actions(table: &Path, version: u64) -> BTreeMap<String, Vec<Value>> {
    let text = fs::read_to_string(table.join(format!("_delta_log/{version:020}.json"))).unwrap();
    let mut actions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in text.lines() {
        let Value::Object(line) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        for (kind, action) in line {
            actions.entry(kind).or_default().push(action);
        }
    }
    actions
}

/// What the log's text and the parquet crate find in a published table.
fn observe(table: &Path) -> BTreeMap<&'static str, Value> {
    let log = actions(table, 0);
    let configuration = &log["metaData"][0]["configuration"];
    let add = &log["add"][0];
    let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    let stored = configuration["alluvium.writePolicy"].as_str().unwrap_or("{}");
    let stored: Value = serde_json::from_str(stored).unwrap();
    let order = add["tags"]["alluvium.order"].as_str().unwrap_or("null");
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(&File::open(table.join(add["path"].as_str().unwrap())).unwrap())
        .unwrap();
    let group = metadata.row_group(0);
    let by_column = |is: &dyn Fn(usize) -> bool| -> Value {
        let found = (0..group.num_columns()).filter(|index| is(*index));
        json!(found.map(|index| group.column(index).column_path().string()).collect::<Vec<_>>())
    };
    let pages = |index: usize| metadata.offset_index().unwrap()[0][index].page_locations().len();
    let last = group.num_columns() - 1;
    BTreeMap::from([
        ("several files", json!(log["add"].len() > 2)),
        ("partitions", log["metaData"][0]["partitionColumns"].clone()),
        ("order", serde_json::from_str::<Value>(order).unwrap()["columns"].clone()),
        ("stats", json!(stats["minValues"].as_object().unwrap().keys().collect::<Vec<_>>())),
        ("features", log["protocol"][0]["writerFeatures"].clone()),
        ("constraint", configuration["delta.constraints.c"].clone()),
        ("semantic types", configuration["alluvium.semanticTypes"].clone()),
        ("vacuum", stored["maintenance"]["vacuum_retention_hours"].clone()),
        ("checkpoint", stored["maintenance"]["checkpoint_interval_commits"].clone()),
        ("row groups", json!(metadata.num_row_groups())),
        ("zstd", by_column(&|index| matches!(group.column(index).compression(), parquet::basic::Compression::ZSTD(_)))),
        ("dictionary", by_column(&|index| group.column(index).dictionary_page_offset().is_some())),
        (
            "small dictionary",
            json!(group.column(0).data_page_offset() - group.column(0).dictionary_page_offset().unwrap_or(0) < 4_000),
        ),
        ("bloom", by_column(&|index| group.column(index).bloom_filter_offset().is_some())),
        ("bloom bytes", json!(group.column(0).bloom_filter_length())),
        ("page stats", by_column(&|index| group.column(index).column_index_offset().is_some())),
        ("many pages", json!(pages(last) > 10)),
    ])
}

async fn published(write: &str) -> BTreeMap<&'static str, Value> {
    let lab = lab(write);
    let document = lab.run().await;
    assert_eq!(document.result, RunResult::Succeeded, "{write}: {document:#?}");
    let observed = observe(&lab.path(OUTPUT));
    // And the next run takes what is there for up to date.
    let again = lab.run().await;
    assert_eq!(again.outputs[0].result, OutputResult::Hit, "{write}: {again:#?}");
    observed
}

/// A field, how a pipeline file sets it, and what there is to see then and not otherwise.
type Reaches = (&'static str, &'static str, &'static str, Value);

fn reaching() -> Vec<Reaches> {
    vec![
        ("target_file_size_bytes", "target_file_size_bytes = 20000", "several files", json!(true)),
        ("partition_by", "partition_by = [\"s\"]", "partitions", json!(["s"])),
        ("zorder_by", "zorder_by = [\"k\"]", "order", json!(["k"])),
        ("stats_policy", "stats_policy = \"off\"", "stats", json!([])),
        ("stats_columns", "stats_policy = \"explicit\"\nstats_columns = [\"t\"]", "stats", json!(["t"])),
        ("stats_max_columns", "stats_max_columns = 1", "stats", json!(["k"])),
        ("enable_features", "enable_features = [\"change_data_feed\"]", "features", json!(["changeDataFeed"])),
        ("constraints", "constraints = { c = \"k >= 0\" }", "constraint", json!("k >= 0")),
        ("semantic_types", "semantic_types = { s = \"Parity\" }", "semantic types", json!("{\"s\":\"Parity\"}")),
        (
            "writer_properties.compression",
            "writer_properties = { compression = \"zstd\" }",
            "zstd",
            json!(["k", "s", "t"]),
        ),
        (
            "writer_properties.dictionary_columns",
            "writer_properties = { dictionary_columns = [\"s\"] }",
            "dictionary",
            json!(["s"]),
        ),
        (
            "writer_properties.bloom_filter_columns",
            "writer_properties = { bloom_filter_columns = [\"k\"] }",
            "bloom",
            json!(["k"]),
        ),
        (
            "writer_properties.statistics_level",
            "writer_properties = { statistics_level = \"chunk\" }",
            "page stats",
            json!([]),
        ),
        (
            "writer_properties.data_page_size_bytes",
            "writer_properties = { data_page_size_bytes = 512, dictionary_columns = [] }",
            "many pages",
            json!(true),
        ),
        (
            "writer_properties.data_page_max_rows",
            "writer_properties = { data_page_max_rows = 100 }",
            "many pages",
            json!(true),
        ),
        (
            "writer_properties.dictionary_page_size_bytes",
            "writer_properties = { dictionary_page_size_bytes = 1024 }",
            "small dictionary",
            json!(true),
        ),
        (
            "writer_properties.row_group_max_rows",
            "writer_properties = { row_group_max_rows = 1000 }",
            "row groups",
            json!(3),
        ),
        (
            "writer_properties.columns",
            "writer_properties = { columns = { t = { compression = \"zstd\" } } }",
            "zstd",
            json!(["t"]),
        ),
        ("maintenance.vacuum_retention_hours", "maintenance = { vacuum_retention_hours = 200 }", "vacuum", json!(200)),
        (
            "maintenance.checkpoint_interval_commits",
            "maintenance = { checkpoint_interval_commits = 5 }",
            "checkpoint",
            json!(5),
        ),
    ]
}

/// A field, how a pipeline file sets it, and what the refusal says: the field, and why or what to do.
const REFUSED: &[(&str, &str, &[&str])] = &[
    ("mode", "mode = \"append\"", &["`mode`", "append", "replaced as a whole"]),
    ("mode", "mode = \"error\"", &["`mode`", "replaced as a whole"]),
    ("mode", "mode = \"ignore\"", &["`mode`", "replaced as a whole"]),
    ("mode", "mode = \"merge\"\nkeys = [\"k\"]", &["`mode`", "merge", "replaced as a whole"]),
    ("mode", "mode = \"delete\"\nkeys = [\"k\"]", &["`mode`", "replaced as a whole"]),
    ("replace_where", "mode = \"replace_where\"\nreplace_where = \"k = 1\"", &["`mode`", "replaced as a whole"]),
    ("replace_where", "replace_where = \"k = 1\"", &["`replace_where`", "`mode`"]),
    ("keys", "keys = [\"k\"]", &["`keys`", "`mode`"]),
    ("schema_mode", "schema_mode = \"merge\"", &["`schema_mode`", "merge"]),
    ("column_mapping", "column_mapping = \"name\"", &["column_mapping"]),
    ("maintenance.compact_min_files", "maintenance = { compact_min_files = 2 }", &["`maintenance.compact_min_files`"]),
    (
        "maintenance.zorder_min_files",
        "zorder_by = [\"k\"]\nmaintenance = { zorder_min_files = 2 }",
        &["`maintenance.zorder_min_files`"],
    ),
    (
        "maintenance.log_retention_hours",
        "maintenance = { log_retention_hours = 24 }",
        &["`maintenance.log_retention_hours`"],
    ),
    ("maintenance.vacuum_retention_hours", "maintenance = { vacuum_retention_hours = 24 }", &["168"]),
    // What is wrong whichever the mode.
    ("partition_by", "partition_by = [\"S\"]", &["`partition_by`", "did you mean `s`"]),
    ("partition_by", "partition_by = [\"k\", \"s\", \"t\"]", &["partition"]),
    ("zorder_by", "partition_by = [\"s\"]\nzorder_by = [\"s\"]", &["`zorder_by`", "partition"]),
    ("enable_features", "enable_features = [\"time_travel\"]", &["time_travel"]),
    (
        "enable_features",
        "enable_features = [\"row_tracking\"]",
        &["`enable_features`", "rowTracking", "`feature_gate`"],
    ),
    ("stats_columns", "stats_columns = [\"k\"]", &["`stats_columns`", "`stats_policy`"]),
    (
        "writer_properties.statistics_level",
        "writer_properties = { statistics_level = \"none\" }",
        &["`writer_properties.statistics_level`", "`stats_policy`"],
    ),
    ("constraints", "constraints = { c = \"nowhere > 1\" }", &["`constraints.c`"]),
    ("semantic_types", "semantic_types = { s = \"NodeId\" }", &["`Parity` in `s`", "`NodeId`", "`semantic_types`"]),
    ("semantic_types", "semantic_types = { t = \"NodeId\" }", &["no type in `t`"]),
];

/// Fields that are seen by comparing two tables, or a table and a refusal.
const COMPARED: &[&str] = &["feature_gate", "writer_properties.bloom_filter_fpp", "writer_properties.bloom_filter_ndv"];

#[tokio::test(flavor = "multi_thread")]
async fn every_field_reaches_the_published_table() {
    let without = published("").await;
    for (field, write, fact, value) in reaching() {
        let with = published(write).await;
        assert_eq!(with[fact], value, "{field}: {fact}");
        assert_ne!(without[fact], value, "{field}: {fact} is there without it");
    }
    let bloom = |more: &str| format!("writer_properties = {{ bloom_filter_columns = [\"k\"]{more} }}");
    let bytes = |facts: BTreeMap<&str, Value>| facts["bloom bytes"].as_i64().unwrap();
    let usual = bytes(published(&bloom(", bloom_filter_ndv = 3000")).await);
    assert!(bytes(published(&bloom(", bloom_filter_ndv = 30")).await) < usual);
    assert!(bytes(published(&bloom(", bloom_filter_ndv = 3000, bloom_filter_fpp = 0.0001")).await) > usual);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_warns_publishes_without_the_feature() {
    let facts = published("enable_features = [\"row_tracking\"]\nfeature_gate = \"warn\"").await;
    assert_eq!(facts["features"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_output_cannot_do_is_refused_by_name() {
    for (field, write, words) in REFUSED {
        let lab = lab(write);
        let said = refusal(lab.dir()).await;
        assert!(!lab.path(OUTPUT).exists(), "{write}: nothing is published");
        for word in *words {
            assert!(said.contains(word), "{field} by `{write}` does not say {word}: {said}");
        }
    }
}

#[test]
fn no_field_of_the_policy_is_left_out_here() {
    let mut fields = BTreeSet::new();
    for (name, value) in serde_json::to_value(DeltaWritePolicy::default()).unwrap().as_object().unwrap() {
        match value.as_object().filter(|_| !["constraints", "semantic_types"].contains(&name.as_str())) {
            Some(part) => fields.extend(part.keys().map(|inner| format!("{name}.{inner}"))),
            None => fields.extend([name.clone()]),
        }
    }
    let reaching = reaching();
    let named = reaching.iter().map(|case| case.0).chain(REFUSED.iter().map(|case| case.0));
    let named: BTreeSet<String> = named.chain(COMPARED.iter().copied()).map(str::to_owned).collect();
    assert_eq!(named, fields);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_rewrites_and_says_so() {
    let lab = lab("maintenance = { vacuum_retention_hours = 200 }");
    run(&lab.open()).await;
    lab.edit("alluvium.toml", "vacuum_retention_hours = 200", "vacuum_retention_hours = 300");
    let plan = lab.plan().await;
    assert!(plan.outputs[0].reason.clone().unwrap().contains("write policy changed"), "{plan:#?}");
    let document = run(&lab.open()).await;
    assert_eq!((document.outputs[0].result, document.outputs[0].delta_version), (OutputResult::Write, Some(1)));
    let metadata = &actions(&lab.path(OUTPUT), 1)["metaData"][0]["configuration"]["alluvium.writePolicy"];
    assert!(metadata.as_str().unwrap().contains("300"), "{metadata}");
}

/// They are no part of the layout: a reader that comes makes no output stale, and what it needs shows as pending.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_for_readers_wait_for_the_next_write() {
    let lab = lab("");
    lab.run().await;
    let property = |version| {
        let mut log = actions(&lab.path(OUTPUT), version);
        let metadata = log.remove("metaData").map(|mut metadata| metadata.remove(0));
        metadata.map(|metadata| metadata["configuration"]["delta.dataSkippingStatsColumns"].clone())
    };
    assert_eq!(property(0), Some(Value::Null), "without readers the first columns have them");
    lab.edit(
        "alluvium.toml",
        "[outputs.rows]",
        "[views.some]\nsql = \"select s from rows where t > 'a'\"\n\n[outputs.rows]",
    );
    let planned = lab.plan().await.outputs.remove(0);
    assert_eq!((planned.result, planned.reason), (OutputResult::Hit, None), "the first columns have t among them");
    assert_eq!(lab.run().await.outputs[0].result, OutputResult::Hit);

    lab.edit("alluvium.toml", "[outputs.rows.write]", "[outputs.rows.write]\nstats_max_columns = 1");
    assert_eq!(lab.run().await.outputs[0].result, OutputResult::Write);
    assert_eq!(property(1), Some(json!("t")), "what readers filter by goes first");
    lab.edit("alluvium.toml", "where t > 'a'", "where k > 5");
    let planned = lab.plan().await.outputs.remove(0);
    let reason = planned.reason.unwrap();
    assert!(planned.result == OutputResult::Hit && reason.contains("statistics of k wait"), "{reason}");
    assert_eq!(lab.run().await.outputs[0].result, OutputResult::Hit);
    let options = RunOptions { select: vec![], fresh: true, ..RunOptions::default() };
    let document = try_run(&lab.open(), options, &Silent).await.unwrap();
    assert_eq!((document.outputs[0].result, property(2)), (OutputResult::Write, Some(json!("k"))));
    assert_eq!(lab.plan().await.outputs.remove(0).reason, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_break_a_constraint_are_not_published() {
    let lab = lab("constraints = { small = \"k < 2999\" }");
    let document = lab.run().await;
    assert_eq!(document.result, RunResult::Failed);
    let reason = document.outputs[0].reason.clone().unwrap();
    assert!(reason.contains("`small`") && reason.contains("k < 2999"), "{reason}");
    assert_eq!(data_files(&lab.path(OUTPUT)), Vec::<PathBuf>::new());
}

/// SQL writes nothing: the engine's own way into a table checks no constraint and knows no policy.
#[tokio::test(flavor = "multi_thread")]
async fn sql_insert_into_an_output_is_refused() {
    let lab = lab("constraints = { small = \"k < 5000\" }");
    lab.run().await;
    let before = data_files(&lab.path(OUTPUT));
    for sql in [
        "insert into outputs.rows values (9999, 'x', 'y')",
        "insert overwrite outputs.rows select * from rows",
        "delete from outputs.rows",
        "update outputs.rows set k = 9999",
        "truncate table outputs.rows",
        "copy outputs.rows to 'elsewhere.parquet'",
    ] {
        let refused = lab.open().sql(sql).await;
        let error = refused.err().unwrap_or_else(|| panic!("{sql} was let through"));
        assert!(error.is_input(), "{sql}: {error}");
    }
    assert_eq!(data_files(&lab.path(OUTPUT)), before);
    assert!(!lab.path("elsewhere.parquet").exists());
}

/// Every file under the table that is not part of the log.
fn data_files(table: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![table.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true if entry.file_name() != "_delta_log" => directories.push(entry.path()),
                true => {}
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    files
}
