//! Lineage of hand-written queries, as text: what a reviewer reads when it changes. That nothing is missing is shown by
//! running random queries, in the workspace's tests.

use std::fmt::Write as _;
use std::sync::Arc;

use alluvium_contracts::{DirectInput, ProfileSpec};
use alluvium_profile::{RuntimeProfile, Session, SessionFactory};
use datafusion::arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::ViewRef;

/// `t (a, b, c, xs: list, s: struct of p, q)` and `u (a, e, f)`.
fn session() -> Session {
    let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let list = DataType::List(Arc::new(number("item")));
    let pair = DataType::Struct(vec![number("p"), number("q")].into());
    let tables = [
        ("t", vec![number("a"), number("b"), number("c"), Field::new("xs", list, true), Field::new("s", pair, true)]),
        ("u", vec![number("a"), number("e"), number("f")]),
    ];
    for (name, fields) in tables {
        let table = Arc::new(ViewRef::new(name, Arc::new(Schema::new(fields))));
        #[expect(clippy::disallowed_methods, reason = "an empty table to plan over, not a dataset")]
        session.context().register_table(name, table).unwrap();
    }
    session
}

async fn of(session: &Session, sql: &str) -> LineageSummary {
    let planned = session.plan_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    lineage(&planned.plan)
}

fn indirect(inputs: &[IndirectInput]) -> String {
    inputs.iter().map(|i| format!(" {}.{}:{}", i.table, i.column, i.influence)).collect()
}

fn text(summary: &LineageSummary) -> String {
    let mut text = String::new();
    for column in &summary.columns {
        let direct = |i: &DirectInput| format!(" {}.{}:{}", i.table, i.column, i.transformation);
        let inputs: String = column.inputs.iter().map(direct).collect();
        write!(text, "  {} = {}{inputs}", column.column, column.transformation).unwrap();
        if !column.indirect.is_empty() {
            write!(text, " |{}", indirect(&column.indirect)).unwrap();
        }
        text.push('\n');
    }
    writeln!(text, "  rows{}", indirect(&summary.rows)).unwrap();
    text
}

const QUERIES: &[(&str, &str)] = &[
    ("projections and aliases", "select a, b as x, a + b as y, 1 as one, cast(c as text) as z from t"),
    ("inner columns that nothing uses", "select y from (select a as x, b as y, c / a as w from t where c > 0) as q"),
    ("a CASE", "select case when a > 0 then b else c end as x, case a when b then 1 else 2 end as y from t"),
    ("a join", "select t.b, u.e from t join u on t.a = u.a and t.b < u.f"),
    ("a join by commas", "select t.b, u.e from t, u where t.a = u.a and u.f = 3"),
    ("USING", "select a, b, e from t join u using (a)"),
    ("a full join with USING", "select * exclude (xs, s, c, f) from t full join u using (a)"),
    ("semi and anti joins", "select b from t left semi join u on t.a = u.a where c not in (select f from u)"),
    (
        "an aggregate",
        "select a + 1 as k, sum(b) as s, count(*) as n from t where c > 0 group by a + 1 having max(b) > 1",
    ),
    (
        "an aggregate's own filter and order",
        "select sum(b) filter (where c > 0) as s, array_agg(b order by a) as l from t",
    ),
    ("an aggregate over nothing", "select count(*) as n from t"),
    ("grouping sets", "select a, b, grouping(a) as g, sum(c) as s from t group by rollup (a, b)"),
    ("windows", "select a, sum(b) over (partition by c order by a) as w, row_number() over (order by b) as r from t"),
    (
        "the top of each group",
        "with r as (select a, row_number() over (partition by b order by c) as n from t) select a from r where n = 1",
    ),
    ("DISTINCT", "select distinct a, b from t"),
    ("DISTINCT ON", "select distinct on (a) a, b from t order by a, c"),
    ("ORDER BY and LIMIT", "select a from t order by b limit 3"),
    ("UNION ALL", "select a, b from t union all select e, 7 from u where f > 0"),
    ("UNION", "select a from t union select e from u"),
    ("INTERSECT", "select a from t intersect select e from u"),
    ("EXCEPT", "select a from t except select e from u"),
    (
        "a CTE used twice",
        "with c as (select a, sum(b) as s from t group by a) select x.s as x, y.s as y from c x join c y on x.a = y.a",
    ),
    ("a scalar subquery", "select a, (select max(e) from u where f > 0) as m from t"),
    ("a correlated scalar subquery", "select b, (select max(e) from u where u.a = t.a) as m from t"),
    (
        "correlated over two levels",
        "select b, (select max(e) from u where exists (select 1 from t as i where i.b = u.f and i.c = t.c)) as m from t",
    ),
    ("EXISTS", "select b from t where exists (select 1 from u where u.a = t.a and u.f > 0)"),
    ("IN", "select b in (select e from u where f > 0) as x from t"),
    ("ANY", "select b from t where a > any (select e from u)"),
    ("a lateral join", "select t.b, l.m from t, lateral (select max(e) as m from u where u.a = t.a) as l"),
    (
        "a derived table that looks past what it is joined with",
        "select o.a from (select a, b as x from t) as o where exists (select 1 from (select e as x from u) as o join (select f from u where f = o.x) as z on z.f > 0)",
    ),
    ("unnest", "select a, unnest(xs) as x from t"),
    ("fields of a struct", "select s['p'] as p, unnest(s) from t"),
    ("values", "select column1 as x, column2 + 1 as y from (values (1, 2), (3, 4))"),
    ("values over a query", "select v.x from t, lateral (values (t.a), (t.b)) as v(x)"),
    ("a CTE with the name of a table", "with u as (select b as e, a from t) select e from u where a > 0"),
    (
        "CTEs inside CTEs, of swapped names",
        "with x as (with y as (select a as b, b as a from t where c > 0) select a + 1 as b, b as a from y) select b from x where a = 1",
    ),
    (
        "USING, twice",
        "select t.a, b, x.e, y.f from t join (select a, e from u) as x using (a) left join (select a, f from u) as y using (a)",
    ),
    ("NATURAL JOIN", "select b, e from (select a, b from t) natural join (select a, e from u)"),
    (
        "all columns of a join, renamed",
        "select * from (select t.a as ta, u.a as ua, t.b, u.e from t join u on t.c = u.f)",
    ),
    ("a subquery in a condition of a join", "select b, e from t join u on t.a = u.a and u.f > (select min(c) from t)"),
    (
        "a window over aggregates",
        "select a, rank() over (partition by max(c) order by sum(b) desc) as r from t group by a",
    ),
    ("QUALIFY", "select a from t qualify row_number() over (partition by b order by c) = 1"),
    ("a window's default", "select lag(b, 1, c) over (order by a) as x from t"),
    ("a scalar subquery beside a column of its name", "select a + (select max(a) from u where u.e = t.b) as a from t"),
    (
        "aliases of derived tables that swap two names",
        "select o.b from (select b, a from t) as o join (select a as b, e as a from u) as p on o.a = p.b",
    ),
    (
        "a recursive CTE",
        "with recursive r as (select a as n, b as m, c as o from t union all select n + 1, o, m from r where n < 9) select m from r",
    ),
    (
        "a recursive CTE without repeats",
        "with recursive r as (select a as n from t union select e from u join r on u.a = r.n) select n from r",
    ),
];

