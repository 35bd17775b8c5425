//! Failures: nothing is left behind, nothing is half done, and the error says what.

use arrow::error::ArrowError;
use serde_json::json;

use super::*;
use crate::{CommitError, ReadError, WriteError, active_files, append, commit_create};

/// A policy under which files are closed, and on disk, long before the stream ends.
fn small() -> ResolvedWritePolicy {
    resolve(&DeltaWritePolicy { target_file_size_bytes: 16 * 1024, ..DeltaWritePolicy::default() })
}

fn failing(after: Vec<RecordBatch>) -> SendableRecordBatchStream {
    let error = DataFusionError::Execution("the disk of the source broke".to_owned());
    results(schema(), after.into_iter().map(Ok).chain([Err(error)]).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_fails_half_way_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("new");
    let streams = vec![
        stream(vec![numbered(0, 4_000)]),
        failing(vec![numbered(0, 4_000), numbered(0, 4_000)]),
        // Never ends by itself: the failure of its neighbour has to end it.
        Box::pin(RecordBatchStreamAdapter::new(
            schema(),
            futures::stream::iter([Ok(numbered(0, 4_000))]).chain(futures::stream::pending()),
        )),
    ];
    let policy = small();
    let write = write_files(&table, schema(), streams, &policy);
    let wait = std::time::Duration::from_secs(60);
    let error = tokio::time::timeout(wait, write).await.expect("one failure ends every stream").unwrap_err();
    let WriteError::Stream { source } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("the disk of the source broke"), "{source}");
    assert!(!table.exists(), "a directory made for the write goes with it");

    // A table that was there stays as it was.
    replace(&table, None, vec![batch(&[(Some("a"), 1)])]).await;
    let before = data_files(&table);
    write_files(&table, schema(), vec![failing(vec![numbered(0, 4_000)])], &small()).await.unwrap_err();
    assert_eq!(data_files(&table), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_panics_is_an_error_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let rows = futures::stream::iter(0..2).map(|n| if n == 0 { Ok(numbered(0, 4_000)) } else { panic!("a bug") });
    let streams: Vec<SendableRecordBatchStream> = vec![Box::pin(RecordBatchStreamAdapter::new(schema(), rows))];
    let error = write_files(dir.path(), schema(), streams, &plain()).await.unwrap_err();
    assert!(matches!(error, WriteError::Panicked { .. }), "{error:?}");
    assert_eq!(data_files(dir.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_write_that_is_given_up_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let rows = futures::stream::iter([Ok(numbered(0, 4_000))]).chain(futures::stream::pending());
    let endless: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(schema(), rows));
    let policy = small();
    let write = write_files(dir.path(), schema(), vec![endless], &policy);
    let wait = std::time::Duration::from_millis(500);
    assert!(tokio::time::timeout(wait, write).await.is_err(), "the stream never ends");
    assert_eq!(data_files(dir.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn staged_files_that_are_dropped_are_removed_with_their_directories() {
    let dir = tempfile::tempdir().unwrap();
    let policy = resolve(&DeltaWritePolicy { partition_by: vec!["s".to_owned()], ..DeltaWritePolicy::default() });
    let input = stream(vec![batch(&[(Some("a"), 1), (Some("b"), 2)])]);
    let staged = write_files(dir.path(), schema(), vec![input], &policy).await.unwrap();
    assert_eq!(data_files(dir.path()).len(), 2);
    drop(staged);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn batches_that_break_the_schema_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let not_null: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8, false), Field::new("n", DataType::Int64, true)]));
    let policy = ResolvedWritePolicy::resolve(&DeltaWritePolicy::default(), &not_null).unwrap();
    let nulls = stream(vec![batch(&[(Some("a"), 1)]), batch(&[(None, 2)])]);
    let error = write_files(dir.path(), not_null.clone(), vec![nulls], &policy).await.unwrap_err();
    let WriteError::Batch { source: ArrowError::InvalidArgumentError(text) } = &error else { panic!("{error:?}") };
    assert!(text.contains("'s'"), "{text}");
    // Nullability alone is no difference when there is no NULL.
    let fine = stream(vec![batch(&[(Some("a"), 1)])]);
    assert_eq!(write_files(dir.path(), not_null, vec![fine], &policy).await.unwrap().row_count(), 1);

    let other: SchemaRef = Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8, true)]));
    let error = write_files(
        dir.path(),
        schema(),
        vec![results(other.clone(), vec![Ok(RecordBatch::new_empty(other))])],
        &plain(),
    )
    .await
    .unwrap_err();
    assert!(
        matches!(&error, WriteError::Schema { index: 1, expected, found } if expected == "n Int64" && found.is_empty()),
        "{error:?}"
    );
    assert_eq!(data_files(dir.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn tables_that_we_cannot_write_are_refused_before_anything_is_written() {
    let v2 = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
    let v7 = |reader: Value, writer: Value| json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer}});
    let none = || foreign_metadata(json!({}), json!({}));
    let mut mapped = foreign_metadata(
        json!({"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"}),
        json!({}),
    );
    let mapping =
        |id: i64| json!({"delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("col-{id}")});
    mapped["metaData"]["schemaString"] = Value::from(
        json!({"type": "struct", "fields": [
            {"name": "s", "type": "string", "nullable": true, "metadata": mapping(1)},
            {"name": "n", "type": "long", "nullable": true, "metadata": mapping(2)},
        ]})
        .to_string(),
    );
    let cases = [
        ("delta.columnMapping.mode", json!({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}), mapped),
        ("rowTracking", v7(json!([]), json!(["rowTracking", "domainMetadata"])), none()),
        ("identityColumns", v7(json!([]), json!(["identityColumns"])), none()),
        ("flyingCarpets", v7(json!(["flyingCarpets"]), json!(["flyingCarpets"])), none()),
        (
            "generation of n",
            v2.clone(),
            foreign_metadata(json!({}), json!({"delta.generationExpression": "no_function_of_ours(s)"})),
        ),
        ("invariant of n", v2, foreign_metadata(json!({}), json!({"delta.invariants": "{}"}))),
    ];
    for (feature, protocol, table) in cases {
        let dir = foreign(&[protocol, table]);
        let result = write_files(dir.path(), schema(), vec![stream(vec![batch(&[(Some("a"), 1)])])], &plain()).await;
        let chain = format!("{:?}", result.as_ref().err());
        assert!(result.is_err() && chain.contains(feature), "{feature}: {chain}");
        let result = append(dir.path(), schema(), vec![batch(&[(Some("a"), 1)])], &metadata("r"), ("o", 1)).await;
        let chain = format!("{:?}", result.as_ref().err());
        assert!(result.is_err() && chain.contains(feature), "{feature}: {chain}");
        assert_eq!(data_files(dir.path()), Vec::<PathBuf>::new(), "{feature}");
        assert_eq!(fs::read_dir(dir.path().join("_delta_log")).unwrap().count(), 1, "{feature}");
    }
}

#[tokio::test]
async fn an_append_only_table_cannot_be_replaced() {
    let dir = foreign(&[
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        foreign_metadata(json!({"delta.appendOnly": "true"}), json!({})),
    ]);
    append_row(dir.path(), ("a", 1), ("o", 1)).await;
    let staged = stage(dir.path(), vec![batch(&[(Some("b"), 2)])]).await;
    let result = commit_replace(dir.path(), Some(1), schema(), staged, &plain(), &metadata("r"), None).await;
    assert!(matches!(result, Err(CommitError::AppendOnly { .. })), "{result:?}");
    assert_eq!(data_files(dir.path()).len(), 1);
    assert_eq!(rows(dir.path()).await, ["a|1"]);
}

#[tokio::test]
async fn files_of_another_engine_are_counted_or_refused() {
    let donor = tempfile::tempdir().unwrap();
    let committed = replace(donor.path(), None, vec![batch(&[(Some("a"), 1), (Some("b"), 2)])]).await;
    let add = actions(donor.path(), 0)["add"][0].clone();
    let protocol = json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}});
    let table = |add: &Value| {
        let dir = foreign(&[protocol.clone(), foreign_metadata(json!({}), json!({})), json!({"add": add})]);
        fs::copy(donor.path().join(&committed.files[0].path), dir.path().join(&committed.files[0].path)).unwrap();
        dir
    };
    let mut bare = add.clone();
    bare["stats"] = Value::Null;
    let dir = table(&bare);
    let [file] = &active_files(dir.path(), 0).await.unwrap()[..] else { panic!() };
    assert_eq!(file.row_count, 2, "counted from the footer");

    let mut deleted = add.clone();
    deleted["deletionVector"] = json!({"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4, "sizeInBytes": 40, "cardinality": 1});
    let result = active_files(table(&deleted).path(), 0).await;
    assert!(matches!(result, Err(ReadError::NotPlainFiles { feature: "deletion vectors", .. })), "{result:?}");

    let mut elsewhere = add;
    elsewhere["path"] = json!("file:///somewhere/else.parquet");
    let result = active_files(table(&elsewhere).path(), 0).await;
    assert!(matches!(result, Err(ReadError::NotPlainFiles { .. } | ReadError::Log { .. })), "{result:?}");
}

#[tokio::test]
async fn a_damaged_log_is_neither_absence_nor_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    replace(dir.path(), None, vec![batch(&[(Some("a"), 1)])]).await;
    let commit = dir.path().join("_delta_log/00000000000000000000.json");
    fs::write(&commit, "{\"metaData\":").unwrap();
    assert!(matches!(crate::head_commit(dir.path()), Err(ReadError::DamagedCommit { line: 1, .. })));
    let before = data_files(dir.path());
    let result = write_files(dir.path(), schema(), vec![stream(vec![batch(&[(Some("b"), 2)])])], &plain()).await;
    assert!(matches!(result, Err(WriteError::Table { .. })), "{result:?}");
    assert!(crate::transaction_version(dir.path(), "o").await.is_err());
    assert_eq!(data_files(dir.path()), before);
    assert_eq!(fs::read_to_string(&commit).unwrap(), "{\"metaData\":");
}

#[tokio::test]
async fn a_table_directory_that_is_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let result = write_files(&file, schema(), vec![], &plain()).await;
    assert!(matches!(result, Err(WriteError::Directory { .. })), "{result:?}");
    let staged = stage(&dir.path().join("table"), vec![]).await;
    let result = commit_create(&file, schema(), staged, &plain(), &metadata("r")).await;
    assert!(matches!(result, Err(CommitError::Table { .. })), "{result:?}");
}
