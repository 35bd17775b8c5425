//! Which tables the pins of a view stand for.

use std::sync::Arc;

use alluvium_contracts::ProfileSpec;
use alluvium_profile::{RuntimeProfile, SessionFactory};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::DataFrame;

use super::*;

/// A table of these keys.
fn table(keys: &[i64]) -> Arc<dyn TableProvider> {
    let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    let batch = RecordBatch::try_from_iter([("k", keys)]).unwrap();
    Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap())
}

fn session(tables: &[(&str, &Arc<dyn TableProvider>)]) -> Session {
    let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    for (name, table) in tables {
        register(&session, name, table);
    }
    session
}

/// In place of what has the name.
#[expect(clippy::disallowed_methods, reason = "tables to plan over, not datasets")]
fn register(session: &Session, name: &str, table: &Arc<dyn TableProvider>) {
    let _ = session.context().deregister_table(TableReference::bare(name)).unwrap();
    session.context().register_table(TableReference::bare(name), Arc::clone(table)).unwrap();
}

/// All of these names are pinned.
fn inputs(names: &[&str]) -> BTreeMap<String, Input> {
    let input = |key| Input::View { key: Some(key), stability: Stability::Exact };
    names.iter().map(|name| ((*name).to_owned(), input(CacheKey::of(name.as_bytes())))).collect()
}

fn scan(name: TableReference, table: &Arc<dyn TableProvider>) -> LogicalPlan {
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::clone(table)), None);
    scan.unwrap().build().unwrap()
}

async fn both(session: &Session, inputs: &BTreeMap<String, Input>, one: LogicalPlan, two: LogicalPlan) -> PlanBundle {
    let plan = LogicalPlanBuilder::from(one).union(two).unwrap().build().unwrap();
    identify(session, "v", plan, inputs).await.unwrap()
}

async fn frame(session: &Session, sql: &str) -> DataFrame {
    session.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

async fn planned(session: &Session, query: impl Into<Query>) -> PlanBundle {
    plan_view(session, "v", query, &inputs(&["orders", "others"])).await.unwrap()
}

const ANOTHER: &str = "orders is not the table that the session has by this name: its content has no identity";

fn assert_reads_another(bundle: &PlanBundle, read: &[&str]) {
    assert_eq!(bundle.cache_key(), None);
    assert_eq!(bundle.identity().reasons, [ANOTHER]);
    // Nor is it said to have the pin of the table that it does not read.
    assert_eq!(bundle.reads(), read);
    let pinned: Vec<&str> = bundle.inputs().iter().map(|input| input.name.as_str()).collect();
    assert_eq!(pinned, read);
}

#[tokio::test]
async fn a_pinned_table_hides_no_other_that_reads_like_it() {
    let (of_name, of_schema) = (table(&[1]), table(&[2]));
    let (session, inputs) = (session(&[("a.b", &of_name)]), inputs(&["a.b"]));
    let pinned = || scan(TableReference::bare("a.b"), &of_name);
    let unpinned = || scan(TableReference::partial("a", "b"), &of_schema);
    let twice = both(&session, &inputs, pinned(), pinned()).await;
    assert!(twice.cache_key().is_some(), "{:?}", twice.identity());
    for (one, two) in [(pinned(), unpinned()), (unpinned(), pinned())] {
        let both = both(&session, &inputs, one, two).await;
        assert_eq!(both.cache_key(), None);
        assert_eq!(both.identity().reasons, ["a.b has no pin: its content has no identity"]);
        assert_eq!(both.reads(), ["a.b"]);
    }
}

#[tokio::test]
async fn a_pinned_table_hides_no_other_of_its_name() {
    let (ours, another) = (table(&[1]), table(&[2]));
    let (session, inputs) = (session(&[("orders", &ours)]), inputs(&["orders"]));
    let of = |table| scan(TableReference::bare("orders"), table);
    let twice = both(&session, &inputs, of(&ours), of(&ours)).await;
    assert!(twice.cache_key().is_some(), "{:?}", twice.identity());
    for (one, two) in [(of(&ours), of(&another)), (of(&another), of(&ours))] {
        assert_reads_another(&both(&session, &inputs, one, two).await, &["orders"]);
    }
    assert_reads_another(&both(&session, &inputs, of(&another), of(&another)).await, &[]);
}

/// Queries that scan `orders`, and what else they scan.
const OF_ORDERS: &[(&str, &[&str])] = &[
    ("select k from orders", &[]),
    ("select o.k from others join orders as o on o.k = others.k", &["others"]),
    ("select k from others where k in (select k from orders)", &["others"]),
    ("select k from others where exists (select 1 from orders where orders.k = others.k)", &["others"]),
    ("select k, (select max(k) from orders) as m from others", &["others"]),
    ("select k from others where k in (select k from others where k > (select min(k) from orders))", &["others"]),
];

#[tokio::test]
async fn another_provider_under_the_same_name_has_no_key() {
    let (orders, others) = (table(&[1]), table(&[1, 2]));
    for (sql, read) in OF_ORDERS {
        let session = session(&[("orders", &orders), ("others", &others)]);
        let early = frame(&session, sql).await;
        let before = planned(&session, early.clone()).await;
        assert!(before.cache_key().is_some(), "{sql}: {:?}", before.identity());

        // The same columns, other rows, and another pin would be in `inputs`.
        register(&session, "orders", &table(&[2, 3]));
        assert_reads_another(&planned(&session, early.clone()).await, read);
        let late = planned(&session, frame(&session, sql).await).await;
        assert!(late.cache_key().is_some(), "{sql}: {:?}", late.identity());
        assert!(planned(&session, *sql).await.cache_key().is_some(), "{sql}");

        // It is what it was made of again.
        register(&session, "orders", &orders);
        assert_eq!(planned(&session, early).await.cache_key(), before.cache_key(), "{sql}");
    }
}

#[tokio::test]
async fn a_frame_of_another_session_has_a_key_where_both_have_its_tables() {
    let (orders, others) = (table(&[1]), table(&[1, 2]));
    let here = session(&[("orders", &orders), ("others", &others)]);
    let sharing = session(&[("orders", &orders), ("others", &others)]);
    let apart = session(&[("orders", &table(&[1])), ("others", &others)]);
    for (sql, read) in OF_ORDERS {
        let own = planned(&here, frame(&here, sql).await).await;
        let shared = planned(&here, frame(&sharing, sql).await).await;
        assert!(own.cache_key().is_some(), "{sql}: {:?}", own.identity());
        assert_eq!(shared.cache_key(), own.cache_key(), "{sql}");
        assert_reads_another(&planned(&here, frame(&apart, sql).await).await, read);
    }
    // Nor has it one where the name stands for nothing.
    let without = session(&[("others", &others)]);
    assert_reads_another(&planned(&without, frame(&here, "select k from orders").await).await, &[]);
}

/// The engine puts the plan of such a view in its place, with the tables that it was made of.
#[tokio::test]
async fn a_view_of_the_engine_over_what_a_table_was_has_no_key() {
    let session = session(&[("orders", &table(&[1])), ("others", &table(&[1, 2]))]);
    register(&session, "big", &frame(&session, "select k from orders where k > 1").await.into_view());
    let before = planned(&session, "select k from big").await;
    assert!(before.cache_key().is_some(), "{:?}", before.identity());
    assert_eq!(before.reads(), ["orders"]);
    register(&session, "orders", &table(&[2, 3]));
    assert_reads_another(&planned(&session, "select k from big").await, &[]);
    assert_reads_another(&planned(&session, "select big.k from big join orders using (k)").await, &["orders"]);
}
