//! A Delta table pinned to a version. The engine's own provider reads it.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_contracts::{ContentDigest, DeltaScanOptions};
use alluvium_write_policy::GuardedScan;
use arrow::datatypes::SchemaRef;
use chrono::{DateTime, FixedOffset};
use datafusion::catalog::TableProvider;
use deltalake_core::kernel::transaction::{PROTOCOL, TransactionError};
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use url::Url;

use crate::changes::is_on;
use crate::delta_scan::DeltaProvider;
use crate::schema_text::{identity_bytes, schema_text};
use crate::spec::{At, DeltaRead};
use crate::{Change, FileStamp, PinError, ShapeError, hash_file};

/// What a version of a table is known by.
#[derive(Debug, Clone)]
pub(crate) struct DeltaPin {
    /// Without symbolic links.
    pub(crate) root: PathBuf,
    pub(crate) table_id: String,
    pub(crate) version: u64,
    /// The digest of the version's commit file, since a copied table keeps its id; of the active files, once the log
    /// has expired.
    pub(crate) content: Content,
    /// The digest of the active files: two histories may end in one commit.
    pub(crate) active_files: ContentDigest,
    /// Device and inode of the log's directory: a table that was dropped and made anew has another.
    log_directory: (u64, u64),
    pub(crate) partition_columns: Vec<String>,
    pub(crate) file_count: usize,
    pub(crate) size_bytes: u64,
    scan: DeltaScanOptions,
    scan_schema: Option<SchemaRef>,
    /// Loaded at the version.
    pub(crate) table: DeltaTable,
    pub(crate) provider: Arc<dyn TableProvider>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Commit(ContentDigest),
    ActiveFiles(ContentDigest),
}

impl Content {
    /// The component's name and value.
    pub(crate) fn component(self) -> (&'static str, String) {
        match self {
            Self::Commit(digest) => ("delta commit", digest.to_string()),
            Self::ActiveFiles(digest) => ("delta active files", digest.to_string()),
        }
    }
}

/// Opens the table in the state that is asked for.
pub(crate) async fn pin(dataset: &str, read: &DeltaRead) -> Result<DeltaPin, PinError> {
    let path = read.path.as_path();
    let not_a_table = |source: Option<io::Error>| PinError::NotADeltaTable {
        dataset: dataset.to_owned(),
        path: path.to_path_buf(),
        source,
    };
    let root = path.canonicalize().map_err(|source| not_a_table(Some(source)))?;
    let log_directory = log_directory(&root).map_err(|source| not_a_table(Some(source)))?;
    // Its log would be read here, and its rows from where the decoded name leads.
    if root.as_os_str().as_encoded_bytes().iter().any(|byte| b"%\\".contains(byte)) {
        return Err(PinError::DeltaPath { dataset: dataset.to_owned(), path: root });
    }
    let url = Url::from_directory_path(&root).map_err(|()| not_a_table(None))?;
    let version = match read.at {
        At::Latest => None,
        At::Version(version) => Some(version),
        At::Time(time) => {
            // As of its newest version: those before it was said are told apart by a time that only commits know.
            let failed = Failure { dataset, path, version: None };
            let builder = DeltaTableBuilder::from_url(url.clone()).map_err(|error| failed.of(error))?;
            if keeps_commit_times(&builder.load().await.map_err(|error| failed.of(error))?) {
                return Err(PinError::InCommitTimestamps { dataset: dataset.to_owned(), path: path.to_path_buf() });
            }
            Some(version_at(dataset, path, &root, time)?)
        }
    };
    let failed = Failure { dataset, path, version };

    let builder = DeltaTableBuilder::from_url(url).map_err(|error| failed.of(error))?;
    let builder = match version {
        Some(version) => builder.with_version(version),
        None => builder,
    };
    let table = match builder.load().await {
        Ok(table) => table,
        Err(error) => {
            return Err(missing_version(dataset, path, &root, version).await.unwrap_or_else(|| failed.of(error)));
        }
    };
    let state = table.snapshot().map_err(|error| failed.of(error))?;
    // A version that is not there might be taken as the latest.
    if let Some(wanted) = version.filter(|wanted| *wanted != state.version()) {
        return Err(PinError::DeltaVersion {
            dataset: dataset.to_owned(),
            path: path.to_path_buf(),
            version: wanted,
            latest: Some(state.version()),
        });
    }
    PROTOCOL.can_read_from_protocol(state.protocol()).map_err(|source| failed.of(source.into()))?;
    // The engine would notice when it scans, and not say what is wrong.
    let columns = state.snapshot().arrow_schema();
    let declared = read.scan_schema.iter().flat_map(|schema| schema.fields().iter());
    if let Some(foreign) = declared.into_iter().find(|field| columns.field_with_name(field.name()).is_err()) {
        let found = columns.fields().iter().map(|field| field.name().clone()).collect();
        let source = ShapeError::ScanColumn { column: foreign.name().clone(), path: path.to_path_buf(), found };
        return Err(PinError::Shape { dataset: dataset.to_owned(), source });
    }
    let provider = DeltaProvider::new(&table, read)
        .map_err(|error| failed.of(DeltaTableError::GenericError { source: Box::new(error) }))?;

    // The engine would have two columns of one name.
    let mut names = HashSet::new();
    if let Some(twice) = provider.schema().fields().iter().find(|field| !names.insert(field.name().clone())) {
        let source = ShapeError::Collision { column: twice.name().clone(), path: path.to_path_buf() };
        return Err(PinError::Shape { dataset: dataset.to_owned(), source });
    }
    let (mut file_count, mut size_bytes) = (0, 0);
    for file in state.snapshot().try_log_data().map_err(|error| failed.of(error))?.iter() {
        file_count += 1;
        size_bytes += u64::try_from(file.size()).unwrap_or(0);
    }
    let active_files = active_files(&table).map_err(|error| failed.of(error))?;
    let content = match hash_file(commit_path(&root, state.version())) {
        Ok((digest, _)) => Content::Commit(digest),
        Err(crate::HashError::NotFound { .. }) => Content::ActiveFiles(active_files),
        Err(source) => {
            return Err(PinError::Hash { dataset: dataset.to_owned(), source });
        }
    };
    Ok(DeltaPin {
        table_id: state.metadata().id().to_owned(),
        version: state.version(),
        content,
        active_files,
        log_directory,
        partition_columns: state.metadata().partition_columns().to_vec(),
        file_count,
        size_bytes,
        scan: read.scan.clone(),
        scan_schema: read.scan_schema.clone(),
        provider: Arc::new(GuardedScan::new(Arc::new(provider))),
        table,
        root,
    })
}

