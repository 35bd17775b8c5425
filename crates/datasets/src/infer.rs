//! The schema of pinned files, by the engine's own inference.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use alluvium_contracts::DatasetFormat;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::execution::SessionState;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;

use crate::options::{CsvRead, ReadOptions};
use crate::pin::{FilePin, blocking};
use crate::scan::format;
use crate::schema_text::type_text;
use crate::{PinError, SchemaConflict};

pub(crate) struct Inference<'a> {
    pub(crate) dataset: &'a str,
    pub(crate) source_format: DatasetFormat,
    pub(crate) options: &'a ReadOptions,
    pub(crate) state: SessionState,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) files: &'a [FilePin],
}

impl Inference<'_> {
    /// The one schema of all files, in their order.
    pub(crate) async fn infer(&self) -> Result<SchemaRef, PinError> {
        let schema = match self.options {
            ReadOptions::Parquet(_) => {
                let schemas = self.each().await?;
                self.check_parquet_names().await?;
                self.merge(schemas)?
            }
            ReadOptions::Csv(csv) => {
                self.check_headers(csv).await?;
                text_for_null(self.sampled().await?)
            }
            ReadOptions::Json(_) => text_for_null(self.sampled().await?),
            ReadOptions::Arrow => self.merge(self.each().await?)?,
        };
        if schema.fields().is_empty() {
            return Err(PinError::NoColumns { dataset: self.dataset.to_owned() });
        }
        Ok(Arc::new(schema))
    }

    /// One sample over all files, which ends when it has records enough.
    async fn sampled(&self) -> Result<Schema, PinError> {
        let metas: Vec<_> = self.files.iter().map(FilePin::object_meta).collect();
        match unpanicked(self.format().infer_schema(&self.state, &self.store, &metas)).await {
            Ok(schema) => Ok(schema.as_ref().clone()),
            // The engine does not say which file it was.
            Err(source) => {
                self.merge(self.each().await?)?;
                Err(self.unreadable(&self.files[0], source))
            }
        }
    }

    /// The schema of each file.
    async fn each(&self) -> Result<Vec<Schema>, PinError> {
        let format = self.format();
        let concurrency = self.state.config_options().execution.meta_fetch_concurrency.get();
        // By their places: a closure over `&FilePin` keeps the whole from being `Send`.
        futures::stream::iter(0..self.files.len())
            .map(|place| {
                let file = &self.files[place];
                let (format, meta) = (Arc::clone(&format), file.object_meta());
                async move {
                    let schema = unpanicked(format.infer_schema(&self.state, &self.store, &[meta])).await;
                    schema.map(|schema| schema.as_ref().clone()).map_err(|source| self.unreadable(file, source))
                }
            })
            .buffered(concurrency)
            .try_collect()
            .await
    }

    fn format(&self) -> Arc<dyn FileFormat> {
        format(self.options, &self.state)
    }

    fn unreadable(&self, file: &FilePin, source: datafusion::error::DataFusionError) -> PinError {
        PinError::Unreadable {
            dataset: self.dataset.to_owned(),
            format: self.source_format,
            path: file.path.clone(),
            source: Box::new(source),
        }
    }

    /// The union of the columns by name, as the engine merges them; but a conflict names its files, and a column that
    /// a file lacks is nullable.
    fn merge(&self, schemas: Vec<Schema>) -> Result<Schema, PinError> {
        let count = schemas.len();
        let mut columns: Vec<Column> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut metadata: HashMap<String, (String, usize)> = HashMap::new();
        for (file, schema) in schemas.into_iter().enumerate() {
            for field in schema.fields() {
                let Some(&place) = places.get(field.name()) else {
                    places.insert(field.name().clone(), columns.len());
                    columns.push(Column { field: field.as_ref().clone(), first: file, files: 1 });
                    continue;
                };
                let column = &mut columns[place];
                let before = type_text(column.field.data_type());
                column.field.try_merge(field).map_err(|source| PinError::Schemas {
                    dataset: self.dataset.to_owned(),
                    conflict: Box::new(SchemaConflict {
                        column: field.name().clone(),
                        first: self.files[column.first].path.clone(),
                        first_type: before,
                        second: self.files[file].path.clone(),
                        second_type: type_text(field.data_type()),
                    }),
                    source: Box::new(source),
                })?;
                column.files += 1;
            }
            for (key, value) in schema.metadata() {
                let (known, first) = metadata.entry(key.clone()).or_insert_with(|| (value.clone(), file));
                if known != value {
                    return Err(PinError::Metadata {
                        dataset: self.dataset.to_owned(),
                        key: key.clone(),
                        first: self.files[*first].path.clone(),
                        second: self.files[file].path.clone(),
                    });
                }
            }
        }
        let fields = columns.into_iter().map(|column| {
            let nullable = column.field.is_nullable() || column.files < count;
            column.field.with_nullable(nullable)
        });
        let metadata = metadata.into_iter().map(|(key, (value, _))| (key, value)).collect();
        Ok(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata))
    }

    /// The engine keeps the first of two columns of one name and drops the other without a word.
    async fn check_parquet_names(&self) -> Result<(), PinError> {
        for file in self.files {
            let path = file.path.clone();
            let read = move || ParquetMetaDataReader::new().parse_and_finish(&std::fs::File::open(path)?);
            let unreadable = |source: ParquetError| self.unreadable(file, source.into());
            let metadata = blocking(read).await.map_err(unreadable)?;
            let mut seen = HashSet::new();
            let columns = metadata.file_metadata().schema_descr().root_schema().get_fields();
            if let Some(twice) = columns.iter().find(|column| !seen.insert(column.name())) {
                return Err(PinError::DuplicateColumn {
                    dataset: self.dataset.to_owned(),
                    column: twice.name().to_owned(),
                    path: file.path.clone(),
                });
            }
        }
        Ok(())
    }

    /// The names of the columns of a CSV file; their types mean nothing.
    pub(crate) async fn header(&self, csv: &CsvRead, file: &FilePin) -> Result<SchemaRef, PinError> {
        let mut options = csv.engine();
        options.schema_infer_max_rec = Some(0);
        let format = CsvFormat::default().with_options(options);
        let header = unpanicked(format.infer_schema(&self.state, &self.store, &[file.object_meta()])).await;
        header.map_err(|source| self.unreadable(file, source))
    }

    /// The engine reads every CSV file by the position of its columns: files whose headers differ would have their
    /// values under the wrong names.
    async fn check_headers(&self, csv: &CsvRead) -> Result<(), PinError> {
        if self.files.len() < 2 {
            return Ok(());
        }
        let concurrency = self.state.config_options().execution.meta_fetch_concurrency.get();
        let headers: Vec<(&FilePin, Vec<String>)> = futures::stream::iter(0..self.files.len())
            .map(|place| async move {
                let file = &self.files[place];
                (file, self.header(csv, file).await)
            })
            .buffered(concurrency)
            .map(|(file, header)| {
                header.map(|schema| (file, schema.fields().iter().map(|field| field.name().clone()).collect()))
            })
            .try_collect()
            .await?;
        // A file without a header has no rows either.
        let headers: Vec<_> = headers.into_iter().filter(|(_, names)| !names.is_empty()).collect();
        // The first of the longest, so that shorter ones are compared with all columns there are.
        let Some((first, expected)) = headers.iter().rev().max_by_key(|(_, names)| names.len()) else {
            return Ok(());
        };
        for (file, found) in &headers {
            let fits = if csv.truncated_rows { expected.starts_with(found) } else { expected == found };
            if !fits {
                return Err(PinError::Headers {
                    dataset: self.dataset.to_owned(),
                    first: first.path.clone(),
                    expected: expected.clone(),
                    second: file.path.clone(),
                    found: found.clone(),
                });
            }
        }
        Ok(())
    }
}

