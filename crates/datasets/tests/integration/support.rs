//! A project directory, a session that counts what is read, and a clock.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_contracts::{ColumnSpec, DatasetFormat, DatasetSpec, SourceFormat, SourcePath, SourceSpec};
use alluvium_datasets::{Dataset, PinError, PinMemo, PinnedDataset, Pinner};
use alluvium_disk_kv_cache::{Settings, Store};
use alluvium_telemetry::{Clock, Ids, Seam};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::util::pretty::pretty_format_batches_with_schema;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::TableProvider;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use parquet::arrow::ArrowWriter;
use url::Url;

/// Far enough ahead that every file of a test is old.
const LATER_S: i64 = 4_102_444_800;

/// A directory with a session and a pinner of its own.
pub struct Project {
    pub dir: tempfile::TempDir,
    pub ctx: SessionContext,
    pub store: Arc<CountingStore>,
    pub clock: Arc<TestClock>,
    pub pinner: Pinner,
}

impl Project {
    pub fn new() -> Self {
        Self::with(SessionConfig::new().with_target_partitions(2))
    }

    pub fn with(config: SessionConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let (ctx, store) = session(config);
        let clock = Arc::new(TestClock::default());
        let pinner = Pinner::new(Some(memo(&dir.path().join("kv"))), seam(&clock));
        Self { dir, ctx, store, clock, pinner }
    }

