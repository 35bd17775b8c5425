//! One write to a table, by its mode.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use deltalake_core::kernel::{Action, Transaction};
use deltalake_core::protocol::{DeltaOperation, MergePredicate, SaveMode};
use futures::TryStreamExt as _;

use crate::backoff::pause;
use crate::change_feed::keeps_feed;
use crate::checks::{KeySet, RowChecks, table_conditions};
use crate::commit::{
    Change, Create, Landing, Retention, appends_only, check_conditions, check_metadata, check_writable, commit,
    overwrite, table_actions,
};
use crate::error::{CommitError, ReadError, WriteError};
use crate::files::{CommitMetadata, Committed, DataFile, StagedFiles, TableWriteOutcome};
use crate::log::head_version;
use crate::policy::ResolvedWritePolicy;
use crate::read::recorded_transaction;
use crate::rewrite::{Feed, Gone, Rewritten, rewrite};
use crate::schema::{by_name, check_strict, merge, table_schema};
use crate::semantic;
use crate::stream::conform;
use crate::sync::{sync_commit, sync_staged};
use crate::table::{Loaded, TableDir};
use crate::table_actions::TableChange;
use crate::write::{Input, Target, stage};
use alluvium_contracts::{DeltaFeature, RunId, SchemaMode, WriteMode};

/// Far beyond what fair play needs: a writer loses a race only to one that landed.
const MAX_ATTEMPTS: u32 = 1_000;

/// One write to a table: rows, and what the policy's mode does with them.
///
/// The rows are written into files once. Then the commit is tried for the version after the newest, compare-and-swap; when
/// somebody else took it, everything that was read of the table is read again. So two writes never both replace what only
/// one of them saw, whatever their modes. An append that changes nothing of the table is moved behind the commits of
/// others, unless they change schema, properties, protocol or its application transaction.
#[must_use = "nothing happens before `run`"]
pub struct TableWrite<'a> {
    plan: Plan<'a>,
    streams: Vec<SendableRecordBatchStream>,
}

/// A write but for its rows.
pub(crate) struct Plan<'a> {
    table: PathBuf,
    schema: SchemaRef,
    policy: &'a ResolvedWritePolicy,
    metadata: CommitMetadata,
    transaction: Option<(String, i64)>,
    expected: Expected,
    retention: Retention,
    stated: bool,
    durable: bool,
    known: Option<Loaded>,
    task: Arc<TaskContext>,
    pub(crate) caller: Caller,
}

/// On whose behalf a write is, for its report.
#[derive(Default)]
pub(crate) struct Caller {
    pub(crate) dataset_name: Option<String>,
    pub(crate) run_id: Option<RunId>,
}

/// Which version of the table a write was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expected {
    /// Whichever is the newest: the write is tried again after a lost race.
    #[default]
    Any,
    /// There is no table.
    NoTable,
    /// This one.
    Version(u64),
}

impl<'a> TableWrite<'a> {
    /// Writes `streams` of `schema` into the table at `table`, which is made when it is missing.
    pub fn new(
        table: &Path,
        schema: SchemaRef,
        streams: Vec<SendableRecordBatchStream>,
        policy: &'a ResolvedWritePolicy,
    ) -> Self {
        let plan = Plan {
            table: table.to_path_buf(),
            schema,
            policy,
            metadata: CommitMetadata::new(),
            transaction: None,
            expected: Expected::Any,
            retention: Retention::CleanUp,
            stated: true,
            durable: false,
            known: None,
            task: Arc::default(),
            caller: Caller::default(),
        };
        Self { plan, streams }
    }

    /// What the commit says beside the engine's own keys.
    pub fn metadata(mut self, metadata: CommitMetadata) -> Self {
        self.plan.metadata = metadata;
        self
    }

    /// Lands once: a table that has `version` of `app_id`, or a later one, is left alone.
    pub fn transaction(mut self, app_id: &str, version: i64) -> Self {
        self.plan.transaction = Some((app_id.to_owned(), version));
        self
    }

    /// Lands only on this version of the table.
    pub fn expect(mut self, expected: Expected) -> Self {
        self.plan.expected = expected;
        self
    }

    /// Never cleans the log of the table up, because its commits are what counts.
    pub fn keep_log(mut self) -> Self {
        self.plan.retention = Retention::Keep;
        self
    }

    /// What the table is called and which run writes it, for the report: the commit says what [`metadata`](Self::metadata) does.
    pub fn on_behalf_of(mut self, dataset_name: &str, run_id: Option<RunId>) -> Self {
        self.plan.caller = Caller { dataset_name: Some(dataset_name.to_owned()), run_id };
        self
    }

