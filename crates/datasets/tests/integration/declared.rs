//! Declared schemas, partitions and orders, of every format; and their registration.

use std::sync::Arc;

use alluvium_contracts::DatasetFormat::{Arrow, Avro, Csv, Delta, Json, Parquet};
use alluvium_contracts::{DatasetSpec, DeltaScanOptions, OrderingSpec, ProfileSpec};
use alluvium_datasets::{Dataset, PinError, Pinner, RegisterError, register_dataset};
use alluvium_profile::{Query, RuntimeProfile, Session, SessionFactory};
use alluvium_telemetry::Seam;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::displayable;

use crate::support::{Project, columns, dataset, parquet, sorted, undeclarable};

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn ipc(columns: &[(&str, ArrayRef)], stream: bool) -> Vec<u8> {
    let columns = columns.iter().map(|(name, values)| (*name, Arc::clone(values), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut bytes = Vec::new();
    if stream {
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        drop(writer);
    } else {
        let mut writer = arrow::ipc::writer::FileWriter::try_new(&mut bytes, &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        drop(writer);
    }
    bytes
}

fn by(column: &str, descending: bool, nulls_first: bool) -> OrderingSpec {
    OrderingSpec { column: column.to_owned(), descending, nulls_first }
}

fn session() -> Session {
    SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap()
}

async fn ask(session: &Session, sql: &str) -> String {
    let rows = session.execute(Query::sql(sql)).await.unwrap().collect().await.unwrap();
    sorted(&pretty_format_batches(&rows).unwrap().to_string())
}

#[tokio::test]
async fn every_format_is_registered_under_exactly_its_name() {
    let project = Project::new();
    project.write("a.parquet", parquet(&[("k", ints(&[1]))]));
    project.write("a.csv", "k\n2\n");
    project.write("a.json", "{\"k\":3}\n");
    project.write("a.arrow", ipc(&[("k", ints(&[4]))], false));
    let session = session();
    let pinner = Pinner::new(None, Seam::system());
    for (index, (format, path)) in
        [(Parquet, "a.parquet"), (Csv, "a.csv"), (Json, "a.json"), (Arrow, "a.arrow")].into_iter().enumerate()
    {
        let name = format!("Of.{}", format.as_str());
        let declared = Dataset::resolve(&name, &dataset(format, path), &project.data()).unwrap();
        let pinned = register_dataset(&session, &pinner, &declared).await.unwrap();
        assert_eq!(pinned.components()["format"], format.as_str());
        let found = ask(&session, &format!("select k from \"{name}\"")).await;
        assert_eq!(found, format!("| k |\n| {} |", index + 1));
        let again = register_dataset(&session, &pinner, &declared).await;
        assert!(matches!(again, Err(RegisterError::Exists { .. })), "{again:?}");
    }
    let missing = Dataset::resolve("missing", &dataset(Csv, "none.csv"), &project.data()).unwrap();
    let error = register_dataset(&session, &pinner, &missing).await.unwrap_err();
    assert!(matches!(error, RegisterError::Pin { .. }), "{error}");
    assert!(undeclarable(&dataset(Avro, "a.avro")).contains("avro files cannot be read by this build"));
}

#[tokio::test]
async fn arrow_files_of_other_columns_are_one_table_and_streams_are_refused() {
    let project = Project::new();
    project.write("d/1", ipc(&[("k", ints(&[1])), ("s", texts(&[Some("x")]))], false));
    project.write("d/2", ipc(&[("v", ints(&[20])), ("k", ints(&[2]))], false));
    let spec = dataset(Arrow, "d");
    assert_eq!(project.answer(&spec, "select k, s, v from t").await, "| k | s | v  |\n| 1 | x |    |\n| 2 |   | 20 |");
    assert_eq!(
        project.answer(&spec, "select count(*) as n, count(v) as v from t where k > 0").await,
        "| n | v |\n| 2 | 1 |"
    );
    project.write("s", ipc(&[("k", ints(&[1]))], true));
    let error = project.try_pin_spec(&dataset(Arrow, "s")).await.unwrap_err();
    assert!(matches!(error, PinError::ArrowStream { .. }), "{error}");
    project.write("d/3", ipc(&[("k", texts(&[Some("y")]))], false));
    let error = project.unpinnable(&spec).await;
    assert!(error.contains("the column `k` is Int64 in") && error.contains("d/3"), "{error}");
}

#[tokio::test]
async fn a_declared_schema_decides_over_names_order_and_types() {
    let project = Project::new();
    project.write("a.csv", "k,s\n007,x\n8,\n");
    project.write("a.json", "{\"k\":7,\"s\":\"x\",\"more\":1}\n{\"s\":null}\n");
    project.write("a.parquet", parquet(&[("k", ints(&[7])), ("s", texts(&[Some("x")]))]));
    let with = |format, path: &str, declared: &[(&str, &str)]| DatasetSpec {
        schema: Some(columns(declared)),
        ..dataset(format, path)
    };
    let zeros = with(Csv, "a.csv", &[("s", "Utf8"), ("k", "Utf8")]);
    assert_eq!(project.answer(&zeros, "select * from t").await, "| s | k   |\n|   | 8   |\n| x | 007 |");
    let typed = with(Csv, "a.csv", &[("k", "Decimal128(10, 2)"), ("s", "Utf8")]);
    assert_eq!(project.answer(&typed, "select k from t").await, "| k    |\n| 7.00 |\n| 8.00 |");
    let json = with(Json, "a.json", &[("s", "Utf8"), ("k", "Float64")]);
    assert_eq!(project.answer(&json, "select * from t").await, "| s | k   |\n|   |     |\n| x | 7.0 |");
    let reordered = with(Parquet, "a.parquet", &[("s", "LargeUtf8"), ("k", "Int64")]);
    assert_eq!(project.answer(&reordered, "select * from t").await, "| s | k |\n| x | 7 |");
    assert_eq!(project.pin_spec(&reordered).await.components()["schema"], "s: LargeUtf8, k: Int64");

    for (spec, expected) in [
        (
            with(Parquet, "a.parquet", &[("k", "Int32"), ("s", "Utf8")]),
            "declares the column `k` as Int32, but it is Int64",
        ),
        (with(Parquet, "a.parquet", &[("k", "Int64")]), "has the column `s` beyond `schema`"),
        (with(Parquet, "a.parquet", &[("k", "Int64"), ("s", "Utf8"), ("z", "Int8")]), "has no column `z`"),
        (with(Csv, "a.csv", &[("k", "Utf8"), ("t", "Utf8")]), "has the column `s` beyond `schema`"),
    ] {
        let error = project.unpinnable(&spec).await;
        assert!(error.contains(expected), "{error}");
    }
    project.write("bare.csv", "1,2\n");
    let bare = |declared: &[(&str, &str)]| DatasetSpec {
        options: [("has_header".to_owned(), "false".to_owned())].into(),
        ..with(Csv, "bare.csv", declared)
    };
    let two = bare(&[("a", "Int8"), ("b", "Utf8")]);
    assert_eq!(project.answer(&two, "select * from t").await, "| a | b |\n| 1 | 2 |");
    assert!(project.unpinnable(&bare(&[("a", "Int8")])).await.contains("beyond `schema`"));
    let three = bare(&[("a", "Int8"), ("b", "Int8"), ("c", "Int8")]);
    assert!(project.unpinnable(&three).await.contains("has no column `c`"));
}

#[tokio::test]
async fn what_is_declared_without_null_has_none() {
    let project = Project::new();
    project.write("a.parquet", parquet(&[("k", ints(&[1, 2])), ("s", texts(&[Some("x"), None]))]));
    let spec =
        |declared: &[(&str, &str)]| DatasetSpec { schema: Some(columns(declared)), ..dataset(Parquet, "a.parquet") };
    let good = spec(&[("k!", "Int64"), ("s", "Utf8")]);
    assert_eq!(project.answer(&good, "select count(k) as n from t").await, "| n |\n| 2 |");
    assert!(!project.pin_spec(&good).await.schema().field(0).is_nullable());
    let bad = project.pin_spec(&spec(&[("k", "Int64"), ("s!", "Utf8")])).await;
    let error = crate::support::query(&project.ctx, bad.provider().unwrap(), "select s from t").await.unwrap_err();
    assert!(error.to_string().contains("`s` is declared without NULL and holds 1"), "{error}");
    let (path, unreadable) = bad.first_unreadable(&project.ctx).await.unwrap();
    assert!(path.ends_with("a.parquet") && unreadable.to_string().contains('s'), "{unreadable}");

    let mut tagged = spec(&[("k", "Int64"), ("s", "Utf8")]);
    tagged.schema.as_mut().unwrap()[0].metadata = [("unit".to_owned(), "m".to_owned())].into();
    let pinned = project.pin_spec(&tagged).await;
    project.query(&pinned, "select k from t").await;
    let batch = project.ctx.sql("select k from t").await.unwrap().collect().await.unwrap();
    assert_eq!(batch[0].schema().field(0).metadata()["unit"], "m");
    assert_ne!(pinned.digest(), project.pin_spec(&spec(&[("k", "Int64"), ("s", "Utf8")])).await.digest());
}

#[tokio::test]
async fn partition_columns_come_from_directories_and_are_part_of_the_pin() {
    let project = Project::new();
    for (path, key) in [("y=2024/m=a%20b", 1), ("y=2024/m=__HIVE_DEFAULT_PARTITION__", 2), ("y=2025/m=c", 3)] {
        project.write(&format!("d/{path}/f.parquet"), parquet(&[("k", ints(&[key]))]));
    }
    let spec = DatasetSpec { partition_columns: columns(&[("y", "Int32"), ("m", "Utf8")]), ..dataset(Parquet, "d") };
    let all = "| k | y    | m   |\n| 1 | 2024 | a b |\n| 2 | 2024 |     |\n| 3 | 2025 | c   |";
    assert_eq!(project.answer(&spec, "select * from t").await, all);
    assert_eq!(project.answer(&spec, "select k from t where m is null").await, "| k |\n| 2 |");
    assert_eq!(project.answer(&spec, "select count(*) as n from t where y = 2024").await, "| n |\n| 2 |");
    let plan = project.ctx.sql("select k from t where y = 2025").await.unwrap().create_physical_plan().await.unwrap();
    let plan = displayable(plan.as_ref()).indent(true).to_string();
    assert!(plan.contains("y=2025") && !plan.contains("y=2024"), "{plan}");
    let shaped = DatasetSpec { schema: Some(columns(&[("k", "Int64")])), ..spec.clone() };
    assert_eq!(project.answer(&shaped, "select * from t").await, all);

    // The same files under other directories are other rows.
    let before = project.pin_spec(&spec).await;
    std::fs::rename(project.data().join("d/y=2025"), project.data().join("d/y=2026")).unwrap();
    let after = project.pin_spec(&spec).await;
    assert_ne!(before.digest(), after.digest());
    let moved = DatasetSpec { path: alluvium_contracts::SourcePath::One("e".to_owned()), ..spec.clone() };
    std::fs::rename(project.data().join("d"), project.data().join("e")).unwrap();
    assert_eq!(project.pin_spec(&moved).await.digest(), after.digest(), "where it lies does not count");

    let typed = DatasetSpec { partition_columns: columns(&[("y", "Int32"), ("m", "Date32")]), ..moved.clone() };
    let error = project.unpinnable(&typed).await;
    assert!(error.contains(r#"partition value Some("a b")"#) && error.contains("`m`"), "{error}");
    let strict = DatasetSpec { partition_columns: columns(&[("y", "Int32"), ("m!", "Utf8")]), ..moved.clone() };
    assert!(project.unpinnable(&strict).await.contains("Utf8 that is not null"));
    let fewer = DatasetSpec { partition_columns: columns(&[("y", "Int32")]), ..moved.clone() };
    assert!(project.unpinnable(&fewer).await.contains(r#"partitions ["y", "m"]"#));
    project.write("g/k=1/f.parquet", parquet(&[("k", ints(&[1]))]));
    let twice = DatasetSpec { partition_columns: columns(&[("k", "Int64")]), ..dataset(Parquet, "g") };
    assert!(project.unpinnable(&twice).await.contains("become `k`"));
}

#[tokio::test]
async fn a_declared_order_is_checked_once_and_then_used() {
    let mut project = Project::new();
    project.write("a.parquet", parquet(&[("s", texts(&[Some("b"), Some("a"), None])), ("k", ints(&[1, 1, 2]))]));
    let ordered = |by: Vec<OrderingSpec>| DatasetSpec { ordering: by, ..dataset(Parquet, "a.parquet") };
    let spec = ordered(vec![by("k", false, true), by("s", true, false)]);
    let sorts = async |project: &Project, spec: &DatasetSpec, sql: &str| {
        let pinned = project.pin_spec(spec).await;
        project.query(&pinned, sql).await;
        let plan = project.ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        displayable(plan.as_ref()).indent(true).to_string().contains("SortExec")
    };
    let sql = "select s, k from t order by k nulls first, s desc nulls last";
    assert!(sorts(&project, &dataset(Parquet, "a.parquet"), sql).await);
    assert!(!sorts(&project, &spec, sql).await);
    assert!(!sorts(&project, &spec, "select k from t order by k nulls first").await);
    assert!(sorts(&project, &spec, "select k from t order by k desc").await);
    assert_ne!(project.pin_spec(&spec).await.digest(), project.pin_spec(&dataset(Parquet, "a.parquet")).await.digest());
    // Neither again by the same pinner nor in the next process.
    project.restart();
    project.pin_spec(&spec).await;
    assert_eq!(project.store.reads(), 0);

    for wrong in [
        vec![by("k", true, true)],
        vec![by("k", false, true), by("s", false, false)],
        vec![by("k", false, true), by("s", true, true), by("k", false, true)],
        vec![by("s", true, true)],
    ] {
        let spec = ordered(wrong);
        let error = match Dataset::resolve("t", &spec, &project.data()) {
            Err(error) => error.to_string(),
            Ok(_) => project.unpinnable(&spec).await,
        };
        assert!(error.contains("is not in the order") || error.contains("declare it once"), "{error}");
    }
    assert!(project.unpinnable(&ordered(vec![by("z", false, true)])).await.contains("`ordering` names the column `z`"));
}

#[test]
fn what_would_reach_nothing_or_contradicts_itself_is_refused_by_name() {
    let one = |change: &dyn Fn(&mut DatasetSpec)| {
        let mut spec = DatasetSpec { schema: Some(columns(&[("a", "Int64"), ("b", "Utf8")])), ..dataset(Parquet, "x") };
        change(&mut spec);
        undeclarable(&spec)
    };
    for (error, expected) in [
        (one(&|spec| spec.version = Some(1)), "`version`"),
        (
            one(&|spec| spec.timestamp = Some("2024-01-01T00:00:00Z".to_owned())),
            "`timestamp` cannot be honoured for parquet",
        ),
        (one(&|spec| spec.scan = DeltaScanOptions { wrap_partition_values: true, ..spec.scan.clone() }), "`scan`"),
        (one(&|spec| spec.schema = Some(columns(&[("a", "Int63")]))), "`Int63` of the column `a`"),
        (
            one(&|spec| spec.schema = Some(columns(&[("a", "Int8"), ("a", "Int8")]))),
            "the column `a` is declared in `schema`",
        ),
        (
            one(&|spec| spec.partition_columns = columns(&[("a", "Int8")])),
            "the column `a` is declared in `partition_columns`",
        ),
        (one(&|spec| spec.ordering = vec![by("z", false, true)]), "`ordering` names the column `z`"),
        (
            one(&|spec| {
                spec.partition_columns = columns(&[("p", "Int8")]);
                spec.ordering = vec![by("p", false, true)];
            }),
            "`ordering` says otherwise than `partition_columns` of the column `p`",
        ),
        (
            one(&|spec| {
                spec.format = Delta;
                spec.version = Some(1);
                spec.timestamp = Some("2024-01-01T00:00:00Z".to_owned());
            }),
            "`timestamp` says otherwise than `version`",
        ),
        (
            one(&|spec| {
                spec.format = Delta;
                spec.timestamp = Some("yesterday".to_owned());
            }),
            "`timestamp` cannot be `yesterday`",
        ),
        (
            one(&|spec| {
                spec.format = Delta;
                spec.ordering = vec![by("a", false, true)];
            }),
            "`ordering` cannot be honoured for delta",
        ),
    ] {
        assert!(error.contains(expected), "{error}");
    }
}
