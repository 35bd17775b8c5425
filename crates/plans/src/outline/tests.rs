//! What is said of edits of queries.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use alluvium_contracts::{CacheKey, ProfileSpec, Stability};
use alluvium_profile::{RuntimeProfile, Session, SessionFactory};
use datafusion::arrow::datatypes::{DataType, Field, Schema};

use crate::{Earlier, Input, Outline, PlanBundle, ViewRef, explain, plan_view};

fn session() -> Session {
    let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    let field = |name: &str, of| Field::new(name, of, true);
    let list = DataType::List(Arc::new(field("item", DataType::Int64)));
    let tables = [
        (
            "orders",
            vec![
                field("customer", DataType::Int64),
                field("amount", DataType::Float64),
                field("status", DataType::Utf8),
                field("tags", list),
            ],
        ),
        ("customers", vec![field("id", DataType::Int64), field("name", DataType::Utf8)]),
    ];
    for (name, fields) in tables {
        let table = Arc::new(ViewRef::new(name, Arc::new(Schema::new(fields))));
        #[expect(clippy::disallowed_methods, reason = "an empty table to plan over, not a dataset")]
        session.context().register_table(name, table).unwrap();
    }
    session
}

async fn plan(session: &Session, sql: &str) -> PlanBundle {
    let inputs = ["orders", "customers"].map(|name| {
        let input = Input::View { key: Some(CacheKey::of(name.as_bytes())), stability: Stability::Exact };
        (name.to_owned(), input)
    });
    let planned = plan_view(session, "v", sql, &BTreeMap::from(inputs)).await;
    planned.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

async fn why(session: &Session, before: &str, after: &str) -> Vec<String> {
    let (before, after) = (plan(session, before).await, plan(session, after).await);
    let outline = before.outline();
    let key = before.cache_key().unwrap();
    let earlier = Earlier { key, components: before.components(), outline: outline.as_ref() };
    explain([earlier], after.cache_key(), after.components(), || after.outline()).lines()
}

const TOTALS: &str = "select customer, sum(amount) as total from orders where status = 'paid' group by customer";
const NAMED: &str = "select o.amount, c.name from orders as o join customers as c on o.customer = c.id";

/// An edit, and the query before and after it.
const EDITS: &[(&str, &str, &str)] = &[
    (
        "a column is added",
        TOTALS,
        "select customer, sum(amount) as total, count(*) as n from orders where status = 'paid' group by customer",
    ),
    ("a column is dropped", NAMED, "select o.amount from orders as o join customers as c on o.customer = c.id"),
    (
        "a column is renamed",
        TOTALS,
        "select customer, sum(amount) as spent from orders where status = 'paid' group by customer",
    ),
    (
        "a column is retyped",
        TOTALS,
        "select customer, cast(sum(amount) as bigint) as total from orders where status = 'paid' group by customer",
    ),
    (
        "columns are moved",
        TOTALS,
        "select sum(amount) as total, customer from orders where status = 'paid' group by customer",
    ),
    (
        "another aggregate",
        TOTALS,
        "select customer, max(amount) as total from orders where status = 'paid' group by customer",
    ),
    (
        "another literal in a filter",
        TOTALS,
        "select customer, sum(amount) as total from orders where status = 'sent' group by customer",
    ),
    (
        "a filter more, and one less",
        "select amount from orders where amount > 1 and status = 'paid' and customer is not null",
        "select amount from orders where amount > 1 and status like 'p%' and amount < 9 and customer is not null",
    ),
    (
        "another group key",
        TOTALS,
        "select status as customer, sum(amount) as total from orders where status = 'paid' group by status",
    ),
    (
        "HAVING",
        TOTALS,
        "select customer, sum(amount) as total from orders where status = 'paid' group by customer having sum(amount) > 5",
    ),
    (
        "another join key",
        NAMED,
        "select o.amount, c.name from orders as o join customers as c on o.customer = c.id + 1",
    ),
    ("another join", NAMED, "select o.amount, c.name from orders as o left join customers as c on o.customer = c.id"),
    (
        "a condition of a join",
        NAMED,
        "select o.amount, c.name from orders as o join customers as c on o.customer = c.id and o.amount > 3",
    ),
    ("another table", "select customer as id from orders", "select id from customers"),
    (
        "aliases, and an edit",
        NAMED,
        "select p.amount + 1 as amount, q.name from orders as p join customers as q on p.customer = q.id",
    ),
    ("another function", "select upper(status) as s from orders", "select lower(status) as s from orders"),
    (
        "inside a CTE",
        "with paid as (select customer, amount * 2 as twice from orders where status = 'paid') select customer, sum(twice) as t from paid group by customer",
        "with paid as (select customer, amount * 3 as twice from orders where status = 'paid') select customer, sum(twice) as t from paid group by customer",
    ),
    (
        "inside a subquery",
        "select name from customers as c where exists (select 1 from orders as o where o.customer = c.id and o.amount > 3)",
        "select name from customers as c where exists (select 1 from orders as o where o.customer = c.id and o.amount > 4)",
    ),
    (
        "EXISTS and NOT EXISTS",
        "select name from customers as c where exists (select 1 from orders as o where o.customer = c.id)",
        "select name from customers as c where not exists (select 1 from orders as o where o.customer = c.id)",
    ),
    (
        "a window",
        "select amount, row_number() over (partition by customer order by amount) as n from orders",
        "select amount, row_number() over (partition by status order by amount desc) as n from orders",
    ),
    ("DISTINCT", "select status from orders", "select distinct status from orders"),
    (
        "LIMIT and ORDER BY",
        "select status from orders order by amount limit 3",
        "select status from orders order by amount desc limit 4",
    ),
    ("UNION", "select status from orders", "select status from orders union all select name from customers"),
    (
        "values",
        "select * from (values (1, 'a'), (2, 'b')) as t(x, y)",
        "select * from (values (1, 'a'), (3, 'b')) as t(x, y)",
    ),
    ("unnest", "select unnest(tags) as t from orders", "select unnest(tags) as t, status from orders"),
    (
        "grouping sets",
        "select customer, sum(amount) as s from orders group by rollup (customer)",
        "select customer, sum(amount) as s from orders group by cube (customer)",
    ),
    ("quoted names", "select amount as \"Total\" from orders", "select amount as \"total\" from orders"),
    (
        "put together otherwise",
        "select amount from orders where status = 'a' and customer = 1",
        "select amount from orders where customer = 1 and status = 'a'",
    ),
    (
        "credentials",
        "select status, 'hunter4' as x, max(amount) filter (where status = 'hunter5') as m from orders where status = 'password=hunter2' and amount > 1 group by status",
        "select status, 'hunter6' as x, max(amount) filter (where status = 'hunter7') as m from orders where status = 'password=hunter3' and amount > 2 group by status",
    ),
];

#[tokio::test]
async fn golden_what_is_said_of_an_edit() {
    let session = session();
    let mut golden = String::new();
    for (what, before, after) in EDITS {
        writeln!(golden, "{what}\n  - {before}\n  + {after}").unwrap();
        for line in why(&session, before, after).await {
            assert!(!line.contains("hunter"), "{line}");
            writeln!(golden, "  {line}").unwrap();
        }
        golden.push('\n');
    }
    insta::assert_snapshot!(golden);
}

/// What differs in nothing but aliases is one query, and its outline is one.
#[tokio::test]
async fn aliases_leave_no_trace() {
    let session = session();
    let aliased =
        "select x.amount, y.name from (select * from orders as z) as x join customers as y on x.customer = y.id";
    let (one, other) = (plan(&session, NAMED).await, plan(&session, aliased).await);
    assert_eq!(one.outline(), other.outline());
    assert!(one.outline().is_some());
}

#[tokio::test]
async fn it_is_kept_and_read_again() {
    let session = session();
    for (_, before, after) in EDITS {
        for sql in [before, after] {
            let outline = plan(&session, sql).await.outline().unwrap();
            let kept = serde_json::to_string(&outline).unwrap();
            assert_eq!(serde_json::from_str::<Outline>(&kept).unwrap(), outline, "{sql}");
            assert!(!kept.contains("hunter"), "{kept}");
        }
    }
}

/// However much is edited, and however long it is.
#[tokio::test]
async fn what_is_said_is_bounded() {
    let session = session();
    let columns = |from: usize, to: usize| {
        let columns: Vec<String> = (from..to).map(|n| format!("amount + {n} as c{n}")).collect();
        format!("select {} from orders", columns.join(", "))
    };
    let (before, after) = (columns(0, 100), columns(50, 180));
    let lines = why(&session, &before, &after).await;
    assert_eq!((lines.len(), lines.last().unwrap().as_str()), (33, "98 more changes of the query"), "{lines:?}");

    let long = |word: &str| format!("select amount from orders where status = '{}{word}'", "x".repeat(5_000));
    let lines = why(&session, &long("a"), &long("b")).await;
    assert!(lines.len() == 1 && lines[0].starts_with("filter: status = 'xx") && lines[0].len() < 400, "{lines:?}");

    let huge = columns(0, 4_000);
    assert!(plan(&session, &huge).await.outline().is_none());
    let lines = why(&session, NAMED, &huge).await;
    assert!(
        lines.contains(&"what of the query changed is not known: the query is too large to be compared".to_owned()),
        "{lines:?}"
    );
}
