//! Declarations as SQL and back: nothing is lost, and what SQL says is what is registered.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_contracts::{
    CdfOptions, ColumnSpec, ConstraintSpec, DatasetCache, DatasetFormat, DatasetSpec, DeltaScanOptions, EvolutionSpec,
    OrderingSpec, ProfileSpec, SourcePath,
};
use alluvium_datasets::{
    DdlError, Existing, Pinner, RegisterError, Registration, column_of, create_external_table, field_of,
    parse_create_external_table, register_dataset_ddl,
};
use alluvium_profile::{Query, RuntimeProfile, SessionFactory};
use alluvium_telemetry::Seam;
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit, UnionFields, UnionMode};
use arrow::util::pretty::pretty_format_batches;
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Project, chain, columns, dataset, parquet, sorted};

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9_]{0,6}",
        "[A-Za-z\"'. ;()-]{1,8}",
        Just("select".to_owned()),
        Just("größe \"x\" 'y'".to_owned()),
        Just("\\n\n--/*".to_owned()),
    ]
}

/// Names that arrow's notation can hold inside of a type.
fn inner_name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,4}", Just("item".to_owned()), Just("A b.c".to_owned())]
}

fn unit() -> impl Strategy<Value = TimeUnit> {
    prop::sample::select(vec![TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond])
}

/// Every type that arrow has.
fn data_type() -> impl Strategy<Value = DataType> {
    let simple = prop::sample::select(vec![
        DataType::Null,
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float16,
        DataType::Float32,
        DataType::Float64,
        DataType::Date32,
        DataType::Date64,
        DataType::Time32(TimeUnit::Second),
        DataType::Time32(TimeUnit::Millisecond),
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Interval(IntervalUnit::YearMonth),
        DataType::Interval(IntervalUnit::DayTime),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Binary,
        DataType::LargeBinary,
        DataType::BinaryView,
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
    ]);
    let zone = prop::option::of(prop::sample::select(vec!["UTC", "+02:00", "Europe/Amsterdam"]));
    let leaf = prop_oneof![
        4 => simple,
        1 => (unit(), zone).prop_map(|(unit, zone)| DataType::Timestamp(unit, zone.map(Into::into))),
        1 => unit().prop_map(DataType::Duration),
        1 => (0..100).prop_map(DataType::FixedSizeBinary),
        1 => (1..=9_u8).prop_map(|precision| DataType::Decimal32(precision, -1)),
        1 => (1..=18_u8).prop_map(|precision| DataType::Decimal64(precision, 1)),
        2 => (2..=38_u8, -2..=2_i8).prop_map(|(precision, scale)| DataType::Decimal128(precision, scale)),
        1 => (3..=76_u8, 0..=3_i8).prop_map(|(precision, scale)| DataType::Decimal256(precision, scale)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let field = (inner_name(), inner.clone(), any::<bool>())
            .prop_map(|(name, data_type, nullable)| Arc::new(Field::new(name, data_type, nullable)))
            .boxed();
        prop_oneof![
            field.clone().prop_map(DataType::List),
            field.clone().prop_map(DataType::LargeList),
            field.clone().prop_map(DataType::ListView),
            field.clone().prop_map(DataType::LargeListView),
            (field.clone(), 0..9).prop_map(|(field, length)| DataType::FixedSizeList(field, length)),
            prop::collection::vec(field.clone(), 0..3).prop_map(|fields| DataType::Struct(Fields::from(fields))),
            inner.clone().prop_map(|values| DataType::Dictionary(Box::new(DataType::UInt16), Box::new(values))),
            (inner.clone(), any::<bool>()).prop_map(|(values, sorted)| {
                let entries = vec![Field::new("keys", DataType::Utf8, false), Field::new("values", values, true)];
                let entries = Field::new("entries", DataType::Struct(entries.into()), false);
                DataType::Map(Arc::new(entries), sorted)
            }),
            (inner.clone(), any::<bool>()).prop_map(|(values, nullable)| {
                let ends = Field::new("run_ends", DataType::Int32, false);
                DataType::RunEndEncoded(Arc::new(ends), Arc::new(Field::new("values", values, nullable)))
            }),
            (prop::collection::vec(field, 1..3), any::<bool>()).prop_map(|(fields, dense)| {
                let mode = if dense { UnionMode::Dense } else { UnionMode::Sparse };
                let fields = fields.into_iter().enumerate().map(|(id, field)| (id as i8 * 3, field));
                DataType::Union(fields.collect::<UnionFields>(), mode)
            }),
        ]
    })
}

