//! The boundary of a view: `none`, `memory` and `delta_staging` give equal rows and schemas.

use std::sync::Arc;

use alluvium_contracts::RunResult;
use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use arrow::util::pretty::pretty_format_batches;
use parquet::arrow::ArrowWriter;

use crate::lab::{Lab, batches, results};

fn awkward() -> RecordBatch {
    let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![Some(1), None, Some(i64::MAX as u64)]));
    let instants: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(1_000), None, Some(-5_000)]));
    let zoned: ArrayRef =
        Arc::new(TimestampNanosecondArray::from(vec![Some(0), Some(2_000), None]).with_timezone("Europe/Vienna"));
    let words: ArrayRef =
        Arc::new(vec![Some("x"), None, Some("y")].into_iter().collect::<DictionaryArray<Int32Type>>());
    let money = arrow::array::Decimal128Array::from(vec![Some(12_345), Some(-1), None]);
    let money: ArrayRef = Arc::new(money.with_precision_and_scale(20, 2).unwrap());
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]));
    let inner: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None, Some(9)]));
    let pairs: ArrayRef = Arc::new(StructArray::from(vec![(Arc::new(Field::new("i", DataType::Int32, true)), inner)]));
    let nothing: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>, None, None]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.0), None]));
    let columns = [
        ("unsigned", unsigned),
        ("instants", instants),
        ("zoned", zoned),
        ("words", words),
        ("money", money),
        ("lists", lists),
        ("pairs", pairs),
        ("nothing", nothing),
        ("floats", floats),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn lab(cache: &str) -> Lab {
    let lab = Lab::new(&format!(
        "[sources.raw]\nformat = \"parquet\"\npath = \"raw.parquet\"\n\
         [views.typed]\ncache = \"{cache}\"\nsql = \"select *, null as void from raw\"\n\
         [views.reader]\nsql = \"select * from typed\"\n"
    ));
    let batch = awkward();
    let file = std::fs::File::create(lab.path("raw.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_agree_on_awkward_types_golden() {
    let mut seen = Vec::new();
    for cache in ["none", "memory", "delta_staging"] {
        let lab = lab(cache);
        let document = lab.run().await;
        assert_eq!(document.result, RunResult::Succeeded, "{cache}: {document:#?}");
        for view in ["typed", "reader"] {
            let pipeline = lab.open();
            let rows = batches(&pipeline, &format!("select * from {view} order by unsigned nulls last")).await;
            let text = format!("{:#?}\n{}", rows[0].schema(), pretty_format_batches(&rows).unwrap());
            seen.push((cache, view, text));
        }
    }
    for (cache, view, text) in &seen {
        assert_eq!(text, &seen[0].2, "{cache} {view}");
    }
    insta::assert_snapshot!(seen[0].2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_would_be_lost_is_an_error_under_every_policy() {
    for cache in ["none", "memory", "delta_staging"] {
        let lab = lab(cache);
        lab.edit(
            "alluvium.toml",
            "select *, null as void from raw",
            "select arrow_cast('18446744073709551615', 'UInt64') as big from raw",
        );
        let document = lab.run().await;
        assert_eq!(document.result, RunResult::Failed, "{cache}: {document:#?}");
        let reasons: Vec<_> = document.views.iter().filter_map(|view| view.reason.clone()).collect();
        assert!(reasons.iter().any(|reason| reason.contains("`big`")), "{cache}: {reasons:?}");
        assert!(results(&document).iter().any(|result| result.ends_with(": error")), "{cache}");
    }
}

/// Parquet's minima and maxima leave NaN out, and the engine orders it above every number: a filter over a cached view
/// must not lose it.
#[tokio::test(flavor = "multi_thread")]
async fn nan_is_found_under_every_policy() {
    for cache in ["none", "memory", "delta_staging"] {
        let lab = Lab::new(&format!(
            "[sources.raw]\nformat = \"csv\"\npath = \"raw.csv\"\n\
             [views.typed]\ncache = \"{cache}\"\n\
             sql = \"select case when p = 3 then cast('NaN' as double) else cast(p as double) end as x from raw\"\n\
             [views.found]\nsql = \"select count(*) as n from typed where x > 50\"\n"
        ));
        lab.write("raw.csv", "p\n1\n2\n3\n4\n");
        assert_eq!(lab.run().await.result, RunResult::Succeeded);
        let found = lab.sql("select n from found").await;
        assert!(found.contains("| 1 |"), "{cache}:\n{found}");
    }
}

/// Delta's statistics leave NaN out too.
#[tokio::test(flavor = "multi_thread")]
async fn nan_is_found_in_a_delta_table() {
    let lab = Lab::new(
        "[views.numbers]\nsql = \"select * from (values (1, 1.0), (2, cast('NaN' as double))) as v(k, f)\"\n\
         [outputs.numbers]\nview = \"numbers\"\npath = \"table\"\n",
    );
    assert_eq!(lab.run().await.result, RunResult::Succeeded);
    lab.write("alluvium.toml", "[sources.t]\nformat = \"delta\"\npath = \"table\"\n");
    for filter in
        ["f <> 1.0", "f > 5", "not (f <= 1.0)", "f = cast('NaN' as double)", "f > 5 and k > 1", "f > 5 or k > 7"]
    {
        let found = lab.sql(&format!("select k from t where {filter}")).await;
        assert!(found.contains("| 2 |"), "{filter}: {found}");
    }
    assert!(lab.sql("select count(*) as n from t where k = 1").await.contains("| 1 |"));
}

/// A computed view inside a reader's plan is a plan that is finished: optimised again, this one fails in the engine.
#[tokio::test(flavor = "multi_thread")]
async fn a_computed_view_is_not_optimised_twice() {
    let lab = Lab::new(
        "[sources.u]\nformat = \"csv\"\npath = \"u.csv\"\n\
         [views.v]\ncache = \"none\"\nsql = \"select a, lag(b) over (order by a, b) as b from \
         (values (1, 2), (3, 4), (20, 3)) as z(a, b) where exists (select 1 from u where k = z.a)\"\n\
         [views.w]\nsql = \"select * from v\"\n",
    );
    lab.write("u.csv", "k,q\n1,1\n3,1\n5,2\n7,2\n9,1\n20,2\n");
    let document = lab.run().await;
    assert_eq!(document.result, RunResult::Succeeded, "{document:#?}");
    assert!(lab.sql("select count(*) as n from w").await.contains("| 3 |"));
}

/// The partitions of a join wait for each other: whoever counts a view's rows has to poll them all.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_nobody_reads_is_counted() {
    let lab = Lab::new(
        "[sources.u]\nformat = \"parquet\"\npath = \"u.parquet\"\n\
         [views.joined]\ncache = \"none\"\nsql = \"with t as (select s, max(k) as k from u group by s) \
         select t.k, o.s from t join u as o on o.s = t.s\"\n",
    );
    lab.parquet("u.parquet", &[]);
    let run = tokio::time::timeout(std::time::Duration::from_secs(60), lab.run()).await.expect("the run hangs");
    assert_eq!(run.views[0].rows, Some(0));
}

/// The engine's clock has nanoseconds; what is published has microseconds.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_query_is_published() {
    let lab = Lab::new(
        "[views.v]\nsql = \"select now() as t, current_timestamp as c, now() - interval '1 day' as y\"\n\
         [views.w]\nsql = \"select count(*) as n from v where t > timestamp '2020-01-01T00:00:00Z' and t = c\"\n",
    );
    let document = lab.run().await;
    assert_eq!(document.result, RunResult::Succeeded, "{document:#?}");
    assert!(document.views.iter().all(|view| view.reason.as_ref().is_some_and(|why| why.contains("uncacheable"))));
    assert!(lab.sql("select n from w").await.contains("| 1 |"));
}

/// What two executions of one key may differ in, and why.
#[tokio::test(flavor = "multi_thread")]
async fn stability_golden() {
    let queries = [
        "select count(*) as a, sum(k) as b, min(s) as c, max(k) as d from u",
        "select max(f) as a from u",
        "select k, min(f) as a from u group by k",
        "select sum(f) as a from u",
        "select sum(cast(k as decimal(10, 2))) as a from u",
        "select array_agg(k) as a from u",
        "select k from u limit 1",
        "select k, row_number() over (order by s) as a from u",
        "select k, rank() over (order by s) as a from u",
    ];
    let mut toml = "[sources.raw]\nformat = \"parquet\"\npath = \"u.parquet\"\n\
                    [views.u]\nsql = \"select k, s, cast(k as double) as f from raw\"\n"
        .to_owned();
    for (index, sql) in queries.iter().enumerate() {
        toml += &format!("[views.v{index}]\nsql = \"{sql}\"\n");
    }
    let lab = Lab::new(&toml);
    lab.parquet("u.parquet", &[(1, "a")]);
    let plan = lab.plan().await;
    let told: Vec<String> = queries
        .iter()
        .enumerate()
        .map(|(index, sql)| {
            let view = plan.views.iter().find(|view| view.name == format!("v{index}")).unwrap();
            format!("{sql}\n    {:?} {}", view.identity.stability, view.identity.reasons.join("; "))
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}
