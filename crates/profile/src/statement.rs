//! The SQL policy: exactly one query. Everything else is refused from its syntax, before the engine plans it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{self, ObjectName, Select, Spanned, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::ignored;
use crate::query_error::{Position, QueryError};

/// A statement that is known to be one query.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) statement: Statement,
    /// The tables it names, without CTEs and table functions; sorted.
    pub(crate) tables: Vec<TableReference>,
}

/// Parses `sql` as the engine would and applies the policy. Unquoted identifiers become lower case.
pub(crate) fn parse(sql: &str, recursion_limit: usize) -> Result<Query, QueryError> {
    let mut statements = DFParserBuilder::new(sql)
        .with_recursion_limit(recursion_limit)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| QueryError::parse(sql, error))?;
    let statement = match (statements.pop_front(), statements.len()) {
        (None, _) => return Err(QueryError::Empty),
        (Some(statement), 0) => statement,
        (Some(_), more) => return Err(QueryError::ManyStatements { count: more + 1 }),
    };
    let refused = |statement: &str, position| QueryError::NotAQuery { statement: statement.to_owned(), position };
    let query = match &statement {
        Statement::Statement(inner) => match inner.as_ref() {
            ast::Statement::Query(query) => query,
            other => {
                return Err(refused(&first_word(other), Position::of(other.span())));
            }
        },
        Statement::CreateExternalTable(_) => return Err(refused("CREATE", None)),
        Statement::CopyTo(_) => return Err(refused("COPY", None)),
        Statement::Explain(_) => return Err(refused("EXPLAIN", None)),
        Statement::Reset(_) => return Err(refused("RESET", None)),
    };
    let mut walk = Walk::default();
    if let ControlFlow::Break(refusal) = query.visit(&mut walk) {
        return Err(refusal);
    }
    let plan_error = |error| QueryError::plan(error, None);
    let (mut tables, _ctes) = resolve_table_references(&statement, true).map_err(plan_error)?;
    // The engine's walk takes the functions of FROM for tables.
    tables.retain(|table| !walk.functions.contains(table) || walk.tables.contains(table));
    Ok(Query { statement, tables })
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

fn normalized(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

fn reference(name: &ObjectName) -> Option<TableReference> {
    // What cannot be a table reference fails in the engine, with its own message.
    object_name_to_table_reference(name.clone(), true).ok()
}

/// Finds what hides inside a query: statements in CTEs, SELECT INTO, clauses without effect; and tells table functions from tables.
#[derive(Default)]
struct Walk {
    functions: BTreeSet<TableReference>,
    tables: BTreeSet<TableReference>,
}

impl Visitor for Walk {
    type Break = QueryError;

    fn pre_visit_statement(&mut self, statement: &ast::Statement) -> ControlFlow<Self::Break> {
        refuse(first_word(statement), statement.span())
    }

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Self::Break> {
        refuse_ignored(ignored::of_query(query), query.span())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        match &select.into {
            Some(into) => refuse("SELECT INTO".to_owned(), into.name.span()),
            None => refuse_ignored(ignored::of_select(select), select.span()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Table { name, args, .. } = factor
            && let Some(table) = reference(name)
        {
            let into = if args.is_some() { &mut self.functions } else { &mut self.tables };
            into.insert(table);
        }
        refuse_ignored(ignored::of_table(factor), factor.span())
    }
}

fn refuse(statement: String, span: Span) -> ControlFlow<QueryError> {
    ControlFlow::Break(QueryError::NotAQuery { statement, position: Position::of(span) })
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
    use super::*;

    fn tables(sql: &str) -> Vec<String> {
        parse(sql, 50).unwrap().tables.iter().map(ToString::to_string).collect()
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
        let refused = |sql: &str| match parse(sql, 50) {
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
            assert!(matches!(parse(sql, 50), Err(QueryError::ManyStatements { count: c }) if c == count), "{sql}");
        }
        for sql in ["", " ;; ", "-- nothing\n"] {
            assert!(matches!(parse(sql, 50), Err(QueryError::Empty)), "{sql}");
        }
        parse("select 1;", 50).unwrap();
    }
}