struct Column {
    field: Field,
    first: usize,
    files: usize,
}

/// A reader that panics on a corrupt file (parquet 59 subtracts before it compares) has met a file that it cannot read.
pub(crate) async fn unpanicked<T>(
    reading: impl Future<Output = datafusion::common::Result<T>>,
) -> datafusion::common::Result<T> {
    use futures::FutureExt as _;
    std::panic::AssertUnwindSafe(reading).catch_unwind().await.unwrap_or_else(|_| {
        Err(datafusion::error::DataFusionError::Execution("the reader panicked over a corrupt file".to_owned()))
    })
}

/// A column without a value in the sample is text: as the null type that the engine infers, its later values would be
/// dropped without a word.
fn text_for_null(schema: Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Null => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        _ => Arc::clone(field),
    });
    Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone())
}

/// The object's metadata, as the engine wants it.
impl FilePin {
    pub(crate) fn object_meta(&self) -> ObjectMeta {
        // The engine's cache of footers goes by size and modification time, which a rewritten file may share with its
        // former self. So it is given a time that is drawn from the content.
        let mut time = [0; 8];
        time.copy_from_slice(&self.digest.as_bytes()[..8]);
        let time = i128::from(u64::from_be_bytes(time) >> 1);
        crate::scan::object_meta(self.location.clone(), self.stamp.size_bytes, time)
    }
}
