//! A published entry: the row of the index that a hit is served from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alluvium_contracts::{
    ArtifactId, CacheKey, ContentDigest, EntryId, MissExplanation, PlanFingerprint, RunId, SchemaHash, Stability,
};
use alluvium_datasets::{FileStamp, HashError, hash_file};
use alluvium_telemetry::CacheSpan;
use alluvium_write_policy::footer_rows;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, is_unreadable, refused};
use crate::scope::EntryScope;
use crate::unstable_rows::UnstableRows;

/// One cached view, dataset or artifact: a Delta table of one version, and what it takes to serve it without reading its log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is an entry of.
    #[serde(default)]
    pub scope: EntryScope,
    /// The key of the rows.
    pub key: CacheKey,
    /// The view, dataset or artifact that wrote it. Another view of the same identity may be served by it.
    pub view: String,
    /// The name of its fresh directory.
    pub id: EntryId,
    /// Its directory, relative to the cache root, `/`-separated.
    pub dir: String,
    /// The token of the lease under which it was published.
    pub fencing_token: u64,
    /// The run that published it.
    pub run_id: RunId,
    /// When it was published, in milliseconds since 1970-01-01 UTC.
    pub created_unix_ms: i64,
    /// The plan fingerprint inside the key; none of what no plan computed.
    pub plan_fingerprint: Option<PlanFingerprint>,
    /// The document of that plan, as the commit names it.
    #[serde(default)]
    pub plan_artifact_id: Option<ArtifactId>,
    /// The digest of the published schema.
    pub schema_hash: SchemaHash,
    /// Whether computing it again must give the same rows.
    pub stability: Stability,
    /// How long computing and writing it took: what a hit saves.
    pub compute_ms: f64,
    /// Its rows.
    pub row_count: u64,
    /// Its data files.
    pub files: Vec<EntryFile>,
    /// The digest of its one commit, which hits do not read.
    pub log_digest: ContentDigest,
    /// The components of its identity, against which a later miss is explained.
    pub components: BTreeMap<String, String>,
    /// Which rows of unstable views it was computed from.
    #[serde(default)]
    pub unstable_rows: UnstableRows,
    /// The tags of its view when it was published.
    pub tags: Vec<String>,
    /// Why it was computed; none of an entry that was adopted.
    pub explanation: Option<MissExplanation>,
}

/// One data file, as it was when it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryFile {
    /// Relative to the table's directory, `/`-separated.
    pub path: String,
    /// Device, inode, size and times.
    pub stamp: FileStamp,
    /// The digest of its bytes.
    pub digest: ContentDigest,
    /// Its rows.
    pub row_count: u64,
    /// The values of the partition columns that its directory stands for.
    pub partition_values: BTreeMap<String, Option<String>>,
}

/// What checking a table's files found.
#[derive(Debug)]
pub(crate) enum Check {
    /// Every stamp is as recorded.
    Untouched(Vec<EntryFile>),
    /// Some stamps moved (a copy, a restored backup), but every byte is as recorded: the files with today's stamps.
    Restamped(Vec<EntryFile>),
    /// Something is missing or changed.
    Damaged(String),
}

impl Entry {
    /// Bytes in its data files.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.stamp.size_bytes).sum()
    }

    /// The digest of the commit in an entry's directory, as it is now.
    pub(crate) fn hash_log(table_dir: &Path) -> Result<ContentDigest, HashError> {
        hash_file(table_dir.join("_delta_log/00000000000000000000.json")).map(|(digest, _)| digest)
    }

    pub(crate) fn table_dir(&self, root: &Path) -> PathBuf {
        root.join(&self.dir)
    }
}

/// Compares files with their record: by stamp, and by digest where a stamp moved. `verify` starts the operation that
/// hashing is; most checks hash nothing.
pub(crate) fn check(table_dir: &Path, files: Vec<EntryFile>, verify: impl Fn() -> CacheSpan) -> Check {
    let mut hashing = Hashing { verify, begun: None, bytes: 0 };
    let checked = compare(table_dir, files, &mut hashing);
    if let Some(verifying) = hashing.begun {
        match &checked {
            Check::Untouched(_) | Check::Restamped(_) => verifying.ok(Some(hashing.bytes)),
            Check::Damaged(_) => verifying.error(DAMAGED),
        };
    }
    checked
}

/// [`check`] of files that nothing but a log speaks of: their rows are counted too.
pub(crate) fn check_logged(table_dir: &Path, files: Vec<EntryFile>, verify: impl Fn() -> CacheSpan) -> Check {
    match check(table_dir, files, verify) {
        Check::Untouched(files) | Check::Restamped(files) => match count_rows(table_dir, &files) {
            Ok(()) => Check::Restamped(files),
            // Like whatever else a check cannot read.
            Err(fault) => Check::Damaged(fault.why()),
        },
        damaged @ Check::Damaged(_) => damaged,
    }
}

