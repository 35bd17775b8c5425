//! Plans as Substrait: what is carried gives the same rows, its bytes are the same in every process, and what is not carried
//! has a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::ProfileSpec;
use alluvium_plans::{NotCarried, SubstraitPlan, plan_view};
use alluvium_profile::{Query, RuntimeProfile, Session, SessionFactory};
use alluvium_runs::OpenOptions;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use insta::assert_snapshot;
use proptest::prelude::*;

use crate::lab::{Lab, batches};
use crate::tpch;

fn session() -> Session {
    let spec = ProfileSpec { target_partitions: Some(1), ..ProfileSpec::default() };
    SessionFactory::new(RuntimeProfile::from(&spec)).build().unwrap()
}

fn register(session: &Session, name: &str, batches: Vec<RecordBatch>) {
    register_as(session, name, batches[0].schema(), batches);
}

fn register_as(session: &Session, name: &str, schema: SchemaRef, batches: Vec<RecordBatch>) {
    let table = MemTable::try_new(schema, vec![batches]).unwrap();
    #[expect(clippy::disallowed_methods, reason = "rows in memory, not a dataset")]
    session.context().register_table(name, Arc::new(table)).unwrap();
}

/// TPC-H's tables, in memory.
async fn tpch() -> Session {
    let session = session();
    let lab = tpch::generated();
    let pipeline = lab.open();
    for (table, _) in tpch::TPCH {
        register(&session, table, batches(&pipeline, &format!("select * from {table}")).await);
    }
    session
}

async fn rows(session: &Session, query: impl Into<Query>) -> BTreeSet<String> {
    let batches = session.execute(query).await.unwrap().collect().await.unwrap();
    let table = pretty_format_batches(&batches).unwrap().to_string();
    // As a set: what no ORDER BY decides may come in any order. A row that is there twice says so.
    let mut seen = BTreeMap::<&str, usize>::new();
    for line in table.lines() {
        *seen.entry(line).or_default() += 1;
    }
    seen.iter().map(|(line, times)| format!("{times} {line}")).collect()
}

async fn written(session: &Session, sql: &str) -> Result<SubstraitPlan, NotCarried> {
    let plan = session.plan_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).plan;
    SubstraitPlan::of(session, &plan).await
}

