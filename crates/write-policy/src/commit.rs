//! Committing staged files: creating a table, and replacing one compare-and-swap.
//!
//! The engine's own retries are off for whatever removes or redefines: with them two overwrites of one table both land and
//! the rows are doubled. Such a commit is for one version, which somebody else either has taken or not. Only a blind
//! append, which read nothing, may be moved behind the commits of others.

use std::collections::HashSet;
use std::path::Path;

use alluvium_contracts::CommitId;
use alluvium_telemetry::Seam;
use arrow::array::AsArray as _;
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use deltalake_core::kernel::transaction::{CommitBuilder, CommitData, CommitProperties};
use deltalake_core::kernel::{Action, Remove, Transaction};
use deltalake_core::logstore::CommitOrBytes;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaResult, DeltaTableError};
use futures::TryStreamExt as _;
use uuid::Uuid;

use crate::checks::table_conditions;
use crate::error::{CommitError, EngineError, ReadError};
use crate::files::{CommitMetadata, CommitOutcome, Committed, StagedFiles};
use crate::gate::unwritable;
use crate::log::{head_version, read_commit};
use crate::maintain::keeps_log;
use crate::policy::{ResolvedWritePolicy, delta_schema};
use crate::table::{Loaded, TableDir};
use crate::table_actions::{TableActionError, TableChange, changed_actions, first_actions, protocol_of};

/// Keys of `commitInfo` that the engine writes, drops or rewrites, and ours.
pub(crate) const RESERVED_KEYS: [&str; 15] = [
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
    COMMIT_ID,
];

/// The key under which a commit without files says which it is.
const COMMIT_ID: &str = "alluvium.commit_id";

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
        Landing::Landed { version } => Ok(staged.committed(version)),
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
            Landing::Landed { version } => CommitOutcome::Committed(staged.committed(version)),
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
        Landing::Landed { version } => Ok(CommitOutcome::Committed(staged.committed(version))),
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

fn properties(
    table: &Path,
    metadata: CommitMetadata,
    transaction: Option<Transaction>,
    retention: Retention,
) -> CommitProperties {
    CommitProperties::default()
        .with_max_retries(0)
        .with_metadata(metadata)
        .with_application_transactions(transaction.into_iter().collect())
        .with_cleanup_expired_logs(match retention {
            Retention::Keep => Some(false),
            // As the table's own property says, unless somebody keeps versions of it.
            Retention::CleanUp => keeps_log(table).then_some(false),
        })
}

/// How a commit ended.
pub(crate) enum Landing {
    /// It is in the log.
    Landed { version: u64 },
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
        let actions = actions.into_iter().chain(staged.actions()).collect();
        let staged = &mut [staged];
        let witness = Witness::of(staged);
        let properties = properties(table.path(), witness.told(self.metadata), self.transaction, self.retention);
        let commit = CommitBuilder::from(properties).with_actions(actions).build(None, log_store, operation);
        watched(table, 0, staged, &witness, async { Ok(commit.await?.version) }).await
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
    let removed = actions.iter().filter_map(|action| match action {
        Action::Remove(removed) => Some(removed),
        _ => None,
    });
    check_removes(table.path(), loaded, removed)?;
    let witness = Witness::of(staged);
    let commit = CommitBuilder::from(properties(table.path(), witness.told(metadata), transaction, retention))
        .with_max_retries(if blind { BLIND_RETRIES } else { 0 })
        .with_actions(actions)
        .build(Some(&loaded.state), loaded.log_store.clone(), operation);
    watched(table, loaded.state.version() + 1, staged, &witness, async { Ok(commit.await?.version) }).await
}

/// Appends the staged files as the version after `version`, which the caller knows the table to be at without having it
/// loaded, or finds that it is taken. Nothing follows the commit: neither a checkpoint nor a clean-up of the log.
pub(crate) async fn commit_after(
    table: &TableDir,
    version: u64,
    operation: DeltaOperation,
    metadata: &CommitMetadata,
    transaction: Transaction,
    staged: &mut StagedFiles,
) -> Result<Landing, CommitError> {
    let log_store = table.log_store().map_err(|error| failed(table, error))?;
    let actions = staged.actions().collect();
    let staged = &mut [staged];
    let witness = Witness::of(staged);
    let data = CommitData::new(actions, operation, witness.told(metadata).into_iter().collect(), vec![transaction]);
    let bytes = data.get_bytes().map_err(|error| failed(table, DeltaTableError::from(error)))?;
    let write = async {
        // Only stores that write in two steps ask which operation it is.
        log_store.write_commit_entry(version + 1, CommitOrBytes::LogBytes(bytes), Uuid::nil()).await?;
        Ok(version + 1)
    };
    watched(table, version + 1, staged, &witness, write).await
}

