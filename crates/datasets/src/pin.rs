//! Pinning: the exact state of an input, and the way it is read, as one digest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium_contracts::{ContentDigest, SourceFormat};
use alluvium_disk_kv_cache::StoreError;
use alluvium_telemetry::Seam;
use arrow::datatypes::SchemaRef;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;

use crate::infer::Inference;
use crate::locate::{locate, store_path};
use crate::options::ReadOptions;
use crate::schema_text::identity_bytes;
use crate::spec::Read;
use crate::stamp::regular;
use crate::watched::{Strayed, Watch};
use crate::{DatasetSpec, FileStamp, HashError, PinError, PinMemo, PinnedDataset, delta, hash_file};

/// Raised when the same files and options give another schema, other than by a new engine.
const INFERENCE_EPOCH: u32 = 1;

/// Pins datasets; remembers digests and inferred schemas. Cloning is cheap, and clones share their counters.
#[derive(Debug, Clone)]
pub struct Pinner {
    memo: Option<PinMemo>,
    seam: Seam,
    counters: Arc<Counters>,
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
    /// Times the memo could not be read or written.
    pub memo_failures: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    files_hashed: AtomicU64,
    bytes_hashed: AtomicU64,
    schemas_inferred: AtomicU64,
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
}

impl Pinner {
    /// A pinner that remembers in `memo`, or not at all, and takes the time from `seam`.
    #[must_use]
    pub fn new(memo: Option<PinMemo>, seam: Seam) -> Self {
        Self { memo, seam, counters: Arc::default() }
    }

    /// Pins `spec` as it is now. Nothing is registered with `ctx`: it lends its object store for local files, through
    /// which data is read, and its settings.
    ///
    /// Files whose stamps are known and old enough are not read again; nor is any data, when their schema is known too.
    ///
    /// # Errors
    /// As the variants of [`PinError`] say.
    pub async fn pin(&self, ctx: &SessionContext, spec: &DatasetSpec) -> Result<PinnedDataset, PinError> {
        match &spec.read {
            Read::Files { format, options, patterns, base_dir } => {
                let files = FileSource { pinner: self, ctx, dataset: spec.name(), format: *format, options };
                let (schema, pins) = files.pin(patterns, base_dir).await?;
                Ok(PinnedDataset::of_files(
                    spec.name(),
                    *format,
                    options.clone(),
                    schema,
                    pins,
                    Arc::clone(&self.counters),
                ))
            }
            Read::Delta { path, version } => {
                let pin = delta::pin(spec.name(), path, *version).await?;
                Ok(PinnedDataset::of_delta(spec.name(), pin))
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
            memo_failures: read(&self.counters.memo_failures),
        }
    }

    /// Asks the memo, if there is one, off the async threads. Its failures are not the caller's.
    async fn memo<T: Send + 'static>(
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

/// Pins the files of one source.
struct FileSource<'a> {
    pinner: &'a Pinner,
    ctx: &'a SessionContext,
    dataset: &'a str,
    format: SourceFormat,
    options: &'a ReadOptions,
}

impl FileSource<'_> {
    async fn pin(&self, patterns: &[PathBuf], base_dir: &Path) -> Result<(SchemaRef, Vec<FilePin>), PinError> {
        let mut changed = None;
        for _ in 0..2 {
            let files = self.files(patterns, base_dir).await?;
            let key = self.schema_key(&files);
            let known = self.pinner.memo(move |memo| memo.schema(&key)).await.flatten();
            if let Some(schema) = known {
                return Ok((schema, files));
            }
            let inferred = self.infer(&files).await;
            // The bytes that were looked into have to be those that were hashed, or the error is about others too.
            changed = self.first_changed(&files).await;
            if changed.is_some() {
                continue;
            }
            let schema = inferred?;
            if files.iter().all(|file| !file.young) {
                let schema = Arc::clone(&schema);
                self.pinner.memo(move |memo| memo.remember_schema(&key, &schema)).await;
            }
            return Ok((schema, files));
        }
        Err(PinError::Changing { dataset: self.dataset.to_owned(), path: changed.unwrap_or_default() })
    }

    /// The files with their digests, from the memo where their stamps can be trusted.
    async fn files(&self, patterns: &[PathBuf], base_dir: &Path) -> Result<Vec<FilePin>, PinError> {
        let failed = |source| PinError::Hash { dataset: self.dataset.to_owned(), source };
        // Before the first stamp is taken: what is old by this time cannot be written to any more with its stamp kept.
        let now = self.pinner.seam.unix_ns();
        let (patterns, base_dir) = (patterns.to_vec(), base_dir.to_path_buf());
        let located = blocking(move || locate(&patterns, &base_dir))
            .await
            .map_err(|source| PinError::Locate { dataset: self.dataset.to_owned(), source })?;
        let (located, stamps) = blocking(move || {
            let stamps: Result<Vec<_>, _> = located.iter().map(|file| regular(&file.path)).collect();
            stamps.map(|stamps| (located, stamps))
        })
        .await
        .map_err(failed)?;

        let asked = stamps.clone();
        let known = self.pinner.memo(move |memo| memo.digests(&asked)).await;
        let known = known.unwrap_or_else(|| vec![None; stamps.len()]);
        let concurrency = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = located.into_iter().zip(stamps).zip(known);
        let pinned: Vec<(FilePin, bool)> = futures::stream::iter(jobs)
            .map(|((file, stamp), known)| async move {
                let location = store_path(&file.path)?;
                let known = known.filter(|_| !stamp.is_young(now));
                let (digest, stamp) = match known {
                    Some(digest) => (digest, stamp),
                    None => {
                        let (counters, path) = (Arc::clone(&self.pinner.counters), file.path.clone());
                        blocking(move || counters.hash_file(&path)).await?
                    }
                };
                let young = stamp.is_young(now);
                let strayed = Strayed::default();
                let file = FilePin { path: file.path, location, label: file.label, stamp, digest, young, strayed };
                Ok((file, known.is_some()))
            })
            .buffered(concurrency)
            .try_collect()
            .await
            .map_err(failed)?;

        let learned = pinned.iter().filter(|(file, known)| !known && !file.young);
        let learned: Vec<_> = learned.map(|(file, _)| (file.stamp, file.digest)).collect();
        if !learned.is_empty() {
            self.pinner.memo(move |memo| memo.remember_digests(&learned)).await;
        }
        Ok(pinned.into_iter().map(|(file, _)| file).collect())
    }

    /// The order of the files counts: it decides the order of columns, and which records are sampled.
    fn schema_key(&self, files: &[FilePin]) -> [u8; 32] {
        let key = serde_json::json!({
            "epoch": INFERENCE_EPOCH,
            "engine": datafusion::DATAFUSION_VERSION,
            "format": self.format.as_str(),
            "options": self.options.resolved(),
            "files": files.iter().map(|file| file.digest).collect::<Vec<_>>(),
        });
        *blake3::hash(&identity_bytes(&key)).as_bytes()
    }

    async fn infer(&self, files: &[FilePin]) -> Result<SchemaRef, PinError> {
        self.pinner.counters.schemas_inferred.fetch_add(1, Ordering::Relaxed);
        let inference = Inference {
            dataset: self.dataset,
            source_format: self.format,
            options: self.options,
            state: &self.ctx.state(),
            store: self.store(files)?,
            files,
        };
        inference.infer().await
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

/// Runs what blocks off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is never aborted, except unstarted when the runtime shuts down; then nobody polls this.
            Err(_) => std::future::pending().await,
        },
    }
}
