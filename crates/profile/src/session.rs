//! A session: the engine's context, and the only door that SQL passes through.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use alluvium_contracts::SqlPolicy;
use alluvium_telemetry::Diagnostics;
use datafusion::catalog::TableFunction;
use datafusion::common::TableReference;
use datafusion::config::Dialect;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::dialect_from_str;

use crate::builtins::Builtins;
use crate::extension::ExternalTableFactory;
use crate::function_versions::FunctionVersions;
use crate::prepared::{PreparedStatement, Registry};
use crate::query::Query;
use crate::query_error::QueryError;
use crate::runtime_profile::RuntimeProfile;
use crate::statement::Parsed;
#[cfg(feature = "substrait")]
use crate::substrait::SubstraitError;
use crate::{explained, now, settings, statement};

const INFORMATION_SCHEMA: &str = "information_schema";

/// A DataFusion session of [`SessionFactory`](crate::SessionFactory). Cloning is cheap; clones share everything.
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
    functions: Arc<SessionFunctions>,
    /// Those that were installed with the session, by name.
    table_functions: Arc<HashMap<String, Arc<TableFunction>>>,
    /// By file type, in capitals.
    external_tables: Arc<BTreeMap<String, Arc<dyn ExternalTableFactory>>>,
    policy: SqlPolicy,
    pub(crate) query_spans: bool,
    pub(crate) prepared: Arc<Registry>,
    pub(crate) diagnostics: Option<Diagnostics>,
}

/// What a session knows of its functions.
#[derive(Debug)]
pub(crate) struct SessionFunctions {
    /// Those before any extension's.
    pub(crate) builtins: Builtins,
    pub(crate) versions: FunctionVersions,
}

/// A query that was planned and not run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlannedQuery {
    /// The plan after the analyzer (types are coerced), not optimised.
    pub plan: LogicalPlan,
    /// The tables that the query names, without CTEs and table functions; sorted, as they were written. Of a plan that was
    /// built: none.
    pub tables: Vec<TableReference>,
    /// The table functions that it calls; likewise.
    pub table_functions: Vec<TableReference>,
}

impl Session {
    /// Called before anything foreign can be registered.
    pub(crate) fn new(
        context: SessionContext,
        functions: Arc<SessionFunctions>,
        external_tables: BTreeMap<String, Arc<dyn ExternalTableFactory>>,
        profile: &RuntimeProfile,
        prepared: Registry,
        diagnostics: Option<Diagnostics>,
    ) -> Self {
        let table_functions = context.state_ref().read().table_functions().clone();
        Self {
            context,
            functions,
            table_functions: Arc::new(table_functions),
            external_tables: Arc::new(external_tables),
            policy: profile.sql_policy(),
            query_spans: profile.query_spans(),
            prepared: Arc::new(prepared),
            diagnostics,
        }
    }

    /// The engine's context.
    #[must_use]
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// What SQL may do here beside asking.
    #[must_use]
    pub fn sql_policy(&self) -> SqlPolicy {
        self.policy
    }

    /// The same session under another policy. What was prepared under a looser one cannot be executed.
    #[must_use]
    pub fn with_sql_policy(&self, policy: SqlPolicy) -> Self {
        Self { policy, ..self.clone() }
    }

    /// Executes one statement, or reads a plan, if the SQL policy lets it: statements with an effect (SET, PREPARE, CREATE …) have
    /// had it when this returns; the rows of a query or a DML statement come, and it happens, when the answer is collected.
    ///
    /// PREPARE, EXECUTE and DEALLOCATE are the session's own: see [`PreparedStatement`].
    ///
    /// # Errors
    /// As the variants of [`QueryError`] say; most have a [position](QueryError::position).
    pub async fn execute(&self, query: impl Into<Query>) -> Result<DataFrame, QueryError> {
        match query.into() {
            Query::Sql { text, dialect } => {
                let parsed = self.parse(&text, dialect)?.under(self.policy)?;
                let statement = match &parsed.statement {
                    statement::Statement::Statement(statement) => Some(statement.as_ref()),
                    statement::Statement::CreateExternalTable(table) => {
                        if let Some(factory) = self.external_tables.get(&table.file_type.to_uppercase()) {
                            return self.create_external_table(factory.as_ref(), table).await;
                        }
                        None
                    }
                    _ => None,
                };
                match statement {
                    Some(ast::Statement::Prepare { .. }) => self.prepare(text, parsed).await,
                    Some(ast::Statement::Execute { .. }) => self.execute_prepared(parsed).await,
                    Some(ast::Statement::Deallocate { name, .. }) => {
                        let name = statement::normalized(name);
                        self.deallocate(&name)
                    }
                    _ => self.run(parsed).await,
                }
            }
            Query::DataFrame(frame) => self.read(frame.into_unoptimized_plan()),
            #[cfg(feature = "substrait")]
            Query::Substrait(bytes) => self.read(self.substrait(&bytes).await?),
        }
    }

