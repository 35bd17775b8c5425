//! Table features: on when asked for, and only what this build can keep.

use alluvium_contracts::{DeltaFeature, WriteMode};
use arrow::array::TimestampMicrosecondArray;
use arrow::datatypes::TimeUnit;
use deltalake_core::kernel::transaction::PROTOCOL;
use serde_json::json;

use super::*;
use crate::CommitError;
use crate::policy::FEATURES;
use crate::table::TableDir;

/// The engine's own sets are private: each feature is put to it in a table that needs it.
#[tokio::test]
async fn our_list_of_features_is_the_engines() {
    for row in &FEATURES {
        let readers = if row.for_readers { json!([row.protocol_name]) } else { json!([]) };
        let dir = foreign(&[
            json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": readers, "writerFeatures": [row.protocol_name]}}),
            foreign_metadata(json!({}), json!({})),
        ]);
        let loaded = TableDir::open(dir.path()).unwrap().load(None).await;
        let engine_writes = match loaded {
            Ok(loaded) => PROTOCOL.can_write_to(&loaded.state).is_ok(),
            Err(_) => false,
        };
        // What we refuse for a reason of our own, the engine may well do.
        if row.refused.is_none() {
            assert!(engine_writes, "{} is offered, and the engine cannot write it", row.protocol_name);
        }
        if row.refused.is_some_and(|reason| reason.contains("engine")) {
            assert!(!engine_writes, "{} is refused, and the engine can write it", row.protocol_name);
        }
    }
}

#[tokio::test]
async fn every_feature_that_is_offered_makes_a_table_that_reads_and_writes() {
    for row in FEATURES.iter().filter(|row| row.refused.is_none()) {
        let dir = tempfile::tempdir().unwrap();
        let policy = DeltaWritePolicy {
            enable_features: vec![row.feature],
            mode: WriteMode::Append,
            ..DeltaWritePolicy::default()
        };
        for version in 0..2 {
            land(dir.path(), &policy, vec![batch(&[(Some("a"), version)])]).await;
        }
        assert_eq!(rows(dir.path()).await, ["a|0", "a|1"], "{}", row.protocol_name);
        let log = actions(dir.path(), 0);
        let names = log["protocol"][0]["writerFeatures"].as_array().cloned().unwrap_or_default();
        let implied = matches!(row.feature, DeltaFeature::AppendOnly | DeltaFeature::Invariants);
        assert!(implied != names.contains(&json!(row.protocol_name)), "{}: {log:?}", row.protocol_name);
        if let Some((key, value)) = row.property {
            assert_eq!(log["metaData"][0]["configuration"][key], value, "{}", row.protocol_name);
        }
        assert!(!actions(dir.path(), 1).contains_key("protocol"), "{}", row.protocol_name);
    }
}

#[tokio::test]
async fn a_feature_joins_a_table_without_taking_anything_from_it() {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &DeltaWritePolicy::default(), vec![batch(&[(Some("a"), 1)])]).await;
    let policy =
        DeltaWritePolicy { enable_features: vec![DeltaFeature::ChangeDataFeed], ..DeltaWritePolicy::default() };
    land(dir.path(), &policy, vec![batch(&[(Some("b"), 2)])]).await;
    let log = actions(dir.path(), 1);
    assert_eq!(log["protocol"][0]["writerFeatures"], json!(["appendOnly", "changeDataFeed", "invariants"]));
    assert_eq!(log["protocol"][0]["minReaderVersion"], 1);
    assert_eq!(log["metaData"][0]["configuration"]["delta.enableChangeDataFeed"], "true");
    assert_eq!(rows(dir.path()).await, ["b|2"]);
}

#[tokio::test]
async fn an_append_only_table_gives_no_row_up() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy {
        enable_features: vec![DeltaFeature::AppendOnly],
        mode: WriteMode::Append,
        ..DeltaWritePolicy::default()
    };
    land(dir.path(), &policy, vec![batch(&[(Some("a"), 1)])]).await;
    let deleting = DeltaWritePolicy {
        mode: WriteMode::Delete,
        replace_where: Some("n = 1".to_owned()),
        ..DeltaWritePolicy::default()
    };
    for policy in [DeltaWritePolicy::default(), deleting] {
        let result = write(dir.path(), &policy, vec![batch(&[(Some("b"), 2)])]).await;
        assert!(matches!(result, Err(CommitError::AppendOnly { .. })), "{result:?}");
    }
    assert_eq!(rows(dir.path()).await, ["a|1"]);
}

#[tokio::test]
async fn zoneless_timestamps_raise_the_protocol_only_when_asked_to() {
    let zoneless: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true)]));
    let batch = || {
        let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_000_000]));
        RecordBatch::try_new(zoneless.clone(), vec![column]).unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let refused = write(dir.path(), &DeltaWritePolicy::default(), vec![batch()]).await;
    assert!(matches!(refused, Err(CommitError::Policy { .. })), "{refused:?}");
    let policy = DeltaWritePolicy {
        enable_features: vec![DeltaFeature::TimestampNtz],
        mode: WriteMode::Append,
        ..DeltaWritePolicy::default()
    };
    land(dir.path(), &policy, vec![batch()]).await;
    assert_eq!(actions(dir.path(), 0)["protocol"][0]["readerFeatures"], json!(["timestampNtz"]));
    // A writer without a policy may go on.
    let _ = append(dir.path(), zoneless.clone(), vec![batch()], &metadata("r"), ("o", 1)).await.unwrap();
    assert_eq!(rows(dir.path()).await.len(), 2);
}
