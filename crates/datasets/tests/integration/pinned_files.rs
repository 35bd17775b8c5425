//! `PinnedFiles` beside the engine's `ListingTable` over the same files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use alluvium_contracts::SourceFormat;
use alluvium_datasets::{FileStamp, PinnedFile, PinnedFiles, PinnedFilesError};
use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::physical_plan::displayable;
use datafusion::prelude::SessionConfig;

use crate::support::{Project, parquet, query, sorted, source};

fn file(path: PathBuf, row_count: Option<u64>, values: &[(&str, Option<&str>)]) -> PinnedFile {
    let path = path.canonicalize().unwrap();
    let stamp = FileStamp::of(&path).unwrap();
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
    PinnedFile {
        path,
        size_bytes: stamp.size_bytes,
        modified_unix_ns: stamp.modified_ns,
        row_count,
        partition_values: values.collect(),
    }
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    let fields = fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Rows `k`, `v` = 10 × `k`, `s` = text of `k`; `v` and `s` may be left out.
fn rows(keys: std::ops::Range<i64>, all: bool) -> Vec<u8> {
    let keys: Vec<_> = keys.collect();
    let k = Arc::new(Int64Array::from(keys.clone()));
    if !all {
        return parquet(&[("k", k)]);
    }
    let v = Arc::new(Int64Array::from_iter_values(keys.iter().map(|key| key * 10)));
    let s = Arc::new(StringArray::from_iter_values(keys.iter().map(ToString::to_string)));
    parquet(&[("k", k), ("v", v), ("s", s)])
}

#[tokio::test]
async fn it_answers_as_a_listing_table_does() {
    let project = Project::new();
    let mut files = Vec::new();
    for (index, part) in ["plain", "with space", "50%25", "a#b", "ünïcode"].iter().enumerate() {
        let first = index as i64 * 100;
        // The third file has only `k`.
        let path = project.write(&format!("p={part}/f.parquet"), rows(first..first + 100, index != 2));
        files.push(file(path, Some(100), &[("p", Some(part))]));
    }
    let full =
        schema(&[("k", DataType::Int64), ("v", DataType::Int64), ("s", DataType::Utf8View), ("p", DataType::Utf8)]);
    let pinned = PinnedFiles::try_new(Arc::clone(&full), vec!["p".to_owned()], files.clone()).unwrap();
    let unknown: Vec<_> = files.into_iter().map(|file| PinnedFile { row_count: None, ..file }).collect();
    let unknown = PinnedFiles::try_new(Arc::clone(&full), vec!["p".to_owned()], unknown).unwrap();

    let options = ListingOptions::new(Arc::new(ParquetFormat::default()))
        .with_table_partition_cols(vec![("p".to_owned(), DataType::Utf8)]);
    let url = ListingTableUrl::parse(format!("{}/", project.data().display())).unwrap();
    let file_schema = Arc::new(full.project(&[0, 1, 2]).unwrap());
    let config = ListingTableConfig::new(url).with_listing_options(options).with_schema(file_schema);
    let listing: Arc<dyn TableProvider> = Arc::new(ListingTable::try_new(config).unwrap());
    let providers: [Arc<dyn TableProvider>; 2] = [Arc::new(pinned), Arc::new(unknown)];

    for sql in [
        "select * from t",
        "select count(*) from t",
        "select count(v), count(s), min(k), max(v), sum(k) from t",
        "select p, count(*), count(v), max(k) from t group by p",
        "select s, p, k from t where k between 95 and 305",
        "select k from t where v is null and k > 250",
        "select k, p from t where p = 'with space' and k % 7 = 0",
        "select k, p from t where p in ('50%25', 'a#b') and v = 3500",
        "select count(*) from t where p = 'nowhere'",
        "select k from t where p = 'plain' or k = 401",
        "select count(*) from t where s like '1%' and p <> 'plain'",
        "select k from t where p = (select max(p) from t) and k < 410",
        "select p || '!' as q from t where k = 400",
        "select count(*) from (select * from t limit 42)",
        "select count(*) from (select p from t limit 450)",
        "select count(*) from (select * from t where k >= 100 limit 42)",
        "select k from t order by k desc limit 3",
        "select count(*) from t as a join t as b on a.k = b.v",
    ] {
        let expected = sorted(&query(&project.ctx, Arc::clone(&listing), sql).await.unwrap());
        for provider in &providers {
            let found = sorted(&query(&project.ctx, Arc::clone(provider), sql).await.unwrap());
            // A listing table percent-decodes names of directories, and we read the values that we are given.
            assert_eq!(found, expected.replace("50%  ", "50%25"), "{sql}");
        }
    }
}

#[tokio::test]
async fn partition_values_are_typed_null_and_anywhere() {
    let project = Project::new();
    let names = ["d", "t", "i", "s"];
    let values = [
        [Some("2024-02-29"), Some("2024-02-29 12:00:00.5"), Some("-7"), Some("it's \"100%\" a/b=c")],
        [None, None, None, None],
        [Some("1970-01-01"), Some("1970-01-01T00:00:00Z"), Some("0"), Some("")],
    ];
    let mut files = Vec::new();
    for (index, values) in values.iter().enumerate() {
        let first = index as i64 * 2;
        let path = project.write(&index.to_string(), rows(first..first + 2, true));
        let values: Vec<_> = names.into_iter().zip(*values).collect();
        files.push(file(path, Some(2), &values));
    }
    let schema = schema(&[
        ("s", DataType::Utf8),
        ("k", DataType::Int64),
        ("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("d", DataType::Date32),
        ("v", DataType::Int64),
        ("i", DataType::Int32),
    ]);
    let pinned = PinnedFiles::try_new(schema, names.map(str::to_owned).to_vec(), files).unwrap();
    let pinned: Arc<dyn TableProvider> = Arc::new(pinned);
    let found = query(&project.ctx, Arc::clone(&pinned), "select * from t order by k").await.unwrap();
    let expected = [
        "| s                 | k | t                        | d          | v  | i  |",
        "| it's \"100%\" a/b=c | 0 | 2024-02-29T12:00:00.500Z | 2024-02-29 | 0  | -7 |",
        "| it's \"100%\" a/b=c | 1 | 2024-02-29T12:00:00.500Z | 2024-02-29 | 10 | -7 |",
        "|                   | 2 |                          |            | 20 |    |",
        "|                   | 3 |                          |            | 30 |    |",
        "|                   | 4 | 1970-01-01T00:00:00Z     | 1970-01-01 | 40 | 0  |",
        "|                   | 5 | 1970-01-01T00:00:00Z     | 1970-01-01 | 50 | 0  |",
    ];
    assert_eq!(found.lines().filter(|line| line.starts_with('|')).collect::<Vec<_>>(), expected);
    for (sql, expected) in [
        // NULL is counted as such: by scanning and from what the scan claims.
        ("select count(*) as n, count(s) as s, count(d) as d, count(i) as i from t", "| 6 | 4 | 4 | 4 |"),
        ("select count(*) as n from t where i is null", "| 2 |"),
        ("select count(*) as n from t where i is not null", "| 4 |"),
        ("select count(*) as n from t where i = -7 or d > '2000-01-01'", "| 2 |"),
        ("select count(*) as n from t where s = ''", "| 2 |"),
        ("select count(*) as n from t where i + k = 4 and t < '2000-01-01'", "| 1 |"),
        ("select min(i) as a, max(i) as b, min(d) as c from t", "| -7 | 0 | 1970-01-01 |"),
        ("select sum(v) as v from t where coalesce(i, 1) = 1", "| 50 |"),
        ("select i, s from t where k = 1", "| -7 | it's \"100%\" a/b=c |"),
    ] {
        let found = query(&project.ctx, Arc::clone(&pinned), sql).await.unwrap();
        assert_eq!(found.lines().nth(3), Some(expected), "{sql}");
    }
}

#[tokio::test]
async fn partition_filters_leave_out_files_and_other_filters_row_groups() {
    let project = Project::new();
    let mut files = Vec::new();
    for index in 0..4_i64 {
        let path = project.write(&index.to_string(), rows(index * 10..index * 10 + 10, true));
        files.push(file(path, Some(10), &[("p", Some(&index.to_string()))]));
    }
    let schema = schema(&[("p", DataType::Int32), ("k", DataType::Int64)]);
    let pinned: Arc<dyn TableProvider> = Arc::new(PinnedFiles::try_new(schema, vec!["p".to_owned()], files).unwrap());
    let plan = async |sql: &str| {
        project.ctx.deregister_table("t").unwrap();
        project.ctx.register_table("t", Arc::clone(&pinned)).unwrap();
        let plan = project.ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        displayable(plan.as_ref()).indent(true).to_string()
    };
    let files_in = |plan: &str| (0..4).filter(|index| plan.contains(&format!("/data/{index}"))).collect::<Vec<_>>();
    assert_eq!(files_in(&plan("select k from t where p between 1 and 2").await), [1, 2]);
    assert_eq!(files_in(&plan("select k from t where p = 1 and k > 5").await), [1]);
    assert_eq!(files_in(&plan("select k from t where p = 1 or k > 5").await), [0, 1, 2, 3]);
    // `random()` decides nothing here.
    assert_eq!(files_in(&plan("select k from t where p * random() > 5").await), [0, 1, 2, 3]);
    let filtered = plan("select k from t where k = 5").await;
    assert!(filtered.contains("pruning_predicate="), "{filtered}");
    // Answered from the row counts.
    let before = project.store.reads();
    assert!(query(&project.ctx, Arc::clone(&pinned), "select count(*) as n from t").await.unwrap().contains("| 40 |"));
    assert_eq!(project.store.reads(), before);
}

#[tokio::test]
async fn a_large_file_is_split_and_many_files_are_spread() {
    let mut config = SessionConfig::new().with_target_partitions(4);
    config.options_mut().optimizer.repartition_file_min_size = 1;
    let project = Project::with(config);
    project.write("one.parquet", rows(0..10_000, true));
    for index in 0..8 {
        project.write(&format!("many/{index}"), rows(index..index + 1, true));
    }
    for path in ["one.parquet", "many"] {
        let pinned = project.pin(&source(SourceFormat::Parquet, path)).await;
        project.ctx.deregister_table("t").unwrap();
        project.ctx.register_table("t", pinned.provider().unwrap()).unwrap();
        let frame = project.ctx.sql("select k from t where v >= 0").await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        assert_eq!(plan.properties().partitioning.partition_count(), 4, "{}", displayable(plan.as_ref()).indent(true));
    }
    let pinned = project.pin(&source(SourceFormat::Parquet, "one.parquet")).await;
    let found = project.query(&pinned, "select count(*) as n, sum(v) as s from t").await;
    assert!(found.contains("| 10000 | 499950000 |"), "{found}");
}

#[tokio::test]
async fn no_files_are_no_rows() {
    let project = Project::new();
    let schema = schema(&[("p", DataType::Int32), ("k", DataType::Int64)]);
    for partitions in [vec![], vec!["p".to_owned()]] {
        let empty: Arc<dyn TableProvider> =
            Arc::new(PinnedFiles::try_new(Arc::clone(&schema), partitions, vec![]).unwrap());
        for (sql, expected) in [
            ("select * from t", "| p | k |"),
            ("select k from t where p = 1 and k = 2", "| k |"),
            ("select count(*) as n from t", "| n |\n| 0 |"),
        ] {
            assert_eq!(sorted(&query(&project.ctx, Arc::clone(&empty), sql).await.unwrap()), expected);
        }
    }
}

#[tokio::test]
async fn partition_values_that_do_not_fit_are_refused() {
    let project = Project::new();
    let path = project.write("a", rows(0..1, true));
    let fields = vec![Field::new("p", DataType::Int32, false), Field::new("k", DataType::Int64, true)];
    let schema = Arc::new(Schema::new(fields));
    let refused = |columns: &[&str], values: &[(&str, Option<&str>)]| {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        PinnedFiles::try_new(Arc::clone(&schema), columns, vec![file(path.clone(), None, values)]).unwrap_err()
    };
    assert!(matches!(refused(&["q"], &[]), PinnedFilesError::Column { .. }));
    assert!(matches!(refused(&["p", "p"], &[]), PinnedFilesError::Column { .. }));
    assert!(matches!(refused(&["p"], &[]), PinnedFilesError::Columns { .. }));
    assert!(matches!(refused(&["p"], &[("p", Some("1")), ("q", None)]), PinnedFilesError::Columns { .. }));
    for bad in [Some("x"), Some(""), Some("99999999999"), None] {
        let error = refused(&["p"], &[("p", bad)]);
        assert!(matches!(&error, PinnedFilesError::Value { column, .. } if column == "p"), "{error}");
    }
    let relative = PinnedFile {
        path: PathBuf::from("relative"),
        size_bytes: 1,
        modified_unix_ns: 0,
        row_count: None,
        partition_values: BTreeMap::new(),
    };
    let error = PinnedFiles::try_new(Arc::clone(&schema), vec![], vec![relative]).unwrap_err();
    assert!(matches!(error, PinnedFilesError::Path { .. }), "{error}");
}