    /// Takes memory and spill files for sorting from `task`.
    pub fn task(mut self, task: Arc<TaskContext>) -> Self {
        self.plan.task = task;
        self
    }

    /// Leaves the table's properties as they are. `known` is the table as the caller has loaded it; `durable`: files are synced before the
    /// commit, and the commit before it is reported.
    pub(crate) fn unstated(mut self, known: Option<Loaded>, durable: bool) -> Self {
        self.plan.stated = false;
        self.plan.durable = durable;
        self.plan.known = known;
        self
    }

    /// Writes. Dropped before it ends, it has landed whole or not at all, which the table's log tells; if the commit had begun,
    /// its files stay where they are, and [a vacuum](crate::Maintenance::vacuum) takes them if it did not land.
    ///
    /// # Errors
    /// [`CommitError`], with nothing of the rows in the table and no file left behind. A conflict is no error.
    ///
    /// # Panics
    /// Outside a Tokio runtime with a timer.
    pub async fn run(self) -> Result<TableWriteOutcome, CommitError> {
        Ok(self.plan.run(self.streams).await?.outcome)
    }

    pub(crate) fn into_parts(self) -> (Plan<'a>, Vec<SendableRecordBatchStream>) {
        (self.plan, self.streams)
    }
}

/// How a write ended, and how it got there.
pub(crate) struct Done {
    pub(crate) outcome: TableWriteOutcome,
    /// Commits that were tried.
    pub(crate) attempt_count: u32,
    /// The version that the last of them followed.
    pub(crate) base_version: Option<u64>,
}

impl From<TableWriteOutcome> for Done {
    /// Before any commit was tried.
    fn from(outcome: TableWriteOutcome) -> Self {
        Self { outcome, attempt_count: 0, base_version: None }
    }
}

impl<'a> Plan<'a> {
    pub(crate) fn table(&self) -> &Path {
        &self.table
    }

