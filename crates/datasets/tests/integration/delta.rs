//! Delta tables: time travel, copies, expired logs, features, and tables that change under us.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_contracts::{
    ColumnAdaptation, ContentDigest, DatasetFormat, DatasetSpec, DeltaScanOptions, EvolutionSpec, SchemaAdapter,
    SourceFormat, SourcePath, SourceSpec,
};
use alluvium_datasets::{Change, PinError};
use arrow::array::{Decimal128Array, Int64Array, RecordBatch, StringArray};
use datafusion::physical_plan::displayable;
use deltalake_core::protocol::SaveMode;
use deltalake_core::{DeltaTable, DeltaTableBuilder};
use url::Url;

use crate::support::{Project, chain, columns, dataset, query, sorted, source};

fn batch(keys: &[i64]) -> RecordBatch {
    let text = keys.iter().map(|key| (key % 2 == 0).then(|| format!("p{key}")));
    let columns: [(&str, arrow::array::ArrayRef); 2] =
        [("k", Arc::new(Int64Array::from(keys.to_vec()))), ("s", Arc::new(text.collect::<StringArray>()))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true))).unwrap()
}

async fn write(path: &Path, keys: &[i64], mode: SaveMode) -> DeltaTable {
    std::fs::create_dir_all(path).unwrap();
    let url = Url::from_directory_path(path).unwrap();
    let table = match DeltaTableBuilder::from_url(url.clone()).unwrap().load().await {
        Ok(table) => table,
        Err(_) => DeltaTableBuilder::from_url(url).unwrap().build().unwrap(),
    };
    table.write([batch(keys)]).with_save_mode(mode).with_partition_columns(["s"]).await.unwrap()
}

fn at(version: Option<u64>) -> SourceSpec {
    SourceSpec { version, ..source(SourceFormat::Delta, "table") }
}

