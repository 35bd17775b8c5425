//! Creating, replacing, appending, and what a commit says of itself.

use serde_json::json;

use super::*;
use crate::{
    AppendOutcome, CommitError, PolicyError, ReadError, active_files, append, commit_create, commit_info, head_commit,
    transaction_version,
};

#[tokio::test]
async fn version_0_is_one_commit_with_everything_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("not/yet/there");
    let staged = stage(&table, vec![batch(&[(Some("a"), 1)])]).await;
    assert_eq!(head_commit(&table).unwrap(), None, "nothing is visible before the commit");
    let committed = commit_create(&table, schema(), staged, &plain(), &metadata("r1")).await.unwrap();
    assert_eq!(committed.version, 0);
    let actions = actions(&table, 0);
    assert_eq!(actions.keys().collect::<Vec<_>>(), ["add", "commitInfo", "metaData", "protocol"]);
    assert_eq!(actions["protocol"][0], json!({"minReaderVersion": 1, "minWriterVersion": 2}));
    assert_eq!(actions["metaData"][0]["configuration"], json!({"delta.enableExpiredLogCleanup": "false"}));
    assert_eq!(rows(&table).await, ["a|1"]);

    let again = stage(&table, vec![batch(&[(Some("b"), 2)])]).await;
    let result = commit_create(&table, schema(), again, &plain(), &metadata("r2")).await;
    assert!(matches!(result, Err(CommitError::TableExists { head: 0, .. })), "{result:?}");
    assert_eq!(data_files(&table).len(), 1, "the files of the refused commit are gone");
    assert_eq!(rows(&table).await, ["a|1"]);
}

#[tokio::test]
async fn replacing_is_compare_and_swap() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path();
    assert_eq!(replace(table, None, vec![batch(&[(Some("a"), 1)])]).await.version, 0);
    assert_eq!(replace(table, Some(0), vec![batch(&[(Some("b"), 2)])]).await.version, 1);
    assert_eq!(rows(table).await, ["b|2"]);
    assert!(!actions(table, 1).contains_key("metaData"), "nothing of the metadata changed");
    let before = data_files(table);
    for stale in [None, Some(0), Some(7)] {
        let staged = stage(table, vec![batch(&[(Some("c"), 3)])]).await;
        let outcome = commit_replace(table, stale, schema(), staged, &plain(), &metadata("r"), None).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Conflict { head: 1 }, "{stale:?}");
        assert_eq!(data_files(table), before, "{stale:?}");
    }
    assert_eq!(rows(table).await, ["b|2"]);

    // A table that was deleted meanwhile has no head to conflict with.
    fs::remove_dir_all(table.join("_delta_log")).unwrap();
    let staged = stage(table, vec![batch(&[(Some("c"), 3)])]).await;
    let result = commit_replace(table, Some(1), schema(), staged, &plain(), &metadata("r"), None).await;
    assert!(matches!(result, Err(CommitError::Table { source: ReadError::NotATable { .. } })), "{result:?}");
}

#[tokio::test]
async fn replacing_may_change_schema_and_partitions_and_keeps_the_rest() {
    let dir = foreign(&[
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        foreign_metadata(json!({"delta.checkpointInterval": "7"}), json!({})),
    ]);
    let table = dir.path();
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("day", DataType::Date32, true), Field::new("s", DataType::Utf8, false)]));
    let policy = DeltaWritePolicy { partition_by: vec!["day".to_owned()], ..DeltaWritePolicy::default() };
    let policy = ResolvedWritePolicy::resolve(&policy, &schema).unwrap();
    let days: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![Some(0), Some(-1), None]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "z"]));
    let input = RecordBatch::try_new(schema.clone(), vec![days, texts]).unwrap();
    let staged = write_files(table, schema.clone(), vec![stream(vec![input])], &policy).await.unwrap();
    let outcome =
        commit_replace(table, Some(0), schema, staged, &policy, &metadata("r"), Some(("out", 9))).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Committed(Committed { version: 1, .. })), "{outcome:?}");
    let new = &actions(table, 1)["metaData"][0];
    assert_eq!(new["id"], "5fba94ed-9794-4965-ba6e-6ee3c0d22af9");
    assert_eq!(new["partitionColumns"], json!(["day"]));
    assert_eq!(
        new["configuration"],
        json!({"delta.checkpointInterval": "7", "delta.enableExpiredLogCleanup": "false"})
    );
    assert_eq!(rows(table).await, ["1969-12-31|y", "1970-01-01|x", "NULL|z"]);
    assert_eq!(transaction_version(table, "out").await.unwrap(), Some(9));
}

