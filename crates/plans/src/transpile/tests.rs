//! What is carried, and what is named instead.

use std::collections::BTreeMap;

use alluvium_contracts::{ProfileSpec, SqlPolicy};
use alluvium_profile::{RuntimeProfile, SessionFactory};

use super::*;
use TargetDialect::{Bigquery, Duckdb, Generic, Mysql, Postgresql, Snowflake, Sqlite};

/// A session with `t`: k, an integer that is never NULL; n, an integer; s, text; d, a decimal; f, a float; b, a boolean; y, a date;
/// ts, a timestamp; l, a list.
async fn session() -> Session {
    let spec = ProfileSpec { sql_policy: Some(SqlPolicy::Admin), ..ProfileSpec::default() };
    let session = SessionFactory::new(RuntimeProfile::from(&spec)).build().unwrap();
    let columns = "k bigint not null, n bigint, s varchar, d decimal(10, 2), f double, b boolean, y date, ts timestamp, \
                   l bigint[]";
    session.execute(Query::sql(format!("create table t ({columns})"))).await.unwrap();
    session
}

async fn written(session: &Session, sql: &str, to: TargetDialect) -> String {
    let document = transpile(session, sql, to).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    assert!(document.not_carried.is_empty(), "{sql} for {to}: {document:#?}");
    document.sql.unwrap()
}

/// The parts that are not carried, with why.
async fn refused(session: &Session, sql: &str, to: TargetDialect) -> Vec<(String, String)> {
    let document = transpile(session, sql, to).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    assert_eq!(document.sql.is_none(), !document.not_carried.is_empty(), "{document:#?}");
    document.not_carried.into_iter().map(|part| (part.construct, part.reason)).collect()
}

