//! The catalog of a real session, as a value and by SQL.

use alluvium_contracts::{ProfileSpec, SqlPolicy};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};

use super::*;
use crate::{Query, QueryError, RuntimeProfile, SessionFactory};

fn session() -> Session {
    let spec = ProfileSpec { sql_policy: Some(SqlPolicy::ReadOnly), ..ProfileSpec::default() };
    SessionFactory::new(RuntimeProfile::from(&spec)).build().unwrap()
}

async fn rows(session: &Session, sql: &str) -> String {
    let frame = session.execute(Query::sql(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string()
}

#[tokio::test]
async fn sql_lists_what_can_be_called() {
    let session = session();
    let ours = rows(
        &session,
        "select name, version, volatility, syntax from function_catalog() where tier = 'extension' and name like 'span_l%'",
    )
    .await;
    assert!(ours.contains("| span_len | alluvium v1 | immutable  | span_len(span) |"), "{ours}");
    let now =
        rows(&session, "select volatility, version from function_catalog() where 'now' in (name, aliases[1])").await;
    assert!(now.contains("| stable     |         |"), "{now}");
    let total = session.function_catalog().unwrap().entries().count();
    assert!(total > 200, "{total}");
    assert!(rows(&session, "select count(*) from function_catalog()").await.contains(&total.to_string()));
    let counted = rows(&session, "select count(distinct hash) as n from function_catalog()").await;
    assert!(counted.contains(&total.to_string()), "{counted}");
    let refused = session.execute(Query::sql("select * from function_catalog('now')")).await.unwrap_err();
    assert!(matches!(refused, QueryError::Plan { .. }), "{refused:?}");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "plays foreign code that registers functions")]
async fn the_catalog_is_of_this_moment() {
    let session = session();
    let tier = |name: &str| session.function_catalog().unwrap().named(name).map(|entry| entry.tier).collect::<Vec<_>>();
    assert_eq!((tier("upper"), tier("shout")), (vec![FunctionTier::BuiltIn], vec![]));
    for name in ["upper", "shout"] {
        let answer = Arc::new(|_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::from("x"))));
        session.context().register_udf(create_udf(name, vec![], DataType::Utf8, Volatility::Stable, answer));
    }
    assert_eq!((tier("upper"), tier("shout")), (vec![FunctionTier::Extension], vec![FunctionTier::Extension]));
    let catalog = session.function_catalog().unwrap();
    let upper = catalog.named("upper").next().unwrap();
    assert_eq!((upper.volatility_word(), &upper.version), ("stable", &None));
    assert_eq!(catalog.resolve("upper", &[]).unwrap().returns.unwrap().data_type(), &DataType::Utf8);
    let listed = rows(&session, "select tier from function_catalog() where name = 'shout'").await;
    assert!(listed.contains("extension"), "{listed}");
}
