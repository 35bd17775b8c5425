//! Pinning: the exact state of an input, and the way it is read, as one digest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium_contracts::{ContentDigest, DatasetFormat};
use alluvium_disk_kv_cache::StoreError;
use alluvium_telemetry::{Seam, carry_fn};
use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;

use crate::adapter;
use crate::changes::Changes;
use crate::dataset::{Described, ShapedDelta};
use crate::file_table::{FileTable, Projection};
use crate::infer::Inference;
use crate::layout::{Found, Layout, ShapeError};
use crate::locate::{Located, locate, store_path};
use crate::options::ReadOptions;
use crate::ordering;
use crate::partitions::value_of;
use crate::projection;
use crate::schema_text::identity_bytes;
use crate::shape::Shape;
use crate::shaped::{Input, Shaped};
use crate::spec::Read;
use crate::stamp::regular;
use crate::watched::{Strayed, Watch};
use crate::{Dataset, FileStamp, HashError, PinError, PinMemo, PinnedDataset, delta, hash_file};

/// Raised when the same files and options give another schema, other than by a new engine.
const INFERENCE_EPOCH: u32 = 1;

/// Pins datasets; remembers digests and inferred schemas. Cloning is cheap, and clones share their counters.
#[derive(Debug, Clone)]
pub struct Pinner {
    memo: Option<PinMemo>,
    seam: Seam,
    pub(crate) counters: Arc<Counters>,
}

/// What pinning cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinCounters {
    /// Files whose bytes were read to hash them.
    pub files_hashed: u64,
    /// Those bytes.
    pub bytes_hashed: u64,
    /// Schemas that were inferred from data.
    pub schemas_inferred: u64,
    /// Times that the rows of a dataset were held against its constraints.
    pub constraints_checked: u64,
    /// Times the memo could not be read or written.
    pub memo_failures: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    files_hashed: AtomicU64,
    bytes_hashed: AtomicU64,
    schemas_inferred: AtomicU64,
    pub(crate) constraints_checked: AtomicU64,
    memo_failures: AtomicU64,
}

impl Counters {
    /// [`hash_file`], counted.
    pub(crate) fn hash_file(&self, path: &Path) -> Result<(ContentDigest, FileStamp), HashError> {
        let hashed = hash_file(path);
        self.files_hashed.fetch_add(1, Ordering::Relaxed);
        if let Ok((_, stamp)) = &hashed {
            self.bytes_hashed.fetch_add(stamp.size_bytes, Ordering::Relaxed);
        }
        hashed
    }
}

/// A file as it was pinned.
#[derive(Debug, Clone)]
pub(crate) struct FilePin {
    /// Canonical.
    pub(crate) path: PathBuf,
    pub(crate) location: object_store::path::Path,
    pub(crate) label: String,
    pub(crate) stamp: FileStamp,
    pub(crate) digest: ContentDigest,
    /// Its stamp does not yet vouch for its bytes.
    pub(crate) young: bool,
    pub(crate) strayed: Strayed,
    /// What its directories say of the partition columns.
    pub(crate) partition_texts: Vec<Option<String>>,
    pub(crate) partition_values: Vec<ScalarValue>,
}

impl Pinner {
    /// A pinner that remembers in `memo`, or not at all, and takes the time from `seam`.
    #[must_use]
    pub fn new(memo: Option<PinMemo>, seam: Seam) -> Self {
        Self { memo, seam, counters: Arc::default() }
    }

