//! What unions do with semantic types, the engine's way and ours.

use alluvium_contracts::ProfileSpec;
use datafusion::arrow::array::RecordBatch;

use super::*;
use crate::{Query, RuntimeProfile, Session, SessionFactory};

fn session() -> Session {
    SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap()
}

/// The extension types of a query's columns: as it is planned, and as its batches say.
async fn types(sql: &str) -> [Vec<String>; 2] {
    fn of<'a>(fields: impl Iterator<Item = &'a Arc<Field>>) -> Vec<String> {
        fields.map(|field| field.extension_type_name().unwrap_or_default().to_owned()).collect()
    }
    let session = session();
    let planned = session.plan_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).plan;
    let frame = session.execute(Query::sql(sql)).await.unwrap();
    let batches: Vec<RecordBatch> = frame.collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    [of(planned.schema().fields().iter()), of(batches[0].schema().fields().iter())]
}

const NODE: &str = "select stable_id('NodeId', 'a') as id";
const EDGE: &str = "select stable_id('EdgeId', 'a') as id";

#[tokio::test]
async fn branches_that_agree_keep_their_type() {
    for sql in [
        format!("{NODE} union all {NODE}"),
        format!("{NODE} union select id from ({NODE}) as q where id <> 'x'"),
        format!("{NODE} union all select null union all {NODE}"),
        format!("select null as id union all {NODE}"),
    ] {
        assert_eq!(types(&sql).await, [["NodeId"], ["NodeId"]], "{sql}");
    }
}

#[tokio::test]
async fn branches_that_do_not_are_plain() {
    for (one, other) in [(NODE, "select 'a' as id"), ("select 'a' as id", NODE), (NODE, EDGE), (EDGE, NODE)] {
        let union = format!("{one} union all {other}");
        for sql in [
            union.clone(),
            format!("{one} union {other}"),
            format!("select id from ({union}) as u where id <> 'x'"),
            format!("with u as ({union}) select a.id from u as a join u as b using (id)"),
            // An aggregate refuses an input that is not what was planned.
            format!("select id from ({union}) as u group by id"),
            format!("select max(id) as id from ({union}) as u"),
        ] {
            assert_eq!(types(&sql).await, [[""], [""]], "{sql}");
        }
    }
}

#[tokio::test]
async fn a_column_is_judged_by_itself() {
    let sql = format!("select id, id as other from ({NODE}) as a union all select id, 'x' from ({NODE}) as b");
    assert_eq!(types(&sql).await, [["NodeId", ""], ["NodeId", ""]]);
}

/// What the rule is for: whoever makes these go may take it away.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the engine without the rule")]
async fn the_engine_calls_text_an_id() {
    let bare = datafusion::prelude::SessionContext::new();
    for function in alluvium_functions::functions() {
        if let alluvium_functions::Function::Scalar(function) = function.function() {
            bare.register_udf(function.as_ref().clone());
        }
    }
    for (sql, claimed) in
        [(format!("{NODE} union all select 'a'"), "NodeId"), (format!("{NODE} union all {EDGE}"), "EdgeId")]
    {
        let batches = bare.sql(&sql).await.unwrap().collect().await.unwrap();
        assert_eq!(batches[0].schema().field(0).extension_type_name(), Some(claimed), "{sql}");
    }
}
