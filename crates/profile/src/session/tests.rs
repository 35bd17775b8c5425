//! Tests of planning: what is refused, and where the error points.

use std::sync::Arc;

use alluvium_contracts::ProfileSpec;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::empty::EmptyTable;

use super::*;
use crate::{Position, RuntimeProfile, SessionFactory};

#[expect(clippy::disallowed_methods, reason = "these tables are the fixture")]
fn session() -> Session {
    let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    let table = |columns: &[&str]| {
        let fields: Vec<_> = columns.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        Arc::new(EmptyTable::new(Arc::new(Schema::new(fields))))
    };
    let context = session.context();
    context.register_table("flights", table(&["carrier", "origin", "delay", "FlightDate"])).unwrap();
    context.register_table("airports", table(&["airport", "city"])).unwrap();
    session
}

async fn error(sql: &str) -> QueryError {
    match session().plan_query(sql).await {
        Ok(planned) => panic!("{sql}: {}", planned.plan),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_plan_is_analyzed_and_not_optimised() {
    let session = session();
    let sql = "select delay + 1.5 as d from flights where 1 = 1 and delay > 2.5";
    let planned = session.plan_query(sql).await.unwrap();
    assert_eq!(planned.tables, [TableReference::bare("flights")]);
    let text = planned.plan.display_indent().to_string();
    // Types are coerced, and the constant condition is still there.
    assert!(text.contains("CAST(flights.delay AS Float64)") && text.contains("Int64(1) = Int64(1)"), "{text}");
}

#[tokio::test]
async fn golden_messages_name_the_place_and_the_fix() {
    let mut text = String::new();
    for sql in [
        "select carier from flights",
        "select\n  delay,\n  -- a comment\n  f.orgin\nfrom flights f",
        "select delay from flights where carier = 1",
        "select delay from flights group by orign",
        "select delay from flights order by dealy",
        "select * from flights f join airports a on f.origin = a.airprot",
        "select (select max(cty) from airports) from flights",
        "select flightdate from flights",
        "select x.delay from flights f",
        "select zzz from flights",
        "with c as (select delay from flights) select delya from c",
        "select * from flihgts",
        "select * from flights\njoin aiports on true",
        "select * from nowhere",
        "select * from other.flights",
        "select * from flights where exists (select 1 from airprots)",
        "select delay from flights f join flights g on f.delay = g.delay",
        "select uper('a')",
        "select sum(delay) frm flights",
        "select",
        "select (1\n  +",
        "select 'abc",
        "select 1 +* 2",
        "select cast(1 as nothing)",
        "select carrier + [1] from flights",
        "select 1; select 2",
        "insert into flights select * from flights",
        "with a as (delete from flights returning *)\nselect * from a",
        "select 1 where 1 = $1",
        "",
    ] {
        use std::fmt::Write;
        let error = error(sql).await;
        writeln!(text, "{sql}\n  => {error}").unwrap();
        if let QueryError::Plan { source, .. } = &error {
            writeln!(text, "     {}", source.to_string().replace('\n', " ⏎ ")).unwrap();
        }
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn positions_count_characters_from_one() {
    let at = |line, column| Some(Position { line, column });
    assert_eq!(error("select 'ü', nope from flights").await.position(), at(1, 13));
    assert_eq!(error("select 1\nfrom\n\tnope").await.position(), at(3, 2));
    assert_eq!(error("select 'ü' +").await.position(), at(1, 13));
    // The same name inside a string or comment is not the place.
    assert_eq!(error("select 'nope' /* nope */, 1 + nope from flights").await.position(), at(1, 31));
}

#[tokio::test]
async fn the_information_schema_is_there() {
    let session = session();
    let sql = "select table_name from information_schema.tables";
    assert_eq!(session.referenced_tables(sql).unwrap(), ["information_schema.tables"]);
    session.plan_query(sql).await.unwrap();
}

#[tokio::test]
async fn semantic_settings_follow_the_session() {
    let of = |target_partitions| {
        let spec = ProfileSpec { target_partitions, memory_limit_bytes: Some(1 << 20), ..ProfileSpec::default() };
        SessionFactory::new(RuntimeProfile::from(&spec)).build().unwrap().semantic_settings()
    };
    assert_eq!(of(Some(1)), of(Some(7)));
    let session = session();
    assert_eq!(session.semantic_settings(), of(None));
    session.context().state_ref().write().config_mut().options_mut().execution.time_zone = Some("+05:00".to_owned());
    assert_ne!(session.semantic_settings(), of(None));
}