    /// Pins `dataset` as it is now. Nothing is registered with `ctx`: it lends its object store for local files, through
    /// which data is read, and its settings.
    ///
    /// Files whose stamps are known and old enough are not read again; nor is any data, when their schema is known too.
    ///
    /// # Errors
    /// As the variants of [`PinError`] say.
    pub async fn pin(&self, ctx: &SessionContext, dataset: &Dataset) -> Result<PinnedDataset, PinError> {
        let (name, shape) = (dataset.name(), &dataset.shape);
        match &dataset.read {
            Read::Files { format, options, patterns, base_dir } => {
                let files = FileSource { pinner: self, ctx, dataset: name, format: *format, options, shape };
                let table = files.pin(patterns, base_dir).await?;
                files.check_order(&table).await?;
                Ok(PinnedDataset::of_files(
                    described(ctx, dataset, &table.layout.schema)?,
                    table,
                    Arc::clone(&self.counters),
                ))
            }
            Read::Delta(read) => {
                let pin = delta::pin(name, read).await?;
                let shaped = shaped_delta(name, shape, &pin)
                    .map_err(|source| PinError::Shape { dataset: name.to_owned(), source })?;
                let changes = match &dataset.cdf {
                    None => None,
                    Some(options) => Changes::resolve(name, &pin, options, dataset.cursor.as_ref())
                        .await
                        .map_err(|source| PinError::Changes { dataset: name.to_owned(), source: Box::new(source) })?,
                };
                Ok(PinnedDataset::of_delta(described(ctx, dataset, &shaped.provider.schema())?, pin, shaped, changes))
            }
        }
    }

    /// What this pinner, its clones and the rechecks of what they pinned have cost so far.
    #[must_use]
    pub fn counters(&self) -> PinCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PinCounters {
            files_hashed: read(&self.counters.files_hashed),
            bytes_hashed: read(&self.counters.bytes_hashed),
            schemas_inferred: read(&self.counters.schemas_inferred),
            constraints_checked: read(&self.counters.constraints_checked),
            memo_failures: read(&self.counters.memo_failures),
        }
    }

    /// Asks the memo, if there is one, off the async threads. Its failures are not the caller's.
    pub(crate) async fn memo<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&PinMemo) -> Result<T, StoreError> + Send + 'static,
    ) -> Option<T> {
        let memo = self.memo.clone()?;
        match blocking(move || ask(&memo)).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.counters.memo_failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(error = &error as &dyn std::error::Error, "the pin memo failed; working without it");
                None
            }
        }
    }
}

/// What the declaration says of content with the columns of `schema`.
fn described<'d>(ctx: &SessionContext, dataset: &'d Dataset, schema: &SchemaRef) -> Result<Described<'d>, PinError> {
    let (name, shape) = (dataset.name(), &dataset.shape);
    let projection = projected(&ctx.state(), name, shape, schema)?;
    Ok(Described { name, format: dataset.format(), shape, projection, constraints: dataset.constraints.clone() })
}

/// The columns of `projection_exprs`, if there are any.
fn projected(
    state: &SessionState,
    dataset: &str,
    shape: &Shape,
    schema: &SchemaRef,
) -> Result<Option<Projection>, PinError> {
    if shape.projection.is_empty() {
        return Ok(None);
    }
    let (schema, columns) = projection::resolve(state, &shape.projection, schema)
        .map_err(|source| PinError::Projection { dataset: dataset.to_owned(), source })?;
    Ok(Some(Projection { schema, columns }))
}

/// A Delta table by the declared columns: its files count as one group, since the log says what their columns are.
fn shaped_delta(name: &str, shape: &Shape, pin: &delta::DeltaPin) -> Result<ShapedDelta, ShapeError> {
    let schema = pin.provider.schema();
    if !shape.partitions.is_empty() {
        let text = |field: &Field| format!("{}: {}", field.name(), field.data_type());
        let declared: Vec<_> = shape.partitions.iter().map(|field| text(field)).collect();
        let found = pin.partition_columns.iter().filter_map(|name| schema.field_with_name(name).ok());
        let found: Vec<_> = found.map(text).collect();
        if declared != found {
            return Err(ShapeError::Partitions { declared, found });
        }
    }
    let as_it_is =
        || ShapedDelta { provider: Arc::clone(&pin.provider), adapter: adapter::as_it_is(name, pin.file_count) };
    if !shape.is_by_file() {
        return Ok(as_it_is());
    }
    let found = Found { schema, files: Vec::new(), path: pin.root.clone() };
    let mut layout = Layout::of(&shape.unpartitioned(), &[found])?;
    let Some(group) = layout.groups.pop() else {
        return Ok(as_it_is());
    };
    let adapter = adapter::choice(name, &layout.schema, [(pin.file_count, &group)]);
    let provider = Arc::clone(&pin.provider);
    Ok(ShapedDelta {
        provider: match group.columns {
            None => provider,
            Some(columns) => Arc::new(Shaped::new(layout.schema, vec![Input { provider, columns }])),
        },
        adapter,
    })
}

