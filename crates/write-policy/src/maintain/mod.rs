//! Keeping a table in shape: compaction, order, vacuum, checkpoints, log cleanup, restore.
//!
//! What rewrites files is ours, not the engine's. Its OPTIMIZE commits with retries whose conflict check does not count
//! removes of another OPTIMIZE: two at once leave rows twice. Ours commits for the version that it read, or not at all.

mod error;
mod kept;
mod lock;
mod log;
mod orphans;
mod rewrite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_contracts::{MaintenanceEvent, MaintenanceOperation, MaintenancePolicy, MaintenanceResult, RunId};
use alluvium_telemetry::{Seam, Stopwatch};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;

pub use self::error::MaintenanceError;
pub(crate) use self::kept::keeps_log;
pub use self::kept::{keep_versions, release_versions};
use self::lock::MaintenanceLock;
use crate::error::ReadError;
use crate::files::CommitMetadata;
use crate::log::{head_version, last_checkpoint};
use crate::read::order_of;
use crate::stored::stored_policy;
use crate::sync::sync_table;
use crate::table::{Loaded, TableDir};

/// Files younger than this are never deleted: a reader or a writer may still be at them.
pub const MIN_RETENTION_HOURS: u32 = 168;

/// Maintenance of one table, by one process at a time.
#[derive(Debug)]
pub struct Maintenance {
    table: TableDir,
    declared: PathBuf,
    seam: Seam,
    run_id: Option<RunId>,
    metadata: CommitMetadata,
    task: Option<Arc<TaskContext>>,
    _lock: MaintenanceLock,
}

/// What sorting a table may take of the memory, unless the caller says: beyond it, rows go to the disk.
const SORT_BYTES: usize = 256 << 20;

impl Maintenance {
    /// Takes the table's maintenance lock, which is held until the value is dropped.
    ///
    /// # Errors
    /// [`MaintenanceError::Busy`] when somebody else has it; [`MaintenanceError::Table`] when there is no table.
    pub fn begin(table_dir: &Path, seam: Seam) -> Result<Self, MaintenanceError> {
        if head_version(table_dir)?.is_none() {
            return Err(ReadError::NotATable { path: table_dir.to_path_buf() }.into());
        }
        let table =
            TableDir::open(table_dir).map_err(|source| ReadError::Io { path: table_dir.to_path_buf(), source })?;
        let lock = MaintenanceLock::take(table.path())?;
        Ok(Self {
            table,
            declared: table_dir.to_path_buf(),
            seam,
            run_id: None,
            metadata: CommitMetadata::new(),
            task: None,
            _lock: lock,
        })
    }

    /// What its commits say beside the engine's own keys, and the run in its events.
    #[must_use]
    pub fn on_behalf_of(mut self, run_id: Option<RunId>, metadata: CommitMetadata) -> Self {
        self.run_id = run_id;
        self.metadata = metadata;
        self
    }

    /// Takes memory and spill files for sorting from `task`; 256 MiB and the system's temporary directory otherwise.
    #[must_use]
    pub fn task(mut self, task: Arc<TaskContext>) -> Self {
        self.task = Some(task);
        self
    }

    fn sorting(&self) -> DataFusionResult<Arc<TaskContext>> {
        if let Some(task) = &self.task {
            return Ok(Arc::clone(task));
        }
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(SORT_BYTES, 1.0).build_arc()?;
        Ok(Arc::new(TaskContext::default().with_runtime(runtime)))
    }

    /// Keeps a table up that has no other maintainer than the program that writes it, after its commit of `version`: does what is
    /// [due](Self::run_due) once its policy's `checkpoint_interval_commits` have come since the newest checkpoint, however many came at a
    /// time, and syncs what that wrote. Nothing is done where somebody else is at it.
    ///
    /// # Errors
    /// As [`run_due`](Self::run_due); the table holds the rows that it held, and the next commit is the time to try again.
    ///
    /// # Panics
    /// Outside a Tokio runtime with a timer.
    pub async fn keep_up(
        table_dir: &Path,
        version: u64,
        policy: &MaintenancePolicy,
        seam: &Seam,
    ) -> Result<Vec<MaintenanceEvent>, MaintenanceError> {
        let since = match last_checkpoint(table_dir)? {
            Some(last) => version.saturating_sub(last),
            None => version + 1,
        };
        if policy.checkpoint_interval_commits.is_none_or(|interval| since < u64::from(interval)) {
            return Ok(Vec::new());
        }
        let maintenance = match Self::begin(table_dir, seam.clone()) {
            Err(MaintenanceError::Busy { .. }) => return Ok(Vec::new()),
            begun => begun?,
        };
        let done = maintenance.run_due().await?;
        // A file that rows were put together in is the only one that holds them, some day.
        sync_table(table_dir)?;
        Ok(done)
    }

