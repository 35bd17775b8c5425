//! What a plan tells of its operators, and what it looks like while it is watched.

use datafusion::arrow::array::RecordBatch;
use datafusion::physical_plan::displayable;
use futures::TryStreamExt;

use crate::{Query, RuntimeProfile, SessionFactory};

use super::*;

const SQL: &str =
    "select x % 2 as parity, count(*) as n from (values (1), (2), (3), (1990)) as t(x) where x > 1 group by 1";

async fn plan(session: &Session) -> Arc<dyn ExecutionPlan> {
    let frame = session.execute(Query::sql(SQL)).await.unwrap();
    frame.create_physical_plan().await.unwrap()
}

fn session(query_spans: bool) -> Session {
    let builder = RuntimeProfile::builder().with("target_partitions", 2).with("query_spans", query_spans);
    SessionFactory::new(builder.build().unwrap()).build().unwrap()
}

fn names(operator: &Operator) -> Vec<&str> {
    let mut all = vec![operator.name.as_str()];
    all.extend(operator.inputs.iter().flat_map(names));
    all
}

#[tokio::test]
async fn operators_are_told_with_what_they_measured() {
    let session = session(true);
    let plan = plan(&session).await;
    let batches: Vec<_> = session.execute_merged(Arc::clone(&plan)).unwrap().try_collect().await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);

    let root = operator(plan.as_ref());
    let names = names(&root);
    for name in ["AggregateExec", "FilterExec", "DataSourceExec"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(root.output_rows, Some(2), "{root:?}");
    assert!(root.began.unwrap() <= root.ended.unwrap() && root.compute_ns.unwrap() > 0, "{root:?}");
    assert!(!format!("{root:?}").contains("1990"), "no value of the query is told: {root:?}");
}

#[tokio::test]
async fn a_plan_is_the_same_with_and_without() {
    let (on, off) = (session(true), session(false));
    assert_eq!(on.semantic_settings(), off.semantic_settings());
    let [on, off] = [plan(&on).await, plan(&off).await].map(|plan| displayable(plan.as_ref()).indent(true).to_string());
    assert_eq!(on, off);
}
