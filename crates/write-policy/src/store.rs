//! The object store under the data files: it remembers what was written, and hashes it on the way.
//!
//! The engine says which files it wrote only when a writer closes in good order. After a failure we have to know them
//! all the same, and hashing the bytes as they pass spares reading every file a second time.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_contracts::ContentDigest;
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// What was written under a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) size_bytes: u64,
    pub(crate) digest: ContentDigest,
}

/// By path; `None` while a file is being written, or when that failed.
type Log = BTreeMap<String, Option<Written>>;

/// A local directory that records the files written through it.
#[derive(Debug)]
pub(crate) struct RecordingStore {
    inner: LocalFileSystem,
    log: Arc<Mutex<Log>>,
}

impl RecordingStore {
    pub(crate) fn new(inner: LocalFileSystem) -> Self {
        Self { inner, log: Arc::default() }
    }

    /// What was written in full under `path`.
    pub(crate) fn written(&self, path: &str) -> Option<Written> {
        lock(&self.log).get(path).copied().flatten()
    }

    /// Every path that was begun.
    pub(crate) fn paths(&self) -> Vec<String> {
        lock(&self.log).keys().cloned().collect()
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    // The map is whole after every statement: a panic elsewhere cannot have left it half changed.
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Digester {
    hasher: blake3::Hasher,
    size_bytes: u64,
}

impl Digester {
    fn update(&mut self, payload: &PutPayload) {
        for chunk in payload {
            self.hasher.update(chunk);
            self.size_bytes += chunk.len() as u64;
        }
    }

    fn finish(&self) -> Written {
        Written { size_bytes: self.size_bytes, digest: ContentDigest::from_bytes(self.hasher.finalize().into()) }
    }
}

impl fmt::Display for RecordingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recording({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for RecordingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        lock(&self.log).insert(location.to_string(), None);
        let mut digester = Digester::default();
        digester.update(&payload);
        let result = self.inner.put_opts(location, payload, opts).await?;
        lock(&self.log).insert(location.to_string(), Some(digester.finish()));
        Ok(result)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        lock(&self.log).insert(location.to_string(), None);
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(RecordingUpload {
            inner,
            path: location.to_string(),
            log: Arc::clone(&self.log),
            digester: Digester::default(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct RecordingUpload {
    inner: Box<dyn MultipartUpload>,
    path: String,
    log: Arc<Mutex<Log>>,
    digester: Digester,
}

#[async_trait]
impl MultipartUpload for RecordingUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // Parts are handed over in order; only the writing of them overlaps.
        self.digester.update(&data);
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await?;
        lock(&self.log).insert(self.path.clone(), Some(self.digester.finish()));
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
