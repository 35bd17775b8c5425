//! The provider over an exact list of Parquet files.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::HashError;
use crate::bounds::Bounds;
use crate::locate::store_path;
use crate::options::{ParquetRead, ReadOptions};
use crate::partitions::value_of;
use crate::scan::{FileScan, ScanFile, object_meta};

/// A file of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedFile {
    /// The absolute path, without `.` and `..`.
    pub path: PathBuf,
    /// The length in bytes.
    pub size_bytes: u64,
    /// The modification time, in nanoseconds since 1970-01-01 UTC. With path and size it is what the engine's cache of
    /// footers goes by, so a file that is rewritten in place needs another.
    pub modified_unix_ns: i128,
    /// The number of rows, if it is known for certain: queries are answered from it.
    pub row_count: Option<u64>,
    /// The value of each partition column as text, `None` for NULL; every partition column must be here.
    pub partition_values: BTreeMap<String, Option<String>>,
}

/// A provider over an exact list of Parquet files: raw files and our cache's tables.
///
/// It lists nothing and opens nothing until it is scanned. Columns that a file lacks are NULL. Filters on partition
/// columns leave out files, those on others row groups and pages as the session's Parquet settings say; all of them are
/// applied again above the scan. The only statistics it claims is the number of rows, if it is known of every file; of a
/// Delta snapshot it also knows which files a filter on whole numbers and dates leaves out, and the order that its writer
/// recorded.
/// Files are read through the session's object store for `file://`.
#[derive(Debug)]
pub struct PinnedFiles {
    scan: FileScan,
}

/// The list of files cannot be scanned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinnedFilesError {
    /// A partition column is not in the schema, or is named twice.
    #[error("the partition column `{column}` has to be in the schema, and to be named once")]
    Column {
        /// The column.
        column: String,
    },
    /// A file's partition values are not those of the partition columns.
    #[error("{} has partition values for {found:?}, but the partition columns are {expected:?}", path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// The columns that it has values for.
        found: Vec<String>,
        /// The partition columns.
        expected: Vec<String>,
    },
    /// A partition value is not of the column's type.
    #[error("the partition value {value:?} of {} is no {} for the column `{column}`", path.display(), data_type)]
    Value {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The value.
        value: Option<String>,
        /// The type of the column, or that it cannot be NULL.
        data_type: String,
        /// The engine's word, if it has one.
        source: Option<Box<DataFusionError>>,
    },
    /// A path is relative, or has characters that object stores do not take.
    #[error("the engine cannot address {}: rename it", path.display())]
    Path {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: HashError,
    },
}

impl PinnedFiles {
    /// A provider of `schema` over `files`.
    ///
    /// `schema` is the full one and the order of its columns is kept, wherever in it the partition columns stand; their
    /// values come from each file's `partition_values`, cast from text to the column's type, and never from the file.
    ///
    /// # Errors
    /// As the variants of [`PinnedFilesError`] say.
    pub fn try_new(
        schema: SchemaRef,
        partition_columns: Vec<String>,
        files: Vec<PinnedFile>,
    ) -> Result<Self, PinnedFilesError> {
        let files = files.into_iter().map(|file| (file, Vec::new())).collect();
        Self::try_new_known(schema, partition_columns, files, &[])
    }

    /// [`try_new`](Self::try_new) with what else is known of each file: the bounds of its columns, and the order of its rows
    /// by columns of the schema. All of it has to be true.
    pub(crate) fn try_new_known(
        schema: SchemaRef,
        partition_columns: Vec<String>,
        files: Vec<(PinnedFile, Vec<Bounds>)>,
        ordering: &[(usize, SortOptions)],
    ) -> Result<Self, PinnedFilesError> {
        let places = places(&schema, &partition_columns)?;
        let files = files.into_iter().map(|(file, bounds)| {
            let file = scan_file(&schema, &partition_columns, &places, file)?;
            Ok(ScanFile { bounds, ..file })
        });
        let files = files.collect::<Result<_, _>>()?;
        let options = ReadOptions::Parquet(ParquetRead::default());
        Ok(Self { scan: FileScan::new(options, schema, &places, files).ordered(ordering) })
    }
}

/// Where the partition columns stand in the schema.
fn places(schema: &SchemaRef, partition_columns: &[String]) -> Result<Vec<usize>, PinnedFilesError> {
    let mut seen = HashSet::new();
    let place = |column: &String| match schema.index_of(column) {
        Ok(place) if seen.insert(column.clone()) => Ok(place),
        _ => Err(PinnedFilesError::Column { column: column.clone() }),
    };
    partition_columns.iter().map(place).collect()
}

fn scan_file(
    schema: &SchemaRef,
    partition_columns: &[String],
    places: &[usize],
    file: PinnedFile,
) -> Result<ScanFile, PinnedFilesError> {
    let found = &file.partition_values;
    if found.len() != partition_columns.len() || !partition_columns.iter().all(|column| found.contains_key(column)) {
        return Err(PinnedFilesError::Columns {
            path: file.path,
            found: file.partition_values.into_keys().collect(),
            expected: partition_columns.to_vec(),
        });
    }
    let mut partition_values = Vec::with_capacity(places.len());
    for place in places {
        let field = schema.field(*place);
        let text = file.partition_values.get(field.name()).cloned().flatten();
        let refused = |data_type: String, source: Option<DataFusionError>| PinnedFilesError::Value {
            path: file.path.clone(),
            column: field.name().clone(),
            value: text.clone(),
            data_type,
            source: source.map(Box::new),
        };
        let value = value_of(text.as_deref(), field).map_err(|source| {
            let of_null = if text.is_none() { " that is not null" } else { "" };
            refused(format!("{}{of_null}", field.data_type()), source)
        })?;
        partition_values.push(value);
    }
    let location =
        store_path(&file.path).map_err(|source| PinnedFilesError::Path { path: file.path.clone(), source })?;
    let meta = object_meta(location, file.size_bytes, file.modified_unix_ns);
    Ok(ScanFile { meta, partition_values, row_count: file.row_count, bounds: Vec::new() })
}

#[async_trait]
impl TableProvider for PinnedFiles {
    fn schema(&self) -> SchemaRef {
        self.scan.schema()
    }

    fn table_type(&self) -> TableType {
        self.scan.table_type()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.scan.scan(state, projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.scan.supports_filters_pushdown(filters)
    }
}