/// One line: the digest of the bytes, and whether the plan that is read back is the same computation to a cache; or why it is
/// not carried. Its rows have been compared.
async fn told(session: &Session, sql: &str) -> String {
    let plan = match written(session, sql).await {
        Ok(plan) => plan,
        Err(refused) => return format!("not carried: {}", refused.reason()),
    };
    for _ in 0..5 {
        assert_eq!(written(session, sql).await.unwrap(), plan, "{sql}");
    }
    let query = Query::Substrait(plan.as_bytes().to_vec());
    assert_eq!(rows(session, query.clone()).await, rows(session, sql).await, "{sql}");
    let inputs = BTreeMap::new();
    let fingerprints = [
        plan_view(session, "v", sql, &inputs).await.unwrap().identity().plan_fingerprint,
        plan_view(session, "v", query, &inputs).await.unwrap().identity().plan_fingerprint,
    ];
    let same = if fingerprints[0] == fingerprints[1] { "the same computation" } else { "another computation" };
    format!("{} {} bytes, {same}", plan.hash(), plan.as_bytes().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_what_substrait_carries_of_tpch() {
    let session = tpch().await;
    let mut text = String::new();
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("tpch");
    let mut answered = 0;
    for query in 1..=22 {
        let name = format!("q{query:02}");
        let sql = std::fs::read_to_string(queries.join(format!("{name}.sql"))).unwrap();
        answered += usize::from(rows(&session, &sql).await.len() > 2);
        writeln!(text, "{name}: {}", told(&session, &sql).await).unwrap();
    }
    for (name, sql) in OTHERS {
        writeln!(text, "{name}: {}", told(&session, sql).await).unwrap();
    }
    assert_snapshot!(text);
    assert!(answered >= 10, "only {answered} queries find rows: comparing nothing shows nothing");
}

const OTHERS: &[(&str, &str)] = &[
    (
        "one table inside itself",
        "select o.o_orderkey from orders as o where exists (select 1 from orders as i \
         where i.o_custkey = o.o_custkey and i.o_orderkey > o.o_orderkey)",
    ),
    (
        "two queries inside",
        "select c_custkey from customer as c where exists (select 1 from orders as o where o.o_custkey = c.c_custkey \
         and exists (select 1 from lineitem as l where l.l_orderkey = o.o_orderkey and l.l_linenumber > 3))",
    ),
    (
        "windows",
        "select o_orderkey, sum(o_custkey) over (order by o_orderkey rows 2 preceding) as s, \
      count(*) over (partition by o_orderstatus) as n from orders",
    ),
    (
        "rollup",
        "select o_orderstatus, o_orderpriority, count(*) as n from orders group by rollup (o_orderstatus, o_orderpriority)",
    ),
    ("union of three", "select 1 as n union all select 2 union all select 3"),
    ("join using", "select o_orderkey, a.o_custkey from orders as a join orders as b using (o_orderkey)"),
    ("unnest", "select unnest([1, 2]) as n"),
    ("distinct on", "select distinct on (o_custkey) o_custkey, o_orderkey from orders order by 1, 2"),
    ("recursion", "with recursive r as (select 1 as n union all select n + 1 from r where n < 3) select * from r"),
    (
        "lateral",
        "select * from orders as o, lateral (select max(l_tax) from lineitem where l_orderkey = o.o_orderkey) as l",
    ),
    ("similar to", "select o_orderkey from orders where o_comment similar to 's%'"),
    ("ignore nulls", "select first_value(o_custkey) ignore nulls over (order by o_orderkey) as f from orders"),
    ("filter over", "select sum(o_custkey) filter (where o_orderkey > 3) over (order by o_orderkey) as f from orders"),
    (
        "range of days",
        "select sum(o_custkey) over (order by o_orderdate range interval '6' day preceding) as f from orders",
    ),
    ("groups", "select sum(o_custkey) over (order by o_orderdate groups 1 preceding) as f from orders"),
    ("zone", "select arrow_cast(o_orderdate, 'Timestamp(Microsecond, Some(\"Europe/Berlin\"))') as f from orders"),
    ("long interval", "select o_orderdate + interval '900000 hours' as f from orders"),
    ("table function", "select * from generate_series(1, 3)"),
    ("one grouping set", "select o_custkey, count(*) as n from orders group by grouping sets ((o_custkey))"),
];

#[tokio::test(flavor = "multi_thread")]
async fn golden_what_substrait_carries_of_flights() {
    let root = tempfile::tempdir().unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/flights");
    let options = OpenOptions { cache_root: Some(root.path().to_owned()), ..OpenOptions::default() };
    let pipeline = Lab::open_with(&project, options);
    let session = session();
    for name in ["flights", "airports"] {
        register(&session, name, batches(&pipeline, &format!("select * from {name} limit 3000")).await);
    }
    let mut text = String::new();
    for view in [
        "flights_clean",
        "airports_clean",
        "data_quality",
        "route_delays",
        "route_ranking",
        "hour_delays",
        "airport_days",
        "airport_rolling_delays",
        "airport_scorecard",
        "month_delays",
    ] {
        let sql = std::fs::read_to_string(project.join(format!("views/{view}.sql"))).unwrap();
        writeln!(text, "{view}: {}", told(&session, &sql).await).unwrap();
        let frame = session.execute(&*sql).await.unwrap();
        let schema = Arc::clone(frame.schema().inner());
        register_as(&session, view, schema, frame.collect().await.unwrap());
    }
    assert_snapshot!(text);
}

/// A table that has the name of another is another table.
#[tokio::test]
async fn a_table_that_was_replaced_is_not_written_by_its_name() {
    let session = tpch().await;
    let plan = session.plan_query("select o_orderkey from orders").await.unwrap().plan;
    SubstraitPlan::of(&session, &plan).await.unwrap();
    session.context().deregister_table("orders").unwrap();
    let refused = SubstraitPlan::of(&session, &plan).await.unwrap_err();
    assert!(matches!(&refused, NotCarried::Table { table } if table == "orders"), "{refused}");
    let keys = Arc::new(Int64Array::from(vec![1, 2, 3]));
    register(&session, "orders", vec![RecordBatch::try_from_iter([("o_orderkey", keys as _)]).unwrap()]);
    let refused = SubstraitPlan::of(&session, &plan).await.unwrap_err();
    assert!(matches!(&refused, NotCarried::Table { table } if table == "orders"), "{refused}");
}

/// Expressions over `orders`, some of which Substrait does not carry.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("o_orderkey".to_owned()),
        Just("o_custkey".to_owned()),
        Just("length(o_comment)".to_owned()),
        Just("o_totalprice".to_owned()),
        Just("null".to_owned()),
        any::<i8>().prop_map(|n| n.to_string()),
        any::<u32>().prop_map(|n| format!("{n}.5")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), prop_oneof!["\\+", "-", "\\*"], inner.clone())
                .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("case when {a} > {b} then {b} when {b} is null then {c} end")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!(
                "case when {a} not between {b} and {c} or not {a} in ({b}, {c}) then {a} end"
            )),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
            inner.clone().prop_map(|a| format!("abs(- {a})")),
            inner.clone().prop_map(|a| format!("cast({a} as decimal(30, 3))")),
            inner.prop_map(|a| format!(
                "(select max(l_orderkey) from lineitem where l_orderkey < {a} and l_linenumber < 3)"
            )),
        ]
    })
}

