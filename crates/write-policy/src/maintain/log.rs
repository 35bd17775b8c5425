//! What goes and what stays of a table's past: vacuum, checkpoints, log cleanup, restore.

use std::fs;
use std::io::ErrorKind;

use alluvium_contracts::{MaintenanceEvent, MaintenanceOperation};
use chrono::Duration;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::Remove;
use deltalake_core::kernel::transaction::CommitProperties;
use deltalake_core::protocol::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use object_store::ObjectStoreExt as _;

use super::error::MaintenanceError;
use super::kept::{keeps_log, kept_versions};
use super::orphans::orphans;
use super::{MIN_RETENTION_HOURS, Maintenance};
use crate::change_feed::old_change_files;
use crate::commit::{appends_only, check_removes, check_writable};
use crate::error::{CommitError, EngineError, ReadError};
use crate::log::{head_version, last_checkpoint};
use crate::table_actions::protocol_of;

impl Maintenance {
    /// Deletes the files that no version younger than `retention_hours` needs, nor any of `keep_versions` or of those
    /// that are [kept](crate::keep_versions), and change files that are older; and older files that writers of this build left
    /// when they were killed, where the log has all of its commits to say that none of them is its. No commit says so: a vacuum
    /// changes no version, and the head of the table stays what it was.
    ///
    /// # Errors
    /// [`MaintenanceError::Retention`] below [`MIN_RETENTION_HOURS`]; another [`MaintenanceError`] when it failed, with some
    /// files perhaps deleted that nobody needs.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn vacuum(
        &self,
        retention_hours: u32,
        keep_versions: &[u64],
    ) -> Result<MaintenanceEvent, MaintenanceError> {
        if retention_hours < MIN_RETENTION_HOURS {
            return Err(MaintenanceError::Retention { hours: retention_hours, floor: MIN_RETENTION_HOURS });
        }
        let loaded = self.table.load(None).await?;
        check_writable(self.table.path(), &loaded)?;
        let begun = self.begin_event(MaintenanceOperation::Vacuum, &loaded);
        let mut keep_versions = [keep_versions, &kept_versions(self.table.path())?].concat();
        keep_versions.sort_unstable();
        keep_versions.dedup();
        let mut vacuum = self
            .engine_table()
            .await?
            .vacuum()
            .with_retention_period(Duration::hours(i64::from(retention_hours)))
            .with_dry_run(true);
        if !keep_versions.is_empty() {
            vacuum = vacuum.with_keep_versions(&keep_versions);
        }
        let failed = |source: EngineError| self.failed(MaintenanceOperation::Vacuum, source);
        let (_, plan) = vacuum.await.map_err(|error| failed(error.into()))?;
        let store = self.table.store().map_err(|error| failed(error.into()))?;
        let (mut files_removed, mut bytes_removed) = (0, 0);
        let oldest_unix_ms = self.seam.unix_ms().saturating_sub(i64::from(retention_hours) * 3_600_000);
        let changes = old_change_files(&self.table, oldest_unix_ms, &keep_versions)?;
        for path in plan.files_deleted.iter().chain(&changes) {
            let path = object_store::path::Path::parse(path).map_err(|error| failed(error.into()))?;
            let size_bytes = store.head(&path).await.map_or(0, |file| file.size);
            match store.delete(&path).await {
                Ok(()) => (files_removed, bytes_removed) = (files_removed + 1, bytes_removed + size_bytes),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        for (file, size_bytes) in orphans(&self.table, &loaded, oldest_unix_ms)? {
            match fs::remove_file(&file) {
                Ok(()) => (files_removed, bytes_removed) = (files_removed + 1, bytes_removed + size_bytes),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        let mut event = match files_removed {
            0 => begun.skipped("every file is needed by a version that is kept, or younger"),
            _ => begun.done(loaded.state.version()),
        };
        (event.files_removed, event.bytes_removed) = (files_removed, bytes_removed);
        event.kept_versions = keep_versions;
        Ok(event)
    }

    /// Writes a checkpoint of the newest version.
    ///
    /// # Errors
    /// [`MaintenanceError`]; the table is as it was.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn checkpoint(&self) -> Result<MaintenanceEvent, MaintenanceError> {
        self.checkpoint_after(1).await
    }

    /// Writes a checkpoint where `commits` or more came since the last one.
    pub(super) async fn checkpoint_after(&self, commits: u32) -> Result<MaintenanceEvent, MaintenanceError> {
        let loaded = self.table.load(None).await?;
        let begun = self.begin_event(MaintenanceOperation::Checkpoint, &loaded);
        let version = begun.version_before;
        let since = match last_checkpoint(self.table.path())? {
            Some(last) => version.saturating_sub(last),
            None => version + 1,
        };
        if since < u64::from(commits) {
            return Ok(begun.skipped(&format!("{since} commits since the last one")));
        }
        let mut table = self.engine_table().await?;
        let failed = |source| self.failed(MaintenanceOperation::Checkpoint, source);
        table.load_version(version).await.map_err(failed)?;
        create_checkpoint(&table, None).await.map_err(failed)?;
        Ok(begun.done(version))
    }

    /// Deletes log files older than `retention_hours` that a checkpoint covers and no [kept](crate::keep_versions) version needs. A table whose commits are kept for good
    /// (`delta.enableExpiredLogCleanup = false`) is left alone.
    ///
    /// # Errors
    /// [`MaintenanceError`]; the table reads as before.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn cleanup_log(&self, retention_hours: u32) -> Result<MaintenanceEvent, MaintenanceError> {
        let loaded = self.table.load(None).await?;
        let begun = self.begin_event(MaintenanceOperation::LogCleanup, &loaded);
        let properties = loaded.state.metadata().configuration();
        if properties.get("delta.enableExpiredLogCleanup").is_some_and(|value| value == "false") {
            return Ok(begun.skipped("the table's commits are kept: `delta.enableExpiredLogCleanup` is false"));
        }
        if protocol_of(&loaded.state).has("checkpointProtection") {
            return Ok(begun.skipped("the table's checkpoints are protected"));
        }
        let version = begun.version_before;
        let kept_versions = kept_versions(self.table.path())?;
        let needed = kept_versions.first().map_or(version, |oldest| version.min(*oldest));
        let cutoff = self.seam.unix_ms().saturating_sub(i64::from(retention_hours) * 3_600_000);
        let deleted = cleanup_expired_logs_for(needed, loaded.log_store.as_ref(), cutoff, None)
            .await
            .map_err(|source| self.failed(MaintenanceOperation::LogCleanup, source))?;
        if deleted == 0 {
            return Ok(begun.skipped("no log file is old enough and covered by a checkpoint"));
        }
        let mut event = begun.done(version);
        event.files_removed = deleted as u64;
        event.kept_versions = kept_versions;
        Ok(event)
    }

    /// Makes an older version the newest again, by a commit of its own. Its data files have to be there.
    ///
    /// # Errors
    /// [`MaintenanceError`]; the table is as it was. A commit that landed meanwhile is an error too: look again.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn restore(&self, version: u64) -> Result<MaintenanceEvent, MaintenanceError> {
        let loaded = self.table.load(None).await?;
        if version > loaded.state.version() {
            return Err(ReadError::NoSuchVersion { path: self.declared.clone(), version }.into());
        }
        check_writable(self.table.path(), &loaded)?;
        if appends_only(&loaded.state) {
            return Err(CommitError::AppendOnly { path: self.declared.clone() }.into());
        }
        // Whatever of it the older version lacks will be removed.
        let all: Vec<Remove> = loaded.state.log_data().iter().map(|file| file.remove_action(true)).collect();
        check_removes(self.table.path(), &loaded, all.iter())?;
        let begun = self.begin_event(MaintenanceOperation::Restore, &loaded);
        let table = self.engine_table().await?;
        let (table, metrics) = table
            .restore()
            .with_version_to_restore(version)
            .with_commit_properties(self.properties())
            .await
            .map_err(|source| self.failed(MaintenanceOperation::Restore, source))?;
        let head = head_version(self.table.path())?;
        let mut event = begun.done(table.version().or(head).unwrap_or(version));
        event.reason = Some(format!("version {version} is the newest again"));
        event.files_added = metrics.num_restored_file as u64;
        event.files_removed = metrics.num_removed_file as u64;
        Ok(event)
    }

    async fn engine_table(&self) -> Result<DeltaTable, MaintenanceError> {
        let open = async {
            let mut table = DeltaTable::new(self.table.log_store()?);
            table.load().await?;
            Ok(table)
        };
        open.await.map_err(|source: deltalake_core::DeltaTableError| MaintenanceError::Open {
            path: self.table.path().to_path_buf(),
            source: source.into(),
        })
    }

    fn properties(&self) -> CommitProperties {
        CommitProperties::default()
            .with_max_retries(0)
            .with_metadata(self.metadata.clone())
            .with_cleanup_expired_logs(keeps_log(self.table.path()).then_some(false))
    }

    pub(super) fn failed(&self, operation: MaintenanceOperation, source: impl Into<EngineError>) -> MaintenanceError {
        MaintenanceError::Failed { path: self.table.path().to_path_buf(), operation, source: source.into() }
    }
}
