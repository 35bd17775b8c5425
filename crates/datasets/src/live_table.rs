//! A table whose rows are made when it is read, not when it is planned.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

/// What makes the rows.
#[async_trait]
pub(crate) trait Rows: fmt::Debug + Send + Sync + 'static {
    /// All rows as they are now, of the table's schema.
    async fn rows(&self, task: &TaskContext) -> Result<RecordBatch>;
}

/// A table of `schema` over `rows`.
pub(crate) fn live_table(schema: SchemaRef, rows: Arc<dyn Rows>) -> Result<Arc<dyn TableProvider>> {
    let part = Arc::new(Part { schema: Arc::clone(&schema), rows });
    Ok(Arc::new(StreamingTable::try_new(schema, vec![part])?))
}

#[derive(Debug)]
struct Part {
    schema: SchemaRef,
    rows: Arc<dyn Rows>,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, task: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = Arc::clone(&self.rows);
        let batches = futures::stream::once(async move { rows.rows(&task).await });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}
