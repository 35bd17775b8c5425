//! What can be asked of a session, whichever front end asks.

use std::str::FromStr;

use datafusion::config::Dialect;
use datafusion::prelude::DataFrame;

use crate::query_error::QueryError;

/// A statement in text, or a plan that was built, here or elsewhere. All go the same way: [`Session::execute`](crate::Session::execute).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Query {
    /// One statement of SQL.
    Sql {
        /// Its text.
        text: String,
        /// The dialect that it is parsed by. What it means is the engine's, whatever the dialect.
        dialect: Dialect,
    },
    /// A plan of the engine's builder, of this session or another. It scans the tables that it was made of, whatever has their
    /// names by now in the session that is asked.
    DataFrame(DataFrame),
    /// A plan in the binary form of [Substrait](https://substrait.io), over the tables of the session that is asked.
    #[cfg(feature = "substrait")]
    Substrait(Vec<u8>),
}

impl Query {
    /// One statement in the engine's own dialect.
    #[must_use]
    pub fn sql(text: impl Into<String>) -> Self {
        Self::Sql { text: text.into(), dialect: Dialect::Generic }
    }

    /// One statement in a dialect, by its name: `postgresql`, `duckdb`, `bigquery` and others.
    ///
    /// # Errors
    /// [`QueryError::UnknownDialect`], which lists them.
    pub fn sql_in(text: impl Into<String>, dialect: &str) -> Result<Self, QueryError> {
        let unknown = |_| QueryError::UnknownDialect { text: dialect.to_owned(), known: Dialect::available() };
        Ok(Self::Sql { text: text.into(), dialect: Dialect::from_str(dialect).map_err(unknown)? })
    }
}

/// One statement in the engine's own dialect.
impl From<&str> for Query {
    fn from(text: &str) -> Self {
        Self::sql(text)
    }
}

impl From<&String> for Query {
    fn from(text: &String) -> Self {
        Self::sql(text)
    }
}

impl From<DataFrame> for Query {
    fn from(frame: DataFrame) -> Self {
        Self::DataFrame(frame)
    }
}