/// Pins the files of one source.
pub(crate) struct FileSource<'a> {
    pub(crate) pinner: &'a Pinner,
    pub(crate) ctx: &'a SessionContext,
    pub(crate) dataset: &'a str,
    pub(crate) format: DatasetFormat,
    pub(crate) options: &'a ReadOptions,
    pub(crate) shape: &'a Shape,
}

/// What was inferred from data: schemas by their key in the memo.
pub(crate) type Learned = Vec<([u8; 32], SchemaRef)>;

impl FileSource<'_> {
    async fn pin(&self, patterns: &[PathBuf], base_dir: &Path) -> Result<FileTable, PinError> {
        let mut changed = None;
        for _ in 0..2 {
            let files = self.files(patterns, base_dir).await?;
            let mut learned = Learned::new();
            let layout = self.layout(&files, &mut learned).await;
            if layout.is_err() || !learned.is_empty() {
                // The bytes that were looked into have to be those that were hashed, or the error is about others too.
                changed = self.first_changed(&files).await;
                if changed.is_some() {
                    continue;
                }
            }
            let layout = layout?;
            if !learned.is_empty() && files.iter().all(|file| !file.young) {
                self.pinner
                    .memo(move |memo| learned.iter().try_for_each(|(key, schema)| memo.remember_schema(key, schema)))
                    .await;
            }
            return Ok(FileTable {
                options: self.options.clone(),
                layout,
                files,
                partitions: self.shape.partitions.len(),
                ordering: self.shape.ordering.clone(),
            });
        }
        Err(PinError::Changing { dataset: self.dataset.to_owned(), path: changed.unwrap_or_default() })
    }

    async fn layout(&self, files: &[FilePin], learned: &mut Learned) -> Result<Layout, PinError> {
        if self.shape.is_by_file() || matches!(self.options, ReadOptions::Arrow) {
            let found = self.found(files, learned).await?;
            return Layout::of(self.shape, &found).map_err(|source| self.misfit(source));
        }
        let key = self.schema_key("", files);
        let schema = match self.known(key).await {
            Some(schema) => schema,
            None => {
                let schema = self.inference(files)?.infer().await?;
                learned.push((key, Arc::clone(&schema)));
                schema
            }
        };
        // Beside a declared partition column the engine would look for one in the files.
        let partitions = &self.shape.partitions;
        if let Some(twice) = partitions.iter().find(|field| schema.field_with_name(field.name()).is_ok()) {
            let column = twice.name().clone();
            return Err(self.misfit(ShapeError::Collision { column, path: files[0].path.clone() }));
        }
        Ok(Layout::merged(&schema, partitions, files.len()))
    }

    /// A schema of the memo.
    pub(crate) async fn known(&self, key: [u8; 32]) -> Option<SchemaRef> {
        self.pinner.memo(move |memo| memo.schema(&key)).await.flatten()
    }

    /// Looks through every file if an order is declared, unless the memo knows that it was.
    async fn check_order(&self, table: &FileTable) -> Result<(), PinError> {
        let ordering = &self.shape.ordering;
        if ordering.is_empty() {
            return Ok(());
        }
        let mut columns = Vec::with_capacity(ordering.len());
        for by in ordering {
            columns.push(table.layout.schema.index_of(&by.column).map_err(|_| {
                let known = table.layout.schema.fields().iter().map(|field| field.name().clone()).collect();
                let source = ShapeError::Unknown { field: "ordering", column: by.column.clone(), known };
                PinError::Shape { dataset: self.dataset.to_owned(), source }
            })?);
        }
        let declared = serde_json::json!([ordering::text(ordering), self.shape.identity()]).to_string();
        for (index, file) in table.files.iter().enumerate() {
            let key = self.schema_key(&declared, std::slice::from_ref(file));
            if self.pinner.memo(move |memo| memo.is_ordered(&key)).await == Some(true) {
                continue;
            }
            let checked = ordering::first_unordered(self.ctx, table.of_file(index), &columns, ordering).await;
            let unordered = checked.map_err(|source| PinError::Unreadable {
                dataset: self.dataset.to_owned(),
                format: self.format,
                path: file.path.clone(),
                source: Box::new(source),
            })?;
            if let Some(row) = unordered {
                return Err(PinError::Unordered {
                    dataset: self.dataset.to_owned(),
                    path: file.path.clone(),
                    row,
                    ordering: ordering::text(ordering),
                });
            }
            if !file.young {
                self.pinner.memo(move |memo| memo.remember_ordered(&key)).await;
            }
        }
        match self.first_changed(&table.files).await {
            None => Ok(()),
            Some(path) => Err(PinError::Changing { dataset: self.dataset.to_owned(), path }),
        }
    }

    /// The files with their digests, from the memo where their stamps can be trusted.
    async fn files(&self, patterns: &[PathBuf], base_dir: &Path) -> Result<Vec<FilePin>, PinError> {
        // Before the first stamp is taken: what is old by this time cannot be written to any more with its stamp kept.
        let now = self.pinner.seam.unix_ns();
        let (patterns, base_dir) = (patterns.to_vec(), base_dir.to_path_buf());
        let columns: Vec<_> = self.shape.partitions.iter().map(|field| field.name().clone()).collect();
        let located = blocking(move || locate(&patterns, &base_dir, &columns))
            .await
            .map_err(|source| PinError::Locate { dataset: self.dataset.to_owned(), source })?;
        let (located, stamps) = blocking(move || {
            let stamps: Result<Vec<_>, _> = located.iter().map(|file| regular(&file.path)).collect();
            stamps.map(|stamps| (located, stamps))
        })
        .await
        .map_err(|source| self.unhashed(source))?;

        let asked = stamps.clone();
        let known = self.pinner.memo(move |memo| memo.digests(&asked)).await;
        let known = known.unwrap_or_else(|| vec![None; stamps.len()]);
        let concurrency = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = located.into_iter().zip(stamps).zip(known);
        // Closures that borrow from `self` and live while something is awaited keep the whole from being `Send`.
        let counters = Arc::clone(&self.pinner.counters);
        let pinned: Vec<(FilePin, bool)> = futures::stream::iter(jobs)
            .map(move |((file, stamp), known)| {
                pin_file(file, stamp, known.filter(|_| !stamp.is_young(now)), now, Arc::clone(&counters))
            })
            .buffered(concurrency)
            .try_collect()
            .await
            .map_err(|source| self.unhashed(source))?;

        let learned = pinned.iter().filter(|(file, known)| !known && !file.young);
        let learned: Vec<_> = learned.map(|(file, _)| (file.stamp, file.digest)).collect();
        if !learned.is_empty() {
            self.pinner.memo(move |memo| memo.remember_digests(&learned)).await;
        }
        pinned.into_iter().map(|(file, _)| self.partitioned(file)).collect()
    }

    fn unhashed(&self, source: HashError) -> PinError {
        PinError::Hash { dataset: self.dataset.to_owned(), source }
    }

    fn misfit(&self, source: ShapeError) -> PinError {
        PinError::Shape { dataset: self.dataset.to_owned(), source }
    }

    /// With the values that its directories say.
    fn partitioned(&self, mut file: FilePin) -> Result<FilePin, PinError> {
        let columns = self.shape.partitions.iter().zip(&file.partition_texts);
        let values = columns.map(|(field, text)| {
            value_of(text.as_deref(), field).map_err(|source| PinError::PartitionValue {
                dataset: self.dataset.to_owned(),
                path: file.path.clone(),
                column: field.name().clone(),
                value: text.clone(),
                data_type: format!("{}{}", field.data_type(), if text.is_none() { " that is not null" } else { "" }),
                source: source.map(Box::new),
            })
        });
        file.partition_values = values.collect::<Result<_, _>>()?;
        Ok(file)
    }

    /// The order of the files counts: it decides the order of columns, and which records are sampled. `part` tells apart
    /// what is learned of one list of files.
    pub(crate) fn schema_key(&self, part: &str, files: &[FilePin]) -> [u8; 32] {
        let mut key = serde_json::json!({
            "epoch": INFERENCE_EPOCH,
            "engine": datafusion::DATAFUSION_VERSION,
            "format": self.format.as_str(),
            "options": self.options.resolved(),
            "files": files.iter().map(|file| file.digest).collect::<Vec<_>>(),
        });
        if !part.is_empty() {
            key["part"] = part.into();
        }
        *blake3::hash(&identity_bytes(&key)).as_bytes()
    }

    /// Looks into the data of `files`.
    pub(crate) fn inference<'f>(&'f self, files: &'f [FilePin]) -> Result<Inference<'f>, PinError> {
        self.pinner.counters.schemas_inferred.fetch_add(1, Ordering::Relaxed);
        Ok(Inference {
            dataset: self.dataset,
            source_format: self.format,
            options: self.options,
            state: self.ctx.state(),
            store: self.store(files)?,
            files,
        })
    }

    fn store(&self, files: &[FilePin]) -> Result<Arc<dyn ObjectStore>, PinError> {
        let store = self.ctx.runtime_env().object_store(ObjectStoreUrl::local_filesystem());
        let watched = store.and_then(|store| Ok(Watch::over(files)?.store(store)));
        watched.map_err(|source| PinError::Store { dataset: self.dataset.to_owned(), source: Box::new(source) })
    }

    async fn first_changed(&self, files: &[FilePin]) -> Option<PathBuf> {
        let (files, counters) = (files.to_vec(), Arc::clone(&self.pinner.counters));
        blocking(move || files.into_iter().find(|file| file.recheck(&counters).is_err()).map(|file| file.path)).await
    }
}

