//! A table provider over an exact list of files: it lists nothing, and reads those.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use arrow::datatypes::{Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, ScalarValue, Statistics, project_schema};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::ObjectMeta;

use crate::bounds::{self, Bounds};
use crate::null_regex::NullRegexSource;
use crate::options::ReadOptions;
use crate::watched::Watch;

/// A file to scan.
#[derive(Debug, Clone)]
pub(crate) struct ScanFile {
    pub(crate) meta: ObjectMeta,
    /// In the order of the partition columns.
    pub(crate) partition_values: Vec<ScalarValue>,
    pub(crate) row_count: Option<u64>,
    pub(crate) bounds: Vec<Bounds>,
}

#[derive(Debug)]
pub(crate) struct FileScan {
    options: ReadOptions,
    /// As the caller wants it: partition columns anywhere.
    schema: SchemaRef,
    /// As the engine wants it: partition columns last.
    table_schema: TableSchema,
    /// For each column of `schema`, its place in `table_schema`.
    places: Vec<usize>,
    files: Vec<ScanFile>,
    /// The order of rows inside each file: places in `table_schema`.
    ordering: Vec<(usize, SortOptions)>,
    watch: Option<Watch>,
}

impl FileScan {
    /// `partition_columns` are the places of the partition columns in `schema`, in the order of each file's values.
    pub(crate) fn new(
        options: ReadOptions,
        schema: SchemaRef,
        partition_columns: &[usize],
        files: Vec<ScanFile>,
    ) -> Self {
        let is_partition = |index: &usize| partition_columns.contains(index);
        let order: Vec<_> = (0..schema.fields().len())
            .filter(|index| !is_partition(index))
            .chain(partition_columns.iter().copied())
            .collect();
        let mut places = vec![0; order.len()];
        for (place, index) in order.iter().enumerate() {
            places[*index] = place;
        }
        let (in_files, partitions) = order.split_at(order.len() - partition_columns.len());
        let pick =
            |indices: &[usize]| indices.iter().map(|index| Arc::clone(&schema.fields()[*index])).collect::<Fields>();
        let file_schema = Arc::new(Schema::new_with_metadata(pick(in_files), schema.metadata().clone()));
        let table_schema =
            TableSchema::builder(file_schema).with_table_partition_cols(pick(partitions).to_vec()).build();
        Self { options, schema, table_schema, places, files, ordering: Vec::new(), watch: None }
    }

    /// Has the rows of each file in this order: columns of the schema by their places. It has to be true.
    pub(crate) fn ordered(self, ordering: &[(usize, SortOptions)]) -> Self {
        let ordering = ordering.iter().map(|(column, options)| (self.places[*column], *options)).collect();
        Self { ordering, ..self }
    }

    /// Has every file that is opened compared with the one that was pinned.
    pub(crate) fn watched(self, watch: Watch) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// The files that can hold rows for which `filters` hold, as far as the partition values tell.
    fn prune_by_partitions(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<ScanFile>> {
        let partitions = self.table_schema.table_partition_cols();
        if partitions.is_empty() || self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let columns = (0..partitions.len()).map(|index| {
            ScalarValue::iter_to_array(self.files.iter().map(|file| file.partition_values[index].clone()))
        });
        let schema = Arc::new(Schema::new(partitions.clone()));
        let options = RecordBatchOptions::new().with_row_count(Some(self.files.len()));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let values = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
        let df_schema = DFSchema::try_from(schema)?;

        let names: BTreeSet<_> = partitions.iter().map(|field| field.name().as_str()).collect();
        let mut keep = vec![true; self.files.len()];
        for filter in filters {
            let columns = filter.column_refs();
            let decidable = !columns.is_empty() && columns.iter().all(|column| names.contains(column.name.as_str()));
            if !decidable || filter.is_volatile() {
                continue;
            }
            // Pruning only saves time, the filter is applied again above the scan: one that cannot be evaluated here
            // (a subquery, a value that fails to cast) is left to that.
            let Ok(expression) = state.create_physical_expr(filter.clone(), &df_schema) else {
                continue;
            };
            let Ok(result) = expression.evaluate(&values).and_then(|result| result.into_array(self.files.len())) else {
                continue;
            };
            let Some(result) = result.as_boolean_opt() else {
                continue;
            };
            for (keep, holds) in keep.iter_mut().zip(result) {
                *keep &= holds == Some(true);
            }
        }
        Ok(self.files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file.clone()).collect())
    }

    /// The engine itself gives it up where several files are read one after the other.
    fn output_ordering(&self) -> Vec<LexOrdering> {
        let by = self.ordering.iter().map(|(place, options)| {
            let name = self.table_schema.table_schema().field(*place).name();
            PhysicalSortExpr::new(Arc::new(Column::new(name, *place)), *options)
        });
        LexOrdering::new(by).into_iter().collect()
    }

