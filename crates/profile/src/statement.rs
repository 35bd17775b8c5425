//! What a statement is, from its syntax alone: its class, the tables and functions it names, and what hides inside it.
//! Everything is refused or let through here, before the engine plans it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use alluvium_contracts::SqlPolicy;
use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
pub(crate) use datafusion::sql::parser::Statement;
use datafusion::sql::parser::{CopyToSource, DFParserBuilder};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{self, ObjectName, Select, Spanned, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::chain;
use crate::ignored;
use crate::query_error::{Position, QueryError};

/// Raised when a policy of the same name lets something else through.
pub(crate) const RULES_EPOCH: u32 = 1;

/// One statement and what it does.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) statement: Statement,
    /// The tables it names, without CTEs and table functions; sorted.
    pub(crate) tables: Vec<TableReference>,
    /// The table functions it calls.
    pub(crate) functions: BTreeSet<TableReference>,
    /// Every name by which the engine may look one of them up.
    pub(crate) called: BTreeSet<String>,
    /// What it takes most of: itself, or something inside it.
    pub(crate) needs: Needs,
}

/// The loosest part of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The tightest policy that lets it through.
    pub(crate) policy: SqlPolicy,
    /// Its first word.
    pub(crate) statement: String,
    /// Where it begins, if the parser recorded it.
    pub(crate) position: Option<Position>,
}

impl Parsed {
    /// Whether it is one query and nothing else: what a view is.
    pub(crate) fn is_query(&self) -> bool {
        matches!(&self.statement, Statement::Statement(inner) if matches!(inner.as_ref(), ast::Statement::Query(_)))
    }