    /// Does what the policy that is stored with the table says is due, in an order in which nothing is deleted that the step
    /// before still needs: order or compaction, checkpoint, vacuum, log cleanup. One event for each that the policy names.
    ///
    /// # Errors
    /// The first [`MaintenanceError`]; what was done before it stays done.
    ///
    /// # Panics
    /// Outside a Tokio runtime with a timer.
    pub async fn run_due(&self) -> Result<Vec<MaintenanceEvent>, MaintenanceError> {
        let loaded = self.table.load(None).await?;
        let (policy, _) = stored_policy(&loaded.state);
        let MaintenancePolicy {
            compact_min_files,
            zorder_min_files,
            vacuum_retention_hours,
            checkpoint_interval_commits,
            log_retention_hours,
        } = policy.maintenance;
        let mut events = Vec::new();
        if let Some(least) = zorder_min_files {
            let unordered = match order_of(&loaded) {
                Some(_) => 0,
                None => loaded.state.log_data().num_files(),
            };
            events.push(match unordered >= least as usize && !policy.zorder_by.is_empty() {
                true => self.zorder(&policy.zorder_by).await?,
                false => self.skipped(MaintenanceOperation::Zorder, &loaded, "too few files came without the order"),
            });
        }
        if let Some(least) = compact_min_files {
            events.push(self.compact(least).await?);
        }
        if let Some(interval) = checkpoint_interval_commits {
            events.push(self.checkpoint_after(interval).await?);
        }
        if let Some(hours) = vacuum_retention_hours {
            events.push(self.vacuum(hours, &[]).await?);
        }
        if let Some(hours) = log_retention_hours {
            events.push(self.cleanup_log(hours).await?);
        }
        Ok(events)
    }

    fn begin_event(&self, operation: MaintenanceOperation, before: &Loaded) -> Begun<'_> {
        Begun { maintenance: self, operation, watch: self.seam.stopwatch(), version_before: before.state.version() }
    }

    fn skipped(&self, operation: MaintenanceOperation, loaded: &Loaded, reason: &str) -> MaintenanceEvent {
        self.begin_event(operation, loaded).skipped(reason)
    }
}

/// A piece of maintenance that has begun.
struct Begun<'a> {
    maintenance: &'a Maintenance,
    operation: MaintenanceOperation,
    watch: Stopwatch,
    version_before: u64,
}

impl Begun<'_> {
    /// It was done, and made `version`.
    fn done(self, version: u64) -> MaintenanceEvent {
        self.event(MaintenanceResult::Ok, version, None)
    }

    fn skipped(self, reason: &str) -> MaintenanceEvent {
        let version = self.version_before;
        self.event(MaintenanceResult::Skipped, version, Some(reason.to_owned()))
    }

    fn event(self, result: MaintenanceResult, version: u64, reason: Option<String>) -> MaintenanceEvent {
        let maintenance = self.maintenance;
        MaintenanceEvent {
            event_time_unix_ms: maintenance.seam.unix_ms(),
            run_id: maintenance.run_id,
            dataset_name: None,
            table_path: maintenance.declared.display().to_string(),
            operation: self.operation,
            result,
            reason,
            error_type: None,
            version_before: Some(self.version_before),
            version_after: Some(version),
            files_added: 0,
            files_removed: 0,
            bytes_added: 0,
            bytes_removed: 0,
            kept_versions: Vec::new(),
            duration_ms: self.watch.elapsed_ms(),
        }
    }
}