/// A file with its digest, and whether that was `known`.
async fn pin_file(
    file: Located,
    stamp: FileStamp,
    known: Option<ContentDigest>,
    now_unix_ns: i128,
    counters: Arc<Counters>,
) -> Result<(FilePin, bool), HashError> {
    let location = store_path(&file.path)?;
    let (digest, stamp) = match known {
        Some(digest) => (digest, stamp),
        None => {
            let path = file.path.clone();
            blocking(move || counters.hash_file(&path)).await?
        }
    };
    let pin = FilePin {
        path: file.path,
        location,
        label: file.label,
        stamp,
        digest,
        young: stamp.is_young(now_unix_ns),
        strayed: Strayed::default(),
        partition_texts: file.partition_values,
        partition_values: Vec::new(),
    };
    Ok((pin, known.is_some()))
}

/// Runs what blocks off the async threads, as part of the same run.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(carry_fn(work)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is never aborted, except unstarted when the runtime shuts down; then nobody polls this.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use alluvium_telemetry::{RunContext, RunSpan};

    use super::*;

    #[tokio::test]
    async fn blocking_work_belongs_to_the_run() {
        let seam = Seam::system();
        let run = RunSpan::begin(&seam, seam.run_id(), None);
        assert_eq!(run.scope(blocking(RunContext::current)).await.as_ref(), Some(run.context()));
    }
}
