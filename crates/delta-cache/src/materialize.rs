//! From an analyzed plan to streams of published batches.

use std::sync::Arc;

use alluvium_plans::PublishedSchema;
use alluvium_profile::Session;
use alluvium_telemetry::carry;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::TryStreamExt as _;

use crate::published::PublishExec;

/// Starts the execution of a plan: one stream a partition, in published batches. All of them have to be polled at once:
/// the partitions of a join wait for each other.
pub(crate) async fn streams(
    session: &Session,
    plan: &LogicalPlan,
    schema: &PublishedSchema,
) -> Result<Vec<SendableRecordBatchStream>> {
    session.execute_partitioned(published(session, plan, schema).await?)
}

/// Executes a plan into memory; returns the table and its rows.
pub(crate) async fn in_memory(
    session: &Session,
    plan: &LogicalPlan,
    schema: &PublishedSchema,
) -> Result<(MemTable, u64)> {
    let running = streams(session, plan, schema)
        .await?
        .into_iter()
        .map(|stream| SpawnedTask::spawn(carry(stream.try_collect::<Vec<_>>())));
    let mut partitions = Vec::new();
    for task in running.collect::<Vec<_>>() {
        partitions.push(joined(task).await?);
    }
    let rows = partitions.iter().flatten().map(|batch| batch.num_rows() as u64).sum();
    Ok((MemTable::try_new(Arc::clone(schema.arrow()), partitions)?, rows))
}

/// Executes a plan for its errors and its number of rows alone.
pub(crate) async fn count(session: &Session, plan: &LogicalPlan, schema: &PublishedSchema) -> Result<u64> {
    let stream = session.execute_merged(published(session, plan, schema).await?)?;
    let count = async |rows, batch: RecordBatch| Ok(rows + batch.num_rows() as u64);
    // In a task, as all queries are: whoever waits for it can still be told to stop where it does not yield.
    joined(SpawnedTask::spawn(carry(stream.try_fold(0, count)))).await
}

async fn joined<T: 'static>(task: SpawnedTask<Result<T>>) -> Result<T> {
    task.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
}

async fn published(session: &Session, plan: &LogicalPlan, schema: &PublishedSchema) -> Result<Arc<dyn ExecutionPlan>> {
    let exec = session.context().state().create_physical_plan(plan).await?;
    Ok(Arc::new(PublishExec::new(exec, Arc::clone(schema.arrow()))))
}
