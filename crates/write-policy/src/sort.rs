//! Sorting rows on their way into the files, over all streams, spilling beyond memory.
//!
//! The sort is run as it stands, never handed to an optimizer: the engine's writer hides from the optimizer that it keeps
//! the order of its input, and a plan's `ORDER BY` is dropped on the way into a table.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan as _;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

/// One stream of all rows by `columns`, ascending, NULLs first.
pub(crate) fn sorted(
    streams: Vec<SendableRecordBatchStream>,
    schema: &SchemaRef,
    columns: &[String],
    task: &Arc<TaskContext>,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let options = SortOptions { descending: false, nulls_first: true };
    let order = columns.iter().map(|column| Ok(PhysicalSortExpr::new(col(column, schema)?, options)));
    let order = order.collect::<Result<Vec<_>, DataFusionError>>()?;
    let (Some(order), false) = (LexOrdering::new(order), streams.is_empty()) else {
        return Ok(Box::pin(EmptyRecordBatchStream::new(Arc::clone(schema))));
    };
    let given = streams.into_iter().map(|stream| {
        Arc::new(Given { schema: Arc::clone(schema), stream: Mutex::new(Some(stream)) }) as Arc<dyn PartitionStream>
    });
    let input = StreamingTableExec::try_new(Arc::clone(schema), given.collect(), None, None, false, None)?;
    let sort = SortExec::new(order.clone(), Arc::new(input)).with_preserve_partitioning(true);
    SortPreservingMergeExec::new(order, Arc::new(sort)).execute(0, Arc::clone(task))
}

/// A stream that is given away once.
struct Given {
    schema: SchemaRef,
    stream: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PartitionStream for Given {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The plan above is executed once, so a second call never comes.
        stream.unwrap_or_else(|| Box::pin(EmptyRecordBatchStream::new(Arc::clone(&self.schema))))
    }
}
