//! Taking rows out of a table: the files that hold them go, and the rows beside them are written anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake_core::kernel::{Action, LogicalFileView};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use crate::change_feed::{ChangeFiles, Changes};
use crate::checks::{KeySet, RowChecks};
use crate::condition::Condition;
use crate::error::{CommitError, ReadError};
use crate::files::{DataFile, StagedFiles};
use crate::policy::ResolvedWritePolicy;
use crate::prune::may_hold;
use crate::schema::conformed;
use crate::table::{Loaded, TableDir};
use crate::write::{Input, Target, stage};

/// Which rows go.
#[derive(Debug, Clone)]
pub(crate) enum Gone {
    /// Those that the condition is true of.
    Where(Condition),
    /// Those whose keys were collected.
    Keys(Arc<RowChecks>),
}

impl Gone {
    fn columns(&self) -> Vec<String> {
        match self {
            Self::Where(condition) => condition.columns(),
            Self::Keys(checks) => checks.keys().map(KeySet::columns).unwrap_or_default().to_vec(),
        }
    }

    /// Of each row, whether it stays.
    pub(crate) fn stays(&self, batch: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
        let goes = match self {
            Self::Where(condition) => condition.holds(batch)?,
            Self::Keys(checks) => match checks.keys() {
                Some(keys) => {
                    let found = keys.contains(batch).map_err(|error| DataFusionError::External(Box::new(error)))?;
                    BooleanArray::from(found)
                }
                None => BooleanArray::from(vec![false; batch.num_rows()]),
            },
        };
        Ok(arrow::compute::not(&goes)?)
    }
}

/// What takes the rows out.
pub(crate) struct Rewritten {
    /// The removes, the adds of what stays, and the change files.
    pub(crate) actions: Vec<Action>,
    /// The files of the rows beside them.
    pub(crate) survivors: StagedFiles,
    /// What readers of the table's change data feed go by, where the files alone would not tell them.
    pub(crate) changes: Option<ChangeFiles>,
    /// How many rows go.
    pub(crate) removed_rows: u64,
}

impl Rewritten {
    /// All files that were written for it.
    pub(crate) fn staged(&mut self) -> impl Iterator<Item = &mut StagedFiles> {
        [Some(&mut self.survivors), self.changes.as_mut().map(|changes| &mut changes.0)].into_iter().flatten()
    }
}

/// A change data feed that a rewrite has to feed.
pub(crate) struct Feed<'a> {
    /// The files of the rows that the same commit puts in.
    pub(crate) added: &'a [DataFile],
    /// Whether they come for those that go under the same keys.
    pub(crate) is_merge: bool,
}

/// Finds the rows that go and writes those that share a file with them anew. Files without such rows stay as they are; those
/// whose bounds in the log rule such rows out are not opened.
pub(crate) async fn rewrite(
    table: &TableDir,
    loaded: &Loaded,
    columns: &SchemaRef,
    gone: &Gone,
    feed: Option<Feed<'_>>,
    policy: &ResolvedWritePolicy,
    task: &Arc<TaskContext>,
) -> Result<Rewritten, CommitError> {
    let looked_at = columns_of(columns, &gone.columns());
    let is_merge = feed.as_ref().is_some_and(|feed| feed.is_merge);
    let updated = is_merge.then(|| KeySet::new(&gone.columns(), columns, false)).transpose()?;
    let mut actions = Vec::new();
    let mut removed_from = Vec::new();
    let mut mixed = Vec::new();
    let mut removed_rows = 0;
    let candidates = may_hold(loaded, columns, gone);
    for (file, _) in loaded.state.log_data().iter().zip(candidates).filter(|(_, may_hold)| *may_hold) {
        let source = RowSource::of(table, &file)?;
        let (mut all, mut staying) = (0_u64, 0_u64);
        let mut rows = source.read(Arc::clone(&looked_at)).await?;
        while let Some(batch) = rows.try_next().await.map_err(|error| failed(table.path(), error))? {
            all += batch.num_rows() as u64;
            let stays = gone.stays(&batch).map_err(|error| failed(table.path(), error))?;
            staying += stays.true_count() as u64;
            if let Some(updated) = &updated {
                let goes = arrow::compute::not(&stays).and_then(|goes| filter_record_batch(&batch, &goes));
                updated.collect(&goes.map_err(|error| failed(table.path(), error.into()))?)?;
            }
        }
        if staying == all {
            continue;
        }
        removed_rows += all - staying;
        actions.push(Action::Remove(file.remove_action(true)));
        if staying > 0 {
            mixed.push(source.clone());
        }
        removed_from.push(source);
    }
    let survivors = staying_rows(mixed, Arc::clone(columns), gone.clone());
    let checks = Arc::new(RowChecks::new(policy, Some(&loaded.state), columns)?);
    let input = Input { schema: Arc::clone(columns), streams: vec![survivors], checks, grouped: false };
    let target = Target { table: table.clone(), table_is_new: false };
    // What stays was in some order with what goes; alone it would claim one that the version does not have.
    let survivors = stage(target, input, &policy.unordered(), task).await?;
    actions.extend(survivors.actions());
    // Where files go as a whole, and nothing comes in for them, the files tell it all.
    let feed = feed.filter(|feed| !survivors.files().is_empty() || (feed.is_merge && removed_rows > 0));
    let changes = match feed {
        None => None,
        Some(feed) => {
            let added = feed.added.iter().map(|file| RowSource::written(table, file)).collect();
            let changes = Changes { removed_from, gone: gone.clone(), updated, added };
            Some(changes.write(table, columns, policy, task).await?)
        }
    };
    actions.extend(changes.iter().flat_map(ChangeFiles::actions));
    Ok(Rewritten { actions, survivors, changes, removed_rows })
}

