//! What is wrong with a query, where, and what was probably meant.

use std::fmt;

use alluvium_contracts::SqlPolicy;
use datafusion::common::diagnostic::Diagnostic;
use datafusion::common::utils::quote_identifier;
use datafusion::common::{Column, SchemaError, TableReference};
use datafusion::error::DataFusionError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Span;
use strsim::normalized_damerau_levenshtein;

use crate::statement::{position_of_column, position_of_table};
#[cfg(feature = "substrait")]
use crate::substrait::SubstraitError;

/// A place in an SQL text; both numbers start at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column in it.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Position {
    /// The start of a span, unless the parser recorded none.
    pub(crate) fn of(span: Span) -> Option<Self> {
        let start = span.start;
        (start.line > 0).then_some(Self { line: start.line, column: start.column })
    }

    fn of_diagnostic(diagnostic: &Diagnostic) -> Option<Self> {
        let start = diagnostic.span?.start;
        (start.line > 0).then_some(Self { line: start.line, column: start.column })
    }

    /// Just behind the last character that is not white space: where something is missing.
    fn end_of(sql: &str) -> Self {
        let sql = sql.trim_end();
        let last = sql.rsplit('\n').next().unwrap_or_default();
        Self { line: count(sql.matches('\n').count()) + 1, column: count(last.chars().count()) + 1 }
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Why SQL is not a query that can be planned. Nothing was run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text holds no statement.
    #[error("there is no SQL here: write one query")]
    Empty,
    /// The text is not SQL.
    #[error("the SQL does not parse{}: {message}", at(*position))]
    Parse {
        /// Where the parser stopped.
        position: Option<Position>,
        /// What it expected or found.
        message: String,
    },
    /// The statement is something else than a query.
    #[error("{statement} is not allowed{}: write one query (SELECT, VALUES, or WITH … SELECT)", at(*position))]
    NotAQuery {
        /// Its first word.
        statement: String,
        /// Where it begins, if it hides inside a query and the parser recorded it.
        position: Option<Position>,
    },
    /// The SQL policy forbids the statement, or one inside it.
    #[error(
        "{statement} is not allowed{}: the SQL policy is `{policy}`, and this takes `{needed}`; set `sql_policy` of [profile] \
         if it is meant",
        at(*position)
    )]
    Forbidden {
        /// Its first word.
        statement: String,
        /// Where it begins, if the parser recorded it.
        position: Option<Position>,
        /// The policy of the session.
        policy: SqlPolicy,
        /// The tightest policy that lets it through.
        needed: SqlPolicy,
    },
    /// PREPARE, EXECUTE or DEALLOCATE inside another statement.
    #[error("{statement} cannot stand inside another statement{}: write it alone", at(*position))]
    Nested {
        /// Its first word.
        statement: String,
        /// Where it begins, if the parser recorded it.
        position: Option<Position>,
    },
    /// A table function that was not installed with the session: nobody knows what it reads.
    #[error(
        "the table function `{function}` is not allowed: install it with the session, or set `sql_policy` of [profile] to `admin`"
    )]
    ForeignTableFunction {
        /// Its name.
        function: String,
    },
    /// The text names no dialect of SQL.
    #[error("`{text}` is no dialect of SQL: write one of {known}")]
    UnknownDialect {
        /// The text.
        text: String,
        /// Those there are.
        known: &'static str,
    },
    /// No statement was prepared under this name.
    #[error("no statement was prepared as `{name}`{}", meant(suggestion.as_deref()))]
    UnknownPrepared {
        /// The name.
        name: String,
        /// The most similar name that there is.
        suggestion: Option<String>,
    },
    /// A statement was prepared under this name already.
    #[error("a statement was prepared as `{name}` already: take another name, or DEALLOCATE it first")]
    PreparedTwice {
        /// The name.
        name: String,
    },
    /// A system query cannot be taken away.
    #[error("`{name}` is a system query, and stays: take another name")]
    SystemQuery {
        /// The name.
        name: String,
    },
    /// A prepared statement was given another number of values than it has parameters.
    #[error("the prepared statement `{name}` takes {expected} values, and was given {found}: EXECUTE {name}(…)")]
    ParameterCount {
        /// Its name.
        name: String,
        /// Its parameters.
        expected: usize,
        /// The values.
        found: usize,
    },
    /// A value for a prepared statement is not of its parameter's type, or is not constant.
    #[error("value {position} for the prepared statement `{name}` has to be a constant {expected}")]
    ParameterValue {
        /// The statement's name.
        name: String,
        /// From 1.
        position: usize,
        /// The type of the parameter.
        expected: String,
        /// The engine's word, if it has one.
        source: Option<Box<DataFusionError>>,
    },
    /// The query has a clause that the engine reads and ignores, so that it would mean something else than what runs.
    #[error("{clause} is not supported{}: the engine would ignore it; write the query without", at(*position))]
    Ignored {
        /// The clause.
        clause: &'static str,
        /// Where the table or query that has it begins.
        position: Option<Position>,
    },
    /// The text holds several statements.
    #[error("{count} statements where one query is expected: keep one, and move the others to views of their own")]
    ManyStatements {
        /// How many.
        count: usize,
    },
    /// An expression, or a row of joins or unions, that would overflow the engine's stack.
    #[error(
        "more than {longest} operators in one chain{}: use `in (…)`, or join a table of the values",
        at(*position)
    )]
    LongChain {
        /// How many are let through.
        longest: usize,
        /// The first that is not.
        position: Option<Position>,
    },
    /// No table of this name is registered.
    #[error("unknown table `{table}`{}{}", at(*position), meant(suggestion.as_deref()))]
    UnknownTable {
        /// The name, with dots if it was qualified.
        table: String,
        /// The most similar name that is registered.
        suggestion: Option<String>,
        /// Where it is first named.
        position: Option<Position>,
    },
    /// No column of this name is in scope.
    #[error("unknown column `{column}`{}{}", at(*position), meant(suggestion.as_deref()))]
    UnknownColumn {
        /// The name, with its qualifier if it was written.
        column: String,
        /// The most similar name in scope, quoted if SQL needs it.
        suggestion: Option<String>,
        /// Where it is named.
        position: Option<Position>,
    },
    /// The query has a parameter (`$1`), and nobody to give it a value.
    #[error("the query has the parameter `{name}`: write a value in its place")]
    Parameter {
        /// Its name.
        name: String,
    },
    /// What `CREATE EXTERNAL TABLE` declares cannot be registered.
    #[error("the external table {table} cannot be created")]
    ExternalTable {
        /// Its name as it was written.
        table: String,
        /// What is wrong with it, from whoever makes tables of its file type.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The bytes are not taken for a Substrait plan.
    #[cfg(feature = "substrait")]
    #[error("the Substrait plan cannot be read")]
    Substrait {
        /// Why, and what to do.
        source: SubstraitError,
    },
    /// The engine cannot plan the query: a wrong type, an unknown function, something it does not support.
    #[error("the query cannot be planned{}", at(*position))]
    Plan {
        /// Where, if the engine says.
        position: Option<Position>,
        /// The engine's word, which names the fault.
        source: Box<DataFusionError>,
    },
}