#[tokio::test]
async fn appending_creates_then_adds_and_applies_each_transaction_once() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("ledger");
    assert_eq!(transaction_version(&table, "outbox").await.unwrap(), None);
    for (version, row) in [(1, "a"), (2, "b")] {
        let rows = vec![batch(&[(Some(row), version)])];
        let outcome = append(&table, schema(), rows, &metadata("r"), ("outbox", version)).await.unwrap();
        assert!(matches!(outcome, AppendOutcome::Committed(_)), "{outcome:?}");
    }
    for version in [1, 2] {
        let rows = vec![batch(&[(Some("again"), version)])];
        let outcome = append(&table, schema(), rows, &metadata("r"), ("outbox", version)).await.unwrap();
        assert_eq!(outcome, AppendOutcome::AlreadyApplied);
    }
    assert_eq!(append_row(&table, ("c", 3), ("other", 1)).await.version, 2);
    assert_eq!(rows(&table).await, ["a|1", "b|2", "c|3"]);
    assert_eq!(data_files(&table).len(), 3);
    assert_eq!(transaction_version(&table, "outbox").await.unwrap(), Some(2));
    assert_eq!(transaction_version(&table, "nobody").await.unwrap(), None);
    // Rows are a ledger's truth: its log may be cleaned up.
    assert_eq!(actions(&table, 0)["metaData"][0]["configuration"], json!({}));
}

#[tokio::test]
async fn a_ledger_is_checkpointed_as_its_property_says() {
    let dir = foreign(&[
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        foreign_metadata(json!({"delta.checkpointInterval": "3"}), json!({})),
    ]);
    for version in 1..=4 {
        append_row(dir.path(), ("x", version), ("o", version)).await;
    }
    let checkpoint = |version: u64| dir.path().join(format!("_delta_log/{version:020}.checkpoint.parquet")).exists();
    assert_eq!((1..=4).map(checkpoint).collect::<Vec<_>>(), [false, true, false, false]);
    assert_eq!(head_commit(dir.path()).unwrap().unwrap().version, 4);
    assert_eq!(rows(dir.path()).await, ["x|1", "x|2", "x|3", "x|4"]);
    assert_eq!(transaction_version(dir.path(), "o").await.unwrap(), Some(4));
}

#[tokio::test]
async fn rows_that_do_not_fit_are_not_appended() {
    let dir = tempfile::tempdir().unwrap();
    append_row(dir.path(), ("a", 1), ("o", 1)).await;
    let cases = [
        vec![Field::new("s", DataType::Utf8, true)],
        vec![Field::new("s", DataType::Utf8, true), Field::new("n", DataType::Int32, true)],
        vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)],
        vec![
            Field::new("s", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new("x", DataType::Int64, true),
        ],
    ];
    for fields in cases {
        let other: SchemaRef = Arc::new(Schema::new(fields));
        let rows = vec![RecordBatch::new_empty(other.clone())];
        let result = append(dir.path(), other, rows, &metadata("r"), ("o", 2)).await;
        assert!(matches!(result, Err(CommitError::SchemaChanged { .. })), "{result:?}");
    }
    assert_eq!(rows(dir.path()).await, ["a|1"]);
    assert_eq!(data_files(dir.path()).len(), 1);
}