impl DeltaPin {
    /// The scan options by name, but for those that are as they are by default.
    pub(crate) fn options(&self) -> BTreeMap<&'static str, String> {
        let (scan, default) = (&self.scan, DeltaScanOptions::default());
        let mut options = BTreeMap::new();
        if let Some(column) = &scan.file_column_name {
            options.insert("scan.file_column_name", column.clone());
            // Its values say where the table lies; so for once that decides over rows.
            options.insert("scan.file_column_root", self.root.display().to_string());
        }
        if scan.enable_parquet_pushdown != default.enable_parquet_pushdown {
            options.insert("scan.enable_parquet_pushdown", scan.enable_parquet_pushdown.to_string());
        }
        if scan.wrap_partition_values != default.wrap_partition_values {
            options.insert("scan.wrap_partition_values", scan.wrap_partition_values.to_string());
        }
        options.extend(scan.schema_force_view_types.map(|views| ("scan.schema_force_view_types", views.to_string())));
        options.extend(self.scan_schema.as_ref().map(|schema| ("scan.schema", schema_text(schema))));
        options
    }

    /// What has changed since it was pinned. Data files are immutable by Delta's protocol; one that is gone fails the
    /// scan.
    pub(crate) fn recheck(&self) -> Result<(), (PathBuf, Change)> {
        let log = self.root.join("_delta_log");
        match log_directory(&self.root) {
            Ok(found) if found == self.log_directory => {}
            Ok(_) => return Err((log, Change::Replaced)),
            Err(source) => return Err((log, Change::Gone { source })),
        }
        let Content::Commit(was) = self.content else {
            return Ok(());
        };
        let commit = commit_path(&self.root, self.version);
        match hash_file(&commit) {
            Ok((is, _)) if is == was => Ok(()),
            Ok((is, _)) => Err((commit, Change::Content { was, is })),
            // Expired meanwhile: the log is still the same one, and the snapshot is in memory.
            Err(crate::HashError::NotFound { .. }) => Ok(()),
            Err(source) => Err((commit, Change::Unreadable { source })),
        }
    }
}

/// Whether the commits of the table say when they were made. Then the times of their files do not.
pub(crate) fn keeps_commit_times(table: &DeltaTable) -> bool {
    let configuration = table.snapshot().map(|state| state.metadata().configuration()).ok();
    is_on(
        configuration.and_then(|configuration| configuration.get("delta.enableInCommitTimestamps")).map(String::as_str),
    )
}