fn at(position: Option<Position>) -> String {
    position.map(|position| format!(" at {position}")).unwrap_or_default()
}

fn meant(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!(": did you mean `{name}`?")).unwrap_or_default()
}

impl QueryError {
    /// Where in the SQL text, if known.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Parse { position, .. }
            | Self::NotAQuery { position, .. }
            | Self::Forbidden { position, .. }
            | Self::Nested { position, .. }
            | Self::Ignored { position, .. }
            | Self::LongChain { position, .. }
            | Self::UnknownTable { position, .. }
            | Self::UnknownColumn { position, .. }
            | Self::Plan { position, .. } => *position,
            Self::Empty
            | Self::ManyStatements { .. }
            | Self::Parameter { .. }
            | Self::ForeignTableFunction { .. }
            | Self::UnknownDialect { .. }
            | Self::UnknownPrepared { .. }
            | Self::PreparedTwice { .. }
            | Self::SystemQuery { .. }
            | Self::ParameterCount { .. }
            | Self::ParameterValue { .. }
            | Self::ExternalTable { .. } => None,
            #[cfg(feature = "substrait")]
            Self::Substrait { .. } => None,
        }
    }

    /// An error of the parser, which has the place only in its text.
    pub(crate) fn parse(sql: &str, error: DataFusionError) -> Self {
        let DataFusionError::SQL(parser, _) = error.find_root() else {
            return Self::plan(error, None);
        };
        let text = match parser.as_ref() {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
            ParserError::RecursionLimitExceeded => {
                "it is nested too deeply: move parts of it to WITH or to other views"
            }
        };
        let (message, position) = match text.rsplit_once(" at Line: ") {
            Some((message, place)) => (
                message,
                place.split_once(", Column: ").and_then(|(line, column)| {
                    Some(Position { line: line.parse().ok()?, column: column.parse().ok()? })
                }),
            ),
            // The end of the text has no place of its own in the parser.
            None => (text, text.ends_with("found: EOF").then(|| Position::end_of(sql))),
        };
        // What stands in the options of a table may be a credential.
        let message = match message.split_once(", found: ") {
            Some((expected, found)) if found != "EOF" && declares_options(sql) => expected,
            _ => message,
        };
        Self::Parse { position, message: message.to_owned() }
    }

    /// An error of the planner that needs no closer look.
    pub(crate) fn plan(error: DataFusionError, position: Option<Position>) -> Self {
        Self::Plan { position, source: Box::new(error) }
    }

    /// `known` are the tables that there are.
    pub(crate) fn unknown_table(table: String, known: &[String], position: Option<Position>) -> Self {
        // As it has to be written: a name with capitals in quotes. Dots part a qualified name's parts.
        let suggestion = closest(&table, known.iter().map(String::as_str))
            .map(|name| name.split('.').map(quote_identifier).collect::<Vec<_>>().join("."));
        Self::UnknownTable { table, suggestion, position }
    }

    /// An error of the planner. `missing` are the tables of the query that are not registered, each with the name by
    /// which the engine would miss it; `known` are those that are.
    pub(crate) fn of_planner(
        error: DataFusionError,
        statement: Option<&Statement>,
        missing: &[(TableReference, String)],
        known: &[String],
    ) -> Self {
        let text = error.to_string();
        if let Some((table, _)) = missing.iter().find(|(_, name)| text.contains(&format!("table '{name}' not found"))) {
            let position = statement.and_then(|statement| position_of_table(statement, table));
            return Self::unknown_table(table.to_string(), known, position);
        }
        let diagnosed = error.diagnostic().and_then(Position::of_diagnostic);
        match error.find_root() {
            DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
                SchemaError::FieldNotFound { field, valid_fields } => unknown_column(field, valid_fields, |relation| {
                    diagnosed.or_else(|| statement.and_then(|s| position_of_column(s, relation, &field.name)))
                }),
                SchemaError::AmbiguousReference { field } => {
                    let relation = field.relation.as_ref().map(TableReference::table);
                    let position =
                        diagnosed.or_else(|| statement.and_then(|s| position_of_column(s, relation, &field.name)));
                    Self::plan(error, position)
                }
                _ => Self::plan(error, diagnosed),
            },
            _ => Self::plan(error, diagnosed),
        }
    }
}

