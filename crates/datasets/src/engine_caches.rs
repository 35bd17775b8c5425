//! What the engine remembers of files, as functions of FROM: `metadata_cache()`, `statistics_cache()`, `list_files_cache()` and
//! `predicate_cache()`.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use alluvium_profile::{SessionExtension, SessionParts, Slot};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::plan_err;
use datafusion::common::stats::Precision;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::cache::cache_manager::{CachedFileList, CachedFileMetadata};
use datafusion::execution::cache::{CacheEntryInfo, TableScopedPath};
use object_store::ObjectMeta;

use crate::live_table::{Rows, live_table};
use crate::predicate_caches::PredicateCaches;

/// Installs the four functions in every session of a factory. Each takes no arguments and tells of its own session alone.
///
/// | function | a row for each |
/// |---|---|
/// | `metadata_cache()` | file whose footer is remembered |
/// | `statistics_cache()` | file whose statistics are, by table |
/// | `list_files_cache()` | directory whose listing is, by table |
/// | `predicate_cache()` | of the last 1,000 executed Parquet scans whose filter the reader evaluated |
///
/// `hits` counts how often an entry was used, `size_bytes` is what it takes of the cache, and `expires_in_seconds` is NULL for
/// what does not expire. Rows are made when a query is executed; a view that reads them is never cached. What is remembered
/// at all is the profile's `engine_caches`.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineCacheFunctions;

impl SessionExtension for EngineCacheFunctions {
    fn slot(&self) -> Slot {
        Slot::Introspection
    }

    fn install(&self, parts: &mut SessionParts) -> std::result::Result<(), Box<dyn Error + Send + Sync>> {
        for cache in [EngineCache::Metadata, EngineCache::Statistics, EngineCache::ListFiles] {
            let function = Function { schema: cache.schema(), rows: Arc::new(cache) };
            parts.table_function(cache.function(), Arc::new(function));
        }
        // Each session remembers its own scans.
        let scans = PredicateCaches::default();
        parts.physical_rule(scans.watch());
        parts.table_function(
            "predicate_cache",
            Arc::new(Function { schema: PredicateCaches::schema(), rows: Arc::new(scans) }),
        );
        Ok(())
    }
}

/// A function without arguments.
#[derive(Debug)]
struct Function {
    schema: SchemaRef,
    rows: Arc<dyn Rows>,
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        if !args.exprs().is_empty() {
            return plan_err!("the functions over the engine's caches take no arguments: write () behind the name");
        }
        live_table(Arc::clone(&self.schema), Arc::clone(&self.rows))
    }
}

/// A cache of the engine's runtime.
#[derive(Debug, Clone, Copy)]
enum EngineCache {
    Metadata,
    Statistics,
    ListFiles,
}

impl EngineCache {
    const fn function(self) -> &'static str {
        match self {
            Self::Metadata => "metadata_cache",
            Self::Statistics => "statistics_cache",
            Self::ListFiles => "list_files_cache",
        }
    }

    const fn columns(self) -> &'static [Column] {
        use Column::{
            ETag, ExpiresInSeconds, FieldCount, FileCount, FileModified, FileSizeBytes, Hits, Path, RowCount,
            SizeBytes, TableName, Version,
        };
        match self {
            Self::Metadata => &[Path, FileSizeBytes, FileModified, ETag, Version, SizeBytes, Hits, ExpiresInSeconds],
            Self::Statistics => {
                &[TableName, Path, FileSizeBytes, FileModified, RowCount, FieldCount, SizeBytes, Hits, ExpiresInSeconds]
            }
            Self::ListFiles => &[TableName, Path, FileCount, FileSizeBytes, SizeBytes, Hits, ExpiresInSeconds],
        }
    }

    fn schema(self) -> SchemaRef {
        let fields =
            self.columns().iter().map(|column| Field::new(column.name(), column.data_type(), column.is_nullable()));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Sorted by table and path.
    fn entries(self, task: &TaskContext) -> Vec<Entry> {
        let caches = &task.runtime_env().cache_manager;
        let mut entries: Vec<Entry> = match self {
            Self::Metadata => {
                let known = caches.get_file_metadata_cache().list_entries();
                known
                    .into_iter()
                    .map(|(path, info)| Entry::new(path.to_string(), &info).of_file(&info.value.meta))
                    .collect()
            }
            Self::Statistics => {
                let known = caches.get_file_statistic_cache().map(|cache| cache.list_entries()).unwrap_or_default();
                let entry = |(path, info): (TableScopedPath, CacheEntryInfo<CachedFileMetadata>)| {
                    let statistics = info.value.statistics.as_ref();
                    Entry {
                        row_count: count(statistics.num_rows),
                        column_count: i64::try_from(statistics.column_statistics.len()).ok(),
                        ..Entry::scoped(path, &info).of_file(&info.value.meta)
                    }
                };
                known.into_iter().map(entry).collect()
            }
            Self::ListFiles => {
                let known = caches.get_list_files_cache().map(|cache| cache.list_entries()).unwrap_or_default();
                let entry = |(path, info): (TableScopedPath, CacheEntryInfo<CachedFileList>)| {
                    let files: &[ObjectMeta] = &info.value.files;
                    Entry {
                        file_count: i64::try_from(files.len()).ok(),
                        file_size_bytes: files.iter().map(|file| signed(file.size)).sum(),
                        ..Entry::scoped(path, &info)
                    }
                };
                known.into_iter().map(entry).collect()
            }
        };
        entries.sort_by(|a, b| (&a.table_name, &a.path).cmp(&(&b.table_name, &b.path)));
        entries
    }
}

