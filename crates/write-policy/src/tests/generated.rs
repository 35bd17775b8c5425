//! Generated columns: rows hold their values, and every row is checked for them.

use std::collections::HashMap;

use alluvium_contracts::{DeltaFeature, WriteMode};

use super::*;
use crate::{CommitError, PolicyError, WriteError};

/// `s`, and `n`, which is the length of `s`.
fn generated() -> SchemaRef {
    let metadata = HashMap::from([("delta.generationExpression".to_owned(), "length(s)".to_owned())]);
    let n = Field::new("n", DataType::Int64, true).with_metadata(metadata);
    Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8, true), n]))
}

async fn put(table: &Path, policy: &DeltaWritePolicy, rows: &[(Option<&str>, i64)]) -> Result<(), CommitError> {
    let rows = batch(rows).with_schema(generated()).unwrap();
    let policy = ResolvedWritePolicy::resolve(policy, &generated())?;
    let write = TableWrite::new(table, generated(), vec![stream(vec![rows])], &policy).run().await?;
    assert!(matches!(write, TableWriteOutcome::Committed(_)), "{write:?}");
    Ok(())
}

fn is_refused(result: &Result<(), CommitError>) -> bool {
    matches!(result, Err(CommitError::Write { source: WriteError::Constraint { constraint, .. } }) if constraint == "generation of n")
}

#[tokio::test]
async fn values_that_are_not_what_they_are_generated_from_are_refused_on_every_path() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("table");
    let policy = DeltaWritePolicy {
        enable_features: vec![DeltaFeature::GeneratedColumns],
        mode: WriteMode::Append,
        ..DeltaWritePolicy::default()
    };
    let refused = put(&table, &policy, &[(Some("abc"), 4)]).await;
    assert!(is_refused(&refused) && !table.exists(), "{refused:?}");
    put(&table, &policy, &[(Some("abc"), 3)]).await.unwrap();
    let log = actions(&table, 0);
    assert_eq!(log["protocol"][0]["writerFeatures"], serde_json::json!(["generatedColumns"]));
    assert!(log["metaData"][0]["schemaString"].as_str().unwrap().contains("delta.generationExpression"));

    // Whatever a later writer knows of it.
    let silent = DeltaWritePolicy { enable_features: vec![], ..policy };
    for mode in [WriteMode::Append, WriteMode::Overwrite] {
        let refused = put(&table, &DeltaWritePolicy { mode, ..silent.clone() }, &[(Some("abcd"), 3)]).await;
        assert!(is_refused(&refused), "{mode}: {refused:?}");
    }
    let merge = DeltaWritePolicy { mode: WriteMode::Merge, keys: names(&["s"]), ..silent.clone() };
    assert!(is_refused(&put(&table, &merge, &[(Some("abc"), 5)]).await));
    let plain = vec![batch(&[(Some("abcd"), 3)])];
    let appended = append(&table, schema(), plain, &metadata("r"), ("o", 1)).await;
    assert!(matches!(appended, Err(CommitError::Write { source: WriteError::Constraint { .. } })), "{appended:?}");
    put(&table, &silent, &[(Some("abcd"), 4)]).await.unwrap();
    assert_eq!(rows(&table).await, ["abcd|4", "abc|3"]);
}

#[tokio::test]
async fn a_generated_column_needs_its_feature() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("table");
    let result = put(&table, &DeltaWritePolicy::default(), &[(Some("abc"), 3)]).await;
    let Err(CommitError::Policy { source: PolicyError::Contradiction { fix, .. } }) = &result else {
        panic!("{result:?}")
    };
    assert!(fix.contains("enable_features"), "{fix}");
    assert!(!table.join("_delta_log").exists() && data_files(&table).is_empty());
    land(&table, &DeltaWritePolicy::default(), vec![batch(&[(Some("abc"), 1)])]).await;
    let overwrite =
        DeltaWritePolicy { schema_mode: alluvium_contracts::SchemaMode::Overwrite, ..DeltaWritePolicy::default() };
    let result = put(&table, &overwrite, &[(Some("abc"), 3)]).await;
    assert!(matches!(&result, Err(CommitError::Policy { source: PolicyError::Contradiction { .. } })), "{result:?}");
    assert_eq!(rows(&table).await, ["abc|1"]);
}
