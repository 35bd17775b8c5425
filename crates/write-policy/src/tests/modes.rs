//! What each mode does to the rows that are there.

use super::*;
use crate::{CommitError, Expected, WriteError, head_commit};
use alluvium_contracts::{SchemaMode, WriteMode};

fn mode(mode: WriteMode) -> DeltaWritePolicy {
    DeltaWritePolicy { mode, ..DeltaWritePolicy::default() }
}

fn merge() -> DeltaWritePolicy {
    DeltaWritePolicy { keys: names(&["s"]), ..mode(WriteMode::Merge) }
}

fn one(s: &str, n: i64) -> Vec<RecordBatch> {
    vec![batch(&[(Some(s), n)])]
}

#[tokio::test]
async fn append_overwrite_error_and_ignore() {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &mode(WriteMode::Error), one("a", 1)).await;
    let again = write(dir.path(), &mode(WriteMode::Error), one("b", 2)).await;
    assert!(matches!(again, Err(CommitError::TableExists { head: 0, .. })), "{again:?}");
    let ignored = write(dir.path(), &mode(WriteMode::Ignore), one("b", 2)).await.unwrap();
    assert_eq!(ignored, TableWriteOutcome::Ignored { head: 0 });
    land(dir.path(), &mode(WriteMode::Append), one("b", 2)).await;
    assert_eq!(rows(dir.path()).await, ["a|1", "b|2"]);
    assert_eq!(land(dir.path(), &mode(WriteMode::Overwrite), one("c", 3)).await, 2);
    assert_eq!(rows(dir.path()).await, ["c|3"]);
    assert_eq!(data_files(dir.path()).len(), 3, "refused and ignored writes leave no file");
}

#[tokio::test]
async fn merge_updates_what_is_there_and_inserts_what_is_not() {
    for partition_by in [names(&[]), names(&["s"])] {
        let dir = tempfile::tempdir().unwrap();
        let small = DeltaWritePolicy { partition_by, ..mode(WriteMode::Append) };
        land(dir.path(), &small, vec![batch(&[(Some("a"), 1), (Some("b"), 2), (None, 9)])]).await;
        land(dir.path(), &small, one("c", 3)).await;
        let policy = DeltaWritePolicy { mode: WriteMode::Merge, keys: names(&["s"]), ..small };
        land(dir.path(), &policy, vec![batch(&[(Some("b"), 20), (Some("d"), 4)])]).await;
        assert_eq!(rows(dir.path()).await, ["NULL|9", "a|1", "b|20", "c|3", "d|4"]);
        let log = actions(dir.path(), 2);
        assert_eq!(log["remove"].len(), 1, "only the file with a match is rewritten: {log:?}");
        assert_eq!(log["commitInfo"][0]["operation"], "MERGE");
        assert!(log["add"].iter().all(|add| add["tags"]["alluvium.digest"].is_string()));
        assert_eq!(active_files(dir.path(), 2).await.unwrap().iter().map(|file| file.row_count).sum::<u64>(), 5);
    }
}

#[tokio::test]
async fn a_merge_that_cannot_be_decided_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &mode(WriteMode::Append), one("a", 1)).await;
    let twice = write(dir.path(), &merge(), vec![batch(&[(Some("b"), 1)]), batch(&[(Some("b"), 2)])]).await;
    assert!(matches!(twice, Err(CommitError::Write { source: WriteError::DuplicateKey { .. } })), "{twice:?}");
    let null = write(dir.path(), &merge(), vec![batch(&[(None, 1)])]).await;
    assert!(matches!(null, Err(CommitError::Write { source: WriteError::NullKey { .. } })), "{null:?}");
    assert_eq!(rows(dir.path()).await, ["a|1"]);
    assert_eq!(data_files(dir.path()).len(), 1);
}

#[tokio::test]
async fn replace_where_replaces_what_matches_and_checks_what_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &mode(WriteMode::Append), vec![batch(&[(Some("a"), 1), (Some("b"), 2), (None, 5)])]).await;
    land(dir.path(), &mode(WriteMode::Append), one("a", 10)).await;
    let policy = DeltaWritePolicy { replace_where: Some("s = 'a'".to_owned()), ..mode(WriteMode::ReplaceWhere) };
    let outside = write(dir.path(), &policy, vec![batch(&[(Some("a"), 7), (Some("z"), 8)])]).await;
    assert!(
        matches!(&outside, Err(CommitError::Write { source: WriteError::Constraint { constraint, .. } }) if constraint == "replace_where"),
        "{outside:?}"
    );
    land(dir.path(), &policy, one("a", 7)).await;
    assert_eq!(rows(dir.path()).await, ["NULL|5", "a|7", "b|2"], "a condition that is NULL is not met");
    let log = actions(dir.path(), 2);
    assert_eq!((log["remove"].len(), log["add"].len()), (2, 2));
}