/// The latest version that was committed by `time`, as the engine tells the times of commits: by their files.
fn version_at(dataset: &str, path: &Path, root: &Path, time: DateTime<FixedOffset>) -> Result<u64, PinError> {
    let listed = commit_times(&root.join("_delta_log")).map_err(|source| PinError::NotADeltaTable {
        dataset: dataset.to_owned(),
        path: path.to_path_buf(),
        source: Some(source),
    })?;
    let wanted = i128::from(time.timestamp()) * 1_000_000_000 + i128::from(time.timestamp_subsec_nanos());
    let mut found = None;
    // Clocks may run backwards; versions do not.
    let mut latest = i128::MIN;
    for (version, modified_ns) in &listed {
        latest = latest.max(*modified_ns);
        if latest <= wanted {
            found = Some(*version);
        }
    }
    found.ok_or_else(|| PinError::DeltaTime {
        dataset: dataset.to_owned(),
        path: path.to_path_buf(),
        timestamp: time.to_rfc3339(),
        earliest: listed
            .first_key_value()
            .map_or_else(|| "no time, its log having no commits".to_owned(), |(_, modified_ns)| rfc3339(*modified_ns)),
    })
}

fn rfc3339(unix_ns: i128) -> String {
    let time = i64::try_from(unix_ns).ok().map(DateTime::from_timestamp_nanos);
    time.map_or_else(|| format!("{unix_ns} ns"), |time| time.to_rfc3339())
}

/// The versions whose commits are in the log, with the modification time of each.
pub(crate) fn commit_times(log: &Path) -> io::Result<BTreeMap<u64, i128>> {
    let mut times = BTreeMap::new();
    for entry in std::fs::read_dir(log)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
        let version = name.filter(|name| name.len() == 20).and_then(|name| name.parse().ok());
        if let Some(version) = version {
            times.insert(version, FileStamp::of(&path)?.modified_ns);
        }
    }
    Ok(times)
}

pub(crate) fn commit_path(root: &Path, version: u64) -> PathBuf {
    root.join("_delta_log").join(format!("{version:020}.json"))
}

fn log_directory(root: &Path) -> io::Result<(u64, u64)> {
    let log = root.join("_delta_log");
    let stamp = FileStamp::of(&log)?;
    if log.is_dir() { Ok((stamp.dev, stamp.inode)) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// The digest of everything the log says of the active files that decides which rows there are.
fn active_files(table: &DeltaTable) -> Result<ContentDigest, DeltaTableError> {
    let mut files: Vec<serde_json::Value> = Vec::new();
    for file in table.snapshot()?.snapshot().try_log_data()?.iter() {
        let partition_values: BTreeMap<_, _> = file.partition_values_map().into_iter().collect();
        // Counts as text: canonical JSON has no integers of this size.
        files.push(serde_json::json!({
            "path": file.path(),
            "size": file.size().to_string(),
            "modification_time": file.modification_time().to_string(),
            "partition_values": partition_values,
            "deletion_vector": file.deletion_vector_descriptor().map(|vector| serde_json::json!({
                "storage_type": format!("{:?}", vector.storage_type),
                "path_or_inline_dv": vector.path_or_inline_dv,
                "offset": vector.offset,
                "size_in_bytes": vector.size_in_bytes,
                "cardinality": vector.cardinality.to_string(),
            })),
        }));
    }
    let mut lines: Vec<_> = files.iter().map(identity_bytes).collect();
    lines.sort();
    // JSON text holds no raw line break.
    Ok(ContentDigest::of(&lines.join(&b'\n')))
}

/// The error for a version beyond the latest, which the engine reports as damage.
async fn missing_version(dataset: &str, path: &Path, root: &Path, version: Option<u64>) -> Option<PinError> {
    let version = version?;
    let table = DeltaTableBuilder::from_url(Url::from_directory_path(root).ok()?).ok()?.build().ok()?;
    let latest = table.get_latest_version().await.ok()?;
    (version > latest).then(|| PinError::DeltaVersion {
        dataset: dataset.to_owned(),
        path: path.to_path_buf(),
        version,
        latest: Some(latest),
    })
}

/// A table that cannot be pinned. Not a closure: one that lives while something is awaited keeps pinning from being `Send`.
struct Failure<'a> {
    dataset: &'a str,
    path: &'a Path,
    version: Option<u64>,
}

impl Failure<'_> {
    /// The engine's error, with what the user can do about it.
    fn of(&self, source: DeltaTableError) -> PinError {
        failure(self.dataset, self.path, self.version, source)
    }
}

fn failure(dataset: &str, path: &Path, version: Option<u64>, source: DeltaTableError) -> PinError {
    let (dataset, path) = (dataset.to_owned(), path.to_path_buf());
    match source {
        DeltaTableError::Transaction { source: TransactionError::UnsupportedTableFeatures(features) } => {
            let features = features.iter().map(ToString::to_string).collect();
            PinError::DeltaFeatures { dataset, path, features }
        }
        DeltaTableError::InvalidVersion(_) => match version {
            Some(version) => PinError::DeltaVersion { dataset, path, version, latest: None },
            None => PinError::NotADeltaTable { dataset, path, source: None },
        },
        DeltaTableError::NotATable(_) => PinError::NotADeltaTable { dataset, path, source: None },
        source => PinError::Delta { dataset, path, version, source: Box::new(source) },
    }
}