fn failed(table: &Path, error: DataFusionError) -> CommitError {
    CommitError::Failed { path: table.to_path_buf(), source: error.into() }
}

/// The columns of `schema` with these names, in the schema's order.
fn columns_of(schema: &SchemaRef, names: &[String]) -> SchemaRef {
    let fields = schema.fields().iter().filter(|field| names.contains(field.name()));
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// All rows of these files, one after the other.
pub(crate) fn all_rows(sources: Vec<RowSource>, schema: SchemaRef) -> SendableRecordBatchStream {
    let wanted = Arc::clone(&schema);
    let batches = futures::stream::iter(sources)
        .then(move |source| {
            let wanted = Arc::clone(&wanted);
            async move { source.read(wanted).await.map_err(|error| DataFusionError::External(Box::new(error))) }
        })
        .try_flatten();
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

fn staying_rows(sources: Vec<RowSource>, schema: SchemaRef, gone: Gone) -> SendableRecordBatchStream {
    let batches = all_rows(sources, Arc::clone(&schema)).map(move |batch| {
        let batch = batch?;
        Ok(filter_record_batch(&batch, &gone.stays(&batch)?)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// The rows of one data file of a table.
#[derive(Clone)]
pub(crate) struct RowSource {
    path: PathBuf,
    partition_values: BTreeMap<String, Option<String>>,
}

/// How many rows are read at once: fewer of wide ones, since whoever sorts has to hold some batches whole.
fn batch_rows(footer: &ParquetMetaData) -> usize {
    const ROWS: u64 = 1_024;
    const BYTES: u64 = 4 << 20;
    let bytes: i64 = footer.row_groups().iter().map(RowGroupMetaData::total_byte_size).sum();
    let rows: i64 = footer.row_groups().iter().map(RowGroupMetaData::num_rows).sum();
    let row_bytes = (u64::try_from(bytes).unwrap_or_default() / u64::try_from(rows).unwrap_or_default().max(1)).max(1);
    (BYTES / row_bytes).clamp(1, ROWS) as usize
}

type Batches = BoxStream<'static, Result<RecordBatch, DataFusionError>>;

impl RowSource {
    pub(crate) fn of(table: &TableDir, file: &LogicalFileView) -> Result<Self, ReadError> {
        let not_plain = |feature| Err(ReadError::NotPlainFiles { path: table.path().to_path_buf(), feature });
        if file.deletion_vector_descriptor().is_some() {
            return not_plain("deletion vectors");
        }
        let path = file.path();
        let leads_out = path.split('/').any(|part| part == "..");
        if leads_out || path.starts_with('/') || path.contains("://") || path.starts_with("file:") {
            return not_plain("files outside the table");
        }
        Ok(Self {
            path: table.path().join(path.as_ref()),
            partition_values: file.partition_values_map().into_iter().collect(),
        })
    }

    /// A file that was written for the table.
    fn written(table: &TableDir, file: &DataFile) -> Self {
        Self { path: table.path().join(&file.path), partition_values: file.partition_values.clone() }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The rows with the columns of `schema`: from the file, from its directory, or NULL where it has none.
    pub(crate) async fn read(&self, schema: SchemaRef) -> Result<Batches, ReadError> {
        let io = |source| ReadError::Io { path: self.path.clone(), source };
        let footer = |source: parquet::errors::ParquetError| ReadError::Footer {
            path: self.path.clone(),
            source: source.into(),
        };
        let file = tokio::fs::File::open(&self.path).await.map_err(io)?;
        let builder = ParquetRecordBatchStreamBuilder::new(file).await.map_err(footer)?;
        let roots = builder.schema().fields().iter().enumerate();
        let roots = roots.filter(|(_, field)| schema.field_with_name(field.name()).is_ok()).map(|(index, _)| index);
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.collect::<Vec<_>>());
        let batch_rows = batch_rows(builder.metadata());
        let batches = builder.with_projection(mask).with_batch_size(batch_rows).build().map_err(footer)?;
        let partition_values = self.partition_values.clone();
        let rows = batches.map(move |batch| {
            let batch = batch?;
            let column = |name: &str, data_type| -> Result<ArrayRef, DataFusionError> {
                match (batch.column_by_name(name), partition_values.get(name)) {
                    (Some(column), _) => conformed(column, data_type),
                    (None, Some(Some(value))) => {
                        let text = StringArray::from(vec![value.as_str(); batch.num_rows()]);
                        Ok(cast(&text, data_type)?)
                    }
                    (None, _) => Ok(new_null_array(data_type, batch.num_rows())),
                }
            };
            let columns = schema.fields().iter().map(|field| column(field.name(), field.data_type()));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?)
        });
        Ok(rows.boxed())
    }
}
