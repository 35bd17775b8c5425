//! The change data feed, as the engine's own reader has it.

use std::time::{Duration, SystemTime};

use alluvium_contracts::{DeltaFeature, MaintenanceResult, WriteMode};
use alluvium_telemetry::Seam;
use datafusion::prelude::SessionContext;
use deltalake_core::delta_datafusion::DeltaCdfTableProvider;

use super::*;
use crate::{CommitError, Maintenance, PolicyError};

fn feeding() -> DeltaWritePolicy {
    DeltaWritePolicy { enable_features: vec![DeltaFeature::ChangeDataFeed], ..DeltaWritePolicy::default() }
}

fn merging() -> DeltaWritePolicy {
    DeltaWritePolicy { mode: WriteMode::Merge, keys: names(&["s"]), ..feeding() }
}

fn deleting(condition: &str) -> DeltaWritePolicy {
    DeltaWritePolicy { mode: WriteMode::Delete, replace_where: Some(condition.to_owned()), ..feeding() }
}

/// Version 0: a, b and c in one file.
async fn table(policy: &DeltaWritePolicy) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), policy, vec![batch(&[(Some("a"), 1), (Some("b"), 2), (Some("c"), 3)])]).await;
    dir
}

/// What the feed says of one version, as `change|s|n`, sorted.
#[expect(clippy::disallowed_methods, reason = "a session of the test's own, as a user of the crate has one")]
async fn feed(table: &Path, version: u64) -> Vec<String> {
    let url = Url::from_directory_path(table).unwrap();
    let table = DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap();
    let scan = table.scan_cdf().with_starting_version(version).with_ending_version(version);
    let session = SessionContext::new();
    session.register_table("feed", Arc::new(DeltaCdfTableProvider::try_new(scan).unwrap())).unwrap();
    let changes = session.sql("select _change_type, s, n from feed").await.unwrap().collect().await.unwrap();
    let mut changes: Vec<String> = changes.iter().flat_map(texts).collect();
    changes.sort();
    changes
}

/// The change files of one commit.
fn change_files(table: &Path, version: u64) -> Vec<Value> {
    actions(table, version).remove("cdc").unwrap_or_default()
}

#[tokio::test]
async fn a_merge_tells_updates_from_inserts() {
    let dir = table(&feeding()).await;
    assert_eq!(feed(dir.path(), 0).await, ["insert|a|1", "insert|b|2", "insert|c|3"]);
    land(dir.path(), &merging(), vec![batch(&[(Some("b"), 20), (Some("d"), 4)])]).await;
    assert_eq!(rows(dir.path()).await, ["a|1", "b|20", "c|3", "d|4"]);
    let expected = ["insert|d|4", "update_postimage|b|20", "update_preimage|b|2"];
    assert_eq!(feed(dir.path(), 1).await, expected, "a and c moved to another file, and did not change");
    for file in change_files(dir.path(), 1) {
        let path = file["path"].as_str().unwrap();
        assert!(path.starts_with("_change_data/") && dir.path().join(path).exists(), "{path}");
        assert_eq!((&file["dataChange"], file["size"].as_u64().unwrap() > 0), (&Value::Bool(false), true));
        assert!(file["tags"]["alluvium.digest"].is_string());
    }
    // Every row of a file is updated: the files alone would speak of a deletion and an insertion.
    let all: Vec<_> = ["a", "b", "c", "d"].into_iter().zip(30..).map(|(s, n)| (Some(s), n)).collect();
    land(dir.path(), &merging(), vec![batch(&all)]).await;
    let changes = feed(dir.path(), 2).await;
    assert_eq!(changes.iter().filter(|change| change.starts_with("update_")).count(), 8, "{changes:?}");
    // What meets no row is an insertion, which files tell.
    land(dir.path(), &merging(), vec![batch(&[(Some("e"), 5)])]).await;
    assert_eq!((feed(dir.path(), 3).await, change_files(dir.path(), 3).len()), (vec!["insert|e|5".to_owned()], 0));
}

