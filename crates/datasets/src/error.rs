//! Why a dataset cannot be pinned, and what has changed of one that was.

use std::io;
use std::path::PathBuf;

use alluvium_contracts::{ContentDigest, DatasetFormat};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use deltalake_core::DeltaTableError;

use crate::{ChangesError, HashError, LocateError, ProjectionError, ShapeError};

/// Why a dataset cannot be pinned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The paths mean no files, or cannot be followed.
    #[error("source `{dataset}`: its files cannot be listed")]
    Locate {
        /// The source.
        dataset: String,
        /// What is wrong with which path.
        source: LocateError,
    },
    /// A file cannot be read.
    #[error("source `{dataset}`: a file cannot be read")]
    Hash {
        /// The source.
        dataset: String,
        /// What is wrong with which file.
        source: HashError,
    },
    /// A file changed between being hashed and being looked into, twice.
    #[error(
        "source `{dataset}`: {} keeps changing while it is pinned: try again when its writer has finished",
        path.display()
    )]
    Changing {
        /// The source.
        dataset: String,
        /// The file.
        path: PathBuf,
    },
    /// The engine would read another directory.
    #[error(
        "source `{dataset}`: the engine cannot address a Delta table in {}: it decodes `%` and `\\` in the directories of a \
         table. Name it otherwise",
        path.display()
    )]
    DeltaPath {
        /// The source.
        dataset: String,
        /// The directory, without symbolic links.
        path: PathBuf,
    },
    /// A file is not of the format.
    #[error(
        "source `{dataset}`: {} cannot be read as {}: check that the file is whole and that `format` and `options` fit it",
        path.display(),
        format.as_str()
    )]
    Unreadable {
        /// The source.
        dataset: String,
        /// The format.
        format: DatasetFormat,
        /// The file.
        path: PathBuf,
        /// The engine's word.
        source: Box<DataFusionError>,
    },
    /// Two files have a column of one name and of types that do not merge.
    #[error(
        "source `{dataset}`: column `{}` is {} in {} but {} in {}: make them agree, or declare two sources",
        conflict.column,
        conflict.first_type,
        conflict.first.display(),
        conflict.second_type,
        conflict.second.display()
    )]
    Schemas {
        /// The source.
        dataset: String,
        /// The column, and the files.
        conflict: Box<SchemaConflict>,
        /// The engine's word.
        source: Box<ArrowError>,
    },
    /// Two files differ in the schema's metadata, which was asked to be kept.
    #[error(
        "source `{dataset}`: {} and {} differ in the metadata `{key}`: set the option `skip_metadata` to `true`",
        first.display(),
        second.display()
    )]
    Metadata {
        /// The source.
        dataset: String,
        /// The key.
        key: String,
        /// The first file that has the key.
        first: PathBuf,
        /// The file whose value differs.
        second: PathBuf,
    },
    /// A file has two columns of one name.
    #[error("source `{dataset}`: {} has two columns `{column}`: rename one of them", path.display())]
    DuplicateColumn {
        /// The source.
        dataset: String,
        /// The column.
        column: String,
        /// The file.
        path: PathBuf,
    },
    /// CSV files are read by position, and their headers differ.
    #[error(
        "source `{dataset}`: the columns of {} are {found:?}, but those of {} are {expected:?}: CSV files of one source need \
         the same columns in the same order (fewer at the end with `truncated_rows`)",
        second.display(),
        first.display()
    )]
    Headers {
        /// The source.
        dataset: String,
        /// The file with the most columns.
        first: PathBuf,
        /// Its columns.
        expected: Vec<String>,
        /// The file that does not fit.
        second: PathBuf,
        /// Its columns.
        found: Vec<String>,
    },
    /// No file has a column.
    #[error(
        "source `{dataset}`: its files are empty, so that there is no column to read: give them a header or a record"
    )]
    NoColumns {
        /// The source.
        dataset: String,
    },
    /// The columns of files do not fit what is declared, or one another.
    #[error("source `{dataset}`: its columns do not fit")]
    Shape {
        /// The source.
        dataset: String,
        /// What is wrong with which column of which file.
        source: ShapeError,
    },
    /// An expression cannot be a column.
    #[error("source `{dataset}`: a column cannot be computed")]
    Projection {
        /// The source.
        dataset: String,
        /// What is wrong with which expression.
        source: ProjectionError,
    },
    /// The value of a partition column is none of its type.
    #[error(
        "source `{dataset}`: the partition value {value:?} of {} is no {data_type} for the column `{column}`: declare another \
         type in `partition_columns`",
        path.display()
    )]
    PartitionValue {
        /// The source.
        dataset: String,
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The value as its directory says it.
        value: Option<String>,
        /// The type of the column, or that it cannot be NULL.
        data_type: String,
        /// The engine's word, if it has one.
        source: Option<Box<DataFusionError>>,
    },
    /// A file is not in the declared order.
    #[error(
        "source `{dataset}`: row {row} of {} is not in the order of `ordering` ({ordering}): sort the file, or remove \
         `ordering`",
        path.display()
    )]
    Unordered {
        /// The source.
        dataset: String,
        /// The file.
        path: PathBuf,
        /// The first row that should come before the one before it, from 0.
        row: u64,
        /// The declared order.
        ordering: String,
    },
    /// An Arrow IPC stream has no footer.
    #[error("source `{dataset}`: {} is an Arrow IPC stream: write it as an IPC file", path.display())]
    ArrowStream {
        /// The source.
        dataset: String,
        /// The file.
        path: PathBuf,
    },
    /// No commit of the Delta table is that old.
    #[error(
        "source `{dataset}`: the Delta table in {} has no version of {timestamp}, since its oldest commit there is came at \
         {earliest}: name a later time",
        path.display()
    )]
    DeltaTime {
        /// The source.
        dataset: String,
        /// The table.
        path: PathBuf,
        /// The time that was asked for.
        timestamp: String,
        /// The time of the oldest commit, or that there is none.
        earliest: String,
    },
    /// The Delta table keeps the times of its commits in a way that this build does not read.
    #[error(
        "source `{dataset}`: the Delta table in {} keeps the times of its commits in them \
         (`delta.enableInCommitTimestamps`), which this build does not read: give `version` instead of `timestamp`",
        path.display()
    )]
    InCommitTimestamps {
        /// The source.
        dataset: String,
        /// The table.
        path: PathBuf,
    },
    /// The changes of the Delta table cannot be read.
    #[error("source `{dataset}`: its changes cannot be read")]
    Changes {
        /// The source.
        dataset: String,
        /// What is wrong with them.
        source: Box<ChangesError>,
    },
    /// The session has no store for local files.
    #[error("source `{dataset}`: the session has no object store for local files: register one for `file://`")]
    Store {
        /// The source.
        dataset: String,
        /// The engine's word.
        source: Box<DataFusionError>,
    },
    /// The directory is not a Delta table.
    #[error("source `{dataset}`: {} is not a Delta table: name a directory that holds a `_delta_log`", path.display())]
    NotADeltaTable {
        /// The source.
        dataset: String,
        /// The path.
        path: PathBuf,
        /// The system's word, if it refused.
        source: Option<io::Error>,
    },
    /// The Delta table has no such version.
    #[error(
        "source `{dataset}`: the Delta table in {} has no version {version}{}: correct `version`, or leave it out to read \
         the latest",
        path.display(),
        latest.map(|latest| format!(" (its latest is {latest})")).unwrap_or_default()
    )]
    DeltaVersion {
        /// The source.
        dataset: String,
        /// The table.
        path: PathBuf,
        /// The version that was asked for.
        version: u64,
        /// The latest version, if it is known.
        latest: Option<u64>,
    },
    /// The Delta table uses features that this build cannot read.
    #[error(
        "source `{dataset}`: the Delta table in {} needs the reader features {}, which this build does not have: drop them \
         from the table, or read a version from before they were enabled",
        path.display(),
        features.join(", ")
    )]
    DeltaFeatures {
        /// The source.
        dataset: String,
        /// The table.
        path: PathBuf,
        /// The features.
        features: Vec<String>,
    },
    /// The Delta table cannot be opened.
    #[error(
        "source `{dataset}`: the Delta table in {} cannot be opened at {}: check that its log is whole",
        path.display(),
        version.map_or_else(|| "its latest version".to_owned(), |version| format!("version {version}"))
    )]
    Delta {
        /// The source.
        dataset: String,
        /// The table.
        path: PathBuf,
        /// The version that was asked for.
        version: Option<u64>,
        /// The engine's word.
        source: Box<DeltaTableError>,
    },
}

