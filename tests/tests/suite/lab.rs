//! A project in a temporary directory, and the ways in which tests handle it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alluvium_contracts::{CacheKey, PlanDocument, ProfileSpec, RunDocument};
use alluvium_profile::{RuntimeProfile, SessionFactory};
use alluvium_runs::{Observer, OpenOptions, Pipeline, Project, RunError, RunOptions, Silent};
use alluvium_telemetry::{Clock, Seam};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt as _;
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

/// A project that is thrown away with the test.
pub struct Lab {
    dir: TempDir,
}

impl Lab {
    pub fn new(toml: &str) -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        lab.write("alluvium.toml", toml);
        lab
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "`{from}` is not in {name}");
        self.write(name, &text.replace(from, to));
    }

    /// A Parquet file of (k Int64, s Utf8).
    pub fn parquet(&self, name: &str, rows: &[(i64, &str)]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_parquet(&path, rows);
    }

    /// The pipeline of a directory, with a clock that stands an hour ahead: its files are old enough to be trusted.
    pub fn open_at(dir: &Path) -> Pipeline {
        Self::open_with(dir, OpenOptions::default())
    }

    pub fn open_with(dir: &Path, options: OpenOptions) -> Pipeline {
        let options = OpenOptions { seam: options.seam.or_else(|| Some(later())), ..options };
        Pipeline::open(Project::load(dir).unwrap(), options).unwrap()
    }

    pub fn open(&self) -> Pipeline {
        Self::open_at(self.dir())
    }

    pub async fn run(&self) -> RunDocument {
        run(&self.open()).await
    }

    pub async fn plan(&self) -> PlanDocument {
        self.open().plan(&[]).await.unwrap()
    }

    pub async fn sql(&self, sql: &str) -> String {
        answer(&self.open(), sql).await
    }

    /// The key of every view.
    pub async fn keys(&self) -> BTreeMap<String, Option<CacheKey>> {
        keys_at(self.dir()).await
    }
}

pub async fn keys_at(dir: &Path) -> BTreeMap<String, Option<CacheKey>> {
    let plan = Lab::open_at(dir).plan(&[]).await.unwrap();
    plan.views.into_iter().map(|view| (view.name, view.identity.cache_key)).collect()
}

pub async fn run(pipeline: &Pipeline) -> RunDocument {
    try_run(pipeline, RunOptions::default(), &Silent).await.unwrap()
}

pub async fn try_run(
    pipeline: &Pipeline,
    options: RunOptions,
    observer: &dyn Observer,
) -> Result<RunDocument, RunError> {
    let (_stop, cancel) = tokio::sync::watch::channel(false);
    pipeline.run(options, observer, cancel).await
}

pub async fn batches(pipeline: &Pipeline, sql: &str) -> Vec<RecordBatch> {
    pipeline.sql(sql).await.unwrap().batches.try_collect().await.unwrap()
}

pub async fn answer(pipeline: &Pipeline, sql: &str) -> String {
    pretty_format_batches(&batches(pipeline, sql).await).unwrap().to_string()
}

/// `view: result` lines, in the document's order.
pub fn results(document: &RunDocument) -> Vec<String> {
    document.views.iter().map(|view| format!("{}: {}", view.name, view.result)).collect()
}

pub fn write_parquet(path: &Path, rows: &[(i64, &str)]) {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    let batch = RecordBatch::try_from_iter([("k", keys), ("s", texts)]).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn sessions() -> SessionFactory {
    SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default()))
}

/// A seam whose wall clock stands an hour ahead.
pub fn later() -> Seam {
    Seam::system().with_clock(Arc::new(Later))
}

#[derive(Debug)]
pub struct Later;

#[expect(clippy::disallowed_methods, reason = "a clock of the test's own")]
impl Clock for Later {
    fn since_epoch(&self) -> Duration {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + Duration::from_secs(3600)
    }

    fn monotonic(&self) -> Duration {
        static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
        START.elapsed()
    }
}
