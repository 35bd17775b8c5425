//! Policies that do not suit a schema.

use alluvium_contracts::{SemanticColumnResult, SemanticStatus, SemanticValidation};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use super::EngineError;

/// The policy does not suit the schema that it should write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Delta tables need a column.
    #[error("the schema has no column; a Delta table needs at least one")]
    NoColumns,
    /// Two columns have one name.
    #[error("the schema has two columns called `{column}` (Delta ignores case); rename one")]
    DuplicateColumn {
        /// The name that comes second.
        column: String,
    },
    /// `target_file_size_bytes` is zero.
    #[error("`target_file_size_bytes` is 0; give the size of a file in bytes, such as 100663296 for 96 MiB")]
    ZeroFileSize,
    /// The policy asks for maintenance that a table which is replaced as a whole never needs.
    #[error("`{field}` is given, and the table is replaced as a whole: {reason}; leave it out here")]
    NotOfReplaced {
        /// The field.
        field: &'static str,
        /// Why it would do nothing.
        reason: &'static str,
    },
    /// The policy asks for something that a replacement of the whole table cannot do.
    #[error("`{field}` is `{value}`, and the table is replaced as a whole; leave it out here")]
    NotHere {
        /// The field.
        field: &'static str,
        /// What it asks for.
        value: &'static str,
    },
    /// A field of the policy names no column.
    #[error("`{field}` names `{column}`, which is no column{}; the columns are {}", hint(.suggestion), .available.join(", "))]
    UnknownColumn {
        /// The field.
        field: &'static str,
        /// The name that was given.
        column: String,
        /// The column whose name comes nearest.
        suggestion: Option<String>,
        /// The columns there are.
        available: Vec<String>,
    },
    /// A field of the policy names a column that it cannot use.
    #[error("`{field}` names `{column}`, which {problem}")]
    Column {
        /// The field.
        field: &'static str,
        /// The column.
        column: String,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
    /// Two fields of the policy do not go together.
    #[error("{problem}; {fix}")]
    Contradiction {
        /// Which fields, and why not.
        problem: &'static str,
        /// What to change.
        fix: &'static str,
    },
    /// A field of the policy has a value that it cannot have.
    #[error("`{field}` {problem}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
    /// Columns do not carry the semantic types that were declared of them.
    #[error("the {} have {}; {}", .carrier.columns(), broken(.validation), .carrier.fix())]
    SemanticTypes {
        /// Whose columns.
        carrier: TypeCarrier,
        /// Every column with what it has to carry and what it does.
        validation: Box<SemanticValidation>,
    },
    /// A feature is asked for that this build cannot keep.
    #[error("`enable_features` asks for `{feature}`: {reason}; drop it, or set `feature_gate` to `warn` or `ignore`")]
    UnsupportedFeature {
        /// The feature's name in the protocol.
        feature: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// `column_mapping` is on.
    #[error(
        "`column_mapping` is on: files are written with the columns' own names; set it to `none`, or make the table with another engine"
    )]
    ColumnMapping,
    /// A SQL condition cannot be used.
    #[error("`{field}` is no condition over the columns: `{sql}`; see the cause")]
    Condition {
        /// The field, with the constraint's name where it is one.
        field: String,
        /// The condition.
        sql: String,
        /// Why.
        #[source]
        source: Box<DataFusionError>,
    },
    /// Parquet has no such schema.
    #[error("the schema cannot be said in Parquet's terms; see the cause for the column")]
    Parquet {
        /// Why.
        #[source]
        source: EngineError,
    },
    /// `partition_by` names a column twice.
    #[error("`partition_by` names `{column}` twice; name it once")]
    DuplicatePartitionColumn {
        /// The name.
        column: String,
    },
    /// Nothing would be left to store in the files.
    #[error("`partition_by` names every column; leave at least one column for the data files")]
    AllColumnsPartitions,
    /// Values of this type are not safe as directory names: they do not compare or read back exactly.
    #[error(
        "`partition_by` names `{column}` of type {data_type}; partition by a boolean, integer, decimal, string, date or timestamp column"
    )]
    PartitionType {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// Delta has no such type, or would change it in silence.
    #[error("column `{column}` has the type {data_type}, which a Delta table cannot hold exactly; {instead}")]
    UnsupportedType {
        /// The column, or the path to a nested field.
        column: String,
        /// Its type.
        data_type: DataType,
        /// What to do about it.
        instead: &'static str,
    },
    /// The engine refuses the schema.
    #[error("the schema cannot be said in Delta's terms; see the cause for the column")]
    Schema {
        /// Why.
        #[source]
        source: ArrowError,
    },
}

/// Whose columns have to carry semantic types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TypeCarrier {
    /// Those of the rows that are written.
    Rows,
    /// Those of the table, which it keeps.
    Table,
}

impl TypeCarrier {
    /// Its name, which a validation goes by.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Table => "table",
        }
    }

    const fn columns(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Table => "table's columns",
        }
    }

    const fn fix(self) -> &'static str {
        match self {
            Self::Rows => {
                "let the query give the columns their types (`stable_id`, or `with_metadata(column, 'ARROW:extension:name', …)`), or \
                 change `semantic_types`"
            }
            Self::Table => "overwrite the table and its schema, or leave the columns out of `semantic_types`",
        }
    }
}

/// What is wrong with each column that is not as it has to be.
fn broken(validation: &SemanticValidation) -> String {
    let columns = validation.columns.iter().filter(|column| column.status != SemanticStatus::Ok);
    let columns = columns.map(|SemanticColumnResult { expected, found_type, .. }| {
        let found = found_type.as_ref().map_or("no type".to_owned(), |found| format!("`{found}`"));
        format!("{found} in `{}`, which has to be a `{}`", expected.column_name, expected.semantic_type)
    });
    columns.collect::<Vec<_>>().join(", and ")
}

impl PolicyError {
    pub(crate) fn unknown_column(field: &'static str, column: &str, schema: &Schema) -> Self {
        let available: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        Self::UnknownColumn { field, column: column.to_owned(), suggestion: nearest(column, &available), available }
    }
}

fn nearest(name: &str, candidates: &[String]) -> Option<String> {
    candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.clone())
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}
