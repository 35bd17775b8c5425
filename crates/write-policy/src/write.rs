//! Writing data files: sorted where the policy says so, nothing left behind by a failure.

use std::error::Error;
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_contracts::ContentDigest;
use alluvium_telemetry::carry;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake_core::datafile::writer::WriterConfig;
use deltalake_core::kernel::Add;
use futures::StreamExt as _;
use parquet::arrow::ArrowSchemaConverter;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::checks::RowChecks;
use crate::error::{PolicyError, WriteError};
use crate::files::{DIGEST_TAG, DataFile, Order, StagedFiles, remove};
use crate::gate::unwritable;
use crate::log::head_version;
use crate::policy::{LogStats, ResolvedWritePolicy};
use crate::sort::sorted;
use crate::store::RecordingStore;
use crate::stream::{StreamWriter, conform};
use crate::table::{Loaded, TableDir};

/// Writes every stream into `table_dir` (created when missing) as Parquet files.
///
/// Streams are written concurrently, each by a task of its own into files of its own: nothing is merged, and the order
/// of rows inside a stream is kept within each partition. Batches pass through; what is held in memory is the open row
/// group of each stream and partition, and files on their way to the disk.
///
/// With `zorder_by`, all rows are first sorted by the partition columns and then by those, and written by one task: rows
/// are in order inside each file, and the files of a partition do not overlap. The sort takes its memory from `task` and
/// spills to its disk manager; [`write_files`] has no limit.
///
/// The policy's constraints, and those of a table that is there, are checked of every row. The directory may hold a table:
/// its files are not touched. Nothing is visible to a reader before the commit.
///
/// # Errors
/// [`WriteError`]; whatever was written by then is removed, and so it is when the future is dropped (where a file that
/// is being flushed at that moment may stay behind, unreferenced).
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn write_files_with(
    table_dir: &Path,
    schema: SchemaRef,
    streams: Vec<SendableRecordBatchStream>,
    policy: &ResolvedWritePolicy,
    task: &Arc<TaskContext>,
) -> Result<StagedFiles, WriteError> {
    let (target, loaded) = Target::open(table_dir).await?;
    policy.check(&schema)?;
    let state = loaded.as_ref().map(|loaded| &loaded.state);
    let checks = Arc::new(RowChecks::new(policy, state, &schema)?);
    stage(target, Input { schema, streams, checks, grouped: false }, policy, task).await
}

/// [`write_files_with`] in memory without a limit.
///
/// # Errors
/// As [`write_files_with`].
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn write_files(
    table_dir: &Path,
    schema: SchemaRef,
    streams: Vec<SendableRecordBatchStream>,
    policy: &ResolvedWritePolicy,
) -> Result<StagedFiles, WriteError> {
    write_files_with(table_dir, schema, streams, policy, &Arc::default()).await
}

/// Where files are to be written.
pub(crate) struct Target {
    pub(crate) table: TableDir,
    pub(crate) table_is_new: bool,
}

impl Target {
    /// Makes the directory, and loads the table that is there.
    pub(crate) async fn open(table_dir: &Path) -> Result<(Self, Option<Loaded>), WriteError> {
        let directory = |source| WriteError::Directory { path: table_dir.to_path_buf(), source };
        let table_is_new = !table_dir.exists();
        fs::create_dir_all(table_dir).map_err(directory)?;
        let table = TableDir::open(table_dir).map_err(directory)?;
        let mut loaded = None;
        if head_version(table.path())?.is_some() {
            let found = table.load(None).await?;
            if let Some(feature) = unwritable(&found.state) {
                return Err(WriteError::Unsupported { path: table_dir.to_path_buf(), feature });
            }
            loaded = Some(found);
        }
        Ok((Self { table, table_is_new }, loaded))
    }
}

/// Rows and what is checked of them.
pub(crate) struct Input {
    pub(crate) schema: SchemaRef,
    pub(crate) streams: Vec<SendableRecordBatchStream>,
    pub(crate) checks: Arc<RowChecks>,
    /// Whether the rows come partition after partition, so that only one has to be open.
    pub(crate) grouped: bool,
}