#[tokio::test]
async fn deletions_and_replacements_tell_the_rows_that_went() {
    let dir = table(&feeding()).await;
    land(dir.path(), &deleting("n = 2"), vec![]).await;
    assert_eq!(feed(dir.path(), 1).await, ["delete|b|2"]);
    let by_key = DeltaWritePolicy { mode: WriteMode::Delete, keys: names(&["s"]), ..feeding() };
    land(dir.path(), &by_key, vec![batch(&[(Some("c"), 0)])]).await;
    assert_eq!(feed(dir.path(), 2).await, ["delete|c|3"]);
    land(dir.path(), &deleting("true"), vec![]).await;
    assert_eq!((feed(dir.path(), 3).await, change_files(dir.path(), 3).len()), (vec!["delete|a|1".to_owned()], 0));

    let dir = table(&feeding()).await;
    let replacing =
        DeltaWritePolicy { mode: WriteMode::ReplaceWhere, replace_where: Some("n > 1".to_owned()), ..feeding() };
    land(dir.path(), &replacing, vec![batch(&[(Some("x"), 9)])]).await;
    assert_eq!(feed(dir.path(), 1).await, ["delete|b|2", "delete|c|3", "insert|x|9"]);
    land(dir.path(), &feeding(), vec![batch(&[(Some("y"), 1)])]).await;
    assert_eq!(feed(dir.path(), 2).await, ["delete|a|1", "delete|x|9", "insert|y|1"], "of an overwrite");
    assert_eq!(change_files(dir.path(), 2).len(), 0);
}

#[tokio::test]
async fn change_files_are_partitioned_as_the_table_and_nothing_of_a_lost_race_stays() {
    let by_s = DeltaWritePolicy { partition_by: names(&["s"]), ..feeding() };
    let dir = table(&by_s).await;
    land(dir.path(), &DeltaWritePolicy { mode: WriteMode::Append, ..by_s.clone() }, vec![batch(&[(Some("b"), 5)])])
        .await;
    let merge = DeltaWritePolicy { partition_by: names(&["s"]), keys: names(&["n"]), ..merging() };
    land(dir.path(), &merge, vec![batch(&[(Some("d"), 5)])]).await;
    assert_eq!(feed(dir.path(), 2).await, ["update_postimage|d|5", "update_preimage|b|5"]);
    let mut values: Vec<Value> =
        change_files(dir.path(), 2).into_iter().map(|mut file| file["partitionValues"]["s"].take()).collect();
    values.sort_by_key(Value::to_string);
    assert_eq!(values, ["b", "d"]);

    let before = data_files(dir.path());
    let policy = resolve(&DeltaWritePolicy { constraints: BTreeMap::from([("c".into(), "n < 5".into())]), ..merge });
    let refused =
        TableWrite::new(dir.path(), schema(), vec![stream(vec![batch(&[(Some("d"), 1)])])], &policy).run().await;
    assert!(matches!(refused, Err(CommitError::UncheckedRows { .. })), "{refused:?}");
    assert_eq!(data_files(dir.path()), before);
}

#[tokio::test]
async fn a_write_that_begins_the_feed_feeds_it() {
    let dir = table(&DeltaWritePolicy::default()).await;
    land(dir.path(), &deleting("n = 2"), vec![]).await;
    assert_eq!(feed(dir.path(), 1).await, ["delete|b|2"]);
    let dir = table(&DeltaWritePolicy::default()).await;
    let silent = DeltaWritePolicy { enable_features: vec![], ..deleting("n = 2") };
    land(dir.path(), &silent, vec![]).await;
    assert_eq!(
        (change_files(dir.path(), 1).len(), data_files(dir.path()).len()),
        (0, 2),
        "without a feed nothing is written"
    );
}

#[tokio::test]
async fn a_column_of_the_feed_is_no_column_of_the_table() {
    let fields = vec![Field::new("_change_type", DataType::Utf8, true), Field::new("n", DataType::Int64, true)];
    let result = ResolvedWritePolicy::resolve(&feeding(), &Arc::new(Schema::new(fields)));
    assert!(matches!(result, Err(PolicyError::Column { field: "enable_features", .. })), "{result:?}");
}

#[tokio::test]
async fn vacuum_takes_old_change_files_but_those_of_pinned_versions() {
    let dir = table(&feeding()).await;
    for n in [2, 3] {
        land(dir.path(), &deleting(&format!("n = {n}")), vec![]).await;
    }
    let maintenance = || Maintenance::begin(dir.path(), Seam::system()).unwrap();
    let young = maintenance().vacuum(168, &[]).await.unwrap();
    assert_eq!(young.result, MaintenanceResult::Skipped);
    let now = Duration::from_millis(Seam::system().unix_ms().try_into().unwrap());
    let old = SystemTime::UNIX_EPOCH + now - Duration::from_secs(200 * 3_600);
    let file = |version| dir.path().join(change_files(dir.path(), version)[0]["path"].as_str().unwrap());
    for version in [1, 2] {
        fs::File::options().write(true).open(file(version)).unwrap().set_modified(old).unwrap();
    }
    let event = maintenance().vacuum(168, &[2]).await.unwrap();
    assert_eq!((event.files_removed, file(1).exists(), file(2).exists()), (1, false, true));
    assert_eq!(feed(dir.path(), 2).await, ["delete|c|3"]);
}
