//! A query in another dialect of SQL, and what of it that dialect does not have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::{Contract, Form, UnknownFields};
use crate::words::words;

words!(
    /// A dialect that a query can be written in.
    TargetDialect {
        /// The engine's own.
        Generic => "generic",
        /// PostgreSQL's.
        Postgresql => "postgresql",
        /// DuckDB's.
        Duckdb => "duckdb",
        /// MySQL's.
        Mysql => "mysql",
        /// SQLite's.
        Sqlite => "sqlite",
        /// BigQuery's.
        Bigquery => "bigquery",
        /// Snowflake's.
        Snowflake => "snowflake",
    }
);

/// What `alluvium transpile --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TranspileDocument {
    /// The dialect that the query is written in.
    pub to: TargetDialect,
    /// The query in that dialect; none where something could not be carried.
    pub sql: Option<String>,
    /// Everything that could not be carried, in the order in which the plan has it.
    pub not_carried: Vec<NotCarried>,
}

/// A part of a query that the dialect has no word for, or another meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotCarried {
    /// The part, as the engine writes it.
    pub construct: String,
    /// Why it could not be carried.
    pub reason: String,
}

impl Contract for TranspileDocument {
    const KIND: &'static str = "transpile_document";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium transpile --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            to: TargetDialect::Mysql,
            sql: None,
            not_carried: vec![NotCarried {
                construct: "delay / 60".to_owned(),
                reason: "an integer divided by an integer is no integer in mysql".to_owned(),
            }],
        }
    }
}