/// Writes files of `input.schema`.
pub(crate) async fn stage(
    target: Target,
    input: Input,
    policy: &ResolvedWritePolicy,
    task: &Arc<TaskContext>,
) -> Result<StagedFiles, WriteError> {
    let Target { table, table_is_new } = target;
    let Input { schema, streams, checks, grouped } = input;
    let store = table
        .store()
        .map_err(|source| WriteError::Store { path: table.path().to_path_buf(), source: source.into() })?;
    let mut unfinished = Unfinished {
        table: table.path().to_path_buf(),
        table_is_new,
        store: Arc::new(RecordingStore::new(store)),
        done: false,
    };
    let zorder = &policy.policy().zorder_by;
    let order: Option<Vec<String>> =
        (!zorder.is_empty()).then(|| policy.partition_by().iter().chain(zorder).cloned().collect());
    let streams = match &order {
        None => streams,
        Some(columns) => {
            let conformed = streams.into_iter().map(|stream| conforming(stream, &schema)).collect();
            let sorted = sorted(conformed, &schema, columns, task);
            vec![sorted.map_err(|source| WriteError::Stream { source: Box::new(source) })?]
        }
    };
    let log_stats = LogStats::new(policy, &schema);
    let plan = FilePlan {
        config: writer_config(policy, &schema, &log_stats)?,
        schema,
        checks,
        grouped: grouped || order.is_some(),
    };
    let adds = write_streams(&unfinished, streams, policy, &plan).await?;
    let order = order.map(|columns| Order::new(columns, &adds));
    let files = adds
        .into_iter()
        .enumerate()
        .map(|(index, add)| describe(add, &unfinished, &log_stats, order.as_ref().map(|order| order.tag(index))));
    let files: Vec<(DataFile, Add)> = files.collect::<Result<_, WriteError>>()?;
    unfinished.done = true;
    let (files, adds) = files.into_iter().unzip();
    Ok(StagedFiles {
        table: unfinished.table.clone(),
        table_is_new,
        checked: plan.checks.checked(),
        schema: plan.schema,
        policy: policy.clone(),
        files,
        adds,
        settled: false,
    })
}

/// How files are written.
struct FilePlan {
    schema: SchemaRef,
    config: WriterConfig,
    checks: Arc<RowChecks>,
    grouped: bool,
}

fn writer_config(
    policy: &ResolvedWritePolicy,
    schema: &SchemaRef,
    log_stats: &LogStats,
) -> Result<WriterConfig, WriteError> {
    let config = |stats_columns| -> Result<WriterConfig, PolicyError> {
        Ok(WriterConfig::new(
            Arc::clone(schema),
            policy.partition_by().to_vec(),
            Some(policy.writer_properties(schema)?),
            NonZeroU64::new(policy.policy().target_file_size_bytes),
            None,
            // Which columns get statistics is said by name.
            Default::default(),
            Some(stats_columns),
        ))
    };
    let leaves = ArrowSchemaConverter::new()
        .convert(&config(vec![])?.file_schema())
        .map_err(|source| PolicyError::Parquet { source: source.into() })?;
    let names = log_stats.leaf_names(leaves.columns().iter().map(|column| column.path().parts()));
    Ok(config(names)?)
}

/// The stream under the declared schema, for a plan that takes no other.
fn conforming(stream: SendableRecordBatchStream, schema: &SchemaRef) -> SendableRecordBatchStream {
    let declared = Arc::clone(schema);
    let batches = stream.map(move |batch| {
        batch.and_then(|batch| conform(batch, &declared).map_err(|error| DataFusionError::External(Box::new(error))))
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
}

/// Files that are being written; dropped before they are done, it removes them.
struct Unfinished {
    table: PathBuf,
    table_is_new: bool,
    store: Arc<RecordingStore>,
    done: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            remove(&self.table, self.table_is_new, self.store.paths().iter().map(String::as_str));
        }
    }
}

