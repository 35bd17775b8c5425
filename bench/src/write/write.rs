//! Both ways to write, timed from the plan to the last byte.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use alluvium_contracts::{DeltaWritePolicy, WriteMode};
use alluvium_write_policy::{ResolvedWritePolicy, TableWrite, TableWriteOutcome};
use anyhow::{Context, Result, bail};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::config::TableParquetOptions;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::DataFrame;
use serde_json::{Value, json};

use crate::memory::{reset_peak, resident};
use crate::source::rows;

/// How the Delta table is laid out.
#[derive(clap::Args)]
pub struct Layout {
    /// Order all rows by this column.
    #[arg(long, value_name = "COLUMN")]
    zorder: Option<String>,
    /// The target size of a file.
    #[arg(long, value_name = "N")]
    file_bytes: Option<u64>,
    /// The memory that the sort may take.
    #[arg(long, value_name = "N")]
    memory_bytes: Option<u64>,
}

/// Writes `source` as plain Parquet.
#[expect(clippy::disallowed_methods, reason = "a measurement takes the time itself")]
pub async fn parquet(source: &Path, out: &Path) -> Result<Value> {
    let frame = rows(source, None).await?;
    let mut options = TableParquetOptions::default();
    options.global.compression = Some("snappy".to_owned());
    std::fs::create_dir_all(out)?;
    // The slash says that it holds many files.
    let directory = format!("{}/", out.to_str().context("the path is no text")?);
    let start = Instant::now();
    frame.write_parquet(&directory, DataFrameWriteOptions::new(), Some(options)).await?;
    figures(start, out, None)
}

/// Writes `source` as a Delta table.
#[expect(clippy::disallowed_methods, reason = "a measurement takes the time itself")]
pub async fn delta(source: &Path, out: &Path, layout: &Layout) -> Result<Value> {
    let frame = rows(source, layout.memory_bytes).await?;
    let schema: SchemaRef = Arc::new(Schema::new(frame.schema().fields().clone()));
    let mut policy = DeltaWritePolicy { mode: WriteMode::Error, ..DeltaWritePolicy::default() };
    policy.zorder_by.extend(layout.zorder.clone());
    policy.target_file_size_bytes = layout.file_bytes.unwrap_or(policy.target_file_size_bytes);
    let policy = ResolvedWritePolicy::resolve(&policy, &schema)?;
    reset_peak();
    let baseline_bytes = resident()?.now_bytes;
    let start = Instant::now();
    let (task, streams) = streams(frame).await?;
    let write = TableWrite::new(out, schema, streams, &policy).task(task);
    let TableWriteOutcome::Committed(_) = write.run().await? else { bail!("the table is there already") };
    figures(start, out, Some(baseline_bytes))
}

type Streams = Vec<datafusion::execution::SendableRecordBatchStream>;

async fn streams(frame: DataFrame) -> Result<(Arc<datafusion::execution::TaskContext>, Streams)> {
    let task = Arc::new(frame.task_ctx());
    Ok((task, frame.execute_stream_partitioned().await?))
}

#[expect(clippy::disallowed_methods, reason = "a measurement takes the time itself")]
fn figures(start: Instant, out: &Path, baseline_bytes: Option<u64>) -> Result<Value> {
    let seconds = start.elapsed().as_secs_f64();
    let resident = resident()?;
    let (mut files, mut bytes) = (0_u64, 0_u64);
    for entry in std::fs::read_dir(out)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "parquet") {
            files += 1;
            bytes += entry.metadata()?.len();
        }
    }
    Ok(json!({
        "seconds": seconds,
        "files": files,
        "bytes": bytes,
        "peak_above_baseline_bytes": baseline_bytes.map(|baseline| resident.peak_bytes.saturating_sub(baseline)),
    }))
}
