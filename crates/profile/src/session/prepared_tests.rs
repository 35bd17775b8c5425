//! Prepared statements: typed, listed, judged when they are executed, and not forgotten.

use std::sync::Arc;

use alluvium_contracts::{ProfileSpec, SqlPolicy};
use alluvium_telemetry::{Diagnostics, MemorySink, Redactor, Seam};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::empty::EmptyTable;

use super::*;
use crate::{RuntimeProfile, SessionFactory};

fn factory(policy: SqlPolicy) -> SessionFactory {
    let spec = ProfileSpec { sql_policy: Some(policy), target_partitions: Some(1), ..ProfileSpec::default() };
    SessionFactory::new(RuntimeProfile::from(&spec))
}

async fn rows(session: &Session, sql: &str) -> Result<String, QueryError> {
    let batches = session.execute(Query::sql(sql)).await?.collect().await.unwrap();
    Ok(pretty_format_batches(&batches).unwrap().to_string())
}

async fn error(session: &Session, sql: &str) -> QueryError {
    rows(session, sql).await.unwrap_err()
}

#[tokio::test]
async fn values_are_typed_and_counted() {
    let session = factory(SqlPolicy::Service).build().unwrap();
    rows(&session, "prepare twice (bigint, varchar) as select $1 * 2 as n, $2 as t").await.unwrap();
    let text = rows(&session, "execute twice(3 + 4, 'x')").await.unwrap();
    assert!(text.contains("| 14 | x |"), "{text}");
    // Text is cast to the parameter's type, or refused by its place.
    assert!(rows(&session, "execute twice('21', 5)").await.unwrap().contains("| 42 | 5 |"));
    let wrong = error(&session, "execute twice('many', 'x')").await;
    assert!(matches!(wrong, QueryError::ParameterValue { position: 1, .. }), "{wrong}");
    let few = error(&session, "execute twice(1)").await;
    assert!(matches!(few, QueryError::ParameterCount { expected: 2, found: 1, .. }), "{few}");

    // Without types they follow from use.
    rows(&session, "prepare inferred as select 1 where 2 > $1").await.unwrap();
    let listed = session.prepared_statements();
    let types = |name: &str| listed.iter().find(|s| s.name == name).unwrap().parameters.clone();
    assert_eq!(types("twice"), [DataType::Int64, DataType::Utf8View]);
    assert_eq!(types("inferred"), [DataType::Int64]);

    let again = error(&session, "prepare twice as select 1").await;
    assert!(matches!(again, QueryError::PreparedTwice { .. }), "{again}");
    rows(&session, "deallocate twice").await.unwrap();
    let gone = error(&session, "execute twice(1, 'x')").await;
    assert!(matches!(&gone, QueryError::UnknownPrepared { .. }), "{gone}");
    let meant = error(&session, "execute inferrd(1)").await;
    assert!(meant.to_string().contains("did you mean `inferred`"), "{meant}");
}

#[tokio::test]
async fn what_a_looser_policy_prepared_a_tighter_one_does_not_execute() {
    let admin = factory(SqlPolicy::Admin).build().unwrap();
    rows(&admin, "create table t as select 1 as a").await.unwrap();
    rows(&admin, "prepare more as insert into t values (2)").await.unwrap();
    rows(&admin, "prepare all_of as select * from t").await.unwrap();
    for policy in [SqlPolicy::ReadOnly, SqlPolicy::Service, SqlPolicy::Write] {
        let narrowed = admin.with_sql_policy(policy);
        for sql in ["execute more", "execute all_of"] {
            let refused = error(&narrowed, sql).await;
            assert!(matches!(refused, QueryError::Forbidden { needed: SqlPolicy::Admin, .. }), "{policy}: {refused}");
        }
    }
    assert_eq!(rows(&admin, "execute all_of").await.unwrap().matches('1').count(), 1);
    rows(&admin, "execute more").await.unwrap();
    assert!(rows(&admin, "execute all_of").await.unwrap().contains('2'));
    // Under its own policy a statement is still judged by what it does.
    let service = factory(SqlPolicy::Service).build().unwrap();
    let refused = error(&service, "prepare more as insert into t values (2)").await;
    assert!(matches!(refused, QueryError::Forbidden { needed: SqlPolicy::Write, .. }), "{refused}");
}

