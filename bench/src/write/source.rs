//! The one plan that every side writes: the rows of Parquet files, in types that a Delta table holds.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{cast, ident};
use datafusion::prelude::{DataFrame, ParquetReadOptions, SessionConfig, SessionContext};

/// The rows of `source`. Timestamps without a zone become UTC.
#[expect(
    clippy::disallowed_methods,
    reason = "a measurement of one crate makes its own session, as a user of that crate does"
)]
pub async fn rows(source: &Path, memory_bytes: Option<u64>) -> Result<DataFrame> {
    let partitions = std::thread::available_parallelism().map_or(1, usize::from);
    let mut config = SessionConfig::new().with_target_partitions(partitions);
    // One file a partition, as the other side has; the default is at least four.
    config.options_mut().set("datafusion.execution.minimum_parallel_output_files", &partitions.to_string())?;
    let mut runtime = RuntimeEnvBuilder::new();
    if let Some(bytes) = memory_bytes {
        runtime = runtime.with_memory_pool(Arc::new(FairSpillPool::new(usize::try_from(bytes)?)));
    }
    let session = SessionContext::new_with_config_rt(config, runtime.build_arc()?);
    let path = source.to_str().context("the path of the source is no text")?;
    let frame = session.read_parquet(path, ParquetReadOptions::default()).await?;
    let columns = frame.schema().fields().iter().map(|field| {
        let column = ident(field.name());
        match field.data_type() {
            DataType::Timestamp(_, None) => {
                cast(column, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))).alias(field.name())
            }
            _ => column,
        }
    });
    let columns: Vec<_> = columns.collect();
    Ok(frame.select(columns)?)
}