#[tokio::test]
async fn delete_by_condition_and_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let input = vec![batch(&[(Some("a"), 1), (Some("b"), 2), (Some("c"), 3), (None, 4)])];
    land(dir.path(), &mode(WriteMode::Append), input).await;
    let policy = DeltaWritePolicy { replace_where: Some("n = 1".to_owned()), ..mode(WriteMode::Delete) };
    land(dir.path(), &policy, vec![]).await;
    assert_eq!(rows(dir.path()).await, ["NULL|4", "b|2", "c|3"]);
    let policy = DeltaWritePolicy { keys: names(&["s"]), ..mode(WriteMode::Delete) };
    land(dir.path(), &policy, vec![batch(&[(Some("b"), 77), (Some("b"), 78), (Some("nope"), 0)])]).await;
    assert_eq!(rows(dir.path()).await, ["NULL|4", "c|3"]);
    let nowhere = write(&dir.path().join("none"), &policy, one("b", 1)).await;
    assert!(matches!(nowhere, Err(CommitError::Table { .. })), "{nowhere:?}");
}

/// Removes the one file whose rows are `n`, so that whoever opens it fails.
async fn unreadable(table: &Path, n: i64) {
    for file in active_files(table, head_commit(table).unwrap().unwrap().version).await.unwrap() {
        let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(table.join(&file.path)).unwrap()).unwrap();
        let rows: Vec<String> = reader.build().unwrap().flat_map(|batch| texts(&batch.unwrap())).collect();
        if rows.iter().any(|row| row.ends_with(&format!("|{n}"))) {
            fs::remove_file(table.join(&file.path)).unwrap();
        }
    }
}

#[tokio::test]
async fn files_that_cannot_hold_what_goes_are_not_opened() {
    let deleting = DeltaWritePolicy { keys: names(&["n"]), ..mode(WriteMode::Delete) };
    let merging = DeltaWritePolicy { keys: names(&["n"]), ..mode(WriteMode::Merge) };
    let condition = DeltaWritePolicy { replace_where: Some("n = 1".to_owned()), ..mode(WriteMode::Delete) };
    for (policy, rows) in [(deleting, one("z", 1)), (merging, one("z", 1)), (condition, vec![])] {
        let dir = tempfile::tempdir().unwrap();
        for n in [1, 50] {
            land(dir.path(), &mode(WriteMode::Append), one("a", n)).await;
        }
        unreadable(dir.path(), 50).await;
        land(dir.path(), &policy, rows).await;
        let log = actions(dir.path(), 2);
        assert_eq!(log["remove"].len(), 1, "{:?}: {log:?}", policy.mode);
        // The same with a key in that file's range has to look, and says that it cannot.
        let inside = DeltaWritePolicy { keys: names(&["n"]), ..mode(WriteMode::Delete) };
        let refused = write(dir.path(), &inside, one("z", 50)).await;
        assert!(matches!(refused, Err(CommitError::Table { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn bounds_that_leave_values_out_are_not_trusted() {
    let floats: SchemaRef = Arc::new(Schema::new(vec![Field::new("f", DataType::Float64, true)]));
    let values: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![f64::NAN, 1.0]));
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &mode(WriteMode::Append), vec![RecordBatch::try_new(floats.clone(), vec![values]).unwrap()]).await;
    let policy = DeltaWritePolicy { replace_where: Some("f > 5.0".to_owned()), ..mode(WriteMode::Delete) };
    let resolved = ResolvedWritePolicy::resolve(&policy, &floats).unwrap();
    let _ = TableWrite::new(dir.path(), floats, vec![], &resolved).run().await.unwrap();
    assert_eq!(rows(dir.path()).await, ["1.0"], "NaN is above 5, and in no bounds");
}

#[tokio::test]
async fn bounds_of_a_cast_that_keeps_no_order_are_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let around_zero = [(Some("a"), -1), (Some("b"), 0), (Some("c"), 1)];
    land(dir.path(), &mode(WriteMode::Append), vec![batch(&around_zero)]).await;
    let condition = Some("cast(n as boolean) < true".to_owned());
    land(dir.path(), &DeltaWritePolicy { replace_where: condition, ..mode(WriteMode::Delete) }, vec![]).await;
    assert_eq!(rows(dir.path()).await, ["a|-1", "c|1"], "the least and the greatest value are both true");
}

#[tokio::test]
async fn keys_of_another_type_than_the_tables_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &DeltaWritePolicy::default(), vec![batch(&[(Some("a"), 1)])]).await;
    let keys: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![1]));
    let keys = RecordBatch::try_from_iter([("n", keys)]).unwrap();
    let policy = DeltaWritePolicy { mode: WriteMode::Delete, keys: names(&["n"]), ..DeltaWritePolicy::default() };
    let result = write(dir.path(), &policy, vec![keys]).await;
    assert!(matches!(&result, Err(CommitError::SchemaChanged { column, .. }) if column == "n"), "{result:?}");
    assert_eq!(rows(dir.path()).await, ["a|1"]);
}