    /// The name of the prepared statement that it executes, if it executes one.
    pub(crate) fn executes(&self) -> Option<String> {
        match &self.statement {
            Statement::Statement(inner) => match inner.as_ref() {
                ast::Statement::Execute { name: Some(name), .. } => {
                    Some(reference(name).map_or_else(|| name.to_string(), |name| name.to_string()))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it is SHOW or DESCRIBE.
    pub(crate) fn asks_the_catalog(&self) -> bool {
        use ast::Statement as S;
        matches!(&self.statement, Statement::Statement(inner) if matches!(
            inner.as_ref(),
            S::ShowTables { .. } | S::ShowColumns { .. } | S::ShowFunctions { .. } | S::ExplainTable { .. }
        ))
    }

    /// The statement, if it is one query that only asks.
    pub(crate) fn into_query(self) -> Result<Self, QueryError> {
        let Needs { policy, statement, position } = &self.needs;
        if !self.is_query() {
            let word = engine_word(&self.statement);
            // What is inside may be looser than what it is inside of.
            let position = position.filter(|_| word == *statement);
            return Err(QueryError::NotAQuery { statement: word, position });
        }
        match policy {
            SqlPolicy::ReadOnly => Ok(self),
            _ => Err(QueryError::NotAQuery { statement: statement.clone(), position: *position }),
        }
    }

    /// The statement, if `policy` lets it through.
    pub(crate) fn under(self, policy: SqlPolicy) -> Result<Self, QueryError> {
        match self.needs.policy <= policy {
            true => Ok(self),
            false => {
                let Needs { policy: needed, statement, position } = self.needs;
                Err(QueryError::Forbidden { statement, position, policy, needed })
            }
        }
    }
}

/// Parses `sql`, which has to be exactly one statement, as the engine would. Unquoted identifiers become lower case.
pub(crate) fn parse(sql: &str, dialect: &dyn Dialect, recursion_limit: usize) -> Result<Parsed, QueryError> {
    chain::check(sql, dialect)?;
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(dialect)
        .with_recursion_limit(recursion_limit)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| QueryError::parse(sql, error))?;
    let statement = match (statements.pop_front(), statements.len()) {
        (None, _) => return Err(QueryError::Empty),
        (Some(statement), 0) => statement,
        (Some(_), more) => return Err(QueryError::ManyStatements { count: more + 1 }),
    };
    let mut walk = Walk::default();
    if let ControlFlow::Break(refusal) = walk.engine_statement(&statement) {
        return Err(refusal);
    }
    let plan_error = |error| QueryError::plan(error, None);
    let (mut tables, _ctes) = resolve_table_references(&statement, true).map_err(plan_error)?;
    // The engine's walk takes the functions of FROM for tables.
    tables.retain(|table| !walk.functions.contains(table) || walk.tables.contains(table));
    let needs = walk.needs.unwrap_or_else(|| Needs {
        policy: SqlPolicy::ReadOnly,
        statement: engine_word(&statement),
        position: None,
    });
    Ok(Parsed { statement, tables, functions: walk.functions, called: walk.called, needs })
}

/// The tightest policy that lets a statement through, whatever is inside it. What is not known takes the loosest.
fn needed(statement: &ast::Statement) -> SqlPolicy {
    use ast::Statement as S;
    match statement {
        S::Query(_)
        | S::Explain { .. }
        | S::ExplainTable { .. }
        | S::ShowVariable { .. }
        | S::ShowTables { .. }
        | S::ShowColumns { .. }
        | S::ShowFunctions { .. }
        // What it runs is looked up and judged when it runs.
        | S::Execute { .. } => SqlPolicy::ReadOnly,
        S::Set(_)
        | S::Reset(_)
        | S::Prepare { .. }
        | S::Deallocate { .. }
        | S::StartTransaction { .. }
        | S::Commit { .. }
        | S::Rollback { .. } => SqlPolicy::Service,
        S::Insert(_)
        | S::Update(_)
        | S::Delete(_)
        | S::Merge(_)
        | S::Truncate(_)
        | S::Copy { .. }
        | S::CopyIntoSnowflake { .. } => SqlPolicy::Write,
        _ => SqlPolicy::Admin,
    }
}

/// The tightest policy that lets a plan through.
pub(crate) fn needed_by_plan(plan: &LogicalPlan) -> SqlPolicy {
    let mut needed = SqlPolicy::ReadOnly;
    let walked = plan.apply_with_subqueries(|node| {
        needed = needed.max(match node {
            LogicalPlan::Statement(_) => SqlPolicy::Service,
            LogicalPlan::Dml(_) | LogicalPlan::Copy(_) => SqlPolicy::Write,
            LogicalPlan::Ddl(_) => SqlPolicy::Admin,
            _ => SqlPolicy::ReadOnly,
        });
        Ok(TreeNodeRecursion::Continue)
    });
    // A plan that cannot be walked is not known to be harmless.
    walked.map_or(SqlPolicy::Admin, |_| needed)
}

/// The tables that a plan scans, sorted.
pub(crate) fn tables_of_plan(plan: &LogicalPlan) -> Vec<TableReference> {
    let mut tables = BTreeSet::new();
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.insert(scan.table_name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the walk itself never fails");
    tables.into_iter().collect()
}

fn engine_word(statement: &Statement) -> String {
    match statement {
        Statement::Statement(inner) => first_word(inner),
        Statement::CreateExternalTable(_) => "CREATE".to_owned(),
        Statement::CopyTo(_) => "COPY".to_owned(),
        Statement::Explain(_) => "EXPLAIN".to_owned(),
        Statement::Reset(_) => "RESET".to_owned(),
    }
}

/// Where `table` is first named in `statement`.
pub(crate) fn position_of_table(statement: &Statement, table: &TableReference) -> Option<Position> {
    struct Find<'t>(&'t TableReference);
    impl Visitor for Find<'_> {
        type Break = Option<Position>;
        fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<Self::Break> {
            match reference(name) {
                Some(found) if found == *self.0 => ControlFlow::Break(Position::of(name.span())),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    visit(statement, &mut Find(table))
}

/// Where a column `name`, of `relation` if it was written with one, is first named in `statement`.
pub(crate) fn position_of_column(statement: &Statement, relation: Option<&str>, name: &str) -> Option<Position> {
    struct Find<'n>(Option<&'n str>, &'n str);
    impl Visitor for Find<'_> {
        type Break = Option<Position>;
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Self::Break> {
            let parts = match expr {
                ast::Expr::Identifier(ident) => std::slice::from_ref(ident),
                ast::Expr::CompoundIdentifier(parts) => parts.as_slice(),
                _ => return ControlFlow::Continue(()),
            };
            let Some((last, before)) = parts.split_last() else {
                return ControlFlow::Continue(());
            };
            let same_relation = match (self.0, before.last()) {
                (Some(relation), Some(ident)) => normalized(ident) == relation,
                (None, None) => true,
                _ => false,
            };
            if same_relation && normalized(last) == self.1 {
                return ControlFlow::Break(Position::of(expr.span()));
            }
            ControlFlow::Continue(())
        }
    }
    visit(statement, &mut Find(relation, name))
}

fn visit(statement: &Statement, visitor: &mut impl Visitor<Break = Option<Position>>) -> Option<Position> {
    let Statement::Statement(statement) = statement else {
        return None;
    };
    match statement.visit(visitor) {
        ControlFlow::Break(position) => position,
        ControlFlow::Continue(()) => None,
    }
}

pub(crate) fn normalized(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

fn reference(name: &ObjectName) -> Option<TableReference> {
    // What cannot be a table reference fails in the engine, with its own message.
    object_name_to_table_reference(name.clone(), true).ok()
}

/// Finds what hides inside a statement: other statements, SELECT INTO, clauses without effect; and tells table functions from
/// tables.
#[derive(Default)]
struct Walk {
    functions: BTreeSet<TableReference>,
    called: BTreeSet<String>,
    tables: BTreeSet<TableReference>,
    /// The loosest part so far; of equals the first.
    needs: Option<Needs>,
    /// How many statements were met.
    statements: usize,
}

impl Walk {
    /// The engine's own statements wrap those of the parser, and each other.
    fn engine_statement(&mut self, statement: &Statement) -> ControlFlow<QueryError> {
        match statement {
            Statement::Statement(inner) => inner.visit(self),
            Statement::Explain(explain) => {
                self.statements += 1;
                self.engine_statement(&explain.statement)
            }
            Statement::Reset(_) => self.need(SqlPolicy::Service, || "RESET".to_owned(), Span::empty()),
            Statement::CreateExternalTable(_) => self.need(SqlPolicy::Admin, || "CREATE".to_owned(), Span::empty()),
            Statement::CopyTo(copy) => {
                self.need(SqlPolicy::Write, || "COPY".to_owned(), Span::empty())?;
                match &copy.source {
                    CopyToSource::Query(query) => query.visit(self),
                    CopyToSource::Relation(_) => ControlFlow::Continue(()),
                }
            }
        }
    }

    /// Of `a.b(…)` the engine calls `a` where it stands in FROM alone, and `b` behind LATERAL; the one as it is written, the
    /// other in lower case. Whoever judges a call has to know all of them.
    fn call(&mut self, name: &ObjectName) -> Result<(), QueryError> {
        for part in &name.0 {
            let Some(ident) = part.as_ident() else {
                // The engine takes it for granted, and panics.
                let message = format!("{name} is no name of a table function");
                return Err(QueryError::plan(DataFusionError::Plan(message), Position::of(name.span())));
            };
            self.called.extend([ident.value.clone(), ident.to_string(), normalized(ident)]);
        }
        Ok(())
    }

    fn need(&mut self, policy: SqlPolicy, statement: impl FnOnce() -> String, span: Span) -> ControlFlow<QueryError> {
        if self.needs.as_ref().is_none_or(|needs| needs.policy < policy) {
            self.needs = Some(Needs { policy, statement: statement(), position: Position::of(span) });
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Walk {
    type Break = QueryError;

    fn pre_visit_statement(&mut self, statement: &ast::Statement) -> ControlFlow<Self::Break> {
        use ast::Statement as S;
        self.statements += 1;
        // The engine has a store of prepared statements of its own, which knows no policy: what is inside would reach it.
        if self.statements > 1 && matches!(statement, S::Prepare { .. } | S::Execute { .. } | S::Deallocate { .. }) {
            let (statement, position) = (first_word(statement), Position::of(statement.span()));
            return ControlFlow::Break(QueryError::Nested { statement, position });
        }
        self.need(needed(statement), || first_word(statement), statement.span())
    }

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Self::Break> {
        refuse_ignored(ignored::of_query(query), query.span())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        if let Some(into) = &select.into {
            self.need(SqlPolicy::Admin, || "SELECT INTO".to_owned(), into.name.span())?;
        }
        refuse_ignored(ignored::of_select(select), select.span())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        let named = match factor {
            TableFactor::Table { name, args, .. } => Some((name, args.is_some())),
            TableFactor::Function { name, .. } => Some((name, true)),
            _ => None,
        };
        if let Some((name, is_function)) = named {
            if is_function && let Err(refusal) = self.call(name) {
                return ControlFlow::Break(refusal);
            }
            if let Some(table) = reference(name) {
                let into = if is_function { &mut self.functions } else { &mut self.tables };
                into.insert(table);
            }
        }
        refuse_ignored(ignored::of_table(factor), factor.span())
    }
}

fn refuse_ignored(clause: Option<&'static str>, span: Span) -> ControlFlow<QueryError> {
    match clause {
        Some(clause) => ControlFlow::Break(QueryError::Ignored { clause, position: Position::of(span) }),
        None => ControlFlow::Continue(()),
    }
}

fn first_word(statement: &ast::Statement) -> String {
    statement.to_string().split_whitespace().next().unwrap_or_default().to_uppercase()
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    use super::*;

    fn parse(sql: &str) -> Result<Parsed, QueryError> {
        super::parse(sql, &GenericDialect {}, 50)
    }

    fn tables(sql: &str) -> Vec<String> {
        parse(sql).unwrap().tables.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tables_are_found_wherever_a_query_can_name_one() {
        assert_eq!(tables("select 1"), [""; 0]);
        assert_eq!(tables("SELECT * FROM B, a, B"), ["a", "b"]);
        assert_eq!(tables("select (select max(x) from s) from t where exists (select 1 from e)"), ["e", "s", "t"]);
        assert_eq!(tables("with c as (select * from t), d as (select * from c) select * from d"), ["t"]);
        assert_eq!(tables("with t as (select * from t) select * from t"), ["t"], "the CTE reads the table it shadows");
        assert_eq!(tables("(with t as (select 1) select * from t) union (select * from u)"), ["u"]);
        assert_eq!(
            tables(r#"select * from "MyTable" union all select * from alluvium.cache_runs"#),
            ["MyTable", "alluvium.cache_runs"]
        );
        assert_eq!(tables("select * from a join b using (k) left join (select * from c) x on true"), ["a", "b", "c"]);
    }

    #[test]
    fn functions_of_from_are_no_tables() {
        assert_eq!(tables("select * from generate_series(1, 3)"), [""; 0]);
        assert_eq!(tables("select * from range(1, 3), range"), ["range"]);
        assert_eq!(tables("select * from unnest([1, 2])"), [""; 0]);
    }

    #[test]
    fn only_one_query_passes() {
        let refused = |sql: &str| match parse(sql).and_then(Parsed::into_query) {
            Err(QueryError::NotAQuery { statement, .. }) => statement,
            other => panic!("{sql}: {other:?}"),
        };
        for (sql, statement) in [
            ("create table t (a int)", "CREATE"),
            ("create view v as select 1", "CREATE"),
            ("create or replace table t as select 1", "CREATE"),
            ("create external table t stored as csv location 'x'", "CREATE"),
            ("create function f(int) returns int return $1", "CREATE"),
            ("drop table t", "DROP"),
            ("alter table t add column a int", "ALTER"),
            ("truncate table t", "TRUNCATE"),
            ("insert into t values (1)", "INSERT"),
            ("update t set a = 1", "UPDATE"),
            ("delete from t", "DELETE"),
            ("merge into t using s on t.a = s.a when matched then delete", "MERGE"),
            ("copy t to 'x.parquet'", "COPY"),
            ("copy (select 1) to 'x.parquet'", "COPY"),
            ("set datafusion.execution.batch_size = 1", "SET"),
            ("reset datafusion.execution.batch_size", "RESET"),
            ("prepare p as select 1", "PREPARE"),
            ("execute p", "EXECUTE"),
            ("deallocate p", "DEALLOCATE"),
            ("explain select 1", "EXPLAIN"),
            ("explain analyze select 1", "EXPLAIN"),
            ("describe t", "DESCRIBE"),
            ("show tables", "SHOW"),
            ("begin", "BEGIN"),
            ("start transaction", "START"),
            ("use db", "USE"),
            ("with a as (select 1) insert into t select * from a", "INSERT"),
            ("with a as (insert into t values (1) returning *) select * from a", "INSERT"),
            ("with a as (delete from t returning *) select * from a", "DELETE"),
            ("select * into t from (values (1))", "SELECT INTO"),
            ("select * from (select * into t from (values (1))) x", "SELECT INTO"),
        ] {
            assert_eq!(refused(sql), statement, "{sql}");
        }
        for (sql, count) in [("select 1; select 2", 2), ("select 1; drop table t; select 2", 3)] {
            assert!(matches!(parse(sql), Err(QueryError::ManyStatements { count: c }) if c == count), "{sql}");
        }
        for sql in ["", " ;; ", "-- nothing\n"] {
            assert!(matches!(parse(sql), Err(QueryError::Empty)), "{sql}");
        }
        parse("select 1;").unwrap();
    }
}
