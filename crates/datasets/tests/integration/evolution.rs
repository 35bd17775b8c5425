//! Files of several schemas as one table: every part of an evolution, and the answers that a default must not spoil.

use std::sync::Arc;

use alluvium_contracts::DatasetFormat::{self, Csv, Json, Parquet};
use alluvium_contracts::{AdaptedColumn, ColumnAdaptation, DatasetSpec, EvolutionSpec, SchemaAdapter};
use alluvium_datasets::Dataset;
use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use datafusion::prelude::SessionConfig;
use serde_json::json;

use crate::support::{Project, columns, dataset, parquet, undeclarable};

fn ints(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// Two files: an old one of `k`, and a new one of `k` and `c`, where `c` is also NULL.
fn defaults(project: &Project) -> DatasetSpec {
    project.write("d/1", parquet(&[("k", ints(&[Some(1), Some(2), Some(3)]))]));
    project.write("d/2", parquet(&[("k", ints(&[Some(4), Some(5), Some(6)])), ("c", ints(&[None, Some(7), Some(8)]))]));
    let evolution = EvolutionSpec { defaults: [("c".to_owned(), json!(7))].into(), ..EvolutionSpec::default() };
    DatasetSpec { evolution: Some(evolution), ..dataset(Parquet, "d") }
}

/// Filters go down into the readers, and files and row groups are left out by their statistics.
fn eager() -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(2).with_collect_statistics(true);
    let parquet = &mut config.options_mut().execution.parquet;
    parquet.pushdown_filters = true;
    parquet.reorder_filters = true;
    parquet.pruning = true;
    parquet.enable_page_index = true;
    config
}

#[tokio::test]
async fn a_default_stands_where_the_column_is_missing_and_nowhere_else() {
    for config in [SessionConfig::new().with_target_partitions(2), eager()] {
        let project = Project::with(config);
        let spec = defaults(&project);
        for (sql, expected) in [
            ("select k, c from t", "| k | c |\n| 1 | 7 |\n| 2 | 7 |\n| 3 | 7 |\n| 4 |   |\n| 5 | 7 |\n| 6 | 8 |"),
            // Pruned by the statistics of a column that is not there, the old file would be gone.
            ("select k from t where c = 7", "| k |\n| 1 |\n| 2 |\n| 3 |\n| 5 |"),
            ("select k from t where c < 8 and k <> 2", "| k |\n| 1 |\n| 3 |\n| 5 |"),
            // Coalesced, the NULL that is there would be gone.
            ("select k from t where c is null", "| k |\n| 4 |"),
            ("select k from t where c is not null and k > 2", "| k |\n| 3 |\n| 5 |\n| 6 |"),
            // Counted by the statistics of a reader that fills in NULL, three would be missing.
            ("select count(c) as n from t", "| n |\n| 5 |"),
            ("select count(*) as n from t", "| n |\n| 6 |"),
            ("select count(*) as n from t where c = 8", "| n |\n| 1 |"),
            ("select count(distinct c) as n, min(c) as a, max(c) as z from t", "| n | a | z |\n| 2 | 7 | 8 |"),
            ("select c, count(*) as n from t group by c", "| c | n |\n|   | 1 |\n| 7 | 4 |\n| 8 | 1 |"),
            ("select count(*) as n from (select * from t limit 4)", "| n |\n| 4 |"),
            ("select a.k from t as a join t as b on a.c = b.c and a.k = b.k where a.k < 3", "| k |\n| 1 |\n| 2 |"),
        ] {
            assert_eq!(project.answer(&spec, sql).await, expected, "{sql}");
        }
    }
}

#[tokio::test]
async fn a_missing_column_without_default_is_null_to_every_filter() {
    let project = Project::with(eager());
    let mut spec = defaults(&project);
    let adaptation = async |spec: &DatasetSpec| project.pin_spec(spec).await.adapter().groups[0].columns[0].adaptation;
    assert_eq!(adaptation(&spec).await, ColumnAdaptation::Default);
    spec.evolution = Some(EvolutionSpec::default());
    assert_eq!(project.answer(&spec, "select k from t where c is null").await, "| k |\n| 1 |\n| 2 |\n| 3 |\n| 4 |");
    assert_eq!(project.answer(&spec, "select count(c) as n from t").await, "| n |\n| 2 |");
    assert_eq!(adaptation(&spec).await, ColumnAdaptation::Null);
}

