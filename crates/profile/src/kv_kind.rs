//! The kinds of key-value stores that a cache root has, and the tables of each.

use std::fmt;

/// What a key-value store is for. Each kind lies in a directory of its own, so that one can be lost without the others.
///
/// Every kind has a [store](crate::CacheRoot::kv) for tables of its owner; those that [may forget](Self::is_cache) also
/// have a [cache](crate::CacheRoot::cache), which evicts as [`KvKindSettings`](crate::KvKindSettings) say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KvKind {
    /// Which entries exist: `entries` of views, `datasets`, `artifacts`, those `condemned`, the `latest` one of each name, `outputs`; and who may publish
    /// them: fencing `tokens`, in the same store because a publication is one transaction over both.
    Index,
    /// Events on their way to the ledgers: `outbox`; and, in `meta`, the runs that are open.
    Queue,
    /// What was measured and need not be measured again: `pins`.
    Runtime,
    /// What was learned of schemas: the inferred ones, `schemas`.
    Schema,
    /// Stored plans.
    Plan,
    /// What was extracted from files.
    Extract,
    /// Listings of repositories.
    RepoScan,
    /// Locks, semaphores and counters of processes that meet here.
    Coordination,
}

impl KvKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::Index,
        Self::Queue,
        Self::Runtime,
        Self::Schema,
        Self::Plan,
        Self::Extract,
        Self::RepoScan,
        Self::Coordination,
    ];

    /// The name of its directory in the key-value root, and of its table under `[profile.kv]`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Queue => "queue",
            Self::Runtime => "runtime",
            Self::Schema => "schema",
            Self::Plan => "plan",
            Self::Extract => "extract",
            Self::RepoScan => "repo_scan",
            Self::Coordination => "coordination",
        }
    }

    /// Whether what it holds can be computed again, so that it may be evicted.
    #[must_use]
    pub const fn is_cache(self) -> bool {
        match self {
            Self::Runtime | Self::Schema | Self::Plan | Self::Extract | Self::RepoScan => true,
            Self::Index | Self::Queue | Self::Coordination => false,
        }
    }

    /// The tables of its store. `meta` is in every kind; its row `root_id` binds the kind to its cache root.
    #[must_use]
    pub const fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Index => {
                &["entries", "datasets", "artifacts", "condemned", "kept", "latest", "outputs", "tokens", "meta"]
            }
            Self::Queue => &["outbox", "meta"],
            Self::Runtime => &["pins", "meta"],
            Self::Schema => &["schemas", "meta"],
            Self::Plan | Self::Extract | Self::RepoScan | Self::Coordination => &["meta"],
        }
    }
}

impl fmt::Display for KvKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