    pub(crate) fn policy(&self) -> &'a ResolvedWritePolicy {
        self.policy
    }

    pub(crate) fn transaction(&self) -> Option<(&str, i64)> {
        self.transaction.as_ref().map(|(app_id, version)| (app_id.as_str(), *version))
    }

    pub(crate) async fn run(mut self, streams: Vec<SendableRecordBatchStream>) -> Result<Done, CommitError> {
        check_metadata(&self.metadata)?;
        let mode = self.policy.policy().mode;
        let head = head_version(&self.table)?;
        match (mode, head) {
            (WriteMode::Error, Some(head)) => return Err(CommitError::TableExists { path: self.table, head }),
            (WriteMode::Ignore, Some(head)) => return Ok(TableWriteOutcome::Ignored { head }.into()),
            (WriteMode::Delete, None) => return Err(ReadError::NotATable { path: self.table }.into()),
            _ => {}
        }
        if !self.expected.is(head) {
            return Ok(TableWriteOutcome::Conflict { head }.into());
        }
        let loaded = match (self.known.take(), head) {
            (known @ Some(_), Some(_)) => known,
            (None, Some(_)) => Some(self.load().await?),
            (_, None) => None,
        };
        if let Some(loaded) = &loaded {
            check_writable(&self.table, loaded)?;
            if self.applied(loaded).await? {
                return Ok(TableWriteOutcome::AlreadyApplied.into());
            }
        }
        let (columns, streams) = self.columns(loaded.as_ref(), streams)?;
        self.policy.check(&columns)?;
        semantic::check_write(self.policy.policy(), loaded.as_ref(), &columns)?;
        let checks = Arc::new(self.checks(loaded.as_ref(), &columns)?);
        if mode == WriteMode::Delete {
            collect_keys(streams, &self.schema, &checks).await?;
            let nothing = StagedFiles::none(table_dir(&self.table)?.path(), &columns, self.policy);
            return self.attempt_all(&columns, &checks, nothing, None).await;
        }
        let (target, _) = Target::open(&self.table).await?;
        let input = Input { schema: Arc::clone(&columns), streams, checks: Arc::clone(&checks), grouped: false };
        let staged = stage(target, input, self.policy, &self.task).await?;
        if self.durable {
            sync_staged(&staged).await?;
        }
        self.attempt_all(&columns, &checks, staged, loaded).await
    }

    async fn attempt_all(
        &self,
        columns: &SchemaRef,
        checks: &Arc<RowChecks>,
        mut staged: StagedFiles,
        mut known: Option<Loaded>,
    ) -> Result<Done, CommitError> {
        for attempt in 0..MAX_ATTEMPTS {
            let head = head_version(&self.table)?;
            let mut base_version = head;
            let done = |outcome, base_version| Done { outcome, attempt_count: attempt + 1, base_version };
            if !self.expected.is(head) {
                return Ok(done(TableWriteOutcome::Conflict { head }, None));
            }
            let table = table_dir(&self.table)?;
            let landing = match head {
                None => self.create(&table, columns, &mut staged).await?,
                Some(head) => {
                    match self.policy.policy().mode {
                        WriteMode::Error => return Err(CommitError::TableExists { path: self.table.clone(), head }),
                        WriteMode::Ignore => return Ok(done(TableWriteOutcome::Ignored { head }, None)),
                        _ => {}
                    }
                    // What was loaded to write the files serves the first attempt, unless somebody committed meanwhile.
                    let loaded = match known.take().filter(|known| known.state.version() == head) {
                        Some(known) => known,
                        None => self.load().await?,
                    };
                    base_version = Some(loaded.state.version());
                    if self.applied(&loaded).await? {
                        return Ok(done(TableWriteOutcome::AlreadyApplied, None));
                    }
                    self.change(&table, &loaded, columns, checks, &mut staged).await?
                }
            };
            let committed = match landing {
                Attempt::Landed(committed) => committed,
                Attempt::Own(version) => staged.committed(version),
                Attempt::Lost => {
                    tokio::time::sleep(pause(&staged, attempt)).await;
                    continue;
                }
            };
            if self.durable {
                sync_commit(&self.table, committed.version).await?;
            }
            return Ok(done(TableWriteOutcome::Committed(committed), base_version));
        }
        Err(CommitError::Contended { path: self.table.clone(), attempts: MAX_ATTEMPTS })
    }

    async fn create(
        &self,
        table: &TableDir,
        columns: &SchemaRef,
        staged: &mut StagedFiles,
    ) -> Result<Attempt, CommitError> {
        let create = Create {
            schema: columns,
            policy: self.policy,
            metadata: &self.metadata,
            transaction: self.engine_transaction(),
            retention: self.retention,
        };
        Ok(match create.commit(table, staged).await? {
            Landing::Landed { version } => Attempt::Own(version),
            Landing::Taken { .. } => Attempt::Lost,
        })
    }

    /// Tries to bring a table to what the mode says.
    async fn change(
        &self,
        table: &TableDir,
        loaded: &Loaded,
        columns: &SchemaRef,
        checks: &Arc<RowChecks>,
        staged: &mut StagedFiles,
    ) -> Result<Attempt, CommitError> {
        let mode = self.policy.policy().mode;
        if mode == WriteMode::Overwrite && self.policy.policy().schema_mode == SchemaMode::Overwrite {
            let replacement = Create {
                schema: columns,
                policy: self.policy,
                metadata: &self.metadata,
                transaction: self.engine_transaction(),
                retention: self.retention,
            };
            let change = overwrite(table, loaded, staged, replacement).await?;
            return Ok(match commit(table, loaded, change, &mut [&mut *staged]).await? {
                Landing::Landed { version } => Attempt::Own(version),
                Landing::Taken { .. } => Attempt::Lost,
            });
        }
        check_writable(table.path(), loaded)?;
        check_conditions(table.path(), loaded, staged)?;
        self.check_fits(table, loaded)?;
        semantic::check_write(self.policy.policy(), Some(loaded), columns)?;
        let grown = match self.policy.policy().schema_mode {
            SchemaMode::Merge => merge(table.path(), &loaded.state, &self.schema)?.grown,
            _ => {
                check_strict(table.path(), &loaded.state, columns)?;
                None
            }
        };
        let change = TableChange {
            columns,
            new_schema: grown,
            partition_by: None,
            policy: self.stated.then_some(self.policy),
            retention: self.retention,
        };
        let mut actions = table_actions(table, loaded, &change)?;
        let mut rewritten = self.rewritten(table, loaded, checks, staged.files()).await?;
        if mode == WriteMode::Overwrite {
            let all = loaded.state.snapshot().file_views(&loaded.log_store, None);
            let all: Vec<Action> = all
                .map_ok(|file| Action::Remove(file.remove_action(true)))
                .try_collect()
                .await
                .map_err(|error| crate::commit::failed(table, error))?;
            actions.extend(all);
        }
        if let Some(rewritten) = &rewritten {
            actions.extend(rewritten.actions.iter().cloned());
        }
        if appends_only(&loaded.state) && actions.iter().any(|action| matches!(action, Action::Remove(_))) {
            return Err(CommitError::AppendOnly { path: table.path().to_path_buf() });
        }
        // Nothing of the table changes, and nothing was read of it that somebody else could change.
        let blind = actions.is_empty() && mode == WriteMode::Append && self.expected == Expected::Any;
        actions.extend(staged.actions());
        let change = Change {
            actions,
            operation: self.operation(),
            metadata: &self.metadata,
            transaction: self.engine_transaction(),
            retention: self.retention,
            blind,
        };
        let landing = match &mut rewritten {
            Some(rewritten) => {
                let mut written: Vec<&mut StagedFiles> =
                    std::iter::once(&mut *staged).chain(rewritten.staged()).collect();
                commit(table, loaded, change, &mut written).await?
            }
            None => commit(table, loaded, change, &mut [&mut *staged]).await?,
        };
        match (landing, rewritten) {
            (Landing::Taken { .. }, _) => Ok(Attempt::Lost),
            (Landing::Landed { version }, None) => Ok(Attempt::Own(version)),
            (Landing::Landed { version }, Some(mut rewritten)) => {
                tracing::debug!(version, rows = rewritten.removed_rows, "rows were replaced or deleted");
                let mut files = staged.settle();
                files.extend(rewritten.survivors.settle());
                // Change files are no data of the table's: nobody gets to know their names.
                rewritten.staged().for_each(|written| drop(written.settle()));
                Ok(Attempt::Landed(Committed { version, files }))
            }
        }
    }

    async fn rewritten(
        &self,
        table: &TableDir,
        loaded: &Loaded,
        checks: &Arc<RowChecks>,
        added: &[DataFile],
    ) -> Result<Option<Rewritten>, CommitError> {
        // The rows that stay are the table's: they may be NULL where those that are written may not.
        let columns = match self.policy.policy().schema_mode {
            SchemaMode::Merge => merge(table.path(), &loaded.state, &self.schema)?.columns,
            SchemaMode::Strict | SchemaMode::Overwrite => table_schema(&loaded.state)?,
        };
        let condition = self.policy.replaced(&columns)?;
        let gone = match (self.policy.policy().mode, condition) {
            (WriteMode::ReplaceWhere | WriteMode::Delete, Some(condition)) => Gone::Where(condition),
            (WriteMode::Merge | WriteMode::Delete, None) => Gone::Keys(Arc::clone(checks)),
            _ => return Ok(None),
        };
        let begins_feed = self.stated && self.policy.policy().enable_features.contains(&DeltaFeature::ChangeDataFeed);
        let is_merge = self.policy.policy().mode == WriteMode::Merge;
        let feed = (begins_feed || keeps_feed(&loaded.state)).then_some(Feed { added, is_merge });
        rewrite(table, loaded, &columns, &gone, feed, self.policy, &self.task).await.map(Some)
    }

    /// Whether the table is laid out as the files are, and has the policy's constraints already where its rows stay.
    fn check_fits(&self, table: &TableDir, loaded: &Loaded) -> Result<(), CommitError> {
        let partitioned = loaded.state.metadata().partition_columns();
        if *partitioned != *self.policy.partition_by() {
            return Err(CommitError::Partitioning {
                path: table.path().to_path_buf(),
                expected: partitioned.to_vec(),
                found: self.policy.partition_by().to_vec(),
            });
        }
        let there = table_conditions(&loaded.state);
        let constraints = &self.policy.policy().constraints;
        let new = constraints.iter().find(|(name, sql)| !there.contains(&((*name).clone(), (*sql).clone())));
        match new {
            Some((name, _)) if self.policy.policy().mode != WriteMode::Overwrite => {
                Err(CommitError::UncheckedRows { path: table.path().to_path_buf(), constraint: name.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The schema of the files, and the rows under it.
    fn columns(
        &self,
        loaded: Option<&Loaded>,
        streams: Vec<SendableRecordBatchStream>,
    ) -> Result<(SchemaRef, Vec<SendableRecordBatchStream>), CommitError> {
        let Some(loaded) = loaded else {
            return Ok((Arc::clone(&self.schema), streams));
        };
        match (self.policy.policy().mode, self.policy.policy().schema_mode) {
            (WriteMode::Delete, _) if self.policy.policy().replace_where.is_some() => {
                Ok((table_schema(&loaded.state)?, Vec::new()))
            }
            (WriteMode::Delete, _) => {
                let columns = table_schema(&loaded.state)?;
                self.check_key_types(&columns)?;
                Ok((columns, streams))
            }
            (_, SchemaMode::Overwrite) => Ok((Arc::clone(&self.schema), streams)),
            (_, SchemaMode::Merge) => {
                let merged = merge(&self.table, &loaded.state, &self.schema)?;
                let streams = streams.into_iter().map(|stream| by_name(stream, &merged.columns)).collect();
                Ok((merged.columns, streams))
            }
            (_, SchemaMode::Strict) => {
                check_strict(&self.table, &loaded.state, &self.schema)?;
                Ok((Arc::clone(&self.schema), streams))
            }
        }
    }

    /// Whether the keys of a deletion have the types of the table's columns: they are compared as they are.
    fn check_key_types(&self, columns: &SchemaRef) -> Result<(), CommitError> {
        for key in &self.policy.policy().keys {
            let types = [columns, &self.schema].map(|schema| schema.field_with_name(key).map(Field::data_type));
            if let [Ok(expected), Ok(found)] = types
                && expected != found
            {
                return Err(CommitError::SchemaChanged {
                    path: self.table.clone(),
                    column: key.clone(),
                    expected: expected.to_string(),
                    found: found.to_string(),
                });
            }
        }
        Ok(())
    }

    fn checks(&self, loaded: Option<&Loaded>, columns: &SchemaRef) -> Result<RowChecks, CommitError> {
        let checks = RowChecks::new(self.policy, loaded.map(|loaded| &loaded.state), columns)?;
        let policy = self.policy.policy();
        Ok(match policy.mode {
            WriteMode::ReplaceWhere => match self.policy.replaced(columns)? {
                Some(condition) => checks.with_condition("replace_where", condition),
                None => checks,
            },
            WriteMode::Merge => checks.with_keys(KeySet::new(&policy.keys, columns, true)?),
            WriteMode::Delete if !policy.keys.is_empty() => {
                RowChecks::default().with_keys(KeySet::new(&policy.keys, &self.schema, false)?)
            }
            _ => checks,
        })
    }

    fn operation(&self) -> DeltaOperation {
        let policy = self.policy.policy();
        let write = |mode, predicate| DeltaOperation::Write {
            mode,
            partition_by: Some(policy.partition_by.clone()),
            predicate,
        };
        let when = |action_type: &str| vec![MergePredicate { action_type: action_type.to_owned(), predicate: None }];
        match policy.mode {
            WriteMode::Append | WriteMode::Error | WriteMode::Ignore => write(SaveMode::Append, None),
            WriteMode::Overwrite => write(SaveMode::Overwrite, None),
            WriteMode::ReplaceWhere => write(SaveMode::Overwrite, policy.replace_where.clone()),
            WriteMode::Merge => {
                let key = |column: &String| format!("target.{column} = source.{column}");
                DeltaOperation::Merge {
                    predicate: None,
                    merge_predicate: Some(policy.keys.iter().map(key).collect::<Vec<_>>().join(" AND ")),
                    matched_predicates: when("update"),
                    not_matched_predicates: when("insert"),
                    not_matched_by_source_predicates: Vec::new(),
                }
            }
            WriteMode::Delete => DeltaOperation::Delete { predicate: policy.replace_where.clone() },
        }
    }

    async fn load(&self) -> Result<Loaded, CommitError> {
        let table = table_dir(&self.table)?;
        let loaded = table.load(None).await?;
        check_writable(&self.table, &loaded)?;
        Ok(loaded)
    }

    async fn applied(&self, loaded: &Loaded) -> Result<bool, CommitError> {
        match &self.transaction {
            None => Ok(false),
            Some((app_id, version)) => Ok(recorded_transaction(&self.table, loaded, app_id).await? >= Some(*version)),
        }
    }

    fn engine_transaction(&self) -> Option<Transaction> {
        self.transaction.as_ref().map(|(app_id, version)| Transaction::new(app_id, *version))
    }
}

/// How one attempt ended.
enum Attempt {
    /// With files beside the staged ones.
    Landed(Committed),
    /// With the staged files.
    Own(u64),
    /// Somebody else was first.
    Lost,
}

impl Expected {
    fn is(self, head: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::NoTable => head.is_none(),
            Self::Version(version) => head == Some(version),
        }
    }
}

fn table_dir(path: &Path) -> Result<TableDir, CommitError> {
    TableDir::open(path)
        .map_err(|source| WriteError::Directory { path: path.to_path_buf(), source })
        .map_err(CommitError::from)
}

/// Reads the rows of a deletion for their keys.
async fn collect_keys(
    streams: Vec<SendableRecordBatchStream>,
    columns: &SchemaRef,
    checks: &RowChecks,
) -> Result<(), CommitError> {
    for mut stream in streams {
        while let Some(batch) =
            stream.try_next().await.map_err(|source| WriteError::Stream { source: Box::new(source) })?
        {
            checks.check(&conform(batch, columns)?)?;
        }
    }
    Ok(())
}
