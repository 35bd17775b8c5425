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

/// Rows of the query, or the failure of a scan that opened a file which is gone.
async fn try_query(project: &Project, provider: &Arc<dyn TableProvider>, sql: &str) -> Result<String, String> {
    query(&project.ctx, Arc::clone(provider), sql).await.map(|rows| sorted(&rows)).map_err(|error| error.to_string())
}

#[tokio::test]
async fn files_are_left_out_by_bounds_that_can_be_believed_and_by_no_others() {
    let project = Project::new();
    let path = project.data().join("table");
    let file = |from: i64| -> Vec<(&str, ArrayRef)> {
        let numbers = from..from + 3;
        let texts = StringArray::from_iter_values(numbers.clone().map(|n| format!("t{n:03}")));
        let reals = Float64Array::from_iter_values(numbers.clone().map(|n| n as f64));
        let nulls = Int64Array::from_iter(numbers.clone().map(|n| (n % 3 != 0).then_some(n)));
        let days = Date32Array::from_iter_values(numbers.clone().map(|n| i32::try_from(n).unwrap()));
        let times = TimestampMicrosecondArray::from_iter_values(numbers.clone()).with_timezone("UTC");
        vec![
            ("k", Arc::new(Int64Array::from_iter_values(numbers))),
            ("s", Arc::new(texts)),
            ("f", Arc::new(reals)),
            ("n", Arc::new(nulls)),
            ("d", Arc::new(days)),
            ("t", Arc::new(times)),
        ]
    };
    write(&path, &file(0), &[]).await;
    write(&path, &file(30), &[]).await;
    let table = open(&path).await;
    let pinned: Arc<dyn TableProvider> = Arc::new(PinnedFiles::of_delta(&table).unwrap());
    // Whoever opens the first file fails.
    let gone = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let first = std::fs::read_to_string(path.join("_delta_log/00000000000000000000.json")).unwrap();
    let gone = gone.filter(|path| first.contains(path.file_name().unwrap().to_str().unwrap())).collect::<Vec<_>>();
    assert_eq!(gone.len(), 1);
    std::fs::remove_file(&gone[0]).unwrap();
    for filter in
        ["k > 20", "k = 31", "k between 30 and 32", "d >= date '1970-01-31'", "k > 20 and f > 0", "k is null or k > 9"]
    {
        let sql = format!("select count(k) as n from t where {filter}");
        assert!(try_query(&project, &pinned, &sql).await.is_ok(), "{filter} leaves out the file");
    }
    for filter in
        ["f > 20", "s > 't020'", "t > timestamp '1970-01-01T00:00:00.000020'", "n > 20", "k > 1", "k % 31 = 0"]
    {
        let sql = format!("select count(k) as n from t where {filter}");
        assert!(try_query(&project, &pinned, &sql).await.is_err(), "{filter} does not");
    }
}

#[tokio::test]
async fn minima_and_maxima_are_those_of_the_rows_whatever_the_log_says() {
    use arrow::array::{BinaryArray, BooleanArray, Decimal128Array, Int8Array};
    let project = Project::new();
    let path = project.data().join("table");
    let long = format!("{}z", "x".repeat(100));
    let reals: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN, -0.0]));
    let times = TimestampMicrosecondArray::from(vec![1_001, 999_999, -1_001]).with_timezone("UTC");
    let cents =
        Decimal128Array::from(vec![90_071_992_547_409_931, 1, -90_071_992_547_409_931]).with_precision_and_scale(20, 2);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(Int64Array::from(vec![i64::MAX, 0, i64::MIN]))),
        ("i", Arc::new(Int8Array::from(vec![1, -128, 127]))),
        ("s", Arc::new(StringArray::from(vec![long.as_str(), "x", "y"]))),
        ("y", Arc::new(BinaryArray::from_vec(vec![b"x", b"\xff", b""]))),
        ("f", reals),
        ("t", Arc::new(times)),
        ("c", Arc::new(cents.unwrap())),
        ("b", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("d", Arc::new(Date32Array::from(vec![Some(-719_162), None, Some(2_932_896)]))),
    ];
    write(&path, &columns, &[]).await;
    let table = open(&path).await;
    let pinned: Arc<dyn TableProvider> = Arc::new(PinnedFiles::of_delta(&table).unwrap());
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, v)| (*n, Arc::clone(v), true))).unwrap();
    let rows: Arc<dyn TableProvider> =
        Arc::new(datafusion::catalog::MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap());
    for (column, _) in &columns {
        let sql = format!("select min({column}) as a, max({column}) as z, count({column}) as n from t");
        let expected = try_query(&project, &rows, &sql).await.unwrap();
        assert_eq!(try_query(&project, &pinned, &sql).await.unwrap(), expected, "{column}");
    }
    // The naive way would have answered from here.
    let log = std::fs::read_to_string(path.join("_delta_log/00000000000000000000.json")).unwrap();
    let nan = try_query(&project, &pinned, "select max(f) as z from t").await.unwrap();
    assert!(nan.contains("NaN") && !log.contains("NaN"), "the log leaves NaN out: {log}");
}

