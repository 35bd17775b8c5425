//! The kinds of key-value stores that a cache root has, and the tables of each.

use std::fmt;

/// What a key-value store is for. Each kind is a store of its own, so that one can be lost without the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KvKind {
    /// Which entries exist: `entries`, the `latest` one of each name, `outputs`; and who may publish them: fencing
    /// `tokens`, in the same store because a publication is one transaction over both.
    Index,
    /// Events on their way to the ledgers: `outbox`; and, in `meta`, the runs that are open.
    Queue,
    /// What was measured and need not be measured again: `pins`.
    Runtime,
    /// Inferred `schemas`.
    Schema,
}

impl KvKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Index, Self::Queue, Self::Runtime, Self::Schema];

    /// The name of its directory under `kv/`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Queue => "queue",
            Self::Runtime => "runtime",
            Self::Schema => "schema",
        }
    }

    /// The tables of its store. `meta` is in every kind; its row `root_id` binds the store to its cache root.
    #[must_use]
    pub const fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Index => &["entries", "latest", "outputs", "tokens", "meta"],
            Self::Queue => &["outbox", "meta"],
            Self::Runtime => &["pins", "meta"],
            Self::Schema => &["schemas", "meta"],
        }
    }
}

impl fmt::Display for KvKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