#[tokio::test]
async fn columns_are_renamed_cast_and_left_out() {
    let project = Project::with(eager());
    let old: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
    let new: ArrayRef = Arc::new(Float64Array::from(vec![2.5]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["4.25"]));
    project.write("d/1", parquet(&[("dep_delay", old), ("junk", ints(&[Some(0), Some(0)]))]));
    project.write("d/2", parquet(&[("delay", new)]));
    project.write("d/3", parquet(&[("delay", text)]));
    let evolution =
        EvolutionSpec { rename: [("dep_delay".to_owned(), "delay".to_owned())].into(), ..EvolutionSpec::default() };
    let spec = DatasetSpec {
        schema: Some(columns(&[("delay", "Float64")])),
        evolution: Some(evolution.clone()),
        ..dataset(Parquet, "d")
    };
    assert_eq!(project.answer(&spec, "select * from t").await, "| delay |\n|       |\n| 1.0   |\n| 2.5   |\n| 4.25  |");
    let choice = project.pin_spec(&spec).await.adapter();
    assert_eq!(choice.adapter, SchemaAdapter::Expressions);
    let column = |name: &str, data_type: &str| AdaptedColumn {
        name: "delay".to_owned(),
        adaptation: ColumnAdaptation::Cast,
        file_column: Some(name.to_owned()),
        file_type: Some(data_type.to_owned()),
        data_type: "Float64".to_owned(),
    };
    let adapted: Vec<_> = choice.groups.iter().map(|group| (group.file_count, group.columns.clone())).collect();
    assert_eq!(
        adapted,
        [(1, vec![column("dep_delay", "Int32")]), (1, Vec::new()), (1, vec![column("delay", "Utf8View")])]
    );
    assert_eq!(project.answer(&spec, "select delay from t where delay = 1").await, "| delay |\n| 1.0   |");
    assert_eq!(project.answer(&spec, "select delay from t where delay > 2").await, "| delay |\n| 2.5   |\n| 4.25  |");

    // Without a schema the cast says the type.
    let undeclared = |casts: &[(&str, &str)]| DatasetSpec {
        schema: None,
        evolution: Some(EvolutionSpec {
            casts: casts.iter().map(|(column, to)| ((*column).to_owned(), (*to).to_owned())).collect(),
            ..evolution.clone()
        }),
        ..spec.clone()
    };
    let error = project.unpinnable(&undeclared(&[])).await;
    assert!(error.contains("the column `delay` is Int32 in") && error.contains("Float64"), "{error}");
    let cast = undeclared(&[("delay", "Utf8")]);
    assert_eq!(
        project.answer(&cast, "select delay from t where delay is not null").await,
        "| delay |\n| 1     |\n| 2.5   |\n| 4.25  |"
    );
    let error = project.unpinnable(&undeclared(&[("delay", "Struct(\"x\": Int64)")])).await;
    assert!(error.contains("no cast leads"), "{error}");
    assert!(
        project
            .unpinnable(&undeclared(&[("delay", "Utf8"), ("dealy", "Utf8")]))
            .await
            .contains("`evolution.casts` names the column `dealy`")
    );

    // A value that does not fit is an error, and no NULL.
    project.write("d/4", parquet(&[("delay", Arc::new(StringArray::from(vec!["soon"])) as ArrayRef)]));
    let pinned = project.pin_spec(&spec).await;
    let error = crate::support::query(&project.ctx, pinned.provider().unwrap(), "select * from t").await.unwrap_err();
    assert!(error.to_string().contains("soon"), "{error}");
    let both = parquet(&[("dep_delay", ints(&[None])), ("delay", ints(&[None]))]);
    project.write("d/4", both);
    assert!(project.unpinnable(&spec).await.contains("two columns of"));
}

