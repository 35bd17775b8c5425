//! Committing staged files: creating a table, and replacing one compare-and-swap.
//!
//! The engine's own retries are off everywhere: with them two overwrites of one table both land and the rows are
//! doubled. Every commit here is for one version, which somebody else either has taken or not.

use std::path::Path;

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, Metadata, Transaction};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaTableError, TableProperty};
use futures::TryStreamExt as _;
use serde_json::Value;

use crate::error::{CommitError, EngineError, ReadError};
use crate::files::{CommitMetadata, CommitOutcome, Committed, StagedFiles};
use crate::gate::unwritable;
use crate::log::{commit_info, head_version, read_commit};
use crate::policy::{ResolvedWritePolicy, delta_schema};
use crate::table::{Loaded, TableDir};

/// Keys of `commitInfo` that the engine writes, drops or rewrites.
const RESERVED_KEYS: [&str; 14] = [
    "timestamp",
    "inCommitTimestamp",
    "userId",
    "userName",
    "operation",
    "operationParameters",
    "operationMetrics",
    "readVersion",
    "isolationLevel",
    "isBlindAppend",
    "engineInfo",
    "clientVersion",
    "userMetadata",
    "txnId",
];

/// Whether commits stay for good, because they are the truth, or are cleaned up, because the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retention {
    Keep,
    CleanUp,
}

/// Commits version 0 of a table: protocol, metadata, properties and files in one commit.
///
/// The log of the table is never cleaned up (`delta.enableExpiredLogCleanup = false`): its commits carry the metadata.
///
/// # Errors
/// [`CommitError::TableExists`] when there is a table already; [`CommitError`] otherwise. The staged files are removed.
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn commit_create(
    table_dir: &Path,
    schema: SchemaRef,
    staged: StagedFiles,
    policy: &ResolvedWritePolicy,
    metadata: &CommitMetadata,
) -> Result<Committed, CommitError> {
    let table = open(table_dir, &schema, &staged, policy, metadata)?;
    match create(&table, &schema, staged, policy, metadata, None, Retention::Keep).await? {
        CommitOutcome::Committed(committed) => Ok(committed),
        CommitOutcome::Conflict { head } => Err(CommitError::TableExists { path: table_dir.to_path_buf(), head }),
    }
}

/// Replaces the whole content of a table, compare-and-swap: `expected` is the version that the caller saw (`None`: no
/// table). Schema and partitioning may change with it; the table keeps its id and its other properties.
///
/// `transaction` (application id, version) is recorded for readers of the table. It guards nothing: the version does.
///
/// # Errors
/// [`CommitError`]; a lost race is no error but [`CommitOutcome::Conflict`]. Staged files that were not committed are
/// removed.
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn commit_replace(
    table_dir: &Path,
    expected: Option<u64>,
    schema: SchemaRef,
    staged: StagedFiles,
    policy: &ResolvedWritePolicy,
    metadata: &CommitMetadata,
    transaction: Option<(&str, i64)>,
) -> Result<CommitOutcome, CommitError> {
    let table = open(table_dir, &schema, &staged, policy, metadata)?;
    let transaction = transaction.map(|(app_id, version)| Transaction::new(app_id, version));
    let Some(expected) = expected else {
        return create(&table, &schema, staged, policy, metadata, transaction, Retention::Keep).await;
    };
    match head_version(table.path())? {
        Some(head) if head == expected => {}
        Some(head) => return Ok(CommitOutcome::Conflict { head }),
        None => {
            return Err(ReadError::NotATable { path: table_dir.to_path_buf() }.into());
        }
    }
    let loaded = table.load(Some(expected)).await?;
    check_writable(table_dir, &loaded)?;

    let failed = |source: EngineError| CommitError::Failed { path: table_dir.to_path_buf(), source };
    let mut actions: Vec<Action> =
        changed_metadata(&table, &loaded, &schema, policy)?.map(Action::Metadata).into_iter().collect();
    let removed: Vec<Action> = loaded
        .state
        .snapshot()
        .file_views(&loaded.log_store, None)
        .map_ok(|file| Action::Remove(file.remove_action(true)))
        .try_collect()
        .await
        .map_err(|error| failed(error.into()))?;
    actions.extend(removed);
    actions.extend(staged.actions());
    let operation = DeltaOperation::Write {
        mode: SaveMode::Overwrite,
        partition_by: Some(policy.partition_by().to_vec()),
        predicate: None,
    };
    let change = Change { actions, operation, metadata, transaction, retention: Retention::Keep };
    let (outcome, state) = commit(&table, &loaded, change, staged).await?;
    if let (CommitOutcome::Committed(committed), Some(state)) = (&outcome, state) {
        verify_replaced(&table, committed, &state)?;
    }
    Ok(outcome)
}

