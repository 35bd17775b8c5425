//! Rewriting the files of a table without changing its rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alluvium_contracts::{DeltaWritePolicy, MaintenanceEvent, MaintenanceOperation, MaintenancePolicy, SchemaMode};
use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::Action;
use deltalake_core::protocol::DeltaOperation;

use super::Maintenance;
use super::error::MaintenanceError;
use crate::checks::RowChecks;
use crate::commit::{Change, Landing, Retention, check_writable, commit};
use crate::error::CommitError;
use crate::policy::ResolvedWritePolicy;
use crate::rewrite::{RowSource, all_rows};
use crate::schema::table_schema;
use crate::stored::stored_policy;
use crate::table::Loaded;
use crate::write::{Input, Target, stage};

/// How often a rewrite is tried against writers that commit meanwhile.
const ATTEMPTS: u32 = 20;

impl Maintenance {
    /// Puts small files of a partition together, where there are at least `min_files` of them. A file is small below three
    /// quarters of the target size. The files are written as the table's stored policy says.
    ///
    /// # Errors
    /// [`MaintenanceError`]; the table is as it was.
    ///
    /// # Panics
    /// Outside a Tokio runtime with a timer.
    pub async fn compact(&self, min_files: u32) -> Result<MaintenanceEvent, MaintenanceError> {
        self.rewrite_files(MaintenanceOperation::Compact, &Selection::Small { min_files }).await
    }

    /// Orders all rows anew by `columns` within their partitions, over all files.
    ///
    /// # Errors
    /// [`MaintenanceError`]; the table is as it was.
    ///
    /// # Panics
    /// Outside a Tokio runtime with a timer.
    pub async fn zorder(&self, columns: &[String]) -> Result<MaintenanceEvent, MaintenanceError> {
        self.rewrite_files(MaintenanceOperation::Zorder, &Selection::All { order_by: columns }).await
    }

    async fn rewrite_files(
        &self,
        operation: MaintenanceOperation,
        selection: &Selection<'_>,
    ) -> Result<MaintenanceEvent, MaintenanceError> {
        let mut attempt = 0;
        loop {
            let loaded = self.table.load(None).await?;
            check_writable(self.table.path(), &loaded)?;
            let begun = self.begin_event(operation, &loaded);
            let schema = table_schema(&loaded.state).map_err(CommitError::from)?;
            let policy = policy_of(&loaded, &schema, selection)?;
            let target_bytes = policy.policy().target_file_size_bytes;
            let mut sources = Vec::new();
            let mut actions = Vec::new();
            let (mut files_removed, mut bytes_removed) = (0, 0);
            for file in selected(&loaded, selection, target_bytes) {
                sources.push(RowSource::of(&self.table, &file)?);
                actions.push(Action::Remove(file.remove_action(false)));
                files_removed += 1;
                bytes_removed += u64::try_from(file.size()).unwrap_or_default();
            }
            if sources.is_empty() {
                return Ok(begun.skipped("no files to put together"));
            }
            let input = Input {
                streams: vec![all_rows(sources, Arc::clone(&schema))],
                checks: Arc::new(RowChecks::new(&policy, None, &schema).map_err(CommitError::from)?),
                schema,
                grouped: true,
            };
            let target = Target { table: self.table.clone(), table_is_new: false };
            let task = self.sorting().map_err(|source| self.failed(operation, source))?;
            let mut staged = stage(target, input, &policy, &task).await?;
            let (files_added, bytes_added) = (staged.files().len() as u64, staged.size_bytes());
            actions.extend(staged.actions().map(without_data_change));
            let change = Change {
                actions,
                operation: DeltaOperation::Optimize {
                    predicate: None,
                    target_size: i64::try_from(target_bytes).unwrap_or(i64::MAX),
                },
                metadata: &self.metadata,
                transaction: None,
                retention: Retention::Keep,
                blind: false,
            };
            match commit(&self.table, &loaded, change, &mut [&mut staged]).await? {
                Landing::Landed { version } => {
                    let _ = staged.committed(version);
                    let mut event = begun.done(version);
                    (event.files_added, event.bytes_added) = (files_added, bytes_added);
                    (event.files_removed, event.bytes_removed) = (files_removed, bytes_removed);
                    return Ok(event);
                }
                Landing::Taken { .. } => {
                    attempt += 1;
                    if attempt == ATTEMPTS {
                        return Err(CommitError::Contended {
                            path: self.table.path().to_path_buf(),
                            attempts: ATTEMPTS,
                        }
                        .into());
                    }
                    tokio::time::sleep(Duration::from_millis(u64::from(attempt))).await;
                }
            }
        }
    }
}

/// Which files are rewritten.
enum Selection<'a> {
    Small { min_files: u32 },
    All { order_by: &'a [String] },
}

fn selected(
    loaded: &Loaded,
    selection: &Selection<'_>,
    target_bytes: u64,
) -> Vec<deltalake_core::kernel::LogicalFileView> {
    let mut partitions: BTreeMap<Vec<(String, Option<String>)>, Vec<_>> = BTreeMap::new();
    for file in loaded.state.log_data().iter() {
        let size = u64::try_from(file.size()).unwrap_or(u64::MAX);
        if matches!(selection, Selection::Small { .. }) && size >= target_bytes / 4 * 3 {
            continue;
        }
        let mut values: Vec<_> = file.partition_values_map().into_iter().collect();
        values.sort_unstable();
        partitions.entry(values).or_default().push(file);
    }
    if let Selection::Small { min_files } = selection {
        // One file alone has nothing to be put together with.
        let least = (*min_files as usize).max(2);
        partitions.retain(|_, files| files.len() >= least);
    }
    partitions.into_values().flatten().collect()
}

/// The table's own policy, for the rows that it has already.
fn policy_of(
    loaded: &Loaded,
    schema: &SchemaRef,
    selection: &Selection<'_>,
) -> Result<ResolvedWritePolicy, MaintenanceError> {
    let (policy, overrides) = stored_policy(&loaded.state);
    let zorder_by = match selection {
        Selection::Small { .. } => Vec::new(),
        Selection::All { order_by } => order_by.to_vec(),
    };
    let maintenance = MaintenancePolicy::default();
    let policy = DeltaWritePolicy { zorder_by, maintenance, schema_mode: SchemaMode::Strict, ..policy };
    Ok(ResolvedWritePolicy::resolve_with(&policy, schema, &[], &overrides).map_err(CommitError::from)?)
}

fn without_data_change(action: Action) -> Action {
    match action {
        Action::Add(mut add) => {
            add.data_change = false;
            Action::Add(add)
        }
        other => other,
    }
}