#[async_trait]
impl Rows for EngineCache {
    async fn rows(&self, task: &TaskContext) -> Result<RecordBatch> {
        let entries = self.entries(task);
        #[expect(
            clippy::disallowed_methods,
            reason = "entries expire at instants of this clock, which no seam stands in for"
        )]
        let now = Instant::now();
        let columns = self.columns().iter().map(|column| column.values(&entries, now)).collect();
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

/// An entry of any of the caches. What its cache does not know is `None`.
#[derive(Default)]
struct Entry {
    table_name: Option<String>,
    path: String,
    file_count: Option<i64>,
    file_size_bytes: i64,
    file_modified_us: Option<i64>,
    e_tag: Option<String>,
    version: Option<String>,
    row_count: Option<i64>,
    column_count: Option<i64>,
    size_bytes: i64,
    hits: i64,
    expires: Option<Instant>,
}

impl Entry {
    fn new<V>(path: String, info: &CacheEntryInfo<V>) -> Self {
        Self {
            path,
            size_bytes: i64::try_from(info.size_bytes).unwrap_or(i64::MAX),
            hits: i64::try_from(info.hits).unwrap_or(i64::MAX),
            expires: info.expires,
            ..Self::default()
        }
    }

    fn scoped<V>(path: TableScopedPath, info: &CacheEntryInfo<V>) -> Self {
        Self { table_name: path.table.map(|table| table.to_string()), ..Self::new(path.path.to_string(), info) }
    }

    fn of_file(self, file: &ObjectMeta) -> Self {
        Self {
            file_size_bytes: signed(file.size),
            file_modified_us: Some(file.last_modified.timestamp_micros()),
            e_tag: file.e_tag.clone(),
            version: file.version.clone(),
            ..self
        }
    }
}

#[derive(Clone, Copy)]
enum Column {
    TableName,
    Path,
    FileCount,
    FileSizeBytes,
    FileModified,
    ETag,
    Version,
    RowCount,
    FieldCount,
    SizeBytes,
    Hits,
    ExpiresInSeconds,
}

impl Column {
    const fn name(self) -> &'static str {
        match self {
            Self::TableName => "table_name",
            Self::Path => "path",
            Self::FileCount => "file_count",
            Self::FileSizeBytes => "file_size_bytes",
            Self::FileModified => "file_modified",
            Self::ETag => "e_tag",
            Self::Version => "version",
            Self::RowCount => "row_count",
            Self::FieldCount => "column_count",
            Self::SizeBytes => "size_bytes",
            Self::Hits => "hits",
            Self::ExpiresInSeconds => "expires_in_seconds",
        }
    }

    /// A type that a Delta table has, so that a snapshot of the cache can be one.
    fn data_type(self) -> DataType {
        match self {
            Self::TableName | Self::Path | Self::ETag | Self::Version => DataType::Utf8,
            Self::FileCount
            | Self::FileSizeBytes
            | Self::RowCount
            | Self::FieldCount
            | Self::SizeBytes
            | Self::Hits => DataType::Int64,
            Self::FileModified => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::ExpiresInSeconds => DataType::Float64,
        }
    }

    const fn is_nullable(self) -> bool {
        !matches!(self, Self::Path | Self::FileSizeBytes | Self::SizeBytes | Self::Hits)
    }

    fn values(self, entries: &[Entry], now: Instant) -> ArrayRef {
        fn texts<'e>(values: impl Iterator<Item = Option<&'e String>>) -> ArrayRef {
            Arc::new(values.map(|text| text.map(String::as_str)).collect::<StringArray>())
        }
        fn numbers(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
            Arc::new(values.collect::<Int64Array>())
        }
        let entries = entries.iter();
        match self {
            Self::TableName => texts(entries.map(|entry| entry.table_name.as_ref())),
            Self::Path => texts(entries.map(|entry| Some(&entry.path))),
            Self::ETag => texts(entries.map(|entry| entry.e_tag.as_ref())),
            Self::Version => texts(entries.map(|entry| entry.version.as_ref())),
            Self::FileCount => numbers(entries.map(|entry| entry.file_count)),
            Self::FileSizeBytes => numbers(entries.map(|entry| Some(entry.file_size_bytes))),
            Self::RowCount => numbers(entries.map(|entry| entry.row_count)),
            Self::FieldCount => numbers(entries.map(|entry| entry.column_count)),
            Self::SizeBytes => numbers(entries.map(|entry| Some(entry.size_bytes))),
            Self::Hits => numbers(entries.map(|entry| Some(entry.hits))),
            Self::FileModified => {
                let times = entries.map(|entry| entry.file_modified_us).collect::<TimestampMicrosecondArray>();
                Arc::new(times.with_timezone("UTC"))
            }
            Self::ExpiresInSeconds => {
                let left = |expires: Instant| expires.saturating_duration_since(now).as_secs_f64();
                Arc::new(entries.map(|entry| entry.expires.map(left)).collect::<Float64Array>())
            }
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn count(known: Precision<usize>) -> Option<i64> {
    known.get_value().and_then(|count| i64::try_from(*count).ok())
}
