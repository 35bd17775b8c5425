//! The change feed of a Delta table: ranges, ends, cursors, and everything that can be missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_contracts::{CdfOptions, DatasetFormat, DatasetSpec, ProfileSpec};
use alluvium_datasets::{Changes, Dataset, PinnedDataset, Pinner, register_dataset, register_dataset_ddl};
use alluvium_profile::{Query, RuntimeProfile, SessionFactory};
use alluvium_telemetry::Seam;
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use deltalake_core::kernel::{DataType, PrimitiveType};
use deltalake_core::protocol::SaveMode;
use deltalake_core::{DeltaTable, DeltaTableBuilder, TableProperty};
use url::Url;

use crate::support::{Project, chain, dataset, query, sorted, undeclarable};

async fn open(path: &Path) -> DeltaTable {
    DeltaTableBuilder::from_url(Url::from_directory_path(path).unwrap()).unwrap().load().await.unwrap()
}

async fn append(path: &Path, keys: &[i64]) {
    let keys: arrow::array::ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    let batch = RecordBatch::try_from_iter_with_nullable([("k", keys, true)]).unwrap();
    open(path).await.write([batch]).with_save_mode(SaveMode::Append).await.unwrap();
}

/// Version 0 makes the table, 1 adds 1 and 2, 2 adds 3, 3 deletes 2, 4 adds 4.
async fn project(enabled: bool) -> (Project, PathBuf) {
    let project = Project::new();
    let path = project.data().join("table");
    std::fs::create_dir_all(&path).unwrap();
    let table = DeltaTableBuilder::from_url(Url::from_directory_path(&path).unwrap()).unwrap().build().unwrap();
    table
        .create()
        .with_column("k", DataType::Primitive(PrimitiveType::Long), true, None)
        .with_configuration_property(TableProperty::EnableChangeDataFeed, Some(enabled.to_string()))
        .await
        .unwrap();
    append(&path, &[1, 2]).await;
    append(&path, &[3]).await;
    open(&path).await.delete().with_predicate("k = 2").await.unwrap();
    append(&path, &[4]).await;
    (project, path)
}

fn with(options: CdfOptions) -> DatasetSpec {
    DatasetSpec { cdf: Some(options), ..dataset(DatasetFormat::Delta, "table") }
}

fn from(starting_version: u64) -> CdfOptions {
    CdfOptions { starting_version: Some(starting_version), ..CdfOptions::default() }
}

async fn rows(project: &Project, pinned: &PinnedDataset) -> String {
    let provider = pinned.changes().unwrap().provider(&project.ctx).unwrap();
    let sql = "select k, _change_type as c, _commit_version as v from t";
    sorted(&query(&project.ctx, provider, sql).await.unwrap())
}

fn commit(path: &Path, version: u64) -> PathBuf {
    path.join(format!("_delta_log/{version:020}.json"))
}

#[tokio::test]
async fn a_range_ends_where_the_table_is_pinned() {
    let (project, path) = project(true).await;
    let pinned = project.pin_spec(&with(from(2))).await;
    append(&path, &[5]).await;
    let expected = "| k | c      | v |\n| 2 | delete | 3 |\n| 3 | insert | 2 |\n| 4 | insert | 4 |";
    assert_eq!(rows(&project, &pinned).await, expected);
    assert_eq!(pinned.changes().and_then(Changes::range), Some((2, 4)));
    let artifact = pinned.artifact().cdf_range.unwrap();
    assert_eq!((artifact.starting_version, artifact.ending_version), (2, 4));
    let ended = project.pin_spec(&with(CdfOptions { ending_version: Some(3), ..from(3) })).await;
    assert_eq!(rows(&project, &ended).await, "| k | c      | v |\n| 2 | delete | 3 |");
    let earlier = project.pin_spec(&DatasetSpec { version: Some(2), ..with(from(1)) }).await;
    assert_eq!(
        rows(&project, &earlier).await,
        "| k | c      | v |\n| 1 | insert | 1 |\n| 2 | insert | 1 |\n| 3 | insert | 2 |"
    );
    let plain = project.pin_spec(&DatasetSpec { version: Some(4), ..with(from(2)) }).await;
    assert_eq!(plain.digest(), pinned.digest());
}