/// Queries with everything that moves columns about.
fn query() -> impl Strategy<Value = String> {
    let shape = prop_oneof![
        Just("select {a} as x, {b} as y from orders where {c} > 1 or {a} is null"),
        Just("select {a} as x, count(*) as n, sum(o_custkey) as s from orders group by {a} having count(*) > 0"),
        Just(
            "select {a} as x, sum(o_custkey) over (partition by o_orderstatus order by {b}, o_orderkey) as r from orders"
        ),
        Just("select {a} as x from orders union all select {a} as x from orders where {b} > 0"),
        Just("select distinct {a} as x, {b} as y from orders"),
        Just(
            "select o_orderkey, {a} as x from orders where o_orderkey in (select l_orderkey from lineitem where l_linenumber > 2)"
        ),
        Just(
            "select o_orderkey, {a} as x from orders left join lineitem on o_orderkey = l_orderkey and l_linenumber < 2"
        ),
        Just("select x from (select {a} as x, {b} as y, o_orderkey from orders order by y, o_orderkey limit 7) as q"),
    ];
    (shape, expression(), expression(), expression())
        .prop_map(|(shape, a, b, c)| shape.replace("{a}", &a).replace("{b}", &b).replace("{c}", &c))
}

/// Whatever is carried gives the rows of the SQL, and the same bytes each time.
#[test]
fn random_queries_give_the_same_rows_or_are_not_carried() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let session = runtime.block_on(tpch());
    let cases = std::env::var("ALLUVIUM_SUBSTRAIT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60);
    let carried = std::cell::Cell::new(0);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(sql in query())| {
        runtime.block_on(async {
            // What does not plan or overflows is no case.
            let Ok(planned) = session.plan_query(&sql).await else { return };
            let Ok(frame) = session.execute(&sql).await else { return };
            if frame.collect().await.is_err() {
                return;
            }
            match SubstraitPlan::of(&session, &planned.plan).await {
                Ok(plan) => {
                    carried.set(carried.get() + 1);
                    assert_eq!(SubstraitPlan::of(&session, &planned.plan).await.unwrap(), plan);
                    let query = Query::Substrait(plan.as_bytes().to_vec());
                    // The engine folds a NULL in what it sorts by, and not in what it then requires: it refuses that itself.
                    let frame = session.execute(query.clone()).await.unwrap();
                    if frame.collect().await.is_err_and(|error| error.to_string().contains("SanityCheckPlan")) {
                        return;
                    }
                    assert_eq!(rows(&session, query).await, rows(&session, &sql).await);
                }
                Err(refused) => assert!(!refused.reason().is_empty()),
            }
        });
    });
    assert!(carried.get() * 3 > cases, "{} of {cases} are carried", carried.get());
}

/// What the tests of the command line ask. Written by another process on another day, so its bytes are those of every process.
#[tokio::test(flavor = "multi_thread")]
async fn the_plan_that_the_command_line_is_asked_is_written_alike_today() {
    let dir = tempfile::tempdir().unwrap();
    alluvium_runs::scaffold(dir.path()).unwrap();
    let session = session();
    register(&session, "orders_clean", batches(&Lab::open_at(dir.path()), "select * from orders_clean").await);
    let sql = "select customer, count(*) as orders, sum(amount_cents) as cents from orders_clean \
               where amount_cents > 0 group by customer order by cents desc, customer";
    let plan = written(&session, sql).await.unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("substrait/customers.substrait");
    if std::env::var_os("ALLUVIUM_WRITE_SUBSTRAIT").is_some() {
        std::fs::write(&file, plan.as_bytes()).unwrap();
    }
    assert_eq!(std::fs::read(&file).unwrap(), plan.as_bytes(), "set ALLUVIUM_WRITE_SUBSTRAIT to write it anew");
}