    /// A new process: nothing is left but the files and the memo.
    pub fn restart(&mut self) {
        let config = self.ctx.copied_config();
        (self.ctx, self.store) = session(config);
        self.pinner = Pinner::new(Some(memo(&self.dir.path().join("kv"))), seam(&self.clock));
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.data().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub async fn try_pin(&self, source: &SourceSpec) -> Result<PinnedDataset, PinError> {
        let spec = Dataset::of_source("t", source, &self.data()).unwrap();
        self.pinner.pin(&self.ctx, &spec).await
    }

    pub async fn pin(&self, source: &SourceSpec) -> PinnedDataset {
        self.try_pin(source).await.unwrap()
    }

    pub async fn try_pin_spec(&self, spec: &DatasetSpec) -> Result<PinnedDataset, PinError> {
        let dataset = Dataset::resolve("t", spec, &self.data()).unwrap();
        self.pinner.pin(&self.ctx, &dataset).await
    }

    pub async fn pin_spec(&self, spec: &DatasetSpec) -> PinnedDataset {
        self.try_pin_spec(spec).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Why a declared dataset cannot be pinned, with the causes.
    pub async fn unpinnable(&self, spec: &DatasetSpec) -> String {
        chain(&self.try_pin_spec(spec).await.unwrap_err())
    }

    /// The rows of `sql` over a declared dataset `t`, sorted as text.
    pub async fn answer(&self, spec: &DatasetSpec, sql: &str) -> String {
        let pinned = self.pin_spec(spec).await;
        sorted(&self.query(&pinned, sql).await)
    }

    /// The rows of `sql` over the pinned dataset `t`.
    pub async fn query(&self, pinned: &PinnedDataset, sql: &str) -> String {
        query(&self.ctx, pinned.provider().unwrap(), sql).await.unwrap()
    }

    /// All rows of a source, sorted as text.
    pub async fn rows(&self, source: &SourceSpec) -> String {
        let pinned = self.pin(source).await;
        sorted(&self.query(&pinned, "select * from t").await)
    }
}

/// The table of a query over one provider, called `t`.
pub async fn query(
    ctx: &SessionContext,
    provider: Arc<dyn TableProvider>,
    sql: &str,
) -> datafusion::error::Result<String> {
    ctx.deregister_table("t")?;
    ctx.register_table("t", provider)?;
    let frame = ctx.sql(sql).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    Ok(pretty_format_batches_with_schema(schema, &frame.collect().await?)?.to_string())
}

/// The lines of a printed table, without its frame, sorted.
pub fn sorted(table: &str) -> String {
    let mut lines: Vec<_> = table.lines().filter(|line| line.starts_with('|')).collect();
    if lines.len() > 1 {
        lines[1..].sort_unstable();
    }
    lines.join("\n")
}

/// A source of one path without options.
pub fn source(format: SourceFormat, path: &str) -> SourceSpec {
    SourceSpec::new(format, SourcePath::One(path.to_owned()))
}

/// The same with options.
pub fn with_options(format: SourceFormat, path: &str, options: &[(&str, &str)]) -> SourceSpec {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    SourceSpec { options: options.collect(), ..source(format, path) }
}

/// A dataset of one path.
pub fn dataset(format: DatasetFormat, path: &str) -> DatasetSpec {
    DatasetSpec::new(format, SourcePath::One(path.to_owned()))
}

/// Columns as `name: type`, or `name! type` without NULL.
pub fn columns(declared: &[(&str, &str)]) -> Vec<ColumnSpec> {
    let columns = declared.iter().map(|(name, data_type)| ColumnSpec {
        name: name.trim_end_matches('!').to_owned(),
        data_type: (*data_type).to_owned(),
        nullable: !name.ends_with('!'),
        metadata: [].into(),
    });
    columns.collect()
}

/// Why a dataset cannot be declared so, with the causes.
pub fn undeclarable(spec: &DatasetSpec) -> String {
    chain(&Dataset::resolve("t", spec, Path::new("/base")).unwrap_err())
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        None => error.to_string(),
        Some(source) => format!("{error}: {}", chain(source)),
    }
}

pub fn parquet(columns: &[(&str, ArrayRef)]) -> Vec<u8> {
    let columns = columns.iter().map(|(name, values)| (*name, Arc::clone(values), true));
    parquet_of(&RecordBatch::try_from_iter_with_nullable(columns).unwrap())
}

pub fn parquet_of(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

pub fn memo(dir: &Path) -> PinMemo {
    let store = Store::open(dir, &["pins", "schemas"], Settings::new()).unwrap();
    PinMemo::new(store.clone(), store)
}

fn session(config: SessionConfig) -> (SessionContext, Arc<CountingStore>) {
    let ctx = SessionContext::new_with_config(config);
    let store = Arc::new(CountingStore::default());
    ctx.register_object_store(&Url::parse("file://").unwrap(), Arc::clone(&store) as _);
    (ctx, store)
}

pub fn seam(clock: &Arc<TestClock>) -> Seam {
    Seam::new(Arc::clone(clock) as _, Arc::new(NoIds))
}

/// A clock that is moved by hand, in nanoseconds since 1970. It starts in 2100, where every file is old.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl Default for TestClock {
    fn default() -> Self {
        Self(AtomicI64::new(LATER_S * 1_000_000_000))
    }
}

impl TestClock {
    pub fn set(&self, unix_ns: i128) {
        self.0.store(unix_ns.try_into().unwrap(), Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn since_epoch(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed).try_into().unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.since_epoch()
    }
}

#[derive(Debug)]
struct NoIds;

impl Ids for NoIds {
    fn ordered(&self) -> uuid::Uuid {
        unreachable!("pinning draws no ids")
    }

    fn random(&self) -> uuid::Uuid {
        unreachable!("pinning draws no ids")
    }
}

/// The local file system, which counts what is asked of it.
#[derive(Default)]
pub struct CountingStore {
    inner: LocalFileSystem,
    reads: AtomicUsize,
    lists: AtomicUsize,
    before_read: Mutex<Option<BeforeRead>>,
}

type BeforeRead = Box<dyn FnMut() + Send>;

impl fmt::Debug for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountingStore").finish_non_exhaustive()
    }
}

impl CountingStore {
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// Has `hook` run before everything that is read.
    pub fn before_read(&self, hook: impl FnMut() + Send + 'static) {
        *self.before_read.lock().unwrap() = Some(Box::new(hook));
    }

    fn count_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(hook) = &mut *self.before_read.lock().unwrap() {
            hook();
        }
    }

    pub fn lists(&self) -> usize {
        self.lists.load(Ordering::Relaxed)
    }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counting store")
    }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, location: &StorePath, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> Result<GetResult> {
        self.count_read();
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &StorePath, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.count_read();
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<StorePath>>) -> BoxStream<'static, Result<StorePath>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Result<ListResult> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &StorePath, to: &StorePath, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
