//! The active files of a Delta snapshot as [`PinnedFiles`]: a plain Parquet scan, which any engine of plans can split.

use std::path::{Path, PathBuf};

use alluvium_write_policy::{RecordedOrder, recorded_order};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::file_format::parquet::transform_schema_to_view;
use deltalake_core::DeltaTable;
use deltalake_core::DeltaTableError;

use crate::log_bounds;
use crate::pinned_files::{PinnedFile, PinnedFiles, PinnedFilesError};

/// Why the files of a Delta table cannot be read as plain Parquet files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaFilesError {
    /// What the files hold is not what the table holds.
    #[error(
        "the Delta table in {} cannot be read as plain Parquet files: it uses {feature}{}; read it by the engine's own scan",
        root.display(),
        file.as_ref().map(|file| format!(" (on {file})")).unwrap_or_default()
    )]
    Feature {
        /// The table.
        root: PathBuf,
        /// The feature of Delta.
        feature: &'static str,
        /// A file that uses it, as the log names it.
        file: Option<String>,
    },
    /// The table is not on a local disk.
    #[error("the Delta table lies at {url}, and only local files can be pinned: cloud stores are not in this build")]
    Remote {
        /// Where the table or one of its files lies.
        url: String,
    },
    /// The snapshot cannot be asked.
    #[error("the snapshot of the Delta table cannot be read: load the table with its files")]
    Snapshot {
        /// The engine's word.
        source: Box<DeltaTableError>,
    },
    /// A file of the log cannot be scanned.
    #[error("a file of the Delta table in {} cannot be scanned", root.display())]
    Files {
        /// The table.
        root: PathBuf,
        /// What is wrong with which file.
        source: PinnedFilesError,
    },
}

impl PinnedFiles {
    /// The active files of the loaded snapshot of a local `table`, with the partition values and row counts of its log; text
    /// and binary as views.
    ///
    /// Only row counts answer queries. Filters that compare a column with constants leave out files by the log's minima and maxima of
    /// whole numbers and dates without NULLs: others are truncated, went through floating point, or leave NaN out. The order that a write of
    /// alluvium-write-policy recorded is used as long as all active files are of that write.
    ///
    /// # Errors
    /// [`DeltaFilesError::Feature`] for deletion vectors and column mapping; otherwise as its variants say.
    pub fn of_delta(table: &DeltaTable) -> Result<Self, DeltaFilesError> {
        let snapshot = |source| DeltaFilesError::Snapshot { source: Box::new(source) };
        let url = table.table_url();
        let root = url.to_file_path().map_err(|()| DeltaFilesError::Remote { url: url.to_string() })?;
        let state = table.snapshot().map_err(snapshot)?;
        let configuration = state.metadata().configuration();
        if configuration.get("delta.columnMapping.mode").is_some_and(|mode| mode != "none") {
            return Err(DeltaFilesError::Feature { root, feature: "column mapping", file: None });
        }
        let schema: SchemaRef = transform_schema_to_view(&state.snapshot().arrow_schema()).into();
        let partitions = state.metadata().partition_columns().to_vec();
        let order = recorded_order(table);
        let mut files = Vec::new();
        for file in state.snapshot().try_log_data().map_err(snapshot)?.iter() {
            let path = file.path();
            if file.deletion_vector_descriptor().is_some() {
                return Err(DeltaFilesError::Feature {
                    root,
                    feature: "deletion vectors",
                    file: Some(path.into_owned()),
                });
            }
            let place = order.as_ref().and_then(|order| order.places.get(path.as_ref()).copied());
            let bounds = file.stats().map(|stats| log_bounds::of(&stats, &schema)).unwrap_or_default();
            let file = PinnedFile {
                path: absolute(&root, &path)?,
                size_bytes: u64::try_from(file.size()).unwrap_or(0),
                modified_unix_ns: i128::from(file.modification_time()) * 1_000_000,
                row_count: file.num_records().and_then(|rows| u64::try_from(rows).ok()),
                partition_values: file.partition_values_map().into_iter().collect(),
            };
            files.push((place, file, bounds));
        }
        // The engine reads the files of one thread one after the other, and sees by their bounds that they are in order.
        files.sort_by_key(|(place, ..)| *place);
        let files = files.into_iter().map(|(_, file, bounds)| (file, bounds)).collect();
        let ordering = ordering(order, &schema, &partitions);
        Self::try_new_known(schema, partitions, files, &ordering)
            .map_err(|source| DeltaFilesError::Files { root, source })
    }
}

/// The recorded order of the rows of each file, by places in the schema. A partition column has one value in a file.
fn ordering(order: Option<RecordedOrder>, schema: &SchemaRef, partitions: &[String]) -> Vec<(usize, SortOptions)> {
    let columns = order.map(|order| order.columns).unwrap_or_default();
    let columns = columns.iter().filter(|column| !partitions.contains(column));
    let ascending = SortOptions { descending: false, nulls_first: true };
    // A column that is gone ends what is known of the order.
    columns.map_while(|column| Some((schema.index_of(column).ok()?, ascending))).collect()
}

/// A path of the log, decoded by the engine: below the table, or absolute.
fn absolute(root: &Path, path: &str) -> Result<PathBuf, DeltaFilesError> {
    match path.split_once("://") {
        None => Ok(root.join(path)),
        Some(("file", local)) => Ok(PathBuf::from(local)),
        Some(_) => Err(DeltaFilesError::Remote { url: path.to_owned() }),
    }
}