    /// Plans `query`, which has to be exactly one query: no DDL, DML, COPY, SET, PREPARE, EXECUTE, SHOW or EXPLAIN, nor any of
    /// them inside a query, whatever the SQL policy. Reads what the registered tables need to be planned, and runs nothing.
    ///
    /// # Errors
    /// As the variants of [`QueryError`] say; most have a [position](QueryError::position).
    pub async fn plan_query(&self, query: impl Into<Query>) -> Result<PlannedQuery, QueryError> {
        let plan = match query.into() {
            Query::Sql { text, dialect } => return self.plan_parsed(self.parse(&text, dialect)?.into_query()?).await,
            Query::DataFrame(frame) => frame.into_unoptimized_plan(),
            #[cfg(feature = "substrait")]
            Query::Substrait(bytes) => self.substrait(&bytes).await?,
        };
        self.verify(&plan, SqlPolicy::ReadOnly)?;
        let plan = without_parameters(self.analyzed(plan, None)?)?;
        Ok(PlannedQuery { tables: statement::tables_of_plan(&plan), table_functions: Vec::new(), plan })
    }

    /// The tables that a statement names, without CTEs and table functions, sorted; qualified names with their dots. For EXECUTE
    /// they are those of the prepared statement. Nothing needs to be registered.
    ///
    /// # Errors
    /// The same refusals as [`execute`](Self::execute), but for those that take a plan.
    pub fn referenced_tables_of(&self, query: &Query) -> Result<Vec<String>, QueryError> {
        let (text, dialect) = match query {
            Query::Sql { text, dialect } => (text, dialect),
            // Its tables are in it.
            Query::DataFrame(_) => return Ok(Vec::new()),
            #[cfg(feature = "substrait")]
            Query::Substrait(bytes) => {
                let tables = crate::substrait::tables(bytes, &self.context.state())?;
                return Ok(tables.iter().map(ToString::to_string).collect());
            }
        };
        let parsed = self.parse(text, *dialect)?.under(self.policy)?;
        let mut tables = names(&parsed);
        if let Some(name) = parsed.executes() {
            tables.extend(names(&self.prepared.get(&name)?.parsed));
        }
        // SHOW and DESCRIBE ask the catalog, whatever they name.
        if parsed.asks_the_catalog() {
            tables.push(format!("{INFORMATION_SCHEMA}.tables"));
        }
        Ok(tables)
    }

    /// The tables that `sql` names, without CTEs and table functions, sorted; qualified names with their dots. Nothing needs to be
    /// registered.
    ///
    /// # Errors
    /// The same refusals as [`plan_query`](Self::plan_query), but for those that take a plan.
    pub fn referenced_tables(&self, sql: &str) -> Result<Vec<String>, QueryError> {
        Ok(names(&self.parse(sql, Dialect::Generic)?.into_query()?))
    }

    /// The statements that can be executed by name, sorted: the system queries, what extensions brought, and what was
    /// prepared here.
    #[must_use]
    pub fn prepared_statements(&self) -> Vec<PreparedStatement> {
        self.prepared.list()
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
        &self.functions.builtins
    }

    /// The functions that were installed with a version: those of `alluvium-functions`, and what extensions brought.
    #[must_use]
    pub fn function_versions(&self) -> &FunctionVersions {
        &self.functions.versions
    }

    pub(crate) fn functions(&self) -> &SessionFunctions {
        &self.functions
    }

    /// One statement that calls no table function but those that were installed with the session, unless anything is allowed.
    fn parse(&self, sql: &str, dialect: Dialect) -> Result<Parsed, QueryError> {
        let recursion_limit = self.context.state_ref().read().config_options().sql_parser.recursion_limit.get();
        let unknown = || QueryError::UnknownDialect { text: dialect.to_string(), known: Dialect::available() };
        let dialect = dialect_from_str(dialect).ok_or_else(unknown)?;
        let parsed = statement::parse(sql, dialect.as_ref(), recursion_limit)?;
        self.refuse_foreign_functions(&parsed)?;
        Ok(parsed)
    }

    /// By the functions themselves: one that took the name of another is as foreign as any.
    pub(crate) fn refuse_foreign_functions(&self, parsed: &Parsed) -> Result<(), QueryError> {
        if self.policy == SqlPolicy::Admin {
            return Ok(());
        }
        let state = self.context.state_ref();
        let state = state.read();
        let is_foreign = |name: &&String| {
            let installed = self.table_functions.get(*name);
            state.table_functions().get(*name).is_some_and(|now| installed.is_none_or(|own| !Arc::ptr_eq(own, now)))
        };
        match parsed.called.iter().find(is_foreign) {
            Some(function) => Err(QueryError::ForeignTableFunction { function: function.clone() }),
            None => Ok(()),
        }
    }

