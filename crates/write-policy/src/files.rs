//! Data files, staged and committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use alluvium_contracts::ContentDigest;
use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::{Action, Add};

use crate::policy::ResolvedWritePolicy;
use crate::tip::AppendTip;

/// What a commit says of itself beside the engine's own keys. Opaque here.
pub type CommitMetadata = BTreeMap<String, serde_json::Value>;

/// The tag of an add action that holds the digest of its file, as `b3:` and hexadecimal digits.
pub(crate) const DIGEST_TAG: &str = "alluvium.digest";

/// The tag of an add action that holds the order of its rows, as JSON.
pub(crate) const ORDER_TAG: &str = "alluvium.order";

/// The order that one write gave to its rows, over all its files.
///
/// It stands on the files, not on the table: a file that somebody adds without it, or with that of another write, takes
/// it from the version that holds both.
pub(crate) struct Order {
    columns: Vec<String>,
    write: String,
}

impl Order {
    pub(crate) fn new(columns: Vec<String>, adds: &[Add]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for add in adds {
            // The paths hold fresh UUIDs.
            hasher.update(add.path.as_bytes());
        }
        Self { columns, write: hasher.finalize().to_hex().chars().take(32).collect() }
    }

    /// The tag of the file at `index`.
    pub(crate) fn tag(&self, index: usize) -> (String, String) {
        let value = serde_json::json!({"columns": self.columns, "write": self.write, "index": index});
        (ORDER_TAG.to_owned(), value.to_string())
    }
}

/// One data file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Relative to the table, decoded, `/`-separated.
    pub path: String,
    /// The size of the file in bytes.
    pub size_bytes: u64,
    /// The rows in it.
    pub row_count: u64,
    /// The value of each partition column as the log writes it; `None` is NULL.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// The BLAKE3 of the file's bytes, in the log as the tag `alluvium.digest`. Always there for files that this crate
    /// wrote; other writers leave it out.
    pub digest: Option<ContentDigest>,
}

/// Data files written but not yet committed. Dropping it removes them.
#[derive(Debug)]
#[must_use = "dropping staged files removes them"]
pub struct StagedFiles {
    pub(crate) table: PathBuf,
    pub(crate) table_is_new: bool,
    pub(crate) schema: SchemaRef,
    pub(crate) policy: ResolvedWritePolicy,
    /// The conditions that every row was checked for, as SQL.
    pub(crate) checked: BTreeSet<String>,
    pub(crate) files: Vec<DataFile>,
    pub(crate) adds: Vec<Add>,
    pub(crate) settled: bool,
}

impl StagedFiles {
    /// The files: by stream, and in the order of rows within a stream and partition.
    #[must_use]
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// The rows in all files.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.files.iter().map(|file| file.row_count).sum()
    }

    /// The size of all files in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }

    pub(crate) fn actions(&self) -> impl Iterator<Item = Action> {
        self.adds.iter().cloned().map(Action::Add)
    }

    /// The files now belong to the table.
    pub(crate) fn committed(mut self, version: u64) -> Committed {
        Committed { version, files: self.settle() }
    }

    /// No file.
    pub(crate) fn none(table: &Path, schema: &SchemaRef, policy: &ResolvedWritePolicy) -> Self {
        Self {
            table: table.to_path_buf(),
            table_is_new: false,
            schema: SchemaRef::clone(schema),
            policy: policy.clone(),
            checked: BTreeSet::new(),
            files: Vec::new(),
            adds: Vec::new(),
            settled: true,
        }
    }

    /// The files now belong to the table: they are the caller's to name.
    pub(crate) fn settle(&mut self) -> Vec<DataFile> {
        self.settled = true;
        std::mem::take(&mut self.files)
    }

    /// Leaves the files where they are: whether the table refers to them is not known, or not yet.
    pub(crate) fn abandon(&mut self) {
        self.settled = true;
    }

    /// Takes the files back: the table refers to none of them.
    pub(crate) fn reclaim(&mut self) {
        self.settled = false;
    }
}

impl Drop for StagedFiles {
    fn drop(&mut self) {
        if !self.settled {
            remove(&self.table, self.table_is_new, self.files.iter().map(|file| file.path.as_str()));
        }
    }
}

/// Removes files that no commit refers to, and the directories that were made for them. What cannot be removed is an
/// orphan that nobody reads: it is not worth failing over.
pub(crate) fn remove<'a>(table: &Path, table_is_new: bool, paths: impl Iterator<Item = &'a str>) {
    for path in paths {
        let file = table.join(path);
        if let Err(error) = fs::remove_file(&file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %file.display(), %error, "an uncommitted data file could not be removed");
        }
        // A directory that still holds something refuses to go, which is what we want.
        for parent in file.ancestors().skip(1).take_while(|parent| *parent != table) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
    }
    if table_is_new {
        let _ = fs::remove_dir(table);
    }
}

/// A commit that landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The version that it made.
    pub version: u64,
    /// The files that it added.
    pub files: Vec<DataFile>,
}

/// How a replacement ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a conflict means that nothing was committed"]
pub enum CommitOutcome {
    /// It landed.
    Committed(Committed),
    /// Somebody else committed first. Nothing was changed and the staged files are gone: look at the table, and decide anew.
    Conflict {
        /// The newest version of the table.
        head: u64,
    },
}

/// How an append ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an append that was applied before adds no files"]
pub enum AppendOutcome {
    /// It landed.
    Committed(Committed),
    /// The table has this transaction, or a later one of the same application, already. Nothing was written.
    AlreadyApplied,
}

/// An append, and what the next one may follow it by.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "an append that was applied before adds no files"]
pub struct Appended {
    /// How it ended.
    pub outcome: AppendOutcome,
    /// The table as it was left. `None`: it takes more than writing its rows, or somebody else has committed to it meanwhile.
    pub tip: Option<AppendTip>,
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a write that did not land is no error"]
pub enum TableWriteOutcome {
    /// It landed.
    Committed(Committed),
    /// The table has this application transaction, or a later one, already. Nothing was written.
    AlreadyApplied,
    /// The mode is `ignore`, and there is a table.
    Ignored {
        /// Its newest version.
        head: u64,
    },
    /// The table is not at the expected version. Nothing was changed and the files are gone: look at it, decide anew.
    Conflict {
        /// Its newest version; none when there is no table.
        head: Option<u64>,
    },
}
