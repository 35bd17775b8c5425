//! What each SQL policy lets through: every kind of statement, alone and inside others.

use std::fmt::Write;
use std::sync::Arc;

use alluvium_contracts::{ProfileSpec, SqlPolicy};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::LogicalPlanBuilder;

use super::*;
use crate::{RuntimeProfile, SessionFactory};

/// Kinds of statements, with `?` where a directory goes that can be written.
const STATEMENTS: &[(&str, &str)] = &[
    ("SELECT", "select a from t"),
    ("VALUES", "values (1)"),
    ("SELECT INTO", "select a into n from t"),
    ("INSERT", "insert into t values (1)"),
    ("UPDATE", "update t set a = 2"),
    ("DELETE", "delete from t"),
    ("MERGE", "merge into t using t as s on t.a = s.a when matched then delete"),
    ("TRUNCATE", "truncate table t"),
    ("COPY query", "copy (select 1 as a) to '?/copied.parquet'"),
    ("COPY table", "copy t to '?/copied.parquet'"),
    ("CREATE TABLE", "create table n (a int)"),
    ("CREATE TABLE AS", "create table n as select 1 as a"),
    ("CREATE VIEW", "create view n as select 1 as a"),
    ("CREATE EXTERNAL TABLE", "create external table n (a int) stored as csv location '?'"),
    ("CREATE SCHEMA", "create schema n"),
    ("CREATE FUNCTION", "create function n(int) returns int return $1"),
    ("DROP", "drop table t"),
    ("ALTER", "alter table t add column b int"),
    ("SET", "set datafusion.execution.batch_size = 7"),
    ("SET runtime", "set datafusion.runtime.memory_limit = '1G'"),
    ("RESET", "reset datafusion.execution.batch_size"),
    ("SHOW", "show tables"),
    ("DESCRIBE", "describe t"),
    ("BEGIN", "begin"),
    ("DEALLOCATE", "deallocate all"),
    ("EXECUTE", "execute tables"),
    ("PREPARE", "prepare q as select 1"),
    ("GRANT", "grant select on t to x"),
    ("EXECUTE IMMEDIATE", "execute immediate 'drop table t'"),
    ("TABLE", "table t"),
    ("LOAD", "load x"),
    ("COMMENT", "comment on table t is 'x'"),
    ("INSERT DIRECTORY", "insert overwrite directory '?' select 1"),
    ("ANALYZE", "analyze table t compute statistics"),
    ("CREATE MACRO", "create macro n(a) as a"),
    ("CALL", "call f()"),
    ("USE", "use n"),
];

/// How a statement can stand inside another.
const NESTINGS: &[(&str, &str, &str)] = &[
    ("alone", "", ""),
    ("EXPLAIN", "explain ", ""),
    ("EXPLAIN ANALYZE", "explain analyze ", ""),
    ("PREPARE", "prepare p as ", ""),
    ("PREPARE EXPLAIN", "prepare p as explain ", ""),
    ("CTE", "with c as (", ") select * from c"),
    ("subquery", "select * from (", ") s"),
    ("scalar subquery", "select (", ")"),
    ("IN subquery", "select a from t where a in (", ")"),
    ("lateral subquery", "select * from t, lateral (", ") s"),
    ("EXPLAIN PREPARE", "explain prepare p as ", ""),
    ("two statements", "select 1; ", ""),
];

#[expect(clippy::disallowed_methods, reason = "this table is the fixture")]
fn session(policy: SqlPolicy) -> Session {
    let spec = ProfileSpec { sql_policy: Some(policy), target_partitions: Some(1), ..ProfileSpec::default() };
    let session = SessionFactory::new(RuntimeProfile::from(&spec)).build().unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    session.context().register_table("t", Arc::new(MemTable::try_new(schema, vec![vec![]]).unwrap())).unwrap();
    session
}

/// One letter: `.` it was let through (the engine may still not know it), `-` forbidden, `x` no SQL, `;` several statements,
/// `n` a statement that has to stand alone.
async fn verdict(policy: SqlPolicy, sql: &str) -> char {
    match session(policy).execute(Query::sql(sql)).await {
        Err(QueryError::Forbidden { needed, policy: under, .. }) => {
            assert!(needed > policy && under == policy, "{sql}");
            '-'
        }
        Err(QueryError::Parse { .. }) => 'x',
        Err(QueryError::ManyStatements { .. }) => ';',
        Err(QueryError::Nested { .. }) => 'n',
        Ok(_)
        | Err(
            QueryError::Plan { .. }
            | QueryError::UnknownTable { .. }
            | QueryError::UnknownColumn { .. }
            | QueryError::UnknownPrepared { .. },
        ) => '.',
        Err(other) => panic!("{sql}: {other}"),
    }
}