async fn write_streams(
    unfinished: &Unfinished,
    streams: Vec<SendableRecordBatchStream>,
    policy: &ResolvedWritePolicy,
    plan: &FilePlan,
) -> Result<Vec<Add>, WriteError> {
    let (cancel, cancelled) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for (index, stream) in streams.into_iter().enumerate() {
        let task = StreamWriter::new(
            unfinished.table.clone(),
            Arc::clone(&unfinished.store) as _,
            Arc::clone(&plan.schema),
            plan.config.clone(),
            Arc::clone(&plan.checks),
            if plan.grouped { policy.partition_by().to_vec() } else { Vec::new() },
        );
        let cancelled = cancelled.clone();
        tasks.spawn(carry(async move { task.run(stream, cancelled).await.map(|adds| (index, adds)) }));
    }
    let mut written = Vec::new();
    let mut failure = None;
    // Every task is waited for, also after a failure: one that is still flushing would write after we cleaned up.
    while let Some(joined) = tasks.join_next().await {
        let result = joined
            .map_err(|source| WriteError::Panicked { path: unfinished.table.clone(), source })
            .and_then(|result| result);
        match result {
            Ok(adds) => written.push(adds),
            Err(error) => {
                failure.get_or_insert(error);
                let _ = cancel.send(true);
            }
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    written.sort_unstable_by_key(|(index, _)| *index);
    Ok(written.into_iter().flat_map(|(_, adds)| adds).collect())
}

pub(crate) fn store_error(table: &Path, error: deltalake_core::DeltaTableError) -> WriteError {
    let path = table.to_path_buf();
    match names_something_too_long(&error) {
        true => WriteError::NameTooLong { path, source: error.into() },
        false => WriteError::Store { path, source: error.into() },
    }
}

fn names_something_too_long(error: &(dyn Error + 'static)) -> bool {
    let is_it = |error: &io::Error| error.kind() == io::ErrorKind::InvalidFilename;
    error.downcast_ref().is_some_and(is_it) || error.source().is_some_and(names_something_too_long)
}

/// The file that an add action speaks of, with the size and digest of the bytes that went to the disk: the log keeps
/// both, so that whoever reads the table can tell the file from any other.
fn describe(
    mut add: Add,
    unfinished: &Unfinished,
    log_stats: &LogStats,
    order: Option<(String, String)>,
) -> Result<(DataFile, Add), WriteError> {
    let unknown = |what: &'static str| WriteError::Store {
        path: unfinished.table.join(&add.path),
        source: format!("the engine's writer gave {what}").into(),
    };
    let written = unfinished.store.written(&add.path).ok_or_else(|| unknown("a file that it never finished"))?;
    let row_count = add.stats.as_deref().and_then(row_count).ok_or_else(|| unknown("no row count"))?;
    let stats = add.stats.as_deref().and_then(|stats| log_stats.filter(stats));
    let stats = stats.ok_or_else(|| unknown("statistics that are no JSON"))?;
    add.size = i64::try_from(written.size_bytes).map_err(|_| unknown("a file beyond 2^63 bytes"))?;
    add.stats = Some(stats);
    let tags = add.tags.get_or_insert_default();
    tags.insert(DIGEST_TAG.to_owned(), Some(written.digest.to_string()));
    if let Some((key, value)) = order {
        tags.insert(key, Some(value));
    }
    let file = DataFile {
        path: add.path.clone(),
        size_bytes: written.size_bytes,
        row_count,
        partition_values: add.partition_values.clone().into_iter().collect(),
        digest: Some::<ContentDigest>(written.digest),
    };
    Ok((file, add))
}

/// `numRecords` of a file's statistics.
pub(crate) fn row_count(stats: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stats {
        num_records: Option<u64>,
    }
    serde_json::from_str::<Stats>(stats).ok()?.num_records
}