#[tokio::test]
async fn metadata_comes_back_as_it_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let nested = CommitMetadata::from([
        ("cache_operation".to_owned(), json!("write")),
        ("delta_inputs".to_owned(), json!([{"name": "orders", "version": 41, "tags": ["ü", "", null]}, []])),
        ("compute_ms".to_owned(), json!(12.5)),
        ("fencing_token".to_owned(), json!(u64::MAX)),
        ("empty".to_owned(), json!({})),
    ]);
    let staged = stage(dir.path(), vec![batch(&[(Some("a"), 1)])]).await;
    commit_create(dir.path(), schema(), staged, &plain(), &nested).await.unwrap();
    let staged = stage(dir.path(), vec![batch(&[(Some("a"), 1)])]).await;
    let outcome = commit_replace(dir.path(), Some(0), schema(), staged, &plain(), &nested, None).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Committed(_)));
    let outcome = append(dir.path(), schema(), vec![batch(&[(Some("a"), 1)])], &nested, ("o", 1)).await.unwrap();
    assert!(matches!(outcome, AppendOutcome::Committed(_)));
    for version in 0..3 {
        let info = commit_info(dir.path(), version).unwrap();
        for (key, value) in &nested {
            assert_eq!(info.get(key), Some(value), "{key} of version {version}");
        }
        assert!(info.contains_key("operation"), "the engine's own keys are there too");
    }
    assert_eq!(head_commit(dir.path()).unwrap().unwrap().version, 2);
}

#[tokio::test]
async fn keys_of_the_engine_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for key in ["operation", "timestamp", "userMetadata", "operationMetrics", "readVersion", "clientVersion"] {
        let reserved = CommitMetadata::from([(key.to_owned(), json!("x"))]);
        let staged = stage(dir.path(), vec![batch(&[(Some("a"), 1)])]).await;
        let result = commit_create(dir.path(), schema(), staged, &plain(), &reserved).await;
        assert!(matches!(&result, Err(CommitError::ReservedKey { key: named }) if named == key), "{result:?}");
        let result = append(dir.path(), schema(), vec![], &reserved, ("o", 1)).await;
        assert!(matches!(result, Err(CommitError::ReservedKey { .. })), "{result:?}");
    }
    assert_eq!(head_commit(dir.path()).unwrap(), None);
    assert_eq!(data_files(dir.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn files_are_committed_only_for_what_they_were_staged_for() {
    let dir = tempfile::tempdir().unwrap();
    let other_dir = tempfile::tempdir().unwrap();
    let other_policy = resolve(&DeltaWritePolicy { target_file_size_bytes: 1, ..DeltaWritePolicy::default() });
    let other_schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let cases = [
        (other_dir.path(), schema(), plain(), "table directory"),
        (dir.path(), other_schema, plain(), "schema"),
        (dir.path(), schema(), other_policy, "write policy"),
    ];
    for (table, schema, policy, expected) in cases {
        let staged = stage(dir.path(), vec![batch(&[(Some("a"), 1)])]).await;
        let result = commit_create(table, schema, staged, &policy, &metadata("r")).await;
        assert!(matches!(result, Err(CommitError::Staged { what }) if what == expected), "{result:?}");
    }
    assert_eq!(head_commit(dir.path()).unwrap(), None);
}

#[tokio::test]
async fn a_policy_of_another_schema_is_checked_again() {
    let dir = tempfile::tempdir().unwrap();
    let by_s = resolve(&DeltaWritePolicy { partition_by: vec!["s".to_owned()], ..DeltaWritePolicy::default() });
    let without_s: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("m", DataType::Int64, true)]));
    let result = write_files(dir.path(), without_s, vec![], &by_s).await;
    assert!(
        matches!(
            result,
            Err(crate::WriteError::Policy { source: PolicyError::UnknownColumn { field: "partition_by", .. } })
        ),
        "{result:?}"
    );
}

#[tokio::test]
async fn active_files_of_a_version_are_those_of_that_version() {
    let dir = tempfile::tempdir().unwrap();
    let first = replace(dir.path(), None, vec![batch(&[(Some("a"), 1)])]).await;
    let second = replace(dir.path(), Some(0), vec![batch(&[(Some("b"), 2), (Some("c"), 3)])]).await;
    for committed in [first, second] {
        let [file] = &active_files(dir.path(), committed.version).await.unwrap()[..] else { panic!() };
        assert_eq!((&file.path, file.row_count), (&committed.files[0].path, committed.files[0].row_count));
    }
    assert!(matches!(active_files(dir.path(), 2).await, Err(ReadError::NoSuchVersion { version: 2, .. })));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(active_files(empty.path(), 0).await, Err(ReadError::NotATable { .. })));
}