fn commit(table: &Path, version: u64) -> PathBuf {
    table.join(format!("_delta_log/{version:020}.json"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Version 0 holds 1 and 2, version 1 also 3, version 2 only 4.
async fn project() -> (Project, PathBuf) {
    let project = Project::new();
    let path = project.data().join("table");
    write(&path, &[1, 2], SaveMode::Append).await;
    write(&path, &[3], SaveMode::Append).await;
    write(&path, &[4], SaveMode::Overwrite).await;
    (project, path)
}

#[tokio::test]
async fn a_version_is_pinned_and_read() {
    let (project, path) = project().await;
    let keys = async |source: &SourceSpec| {
        let pinned = project.pin(source).await;
        let table = project.query(&pinned, "select k from t order by k").await;
        let keys: Vec<_> =
            sorted(&table).lines().skip(1).map(|line| line.trim_matches(['|', ' ']).to_owned()).collect();
        (pinned, keys)
    };
    let (zero, rows) = keys(&at(Some(0))).await;
    assert_eq!((zero.delta_version(), rows), (Some(0), vec!["1".to_owned(), "2".to_owned()]));
    assert_eq!(zero.file_count(), 2);
    let (one, rows) = keys(&at(Some(1))).await;
    assert_eq!(rows, ["1", "2", "3"]);
    let (latest, rows) = keys(&at(None)).await;
    assert_eq!((latest.delta_version(), rows), (Some(2), vec!["4".to_owned()]));
    assert_eq!(latest.digest(), project.pin(&at(Some(2))).await.digest());
    assert_ne!(zero.digest(), one.digest());

    let components = latest.components();
    assert_eq!(components["format"], "delta");
    assert_eq!(components["delta version"], "2");
    assert_eq!(components["partition columns"], r#"["s"]"#);
    assert_eq!(components["delta commit"], ContentDigest::of(&std::fs::read(commit(&path, 2)).unwrap()).to_string());
    assert_eq!(components["delta table"], zero.components()["delta table"]);
    assert_eq!(latest.schema(), &latest.provider().unwrap().schema());
    assert!(components["schema"].starts_with("k: Int64, s: "), "{}", components["schema"]);
    let parquet = std::fs::read_dir(&path).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert!(parquet.count() > 1);

    // A version more is no change of what is pinned.
    write(&path, &[5], SaveMode::Append).await;
    latest.recheck().unwrap();
    assert!(project.query(&latest, "select max(k) as k from t").await.contains("| 4 |"));
    assert_ne!(project.pin(&at(None)).await.digest(), latest.digest());
    let counted = project.query(&one, "select count(*) as n, count(s) as s from t where k <> 1").await;
    assert!(counted.contains("| 2 | 1 |"), "{counted}");
}

#[tokio::test]
async fn a_copy_keeps_its_pin_until_it_goes_its_own_way() {
    let (project, path) = project().await;
    let other = project.data().join("copy");
    copy(&path, &other);
    let copied = |version| SourceSpec { version, ..source(SourceFormat::Delta, "copy") };
    let (one, two) = (project.pin(&at(None)).await, project.pin(&copied(None)).await);
    assert_eq!((one.digest(), one.components()), (two.digest(), two.components()), "where it lies does not count");

    write(&path, &[5], SaveMode::Append).await;
    write(&other, &[6], SaveMode::Append).await;
    let (one, two) = (project.pin(&at(Some(3))).await, project.pin(&copied(Some(3))).await);
    for same in ["delta table", "delta version", "schema"] {
        assert_eq!(one.components()[same], two.components()[same]);
    }
    assert_ne!(one.components()["delta commit"], two.components()["delta commit"]);
    assert_ne!(one.digest(), two.digest());
}

#[tokio::test]
async fn histories_that_end_in_one_commit_are_two_contents() {
    let (project, path) = project().await;
    let other = project.data().join("copy");
    copy(&path, &other);
    // The copy's first version never had the file of 2; its commits after that are those of the original.
    let first = std::fs::read_to_string(commit(&other, 0)).unwrap();
    let without: Vec<_> = first.lines().filter(|line| !(line.contains("\"add\"") && line.contains("p2"))).collect();
    assert_eq!(without.len() + 1, first.lines().count());
    std::fs::write(commit(&other, 0), without.join("\n")).unwrap();

    let one = project.pin(&at(Some(1))).await;
    let two = project.pin(&SourceSpec { version: Some(1), ..source(SourceFormat::Delta, "copy") }).await;
    assert_eq!(one.components()["delta commit"], two.components()["delta commit"]);
    assert_eq!(one.components()["delta table"], two.components()["delta table"]);
    assert!(project.query(&two, "select count(*) as n from t").await.contains("| 2 |"));
    assert_ne!(one.digest(), two.digest());
}

#[tokio::test]
async fn an_expired_commit_is_known_by_the_active_files() {
    let (project, path) = project().await;
    let table = DeltaTableBuilder::from_url(Url::from_directory_path(&path).unwrap()).unwrap().load().await.unwrap();
    deltalake_core::checkpoints::create_checkpoint(&table, None).await.unwrap();
    let pinned = project.pin(&at(None)).await;
    std::fs::remove_file(commit(&path, 2)).unwrap();
    pinned.recheck().unwrap();

    let expired = project.pin(&at(None)).await;
    assert!(!expired.components().contains_key("delta commit"));
    let files = &expired.components()["delta active files"];
    assert!(project.query(&expired, "select k from t").await.contains("| 4 |"));
    assert_eq!(project.pin(&at(None)).await.digest(), expired.digest());
    expired.recheck().unwrap();

    // One that holds other files.
    let other = project.data().join("other");
    let table = write(&other, &[7], SaveMode::Append).await;
    deltalake_core::checkpoints::create_checkpoint(&table, None).await.unwrap();
    std::fs::remove_file(commit(&other, 0)).unwrap();
    let other = project.pin(&source(SourceFormat::Delta, "other")).await;
    assert_ne!(&other.components()["delta active files"], files);
}

#[tokio::test]
async fn what_changes_under_us_is_noticed() {
    let (project, path) = project().await;
    let pinned = project.pin(&at(None)).await;
    let log = commit(&path, 2);
    let content = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, content.replace("\"dataChange\":true", "\"dataChange\":false")).unwrap();
    let error = pinned.recheck().unwrap_err();
    assert!(matches!(error.change, Change::Content { .. }) && error.path == log.canonicalize().unwrap(), "{error}");

    let pinned = project.pin(&at(None)).await;
    std::fs::rename(&path, project.data().join("away")).unwrap();
    assert!(matches!(pinned.recheck().unwrap_err().change, Change::Gone { .. }));
    copy(&project.data().join("away"), &path);
    assert!(matches!(pinned.recheck().unwrap_err().change, Change::Replaced));

    let pinned = project.pin(&at(None)).await;
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap().path();
        if !entry.ends_with("_delta_log") {
            std::fs::remove_dir_all(entry).unwrap();
        }
    }
    let error = query(&project.ctx, pinned.provider().unwrap(), "select k from t").await.unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
}

#[tokio::test]
async fn what_is_no_table_and_what_has_no_such_version() {
    let (project, _) = project().await;
    for path in ["absent", "."] {
        let error = project.try_pin(&source(SourceFormat::Delta, path)).await.unwrap_err();
        assert!(matches!(error, PinError::NotADeltaTable { .. }), "{}", chain(&error));
    }
    project.write("empty/_delta_log/readme", "");
    let error = project.try_pin(&source(SourceFormat::Delta, "empty")).await.unwrap_err();
    assert!(chain(&error).contains("/empty"), "{}", chain(&error));
    let error = project.try_pin(&at(Some(9))).await.unwrap_err();
    assert!(chain(&error).contains("has no version 9 (its latest is 2)"), "{}", chain(&error));
}

#[tokio::test]
async fn unsupported_features_are_named() {
    let project = Project::new();
    for feature in ["typeWidening", "madeUpFeature"] {
        let protocol = serde_json::json!({"protocol": {
            "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [feature], "writerFeatures": [feature],
        }});
        let schema = r#"{"type":"struct","fields":[{"name":"k","type":"long","nullable":true,"metadata":{}}]}"#;
        let metadata = serde_json::json!({"metaData": {
            "id": "0190b3a5-7c1e-7def-8123-456789abcdef", "format": {"provider": "parquet", "options": {}},
            "schemaString": schema, "partitionColumns": [], "configuration": {}, "createdTime": 0,
        }});
        project.write(&format!("table/_delta_log/{:020}.json", 0), format!("{protocol}\n{metadata}\n"));
        let error = chain(&project.try_pin(&at(None)).await.unwrap_err());
        assert!(error.contains(feature), "{error}");
    }
}

/// The engine would read the log here and the rows where the decoded name leads: beside `a%20b` there may be an `a b`.
#[tokio::test]
async fn a_directory_that_the_engine_decodes_is_refused() {
    let (project, path) = project().await;
    for name in ["a%20b", "a\\b"] {
        copy(&path, &project.data().join(name));
        let error = project.try_pin(&source(SourceFormat::Delta, name)).await.unwrap_err();
        assert!(matches!(error, PinError::DeltaPath { .. }), "{error:?}");
    }
}

fn declared() -> DatasetSpec {
    dataset(DatasetFormat::Delta, "table")
}

#[tokio::test]
async fn a_time_means_the_version_that_was_current_then() {
    let (project, path) = project().await;
    let day = |day: u64| std::time::UNIX_EPOCH + std::time::Duration::from_secs(86_400 * day);
    for (version, committed) in [(0, 10), (1, 20), (2, 15)] {
        let file = std::fs::File::options().write(true).open(commit(&path, version)).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(day(committed))).unwrap();
    }
    let at = |timestamp: &str| DatasetSpec { timestamp: Some(timestamp.to_owned()), ..declared() };
    for (timestamp, version) in [
        ("1970-01-11T00:00:00Z", 0),
        ("1970-01-20T23:59:59.999Z", 0),
        // A clock that ran backwards does not put version 2 before version 1.
        ("1970-01-21T02:00:00+02:00", 2),
        ("2100-01-01T00:00:00Z", 2),
    ] {
        assert_eq!(project.pin_spec(&at(timestamp)).await.delta_version(), Some(version), "{timestamp}");
    }
    let pinned = project.pin_spec(&at("1970-01-12T00:00:00Z")).await;
    assert_eq!(pinned.digest(), project.pin_spec(&DatasetSpec { version: Some(0), ..declared() }).await.digest());
    let error = project.unpinnable(&at("1970-01-10T23:59:59Z")).await;
    assert!(
        error.contains("no version of 1970-01-10T23:59:59+00:00") && error.contains("came at 1970-01-11T00:00:00"),
        "{error}"
    );
}

#[tokio::test]
async fn every_scan_option_reaches_the_scan_and_the_pin() {
    let (project, path) = project().await;
    let base = project.pin_spec(&declared()).await;
    assert_eq!(base.digest(), project.pin(&at(None)).await.digest(), "both vocabularies mean the same");
    let scan = |change: &dyn Fn(&mut DeltaScanOptions)| {
        let mut spec = declared();
        change(&mut spec.scan);
        spec
    };
    let schema = async |spec: &DatasetSpec| project.pin_spec(spec).await.components()["schema"].clone();
    assert_eq!(base.components()["schema"], "k: Int64, s: Utf8View");
    let plain = scan(&|scan| scan.schema_force_view_types = Some(false));
    assert_eq!(schema(&plain).await, "k: Int64, s: Utf8");
    let wrapped = scan(&|scan| scan.wrap_partition_values = true);
    assert!(schema(&wrapped).await.starts_with("k: Int64, s: Dictionary("), "{}", schema(&wrapped).await);
    let read_as = scan(&|scan| scan.schema = Some(columns(&[("k", "Int64"), ("s", "LargeUtf8")])));
    assert_eq!(schema(&read_as).await, "k: Int64, s: LargeUtf8");

    let file = scan(&|scan| scan.file_column_name = Some("file".to_owned()));
    let pinned = project.pin_spec(&file).await;
    let found = project.query(&pinned, "select file from t").await;
    assert!(found.contains(".parquet"), "{found}");
    // Its values are places, so for once the place counts.
    copy(&path, &project.data().join("copy"));
    let moved = DatasetSpec { path: SourcePath::One("copy".to_owned()), ..file.clone() };
    assert_ne!(project.pin_spec(&moved).await.digest(), pinned.digest());
    let taken = scan(&|scan| scan.file_column_name = Some("k".to_owned()));
    assert!(project.unpinnable(&taken).await.contains("become `k`"));

    let held_back = scan(&|scan| scan.enable_parquet_pushdown = false);
    let predicate = async |spec: &DatasetSpec| {
        let pinned = project.pin_spec(spec).await;
        project.query(&pinned, "select k from t where k = 4").await;
        let frame = project.ctx.sql("select k from t where k = 4").await.unwrap();
        displayable(frame.create_physical_plan().await.unwrap().as_ref()).indent(true).to_string()
    };
    let (pushed, kept) = (predicate(&declared()).await, predicate(&held_back).await);
    assert_ne!(pushed, kept, "{pushed}");

    let mut digests = vec![base.digest()];
    for spec in [plain, wrapped, read_as, file, held_back] {
        digests.push(project.pin_spec(&spec).await.digest());
    }
    let mut distinct = digests.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), digests.len());
}

