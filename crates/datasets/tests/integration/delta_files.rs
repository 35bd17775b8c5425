//! `PinnedFiles` over the active files of a Delta table, beside the engine's own scan.

use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::DatasetFormat;
use alluvium_datasets::{DeltaFilesError, PinnedFiles};
use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::displayable;
use deltalake_core::operations::write::SchemaMode;
use deltalake_core::protocol::SaveMode;
use deltalake_core::{DeltaTable, DeltaTableBuilder};
use url::Url;

use crate::support::{Project, dataset, query, sorted};

async fn open(path: &Path) -> DeltaTable {
    let url = Url::from_directory_path(path).unwrap();
    match DeltaTableBuilder::from_url(url.clone()).unwrap().load().await {
        Ok(table) => table,
        Err(_) => DeltaTableBuilder::from_url(url).unwrap().build().unwrap(),
    }
}

async fn write(path: &Path, columns: &[(&str, ArrayRef)], partitions: &[&str]) {
    std::fs::create_dir_all(path).unwrap();
    let columns = columns.iter().map(|(name, values)| (*name, Arc::clone(values), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let write = open(path).await.write([batch]).with_save_mode(SaveMode::Append).with_schema_mode(SchemaMode::Merge);
    write.with_partition_columns(partitions.iter().map(|name| (*name).to_owned())).await.unwrap();
}

/// Partitions that are encoded, NULL and empty of a column; and a column that came later.
async fn table(path: &Path) {
    let keys = |keys: std::ops::Range<i64>| Arc::new(Int64Array::from_iter_values(keys)) as ArrayRef;
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a b"), Some("50%/x=ü"), None, Some("a b")]));
    let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(19_000), None, Some(19_000), Some(19_001)]));
    write(path, &[("k", keys(0..4)), ("p", Arc::clone(&texts)), ("d", Arc::clone(&days))], &["p", "d"]).await;
    let reals: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.0), None, Some(1e300)]));
    let times = TimestampMicrosecondArray::from(vec![Some(1), None, Some(-1), Some(2)]).with_timezone("UTC");
    let later = [("k", keys(4..8)), ("p", texts), ("d", days), ("f", reals), ("t", Arc::new(times) as ArrayRef)];
    write(path, &later, &["p", "d"]).await;
}

#[tokio::test]
async fn it_answers_as_the_engines_own_scan_does() {
    let project = Project::new();
    let path = project.data().join("table");
    table(&path).await;
    let pinned: Arc<dyn TableProvider> = Arc::new(PinnedFiles::of_delta(&open(&path).await).unwrap());
    let own = project.pin_spec(&dataset(DatasetFormat::Delta, "table")).await.provider().unwrap();
    assert_eq!(pinned.schema().fields(), own.schema().fields());
    for sql in [
        "select * from t",
        "select count(*) from t",
        "select count(f), count(p), count(d) from t",
        "select min(k), max(k), min(d), max(d), min(p), max(p), min(f), max(f), min(t), max(t) from t",
        "select k from t where p is null",
        "select k from t where p = 'a b' and d = date '2022-01-08'",
        "select k, p from t where p like '50\\%%'",
        "select k from t where d is null or f > 1",
        "select k from t where f is null",
        "select k, t from t where t < timestamp '1970-01-01'",
        "select p, d, count(*), sum(k) from t group by p, d",
        "select k from t order by k desc limit 3",
        "select count(*) from (select * from t limit 5)",
    ] {
        let expected = sorted(&query(&project.ctx, Arc::clone(&own), sql).await.unwrap());
        let found = sorted(&query(&project.ctx, Arc::clone(&pinned), sql).await.unwrap());
        assert_eq!(found, expected, "{sql}");
    }
    // Row counts come from the log, and partitions leave out files.
    let before = project.store.reads();
    assert!(query(&project.ctx, Arc::clone(&pinned), "select count(*) as n from t").await.unwrap().contains("| 8 |"));
    assert_eq!(project.store.reads(), before);
    let frame = project.ctx.sql("select k from t where p is null").await.unwrap();
    let plan = displayable(frame.create_physical_plan().await.unwrap().as_ref()).indent(true).to_string();
    assert!(
        plan.contains("__HIVE_DEFAULT_PARTITION__") && !plan.contains("a%2520b") && !plan.contains("p=a"),
        "{plan}"
    );
}

#[tokio::test]
async fn absolute_paths_of_the_log_are_followed() {
    let project = Project::new();
    let path = project.data().join("table");
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    write(&path, &[("k", keys)], &[]).await;
    let log = path.join("_delta_log/00000000000000000000.json");
    let text = std::fs::read_to_string(&log).unwrap();
    let name = text.split("\"path\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let aside = project.data().join("aside %25");
    std::fs::create_dir(&aside).unwrap();
    std::fs::rename(path.join(&name), aside.join(&name)).unwrap();
    let url = Url::from_file_path(aside.join(&name)).unwrap();
    std::fs::write(&log, text.replace(&format!("\"path\":\"{name}\""), &format!("\"path\":\"{url}\""))).unwrap();
    let pinned: Arc<dyn TableProvider> = Arc::new(PinnedFiles::of_delta(&open(&path).await).unwrap());
    assert!(query(&project.ctx, pinned, "select sum(k) as s from t").await.unwrap().contains("| 3 |"));

    let remote = text.replace(&format!("\"path\":\"{name}\""), &format!("\"path\":\"s3://bucket/{name}\""));
    std::fs::write(&log, remote).unwrap();
    let error = PinnedFiles::of_delta(&open(&path).await).unwrap_err();
    assert!(matches!(&error, DeltaFilesError::Remote { url } if url.starts_with("s3://bucket")), "{error}");
}

#[tokio::test]
async fn deletion_vectors_and_column_mapping_are_refused_by_name() {
    let project = Project::new();
    let refused = async |name: &str, edit: &dyn Fn(String) -> String| {
        let path = project.data().join(name);
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        write(&path, &[("k", keys)], &[]).await;
        let log = path.join("_delta_log/00000000000000000000.json");
        std::fs::write(&log, edit(std::fs::read_to_string(&log).unwrap())).unwrap();
        PinnedFiles::of_delta(&open(&path).await).unwrap_err().to_string()
    };
    let features = |text: String, feature: &str| {
        let protocol = text.lines().find(|line| line.contains("\"protocol\"")).unwrap().to_owned();
        let new = format!(
            "{{\"protocol\":{{\"minReaderVersion\":3,\"minWriterVersion\":7,\"readerFeatures\":[\"{feature}\"],\"writerFeatures\":[\"{feature}\"]}}}}"
        );
        text.replace(&protocol, &new)
    };
    let vector = r#""deletionVector":{"storageType":"u","pathOrInlineDv":"vBn[lx{q8@P<9BNH/isA","offset":1,"sizeInBytes":36,"cardinality":2},"#;
    let error =
        refused("dv", &|text| features(text, "deletionVectors").replace("\"add\":{", &format!("\"add\":{{{vector}")))
            .await;
    assert!(error.contains("it uses deletion vectors (on part-"), "{error}");
    let error = refused("mapped", &|text| {
        features(text, "columnMapping").replace("\"configuration\":{", "\"configuration\":{\"delta.columnMapping.mode\":\"name\"")
            .replace(
                "\\\"metadata\\\":{}",
                "\\\"metadata\\\":{\\\"delta.columnMapping.id\\\":1,\\\"delta.columnMapping.physicalName\\\":\\\"k\\\"}",
            )
    })
    .await;
    assert!(error.contains("it uses column mapping;"), "{error}");
}
