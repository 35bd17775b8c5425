//! What a query reads of a table's files, by the engine's own count.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use datafusion::arrow::array::RecordBatch;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake_core::DeltaTableBuilder;
use serde_json::{Value, json};
use url::Url;

/// Runs `sql` over the table `t` at `table`.
#[expect(
    clippy::disallowed_methods,
    reason = "a measurement of one crate makes its own session, as a user of that crate does"
)]
pub async fn read(table: &Path, sql: &str) -> Result<Value> {
    let table = table.canonicalize()?;
    let url = Url::from_directory_path(&table).map_err(|()| anyhow!("{} is no directory", table.display()))?;
    let provider = DeltaTableBuilder::from_url(url)?.load().await?.table_provider().await?;
    let session = SessionContext::new_with_config(SessionConfig::new());
    session.register_table("t", provider)?;
    let plan = session.sql(sql).await?.create_physical_plan().await?;
    let batches = collect(Arc::clone(&plan), session.task_ctx()).await?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    Ok(json!({"rows": rows, "bytes_scanned": scanned(plan.as_ref())}))
}

/// Over the whole plan.
fn scanned(plan: &dyn ExecutionPlan) -> usize {
    let own =
        plan.metrics().and_then(|metrics| metrics.sum_by_name("bytes_scanned")).map_or(0, |bytes| bytes.as_usize());
    own + plan.children().into_iter().map(|child| scanned(child.as_ref())).sum::<usize>()
}
