//! Sorting rows on their way into the files, over all streams, spilling beyond memory.
//!
//! The sort is run as it stands, never handed to an optimizer: the engine's writer hides from the optimizer that it keeps
//! the order of its input, and a plan's `ORDER BY` is dropped on the way into a table.
//!
//! Views of text and bytes are sorted as plain columns: a view keeps the whole batch alive that it points into, and one sorted
//! batch points into many, so that a merge of spilled runs holds a multiple of the rows that it gives.
//!
//! Under a limit, memory that was freed goes back to the system while the runs are merged. The limit is of what is held, and
//! glibc keeps the buffers of the sorting phase for later ones, which are of other sizes: the process would peak at 1.3 to 1.6
//! times the limit.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use futures::{Stream, TryStreamExt as _};

use crate::schema::by_position;

/// One stream of all rows by `columns`, ascending, NULLs first.
pub(crate) fn sorted(
    streams: Vec<SendableRecordBatchStream>,
    schema: &SchemaRef,
    columns: &[String],
    task: &Arc<TaskContext>,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let options = SortOptions { descending: false, nulls_first: true };
    let plain = without_views(schema);
    let order = columns.iter().map(|column| Ok(PhysicalSortExpr::new(col(column, &plain)?, options)));
    let order = order.collect::<Result<Vec<_>, DataFusionError>>()?;
    let (Some(order), false) = (LexOrdering::new(order), streams.is_empty()) else {
        return Ok(Box::pin(EmptyRecordBatchStream::new(Arc::clone(schema))));
    };
    let given = streams.into_iter().map(|stream| {
        let stream = Mutex::new(Some(by_position(stream, &plain)));
        Arc::new(Given { schema: Arc::clone(&plain), stream }) as Arc<dyn PartitionStream>
    });
    let input = StreamingTableExec::try_new(Arc::clone(&plain), given.collect(), None, None, false, None)?;
    let sort: Arc<dyn ExecutionPlan> = match task.memory_pool().memory_limit() {
        MemoryLimit::Infinite => {
            let each = SortExec::new(order.clone(), Arc::new(input)).with_preserve_partitioning(true);
            Arc::new(SortPreservingMergeExec::new(order, Arc::new(each)))
        }
        // One sorter has all of a limit: of several, the first that merges its runs leaves the others nothing to go on with.
        _ => {
            let sort = SortExec::new(order, Arc::new(CoalescePartitionsExec::new(Arc::new(input))));
            let sorted = by_position(sort.execute(0, Arc::clone(task))?, schema);
            return Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), giving_back(sorted))));
        }
    };
    let sorted = sort.execute(0, Arc::clone(task))?;
    Ok(by_position(sorted, schema))
}

/// Bytes of rows after which freed memory goes back: seldom enough to cost nothing that can be measured.
const GIVE_BACK_BYTES: usize = 16 << 20;

/// The same batches; gives freed memory back to the system before the first, and now and then.
fn giving_back(sorted: SendableRecordBatchStream) -> impl Stream<Item = Result<RecordBatch, DataFusionError>> {
    let mut passed = GIVE_BACK_BYTES;
    sorted.inspect_ok(move |batch| {
        passed += batch.get_array_memory_size();
        if passed >= GIVE_BACK_BYTES {
            passed = 0;
            give_back_freed_memory();
        }
    })
}

/// Does nothing with C libraries other than glibc, nor to a program with an allocator of its own.
fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: any thread may call it at any time; it touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The schema with the rows' own text and bytes. Wide offsets: a column of a batch may have more of them than 2 GiB.
fn without_views(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8View => Arc::new(field.as_ref().clone().with_data_type(DataType::LargeUtf8)),
        DataType::BinaryView => Arc::new(field.as_ref().clone().with_data_type(DataType::LargeBinary)),
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
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