#[tokio::test]
async fn golden_lineage_of_every_kind_of_query() {
    let session = session();
    let mut golden = String::new();
    for (what, sql) in QUERIES {
        writeln!(golden, "{what}\n  {sql}\n{}", text(&of(&session, sql).await)).unwrap();
    }
    insta::assert_snapshot!(golden);
}

#[tokio::test]
async fn the_summary_lists_what_influences_the_result() {
    let sql = "with j as (select t.a, t.b, u.e, t.c, u.f from t join u on t.a = u.a)
               select e, sum(b) as s, max(abs(c)) over (partition by e) as w from j where f > 0 group by e, c";
    let summary = of(&session(), sql).await;
    let refs = |refs: &[ColumnRef]| refs.iter().map(|r| format!("{}.{}", r.table, r.column)).collect::<Vec<_>>();
    assert_eq!(summary.tables, ["t", "u"]);
    assert_eq!(summary.required_columns["t"], ["a", "b", "c"]);
    assert_eq!(summary.required_columns["u"], ["a", "e", "f"]);
    assert_eq!(refs(&summary.join_keys), ["t.a", "u.a"]);
    assert_eq!(refs(&summary.filter_columns), ["u.f"]);
    assert_eq!(refs(&summary.group_keys), ["t.c", "u.e"]);
    assert_eq!(refs(&summary.window_keys), ["u.e"]);
    assert_eq!(summary.functions, ["abs", "max", "sum"]);
}

#[tokio::test]
async fn a_table_is_named_even_if_no_column_of_it_is_needed() {
    let summary = of(&session(), "select 1 as x from t cross join u").await;
    assert_eq!(summary.tables, ["t", "u"]);
    assert!(summary.required_columns.values().all(Vec::is_empty) && summary.required_columns.len() == 2);
}

#[tokio::test]
async fn golden_open_lineage_facet() {
    let sql = "select t.b, a + sum(a) over () as both, case when c > 0 then f end as x
               from t join u using (a) where c > 1";
    let facet = open_lineage_facet(&of(&session(), sql).await, "warehouse");
    insta::assert_json_snapshot!(facet);
}