#[tokio::test]
async fn changes_of_one_kind_alone_can_be_sorted() {
    let (project, path) = project(true).await;
    let inserts = project.pin_spec(&with(CdfOptions { ending_version: Some(2), ..from(1) })).await;
    let provider = inserts.changes().unwrap().provider(&project.ctx).unwrap();
    for (sql, expected) in [
        ("select k from t order by k desc", "| k |\n| 3 |\n| 2 |\n| 1 |"),
        (
            "select k, row_number() over (partition by _change_type order by _commit_version, k) as n from t order by n",
            "| k | n |\n| 1 | 1 |\n| 2 | 2 |\n| 3 | 3 |",
        ),
        ("select count(*) as n from t", "| n |\n| 3 |"),
    ] {
        let found = query(&project.ctx, Arc::clone(&provider), sql).await.unwrap();
        let rows: Vec<_> = found.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.join("\n"), expected, "{sql}");
    }
    // A range whose commits change nothing.
    let on = [("delta.appendOnly".to_owned(), "false".to_owned())].into();
    open(&path).await.set_tbl_properties().with_properties(on).await.unwrap();
    let none = project.pin_spec(&with(from(5))).await;
    let provider = none.changes().unwrap().provider(&project.ctx).unwrap();
    assert_eq!(sorted(&query(&project.ctx, provider, "select k from t order by k").await.unwrap()), "| k |");
}

#[tokio::test]
async fn changes_in_encoded_directories_are_read() {
    let project = Project::new();
    let path = project.data().join("table");
    std::fs::create_dir_all(&path).unwrap();
    let texts = ["é=#?&", "a b", "50%", "a/b", "plain"];
    let values: arrow::array::ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    let keys: arrow::array::ArrayRef = Arc::new(Int64Array::from_iter_values(0..5));
    let batch = RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("p", values, true)]).unwrap();
    let table = DeltaTableBuilder::from_url(Url::from_directory_path(&path).unwrap()).unwrap().build().unwrap();
    let on = [("delta.enableChangeDataFeed".to_owned(), Some("true".to_owned()))];
    table.write([batch]).with_partition_columns(["p"]).with_configuration(on).await.unwrap();
    open(&path).await.delete().with_predicate("k < 2").await.unwrap();
    let pinned = project.pin_spec(&with(from(0))).await;
    let provider = pinned.changes().unwrap().provider(&project.ctx).unwrap();
    let sql = "select p, _change_type as c, count(*) as n from t group by p, c";
    let found = sorted(&query(&project.ctx, provider, sql).await.unwrap());
    for text in texts {
        assert_eq!(found.matches(&format!("| {text:<5} | insert | 1 |")).count(), 1, "{text}: {found}");
    }
    assert_eq!(found.matches("| delete | 1 |").count(), 2, "{found}");
}

#[tokio::test]
async fn columns_predicates_times_and_ranges_are_honoured_or_named() {
    let (project, path) = project(true).await;
    let kept = CdfOptions {
        columns: Some(vec!["_commit_version".to_owned(), "k".to_owned()]),
        predicate: Some("_change_type = 'delete'".to_owned()),
        ..from(0)
    };
    let pinned = project.pin_spec(&with(kept.clone())).await;
    let provider = pinned.changes().unwrap().provider(&project.ctx).unwrap();
    let found = sorted(&query(&project.ctx, provider, "select * from t").await.unwrap());
    assert_eq!(found, "| _commit_version | k |\n| 3               | 2 |");
    let refused = async |options: CdfOptions| {
        let pinned = project.pin_spec(&with(options)).await;
        chain(&pinned.changes().unwrap().provider(&project.ctx).unwrap_err())
    };
    let unknown = CdfOptions { columns: Some(vec!["z".to_owned()]), ..kept.clone() };
    assert!(refused(unknown).await.contains("`cdf.columns` of `t` name `z`"));
    let volatile = CdfOptions { predicate: Some("random() > k".to_owned()), ..kept };
    assert!(refused(volatile).await.contains("calls `random`"));

    for (version, day) in [(0, 10), (1, 20), (2, 30), (3, 40), (4, 50)] {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(86_400 * day);
        let file = std::fs::File::options().write(true).open(commit(&path, version)).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(time)).unwrap();
    }
    let between = |start: &str, end: Option<&str>| CdfOptions {
        starting_timestamp: Some(start.to_owned()),
        ending_timestamp: end.map(str::to_owned),
        ..CdfOptions::default()
    };
    let range = async |options: CdfOptions| project.pin_spec(&with(options)).await.changes().unwrap().range();
    assert_eq!(range(between("1970-01-20T12:00:00Z", Some("1970-02-10T00:00:00Z"))).await, Some((1, 3)));
    assert_eq!(range(between("1970-01-21T00:00:00Z", None)).await, Some((1, 4)));
    let out = CdfOptions { allow_out_of_range: true, ..between("1999-01-01T00:00:00Z", None) };
    assert_eq!(range(out.clone()).await, None);
    assert_eq!(range(CdfOptions { allow_out_of_range: true, ending_version: Some(99), ..from(3) }).await, Some((3, 4)));
    assert_eq!(range(CdfOptions { allow_out_of_range: true, ..from(9) }).await, None);
    let empty = project.pin_spec(&with(CdfOptions { allow_out_of_range: true, ..from(9) })).await;
    assert_eq!(rows(&project, &empty).await, "| k | c | v |");

    for (options, expected) in [
        (CdfOptions::default(), "have no beginning"),
        (CdfOptions { ending_version: Some(99), ..from(3) }, "from version 3 to 99, but it is pinned at 4"),
        (from(9), "from version 9 to 4"),
        (CdfOptions { allow_out_of_range: false, ..out }, "no commit is at or after 1999"),
        (between("1970-01-21T00:00:00Z", Some("1970-01-01T00:00:00Z")), "no commit is at or before 1970-01-01"),
    ] {
        let error = project.unpinnable(&with(options)).await;
        assert!(error.contains(expected), "{error}");
    }
    let both = CdfOptions { starting_timestamp: Some("2024-01-01T00:00:00Z".to_owned()), ..from(1) };
    assert!(undeclarable(&with(both)).contains("`cdf.starting_timestamp` says otherwise than `cdf.starting_version`"));
    let wrong = CdfOptions { ending_timestamp: Some("soon".to_owned()), ..from(1) };
    assert!(undeclarable(&with(wrong)).contains("`cdf.ending_timestamp` cannot be `soon`"));
    let csv = DatasetSpec { format: DatasetFormat::Csv, ..with(from(1)) };
    assert!(undeclarable(&csv).contains("`cdf` cannot be honoured for csv"));
}