    async fn create_external_table(
        &self,
        factory: &dyn ExternalTableFactory,
        table: &CreateExternalTable,
    ) -> Result<DataFrame, QueryError> {
        let refused = |source| QueryError::ExternalTable { table: table.name.to_string(), source };
        factory.create(self, table.clone()).await.map_err(refused)?;
        self.nothing()
    }

    /// Has the effect of a statement, or plans it for its rows.
    async fn run(&self, parsed: Parsed) -> Result<DataFrame, QueryError> {
        if parsed.is_query() {
            let planned = self.plan_parsed(parsed).await?;
            return Ok(DataFrame::new(self.context.state(), planned.plan));
        }
        let plan = self.to_plan(&parsed).await?;
        self.run_plan(plan).await
    }

    /// Has the effect of a plan, or makes it ready for its rows.
    pub(crate) async fn run_plan(&self, plan: LogicalPlan) -> Result<DataFrame, QueryError> {
        self.verify(&plan, self.policy)?;
        let plan = explained::without_credentials(plan).map_err(|error| QueryError::plan(error, None))?;
        let frame = self.context.execute_logical_plan(plan).await;
        frame.map_err(|error| QueryError::plan(error, None))
    }

    /// The engine's plan of a statement, as it is written.
    pub(crate) async fn to_plan(&self, parsed: &Parsed) -> Result<LogicalPlan, QueryError> {
        let state = self.context.state();
        state.statement_to_plan(parsed.statement.clone()).await.map_err(|error| {
            let missing = missing(&state, &parsed.tables);
            QueryError::of_planner(error, Some(&parsed.statement), &missing, &registered(&state))
        })
    }

    async fn plan_parsed(&self, parsed: Parsed) -> Result<PlannedQuery, QueryError> {
        let plan = self.to_plan(&parsed).await?;
        // The syntax has been refused already. This holds even if the engine learns a new way to write it.
        self.verify(&plan, SqlPolicy::ReadOnly)?;
        let plan = without_parameters(self.analyzed(plan, Some(&parsed.statement))?)?;
        Ok(PlannedQuery { plan, tables: parsed.tables, table_functions: parsed.functions.into_iter().collect() })
    }

    /// A plan that was built elsewhere, ready for its rows, if the SQL policy lets it through.
    fn read(&self, plan: LogicalPlan) -> Result<DataFrame, QueryError> {
        let needed = statement::needed_by_plan(&plan);
        if needed > self.policy {
            let statement = plan.display().to_string().split([' ', ':']).next().unwrap_or_default().to_uppercase();
            return Err(QueryError::Forbidden { statement, position: None, policy: self.policy, needed });
        }
        Ok(DataFrame::new(self.context.state(), self.analyzed(plan, None)?))
    }

    #[cfg(feature = "substrait")]
    async fn substrait(&self, bytes: &[u8]) -> Result<LogicalPlan, QueryError> {
        let state = self.context.state();
        crate::substrait::to_plan(bytes, &state).await.map_err(|error| match error {
            QueryError::Substrait { source: SubstraitError::UnknownTable { table } } => {
                QueryError::unknown_table(table, &registered(&state), None)
            }
            error => error,
        })
    }

    /// With types coerced, and with the little that this session does to every query.
    pub(crate) fn analyzed(
        &self,
        plan: LogicalPlan,
        statement: Option<&statement::Statement>,
    ) -> Result<LogicalPlan, QueryError> {
        let state = self.context.state();
        let analyzed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {});
        let plan = analyzed.map_err(|error| QueryError::of_planner(error, statement, &[], &[]))?;
        now::in_microseconds(plan).map_err(|error| QueryError::plan(error, None))
    }

    fn verify(&self, plan: &LogicalPlan, policy: SqlPolicy) -> Result<(), QueryError> {
        let options = SQLOptions::new()
            .with_allow_statements(policy >= SqlPolicy::Service)
            .with_allow_dml(policy >= SqlPolicy::Write)
            .with_allow_ddl(policy >= SqlPolicy::Admin);
        options.verify_plan(plan).map_err(|error| QueryError::plan(error, None))
    }
}

fn without_parameters(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
    let parameters = plan.get_parameter_names().map_err(|error| QueryError::plan(error, None))?;
    match parameters.into_iter().min() {
        Some(name) => Err(QueryError::Parameter { name }),
        None => Ok(plan),
    }
}

fn names(parsed: &Parsed) -> Vec<String> {
    parsed.tables.iter().map(ToString::to_string).collect()
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
mod policy_tests;
#[cfg(test)]
mod prepared_tests;
#[cfg(test)]
mod tests;