/// Checks what can be checked before the table is looked at.
fn open(
    table_dir: &Path,
    schema: &SchemaRef,
    staged: &StagedFiles,
    policy: &ResolvedWritePolicy,
    metadata: &CommitMetadata,
) -> Result<TableDir, CommitError> {
    check_metadata(metadata)?;
    let table = TableDir::open(table_dir)
        .map_err(|source| ReadError::Io { path: table_dir.to_path_buf(), source })
        .map_err(CommitError::from)?;
    let differs = [
        ("table directory", staged.table != table.path()),
        ("schema", staged.schema != *schema),
        ("write policy", staged.policy != *policy),
    ];
    match differs.into_iter().find(|(_, differs)| *differs) {
        Some((what, _)) => Err(CommitError::Staged { what }),
        None => Ok(table),
    }
}

pub(crate) fn check_metadata(metadata: &CommitMetadata) -> Result<(), CommitError> {
    match metadata.keys().find(|key| RESERVED_KEYS.contains(&key.as_str())) {
        Some(key) => Err(CommitError::ReservedKey { key: key.clone() }),
        None => Ok(()),
    }
}

pub(crate) fn check_writable(table_dir: &Path, loaded: &Loaded) -> Result<(), CommitError> {
    match unwritable(&loaded.state) {
        Some(feature) => Err(CommitError::Unsupported { path: table_dir.to_path_buf(), feature }),
        None => Ok(()),
    }
}

fn properties(metadata: &CommitMetadata, transaction: Option<Transaction>, retention: Retention) -> CommitProperties {
    CommitProperties::default()
        .with_max_retries(0)
        .with_metadata(metadata.clone())
        .with_application_transactions(transaction.into_iter().collect())
        .with_cleanup_expired_logs(match retention {
            Retention::Keep => Some(false),
            // As the table's own property says.
            Retention::CleanUp => None,
        })
}

/// Writes version 0, or finds that somebody else did.
pub(crate) async fn create(
    table: &TableDir,
    schema: &SchemaRef,
    staged: StagedFiles,
    policy: &ResolvedWritePolicy,
    metadata: &CommitMetadata,
    transaction: Option<Transaction>,
    retention: Retention,
) -> Result<CommitOutcome, CommitError> {
    if let Some(head) = head_version(table.path())? {
        return Ok(CommitOutcome::Conflict { head });
    }
    let failed = |source: EngineError| CommitError::Failed { path: table.path().to_path_buf(), source };
    let mut builder = CreateBuilder::new()
        .with_log_store(table.log_store().map_err(|error| failed(error.into()))?)
        .with_columns(delta_schema(schema)?.fields().cloned())
        .with_partition_columns(policy.partition_by())
        .with_actions(staged.actions())
        .with_commit_properties(properties(metadata, transaction, retention));
    if retention == Retention::Keep {
        builder = builder.with_configuration_property(TableProperty::EnableExpiredLogCleanup, Some("false"));
    }
    match builder.await {
        Ok(_) => Ok(CommitOutcome::Committed(staged.committed(0))),
        Err(error) => settle(table, 0, staged, metadata, error),
    }
}