#[tokio::test]
async fn a_cursor_goes_on_where_it_stands() {
    let (project, path) = project(true).await;
    let first = project.pin_spec(&with(from(0))).await;
    let cursor = first.changes().unwrap().cursor("reader", None, 7);
    assert_eq!((cursor.version, cursor.consumer.as_str(), cursor.updated_unix_ms), (4, "reader", 7));
    assert!(cursor.timestamp_unix_ms.is_some());
    let resume = async |cursor: &alluvium_contracts::CdfCursor| {
        let declared = Dataset::resolve("t", &with(CdfOptions::default()), &project.data()).unwrap();
        project.pinner.pin(&project.ctx, &declared.after(cursor.clone())).await
    };
    let idle = resume(&cursor).await.unwrap();
    assert_eq!(idle.changes().unwrap().range(), None, "nothing new is no error");
    assert_eq!(idle.changes().unwrap().cursor("reader", None, 8).version, 4);
    append(&path, &[5]).await;
    let next = resume(&cursor).await.unwrap();
    assert_eq!(rows(&project, &next).await, "| k | c      | v |\n| 5 | insert | 5 |");
    let mut other = cursor.clone();
    other.table_id = "another".to_owned();
    let error = chain(&resume(&other).await.unwrap_err());
    assert!(error.contains("of the table another"), "{error}");

    // A digit of it flipped.
    let flipped = alluvium_contracts::CdfCursor { version: 5, ..cursor.clone() };
    let error = chain(&resume(&flipped).await.unwrap_err());
    assert!(error.contains("has another commit there now"), "{error}");
    // The table put back to version 3 from a copy, and written on: what it says of the versions after that is new to the reader.
    for version in [4, 5] {
        std::fs::remove_file(path.join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    append(&path, &[6]).await;
    append(&path, &[7]).await;
    let error = chain(&resume(&cursor).await.unwrap_err());
    assert!(error.contains("at version 4 of `t`") && error.contains("has another commit there now"), "{error}");
}

#[tokio::test]
async fn changes_that_are_not_there_are_named() {
    let (silent, _) = project(false).await;
    assert!(silent.pin_spec(&with(from(0))).await.changes().is_none());
    let required = CdfOptions { required: true, ..from(0) };
    assert!(silent.unpinnable(&with(required)).await.contains("records no changes at version 4"));
    let late = open(&silent.data().join("table")).await;
    let on = [("delta.enableChangeDataFeed".to_owned(), "true".to_owned())].into();
    late.set_tbl_properties().with_properties(on).await.unwrap();
    append(&silent.data().join("table"), &[9]).await;
    assert!(silent.unpinnable(&with(from(2))).await.contains("records no changes at version 2"));
    let pinned = silent.pin_spec(&with(from(5))).await;
    assert_eq!(rows(&silent, &pinned).await, "| k | c      | v |\n| 9 | insert | 6 |");

    let (vacuumed, path) = project(true).await;
    let changes = std::fs::read_dir(path.join("_change_data")).unwrap().next().unwrap().unwrap();
    std::fs::remove_file(changes.path()).unwrap();
    let error = vacuumed.unpinnable(&with(from(1))).await;
    assert!(error.contains("at version 3 were vacuumed") && error.contains("_change_data"), "{error}");
    vacuumed.pin_spec(&with(from(4))).await;

    let (gap, path) = project(true).await;
    let table = open(&path).await;
    deltalake_core::protocol::checkpoints::create_checkpoint(&table, None).await.unwrap();
    std::fs::remove_file(commit(&path, 2)).unwrap();
    assert!(gap.unpinnable(&with(from(1))).await.contains("the commit of version 2 is no longer in the log"));
}

#[tokio::test]
async fn times_of_commits_that_only_commits_know_are_refused() {
    let (project, path) = project(true).await;
    let log = std::fs::read_to_string(commit(&path, 0)).unwrap();
    let told = "\"configuration\":{\"delta.enableInCommitTimestamps\":\"true\",";
    std::fs::write(commit(&path, 0), log.replace("\"configuration\":{", told)).unwrap();
    for (field, options) in [
        (
            "cdf.starting_timestamp",
            CdfOptions { starting_timestamp: Some("2020-01-01T00:00:00Z".to_owned()), ..CdfOptions::default() },
        ),
        ("cdf.ending_timestamp", CdfOptions { ending_timestamp: Some("2100-01-01T00:00:00Z".to_owned()), ..from(1) }),
    ] {
        let error = project.unpinnable(&with(options)).await;
        assert!(error.contains(&format!("`{field}` of `t` cannot be honoured")), "{error}");
    }
    let pinned = project.pin_spec(&with(from(1))).await;
    assert_eq!(pinned.changes().unwrap().cursor("reader", None, 7).timestamp_unix_ms, None);
    let timed =
        DatasetSpec { timestamp: Some("2100-01-01T00:00:00Z".to_owned()), ..dataset(DatasetFormat::Delta, "table") };
    let error = project.unpinnable(&timed).await;
    assert!(error.contains("`delta.enableInCommitTimestamps`"), "{error}");
    project.pin_spec(&DatasetSpec { timestamp: None, version: Some(1), ..timed }).await;
}

#[tokio::test]
async fn changes_go_with_the_dataset_that_declared_them() {
    let (project, _) = project(true).await;
    let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    let pinner = Pinner::new(None, Seam::system());
    let register =
        async |sql: &str| register_dataset_ddl(&session, &pinner, sql, &project.data()).await.map(drop).unwrap();
    let has_changes = || session.context().table_exist("t__cdf").unwrap();
    let with_changes = "create or replace external table t stored as delta location 'table' options ('alluvium.spec' '{\"cdf\":{\"starting_version\":1}}')";
    let without = "create or replace external table t stored as delta location 'table'";
    register(with_changes).await;
    assert!(has_changes());
    register(without).await;
    assert!(!has_changes(), "they would be those of a dataset that is no more");

    // Nor do they outlive it where it was dropped and not replaced.
    register(with_changes).await;
    session.context().deregister_table("t").unwrap();
    register(&without.replace("or replace ", "")).await;
    assert!(!has_changes());

    // What only has the name is somebody else's.
    let own = Arc::new(datafusion::datasource::empty::EmptyTable::new(Arc::new(arrow::datatypes::Schema::empty())));
    session.context().register_table("t__cdf", own).unwrap();
    register(without).await;
    assert!(has_changes());
}

#[tokio::test]
async fn changes_are_registered_beside_their_dataset() {
    let (project, _) = project(true).await;
    let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    let declared = Dataset::resolve("Trips", &with(from(3)), &project.data()).unwrap();
    register_dataset(&session, &Pinner::new(None, Seam::system()), &declared).await.unwrap();
    let sql = "select k from \"Trips__cdf\" where _change_type = 'insert'";
    let found = session.execute(Query::sql(sql)).await.unwrap().collect().await.unwrap();
    assert_eq!(sorted(&pretty_format_batches(&found).unwrap().to_string()), "| k |\n| 4 |");
}
