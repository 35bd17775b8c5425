//! Columns that are SQL expressions over those of the files.

use std::sync::Arc;

use alluvium_contracts::DatasetFormat::{Csv, Parquet};
use alluvium_contracts::{DatasetSpec, EvolutionSpec};
use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::physical_plan::displayable;
use datafusion::scalar::ScalarValue;
use serde_json::json;

use crate::support::{Project, columns, dataset, parquet};

fn project() -> Project {
    let project = Project::new();
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), None]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    project.write("a", parquet(&[("K", keys), ("s", texts)]));
    project
}

fn projected(expressions: &[&str]) -> DatasetSpec {
    let projection_exprs = expressions.iter().map(|expression| (*expression).to_owned()).collect();
    DatasetSpec { projection_exprs, ..dataset(Parquet, "a") }
}

#[tokio::test]
async fn expressions_become_the_columns() {
    let project = project();
    let spec =
        projected(&["\"K\" * 10 as tens", "s", "case when \"K\" is null then 'none' else upper(s) end as \"Up\""]);
    assert_eq!(
        project.answer(&spec, "select * from t").await,
        "| tens | s | Up   |\n|      | c | none |\n| 10   | a | A    |\n| 20   | b | B    |"
    );
    assert_eq!(project.answer(&spec, "select s from t where tens = 20").await, "| s |\n| b |");
    assert_eq!(project.answer(&spec, "select count(*) as n, count(tens) as t from t").await, "| n | t |\n| 3 | 2 |");
    assert_eq!(project.answer(&spec, "select \"Up\" from t where s = 'a' limit 1").await, "| Up |\n| A  |");
    let pinned = project.pin_spec(&spec).await;
    assert_eq!(pinned.components()["schema"], "tens: Int64, s: Utf8View, Up: Utf8View");
    let resolved = pinned.resolved_projection();
    assert!(resolved[0].starts_with("tens: Int64 = ") && resolved[0].contains("10"), "{resolved:?}");
}

#[tokio::test]
async fn they_are_over_the_evolved_columns() {
    let project = Project::new();
    let one = |name: &str, value: i64| parquet(&[(name, Arc::new(Int64Array::from(vec![value])) as ArrayRef)]);
    project.write("a/1", one("old", 1));
    project.write("a/2", one("new", 2));
    let evolution = EvolutionSpec {
        rename: [("old".to_owned(), "new".to_owned())].into(),
        defaults: [("c".to_owned(), json!(5))].into(),
        ..EvolutionSpec::default()
    };
    let spec = DatasetSpec { evolution: Some(evolution), ..projected(&["new + c as sum"]) };
    assert_eq!(project.answer(&spec, "select * from t where sum > 6").await, "| sum |\n| 7   |");
}

#[tokio::test]
async fn filters_on_plain_columns_still_leave_out_files() {
    let project = Project::new();
    for p in [1, 2] {
        project.write(&format!("d/p={p}/f.csv"), format!("k\n{p}0\n"));
    }
    let spec = DatasetSpec {
        partition_columns: columns(&[("p", "Int64")]),
        projection_exprs: vec!["p as part".to_owned(), "k + p as sum".to_owned()],
        ..dataset(Csv, "d")
    };
    assert_eq!(project.answer(&spec, "select sum from t where part = 2").await, "| sum |\n| 22  |");
    let plan = project.ctx.sql("select sum from t where part = 2").await.unwrap();
    let plan = displayable(plan.create_physical_plan().await.unwrap().as_ref()).indent(true).to_string();
    assert!(plan.contains("p=2") && !plan.contains("p=1"), "{plan}");
    assert_eq!(project.answer(&spec, "select part from t where sum = 11").await, "| part |\n| 1    |");
}

#[tokio::test]
async fn what_does_not_depend_on_one_row_alone_is_refused() {
    let project = project();
    let foreign = create_udf(
        "upper",
        vec![DataType::Utf8View],
        DataType::Utf8View,
        Volatility::Immutable,
        Arc::new(|_| Ok(ColumnarValue::Scalar(ScalarValue::Utf8View(None)))),
    );
    for (expressions, expected) in [
        (&["\"K\" + 1"][..], "has no name: write `\"K\" + 1 as NAME`"),
        (&["s", "upper(s) as s"], "is called `s`"),
        (&["z as y"], "cannot be planned over the columns [\"K\", \"s\"]"),
        (&["K as y"], "cannot be planned"),
        (&["s as"], "cannot be planned"),
        (&["random() as r"], "calls `random`, whose value is not always the same"),
        (&["now() as n"], "calls `now`"),
        (&["current_date as n"], "calls `current_date`"),
        (&["sum(\"K\") as n"], "holds an aggregate"),
        (&["row_number() over (order by s) as n"], "holds a window function"),
    ] {
        let error = project.unpinnable(&projected(expressions)).await;
        assert!(error.contains(expected), "{expressions:?}: {error}");
    }
    for subquery in ["(select 1) as n", "s in (select 'a') as n", "exists (select 1) as n"] {
        project.unpinnable(&projected(&[subquery])).await;
    }
    project.ctx.register_udf(foreign);
    let error = project.unpinnable(&projected(&["upper(s) as u"])).await;
    assert!(error.contains("which is none of the engine's functions"), "{error}");
}