/// A commit to a table that is there.
pub(crate) struct Change<'a> {
    pub(crate) actions: Vec<Action>,
    pub(crate) operation: DeltaOperation,
    pub(crate) metadata: &'a CommitMetadata,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) retention: Retention,
}

/// Commits as the version after the loaded one, or finds that it is taken. With it, the table as the commit left it,
/// where the engine could still say.
pub(crate) async fn commit(
    table: &TableDir,
    loaded: &Loaded,
    change: Change<'_>,
    staged: StagedFiles,
) -> Result<(CommitOutcome, Option<DeltaTableState>), CommitError> {
    let Change { actions, operation, metadata, transaction, retention } = change;
    let version = loaded.state.version() + 1;
    let result = CommitBuilder::from(properties(metadata, transaction, retention))
        .with_actions(actions)
        .build(Some(&loaded.state), loaded.log_store.clone(), operation)
        .await;
    match result {
        Ok(done) => Ok((CommitOutcome::Committed(staged.committed(done.version)), Some(done.snapshot))),
        Err(error) => settle(table, version, staged, metadata, error).map(|outcome| (outcome, None)),
    }
}

/// Finds out what a failed commit did: the engine may fail after the commit file is there (in a checkpoint, say), and
/// then the files are the table's. Only files that nobody refers to are removed.
fn settle(
    table: &TableDir,
    version: u64,
    staged: StagedFiles,
    metadata: &CommitMetadata,
    error: DeltaTableError,
) -> Result<CommitOutcome, CommitError> {
    let path = table.path().to_path_buf();
    match landed(table.path(), version, &staged, metadata) {
        Ok(true) => {
            tracing::warn!(table = %path.display(), version, %error, "the commit landed, but what follows it failed");
            Ok(CommitOutcome::Committed(staged.committed(version)))
        }
        Ok(false) => match head_version(table.path())? {
            Some(head) if head >= version => Ok(CommitOutcome::Conflict { head }),
            _ => Err(CommitError::Failed { path, source: error.into() }),
        },
        Err(_) => {
            staged.abandon();
            Err(CommitError::Unclear { path, version, source: error.into() })
        }
    }
}