/// Whether it may be a `CREATE EXTERNAL TABLE`. It does not parse, so nobody knows.
fn declares_options(sql: &str) -> bool {
    sql.split(|c: char| !c.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case("external"))
}

fn unknown_column(field: &Column, valid: &[Column], position: impl Fn(Option<&str>) -> Option<Position>) -> QueryError {
    let relation = field.relation.as_ref().map(TableReference::table);
    // Of the relation that was written, if there is one: another's column would be no fix.
    let of_relation = |column: &&Column| {
        relation.is_none_or(|relation| column.relation.as_ref().is_none_or(|found| found.table() == relation))
    };
    let suggestion = closest(&field.name, valid.iter().filter(of_relation).map(|column| column.name.as_str()));
    QueryError::UnknownColumn {
        column: match relation {
            Some(relation) => format!("{relation}.{}", field.name),
            None => field.name.clone(),
        },
        suggestion: suggestion.map(|name| match relation {
            Some(relation) => format!("{}.{}", quote_identifier(relation), quote_identifier(name)),
            None => quote_identifier(name).into_owned(),
        }),
        position: position(relation),
    }
}

/// The candidate most like `name`, if any is alike at all; case counts for nothing.
fn closest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let name = name.to_lowercase();
    candidates
        .map(|candidate| (normalized_damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(alike, _)| *alike >= 0.6)
        // Of equals the first by name, so that a message does not change from run to run.
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| candidate)
}
