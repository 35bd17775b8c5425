//! Committing staged files: creating a table, and replacing one compare-and-swap.
//!
//! The engine's own retries are off for whatever removes or redefines: with them two overwrites of one table both land and
//! the rows are doubled. Such a commit is for one version, which somebody else either has taken or not. Only a blind
//! append, which read nothing, may be moved behind the commits of others.

use std::path::Path;

use arrow::datatypes::SchemaRef;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use futures::TryStreamExt as _;

use crate::checks::table_conditions;
use crate::error::{CommitError, EngineError, ReadError};
use crate::files::{CommitMetadata, CommitOutcome, Committed, StagedFiles};
use crate::gate::unwritable;
use crate::log::{commit_info, head_version, read_commit};
use crate::policy::{ResolvedWritePolicy, delta_schema};
use crate::table::{Loaded, TableDir};
use crate::table_actions::{TableActionError, TableChange, changed_actions, first_actions, protocol_of};

/// Keys of `commitInfo` that the engine writes, drops or rewrites.
pub(crate) const RESERVED_KEYS: [&str; 14] = [
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

/// Commits version 0 of a table: protocol, metadata, properties, constraints, features and files in one commit.
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
    mut staged: StagedFiles,
    policy: &ResolvedWritePolicy,
    metadata: &CommitMetadata,
) -> Result<Committed, CommitError> {
    let table = open(table_dir, &schema, &staged, policy, metadata)?;
    let create = Create { schema: &schema, policy, metadata, transaction: None, retention: Retention::Keep };
    match create.commit(&table, &mut staged).await? {
        Landing::Landed { version, .. } => Ok(staged.committed(version)),
        Landing::Taken { head } => Err(CommitError::TableExists { path: table_dir.to_path_buf(), head }),
    }
}

/// Replaces the whole content of a table and its schema, whatever the policy's `schema_mode`, compare-and-swap: `expected`
/// is the version that the caller saw (`None`: no table). Schema and partitioning may change with it; the table keeps its
/// id, its constraints, its features and what properties the policy does not speak of.
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
    mut staged: StagedFiles,
    policy: &ResolvedWritePolicy,
    metadata: &CommitMetadata,
    transaction: Option<(&str, i64)>,
) -> Result<CommitOutcome, CommitError> {
    let table = open(table_dir, &schema, &staged, policy, metadata)?;
    let transaction = transaction.map(|(app_id, version)| Transaction::new(app_id, version));
    let Some(expected) = expected else {
        let create = Create { schema: &schema, policy, metadata, transaction, retention: Retention::Keep };
        return Ok(match create.commit(&table, &mut staged).await? {
            Landing::Landed { version, .. } => CommitOutcome::Committed(staged.committed(version)),
            Landing::Taken { head } => CommitOutcome::Conflict { head },
        });
    };
    match head_version(table.path())? {
        Some(head) if head == expected => {}
        Some(head) => return Ok(CommitOutcome::Conflict { head }),
        None => {
            return Err(ReadError::NotATable { path: table_dir.to_path_buf() }.into());
        }
    }
    let loaded = table.load(Some(expected)).await?;
    let replacement = Create { schema: &schema, policy, metadata, transaction, retention: Retention::Keep };
    let change = overwrite(&table, &loaded, &staged, replacement).await?;
    match commit(&table, &loaded, change, &mut [&mut staged]).await? {
        Landing::Taken { head } => Ok(CommitOutcome::Conflict { head }),
        Landing::Landed { version, state } => {
            let committed = staged.committed(version);
            if let Some(state) = state {
                verify_replaced(&table, &committed, &state)?;
            }
            Ok(CommitOutcome::Committed(committed))
        }
    }
}