#[tokio::test]
async fn each_dialect_has_its_own_words() {
    let session = session().await;
    for (sql, to, word) in [
        ("select s from t", Generic, "t.s"),
        ("select s from t", Postgresql, r#""t"."s""#),
        ("select s from t", Mysql, "`t`.`s`"),
        ("select n / 2 as h from t", Duckdb, "//"),
        ("select n / 2 as h from t", Postgresql, " / 2"),
        ("select character_length(s) as c from t", Duckdb, "length("),
        ("select cast(n as double) as f from t", Postgresql, "DOUBLE PRECISION"),
        ("select cast(s as bigint) as f from t", Mysql, "SIGNED"),
        ("select date_part('year', y) as f from t", Bigquery, "EXTRACT(YEAR"),
        ("select n is distinct from k as f from t", Mysql, "<=>"),
    ] {
        let text = written(&session, sql, to).await;
        assert!(text.contains(word), "{to}: {text}");
    }
}

#[tokio::test]
async fn what_another_dialect_lacks_or_means_otherwise_is_named() {
    let session = session().await;
    let every = TargetDialect::ALL;
    for (sql, dialects, construct, reason) in [
        ("select n / 2 as h from t", &[Mysql, Bigquery, Snowflake][..], "2", "no integer in"),
        ("select s || 'x' as h from t", &[Mysql], "||", "is OR in mysql"),
        ("select n % 2 as h from t", &[Bigquery], "%", "has no %"),
        ("select d + d as h from t", &[Sqlite], "+", "floating-point"),
        ("select sum(d) as h from t", &[Sqlite], "sum(", "floating-point"),
        ("select k from t where s ilike 'a%'", &[Mysql, Sqlite, Bigquery], "ILIKE", "has no ILIKE"),
        ("select k from t where s ~ '^a'", &[Duckdb, Mysql, Sqlite, Bigquery, Snowflake], "~", "no such operator"),
        ("select n & 1 as h from t", &[Snowflake], "&", "has functions for it"),
        ("select n ^ 1 as h from t", &[Postgresql, Duckdb, Sqlite, Snowflake], "^", "something else"),
        ("select try_cast(s as bigint) as h from t", &[Postgresql, Mysql, Sqlite, Bigquery], "TRY_CAST", "no TRY_CAST"),
        ("select s, sum(n) as h from t group by rollup (s)", &[Mysql, Sqlite], "ROLLUP", "no grouping sets"),
        ("select sum(n) filter (where k > 1) as h from t", &[Mysql, Bigquery, Snowflake], "FILTER", "no FILTER"),
        (
            "select distinct on (s) s, k from t order by s",
            &[Mysql, Sqlite, Bigquery, Snowflake],
            "DISTINCT ON",
            "has none",
        ),
        ("select a.k from t as a full join t as b on a.k = b.n", &[Mysql], "FULL JOIN", "has none"),
        ("select k from t where y < date '2001-01-01' + interval '1 month'", &[Sqlite], "INTERVAL", "has no intervals"),
        ("select n from t order by n limit 1", &[Mysql], "n", "has no NULLS LAST"),
        ("select rank() over (order by n) as r from t", &[Mysql], "n", "has no NULLS LAST"),
        (
            "select to_hex(k) as h from t",
            &[Postgresql, Duckdb, Mysql, Sqlite, Bigquery, Snowflake],
            "to_hex(",
            "the function to_hex is not known",
        ),
        (
            "select median(n) as h from t",
            &[Postgresql, Duckdb, Mysql, Sqlite, Bigquery, Snowflake],
            "median(",
            "the function median is not known",
        ),
        // What the unparser would drop without a word.
        ("select array_agg(k order by n) as h from t", every, "array_agg(", "leaves it out"),
        ("select first_value(n) ignore nulls over (order by k) as h from t", every, "first_value(", "leaves it out"),
        ("select k from t where s similar to 'a_'", every, "LIKE", "writes LIKE"),
        ("select n from t intersect select k from t", every, "INTERSECT or EXCEPT", "NULLs do not meet"),
        ("select * from generate_series(1, 3)", every, "generate_series(…)", "the rows of a table function"),
        (
            "with recursive r as (select 1 as i union all select i + 1 from r where i < 3) select i from r",
            every,
            "WITH RECURSIVE r",
            "no recursive queries",
        ),
    ] {
        for to in every {
            let found = refused(&session, sql, *to).await;
            let named = found.iter().any(|(part, why)| part.contains(construct) && why.contains(reason));
            assert_eq!(named, dialects.contains(to), "{sql} for {to}: {found:#?}");
        }
    }
}

/// The same word for something else: the rows would be others.
#[tokio::test]
async fn what_a_dialect_means_otherwise_is_named() {
    const OTHERS: &[TargetDialect] = &[Postgresql, Duckdb, Mysql, Sqlite, Bigquery, Snowflake];
    let session = session().await;
    let mut wrong = Vec::new();
    for (sql, dialects, reason) in [
        ("select cast(f as int) as h from t", &[Postgresql, Duckdb, Mysql, Bigquery, Snowflake][..], "rounds"),
        ("select cast(d as int) as h from t", &[Postgresql, Duckdb, Mysql, Bigquery, Snowflake], "rounds"),
        (
            "select cast(f as decimal(5, 1)) as h from t",
            &[Postgresql, Mysql, Sqlite, Bigquery, Snowflake],
            "a cast of Float64 to Decimal128(5, 1)",
        ),
        ("select cast(f as decimal(30, 15)) as h from t", &[Sqlite], "a cast of Float64 to Decimal128(30, 15)"),
        ("select cast(d as decimal(5, 1)) as h from t", &[Sqlite], "a cast of Decimal128(10, 2)"),
        ("select cast(n as decimal(5, 1)) as h from t", &[], ""),
        ("select cast(f as varchar) as h from t", OTHERS, "a cast of Float64 to Utf8"),
        ("select cast(d as varchar) as h from t", &[Sqlite, Bigquery], "a cast of Decimal128(10, 2) to Utf8"),
        ("select cast(ts as varchar) as h from t", OTHERS, "a cast of Timestamp"),
        ("select cast(b as varchar) as h from t", &[Mysql, Sqlite], "a cast of Boolean to Utf8"),
        ("select cast(k as boolean) as h from t", &[Sqlite], "a cast of Int64 to Boolean"),
        ("select cast(k as boolean) as h from t", &[Mysql], "no type Boolean"),
        ("select cast(s as boolean) as h from t", &[Sqlite, Bigquery, Snowflake], "a cast of Utf8"),
        ("select cast(f as float) as h from t", &[Postgresql, Sqlite, Bigquery, Snowflake], "no type Float32"),
        (
            "select cast(k as int unsigned) as h from t",
            &[Postgresql, Duckdb, Mysql, Bigquery, Snowflake],
            "no type UInt32",
        ),
        ("select cast(ts as date) as h from t", &[Sqlite], "has no dates"),
        ("select cast('2024-03-01 10:00:00' as date) as h", &[Sqlite], "has no dates"),
        ("select date '2024-03-01' as h", &[], ""),
        ("select cast(ts as bigint) as h from t", OTHERS, "a cast of Timestamp"),
        ("select cast(y as timestamp) as h from t", &[Sqlite], "no type Timestamp"),
        ("select cast(s as timestamp) as h from t", &[Postgresql, Duckdb, Mysql, Bigquery, Snowflake], "zones"),
        (
            "select timestamp '2024-03-01T10:00:00+02:00' as h",
            &[Postgresql, Duckdb, Mysql, Bigquery, Snowflake],
            "zones",
        ),
        ("select timestamp '2024-03-01 10:00:00.5' as h", &[Mysql], "fractions"),
        ("select try_cast(s as bigint) as h from t", &[Duckdb, Snowflake], "a cast of Utf8"),
        ("select try_cast(f as bigint) as h from t", &[Duckdb, Snowflake], "rounds"),
        ("select k from t where s like 'a%'", &[Sqlite], "does not tell capitals"),
        ("select k from t where s like '%-_'", &[], ""),
        ("select k from t where s like s", &[Sqlite], "does not tell capitals"),
        (r"select k from t where s like '1\_2'", &[Duckdb, Sqlite, Snowflake], "escapes nothing"),
        ("select k from t where s like s", &[Duckdb, Snowflake], "escapes nothing"),
        (r"select k from t where s = 'back\slash'", &[Mysql, Bigquery, Snowflake], "escapes what follows it"),
        ("select k from t where s = 'it''s'", &[Bigquery], "quotes"),
        ("select k from t where s = 'a\nb'", &[Bigquery], "ends of lines"),
        ("select substr(s, -1) as h from t", &[Duckdb, Mysql, Sqlite, Bigquery, Snowflake], "substr of such"),
        ("select substr(s, k) as h from t", &[Duckdb, Mysql, Sqlite, Bigquery, Snowflake], "substr of such"),
        ("select substr(s, 2, 1) as h from t", &[], ""),
        ("select left(s, -1) as h from t", &[Mysql, Sqlite, Bigquery, Snowflake], "left of such"),
        ("select left(s, 1) as h from t", &[Sqlite], "the function left"),
        ("select upper(s) as a, lower(s) as b from t", &[Sqlite], "the function upper"),
        ("select round(f, 1) as h from t", &[Postgresql, Mysql, Sqlite, Bigquery, Snowflake], "round of such"),
        ("select round(f) as h from t", &[Postgresql, Mysql], "round of such"),
        ("select round(1.005, 2) as h", OTHERS, "round of such"),
        ("select date_part('week', y) as h from t", &[Mysql, Sqlite, Bigquery, Snowflake], "date_part of such"),
        ("select date_part('second', ts) as h from t", &[Postgresql, Sqlite], "date_part"),
        ("select date_part('month', y) as h from t", &[Sqlite], "the function date_part"),
        ("select rtrim(s) as h from t", &[Bigquery], "rtrim of such"),
        ("select l[-1] as h from t", &[Postgresql], "array_element of such"),
        ("select ln(f) as h from t", &[Mysql, Sqlite], "the function ln"),
        ("select corr(f, k) as h from t", &[Duckdb, Mysql, Sqlite, Bigquery, Snowflake], "the function corr"),
        ("select f / n as h from t", &[Mysql, Sqlite], "a division by zero"),
        ("select f / 2 as h from t", &[], ""),
        ("select f % 2 as h from t", &[Postgresql, Sqlite], "% is of integers"),
        ("select ts - ts as h from t", &[Mysql, Sqlite, Bigquery], "the difference of two times"),
        ("select n | 1 as h from t", &[Mysql], "unsigned"),
    ] {
        for to in TargetDialect::ALL {
            let found = refused(&session, sql, *to).await;
            let is_named = found.iter().any(|(_, why)| !reason.is_empty() && why.contains(reason));
            if is_named != dialects.contains(to) || (reason.is_empty() && !found.is_empty()) {
                wrong.push(format!("{sql} for {to}: {found:#?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn each_part_is_named_once_and_all_are() {
    let session = session().await;
    let sql = "select n / 2 as a, n / 2 as b, to_hex(k) as c from t \
               where exists (select 1 from t as u where u.s || t.s = 'ab' and u.n / 3 > 1)";
    let found = refused(&session, sql, Mysql).await;
    let reasons: BTreeMap<&str, usize> = found.iter().fold(BTreeMap::new(), |mut counts, (_, reason)| {
        *counts.entry(reason.as_str()).or_default() += 1;
        counts
    });
    let expected = [
        ("an integer divided by an integer is no integer in mysql", 2),
        ("the function to_hex is not known to be in mysql, and to mean the same", 1),
        ("|| is OR in mysql", 1),
    ];
    assert_eq!(reasons, expected.into());
}

#[tokio::test]
async fn only_queries_are_written() {
    let session = session().await;
    for sql in ["insert into t (k) values (1)", "drop table t", "explain select 1", "select 1; select 2"] {
        assert!(transpile(&session, sql, Generic).await.is_err(), "{sql}");
    }
    let unknown = transpile(&session, "select k from u", Generic).await.unwrap_err();
    assert!(matches!(unknown, QueryError::UnknownTable { .. }), "{unknown:?}");
    // A plan that was built goes the same way as text, and text of another dialect too.
    let frame = session.execute(Query::sql("select k + 1 as next from t")).await.unwrap();
    let built = transpile(&session, frame, Duckdb).await.unwrap();
    assert_eq!(built.sql.unwrap(), written(&session, "select k + 1 as next from t", Duckdb).await);
    let foreign = transpile(&session, Query::sql_in("select `k` from `t`", "mysql").unwrap(), Postgresql).await;
    assert!(foreign.unwrap().sql.unwrap().contains(r#""t"."k""#));
}
