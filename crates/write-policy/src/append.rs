//! Appending rows, each batch of them once, as the table's own policy says.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use crate::apply::TableWrite;
use crate::commit::check_metadata;
use crate::error::{CommitError, ReadError};
use crate::files::{AppendOutcome, CommitMetadata, TableWriteOutcome};
use crate::log::head_version;
use crate::policy::ResolvedWritePolicy;
use crate::stored::stored_policy;
use crate::table::TableDir;
use alluvium_contracts::{DeltaWritePolicy, SchemaMode, WriteMode};

/// [`append_or_create`], with the default policy for a table that is not there yet.
///
/// # Errors
/// [`CommitError`], with nothing of the rows in the table and no file left behind.
///
/// # Panics
/// Outside a Tokio runtime with a timer.
pub async fn append(
    table_dir: &Path,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    metadata: &CommitMetadata,
    transaction: (&str, i64),
) -> Result<AppendOutcome, CommitError> {
    append_or_create(table_dir, schema, batches, &DeltaWritePolicy::default(), metadata, transaction).await
}

/// Appends `batches` to a table in one commit, and creates the table at first, as `first` says.
///
/// The files are written as those before them: file size, Parquet properties and statistics are taken from the policy that
/// the table was made with, and `first` is not looked at again. Idempotent by application transaction: a table that has
/// `transaction` (application id, version), or a later version of the same application, is left alone. Appends of others
/// are waited out, and the transaction is checked again each time. The log of a table made here is cleaned up and
/// checkpointed as usual: its rows are the truth, not its commits.
///
/// # Errors
/// [`CommitError`], with nothing of the rows in the table and no file left behind.
///
/// # Panics
/// Outside a Tokio runtime with a timer.
pub async fn append_or_create(
    table_dir: &Path,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    first: &DeltaWritePolicy,
    metadata: &CommitMetadata,
    transaction: (&str, i64),
) -> Result<AppendOutcome, CommitError> {
    check_metadata(metadata)?;
    let known = match head_version(table_dir)? {
        None => None,
        Some(_) => {
            let io = |source| ReadError::Io { path: table_dir.to_path_buf(), source };
            Some(TableDir::open(table_dir).map_err(io)?.load(None).await?)
        }
    };
    let (policy, overrides) = match &known {
        Some(known) => stored_policy(&known.state),
        None => (first.clone(), Default::default()),
    };
    let policy = DeltaWritePolicy { mode: WriteMode::Append, schema_mode: SchemaMode::Strict, ..policy };
    let policy = ResolvedWritePolicy::resolve_with(&policy, &schema, &[], &overrides)?;
    let rows = futures::stream::iter(batches.into_iter().map(Ok));
    let rows = Box::pin(RecordBatchStreamAdapter::new(SchemaRef::clone(&schema), rows));
    let write = TableWrite::new(table_dir, schema, vec![rows], &policy)
        .metadata(metadata.clone())
        .transaction(transaction.0, transaction.1)
        .unstated(known);
    match write.run().await? {
        TableWriteOutcome::Committed(committed) => Ok(AppendOutcome::Committed(committed)),
        TableWriteOutcome::AlreadyApplied => Ok(AppendOutcome::AlreadyApplied),
        // Neither is for a write of any version in this mode.
        TableWriteOutcome::Ignored { .. } | TableWriteOutcome::Conflict { .. } => {
            Err(CommitError::Contended { path: table_dir.to_path_buf(), attempts: 1 })
        }
    }
}
