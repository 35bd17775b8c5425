//! A session: the engine's context, and the only door that SQL of views passes through.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;

use crate::builtins::Builtins;
use crate::query_error::QueryError;
use crate::{now, settings, statement};

const INFORMATION_SCHEMA: &str = "information_schema";

/// A DataFusion session of [`SessionFactory`](crate::SessionFactory). Cloning is cheap; clones share everything.
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
    builtins: Arc<Builtins>,
}

/// A query that was planned and not run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlannedQuery {
    /// The plan after the analyzer (types are coerced), not optimised.
    pub plan: LogicalPlan,
    /// The tables that the query names, without CTEs and table functions; sorted, as they were written.
    pub tables: Vec<TableReference>,
}

impl Session {
    /// Called before anything foreign can be registered.
    pub(crate) fn new(context: SessionContext) -> Self {
        let builtins = Arc::new(Builtins::of(&context.state_ref().read()));
        Self { context, builtins }
    }

    /// The engine's context.
    #[must_use]
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Plans `sql`, which has to be exactly one query: no DDL, DML, COPY, SET, PREPARE, EXECUTE, SHOW or EXPLAIN, nor any of
    /// them inside a query. Reads what the registered tables need to be planned, and runs nothing.
    ///
    /// # Errors
    /// As the variants of [`QueryError`] say; most have a [position](QueryError::position).
    pub async fn plan_query(&self, sql: &str) -> Result<PlannedQuery, QueryError> {
        let state = self.context.state();
        let statement::Query { statement, tables } = self.parse(&state, sql)?;
        // Wanted only after a failure, and the planner takes the statement.
        let failed = statement.clone();
        let plan = match state.statement_to_plan(statement).await {
            Ok(plan) => plan,
            Err(error) => {
                let missing = missing(&state, &tables);
                return Err(QueryError::of_planner(error, &failed, &missing, &registered(&state)));
            }
        };
        // The syntax has been refused already. This holds even if the engine learns a new way to write it.
        let policy = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        policy.verify_plan(&plan).map_err(|error| QueryError::plan(error, None))?;
        let analyzed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {});
        let plan = analyzed.map_err(|error| QueryError::of_planner(error, &failed, &[], &[]))?;
        let plan = now::in_microseconds(plan).map_err(|error| QueryError::plan(error, None))?;
        let parameters = plan.get_parameter_names().map_err(|error| QueryError::plan(error, None))?;
        if let Some(name) = parameters.into_iter().min() {
            return Err(QueryError::Parameter { name });
        }
        Ok(PlannedQuery { plan, tables })
    }

    /// The tables that `sql` names, without CTEs and table functions, sorted; qualified names with their dots. Nothing needs to be
    /// registered.
    ///
    /// # Errors
    /// The same refusals as [`plan_query`](Self::plan_query), but for those that take a plan.
    pub fn referenced_tables(&self, sql: &str) -> Result<Vec<String>, QueryError> {
        let query = self.parse(&self.context.state_ref().read(), sql)?;
        Ok(query.tables.iter().map(ToString::to_string).collect())
    }

    /// Every setting of the engine that may change rows, with its value: all but
    /// [`NEUTRAL_SETTINGS`](crate::NEUTRAL_SETTINGS).
    #[must_use]
    pub fn semantic_settings(&self) -> BTreeMap<String, String> {
        settings::semantic(self.context.state_ref().read().config_options())
    }

    /// The functions this session had before anything foreign was registered.
    #[must_use]
    pub fn builtins(&self) -> &Builtins {
        &self.builtins
    }

    fn parse(&self, state: &SessionState, sql: &str) -> Result<statement::Query, QueryError> {
        statement::parse(sql, state.config_options().sql_parser.recursion_limit.get())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("session_id", &self.context.session_id()).finish_non_exhaustive()
    }
}

/// The tables that are not registered, each with its full name, by which the engine misses it.
fn missing(state: &SessionState, tables: &[TableReference]) -> Vec<(TableReference, String)> {
    let catalog = &state.config_options().catalog;
    let exists = |table: &TableReference| {
        state.schema_for_ref(table.clone()).is_ok_and(|schema| schema.table_exist(table.table()))
    };
    let full =
        |table: &TableReference| table.clone().resolve(&catalog.default_catalog, &catalog.default_schema).to_string();
    tables.iter().filter(|table| !exists(table)).map(|table| (table.clone(), full(table))).collect()
}

/// The names of all registered tables, as a query would write them; sorted.
fn registered(state: &SessionState) -> Vec<String> {
    let defaults = &state.config_options().catalog;
    let catalogs = state.catalog_list();
    let mut names = Vec::new();
    for catalog_name in catalogs.catalog_names() {
        let Some(catalog) = catalogs.catalog(&catalog_name) else {
            continue;
        };
        for schema_name in catalog.schema_names() {
            let Some(schema) = catalog.schema(&schema_name).filter(|_| schema_name != INFORMATION_SCHEMA) else {
                continue;
            };
            names.extend(schema.table_names().into_iter().map(|table| {
                if catalog_name != defaults.default_catalog {
                    format!("{catalog_name}.{schema_name}.{table}")
                } else if schema_name != defaults.default_schema {
                    format!("{schema_name}.{table}")
                } else {
                    table
                }
            }));
        }
    }
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests;