/// What puts the staged files in the place of all that a table has.
pub(crate) async fn overwrite<'a>(
    table: &TableDir,
    loaded: &Loaded,
    staged: &StagedFiles,
    replacement: Create<'a>,
) -> Result<Change<'a>, CommitError> {
    let Create { schema, policy, metadata, transaction, retention } = replacement;
    check_writable(table.path(), loaded)?;
    check_conditions(table.path(), loaded, staged)?;
    let change = TableChange {
        columns: schema,
        new_schema: Some(delta_schema(schema)?),
        partition_by: Some(policy.partition_by()),
        policy: Some(policy),
        retention,
    };
    let mut actions = table_actions(table, loaded, &change)?;
    let removed: Vec<Action> = loaded
        .state
        .snapshot()
        .file_views(&loaded.log_store, None)
        .map_ok(|file| Action::Remove(file.remove_action(true)))
        .try_collect()
        .await
        .map_err(|error| failed(table, error))?;
    if !removed.is_empty() && appends_only(&loaded.state) {
        return Err(CommitError::AppendOnly { path: table.path().to_path_buf() });
    }
    actions.extend(removed);
    actions.extend(staged.actions());
    let operation = DeltaOperation::Write {
        mode: SaveMode::Overwrite,
        partition_by: Some(policy.partition_by().to_vec()),
        predicate: None,
    };
    Ok(Change { actions, operation, metadata, transaction, retention, blind: false })
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
    if let Some((what, _)) = differs.into_iter().find(|(_, differs)| *differs) {
        return Err(CommitError::Staged { what });
    }
    policy.check_replaces()?;
    Ok(table)
}

pub(crate) fn failed(table: &TableDir, error: impl Into<EngineError>) -> CommitError {
    CommitError::Failed { path: table.path().to_path_buf(), source: error.into() }
}

fn said(table: &TableDir, error: TableActionError) -> CommitError {
    match error {
        TableActionError::Policy(source) => CommitError::Policy { source },
        TableActionError::Engine(source) => failed(table, source),
    }
}

/// The actions that bring a table to `change`.
pub(crate) fn table_actions(
    table: &TableDir,
    loaded: &Loaded,
    change: &TableChange<'_>,
) -> Result<Vec<Action>, CommitError> {
    changed_actions(&loaded.state, change).map_err(|error| said(table, error))
}

/// Whether the table takes rows but gives none up.
pub(crate) fn appends_only(state: &DeltaTableState) -> bool {
    protocol_of(state).has("appendOnly")
        && state.metadata().configuration().get("delta.appendOnly").is_some_and(|value| value == "true")
}

/// Whether the staged rows were checked for everything that the table asks of them by now.
pub(crate) fn check_conditions(table: &Path, loaded: &Loaded, staged: &StagedFiles) -> Result<(), CommitError> {
    if staged.files.is_empty() {
        return Ok(());
    }
    let unchecked = table_conditions(&loaded.state).into_iter().find(|(_, sql)| !staged.checked.contains(sql));
    match unchecked {
        Some((constraint, _)) => Err(CommitError::NewConstraint { path: table.to_path_buf(), constraint }),
        None => Ok(()),
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

/// How often the engine moves a blind append behind the commits of others before the table is read anew.
const BLIND_RETRIES: usize = 15;

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

/// How a commit ended.
pub(crate) enum Landing {
    /// It is in the log. The table as it left it, where the engine could still say.
    Landed { version: u64, state: Option<DeltaTableState> },
    /// Somebody else has the version. Nothing changed.
    Taken { head: u64 },
}

/// What a table is to be and to hold: version 0, or all that a later one has.
pub(crate) struct Create<'a> {
    pub(crate) schema: &'a SchemaRef,
    pub(crate) policy: &'a ResolvedWritePolicy,
    pub(crate) metadata: &'a CommitMetadata,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) retention: Retention,
}

impl Create<'_> {
    /// Writes it, or finds that somebody else did.
    pub(crate) async fn commit(self, table: &TableDir, staged: &mut StagedFiles) -> Result<Landing, CommitError> {
        if let Some(head) = head_version(table.path())? {
            return Ok(Landing::Taken { head });
        }
        let log_store = table.log_store().map_err(|error| failed(table, error))?;
        let (protocol, table_metadata) =
            first_actions(self.schema, self.policy, self.retention).map_err(|error| said(table, error))?;
        let operation = DeltaOperation::Create {
            mode: SaveMode::ErrorIfExists,
            location: log_store.root_url().clone(),
            protocol: protocol.clone(),
            metadata: table_metadata.clone(),
        };
        let actions = [Action::Protocol(protocol), Action::Metadata(table_metadata)];
        let result = CommitBuilder::from(properties(self.metadata, self.transaction, self.retention))
            .with_actions(actions.into_iter().chain(staged.actions()).collect())
            .build(None, log_store, operation)
            .await;
        match result {
            Ok(done) => Ok(Landing::Landed { version: done.version, state: Some(done.snapshot) }),
            Err(error) => settle(table, 0, &mut [staged], self.metadata, error),
        }
    }
}