/// Fails unless the log knows every file of `removed` by the name that it would be removed under. The engine decodes a path
/// that it reads and encodes it anew, and another engine may encode otherwise: its file would stay, and its rows with it.
pub(crate) fn check_removes<'a>(
    table: &Path,
    loaded: &Loaded,
    removed: impl Iterator<Item = &'a Remove>,
) -> Result<(), CommitError> {
    let failed = |source: EngineError| CommitError::Failed { path: table.to_path_buf(), source };
    let mut removed = removed.peekable();
    if removed.peek().is_none() {
        return Ok(());
    }
    let batches = loaded.state.add_actions_batches(false).map_err(|error| failed(error.into()))?;
    let mut logged = HashSet::new();
    for paths in batches.iter().filter_map(|batch| batch.column_by_name("path")) {
        let paths = cast(paths, &DataType::Utf8).map_err(|error| failed(error.into()))?;
        logged.extend(paths.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    for remove in removed {
        let written = serde_json::to_value(remove).map_err(|error| failed(error.into()))?;
        if !written["path"].as_str().is_some_and(|path| logged.contains(path)) {
            return Err(CommitError::ForeignPath { path: table.to_path_buf(), file: remove.path.clone() });
        }
    }
    Ok(())
}

/// What a commit says and no other does.
enum Witness {
    /// The name of a file that it adds, which holds a fresh UUID.
    File(String),
    /// Its own id: it adds none.
    Id(CommitId),
}

impl Witness {
    fn of(staged: &[&mut StagedFiles]) -> Self {
        match staged.iter().find_map(|staged| staged.files.first()) {
            Some(file) => Self::File(file.path.rsplit('/').next().unwrap_or(&file.path).to_owned()),
            None => Self::Id(Seam::system().commit_id()),
        }
    }

    /// What the commit says of itself, this included.
    fn told(&self, metadata: &CommitMetadata) -> CommitMetadata {
        let mut told = metadata.clone();
        if let Self::Id(id) = self {
            told.insert(COMMIT_ID.to_owned(), id.to_string().into());
        }
        told
    }

    fn text(&self) -> String {
        match self {
            Self::File(name) => name.clone(),
            Self::Id(id) => id.to_string(),
        }
    }
}

/// Carries a commit out. Who drops this meanwhile may leave a commit that landed, so the files are the log's from the
/// first step on, and nobody's but the log's if there is no last one.
async fn watched(
    table: &TableDir,
    version: u64,
    staged: &mut [&mut StagedFiles],
    witness: &Witness,
    commit: impl Future<Output = DeltaResult<u64>>,
) -> Result<Landing, CommitError> {
    staged.iter_mut().for_each(|staged| staged.abandon());
    match commit.await {
        Ok(version) => Ok(Landing::Landed { version }),
        Err(error) => settle(table, version, staged, witness, error),
    }
}

/// Finds out what a failed commit did: the engine may fail after the commit file is there (in a checkpoint, say), and
/// then the files are the table's. The caller gets back only those that the log does not refer to.
fn settle(
    table: &TableDir,
    version: u64,
    staged: &mut [&mut StagedFiles],
    witness: &Witness,
    error: DeltaTableError,
) -> Result<Landing, CommitError> {
    let path = table.path().to_path_buf();
    match landed(table.path(), version, witness) {
        Ok(Some(version)) => {
            tracing::warn!(table = %path.display(), version, %error, "the commit landed, but what follows it failed");
            Ok(Landing::Landed { version })
        }
        Ok(None) => {
            let taken = head_version(table.path())?.filter(|head| *head >= version);
            if taken.is_some() && matches!(read_commit(table.path(), version), Err(ReadError::NoSuchVersion { .. })) {
                // It was there, whosever it was, and the log has been cleaned up since.
                return Err(CommitError::Unclear { path, version, source: error.into() });
            }
            staged.iter_mut().for_each(|staged| staged.reclaim());
            match taken {
                Some(head) => Ok(Landing::Taken { head }),
                None => Err(CommitError::Failed { path, source: error.into() }),
            }
        }
        Err(_) => Err(CommitError::Unclear { path, version, source: error.into() }),
    }
}

/// The version that is our commit, from `first` on: a blind append may have been moved.
fn landed(table: &Path, first: u64, witness: &Witness) -> Result<Option<u64>, ReadError> {
    let text = witness.text().into_bytes();
    for version in first.. {
        let bytes = match read_commit(table, version) {
            Err(ReadError::NoSuchVersion { .. }) => break,
            read => read?,
        };
        if bytes.windows(text.len()).any(|window| window == text) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use serde_json::Value;

    use super::*;
    use crate::files::DataFile;
    use alluvium_contracts::DeltaWritePolicy;

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

    /// [`watched`] as the public functions use it, over a commit that fails.
    async fn settle(table: &TableDir, version: u64, mut staged: StagedFiles) -> Result<CommitOutcome, CommitError> {
        let mut all = [&mut staged];
        let witness = Witness::of(&all);
        let failing = async { Err(DeltaTableError::Generic("the hook after the commit failed".to_owned())) };
        Ok(match watched(table, version, &mut all, &witness, failing).await? {
            Landing::Landed { version } => CommitOutcome::Committed(staged.committed(version)),
            Landing::Taken { head } => CommitOutcome::Conflict { head },
        })
    }

    #[tokio::test]
    async fn files_of_a_commit_that_landed_before_the_engine_failed_are_kept() {
        let (dir, table, staged) = staged(r#"{"add":{"path":"part-1.parquet"}}"#);
        let outcome = settle(&table, 0, staged).await.unwrap();
        assert!(matches!(outcome, CommitOutcome::Committed(Committed { version: 0, .. })), "{outcome:?}");
        assert!(dir.path().join("part-1.parquet").exists());
    }

    #[tokio::test]
    async fn files_of_a_commit_that_another_took_are_removed() {
        let (dir, table, staged) = staged(r#"{"add":{"path":"part-2.parquet"}}"#);
        let outcome = settle(&table, 0, staged).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Conflict { head: 0 });
        assert!(!dir.path().join("part-1.parquet").exists());
    }

    #[tokio::test]
    async fn a_commit_that_never_was_is_a_failure() {
        let (dir, table, staged) = staged("{}");
        let result = settle(&table, 1, staged).await;
        assert!(matches!(result, Err(CommitError::Failed { .. })), "{result:?}");
        assert!(!dir.path().join("part-1.parquet").exists());
    }

    #[tokio::test]
    async fn files_are_kept_when_the_log_cannot_tell() {
        let (dir, table, staged) = staged("{}");
        std::fs::create_dir(dir.path().join("_delta_log/00000000000000000001.json")).unwrap();
        let result = settle(&table, 1, staged).await;
        assert!(matches!(result, Err(CommitError::Unclear { version: 1, .. })), "{result:?}");
        assert!(dir.path().join("part-1.parquet").exists());
    }

    #[test]
    fn a_commit_without_files_is_known_by_its_id_alone() {
        let said = CommitMetadata::from([("run_id".to_owned(), Value::from("r1"))]);
        let (_dir, table, mut staged) = staged("{}");
        staged.files.clear();
        let [ours, theirs] = [(); 2].map(|()| Witness::of(&[&mut staged]));
        let info = serde_json::json!({ "commitInfo": theirs.told(&said) });
        std::fs::write(table.path().join("_delta_log/00000000000000000001.json"), info.to_string()).unwrap();
        assert_eq!(landed(table.path(), 0, &theirs).unwrap(), Some(1));
        assert_eq!(landed(table.path(), 0, &ours).unwrap(), None, "what it says beside is what others say too");
        assert_eq!(crate::commit_metadata(table.path(), 1).unwrap(), said, "nobody else is told");
        let taken = check_metadata(&ours.told(&said));
        assert!(matches!(taken, Err(CommitError::ReservedKey { .. })), "{taken:?}");
    }
}
