//! Why a cache root cannot be used.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use alluvium_contracts::RootId;
use alluvium_disk_kv_cache::{CoordinationError, OpenCacheError, OpenError, StoreError};

use crate::kv_kind::KvKind;

/// Who named a cache root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RootOrigin {
    /// `--cache-root`.
    Flag,
    /// `ALLUVIUM_CACHE_ROOT`.
    Environment,
    /// `cache_output_root` under `[profile]`.
    Declared,
}

impl fmt::Display for RootOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Flag => "--cache-root",
            Self::Environment => "ALLUVIUM_CACHE_ROOT",
            Self::Declared => "`cache_output_root` of [profile]",
        })
    }
}

/// Why a cache root cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The root is named by a URL. (Only the scheme is kept: a URL may hold credentials.)
    #[error("{origin} names a {scheme}:// URL, but a cache root is a local directory for now: name a path")]
    Url {
        /// Who named it.
        origin: RootOrigin,
        /// The URL's scheme.
        scheme: String,
    },
    /// The root is named by an empty text.
    #[error("{origin} is empty: name a directory, or leave it out")]
    EmptyPath {
        /// Who named it.
        origin: RootOrigin,
    },
    /// The path, or one of its parents, is a file.
    #[error("the cache root {} is not a directory: name another with --cache-root, or move the file away", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The engine would look for the ledgers elsewhere.
    #[error(
        "the cache root cannot be {}: the engine decodes `%` and `\\` in the directories of a Delta table, and would look for \
         the ledgers elsewhere; name another with --cache-root",
        path.display()
    )]
    Unaddressable {
        /// The path, without symbolic links.
        path: PathBuf,
    },
    /// The directory cannot be made or written.
    #[error("no permission to write the cache root {}: grant it, or name another with --cache-root", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// `root.json` is there and cannot be read.
    #[error("no permission to read {}: grant it, or name another cache root with --cache-root", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// The device or a quota is exhausted.
    #[error("no room for the cache root {}: free some space there, or name another with --cache-root", path.display())]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// `root.json` is not what it should be, no key-value store tells the id, and the root was opened for reading only.
    #[error("{} is damaged ({reason}): `alluvium run` sets it aside and starts the cache anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer version made the root.
    #[error(
        "{} has format version {found}, and this Alluvium knows {supported}: use the newer one, or another cache root",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u64,
        /// The newest version known here.
        supported: u64,
    },
    /// The root is written through another key-value root. Two of them would not see each other's entries and locks.
    #[error(
        "{} says that the cache root is written through the key-value root {}, not {}: set `kv_root` of [profile] to the \
         first, or use another cache root",
        path.display(), recorded.display(), requested.display()
    )]
    OtherKvRoot {
        /// `root.json`.
        path: PathBuf,
        /// The key-value root it is written through.
        recorded: PathBuf,
        /// The one that was asked for.
        requested: PathBuf,
    },
    /// A cache was asked for of a kind that never forgets.
    #[error("the {kind} store never forgets, so it has no cache: use its tables, or a kind that may forget")]
    NotACache {
        /// The kind.
        kind: KvKind,
    },
    /// The root was opened for reading only, and this writes.
    #[error("the cache root {} was opened for reading only, and the {kind} kind is also written: open it for writing", path.display())]
    ReadOnly {
        /// The kind.
        kind: KvKind,
        /// The root.
        path: PathBuf,
    },
    /// The root was opened for reading only and has no such store yet.
    #[error("the cache root has no {kind} store in {}: run the pipeline once", path.display())]
    KvAbsent {
        /// The kind.
        kind: KvKind,
        /// Where it would be.
        path: PathBuf,
    },
    /// The store belongs to another cache root.
    #[error(
        "the {kind} store in {} belongs to the cache root {found}, not to {expected}: put the right root.json back, or \
         move the directory away and let it be created anew",
        path.display()
    )]
    ForeignKv {
        /// The kind.
        kind: KvKind,
        /// The store's directory.
        path: PathBuf,
        /// The root that it is bound to, as it stands there.
        found: String,
        /// The root that it lies in.
        expected: RootId,
    },
    /// A store cannot be opened.
    #[error("the {kind} store of the cache root cannot be opened")]
    KvOpen {
        /// The kind.
        kind: KvKind,
        /// What the store says, with its path and what to do.
        source: OpenError,
    },
    /// The cache of a kind cannot be opened or used.
    #[error("the {kind} cache of the cache root cannot be used")]
    KvCache {
        /// The kind.
        kind: KvKind,
        /// What the cache says, with its path and what to do.
        source: OpenCacheError,
    },
    /// The locks of the coordination kind cannot be opened.
    #[error("the locks of the cache root cannot be opened")]
    Coordination {
        /// What they say.
        source: CoordinationError,
    },
    /// A store was opened but its binding cannot be read or written.
    #[error("the {kind} store of the cache root cannot be used")]
    Kv {
        /// The kind.
        kind: KvKind,
        /// What the store says, with its path and what to do.
        source: StoreError,
    },
    /// Any other error of the operating system.
    #[error("could not {action} {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl RootError {
    /// Sorts an error of the operating system on `path`, met while writing `root`.
    pub(crate) fn io(root: &Path, action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotADirectory => Self::NotADirectory { path: root.to_owned() },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { path: root.to_owned(), source }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { path: root.to_owned(), source }
            }
            _ => Self::Io { path: path.to_owned(), action, source },
        }
    }
}