/// Whether the commit of `version` is ours. File names hold a fresh UUID; without files the metadata has to tell.
fn landed(table: &Path, version: u64, staged: &StagedFiles, metadata: &CommitMetadata) -> Result<bool, ReadError> {
    let bytes = match read_commit(table, version) {
        Ok(bytes) => bytes,
        Err(ReadError::NoSuchVersion { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    if let Some(file) = staged.files.first() {
        let name = file.path.rsplit('/').next().unwrap_or(&file.path).as_bytes();
        return Ok(bytes.windows(name.len()).any(|window| window == name));
    }
    let info = commit_info(table, version)?;
    Ok(!metadata.is_empty() && metadata.iter().all(|(key, value)| info.get(key) == Some(value)))
}

/// The table's metadata with the schema, partitioning and retention that are to be; `None` when they are so already.
fn changed_metadata(
    table: &TableDir,
    loaded: &Loaded,
    schema: &SchemaRef,
    policy: &ResolvedWritePolicy,
) -> Result<Option<Metadata>, CommitError> {
    let failed =
        |source: serde_json::Error| CommitError::Failed { path: table.path().to_path_buf(), source: source.into() };
    let old = loaded.state.metadata();
    let new_schema = delta_schema(schema)?;
    // The engine's metadata has no way to set the partitioning; its serialised form does.
    let mut value = serde_json::to_value(old).map_err(failed)?;
    let before = value.clone();
    if *loaded.state.schema() != new_schema {
        value["schemaString"] = Value::String(serde_json::to_string(&new_schema).map_err(failed)?);
    }
    value["partitionColumns"] = Value::from(policy.partition_by());
    value["configuration"][TableProperty::EnableExpiredLogCleanup.as_ref()] = Value::from("false");
    if value == before {
        return Ok(None);
    }
    serde_json::from_value(value).map(Some).map_err(failed)
}

/// Reads back that a replacement replaced: the engine re-encodes the paths that it removes, and a path that another
/// engine encoded differently would stay active.
fn verify_replaced(table: &TableDir, committed: &Committed, state: &DeltaTableState) -> Result<(), CommitError> {
    match state.log_data().num_files().checked_sub(committed.files.len()) {
        Some(0) | None => Ok(()),
        Some(unexpected) => {
            Err(CommitError::Diverged { path: table.path().to_path_buf(), version: committed.version, unexpected })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alluvium_contracts::DeltaWritePolicy;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::files::DataFile;

    fn error() -> DeltaTableError {
        DeltaTableError::Generic("the hook after the commit failed".to_owned())
    }

    /// A file that is staged in a table whose version 0 says `text`.
    fn staged(text: &str) -> (tempfile::TempDir, TableDir, StagedFiles) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("_delta_log")).unwrap();
        std::fs::write(dir.path().join("_delta_log/00000000000000000000.json"), text).unwrap();
        std::fs::write(dir.path().join("part-1.parquet"), "data").unwrap();
        let table = TableDir::open(dir.path()).unwrap();
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let file = DataFile {
            path: "part-1.parquet".to_owned(),
            size_bytes: 4,
            row_count: 1,
            partition_values: Default::default(),
            digest: None,
        };
        let staged = StagedFiles {
            table: table.path().to_path_buf(),
            table_is_new: false,
            policy: ResolvedWritePolicy::resolve(&DeltaWritePolicy::default(), &schema).unwrap(),
            schema,
            files: vec![file],
            adds: vec![],
            settled: false,
        };
        (dir, table, staged)
    }

    #[test]
    fn files_of_a_commit_that_landed_before_the_engine_failed_are_kept() {
        let (dir, table, staged) = staged(r#"{"add":{"path":"part-1.parquet"}}"#);
        let outcome = settle(&table, 0, staged, &CommitMetadata::new(), error()).unwrap();
        assert!(matches!(outcome, CommitOutcome::Committed(Committed { version: 0, .. })), "{outcome:?}");
        assert!(dir.path().join("part-1.parquet").exists());
    }

    #[test]
    fn files_of_a_commit_that_another_took_are_removed() {
        let (dir, table, staged) = staged(r#"{"add":{"path":"part-2.parquet"}}"#);
        let outcome = settle(&table, 0, staged, &CommitMetadata::new(), error()).unwrap();
        assert_eq!(outcome, CommitOutcome::Conflict { head: 0 });
        assert!(!dir.path().join("part-1.parquet").exists());
    }

    #[test]
    fn a_commit_that_never_was_is_a_failure() {
        let (dir, table, staged) = staged("{}");
        let result = settle(&table, 1, staged, &CommitMetadata::new(), error());
        assert!(matches!(result, Err(CommitError::Failed { .. })), "{result:?}");
        assert!(!dir.path().join("part-1.parquet").exists());
    }

    #[test]
    fn files_are_kept_when_the_log_cannot_tell() {
        let (dir, table, staged) = staged("{}");
        std::fs::create_dir(dir.path().join("_delta_log/00000000000000000001.json")).unwrap();
        let result = settle(&table, 1, staged, &CommitMetadata::new(), error());
        assert!(matches!(result, Err(CommitError::Unclear { version: 1, .. })), "{result:?}");
        assert!(dir.path().join("part-1.parquet").exists());
    }

    #[test]
    fn a_commit_without_files_is_known_by_its_metadata() {
        let ours = CommitMetadata::from([("run_id".to_owned(), Value::from("r1"))]);
        for (text, landed) in
            [(r#"{"commitInfo":{"run_id":"r1"}}"#, true), (r#"{"commitInfo":{"run_id":"r2"}}"#, false)]
        {
            let (_dir, table, mut staged) = staged(text);
            staged.files.clear();
            let outcome = settle(&table, 0, staged, &ours, error()).unwrap();
            assert_eq!(matches!(outcome, CommitOutcome::Committed(_)), landed, "{text}");
        }
    }
}
