//! Appending rows, each batch of them once.

use std::path::Path;

use alluvium_contracts::DeltaWritePolicy;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake_core::kernel::{StructType, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};

use crate::commit::{Change, Retention, check_metadata, check_writable, commit, create};
use crate::error::{CommitError, WriteError};
use crate::files::{AppendOutcome, CommitMetadata, CommitOutcome};
use crate::log::head_version;
use crate::policy::{ResolvedWritePolicy, delta_schema};
use crate::table::{Loaded, TableDir};
use crate::write::write_files;

/// An append loses only to one that landed, so this is never reached by fair play.
const MAX_ATTEMPTS: u32 = 1_000;

/// Appends `batches` to a table in one commit, and creates the table at first.
///
/// Idempotent by application transaction: a table that has `transaction` (application id, version), or a later version
/// of the same application, is left alone. Appends of others are waited out, and the transaction is checked again each
/// time. The log of a table made here is cleaned up and checkpointed as usual: its rows are the truth, not its commits.
///
/// # Errors
/// [`CommitError`], with nothing of the rows in the table and no file left behind.
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn append(
    table_dir: &Path,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    metadata: &CommitMetadata,
    transaction: (&str, i64),
) -> Result<AppendOutcome, CommitError> {
    check_metadata(metadata)?;
    let (app_id, version) = transaction;
    for _ in 0..MAX_ATTEMPTS {
        let existing = match head_version(table_dir)? {
            None => None,
            Some(_) => {
                let table = open(table_dir)?;
                Some(table.load(None).await?)
            }
        };
        if let Some(loaded) = &existing {
            if applied(table_dir, loaded, app_id).await? >= Some(version) {
                return Ok(AppendOutcome::AlreadyApplied);
            }
            check_writable(table_dir, loaded)?;
            check_schema(table_dir, loaded, &schema)?;
        }
        let policy = DeltaWritePolicy {
            partition_by: existing
                .as_ref()
                .map(|loaded| loaded.state.metadata().partition_columns().to_vec())
                .unwrap_or_default(),
            ..DeltaWritePolicy::default()
        };
        let policy = ResolvedWritePolicy::resolve(&policy, &schema)?;
        // Appends are small. Writing the files anew in the rare lost race is simpler than carrying them over.
        let rows = futures::stream::iter(batches.clone().into_iter().map(Ok));
        let stream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows));
        let staged = write_files(table_dir, schema.clone(), vec![stream], &policy).await?;
        let table = open(table_dir)?;
        let transaction = Some(Transaction::new(app_id, version));
        let outcome = match &existing {
            None => create(&table, &schema, staged, &policy, metadata, transaction, Retention::CleanUp).await?,
            Some(loaded) => {
                let actions = staged.actions().collect();
                let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
                let change = Change { actions, operation, metadata, transaction, retention: Retention::CleanUp };
                commit(&table, loaded, change, staged).await?.0
            }
        };
        match outcome {
            CommitOutcome::Committed(committed) => return Ok(AppendOutcome::Committed(committed)),
            CommitOutcome::Conflict { .. } => tokio::task::yield_now().await,
        }
    }
    Err(CommitError::Contended { path: table_dir.to_path_buf(), attempts: MAX_ATTEMPTS })
}

fn open(table_dir: &Path) -> Result<TableDir, CommitError> {
    TableDir::open(table_dir)
        .map_err(|source| WriteError::Directory { path: table_dir.to_path_buf(), source })
        .map_err(CommitError::from)
}

async fn applied(table_dir: &Path, loaded: &Loaded, app_id: &str) -> Result<Option<i64>, CommitError> {
    crate::read::recorded_transaction(table_dir, loaded, app_id).await.map_err(CommitError::from)
}

/// Whether rows of `schema` are rows of the table: same columns, in order, of the same types, and none that may be NULL
/// where the table allows none.
fn check_schema(table_dir: &Path, loaded: &Loaded, schema: &SchemaRef) -> Result<(), CommitError> {
    let ours: StructType = delta_schema(schema)?;
    let theirs = loaded.state.schema();
    let (mut ours, mut theirs) = (ours.fields(), theirs.fields());
    loop {
        let (found, expected) = match (ours.next(), theirs.next()) {
            (None, None) => return Ok(()),
            (found, expected) => (found, expected),
        };
        let fits = match (found, expected) {
            (Some(found), Some(expected)) => {
                found.name() == expected.name()
                    && found.data_type() == expected.data_type()
                    && (expected.is_nullable() || !found.is_nullable())
            }
            _ => false,
        };
        if !fits {
            let name = |field: Option<&deltalake_core::kernel::StructField>| match field {
                Some(field) => {
                    let null = if field.is_nullable() { "" } else { " not null" };
                    format!("`{} {}{null}`", field.name(), field.data_type())
                }
                None => "missing".to_owned(),
            };
            return Err(CommitError::SchemaChanged {
                path: table_dir.to_path_buf(),
                column: found.or(expected).map(|field| field.name().clone()).unwrap_or_default(),
                expected: name(expected),
                found: name(found),
            });
        }
    }
}