/// A column whose types in two files do not merge.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaConflict {
    /// The column.
    pub column: String,
    /// The first file that has the column.
    pub first: PathBuf,
    /// Its type there, merged with that of the files between.
    pub first_type: String,
    /// The file whose type does not fit.
    pub second: PathBuf,
    /// Its type there.
    pub second_type: String,
}

/// A pinned dataset is no longer what was pinned: what was computed from it must not be kept under its pin.
#[derive(Debug, thiserror::Error)]
#[error("source `{dataset}` changed while it was in use: {} {change}; run again when its writer has finished", path.display())]
pub struct ChangedError {
    /// The source.
    pub dataset: String,
    /// The file that changed.
    pub path: PathBuf,
    /// What changed of it.
    #[source]
    pub change: Change,
}

/// What changed of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Change {
    /// It cannot be found or looked at any more.
    #[error("cannot be found any more")]
    Gone {
        /// The system's word.
        source: io::Error,
    },
    /// Another file or directory has taken its place.
    #[error("was replaced by another")]
    Replaced,
    /// Its size differs.
    #[error("had {was_bytes} bytes and now has {is_bytes}")]
    Size {
        /// Bytes when it was pinned.
        was_bytes: u64,
        /// Bytes now.
        is_bytes: u64,
    },
    /// Its size is the same, but it was written to, or its attributes were set.
    #[error("was written to, or its attributes were set")]
    Touched,
    /// Its stamp is the same, but its bytes differ.
    #[error("had the content {was} and now has {is}")]
    Content {
        /// The digest when it was pinned.
        was: ContentDigest,
        /// The digest now.
        is: ContentDigest,
    },
    /// It cannot be read any more.
    #[error("cannot be read any more")]
    Unreadable {
        /// What is wrong.
        source: HashError,
    },
}