/// A commit to a table that is there.
pub(crate) struct Change<'a> {
    pub(crate) actions: Vec<Action>,
    pub(crate) operation: DeltaOperation,
    pub(crate) metadata: &'a CommitMetadata,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) retention: Retention,
    /// Whether it holds wherever it lands: it adds files, and was decided without looking at rows or version. What others
    /// do to schema, properties, protocol or its application transaction still stops it.
    pub(crate) blind: bool,
}

/// Commits as the version after the loaded one (a blind append: after the newest), or finds that it is taken. The staged
/// files stay with the caller.
pub(crate) async fn commit(
    table: &TableDir,
    loaded: &Loaded,
    change: Change<'_>,
    staged: &mut [&mut StagedFiles],
) -> Result<Landing, CommitError> {
    let Change { actions, operation, metadata, transaction, retention, blind } = change;
    let version = loaded.state.version() + 1;
    let result = CommitBuilder::from(properties(metadata, transaction, retention))
        .with_max_retries(if blind { BLIND_RETRIES } else { 0 })
        .with_actions(actions)
        .build(Some(&loaded.state), loaded.log_store.clone(), operation)
        .await;
    match result {
        Ok(done) => Ok(Landing::Landed { version: done.version, state: Some(done.snapshot) }),
        Err(error) => settle(table, version, staged, metadata, error),
    }
}

/// Finds out what a failed commit did: the engine may fail after the commit file is there (in a checkpoint, say), and
/// then the files are the table's. Only files that nobody refers to are removed.
fn settle(
    table: &TableDir,
    version: u64,
    staged: &mut [&mut StagedFiles],
    metadata: &CommitMetadata,
    error: DeltaTableError,
) -> Result<Landing, CommitError> {
    let path = table.path().to_path_buf();
    match landed(table.path(), version, staged, metadata) {
        Ok(Some(version)) => {
            tracing::warn!(table = %path.display(), version, %error, "the commit landed, but what follows it failed");
            Ok(Landing::Landed { version, state: None })
        }
        Ok(None) => match head_version(table.path())? {
            Some(head) if head >= version => Ok(Landing::Taken { head }),
            _ => Err(CommitError::Failed { path, source: error.into() }),
        },
        Err(_) => {
            staged.iter_mut().for_each(|staged| staged.abandon());
            Err(CommitError::Unclear { path, version, source: error.into() })
        }
    }
}

/// The version that is our commit, from `first` on: a blind append may have been moved. File names hold a fresh UUID;
/// without files the metadata has to tell, of the first alone.
fn landed(
    table: &Path,
    first: u64,
    staged: &[&mut StagedFiles],
    metadata: &CommitMetadata,
) -> Result<Option<u64>, ReadError> {
    let Some(file) = staged.iter().find_map(|staged| staged.files.first()) else {
        let info = match commit_info(table, first) {
            Err(ReadError::NoSuchVersion { .. }) => return Ok(None),
            read => read?,
        };
        let is_ours = !metadata.is_empty() && metadata.iter().all(|(key, value)| info.get(key) == Some(value));
        return Ok(is_ours.then_some(first));
    };
    let name = file.path.rsplit('/').next().unwrap_or(&file.path).as_bytes();
    for version in first.. {
        let bytes = match read_commit(table, version) {
            Err(ReadError::NoSuchVersion { .. }) => break,
            read => read?,
        };
        if bytes.windows(name.len()).any(|window| window == name) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// Reads back that a replacement replaced: the engine re-encodes the paths that it removes, and a path that another
/// engine encoded differently would stay active.
pub(crate) fn verify_replaced(
    table: &TableDir,
    committed: &Committed,
    state: &DeltaTableState,
) -> Result<(), CommitError> {
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

    use arrow::datatypes::{DataType, Field, Schema};
    use serde_json::Value;

    use super::*;
    use crate::files::DataFile;
    use alluvium_contracts::DeltaWritePolicy;

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
            checked: Default::default(),
            files: vec![file],
            adds: vec![],
            settled: false,
        };
        (dir, table, staged)
    }

    /// [`super::settle`] as the public functions use it.
    fn settle(
        table: &TableDir,
        version: u64,
        mut staged: StagedFiles,
        metadata: &CommitMetadata,
        error: DeltaTableError,
    ) -> Result<CommitOutcome, CommitError> {
        Ok(match super::settle(table, version, &mut [&mut staged], metadata, error)? {
            Landing::Landed { version, .. } => CommitOutcome::Committed(staged.committed(version)),
            Landing::Taken { head } => CommitOutcome::Conflict { head },
        })
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
