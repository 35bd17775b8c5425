//! Writing data files: one task a stream, nothing merged, nothing left behind by a failure.

use std::error::Error;
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_contracts::ContentDigest;
use arrow::array::{Array as _, AsArray as _, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use deltalake_core::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake_core::kernel::Add;
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::error::WriteError;
use crate::files::{DIGEST_TAG, DataFile, StagedFiles, remove};
use crate::gate::unwritable;
use crate::log::head_version;
use crate::policy::ResolvedWritePolicy;
use crate::store::RecordingStore;
use crate::table::TableDir;

/// The directory name that stands for NULL: a string of this value would land among the NULLs.
const NULL_DIRECTORY: &str = "__HIVE_DEFAULT_PARTITION__";

/// Writes every stream into `table_dir` (created when missing) as Parquet files.
///
/// Streams are written concurrently, each by a task of its own into files of its own: nothing is merged, and the order
/// of rows inside a stream is kept within each partition. Batches pass through; what is held in memory is the open row
/// group of each stream and partition, and files on their way to the disk.
///
/// The directory may hold a table: its files are not touched. Nothing is visible to a reader before the commit.
///
/// # Errors
/// [`WriteError`]; whatever was written by then is removed, and so it is when the future is dropped (where a file that
/// is being flushed at that moment may stay behind, unreferenced).
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn write_files(
    table_dir: &Path,
    schema: SchemaRef,
    streams: Vec<SendableRecordBatchStream>,
    policy: &ResolvedWritePolicy,
) -> Result<StagedFiles, WriteError> {
    policy.check(&schema)?;
    let directory = |source| WriteError::Directory { path: table_dir.to_path_buf(), source };
    let table_is_new = !table_dir.exists();
    fs::create_dir_all(table_dir).map_err(directory)?;
    let table = TableDir::open(table_dir).map_err(directory)?;
    if head_version(table.path())?.is_some() {
        let loaded = table.load(None).await?;
        if let Some(feature) = unwritable(&loaded.state) {
            return Err(WriteError::Unsupported { path: table_dir.to_path_buf(), feature });
        }
    }
    let store =
        table.store().map_err(|source| WriteError::Store { path: table_dir.to_path_buf(), source: source.into() })?;
    let mut unfinished = Unfinished {
        table: table.path().to_path_buf(),
        table_is_new,
        store: Arc::new(RecordingStore::new(store)),
        done: false,
    };

    let config = WriterConfig::new(
        Arc::clone(&schema),
        policy.partition_by().to_vec(),
        Some(policy.writer_properties()),
        NonZeroU64::new(policy.target_file_size_bytes()),
        None,
        // How many columns get statistics in the log: the engine's own default.
        Default::default(),
        None,
    );
    let adds = write_streams(&unfinished, &schema, streams, policy, &config).await?;
    let files: Vec<(DataFile, Add)> =
        adds.into_iter().map(|add| describe(add, &unfinished)).collect::<Result<_, WriteError>>()?;
    unfinished.done = true;
    let (files, adds) = files.into_iter().unzip();
    Ok(StagedFiles {
        table: unfinished.table.clone(),
        table_is_new,
        schema,
        policy: policy.clone(),
        files,
        adds,
        settled: false,
    })
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
    schema: &SchemaRef,
    streams: Vec<SendableRecordBatchStream>,
    policy: &ResolvedWritePolicy,
    config: &WriterConfig,
) -> Result<Vec<Add>, WriteError> {
    let (cancel, cancelled) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for (index, stream) in streams.into_iter().enumerate() {
        let task = StreamWriter {
            table: unfinished.table.clone(),
            schema: Arc::clone(schema),
            partition_by: policy.partition_by().to_vec(),
            writer: DeltaWriter::new(Arc::clone(&unfinished.store) as _, config.clone()),
        };
        let cancelled = cancelled.clone();
        tasks.spawn(async move { task.run(stream, cancelled).await.map(|adds| (index, adds)) });
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

/// Writes one stream.
struct StreamWriter {
    table: PathBuf,
    schema: SchemaRef,
    partition_by: Vec<String>,
    writer: DeltaWriter,
}

impl StreamWriter {
    async fn run(
        mut self,
        stream: SendableRecordBatchStream,
        cancelled: watch::Receiver<bool>,
    ) -> Result<Vec<Add>, WriteError> {
        match self.drain(stream, cancelled).await {
            Ok(true) => {
                let mut adds = self.writer.close().await.map_err(|error| store_error(&self.table, error))?;
                // Partitions close in no order of their own.
                adds.sort_unstable_by(|a, b| a.path.cmp(&b.path));
                Ok(adds)
            }
            Ok(false) => {
                let _ = self.writer.abort().await;
                Ok(Vec::new())
            }
            Err(error) => {
                // The first error is the one that tells; what it leaves is removed with the rest.
                let _ = self.writer.abort().await;
                Err(error)
            }
        }
    }

    /// Whether the stream was written to its end.
    async fn drain(
        &mut self,
        mut stream: SendableRecordBatchStream,
        mut cancelled: watch::Receiver<bool>,
    ) -> Result<bool, WriteError> {
        let cancelled = async move {
            // An error means that the sender is gone, and with it the whole write.
            let _ = cancelled.wait_for(|cancelled| *cancelled).await;
        };
        tokio::pin!(cancelled);
        loop {
            let next = tokio::select! {
                biased;
                () = &mut cancelled => return Ok(false),
                next = stream.next() => next,
            };
            let Some(batch) = next else { return Ok(true) };
            let batch = batch.map_err(|source| WriteError::Stream { source: Box::new(source) })?;
            let batch = conform(batch, &self.schema)?;
            self.partition_by.iter().try_for_each(|column| check_partition_values(&batch, column))?;
            self.writer.write(&batch).await.map_err(|error| store_error(&self.table, error))?;
        }
    }
}

fn store_error(table: &Path, error: deltalake_core::DeltaTableError) -> WriteError {
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

/// The batch under the declared schema: same names, same types, and no NULL where none is allowed. No column is copied.
fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, WriteError> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let declared = schema.fields();
    let actual = batch.schema();
    let actual = actual.fields();
    let name = |field: Option<&arrow::datatypes::FieldRef>| {
        field.map(|field| format!("{} {}", field.name(), field.data_type())).unwrap_or_default()
    };
    for index in 0..declared.len().max(actual.len()) {
        let (expected, found) = (name(declared.get(index)), name(actual.get(index)));
        if expected != found {
            return Err(WriteError::Schema { index, expected, found });
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
        .map_err(|source| WriteError::Batch { source })
}

/// Refuses the strings that a table would give back as NULL: Delta reads an empty partition value as NULL, and the
/// engine's writer files rows by directory, where the name that stands for NULL is taken.
fn check_partition_values(batch: &RecordBatch, column: &str) -> Result<(), WriteError> {
    let Some(array) = batch.column_by_name(column) else {
        return Ok(());
    };
    let bad = |value: Option<&str>| value.is_some_and(|value| value.is_empty() || value == NULL_DIRECTORY);
    let found = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().find(|value| bad(*value)),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().find(|value| bad(*value)),
        DataType::Utf8View => array.as_string_view().iter().find(|value| bad(*value)),
        _ => None,
    };
    match found.flatten() {
        Some(value) => Err(WriteError::PartitionValue { column: column.to_owned(), value: value.to_owned() }),
        None => Ok(()),
    }
}

/// The file that an add action speaks of, with the size and digest of the bytes that went to the disk: the log keeps
/// both, so that whoever reads the table can tell the file from any other.
fn describe(mut add: Add, unfinished: &Unfinished) -> Result<(DataFile, Add), WriteError> {
    let unknown = |what: &'static str| WriteError::Store {
        path: unfinished.table.join(&add.path),
        source: format!("the engine's writer gave {what}").into(),
    };
    let written = unfinished.store.written(&add.path).ok_or_else(|| unknown("a file that it never finished"))?;
    let row_count = add.stats.as_deref().and_then(row_count).ok_or_else(|| unknown("no row count"))?;
    add.size = i64::try_from(written.size_bytes).map_err(|_| unknown("a file beyond 2^63 bytes"))?;
    add.tags.get_or_insert_default().insert(DIGEST_TAG.to_owned(), Some(written.digest.to_string()));
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