/// Rows are statements in their nestings, columns the policies from the tightest. A `.` may become `-`, never the other way
/// without an argument.
#[tokio::test]
async fn golden_policy_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = format!("{:<24}{:<18}", "statement", "nesting");
    SqlPolicy::ALL.iter().for_each(|policy| write!(text, "{policy:<11}").unwrap());
    text.push('\n');
    for (statement, sql) in STATEMENTS {
        for (nesting, before, after) in NESTINGS {
            let sql = format!("{before}{}{after}", sql.replace('?', dir.path().to_str().unwrap()));
            let mut verdicts = Vec::new();
            for policy in SqlPolicy::ALL {
                verdicts.push(verdict(*policy, &sql).await);
            }
            // What a tighter policy lets through, a looser one does too.
            assert!(verdicts.is_sorted_by(|tight, loose| tight == loose || *tight == '-'), "{sql}: {verdicts:?}");
            if verdicts.iter().all(|verdict| *verdict == 'x') {
                continue;
            }
            let verdicts: String = verdicts.iter().map(|verdict| format!("{verdict:<11}")).collect();
            writeln!(text, "{statement:<24}{nesting:<18}{}", verdicts.trim_end()).unwrap();
        }
    }
    // Nothing was written while only planning or being refused.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn what_is_let_through_happens() {
    let session = session(SqlPolicy::Admin);
    let count = async |sql: &str| {
        let batches = session.execute(Query::sql(sql)).await.unwrap().collect().await.unwrap();
        batches.iter().map(datafusion::arrow::array::RecordBatch::num_rows).sum::<usize>()
    };
    count("create table made as select * from (values (1), (2)) as v(a)").await;
    assert_eq!(count("select * from made").await, 2);
    count("insert into made values (3)").await;
    assert_eq!(count("select * from made").await, 3);
    count("set datafusion.execution.batch_size = 7").await;
    assert_eq!(session.context().state().config().batch_size(), 7);
    count("drop table made").await;
    assert!(matches!(session.execute(Query::sql("select * from made")).await, Err(QueryError::UnknownTable { .. })));
}

#[tokio::test]
async fn a_plan_that_was_built_goes_the_same_way() {
    let admin = session(SqlPolicy::Admin);
    let built = |sql: &'static str| {
        let context = admin.context().clone();
        async move { DataFrame::new(context.state(), context.state().create_logical_plan(sql).await.unwrap()) }
    };
    for (sql, needed) in [
        ("select a from t", SqlPolicy::ReadOnly),
        ("set datafusion.execution.batch_size = 7", SqlPolicy::Service),
        ("insert into t values (1)", SqlPolicy::Write),
        ("copy t to 'x.parquet'", SqlPolicy::Write),
        ("create view v as select 1", SqlPolicy::Admin),
        ("explain insert into t values (1)", SqlPolicy::Write),
    ] {
        for policy in SqlPolicy::ALL {
            let refused = match session(*policy).execute(built(sql).await).await {
                Err(QueryError::Forbidden { needed: told, .. }) => {
                    assert_eq!(told, needed, "{sql}");
                    true
                }
                _ => false,
            };
            assert_eq!(refused, *policy < needed, "{sql} under {policy}");
        }
    }
    // Deeper down as well.
    let inner = built("insert into t values (1)").await.into_unoptimized_plan();
    let plan = LogicalPlanBuilder::from(inner).limit(0, Some(1)).unwrap().build().unwrap();
    let frame = DataFrame::new(admin.context().state(), plan);
    assert!(matches!(session(SqlPolicy::ReadOnly).execute(frame).await, Err(QueryError::Forbidden { .. })));
}