fn column() -> impl Strategy<Value = ColumnSpec> {
    let metadata =
        prop_oneof![12 => Just(BTreeMap::new()), 1 => Just(BTreeMap::from([("k'".to_owned(), "\"v".to_owned())]))];
    let text = prop_oneof![
        3 => data_type().prop_map(|data_type| data_type.to_string()),
        // Those that SQL has names for: rare among all, and whole declarations have to be of them.
        12 => prop::sample::select(vec!["Int64", "UInt16", "Utf8", "Boolean", "Float32", "Binary", "Timestamp(ns)", "Decimal128(10, 2)"])
            .prop_map(str::to_owned),
        // Other spellings, which have to stay as they were written.
        1 => prop::sample::select(vec!["Timestamp(Nanosecond, None)", "Decimal128( 10, 2)", "Decimal128(010, 2)"]).prop_map(str::to_owned),
    ];
    (name(), text, any::<bool>(), metadata).prop_map(|(name, data_type, nullable, metadata)| ColumnSpec {
        name,
        data_type,
        nullable,
        metadata,
    })
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(name(), 0..3)
}

fn spec() -> impl Strategy<Value = DatasetSpec> {
    let place = (
        prop::sample::select(DatasetFormat::ALL),
        prop_oneof![name().prop_map(SourcePath::One), texts().prop_map(SourcePath::Many)],
        prop::option::of(prop::collection::vec(column(), 0..4)),
        prop::collection::vec(column(), 0..3),
    );
    let option = prop_oneof![
        // Never one of a cloud store's, such as `s3_`, which are refused.
        name().prop_map(|name| format!("x{name}")),
        prop::sample::select(vec!["delimiter", "format.quote", "version", "timestamp", "alluvium.spec"])
            .prop_map(str::to_owned)
    ];
    let order = (name(), any::<bool>(), any::<bool>()).prop_map(|(column, descending, nulls_first)| OrderingSpec {
        column,
        descending,
        nulls_first,
    });
    let evolution = (texts(), any::<bool>(), -3.5..3.5_f64).prop_map(|(names, strict, number)| EvolutionSpec {
        rename: names.iter().map(|name| (name.clone(), "to".to_owned())).collect(),
        defaults: names.iter().map(|name| (name.clone(), json!([null, number, {"a": name}]))).collect(),
        allow_extra: names,
        strict,
        ..EvolutionSpec::default()
    });
    let rest = (
        prop::collection::btree_map(option, name(), 0..4),
        prop::collection::vec(order, 0..3),
        (prop::option::of(0..u64::from(u32::MAX)), prop::option::of(name())),
        prop::option::of(evolution),
        texts(),
        (texts(), prop::option::of(name()), any::<bool>()),
    );
    (place, rest).prop_map(|((format, path, schema, partition_columns), rest)| {
        let (options, ordering, (version, timestamp), evolution, projection_exprs, (keys, column, flag)) = rest;
        DatasetSpec {
            schema,
            partition_columns,
            options,
            ordering,
            version,
            timestamp,
            evolution,
            projection_exprs,
            constraints: ConstraintSpec { primary_key: keys.clone(), ..ConstraintSpec::default() },
            scan: DeltaScanOptions { file_column_name: column.clone(), ..DeltaScanOptions::default() },
            cdf: flag.then(|| CdfOptions { columns: Some(keys), predicate: column, ..CdfOptions::default() }),
            cache: if flag { DatasetCache::Memory } else { DatasetCache::None },
            ..DatasetSpec::new(format, path)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_declaration_survives_sql(name in name(), spec in spec()) {
        let sql = create_external_table(&name, &spec);
        let read = parse_create_external_table(&sql);
        let read = read.map_err(|error| TestCaseError::fail(format!("{}\n{sql}", chain(&error))))?;
        prop_assert_eq!(read.existing, Existing::Refuse);
        prop_assert_eq!(&read.name, &name, "{}", sql);
        prop_assert_eq!(&read.spec, &spec, "{}", sql);
        prop_assert_eq!(create_external_table(&read.name, &read.spec), sql, "one declaration, one text");
    }

    #[test]
    fn every_type_survives_its_text_and_sql_or_is_refused(data_type in data_type(), nullable in any::<bool>()) {
        let field = Field::new("c", data_type, nullable);
        // Fields of length 0 have no name to be told by; all others can be said.
        let column = column_of(&field).map_err(|error| TestCaseError::fail(format!("{field:?}: {error}")))?;
        let spec = DatasetSpec { schema: Some(vec![column]), ..dataset(DatasetFormat::Parquet, "p") };
        let read = parse_create_external_table(&create_external_table("t", &spec)).unwrap();
        prop_assert_eq!(field_of(&read.spec.schema.unwrap()[0]).unwrap(), field);
    }
}

#[test]
fn what_sql_can_say_it_says() {
    let spec = DatasetSpec {
        schema: Some(columns(&[("id!", "Int64"), ("Name", "Utf8"), ("price", "Decimal128(10, 2)")])),
        partition_columns: columns(&[("y", "UInt16")]),
        ordering: vec![OrderingSpec { column: "id".to_owned(), descending: true, nulls_first: false }],
        options: [("delimiter".to_owned(), "'".to_owned())].into(),
        ..DatasetSpec::new(DatasetFormat::Csv, SourcePath::Many(vec!["a".to_owned(), "b".to_owned()]))
    };
    assert_eq!(
        create_external_table("T", &spec),
        "CREATE EXTERNAL TABLE \"T\" (\"id\" BIGINT NOT NULL, \"Name\" VARCHAR, \"price\" DECIMAL(10, 2)) STORED AS CSV \
         PARTITIONED BY (\"y\" SMALLINT UNSIGNED) WITH ORDER (\"id\" DESC NULLS LAST) LOCATION ('a', 'b') \
         OPTIONS ('delimiter' '''')"
    );
    let delta = DatasetSpec { version: Some(7), ..dataset(DatasetFormat::Delta, "d") };
    assert_eq!(
        create_external_table("d", &delta),
        "CREATE EXTERNAL TABLE \"d\" STORED AS DELTA LOCATION 'd' OPTIONS ('version' '7')"
    );
    let zoned =
        DatasetSpec { schema: Some(columns(&[("at", "Timestamp(µs, \"UTC\")")])), ..dataset(DatasetFormat::Csv, "d") };
    let sql = create_external_table("d", &zoned);
    assert!(sql.contains("'alluvium.spec' '{\"schema\":[{"), "{sql}");
}

#[test]
fn hand_written_sql_is_read_as_the_engine_reads_it() {
    let read = |sql: &str| parse_create_external_table(sql).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let created = read(
        "create external table if not exists Trips (ID integer not null, f float, p text, primary key (ID), \
         constraint sane check (id > 0)) stored as parquet partitioned by (p) with order (id, f desc) location 'x' \
         options (format.skip_metadata true, 'binary_as_string' 'false');",
    );
    assert_eq!((created.name.as_str(), created.existing), ("trips", Existing::Keep));
    let spec = &created.spec;
    assert_eq!(spec.schema, Some(columns(&[("id!", "Int32"), ("f", "Float32")])));
    assert_eq!(spec.partition_columns, columns(&[("p", "Utf8")]));
    let order: Vec<_> = spec.ordering.iter().map(|by| (by.column.as_str(), by.descending, by.nulls_first)).collect();
    assert_eq!(order, [("id", false, false), ("f", true, true)]);
    assert_eq!(spec.options["skip_metadata"], "true");
    assert_eq!(spec.options["binary_as_string"], "false");
    assert_eq!(spec.constraints.primary_key, ["id"]);
    assert_eq!(spec.constraints.check["sane"], "id > 0");
    let replaced = read("create or replace external table t stored as delta location 'x' options ('version' 3)");
    assert_eq!((replaced.existing, replaced.spec.version), (Existing::Replace, Some(3)));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    for (sql, expected) in [
        ("select 1", "this is SELECT 1"),
        ("create external table t stored as csv location 'x'; select 1", "2 statements"),
        ("create external", "cannot be parsed"),
        ("create unbounded external table t stored as csv location 'x'", "UNBOUNDED"),
        ("create external temp table t stored as csv location 'x'", "TEMPORARY"),
        ("create external table a.t stored as csv location 'x'", "the default schema"),
        ("create external table t stored as lance location 'x'", "STORED AS LANCE is no format"),
        ("create external table t (a varchar(3)) stored as csv location 'x'", "the type VARCHAR(3) of the column `a`"),
        ("create external table t (a timestamp with time zone) stored as csv location 'x'", "of the column `a`"),
        ("create external table t (a int default 3) stored as csv location 'x'", "only NULL and NOT NULL"),
        ("create external table t (a int, unique (a)) stored as csv location 'x'", "only PRIMARY KEY and CHECK"),
        ("create external table t (a int, check (a > 1)) stored as csv location 'x'", "give it a name"),
        ("create external table t (a int) stored as csv partitioned by (b) location 'x'", "the partition column b"),
        ("create external table t (a int) stored as csv with order (a + 1) location 'x'", "not expressions"),
        (
            "create external table t (a int) stored as csv with order (a) with order (a) location 'x'",
            "second WITH ORDER",
        ),
        (
            "create external table t stored as csv location 'x' options ('quote' 'a', 'format.quote' 'b')",
            "'quote' is there twice",
        ),
        ("create external table t stored as delta location 'x' options ('version' 'new')", "'version' cannot be 'new'"),
        (
            "create external table t stored as csv location 'x' options ('alluvium.spec' '{\"evolve\":1}')",
            "unknown field",
        ),
        ("create external table t stored as csv location 'x' options ('alluvium.spec' '[]')", "cannot be '[]'"),
    ] {
        let error = parse_create_external_table(sql).unwrap_err();
        assert!(chain(&error).contains(expected), "{sql}: {}", chain(&error));
    }
    let two = parse_create_external_table("create external table t stored as csv location 'x'; select 1");
    assert!(matches!(two, Err(DdlError::NotOne { .. })));
}

#[tokio::test]
async fn sql_registers_what_it_declares() {
    let project = Project::new();
    let keys: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![1, 2]));
    project.write("d/y=2024/f.parquet", parquet(&[("k", keys)]));
    project.write("a.csv", "k;s\n1;x\n");
    let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    let pinner = Pinner::new(None, Seam::system());
    let register = async |sql: &str| register_dataset_ddl(&session, &pinner, sql, &project.data()).await;
    let ask = async |sql: &str| {
        let rows = session.execute(Query::sql(sql)).await.unwrap().collect().await.unwrap();
        sorted(&pretty_format_batches(&rows).unwrap().to_string())
    };
    let sql = "create external table T (k bigint not null) stored as parquet partitioned by (y int) location 'd'";
    assert!(matches!(register(sql).await.unwrap(), Registration::Registered(_)));
    assert_eq!(ask("select k, y from t").await, "| k | y    |\n| 1 | 2024 |\n| 2 | 2024 |");
    assert!(matches!(register(sql).await, Err(RegisterError::Exists { .. })));
    let csv = "external table t stored as csv location 'a.csv' options ('delimiter' ';')";
    assert!(matches!(
        register(&format!("create {}", csv.replace("table t", "table if not exists t"))).await,
        Ok(Registration::Kept)
    ));
    let Registration::Registered(pinned) = register(&format!("create or replace {csv}")).await.unwrap() else {
        panic!("it was to be replaced");
    };
    assert_eq!(pinned.components()["option delimiter"], ";");
    assert_eq!(ask("select s from t").await, "| s |\n| x |");
    // What fails leaves what is there.
    let broken = register("create or replace external table t stored as csv location 'none.csv'").await;
    assert!(matches!(broken, Err(RegisterError::Pin { .. })));
    assert_eq!(ask("select s from t").await, "| s |\n| x |");
    let unknown = register("create external table u stored as csv location 'a.csv' options ('delimeter' ';')").await;
    assert!(chain(&unknown.unwrap_err()).contains("did you mean `delimiter`?"));
}

/// The engine lowers the letters of ASCII and no others.
#[tokio::test]
async fn names_without_quotes_are_what_the_engine_makes_of_them() {
    let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    let plan = session.plan_query("select 1 as ÄRGER, 2 as Bier").await.unwrap().plan;
    let of_engine: Vec<_> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    let sql = "create external table Ölung (ÄRGER int, Bier int) stored as csv location 'a.csv'";
    let created = parse_create_external_table(sql).unwrap();
    let ours: Vec<_> = created.spec.schema.unwrap().into_iter().map(|column| column.name).collect();
    assert_eq!(ours, of_engine);
    assert_eq!((created.name.as_str(), ours), ("Ölung", vec!["Ärger".to_owned(), "bier".to_owned()]));
}