#[tokio::test]
async fn strict_allows_what_is_named_and_nothing_else() {
    let project = Project::new();
    project.write("d/1", parquet(&[("k", ints(&[Some(1)])), ("old", ints(&[Some(9)]))]));
    project.write("d/2", parquet(&[("k", ints(&[Some(2)])), ("c", ints(&[Some(3)]))]));
    let spec = |change: &dyn Fn(&mut EvolutionSpec)| {
        let mut evolution = EvolutionSpec { strict: true, ..EvolutionSpec::default() };
        change(&mut evolution);
        DatasetSpec {
            schema: Some(columns(&[("k", "Int64"), ("c", "Int64")])),
            evolution: Some(evolution),
            ..dataset(Parquet, "d")
        }
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = |evolution: &mut EvolutionSpec| {
        evolution.allow_missing = names(&["c"]);
        evolution.allow_extra = names(&["old"]);
    };
    assert_eq!(project.answer(&spec(&all), "select * from t").await, "| k | c |\n| 1 |   |\n| 2 | 3 |");
    let error = project.unpinnable(&spec(&|evolution| evolution.allow_missing = names(&["c"]))).await;
    assert!(error.contains("has the column `old` beyond `schema`"), "{error}");
    let error = project.unpinnable(&spec(&|evolution| evolution.allow_extra = names(&["old"]))).await;
    assert!(error.contains("d/1 has no column `c`"), "{error}");
    let lenient = spec(&|evolution| evolution.strict = false);
    assert_eq!(project.answer(&lenient, "select * from t").await, "| k | c |\n| 1 |   |\n| 2 | 3 |");
    let default = spec(&|evolution| {
        evolution.allow_extra = names(&["old"]);
        evolution.defaults = [("c".to_owned(), json!(-1))].into();
    });
    assert_eq!(project.answer(&default, "select * from t").await, "| k | c  |\n| 1 | -1 |\n| 2 | 3  |");
    let mut required = spec(&all);
    required.schema = Some(columns(&[("k", "Int64"), ("c!", "Int64")]));
    assert!(project.unpinnable(&required).await.contains("declared without NULL"));
}

#[tokio::test]
async fn defaults_take_the_types_of_their_columns() {
    let project = Project::new();
    project.write("a", parquet(&[("k", ints(&[Some(1)]))]));
    let spec = |data_type: &str, default: serde_json::Value| DatasetSpec {
        schema: Some(columns(&[("k", "Int64"), ("c", data_type)])),
        evolution: Some(EvolutionSpec { defaults: [("c".to_owned(), default)].into(), ..EvolutionSpec::default() }),
        ..dataset(Parquet, "a")
    };
    for (data_type, default, expected) in [
        ("Utf8", json!("x"), "x"),
        ("Boolean", json!(true), "true"),
        ("Int8", json!(-5), "-5"),
        ("Int64", json!(2.0), "2"),
        ("Float64", json!(1.5), "1.5"),
        ("Decimal128(10, 2)", json!(1.5), "1.50"),
        ("Date32", json!("2024-02-29"), "2024-02-29"),
        ("Timestamp(µs, \"UTC\")", json!("2024-02-29T12:00:00Z"), "2024-02-29T12:00:00Z"),
        ("Utf8", json!(null), ""),
    ] {
        let found = project.answer(&spec(data_type, default), "select c from t").await;
        let value = found.lines().nth(1).unwrap().trim_matches(['|', ' ']).to_owned();
        assert_eq!(value, expected, "{data_type}");
    }
    for (data_type, default) in
        [("Int8", json!(300)), ("Int64", json!(1.5)), ("Date32", json!("soon")), ("Boolean", json!("x"))]
    {
        let error = project.unpinnable(&spec(data_type, default)).await;
        assert!(error.contains("the default of the column `c` is no"), "{error}");
    }
    assert!(undeclarable(&spec("Utf8", json!([1]))).contains("the default [1] of the column `c`"));
    // A column that no file has.
    let undeclared = DatasetSpec { schema: None, ..spec("Utf8", json!("x")) };
    assert_eq!(project.answer(&undeclared, "select * from t").await, "| k | c |\n| 1 | x |");
}

#[tokio::test]
async fn csv_files_evolve_by_their_headers_and_keep_their_text() {
    let project = Project::new();
    project.write("d/1.csv", "code,n\n007,1\n");
    project.write("d/2.csv", "n,zip,extra\n2,008,x\n");
    let evolution = EvolutionSpec {
        rename: [("code".to_owned(), "zip".to_owned())].into(),
        casts: [("zip".to_owned(), "Utf8".to_owned())].into(),
        defaults: [("extra".to_owned(), json!("none"))].into(),
        ..EvolutionSpec::default()
    };
    let spec = DatasetSpec { evolution: Some(evolution), ..dataset(Csv, "d") };
    assert_eq!(
        project.answer(&spec, "select zip, n, extra from t").await,
        "| zip | n | extra |\n| 007 | 1 | none  |\n| 008 | 2 | x     |"
    );
    assert!(undeclarable(&DatasetSpec { format: Json, ..spec }).contains("`evolution` cannot be honoured for json"));
}

#[tokio::test]
async fn every_part_of_an_evolution_moves_the_pin_and_remembered_schemas_keep_it() {
    let mut project = Project::new();
    let base = defaults(&project);
    let mut digests = vec![("base", project.pin_spec(&base).await.digest())];
    type Edit = (&'static str, fn(&mut DatasetSpec));
    let edits: &[Edit] = &[
        ("none", |spec| spec.evolution = None),
        ("default", |spec| spec.evolution.as_mut().unwrap().defaults = [("c".to_owned(), json!(6))].into()),
        ("no default", |spec| spec.evolution.as_mut().unwrap().defaults = [].into()),
        ("rename", |spec| spec.evolution.as_mut().unwrap().rename = [("k".to_owned(), "key".to_owned())].into()),
        ("cast", |spec| spec.evolution.as_mut().unwrap().casts = [("k".to_owned(), "Int32".to_owned())].into()),
        ("strict", |spec| spec.evolution.as_mut().unwrap().strict = true),
        ("schema", |spec| spec.schema = Some(columns(&[("k", "Int64"), ("c", "Int64")]))),
        ("order of columns", |spec| spec.schema = Some(columns(&[("c", "Int64"), ("k", "Int64")]))),
        ("projection", |spec| spec.projection_exprs = vec!["k".to_owned(), "c".to_owned()]),
        ("another projection", |spec| spec.projection_exprs = vec!["k".to_owned(), "c + 1 as c".to_owned()]),
    ];
    for (name, edit) in edits {
        let mut spec = base.clone();
        edit(&mut spec);
        digests.push((name, project.pin_spec(&spec).await.digest()));
    }
    for (index, (name, digest)) in digests.iter().enumerate() {
        let same = digests[..index].iter().find(|(_, before)| before == digest);
        assert!(same.is_none(), "{name} is as {same:?}");
    }
    project.restart();
    let again = project.pin_spec(&base).await;
    assert_eq!(again.digest(), digests[0].1);
    assert_eq!(project.store.reads(), 0, "with the memo nothing is read");
    assert_eq!(project.pinner.counters().schemas_inferred, 0);
    assert!(again.components()["evolution"].contains(r#""defaults":{"c":"7"}"#), "{}", again.components()["evolution"]);
}

#[test]
fn evolutions_that_reach_nothing_are_refused_by_name() {
    let refused = |format: DatasetFormat, schema: Option<&[(&str, &str)]>, change: &dyn Fn(&mut EvolutionSpec)| {
        let mut evolution = EvolutionSpec::default();
        change(&mut evolution);
        let spec = DatasetSpec { schema: schema.map(columns), evolution: Some(evolution), ..dataset(format, "x") };
        match Dataset::resolve("t", &spec, std::path::Path::new("/base")) {
            Err(error) => crate::support::chain(&error),
            Ok(_) => "allowed".to_owned(),
        }
    };
    let schema: Option<&[(&str, &str)]> = Some(&[("a", "Int64"), ("b", "Utf8")]);
    let text = |text: &str| text.to_owned();
    for (error, expected) in [
        (refused(Parquet, schema, &|e| e.allow_missing = vec![text("a")]), "set `evolution.strict = true`"),
        (
            refused(Parquet, None, &|e| {
                e.strict = true;
                e.allow_extra = vec![text("a")];
            }),
            "without a `schema` no column is one too many",
        ),
        (
            refused(Parquet, schema, &|e| {
                e.strict = true;
                e.allow_extra = vec![text("a")];
            }),
            "`evolution.allow_extra` says otherwise than `schema` of the column `a`",
        ),
        (
            refused(Parquet, schema, &|e| e.rename = [(text("x"), text("z"))].into()),
            "`evolution.rename` names the column `z`",
        ),
        (
            refused(Parquet, schema, &|e| e.rename = [(text("a"), text("b"))].into()),
            "`evolution.rename` says otherwise",
        ),
        (
            refused(Parquet, schema, &|e| e.casts = [(text("a"), text("Int8"))].into()),
            "`evolution.casts` says otherwise",
        ),
        (refused(Parquet, None, &|e| e.casts = [(text("a"), text("Int9"))].into()), "`Int9` of the column `a`"),
        (refused(Parquet, schema, &|e| e.defaults = [(text("z"), json!(1))].into()), "`evolution.defaults` names"),
    ] {
        assert!(error.contains(expected), "{error}");
    }
}

/// The naive way to a default: the engine's own table, with an adapter that puts a literal where a file has no column.
/// Statistics and pruning still believe that the column is all NULL there.
#[tokio::test]
async fn an_adapter_alone_would_lose_rows_by_statistics() {
    use datafusion::common::ScalarValue;
    use datafusion::datasource::file_format::parquet::ParquetFormat;
    use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr_adapter::{
        DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
        replace_columns_with_literals,
    };

    #[derive(Debug)]
    struct Naive;
    #[derive(Debug)]
    struct Adapts(Arc<dyn PhysicalExprAdapter>, bool);

    impl PhysicalExprAdapterFactory for Naive {
        fn create(
            &self,
            logical: arrow::datatypes::SchemaRef,
            physical: arrow::datatypes::SchemaRef,
        ) -> datafusion::error::Result<Arc<dyn PhysicalExprAdapter>> {
            let lacks = physical.index_of("c").is_err();
            Ok(Arc::new(Adapts(DefaultPhysicalExprAdapterFactory.create(logical, physical)?, lacks)))
        }
    }

    impl PhysicalExprAdapter for Adapts {
        fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> datafusion::error::Result<Arc<dyn PhysicalExpr>> {
            let seven = ScalarValue::from(7_i64);
            let literals: std::collections::HashMap<&str, &ScalarValue> =
                self.1.then_some(("c", &seven)).into_iter().collect();
            self.0.rewrite(replace_columns_with_literals(expr, &literals)?)
        }
    }

    let project = Project::with(eager());
    let spec = defaults(&project);
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension("");
    let url = ListingTableUrl::parse(project.data().join("d/").to_str().unwrap()).unwrap();
    let pinned = project.pin_spec(&spec).await;
    let config = ListingTableConfig::new(url)
        .with_listing_options(options)
        .with_schema(Arc::clone(pinned.schema()))
        .with_expr_adapter_factory(Arc::new(Naive));
    let naive: Arc<dyn datafusion::catalog::TableProvider> = Arc::new(ListingTable::try_new(config).unwrap());
    let mut wrong = 0;
    for sql in ["select count(c) as n from t", "select k from t where c = 7", "select min(c) as a, max(c) as z from t"]
    {
        let right = project.query(&pinned, sql).await;
        let found = crate::support::query(&project.ctx, Arc::clone(&naive), sql).await.unwrap();
        wrong += usize::from(crate::support::sorted(&found) != crate::support::sorted(&right));
    }
    assert!(wrong > 0, "the naive way is right after all: the trap is gone, and so may be the groups of files");
}
