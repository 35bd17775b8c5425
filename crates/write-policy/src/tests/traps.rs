//! What the engine does when left to itself, and that we do otherwise.

use alluvium_contracts::MaintenanceResult;
use alluvium_contracts::WriteMode;
use alluvium_telemetry::Seam;
use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlanBuilder, col};
use deltalake_core::DeltaTable;
use deltalake_core::kernel::transaction::CommitProperties;
use deltalake_core::operations::write::WriteBuilder;
use deltalake_core::protocol::SaveMode;
use deltalake_core::table::config::TablePropertiesExt as _;

use super::*;
use crate::{Maintenance, MaintenanceError, commit_info};

async fn engine_table(path: &Path) -> DeltaTable {
    let url = Url::from_directory_path(path).unwrap();
    let builder = DeltaTableBuilder::from_url(url).unwrap();
    match path.join("_delta_log").exists() {
        true => builder.load().await.unwrap(),
        false => builder.build().unwrap(),
    }
}

fn tens() -> Vec<RecordBatch> {
    vec![batch(&(0..10).map(|n| (Some("x"), n)).collect::<Vec<_>>())]
}

/// Trap 1: the engine's conflict check does not count the removes of another OPTIMIZE.
#[tokio::test]
async fn two_engine_compactions_of_one_version_both_land_and_ours_do_not() {
    let engine = tempfile::tempdir().unwrap();
    for n in 0..6_i64 {
        append_row(engine.path(), ("x", n), ("o", n)).await;
    }
    let (first, second) = (engine_table(engine.path()).await, engine_table(engine.path()).await);
    for table in [first, second] {
        table.optimize().await.unwrap();
    }
    assert_eq!(rows(engine.path()).await.len(), 12, "every row is there twice");

    let ours = tempfile::tempdir().unwrap();
    for n in 0..6_i64 {
        append_row(ours.path(), ("x", n), ("o", n)).await;
    }
    let first = Maintenance::begin(ours.path(), Seam::system()).unwrap();
    let second = Maintenance::begin(ours.path(), Seam::system());
    assert!(matches!(second, Err(MaintenanceError::Busy { .. })), "{second:?}");
    assert_eq!(first.compact(2).await.unwrap().files_removed, 6);
    drop(first);
    let second = Maintenance::begin(ours.path(), Seam::system()).unwrap();
    assert_eq!(second.compact(2).await.unwrap().result, MaintenanceResult::Skipped);
    assert_eq!(rows(ours.path()).await.len(), 6);
}

/// Trap 2: an overwrite does not see what lands beside it.
#[tokio::test]
async fn two_engine_overwrites_of_one_version_both_land_and_ours_do_not() {
    let engine = tempfile::tempdir().unwrap();
    replace(engine.path(), None, vec![]).await;
    let (first, second) = (engine_table(engine.path()).await, engine_table(engine.path()).await);
    for table in [first, second] {
        table.write(tens()).with_save_mode(SaveMode::Overwrite).await.unwrap();
    }
    assert_eq!(rows(engine.path()).await.len(), 20, "the engine keeps both");

    let ours = tempfile::tempdir().unwrap();
    replace(ours.path(), None, vec![]).await;
    let (first, second) = (stage(ours.path(), tens()).await, stage(ours.path(), tens()).await);
    let mut landed = 0;
    for staged in [first, second] {
        let outcome = commit_replace(ours.path(), Some(0), schema(), staged, &plain(), &metadata("r"), None).await;
        landed += u32::from(matches!(outcome.unwrap(), CommitOutcome::Committed(_)));
    }
    assert_eq!((landed, rows(ours.path()).await.len()), (1, 10));
    // With any version expected, the second sees the first.
    for _ in 0..2 {
        land(ours.path(), &DeltaWritePolicy::default(), tens()).await;
    }
    assert_eq!(rows(ours.path()).await.len(), 10);
}

/// How often a number is followed by a smaller one in the files of a table.
fn breaks(table: &Path) -> usize {
    let numbers = data_files(table).into_iter().flat_map(|file| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(table.join(file)).unwrap()).unwrap();
        reader.build().unwrap().flat_map(|batch| batch.unwrap()["n"].as_primitive::<Int64Type>().values().to_vec())
    });
    let numbers: Vec<i64> = numbers.collect();
    numbers.windows(2).filter(|pair| pair[0] > pair[1]).count()
}

