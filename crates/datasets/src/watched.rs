//! Local files, watched: was what a scan opened the file that was pinned?
//!
//! A path says nothing about that. A directory above it can be exchanged and put back while the scan runs, and then every
//! stamp is as it was.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::error::Result as EngineResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::FileStamp;
use crate::pin::{FilePin, blocking};

/// Whether any opening of a pinned file met another one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strayed(Arc<AtomicBool>);

impl Strayed {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The pinned files of one scan.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    url: ObjectStoreUrl,
    files: Arc<HashMap<Path, (FileStamp, Strayed)>>,
}

impl Watch {
    /// # Errors
    /// None: the URL is one.
    pub(crate) fn over(files: &[FilePin]) -> EngineResult<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let files = files.iter().map(|file| (file.location.clone(), (file.stamp, file.strayed.clone())));
        Ok(Self {
            url: ObjectStoreUrl::parse(format!("alluvium-pinned://{number}"))?,
            files: Arc::new(files.collect()),
        })
    }

    /// `inner`, watched.
    pub(crate) fn store(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(WatchedStore { inner, files: Arc::clone(&self.files) })
    }

    /// Where a plan finds the session's store for local files, watched.
    ///
    /// # Errors
    /// The session has none.
    pub(crate) fn install(&self, env: &RuntimeEnv) -> EngineResult<ObjectStoreUrl> {
        let inner = env.object_store(ObjectStoreUrl::local_filesystem())?;
        env.register_object_store(self.url.as_ref(), self.store(inner));
        Ok(self.url.clone())
    }
}

#[derive(Debug)]
struct WatchedStore {
    inner: Arc<dyn ObjectStore>,
    files: Arc<HashMap<Path, (FileStamp, Strayed)>>,
}

impl WatchedStore {
    fn look(&self, location: &Path, opened: &File) -> io::Result<()> {
        if let Some((pinned, strayed)) = self.files.get(location) {
            let found = opened.metadata()?;
            if (found.dev(), found.ino()) != (pinned.dev, pinned.inode) {
                // Told by the recheck that follows every scan, which has the scan done again.
                strayed.0.store(true, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}

fn failed(source: io::Error) -> Error {
    Error::Generic { store: "pinned files", source: Box::new(source) }
}

impl fmt::Display for WatchedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pinned files in {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.inner.get_opts(location, options).await?;
        if let GetResultPayload::File(file, _) = &result.payload {
            self.look(location, file).map_err(failed)?;
        }
        Ok(result)
    }

    /// Read from one opening, since that is what was looked at.
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let result = self.get_opts(location, GetOptions::default()).await?;
        let GetResultPayload::File(file, _) = result.payload else {
            return self.inner.get_ranges(location, ranges).await;
        };
        let ranges = ranges.to_vec();
        let read = move || -> io::Result<Vec<Bytes>> {
            let read = |range: Range<u64>| {
                let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, range.start)?;
                Ok(Bytes::from(bytes))
            };
            ranges.into_iter().map(read).collect()
        };
        blocking(read).await.map_err(failed)
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