#[tokio::test]
async fn declared_columns_are_held_against_the_table_and_evolve_it() {
    let (project, _) = project().await;
    let spec =
        |declared_columns: &[(&str, &str)]| DatasetSpec { schema: Some(columns(declared_columns)), ..declared() };
    let pinned = project.pin_spec(&spec(&[("s", "Utf8"), ("k", "Int64")])).await;
    assert_eq!(pinned.components()["schema"], "s: Utf8, k: Int64");
    for (wrong, expected) in [
        (spec(&[("k", "Int64")]), "has the column `s` beyond `schema`"),
        (spec(&[("k", "Utf8"), ("s", "Utf8")]), "declares the column `k` as Utf8, but it is Int64"),
        (spec(&[("k", "Int64"), ("s", "Utf8"), ("z", "Int8")]), "has no column `z`"),
    ] {
        let error = project.unpinnable(&wrong).await;
        assert!(error.contains(expected), "{error}");
    }
    let evolution = EvolutionSpec {
        rename: [("k".to_owned(), "key".to_owned())].into(),
        defaults: [("z".to_owned(), serde_json::json!(9))].into(),
        casts: [("key".to_owned(), "Utf8".to_owned())].into(),
        ..EvolutionSpec::default()
    };
    let evolved = DatasetSpec { evolution: Some(evolution), version: Some(1), ..declared() };
    assert_eq!(
        project.answer(&evolved, "select key, z from t where key <> '2'").await,
        "| key | z |\n| 1   | 9 |\n| 3   | 9 |"
    );
    assert_eq!(
        project.answer(&evolved, "select count(*) as n, count(z) as z from t where z = 9").await,
        "| n | z |\n| 3 | 3 |"
    );
    let adapted = project.pin_spec(&evolved).await.adapter();
    let told = adapted.groups[0].columns.iter().map(|column| (column.name.as_str(), column.adaptation));
    assert_eq!(told.collect::<Vec<_>>(), [("key", ColumnAdaptation::Cast), ("z", ColumnAdaptation::Default)]);
    let plain = project.pin_spec(&declared()).await.adapter();
    assert_eq!((plain.adapter, plain.groups[0].columns.len()), (SchemaAdapter::Engine, 0));
    let projected = DatasetSpec { projection_exprs: vec!["k + 1 as next".to_owned()], ..declared() };
    assert_eq!(project.answer(&projected, "select * from t").await, "| next |\n| 5    |");

    let partitions = |by: &[(&str, &str)]| DatasetSpec { partition_columns: columns(by), ..declared() };
    project.pin_spec(&partitions(&[("s", "Utf8View")])).await;
    for wrong in [partitions(&[("k", "Int64")]), partitions(&[("s", "Int64")])] {
        let error = project.unpinnable(&wrong).await;
        assert!(error.contains("but the table is partitioned by [\"s: Utf8View\"]"), "{error}");
    }
}

#[tokio::test]
async fn a_bound_of_the_log_that_is_too_low_loses_no_row() {
    let project = Project::new();
    let path = project.data().join("table");
    std::fs::create_dir_all(&path).unwrap();
    let decimals = Decimal128Array::from(vec![500, 900_719_925_474_099_499]).with_precision_and_scale(18, 2).unwrap();
    let decimals: arrow::array::ArrayRef = Arc::new(decimals);
    let rows = RecordBatch::try_from_iter([("d", decimals)]).unwrap();
    let table = DeltaTableBuilder::from_url(Url::from_directory_path(&path).unwrap()).unwrap().build().unwrap();
    table.write([rows]).await.unwrap();
    let log = std::fs::read_to_string(commit(&path, 0)).unwrap();
    assert!(log.contains(r#"\"d\":9007199254740994.0"#), "the engine's bound, which is too low: {log}");

    let pinned = project.pin(&at(None)).await;
    for filter in ["d = cast('9007199254740994.99' as decimal(18, 2))", "d > 9007199254740994"] {
        let found = project.query(&pinned, &format!("select count(*) as n from t where {filter}")).await;
        assert!(found.contains("| 1 |"), "{filter}: {found}");
    }
}