/// The engine forgets what it prepared when a runtime setting rebuilds its state.
#[tokio::test]
async fn a_runtime_setting_forgets_nothing() {
    let session = factory(SqlPolicy::Service).build().unwrap();
    rows(&session, "prepare p as select 41 + 1").await.unwrap();
    let before = session.prepared_statements();
    rows(&session, "set datafusion.runtime.memory_limit = '100M'").await.unwrap();
    assert_eq!(session.prepared_statements(), before);
    assert!(rows(&session, "execute p").await.unwrap().contains("42"));
    assert!(rows(&session, "execute caches").await.unwrap().contains("metadata_cache_limit"));
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "this table is the fixture")]
async fn golden_system_queries() {
    let session = factory(SqlPolicy::ReadOnly).build().unwrap();
    let fields = vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)];
    session.context().register_table("people", Arc::new(EmptyTable::new(Arc::new(Schema::new(fields))))).unwrap();
    let mut text = String::new();
    for statement in session.prepared_statements() {
        assert!(statement.is_system);
        let call = match statement.parameters.len() {
            0 => format!("execute {}", statement.name),
            _ => format!("execute {}('people')", statement.name),
        };
        let answer = rows(&session, &call).await.unwrap();
        // There are hundreds of routines, and an upgrade of the engine adds some.
        let answer = match statement.name.as_str() {
            "routines" => format!("upper is one of them: {}", answer.contains(" upper ")),
            _ => answer,
        };
        text.push_str(&format!("{call} {:?}\n{answer}\n\n", statement.parameters));
    }
    insta::assert_snapshot!(text);
    let stays = factory(SqlPolicy::Service).build().unwrap();
    assert!(matches!(error(&stays, "deallocate tables").await, QueryError::SystemQuery { .. }));
    rows(&stays, "deallocate all").await.unwrap();
    rows(&stays, "execute tables").await.unwrap();
}

#[tokio::test]
async fn what_is_prepared_and_executed_is_told_without_its_text() {
    let memory = Arc::new(MemorySink::default());
    let diagnostics = Diagnostics::new(Seam::system(), Redactor::default()).with_sink(memory.clone());
    let session = factory(SqlPolicy::Service).with_diagnostics(diagnostics).build().unwrap();
    rows(&session, "prepare p (bigint) as select $1, 'hunter2'").await.unwrap();
    rows(&session, "execute p(1)").await.unwrap();
    let events = memory.events();
    let told: Vec<_> = events.iter().map(|e| (e.name.as_str(), e.payload["action"].as_str().unwrap())).collect();
    assert_eq!(told, [("prepared_statement_use", "prepare"), ("prepared_statement_use", "execute")]);
    assert_eq!(events[0].payload["parameter_types"], serde_json::json!(["Int64"]));
    assert!(!format!("{events:?}").contains("hunter2"));
}

#[tokio::test]
async fn the_tables_of_what_is_executed_are_known_beforehand() {
    let session = factory(SqlPolicy::Admin).build().unwrap();
    rows(&session, "create table t as select 1 as a").await.unwrap();
    rows(&session, "prepare p as select * from t").await.unwrap();
    let tables = |sql: &str| session.referenced_tables_of(&Query::sql(sql)).unwrap();
    assert_eq!(tables("execute p"), ["t"]);
    assert_eq!(tables("execute tables"), ["information_schema.tables"]);
    assert_eq!(tables("explain select * from t"), ["t"]);
    assert!(tables("show tables").contains(&"information_schema.tables".to_owned()));
    assert_eq!(tables("copy (select * from t) to 'x.csv'"), ["t"]);
}
