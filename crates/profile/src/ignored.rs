//! Clauses that the parser reads and the planner drops without a word. A query that has one means something else than what
//! would run, so it is refused.

use datafusion::sql::sqlparser::ast::{GroupByExpr, Query, Select, TableFactor};

/// Such a clause of a table in FROM.
pub(crate) fn of_table(factor: &TableFactor) -> Option<&'static str> {
    match factor {
        TableFactor::Table {
            with_hints, version, with_ordinality, partitions, json_path, sample, index_hints, ..
        } => first([
            ("TABLESAMPLE", sample.is_some()),
            ("a version of a table (AS OF)", version.is_some()),
            ("PARTITION of a table", !partitions.is_empty()),
            ("WITH ORDINALITY", *with_ordinality),
            ("a path into a table", json_path.is_some()),
            ("a table hint", !with_hints.is_empty() || !index_hints.is_empty()),
        ]),
        TableFactor::Derived { sample, .. } => first([("TABLESAMPLE", sample.is_some())]),
        _ => None,
    }
}

/// Such a clause of a SELECT.
pub(crate) fn of_select(select: &Select) -> Option<&'static str> {
    let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = &select.group_by;
    first([
        ("PREWHERE", select.prewhere.is_some()),
        ("CONNECT BY", !select.connect_by.is_empty()),
        ("a modifier of GROUP BY (WITH …)", !modifiers.is_empty()),
        ("EXCLUDE behind the select list", select.exclude.is_some()),
        ("SELECT AS", select.value_table_mode.is_some()),
    ])
}

/// Such a clause of a whole query.
pub(crate) fn of_query(query: &Query) -> Option<&'static str> {
    first([
        ("FOR UPDATE or FOR SHARE", !query.locks.is_empty()),
        ("FOR XML, JSON or BROWSE", query.for_clause.is_some()),
        ("SETTINGS", query.settings.is_some()),
        ("FORMAT", query.format_clause.is_some()),
    ])
}

fn first<const N: usize>(clauses: [(&'static str, bool); N]) -> Option<&'static str> {
    clauses.into_iter().find_map(|(clause, present)| present.then_some(clause))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use datafusion::sql::sqlparser::ast::{Visit, Visitor};
    use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, dialect_from_str};
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;
    use crate::query_error::QueryError;

    /// What is found in `sql`, read by a dialect that knows the clause.
    fn found(dialect: &dyn Dialect, sql: &str) -> Option<&'static str> {
        struct Walk;
        impl Visitor for Walk {
            type Break = &'static str;
            fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
                of_query(query).map_or(ControlFlow::Continue(()), ControlFlow::Break)
            }
            fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
                of_select(select).map_or(ControlFlow::Continue(()), ControlFlow::Break)
            }
            fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
                of_table(factor).map_or(ControlFlow::Continue(()), ControlFlow::Break)
            }
        }
        match Parser::parse_sql(dialect, sql).unwrap().visit(&mut Walk) {
            ControlFlow::Break(clause) => Some(clause),
            ControlFlow::Continue(()) => None,
        }
    }

    #[test]
    fn each_clause_is_found() {
        let mut wrong = Vec::new();
        for (dialect, sql, clause) in [
            ("generic", "select * from t tablesample (10 percent)", "TABLESAMPLE"),
            ("generic", "select * from (select * from t) x tablesample (10 rows)", "TABLESAMPLE"),
            ("mssql", "select * from t for system_time as of '2024-01-01'", "a version of a table (AS OF)"),
            ("mysql", "select * from t partition (p)", "PARTITION of a table"),
            ("generic", "select * from f(1) with ordinality", "WITH ORDINALITY"),
            ("redshift", "select * from t[0].a", "a path into a table"),
            ("generic", "select * from t with (nolock)", "a table hint"),
            ("mysql", "select * from t use index (i)", "a table hint"),
            ("generic", "select * from t prewhere a = 1", "PREWHERE"),
            ("generic", "select * from t start with a = 1 connect by prior a = b", "CONNECT BY"),
            ("generic", "select a, sum(b) from t group by a with totals", "a modifier of GROUP BY (WITH …)"),
            ("redshift", "select a, b exclude b from t", "EXCLUDE behind the select list"),
            ("bigquery", "select as struct a from t", "SELECT AS"),
            ("generic", "select * from t where a in (select a from u for update)", "FOR UPDATE or FOR SHARE"),
            ("generic", "select * from t for json auto", "FOR XML, JSON or BROWSE"),
            ("generic", "select * from t settings max_threads = 1", "SETTINGS"),
            ("generic", "select * from t format json", "FORMAT"),
        ] {
            let dialect = dialect_from_str(dialect).unwrap();
            let found = found(dialect.as_ref(), sql);
            if found != Some(clause) {
                wrong.push((sql, found));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn clauses_that_work_and_comments_pass() {
        for sql in [
            "select a, sum(b) from t group by all",
            "select a from t group by rollup (a)",
            "select * exclude (a) from t",
            "select /*+ broadcast(t) */ * from t order by a limit 1 offset 2",
        ] {
            assert_eq!(found(&GenericDialect {}, sql), None, "{sql}");
        }
    }

    #[test]
    fn a_query_that_has_one_is_refused() {
        for sql in [
            "select * from t tablesample (10 percent)",
            "select * from t prewhere a = 1",
            "select * from t where a in (select a from u for update)",
        ] {
            let error = crate::statement::parse(sql, &GenericDialect {}, 50).unwrap_err();
            assert!(matches!(error, QueryError::Ignored { .. }), "{sql}: {error}");
        }
    }
}