    /// What shows that files follow each other in order. NULLs would be passed over; so bounds are of columns without any.
    ///
    /// They are exact, and stated as estimates: the engine would leave out files by them, also by those of a cast that does not
    /// keep their order. What they decide has been decided above.
    fn file_statistics(&self, file: &ScanFile) -> Option<Arc<Statistics>> {
        let orders = |bounds: &&Bounds| self.ordering.iter().any(|(place, _)| *place == self.places[bounds.column]);
        let mut ordering = file.bounds.iter().filter(orders).peekable();
        ordering.peek()?;
        let mut statistics = Statistics::new_unknown(self.table_schema.table_schema());
        for bounds in ordering {
            let column = &mut statistics.column_statistics[self.places[bounds.column]];
            column.min_value = Precision::Inexact(bounds.min.clone());
            column.max_value = Precision::Inexact(bounds.max.clone());
        }
        Some(Arc::new(statistics))
    }

    /// Only row counts are claimed, and only where they are known of every file: column statistics of footers are
    /// partly inexact, and the optimizer would answer queries from them.
    fn statistics(&self, files: &[ScanFile]) -> Statistics {
        let mut statistics = Statistics::new_unknown(self.table_schema.table_schema());
        let rows = files.iter().map(|file| file.row_count.and_then(|rows| usize::try_from(rows).ok()));
        if let Some(rows) = rows.sum::<Option<usize>>() {
            statistics.num_rows = Precision::Exact(rows);
        }
        let bytes: u64 = files.iter().map(|file| file.meta.size).sum();
        if let Ok(bytes) = usize::try_from(bytes) {
            statistics.total_byte_size = Precision::Inexact(bytes);
        }
        statistics
    }
}

#[async_trait]
impl TableProvider for FileScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.prune_by_partitions(state, filters)?;
        let files = bounds::prune(files, &self.schema, state, filters)?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?)));
        }
        let statistics = self.statistics(&files);
        let files = files.into_iter().map(|file| {
            let statistics = self.file_statistics(&file);
            // Set without `with_statistics`, which would claim that no partition value is NULL.
            let file = PartitionedFile::new_from_meta(file.meta).with_partition_values(file.partition_values);
            PartitionedFile { statistics, ..file }
        });
        // Whole files here; the optimizer splits large ones by byte range where the format allows it.
        let groups = FileGroup::new(files.collect()).split_files(state.config().target_partitions().max(1));
        let projection = match projection {
            Some(columns) => columns.iter().map(|column| self.places[*column]).collect(),
            None => self.places.clone(),
        };
        let format = format(&self.options, state);
        let table_schema = self.table_schema.clone();
        let source = match &self.options {
            ReadOptions::Csv(csv) => match &csv.null_regex {
                Some(regex) => Arc::new(NullRegexSource::new(csv.engine(), regex.clone(), table_schema)) as _,
                None => format.file_source(table_schema),
            },
            ReadOptions::Parquet(_) | ReadOptions::Json(_) | ReadOptions::Arrow => format.file_source(table_schema),
        };
        // The format would put its own source in place of ours; of Arrow's two it would take the one that fits the first file.
        let own_source = match &self.options {
            ReadOptions::Csv(csv) => csv.null_regex.is_some(),
            ReadOptions::Arrow => true,
            ReadOptions::Parquet(_) | ReadOptions::Json(_) => false,
        };
        let store = match &self.watch {
            Some(watch) => watch.install(state.runtime_env())?,
            None => ObjectStoreUrl::local_filesystem(),
        };
        let config = FileScanConfigBuilder::new(store, source)
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_output_ordering(self.output_ordering())
            .with_projection_indices(Some(projection))?
            .with_limit(limit);
        if own_source {
            let compression = format.compression_type().unwrap_or(
                datafusion::datasource::file_format::file_compression_type::FileCompressionType::UNCOMPRESSED,
            );
            return Ok(DataSourceExec::from_data_source(config.with_file_compression_type(compression).build()));
        }
        format.create_physical_plan(state, config.build()).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// The engine's format with our options, and with the session's where they cannot change rows or types.
pub(crate) fn format(options: &ReadOptions, state: &dyn Session) -> Arc<dyn FileFormat> {
    match options {
        ReadOptions::Parquet(read) => {
            let options = read.engine(&state.config_options().execution.parquet);
            Arc::new(ParquetFormat::default().with_options(options))
        }
        ReadOptions::Csv(read) => Arc::new(CsvFormat::default().with_options(read.engine())),
        ReadOptions::Json(read) => Arc::new(JsonFormat::default().with_options(read.engine())),
        ReadOptions::Arrow => Arc::new(ArrowFormat),
    }
}

/// What the engine's caches know a file by: its place, its size and this time.
pub(crate) fn object_meta(location: object_store::path::Path, size: u64, modified_unix_ns: i128) -> ObjectMeta {
    let distance = Duration::from_nanos(u64::try_from(modified_unix_ns.unsigned_abs()).unwrap_or(u64::MAX));
    let time = if modified_unix_ns < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    ObjectMeta {
        location,
        last_modified: time.unwrap_or(SystemTime::UNIX_EPOCH).into(),
        size,
        e_tag: None,
        version: None,
    }
}
