//! Appending rows, each batch of them once, as the table's own policy says.

use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{DeltaWritePolicy, SchemaMode, WriteMode};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake_core::kernel::Transaction;
use deltalake_core::protocol::{DeltaOperation, SaveMode};

#[cfg(doc)]
use crate::AppendTip;
use crate::apply::TableWrite;
use crate::commit::{Landing, check_metadata, commit_after};
use crate::error::{CommitError, ReadError};
use crate::files::{AppendOutcome, Appended, CommitMetadata, TableWriteOutcome};
use crate::log::head_version;
use crate::policy::ResolvedWritePolicy;
use crate::stored::stored_policy;
use crate::sync::{sync_commit, sync_staged};
use crate::table::TableDir;
use crate::tip::{Followed, HeldTip};
use crate::write::{Input, Target, stage};

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
    let first = DeltaWritePolicy::default();
    Ok(append_or_create(table_dir, schema, batches, &first, metadata, transaction).await?.outcome)
}

/// Appends `batches` to a table in one commit, and creates the table at first, as `first` says.
///
/// The files are written as those before them: file size, Parquet properties and statistics are taken from the policy that
/// the table was made with, and of `first` only `schema_mode` is looked at again: with `merge`, columns and fields that the table lacks
/// join it, and those that the rows lack are NULL. Idempotent by application transaction: a table that has
/// `transaction` (application id, version), or a later version of the same application, is left alone. Appends of others
/// are waited out, and the transaction is checked again each time. The log of a table made here is cleaned up and
/// checkpointed as usual: its rows are the truth, not its commits.
///
/// When it returns, files, commit and the names that lead to them are synced to the device; of a table that was made, up to its name in
/// the directory that holds it.
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
) -> Result<Appended, CommitError> {
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
    let mut followed = None;
    if let Some(known) = &known {
        followed = Followed::of(&known.state, &schema)?.map(|followed| (known.state.version(), followed));
    }
    let policy = appending(policy, first.schema_mode);
    let policy = ResolvedWritePolicy::resolve_with(&policy, &schema, &[], &overrides)?;
    let write = TableWrite::new(table_dir, Arc::clone(&schema), vec![stream(&schema, batches)], &policy)
        .metadata(metadata.clone())
        .transaction(transaction.0, transaction.1)
        .unstated(known, true);
    match write.run().await? {
        TableWriteOutcome::Committed(committed) => {
            // One that was moved behind the commits of others came to a table that nobody here has seen.
            let followed = followed.filter(|(known, _)| committed.version == known + 1);
            let tip = match followed {
                Some((_, followed)) => followed.at(table_dir, committed.version, transaction).unwrap_or(None),
                None => None,
            };
            Ok(Appended { outcome: AppendOutcome::Committed(committed), tip })
        }
        TableWriteOutcome::AlreadyApplied => Ok(Appended { outcome: AppendOutcome::AlreadyApplied, tip: None }),
        // Neither is for a write of any version in this mode.
        TableWriteOutcome::Ignored { .. } | TableWriteOutcome::Conflict { .. } => {
            Err(CommitError::Contended { path: table_dir.to_path_buf(), attempts: 1 })
        }
    }
}

/// Appends to a table that is as an earlier append of the same application left it, as [`append_or_create`] does, but without
/// replaying the log: what that costs grows with the commits since the checkpoint, and this does not. Checkpoints and the clean-up
/// of the log are left to [`Maintenance`](crate::Maintenance).
///
/// `None`, with nothing done: somebody has committed since the tip was [held](AppendTip::hold).
///
/// # Errors
/// [`CommitError`], with nothing of the rows in the table and no file left behind.
///
/// # Panics
/// Outside a Tokio runtime with a timer.
pub async fn append_after(
    held: HeldTip<'_>,
    batches: Vec<RecordBatch>,
    metadata: &CommitMetadata,
    (app_id, version): (&str, i64),
) -> Result<Option<Appended>, CommitError> {
    check_metadata(metadata)?;
    let HeldTip { tip, table: table_dir, schema } = held;
    let Some(applied) = tip.transaction(app_id) else { return Ok(None) };
    if applied >= version {
        return Ok(Some(Appended { outcome: AppendOutcome::AlreadyApplied, tip: Some(tip.clone()) }));
    }
    let policy = ResolvedWritePolicy::resolve(&appending(tip.policy.clone(), SchemaMode::Strict), &schema)?;
    let io = |source| ReadError::Io { path: table_dir.to_path_buf(), source };
    let table = TableDir::open(table_dir).map_err(io)?;
    let target = Target { table: table.clone(), table_is_new: false };
    let streams = vec![stream(&schema, batches)];
    let input = Input { schema, streams, checks: Arc::default(), grouped: false };
    let mut staged = stage(target, input, &policy, &Arc::default()).await?;
    sync_staged(&staged).await?;
    let operation = DeltaOperation::Write {
        mode: SaveMode::Append,
        partition_by: Some(policy.partition_by().to_vec()),
        predicate: None,
    };
    let transaction = Transaction::new(app_id, version);
    match commit_after(&table, tip.version, operation, metadata, transaction, &mut staged).await? {
        Landing::Taken { .. } => Ok(None),
        Landing::Landed { version: landed } => {
            sync_commit(table_dir, landed).await?;
            // Without one, the next append looks for itself.
            let tip = tip.next(table_dir, version).ok();
            Ok(Some(Appended { outcome: AppendOutcome::Committed(staged.committed(landed)), tip }))
        }
    }
}

/// `policy` for rows to come, whatever it says of the first ones.
fn appending(policy: DeltaWritePolicy, schema_mode: SchemaMode) -> DeltaWritePolicy {
    DeltaWritePolicy { mode: WriteMode::Append, schema_mode, ..policy }
}

fn stream(schema: &SchemaRef, batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
    let batches = futures::stream::iter(batches.into_iter().map(Ok));
    Box::pin(RecordBatchStreamAdapter::new(SchemaRef::clone(schema), batches))
}
