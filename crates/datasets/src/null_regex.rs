//! CSV files with `null_regex`. The engine uses that option to infer types and forgets it when it scans, so that `NA`
//! in a column of numbers is an error and in a column of text is no NULL; here it is honoured.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv::reader::{Decoder, ReaderBuilder};
use bytes::{Buf, Bytes};
use datafusion::common::config::CsvOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpenFuture, FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, PhysicalExpr, apply_expression_roots};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use regex::Regex;

/// A source of CSV files in which every text that the expression matches is NULL, and no other.
#[derive(Debug, Clone)]
pub(crate) struct NullRegexSource {
    options: CsvOptions,
    null_regex: Regex,
    table_schema: TableSchema,
    projection: SplitProjection,
    batch_size: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl NullRegexSource {
    pub(crate) fn new(options: CsvOptions, null_regex: Regex, table_schema: TableSchema) -> Self {
        Self {
            options,
            null_regex,
            projection: SplitProjection::unprojected(&table_schema),
            table_schema,
            // The engine sets its own before it opens anything.
            batch_size: 8192,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    fn decoder(&self) -> Decoder {
        let mut builder = ReaderBuilder::new(Arc::clone(self.table_schema.file_schema()))
            .with_header(self.options.has_header.unwrap_or(true))
            .with_delimiter(self.options.delimiter)
            .with_quote(self.options.quote)
            .with_truncated_rows(self.options.truncated_rows.unwrap_or(false))
            .with_null_regex(self.null_regex.clone())
            .with_batch_size(self.batch_size)
            .with_projection(self.projection.file_indices.clone());
        if let Some(escape) = self.options.escape {
            builder = builder.with_escape(escape);
        }
        if let Some(comment) = self.options.comment {
            builder = builder.with_comment(comment);
        }
        builder.build_decoder()
    }
}

impl FileSource for NullRegexSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        _partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let opener = Opener { source: self.clone(), compression: base_config.file_compression_type, object_store };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), self.table_schema.file_schema())
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_size, ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.table_schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        "csv"
    }

    fn fmt_extra(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, ", null_regex={}", self.null_regex)
    }

    /// A file is read from its start to its end.
    fn supports_repartitioning(&self) -> bool {
        false
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.projection.source.iter(), f)
    }
}

struct Opener {
    source: NullRegexSource,
    compression: FileCompressionType,
    object_store: Arc<dyn ObjectStore>,
}

impl FileOpener for Opener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        if file.range.is_some() {
            return Err(DataFusionError::Internal(
                "a CSV source with null_regex was given a part of a file".to_owned(),
            ));
        }
        let (decoder, compression) = (self.source.decoder(), self.compression);
        let store = Arc::clone(&self.object_store);
        Ok(Box::pin(async move {
            let bytes = store.get(&file.object_meta.location).await?.into_stream().map_err(DataFusionError::from);
            Ok(decode(compression.convert_stream(bytes.boxed())?, decoder))
        }))
    }
}

fn decode(input: BoxStream<'static, Result<Bytes>>, decoder: Decoder) -> BoxStream<'static, Result<RecordBatch>> {
    let state = (input.fuse(), decoder, Bytes::new());
    stream::try_unfold(state, |(mut input, mut decoder, mut buffered)| async move {
        loop {
            if buffered.is_empty() {
                // At the end of the input this stays empty, which tells the decoder to end its last record.
                while let Some(chunk) = input.next().await.transpose()? {
                    buffered = chunk;
                    if !buffered.is_empty() {
                        break;
                    }
                }
            }
            let decoded = decoder.decode(&buffered)?;
            buffered.advance(decoded);
            if decoded == 0 && !buffered.is_empty() && decoder.capacity() > 0 {
                return Err(DataFusionError::Internal("the CSV decoder takes no more of its input".to_owned()));
            }
            // The batch is full, or the input at its end.
            if decoded == 0 || decoder.capacity() == 0 {
                let batch = decoder.flush()?;
                return Ok(batch.map(|batch| (batch, (input, decoder, buffered))));
            }
        }
    })
    .boxed()
}
