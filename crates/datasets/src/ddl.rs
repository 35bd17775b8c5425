//! A declared dataset as `CREATE EXTERNAL TABLE`, and back, with nothing lost.

mod emit;
mod parse;
mod types;

use alluvium_contracts::DatasetSpec;

pub use emit::create_external_table;
pub use parse::parse_create_external_table;
pub(crate) use parse::read;

/// The option whose value is a JSON object of those fields of a [`DatasetSpec`] that SQL cannot say, or not so exactly. It
/// is held against the same contract, and comes before what the SQL says.
pub const SPEC_OPTION: &str = "alluvium.spec";
/// Options of a Delta table that are fields of the declaration.
const VERSION: &str = "version";
const TIMESTAMP: &str = "timestamp";
/// What the engine's own DDL puts before the options of a format. It means the same with and without.
const FORMAT_PREFIX: &str = "format.";

/// A `CREATE EXTERNAL TABLE`, read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CreateDataset {
    /// The name, without quotes; in lower case if it had none.
    pub name: String,
    /// The declaration.
    pub spec: DatasetSpec,
    /// What is to be done if a table of this name is there.
    pub existing: Existing,
}

/// What registering a dataset does about a table of its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    #[default]
    Refuse,
    /// It is kept, and nothing is registered: `IF NOT EXISTS`.
    Keep,
    /// It is replaced once the new one is ready: `OR REPLACE`.
    Replace,
}

/// A text is no `CREATE EXTERNAL TABLE` that declares a dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DdlError {
    /// It is no statement of SQL.
    #[error("the statement cannot be parsed: {message}")]
    Syntax {
        /// What the parser expected. What it found instead may be a credential, and is not shown.
        message: String,
    },
    /// It is another statement, or several.
    #[error("a dataset is declared by exactly one CREATE EXTERNAL TABLE; this is {found}")]
    NotOne {
        /// What it is.
        found: String,
    },
    /// A clause would reach nothing.
    #[error("{clause} of CREATE EXTERNAL TABLE cannot be honoured: {instead}")]
    Clause {
        /// The clause.
        clause: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// The file type is none of ours.
    #[error("STORED AS {found} is no format: write PARQUET, CSV, JSON, ARROW, AVRO or DELTA")]
    Format {
        /// The file type.
        found: String,
    },
    /// A type of SQL that says no Arrow type exactly.
    #[error(
        "the type {data_type} of the column `{column}` says no Arrow type exactly: declare `schema` in the option '{SPEC_OPTION}'"
    )]
    Type {
        /// The column.
        column: String,
        /// The type as it was written.
        data_type: String,
    },
    /// A partition column without a type.
    #[error("the partition column {column} has no type: write PARTITIONED BY (NAME TYPE, …)")]
    Partition {
        /// The column as it was written.
        column: String,
    },
    /// An option is there twice.
    #[error("the option '{option}' is there twice: keep one of them")]
    OptionTwice {
        /// The option.
        option: String,
    },
    /// An option configures a cloud store, or holds what opens one. Its value is nowhere in this error.
    #[error(
        "the option '{option}' is of a cloud store, and cloud stores are not in this build: leave it out, and name local files"
    )]
    CloudOption {
        /// The option.
        option: String,
    },
    /// A location is a URL with what opens a cloud store.
    #[error("the location {url} is of a cloud store, and cloud stores are not in this build: name local files")]
    CloudLocation {
        /// The location, without what opens it.
        url: String,
    },
    /// An option's value is none.
    #[error("the option '{option}' cannot be '{value}'")]
    Value {
        /// The option.
        option: &'static str,
        /// Its value as it was written.
        value: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
