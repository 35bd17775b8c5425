//! The change data feed: which rows a commit changed, where its files alone would not tell.
//!
//! Readers of the feed take the rows of a removed file for deleted and those of an added one for inserted. That is true of
//! appends, of overwrites, and of deletions of whole files. A commit that moves rows from one file to another says
//! in change files what became of each row, and then they are all that such readers go by.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake_core::kernel::{Action, Add, AddCDCFile};
use deltalake_core::table::state::DeltaTableState;
use futures::StreamExt as _;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::checks::{KeySet, RowChecks};
use crate::error::{CommitError, ReadError, WriteError};
use crate::files::StagedFiles;
use crate::log::parse_commit;
use crate::policy::ResolvedWritePolicy;
use crate::rewrite::{Gone, RowSource, all_rows};
use crate::table::TableDir;
use crate::write::{Input, Target, stage};

/// Where a table has its change files, below itself.
pub(crate) const CHANGE_DIRECTORY: &str = "_change_data";

/// What a reader of the feed gets beside the table's columns; so no column of a table may be called so.
pub(crate) const FEED_COLUMNS: [&str; 3] = [CHANGE_TYPE, "_commit_version", "_commit_timestamp"];

const CHANGE_TYPE: &str = "_change_type";

/// Whether a table keeps a feed.
pub(crate) fn keeps_feed(state: &DeltaTableState) -> bool {
    state.metadata().configuration().get("delta.enableChangeDataFeed").is_some_and(|value| value == "true")
}

/// The rows that a commit takes out of a table and those that it puts in.
pub(crate) struct Changes {
    /// The files that rows go from.
    pub(crate) removed_from: Vec<RowSource>,
    pub(crate) gone: Gone,
    /// Of a merge, the keys of the rows that go: what comes in under one of them is an update, and no insert.
    pub(crate) updated: Option<KeySet>,
    /// The files that were written of the rows that come in.
    pub(crate) added: Vec<RowSource>,
}

impl Changes {
    /// Writes the change files of a table with these columns.
    pub(crate) async fn write(
        self,
        table: &TableDir,
        columns: &SchemaRef,
        policy: &ResolvedWritePolicy,
        task: &Arc<TaskContext>,
    ) -> Result<ChangeFiles, CommitError> {
        let directory = change_directory(table)?;
        let schema = with_change_type(columns);
        let updated = self.updated.map(Arc::new);
        let removal = if updated.is_some() { "update_preimage" } else { "delete" };
        let gone = self.gone;
        let old = labelled(all_rows(self.removed_from, Arc::clone(columns)), &schema, move |batch| {
            let batch = filter_record_batch(&batch, &arrow::compute::not(&gone.stays(&batch)?)?)?;
            let types = StringArray::from(vec![removal; batch.num_rows()]);
            Ok((batch, Arc::new(types)))
        });
        let new = labelled(all_rows(self.added, Arc::clone(columns)), &schema, move |batch| {
            let is_update = match &updated {
                Some(keys) => keys.contains(&batch).map_err(|error| DataFusionError::External(Box::new(error)))?,
                None => vec![false; batch.num_rows()],
            };
            let types = is_update.iter().map(|is_update| if *is_update { "update_postimage" } else { "insert" });
            let types = StringArray::from_iter_values(types);
            Ok((batch, Arc::new(types)))
        });
        // The rows were checked on their way into the data files.
        let checks = Arc::new(RowChecks::default());
        let input = Input { schema, streams: vec![old, new], checks, grouped: false };
        let target = Target { table: directory, table_is_new: false };
        Ok(ChangeFiles(stage(target, input, &policy.unordered(), task).await?))
    }
}

/// Change files that were written and not yet committed. Dropping them removes them.
pub(crate) struct ChangeFiles(pub(crate) StagedFiles);

impl ChangeFiles {
    pub(crate) fn actions(&self) -> impl Iterator<Item = Action> {
        let action = |Add { path, size, partition_values, tags, .. }: Add| {
            let path = format!("{CHANGE_DIRECTORY}/{path}");
            Action::Cdc(AddCDCFile { path, size, partition_values, data_change: false, tags })
        };
        self.0.adds.iter().cloned().map(action)
    }
}

/// The change files that were written before `oldest_unix_ms` for other versions than `keep_versions`, relative to the table.
pub(crate) fn old_change_files(
    table: &TableDir,
    oldest_unix_ms: i64,
    keep_versions: &[u64],
) -> Result<Vec<String>, ReadError> {
    #[derive(Deserialize)]
    struct Line {
        cdc: Option<Cdc>,
    }
    #[derive(Deserialize)]
    struct Cdc {
        path: String,
    }

    let mut kept = HashSet::new();
    for version in keep_versions {
        let changes = match parse_commit::<Line>(table.path(), *version) {
            // Its commit is gone, and the feed with it.
            Err(ReadError::NoSuchVersion { .. }) => continue,
            lines => lines?.into_iter().filter_map(|line| line.cdc),
        };
        kept.extend(changes.map(|cdc| percent_decode_str(&cdc.path).decode_utf8_lossy().into_owned()));
    }
    let oldest = UNIX_EPOCH + Duration::from_millis(u64::try_from(oldest_unix_ms).unwrap_or_default());
    let mut old = Vec::new();
    let mut directories = vec![table.path().join(CHANGE_DIRECTORY)];
    while let Some(directory) = directories.pop() {
        let io = |source| ReadError::Io { path: directory.clone(), source };
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(io)?,
        };
        for entry in entries {
            let entry = entry.map_err(io)?;
            let metadata = entry.metadata().map_err(io)?;
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.modified().map_err(io)? < oldest {
                let path = entry.path();
                let relative = path.strip_prefix(table.path()).unwrap_or(&path).to_string_lossy().into_owned();
                old.extend((!kept.contains(&relative)).then_some(relative));
            }
        }
    }
    Ok(old)
}

/// The place of a table's change files, which is made when it is missing.
fn change_directory(table: &TableDir) -> Result<TableDir, WriteError> {
    let path: PathBuf = table.path().join(CHANGE_DIRECTORY);
    let made = fs::create_dir_all(&path).and_then(|()| TableDir::open(&path));
    made.map_err(|source| WriteError::Directory { path, source })
}

fn with_change_type(columns: &SchemaRef) -> SchemaRef {
    let own = Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, true));
    Arc::new(Schema::new(columns.fields().iter().cloned().chain([own]).collect::<Vec<_>>()))
}

/// The rows that `label` lets through, with what it says of each as the last column.
fn labelled(
    rows: SendableRecordBatchStream,
    schema: &SchemaRef,
    label: impl Fn(RecordBatch) -> Result<(RecordBatch, ArrayRef), DataFusionError> + Send + 'static,
) -> SendableRecordBatchStream {
    let wanted = Arc::clone(schema);
    let batches = rows.map(move |batch| {
        let (batch, types) = label(batch?)?;
        let columns = batch.columns().iter().cloned().chain([types]).collect();
        Ok(RecordBatch::try_new(Arc::clone(&wanted), columns)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
}