#[tokio::test]
async fn dialects_parse_what_the_others_do_not() {
    let session = session(SqlPolicy::ReadOnly);
    for (sql, dialect) in [
        ("select `a` from `t`", "mysql"),
        ("select a from t qualify row_number() over (order by a) = 1", "snowflake"),
        ("select [a] from t", "mssql"),
    ] {
        let frame = session.execute(Query::sql_in(sql, dialect).unwrap()).await;
        let columns = frame.unwrap_or_else(|error| panic!("{sql}: {error}")).schema().field_names();
        assert_eq!(columns, ["t.a"], "{sql}");
    }
    let foreign = session.execute(Query::sql_in("select `a` from `t`", "postgresql").unwrap()).await;
    assert!(matches!(foreign, Err(QueryError::Parse { .. })));
    let error = Query::sql_in("select 1", "klingon").unwrap_err().to_string();
    assert!(error.contains("klingon") && error.contains("PostgreSQL"), "{error}");
}

#[derive(Debug)]
struct Reader;

impl TableFunctionImpl for Reader {
    fn call_with_args(&self, _: TableFunctionArgs<'_, '_>) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(EmptyTable::new(Arc::new(Schema::empty()))))
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "plays the foreign code that registers a function that reads files")]
async fn functions_that_read_files_are_for_those_who_may_do_anything() {
    let sql = "select count(*) from (select * from read_anything('/etc/passwd')) s";
    for policy in SqlPolicy::ALL {
        let session = session(*policy);
        session.context().register_udtf("read_anything", Arc::new(Reader));
        let executed = session.execute(Query::sql(sql)).await;
        match *policy {
            SqlPolicy::Admin => drop(executed.unwrap()),
            _ => assert!(matches!(executed, Err(QueryError::ForeignTableFunction { .. })), "{policy}"),
        }
        session.execute(Query::sql("select * from generate_series(1, 3)")).await.unwrap();
    }
    // A view cannot call one either.
    let session = session(SqlPolicy::ReadOnly);
    session.context().register_udtf("read_anything", Arc::new(Reader));
    assert!(matches!(session.plan_query(sql).await, Err(QueryError::ForeignTableFunction { .. })));
    // However it is written: of a qualified name the engine calls the first part, and it does not fold its case.
    session.context().register_udtf("Read_All", Arc::new(Reader));
    for from in [
        "read_anything.x('/etc/passwd')",
        "read_anything.x.y('/etc/passwd')",
        "x.read_anything('/etc/passwd')",
        "Read_All('/etc/passwd')",
        "t, lateral read_anything('/etc/passwd')",
        "t, lateral x.read_anything('/etc/passwd')",
    ] {
        for sql in [format!("select * from {from}"), format!("select (select max(1) from {from}) from t")] {
            let refused = session.execute(Query::sql(sql.clone())).await;
            assert!(matches!(refused, Err(QueryError::ForeignTableFunction { .. })), "{sql}: {refused:?}");
        }
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "plays the foreign code that takes the name of a function")]
async fn who_takes_the_name_of_an_installed_function_is_foreign() {
    let session = session(SqlPolicy::Service);
    session.execute(Query::sql("prepare numbers as select * from generate_series(1, 3)")).await.unwrap();
    session.execute(Query::sql("execute numbers")).await.unwrap();
    session.context().register_udtf("generate_series", Arc::new(Reader));
    for sql in ["select * from generate_series('/etc/passwd')", "execute numbers"] {
        let refused = session.execute(Query::sql(sql)).await;
        assert!(matches!(refused, Err(QueryError::ForeignTableFunction { .. })), "{sql}: {refused:?}");
    }
    // What was installed stays so when the engine makes its state anew.
    let session = self::session(SqlPolicy::Service);
    session.execute(Query::sql("set datafusion.runtime.memory_limit = '1G'")).await.unwrap();
    session.execute(Query::sql("select * from generate_series(1, 3)")).await.unwrap();
}

#[tokio::test]
async fn a_call_that_has_no_name_is_an_error() {
    let session = session(SqlPolicy::Admin);
    let sql = "select * from identifier('generate_series')(1, 3)";
    let error = session.execute(Query::sql_in(sql, "snowflake").unwrap()).await.unwrap_err();
    assert!(matches!(error, QueryError::Plan { .. } | QueryError::Parse { .. }), "{error:?}");
}

#[tokio::test]
async fn a_name_of_a_file_is_no_table_under_any_policy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.csv");
    std::fs::write(&path, "a\n1\n").unwrap();
    for policy in SqlPolicy::ALL {
        let sql = format!("select * from '{}'", path.display());
        let error = session(*policy).execute(Query::sql(sql)).await.unwrap_err();
        assert!(matches!(error, QueryError::UnknownTable { .. }), "{policy}: {error}");
    }
}