/// Trap 3: the order of a plan is lost on its way through the engine's writer.
#[tokio::test]
async fn the_engine_drops_the_order_of_a_plan() {
    let backwards: Vec<RecordBatch> = (0..50_i64).rev().map(|n| numbered(n * 100, n * 100 + 100)).collect();
    let partitions = backwards.chunks(10).map(<[RecordBatch]>::to_vec).collect();
    let rows = provider_as_source(Arc::new(MemTable::try_new(schema(), partitions).unwrap()));
    let sorted = LogicalPlanBuilder::scan("t", rows, None).unwrap().sort([col("n").sort(true, true)]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let table = engine_table(dir.path()).await;
    WriteBuilder::new(table.log_store(), None).with_input_plan(sorted.build().unwrap()).await.unwrap();
    assert!(breaks(dir.path()) > 0, "the engine kept the order: our own sort may go");
}

#[tokio::test]
async fn our_sort_survives_to_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy { zorder_by: names(&["n"]), ..DeltaWritePolicy::default() };
    let backwards: Vec<RecordBatch> = (0..50_i64).rev().map(|n| numbered(n * 100, n * 100 + 100)).collect();
    let resolved = resolve(&policy);
    let (left, right) = backwards.split_at(20);
    let streams = vec![stream(left.to_vec()), stream(right.to_vec())];
    let _ = TableWrite::new(dir.path(), schema(), streams, &resolved).run().await.unwrap();
    assert_eq!((data_files(dir.path()).len(), breaks(dir.path())), (1, 0));
    assert_eq!(rows(dir.path()).await.len(), 5_000);
}

/// Trap 5: the engine takes a key of ours for its own and drops it.
#[tokio::test]
async fn the_engine_drops_the_key_operation_and_we_refuse_it() {
    let engine = tempfile::tempdir().unwrap();
    replace(engine.path(), None, vec![]).await;
    let ours = [("operation".to_owned(), Value::from("cache write")), ("kept".to_owned(), Value::from(1))];
    engine_table(engine.path())
        .await
        .write(tens())
        .with_commit_properties(CommitProperties::default().with_metadata(ours.clone()))
        .await
        .unwrap();
    let info = commit_info(engine.path(), 1).unwrap();
    assert_eq!((info["operation"].as_str(), info["kept"].as_i64()), (Some("WRITE"), Some(1)));

    let policy = plain();
    let refused = TableWrite::new(engine.path(), schema(), vec![stream(tens())], &policy)
        .metadata(ours.into_iter().collect())
        .run()
        .await;
    assert!(matches!(refused, Err(crate::CommitError::ReservedKey { .. })), "{refused:?}");
}

/// Trap 10: logs expire unless they are told not to.
#[tokio::test]
async fn the_engine_lets_the_log_expire_and_ours_stays_where_commits_are_the_truth() {
    let engine = tempfile::tempdir().unwrap();
    engine_table(engine.path()).await.write(tens()).await.unwrap();
    let property = |table: &Path| {
        actions(table, 0)["metaData"][0]["configuration"]["delta.enableExpiredLogCleanup"].as_str().map(str::to_owned)
    };
    assert_eq!(property(engine.path()), None);
    let loaded = engine_table(engine.path()).await;
    assert!(loaded.snapshot().unwrap().table_config().enable_expired_log_cleanup(), "it is on unless said otherwise");

    let ours = tempfile::tempdir().unwrap();
    let policy = resolve(&DeltaWritePolicy { mode: WriteMode::Append, ..DeltaWritePolicy::default() });
    let _ = TableWrite::new(ours.path(), schema(), vec![stream(tens())], &policy).keep_log().run().await.unwrap();
    assert_eq!(property(ours.path()).as_deref(), Some("false"));
    let loaded = engine_table(ours.path()).await;
    assert!(!loaded.snapshot().unwrap().table_config().enable_expired_log_cleanup());
}