/// The class of an operation that found an entry damaged.
pub(crate) const DAMAGED: &str = "damaged";

/// The hashing that a check turns out to need.
struct Hashing<V> {
    verify: V,
    begun: Option<CacheSpan>,
    bytes: u64,
}

impl<V: Fn() -> CacheSpan> Hashing<V> {
    fn hash(&mut self, path: &Path) -> Result<(ContentDigest, FileStamp), HashError> {
        let span = self.begun.get_or_insert_with(&self.verify).span().clone();
        let hashed = span.in_scope(|| hash_file(path));
        self.bytes += hashed.as_ref().map_or(0, |(_, stamp)| stamp.size_bytes);
        hashed
    }
}

/// Compares the bytes of files with their record, whatever their stamps say.
pub(crate) fn rehash(table_dir: &Path, files: &[EntryFile]) -> Result<Vec<EntryFile>, Fault> {
    let rehashed = files.iter().map(|file| {
        let (digest, stamp) = hash_file(table_dir.join(&file.path)).map_err(|error| match refused(error) {
            Ok(error) => Fault::Unreadable(error),
            Err(HashError::NotFound { .. }) => Fault::Damaged(format!("{} is missing", file.path)),
            Err(error) => Fault::Damaged(unreadable(&file.path, &error)),
        })?;
        match digest == file.digest {
            true => Ok(EntryFile { stamp, ..file.clone() }),
            false => Err(Fault::Damaged(changed(&file.path))),
        }
    });
    rehashed.collect()
}

/// Holds the rows of files against those that their commit counted: the number of rows of a table is answered from the
/// files' statistics, which no digest of a data file covers. Reads nothing. `Err` says how they differ.
pub(crate) fn add_up(files: &[EntryFile], row_count: u64) -> Result<(), String> {
    // A sum of damaged numbers may be more than one of them can say.
    let sum: u128 = files.iter().map(|file| u128::from(file.row_count)).sum();
    match sum == u128::from(row_count) {
        true => Ok(()),
        false => Err(format!("its files are said to hold {sum} rows, and its commit says {row_count}")),
    }
}

/// Holds the rows that files are said to have against their footers.
pub(crate) fn count_rows(table_dir: &Path, files: &[EntryFile]) -> Result<(), Fault> {
    files.iter().try_for_each(|file| {
        let damaged = match footer_rows(&table_dir.join(&file.path)) {
            Ok(rows) if rows == file.row_count => return Ok(()),
            Ok(rows) => format!("{} holds {rows} rows, and is said to hold {}", file.path, file.row_count),
            Err(error) if is_unreadable(&error) => return Err(Fault::Unreadable(error)),
            Err(error) => format!("the rows of {} cannot be counted: {error}", file.path),
        };
        Err(Fault::Damaged(damaged))
    })
}

fn changed(path: &str) -> String {
    format!("{path} has other bytes than it was written with")
}

fn compare<V: Fn() -> CacheSpan>(table_dir: &Path, files: Vec<EntryFile>, hashing: &mut Hashing<V>) -> Check {
    let mut today = Vec::with_capacity(files.len());
    let mut moved = false;
    for file in files {
        let path = table_dir.join(&file.path);
        match FileStamp::of(&path) {
            Ok(stamp) if stamp == file.stamp => today.push(file),
            Ok(stamp) if stamp.size_bytes != file.stamp.size_bytes => {
                return Check::Damaged(format!(
                    "{} has {} bytes instead of {}",
                    file.path, stamp.size_bytes, file.stamp.size_bytes
                ));
            }
            Ok(_) => match hashing.hash(&path) {
                Ok((digest, stamp)) if digest == file.digest => {
                    moved = true;
                    today.push(EntryFile { stamp, ..file });
                }
                Ok(_) => {
                    return Check::Damaged(changed(&file.path));
                }
                Err(error) => return Check::Damaged(unreadable(&file.path, &error)),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Check::Damaged(format!("{} is missing", file.path));
            }
            Err(error) => return Check::Damaged(format!("{} cannot be read: {error}", file.path)),
        }
    }
    if moved { Check::Restamped(today) } else { Check::Untouched(today) }
}

/// The stamp of a file that was never looked at here: no file has inode 0.
pub(crate) const fn unseen(size_bytes: u64) -> FileStamp {
    FileStamp { dev: 0, inode: 0, size_bytes, modified_ns: 0, changed_ns: 0 }
}

fn unreadable(path: &str, error: &HashError) -> String {
    format!("{path} cannot be read: {error}")
}
