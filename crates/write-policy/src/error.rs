//! What can go wrong, one enum an operation.

use std::path::PathBuf;

use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

/// An error of the engine, kept as the source of ours so that its type is no part of our interface.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;

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
    /// The policy asks for something that this version does not do.
    #[error("`{field}` is not honoured yet, and would be dropped in silence; leave it out")]
    NotHonoured {
        /// The field, as a dotted name below the policy.
        field: String,
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

/// Files could not be committed. Files staged for it are removed, unless [`CommitError::Unclear`] says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The metadata uses a key that belongs to the engine.
    #[error(
        "commit metadata may not use the key `{key}`: the engine keeps it for itself and would drop or overwrite ours; use another key, as in `cache_operation`"
    )]
    ReservedKey {
        /// The key.
        key: String,
    },
    /// The table to create is there already.
    #[error("a table is already there at {}, at version {head}; replace it or write elsewhere", .path.display())]
    TableExists {
        /// The table.
        path: PathBuf,
        /// Its newest version.
        head: u64,
    },
    /// The files were staged for something else than is committed.
    #[error(
        "the staged files do not belong to this commit: their {what} differs; stage and commit with the same arguments"
    )]
    Staged {
        /// What differs.
        what: &'static str,
    },
    /// The policy does not suit the schema.
    #[error("the write policy does not suit the schema")]
    Policy {
        /// Which field, and what to change.
        #[from]
        source: PolicyError,
    },
    /// The table cannot be read.
    #[error("the table to commit to cannot be read; repair it or write elsewhere")]
    Table {
        /// What is wrong with it.
        #[from]
        source: ReadError,
    },
    /// The files of an append could not be written.
    #[error("the rows to append could not be written")]
    Write {
        /// Why.
        #[from]
        source: WriteError,
    },
    /// The table needs what this build cannot write.
    #[error("the table at {} needs `{feature}`, which this build cannot write; write elsewhere, or drop the feature with the tool that set it", .path.display())]
    Unsupported {
        /// The table.
        path: PathBuf,
        /// The table feature, or the property that asks for it.
        feature: String,
    },
    /// Rows to append have another schema than the table.
    #[error("the rows to append do not fit the table at {}: column `{column}` is {found} here and {expected} there; append with the table's schema", .path.display())]
    SchemaChanged {
        /// The table.
        path: PathBuf,
        /// The first column that differs.
        column: String,
        /// How the table has it.
        expected: String,
        /// How the rows have it.
        found: String,
    },
    /// The table only takes rows.
    #[error("the table at {} is append-only (`delta.appendOnly`), and rows of it would go; append, or unset the property with the tool that set it", .path.display())]
    AppendOnly {
        /// The table.
        path: PathBuf,
    },
    /// Files of another partitioning cannot join the table's.
    #[error("the table at {} is partitioned by [{}], the policy says [{}]; take the table's partitioning, or overwrite table and schema", .path.display(), .expected.join(", "), .found.join(", "))]
    Partitioning {
        /// The table.
        path: PathBuf,
        /// Its partition columns.
        expected: Vec<String>,
        /// The policy's.
        found: Vec<String>,
    },
    /// Rows that stay may break a constraint that the policy brings.
    #[error("the constraint `{constraint}` is new to the table at {}, whose rows stay unchecked; overwrite the table, or add the constraint with a tool that checks them", .path.display())]
    UncheckedRows {
        /// The table.
        path: PathBuf,
        /// The constraint.
        constraint: String,
    },
    /// Rewriting files of the table needs change files, which this build does not write.
    #[error("the table at {} keeps a change data feed, for which this build writes no change files; append or overwrite, or turn `delta.enableChangeDataFeed` off", .path.display())]
    ChangeDataFeed {
        /// The table.
        path: PathBuf,
    },
    /// The table got a constraint that the staged rows were not checked for.
    #[error("the table at {} has the constraint `{constraint}`, which the rows were not checked for: it came after them; write them again", .path.display())]
    NewConstraint {
        /// The table.
        path: PathBuf,
        /// The constraint.
        constraint: String,
    },
    /// Others committed first, every time.
    #[error("gave up committing to {} after {attempts} attempts: others committed first each time; try again", .path.display())]
    Contended {
        /// The table.
        path: PathBuf,
        /// How often it was tried.
        attempts: u32,
    },
    /// The commit failed, and nothing of it is in the table.
    #[error("the commit to {} failed and changed nothing; check the cause and try again", .path.display())]
    Failed {
        /// The table.
        path: PathBuf,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// The commit failed, and the log cannot be read to see whether it landed. The data files are left in place.
    #[error("the commit of version {version} to {} failed, and the log cannot be read to see if it landed; look at the table before writing again", .path.display())]
    Unclear {
        /// The table.
        path: PathBuf,
        /// The version that was to be written.
        version: u64,
        /// Why the commit failed.
        #[source]
        source: EngineError,
    },
    /// The write landed, and what it left cannot be read back.
    #[error("version {version} of {} landed and cannot be read back; it is there, look at the cause", .path.display())]
    Unread {
        /// The table.
        path: PathBuf,
        /// The version.
        version: u64,
        /// Why not.
        #[source]
        source: ReadError,
    },
    /// The commit landed, but the table holds other files than it should: another engine wrote paths that this one cannot remove.
    #[error("version {version} of {} landed with {unexpected} files too many: paths of another engine that this one cannot remove; delete the table and publish it anew", .path.display())]
    Diverged {
        /// The table.
        path: PathBuf,
        /// The version.
        version: u64,
        /// Files that are active and should not be.
        unexpected: usize,
    },
}

/// A table could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no table.
    #[error("there is no Delta table at {}", .path.display())]
    NotATable {
        /// The directory.
        path: PathBuf,
    },
    /// The table has no such version.
    #[error("the table at {} has no commit of version {version}; it was never written, or the log was cleaned up", .path.display())]
    NoSuchVersion {
        /// The table.
        path: PathBuf,
        /// The version.
        version: u64,
    },
    /// A checkpoint is there without the commit that it summarises.
    #[error("the log at {} has a checkpoint of version {version} but not its commit; the log was damaged, restore it", .path.display())]
    CommitMissing {
        /// The table.
        path: PathBuf,
        /// The checkpoint's version.
        version: u64,
    },
    /// A commit file holds nothing.
    #[error("the commit {} is empty; it was cut short, restore it or discard the table", .path.display())]
    EmptyCommit {
        /// The commit file.
        path: PathBuf,
    },
    /// A commit file holds something that is no action.
    #[error("line {line} of the commit {} is no JSON action; the file was damaged, restore it or discard the table", .path.display())]
    DamagedCommit {
        /// The commit file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A file or directory cannot be read.
    #[error("{} cannot be read", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The log cannot be replayed.
    #[error("the log of the table at {} cannot be replayed; it is damaged, or needs what this build cannot read", .path.display())]
    Log {
        /// The table.
        path: PathBuf,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// The files alone do not say what the table holds.
    #[error("the table at {} uses {feature}; its data files cannot be read on their own, read it through the engine", .path.display())]
    NotPlainFiles {
        /// The table.
        path: PathBuf,
        /// `deletion vectors`, `column mapping` or `files outside the table`.
        feature: &'static str,
    },
    /// A data file that carries no row count cannot be opened to count.
    #[error("the footer of {} cannot be read", .path.display())]
    Footer {
        /// The data file.
        path: PathBuf,
        /// Why.
        #[source]
        source: EngineError,
    },
}
