//! A query in another dialect of SQL, by the engine's unparser.
//!
//! The unparser drops some things without a word (the order inside an aggregate, `IGNORE NULLS`, how NULLs meet in an
//! `INTERSECT`), and knows grammars, not meanings: to MySQL `1 / 2` is a half. So what is written is not taken on trust.
//! What a dialect lacks, or means otherwise, is looked for in the plan (`refusals`, `meanings`), and the text is read back: in the engine's own dialect it has
//! to be the same plan again, and in the other's it has to be grammatical.

mod meanings;
mod portable;
mod refusals;

#[cfg(test)]
mod tests;

use alluvium_contracts::{NotCarried, TargetDialect, TranspileDocument};
use alluvium_profile::{PlannedQuery, Query, QueryError, Session};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan};
use datafusion::sql::unparser::Unparser;
use datafusion::sql::unparser::dialect as grammar;

use crate::canonical::canonicalize;

/// Writes one query in the dialect `to`. Its tables have to be registered in `session`; nothing is run.
///
/// The document has the query, or else names every part of it that could not be carried. Types are written as the other
/// dialect's nearest ones, and names as the engine resolved them. It means the same for what the engine has an answer to; where the
/// engine fails, another may answer. That tables and columns of these names are there, and collate and overflow in the same way,
/// and that the session's time zone is UTC, is for whoever runs it. So are capitals of several letters (`ß`), and the last digits of
/// what is computed of decimals, and of numbers with a point, which other dialects have for decimals.
///
/// The unparser recurses with the depth of the plan, as planning does: give deep queries a stack of some MiB.
///
/// # Errors
/// As [`Session::plan_query`]: it is wrong, or no query.
pub async fn transpile(
    session: &Session,
    query: impl Into<Query>,
    to: TargetDialect,
) -> Result<TranspileDocument, QueryError> {
    let planned = session.plan_query(query).await?;
    let written = match written(&planned, to) {
        Ok(written) => read_back(session, &planned, to, &written).await.map(|()| written.text).map_err(|why| vec![why]),
        Err(not_carried) => Err(not_carried),
    };
    Ok(match written {
        Ok(sql) => TranspileDocument { to, sql: Some(sql), not_carried: Vec::new() },
        Err(not_carried) => TranspileDocument { to, sql: None, not_carried },
    })
}

/// What the unparser makes of a query.
struct Written {
    /// In the other dialect.
    text: String,
    /// In the engine's own.
    own: String,
}

/// The query as the unparser writes it, if nothing in it is known not to be carried.
fn written(planned: &PlannedQuery, to: TargetDialect) -> Result<Written, Vec<NotCarried>> {
    let (foreign, own) = (grammar_of(to), grammar_of(TargetDialect::Generic));
    let foreign = Unparser::new(foreign.as_ref()).with_pretty(true);
    let own = Unparser::new(own.as_ref()).with_pretty(true);
    let refused = refusals::of(planned, to, &foreign);
    if !refused.is_empty() {
        return Err(refused);
    }
    let write = |unparser: &Unparser<'_>| -> Result<String, Vec<NotCarried>> {
        let statement = without_text_casts(&planned.plan).and_then(|plan| unparser.plan_to_sql(&plan));
        let statement = statement.map_err(|error| vec![whole(refusals::first_line(&error))])?;
        Ok(format!("{statement:#}"))
    };
    Ok(Written { text: write(&foreign)?, own: write(&own)? })
}

/// Sees that the text in the engine's own dialect is the same query, and that the other is grammatical.
async fn read_back(
    session: &Session,
    planned: &PlannedQuery,
    to: TargetDialect,
    written: &Written,
) -> Result<(), NotCarried> {
    let Written { text, own } = written;
    let again = session.plan_query(own.as_str()).await;
    let again = again.map_err(|error| whole(format!("what the unparser writes of it is wrong: {error}: {own}")))?;
    let is_same = is_same(session, &planned.plan, &again.plan);
    if !is_same.map_err(|error| whole(refusals::first_line(&error)))? {
        return Err(whole(format!("what the unparser writes of it is another query: {own}")));
    }
    let parsed = Query::sql_in(text, to.as_str()).and_then(|query| session.referenced_tables_of(&query));
    parsed.map_err(|error| whole(format!("what the unparser writes of it is no {to}: {error}: {text}")))?;
    Ok(())
}

fn whole(reason: String) -> NotCarried {
    NotCarried { construct: "the query".to_owned(), reason }
}

/// The plan without casts from one representation of text to another, which are the engine's own affair: columns are read as
/// views, and literals are not. Groups and windows are found by the names of what they compute, so they stay as they are.
fn without_text_casts(plan: &LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let stripped = plan.clone().transform_up_with_subqueries(|node| {
        if matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Window(_)) {
            return Ok(Transformed::no(node));
        }
        let scope = refusals::scope(&node);
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::Cast(Cast { expr, field })
                    if is_text(field.data_type()) && expr.get_type(&scope).is_ok_and(|given| is_text(&given)) =>
                {
                    Ok(Transformed::yes(*expr))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })?;
    Ok(stripped.data)
}

/// Whether two plans give the same columns, by name, and are the same once they are optimised.
fn is_same(session: &Session, one: &LogicalPlan, other: &LogicalPlan) -> Result<bool, DataFusionError> {
    let names =
        |plan: &LogicalPlan| plan.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let state = session.context().state();
    let text = |plan: &LogicalPlan| Ok::<_, DataFusionError>(canonicalize(&state.optimize(plan)?).text);
    Ok(names(one) == names(other) && text(one)? == text(other)?)
}

fn grammar_of(to: TargetDialect) -> Box<dyn grammar::Dialect> {
    match to {
        TargetDialect::Generic => Box::new(grammar::DefaultDialect {}),
        TargetDialect::Postgresql => Box::new(grammar::PostgreSqlDialect {}),
        TargetDialect::Duckdb => Box::new(grammar::DuckDBDialect::new()),
        TargetDialect::Mysql => Box::new(grammar::MySqlDialect {}),
        TargetDialect::Sqlite => Box::new(grammar::SqliteDialect {}),
        TargetDialect::Bigquery => Box::new(grammar::BigQueryDialect::new()),
        TargetDialect::Snowflake => Box::new(grammar::SnowflakeDialect::new()),
    }
}
