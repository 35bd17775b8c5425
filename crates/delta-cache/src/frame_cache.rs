//! What `DataFrame::cache` does: a node that materialises when it is executed.
//!
//! The engine asks for the node synchronously, so that nothing can be computed then. The first execution computes all
//! partitions, each by a task of its own; every later one, of that frame and of all that were made from it, reads the rows
//! from memory. They go when the last of those frames goes.
//!
//! Until then they are counted in the memory pool of the session that computed them: where that has no room for them, the
//! query fails that would have filled it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use alluvium_profile::{SessionExtension, SessionParts, Slot};
use alluvium_telemetry::carry;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionState;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::session_state::CacheFactory;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType, UNNAMED_TABLE};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PhysicalExpr, PlanProperties,
    SendableRecordBatchStream,
};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::OnceCell;

/// Gives every session that a factory makes this way of caching frames.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameCache;

impl SessionExtension for FrameCache {
    fn slot(&self) -> Slot {
        Slot::CacheFactory
    }

    fn install(&self, parts: &mut SessionParts) -> std::result::Result<(), Box<dyn Error + Send + Sync>> {
        parts.cache_factory(Arc::new(Self));
        Ok(())
    }
}

impl CacheFactory for FrameCache {
    fn create(&self, plan: LogicalPlan, _: &SessionState) -> Result<LogicalPlan> {
        let table = CachedFrame { schema: Arc::clone(plan.schema().inner()), plan, rows: Arc::default() };
        LogicalPlanBuilder::scan(UNNAMED_TABLE, provider_as_source(Arc::new(table)), None)?.build()
    }
}

/// The rows of a frame, by partition, once something has been executed.
type Rows = OnceCell<Vec<Held>>;

/// The rows of one partition.
struct Held {
    batches: Vec<RecordBatch>,
    /// Their share of the memory pool, which goes with them.
    _reservation: MemoryReservation,
}

/// A frame as a table.
struct CachedFrame {
    plan: LogicalPlan,
    schema: SchemaRef,
    rows: Arc<Rows>,
}

impl fmt::Debug for CachedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedFrame").field("is_filled", &self.rows.initialized()).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for CachedFrame {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = state.create_physical_plan(&self.plan).await?;
        MaterializeExec::new(input, Arc::clone(&self.rows), projection.cloned(), &self.schema)
            .map(|exec| Arc::new(exec) as Arc<dyn ExecutionPlan>)
    }
}

/// Fills the rows when it is executed first, and yields them.
struct MaterializeExec {
    input: Arc<dyn ExecutionPlan>,
    rows: Arc<Rows>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl MaterializeExec {
    fn new(
        input: Arc<dyn ExecutionPlan>,
        rows: Arc<Rows>,
        projection: Option<Vec<usize>>,
        schema: &SchemaRef,
    ) -> Result<Self> {
        let schema = match &projection {
            Some(columns) => Arc::new(schema.project(columns)?),
            None => Arc::clone(schema),
        };
        // Rows that are there keep their partitions, however the input would be spread over them today.
        let partitions = rows.get().map_or(input.output_partitioning().partition_count(), Vec::len);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Ok(Self { input, rows, projection, properties: Arc::new(properties) })
    }
}

impl fmt::Debug for MaterializeExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaterializeExec").field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for MaterializeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaterializeExec")
    }
}

impl ExecutionPlan for MaterializeExec {
    fn name(&self) -> &'static str {
        "MaterializeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// None: its input is a finished plan of its own, which an optimizer must not fit to one of the frame's readers.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("MaterializeExec has no children"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (input, rows, projection) = (Arc::clone(&self.input), Arc::clone(&self.rows), self.projection.clone());
        let partitions = self.properties.output_partitioning().partition_count();
        let batches = async move {
            let filled = rows.get_or_try_init(|| computed(input, context)).await?;
            // Another execution may have filled more partitions than this one was planned for.
            let mine = filled.iter().skip(partition).step_by(partitions).flat_map(|held| &held.batches);
            let projected = mine.map(|batch| match &projection {
                Some(columns) => batch.project(columns).map_err(DataFusionError::from),
                None => Ok(batch.clone()),
            });
            Ok::<_, DataFusionError>(futures::stream::iter(projected.collect::<Vec<_>>()))
        };
        let stream = futures::stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream.boxed())))
    }
}

/// All rows of a plan, by partition. All of them are polled at once: the partitions of a join wait for each other.
async fn computed(input: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Vec<Held>> {
    let mut running = Vec::new();
    for partition in 0..input.output_partitioning().partition_count() {
        let stream = input.execute(partition, Arc::clone(&context))?;
        let reservation = MemoryConsumer::new("DataFrame::cache").register(context.memory_pool());
        running.push(SpawnedTask::spawn(carry(held(stream, reservation))));
    }
    let mut partitions = Vec::with_capacity(running.len());
    for task in running {
        partitions.push(task.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??);
    }
    Ok(partitions)
}

async fn held(mut stream: SendableRecordBatchStream, reservation: MemoryReservation) -> Result<Held> {
    // What batches have in common, such as a dictionary, is counted once.
    let mut counter = RecordBatchMemoryCounter::new();
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        reservation.try_grow(counter.count_batch(&batch))?;
        batches.push(batch);
    }
    Ok(Held { batches, _reservation: reservation })
}
