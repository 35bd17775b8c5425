//! Data files that could not be written.

use std::path::PathBuf;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use super::{EngineError, PolicyError, ReadError};

/// Data files could not be written. Nothing of them is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The policy does not suit the schema.
    #[error("the write policy does not suit the schema")]
    Policy {
        /// Which field, and what to change.
        #[from]
        source: PolicyError,
    },
    /// A table is there already and cannot be read.
    #[error("the table that is to be written cannot be read first; repair it or write elsewhere")]
    Table {
        /// What is wrong with it.
        #[from]
        source: ReadError,
    },
    /// A table is there already and needs what this build cannot write.
    #[error("the table at {} needs `{feature}`, which this build cannot write; write elsewhere, or drop the feature with the tool that set it", .path.display())]
    Unsupported {
        /// The table.
        path: PathBuf,
        /// The table feature, or the property that asks for it.
        feature: String,
    },
    /// The directory cannot be made or opened.
    #[error("the table directory {} cannot be used; check that it is a directory and writable", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A stream ended in an error: the query failed, not the write.
    #[error("the query whose rows were being written failed")]
    Stream {
        /// The query's error.
        #[source]
        source: Box<DataFusionError>,
    },
    /// A stream yields other columns than were declared.
    #[error(
        "column {index} of a batch is `{found}`, the declared schema says `{expected}`; cast and rename before writing"
    )]
    Schema {
        /// The position, from 0.
        index: usize,
        /// Name and type that the schema declares (empty: no such column).
        expected: String,
        /// Name and type that the batch has (empty: no such column).
        found: String,
    },
    /// A batch breaks the declared schema: a NULL in a column that allows none.
    #[error("a batch breaks the declared schema; see the cause for the column")]
    Batch {
        /// Which column, and how.
        #[source]
        source: ArrowError,
    },
    /// Rows break a constraint of the table or of the policy.
    #[error(
        "{violations} rows of a batch break `{constraint}`: `{sql}` is not true of them; correct the rows or the constraint"
    )]
    Constraint {
        /// Its name; `replace_where` for a row that lies outside what it replaces.
        constraint: String,
        /// The condition.
        sql: String,
        /// How many rows of the batch break it.
        violations: usize,
    },
    /// A key is NULL, which equals nothing.
    #[error(
        "a row has a NULL in the key column `{column}`, which can match no row; give it a value or choose other keys"
    )]
    NullKey {
        /// The column.
        column: String,
    },
    /// Two rows that are written share a key.
    #[error("two rows share the same values of the keys {}; which one should win is not known, keep one of them", .columns.join(", "))]
    DuplicateKey {
        /// The key columns.
        columns: Vec<String>,
    },
    /// Delta cannot tell this partition value from NULL.
    #[error(
        "partition column `{column}` holds the value {value:?}, which a Delta table reads back as NULL; replace the value or do not partition by this column"
    )]
    PartitionValue {
        /// The column.
        column: String,
        /// The value.
        value: String,
    },
    /// The file system takes no name this long. Partition values become names of directories.
    #[error("a name in {} is too long for the file system: a value of a partition column has to fit into a directory's name (255 bytes, special characters count three times); partition by another column", .path.display())]
    NameTooLong {
        /// The table.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: EngineError,
    },
    /// A file could not be written.
    #[error("a data file of {} could not be written; check the space and permissions there", .path.display())]
    Store {
        /// The table.
        path: PathBuf,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// The task of a stream panicked.
    #[error("writing a stream into {} panicked; this is a bug in the plan or in the engine", .path.display())]
    Panicked {
        /// The table.
        path: PathBuf,
        /// What the runtime says.
        #[source]
        source: tokio::task::JoinError,
    },
}

impl WriteError {
    /// Whether the caller's rows, policy or table are at fault, rather than the machine or the query.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::Policy { .. }
            | Self::Unsupported { .. }
            | Self::Schema { .. }
            | Self::Batch { .. }
            | Self::Constraint { .. }
            | Self::NullKey { .. }
            | Self::DuplicateKey { .. }
            | Self::PartitionValue { .. }
            | Self::NameTooLong { .. } => true,
            Self::Table { source } => source.is_input(),
            Self::Directory { .. } | Self::Stream { .. } | Self::Store { .. } | Self::Panicked { .. } => false,
        }
    }
}
