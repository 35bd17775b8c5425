//! Writing one stream of rows.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::partition;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use deltalake_core::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake_core::kernel::Add;
use deltalake_core::logstore::ObjectStoreRef;
use futures::StreamExt as _;
use tokio::sync::watch;

use crate::checks::RowChecks;
use crate::error::WriteError;
use crate::write::store_error;

/// Writes one stream.
pub(crate) struct StreamWriter {
    table: PathBuf,
    store: ObjectStoreRef,
    schema: SchemaRef,
    config: WriterConfig,
    checks: Arc<RowChecks>,
    /// The columns by which rows come partition after partition, so that one is closed before the next begins.
    grouped_by: Vec<String>,
    writer: DeltaWriter,
    adds: Vec<Add>,
    /// The values of `grouped_by` of the row written last.
    group: Option<RecordBatch>,
}

impl StreamWriter {
    pub(crate) fn new(
        table: PathBuf,
        store: ObjectStoreRef,
        schema: SchemaRef,
        config: WriterConfig,
        checks: Arc<RowChecks>,
        grouped_by: Vec<String>,
    ) -> Self {
        let writer = DeltaWriter::new(Arc::clone(&store), config.clone());
        Self { table, store, schema, config, checks, grouped_by, writer, adds: Vec::new(), group: None }
    }

    /// The files. None when it was cancelled.
    pub(crate) async fn run(
        mut self,
        stream: SendableRecordBatchStream,
        cancelled: watch::Receiver<bool>,
    ) -> Result<Vec<Add>, WriteError> {
        match self.drain(stream, cancelled).await {
            Ok(true) => {
                self.close().await?;
                Ok(self.adds)
            }
            Ok(false) => {
                let _ = self.writer.abort().await;
                Ok(Vec::new())
            }
            Err(error) => {
                // The first error is the one that tells; what it leaves is removed with the rest.
                let _ = self.writer.abort().await;
                Err(error)
            }
        }
    }

    /// Whether the stream was written to its end.
    async fn drain(
        &mut self,
        mut stream: SendableRecordBatchStream,
        mut cancelled: watch::Receiver<bool>,
    ) -> Result<bool, WriteError> {
        let cancelled = async move {
            // An error means that the sender is gone, and with it the whole write.
            let _ = cancelled.wait_for(|cancelled| *cancelled).await;
        };
        tokio::pin!(cancelled);
        loop {
            let next = tokio::select! {
                biased;
                () = &mut cancelled => return Ok(false),
                next = stream.next() => next,
            };
            let Some(batch) = next else { return Ok(true) };
            let batch = conform(batch.map_err(stream_error)?, &self.schema)?;
            self.checks.check(&batch)?;
            match self.grouped_by.is_empty() {
                true => self.write(&batch).await?,
                false => self.write_groups(&batch).await?,
            }
        }
    }

    async fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.writer.write(batch).await.map_err(|error| store_error(&self.table, error))
    }

    /// Writes a batch whose rows come group after group, and closes each group's files when the next begins: only one
    /// partition is open at a time.
    async fn write_groups(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let failed = |source| WriteError::Batch { source };
        let columns: Vec<ArrayRef> =
            self.grouped_by.iter().filter_map(|column| batch.column_by_name(column).cloned()).collect();
        let groups = partition(&columns).map_err(failed)?;
        for range in groups.ranges() {
            let rows = batch.slice(range.start, range.len());
            let indices: Vec<usize> =
                self.grouped_by.iter().filter_map(|column| batch.schema_ref().index_of(column).ok()).collect();
            let group = rows.slice(0, 1).project(&indices).map_err(failed)?;
            if self.group.as_ref().is_some_and(|open| *open != group) {
                self.close().await?;
            }
            self.group = Some(group);
            self.write(&rows).await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), WriteError> {
        let fresh = DeltaWriter::new(Arc::clone(&self.store), self.config.clone());
        let full = std::mem::replace(&mut self.writer, fresh);
        let mut adds = full.close().await.map_err(|error| store_error(&self.table, error))?;
        // Partitions close in no order of their own.
        adds.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.adds.extend(adds);
        Ok(())
    }
}

/// Our own error where a plan carried it, else the query's.
fn stream_error(error: DataFusionError) -> WriteError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<WriteError>() {
            Ok(ours) => *ours,
            Err(other) => WriteError::Stream { source: Box::new(DataFusionError::External(other)) },
        },
        source => WriteError::Stream { source: Box::new(source) },
    }
}

/// The batch under the declared schema: same names, same types, and no NULL where none is allowed. No column is copied.
pub(crate) fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, WriteError> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let declared = schema.fields();
    let actual = batch.schema();
    let actual = actual.fields();
    let name = |field: Option<&arrow::datatypes::FieldRef>| {
        field.map(|field| format!("{} {}", field.name(), field.data_type())).unwrap_or_default()
    };
    for index in 0..declared.len().max(actual.len()) {
        let (expected, found) = (name(declared.get(index)), name(actual.get(index)));
        if expected != found {
            return Err(WriteError::Schema { index, expected, found });
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
        .map_err(|source| WriteError::Batch { source })
}