#[tokio::test]
async fn a_recorded_order_is_used_only_while_all_files_are_of_its_write() {
    use alluvium_contracts::DeltaWritePolicy;
    use alluvium_write_policy::{ResolvedWritePolicy, TableWrite, TableWriteOutcome};
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

    let project = Project::with(datafusion::prelude::SessionConfig::new().with_target_partitions(2));
    let ask = async |table: &DeltaTable, sql: &str| {
        let pinned: Arc<dyn TableProvider> = Arc::new(PinnedFiles::of_delta(table).unwrap());
        let rows = query(&project.ctx, pinned, sql).await.unwrap();
        let frame = project.ctx.sql(sql).await.unwrap();
        (rows, displayable(frame.create_physical_plan().await.unwrap().as_ref()).indent(true).to_string())
    };
    const ALL: &str = "select k from t order by k nulls first";
    /// Every row is behind the one before it, and NULLs are in front.
    fn check(rows: &str, count: usize) {
        let values =
            rows.lines().filter(|line| line.starts_with('|')).skip(1).map(|line| line.trim_matches(['|', ' ']));
        let values: Vec<Option<i64>> = values.map(|text| text.parse().ok()).collect();
        assert_eq!(values.len(), count);
        assert!(values.is_sorted());
    }
    for nulls in [false, true] {
        let path = project.data().join(format!("sorted, nulls {nulls}"));
        std::fs::create_dir(&path).unwrap();
        let policy = DeltaWritePolicy {
            zorder_by: vec!["k".to_owned()],
            target_file_size_bytes: 16 * 1024,
            ..DeltaWritePolicy::default()
        };
        // Every number once, in an order that is none.
        let shuffled = |n: i64| (n * 7_919 + 13) % 20_000;
        let keys = Int64Array::from_iter((0..20_000).map(|n| (!nulls || n % 50 != 0).then(|| shuffled(n))));
        let batch = RecordBatch::try_from_iter_with_nullable([("k", Arc::new(keys) as ArrayRef, true)]).unwrap();
        let schema = batch.schema();
        let resolved = ResolvedWritePolicy::resolve(&policy, &schema).unwrap();
        let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), futures::stream::iter([Ok(batch)])));
        let written = TableWrite::new(&path, schema, vec![rows], &resolved).run().await.unwrap();
        assert!(matches!(written, TableWriteOutcome::Committed(_)));

        let table = open(&path).await;
        let files = PinnedFiles::of_delta(&table).unwrap();
        assert!(format!("{files:?}").matches("ScanFile").count() > 4, "several files a thread, or this shows little");
        let (rows, plan) = ask(&table, ALL).await;
        check(&rows, 20_000);
        // Bounds would pass over NULLs, so files that have some show no order among themselves.
        assert_eq!(plan.contains("output_ordering=[k@0 ASC"), !nulls, "{plan}");
        assert_eq!(plan.contains("SortExec"), nulls, "{plan}");

        // Another writer adds a file: from then on nobody vouches for an order.
        let late: ArrayRef = Arc::new(Int64Array::from(vec![9, 3, 5]));
        write(&path, &[("k", late)], &[]).await;
        let (rows, plan) = ask(&open(&path).await, ALL).await;
        check(&rows, 20_003);
        assert!(!plan.contains("output_ordering") && plan.contains("SortExec"), "{plan}");
    }
}