#[tokio::test]
async fn the_schema_mode_decides_about_other_columns() {
    let more: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("extra", DataType::Utf8, false)]));
    let with_extra = || {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![2])), Arc::new(StringArray::from(vec!["new"]))];
        vec![RecordBatch::try_new(more.clone(), columns).unwrap()]
    };
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &mode(WriteMode::Append), one("a", 1)).await;
    for policy in [mode(WriteMode::Append), mode(WriteMode::Overwrite)] {
        let strict = write(dir.path(), &policy, with_extra()).await;
        assert!(matches!(strict, Err(CommitError::SchemaChanged { .. })), "{strict:?}");
    }
    let merging = DeltaWritePolicy { schema_mode: SchemaMode::Merge, ..mode(WriteMode::Append) };
    land(dir.path(), &merging, with_extra()).await;
    assert_eq!(rows(dir.path()).await, ["NULL|2|new", "a|1|NULL"]);
    let merging = DeltaWritePolicy { schema_mode: SchemaMode::Merge, keys: names(&["n"]), ..mode(WriteMode::Merge) };
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1])), Arc::new(StringArray::from(vec!["x"]))];
    land(dir.path(), &merging, vec![RecordBatch::try_new(more.clone(), columns).unwrap()]).await;
    assert_eq!(rows(dir.path()).await, ["NULL|1|x", "NULL|2|new"]);
    let replacing = DeltaWritePolicy { schema_mode: SchemaMode::Overwrite, ..mode(WriteMode::Overwrite) };
    land(dir.path(), &replacing, with_extra()).await;
    assert_eq!(rows(dir.path()).await, ["2|new"]);
    let other: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Utf8, true)]));
    let text = RecordBatch::try_new(other, vec![Arc::new(StringArray::from(vec!["x"]))]).unwrap();
    let retyped = write(dir.path(), &merging_append(), vec![text]).await;
    assert!(matches!(retyped, Err(CommitError::SchemaChanged { .. })), "types do not change: {retyped:?}");
}

fn merging_append() -> DeltaWritePolicy {
    DeltaWritePolicy { schema_mode: SchemaMode::Merge, ..mode(WriteMode::Append) }
}

#[tokio::test]
async fn files_of_another_partitioning_do_not_join() {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &mode(WriteMode::Append), one("a", 1)).await;
    let policy = DeltaWritePolicy { partition_by: names(&["s"]), ..mode(WriteMode::Append) };
    let result = write(dir.path(), &policy, one("b", 2)).await;
    assert!(matches!(result, Err(CommitError::Partitioning { .. })), "{result:?}");
    assert_eq!(data_files(dir.path()).len(), 1);
}

#[tokio::test]
async fn a_write_lands_once_and_only_on_what_it_expects() {
    let dir = tempfile::tempdir().unwrap();
    let policy = resolve(&mode(WriteMode::Append));
    let run = |transaction: Option<i64>, expected| {
        let write = TableWrite::new(dir.path(), schema(), vec![stream(one("a", 1))], &policy).expect(expected);
        match transaction {
            Some(version) => write.transaction("app", version).run(),
            None => write.run(),
        }
    };
    assert!(matches!(run(Some(1), Expected::NoTable).await.unwrap(), TableWriteOutcome::Committed(_)));
    assert_eq!(run(Some(1), Expected::Any).await.unwrap(), TableWriteOutcome::AlreadyApplied);
    assert_eq!(run(Some(0), Expected::Any).await.unwrap(), TableWriteOutcome::AlreadyApplied);
    assert_eq!(run(None, Expected::NoTable).await.unwrap(), TableWriteOutcome::Conflict { head: Some(0) });
    assert_eq!(run(None, Expected::Version(7)).await.unwrap(), TableWriteOutcome::Conflict { head: Some(0) });
    assert!(matches!(run(Some(2), Expected::Version(0)).await.unwrap(), TableWriteOutcome::Committed(_)));
    assert_eq!(head_commit(dir.path()).unwrap().unwrap().version, 1);
    assert_eq!(rows(dir.path()).await, ["a|1", "a|1"]);
}
