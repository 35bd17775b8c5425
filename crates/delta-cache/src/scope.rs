//! The scopes whose entries the index knows.

use alluvium_contracts::CacheScope;
use serde::{Deserialize, Serialize};

/// A scope with entries of its own: the part of [`CacheScope`] that a cache keeps under keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryScope {
    /// Views of pipelines.
    #[default]
    View,
    /// Registered inputs.
    Dataset,
    /// Tables of a library's user.
    Artifact,
}

impl EntryScope {
    /// Every scope.
    pub(crate) const ALL: [Self; 3] = [Self::View, Self::Dataset, Self::Artifact];

    /// The scope's word, on the wire.
    #[must_use]
    pub const fn word(self) -> CacheScope {
        match self {
            Self::View => CacheScope::View,
            Self::Dataset => CacheScope::Dataset,
            Self::Artifact => CacheScope::Artifact,
        }
    }

    /// The directory of its entries in the cache root, which is the SQL schema of their tables too.
    #[must_use]
    pub const fn dir_name(self) -> &'static str {
        match self {
            Self::View => "view_cache",
            Self::Dataset => "dataset_cache",
            Self::Artifact => "runtime_artifacts",
        }
    }

    /// The table of the index that its entries are rows of.
    pub(crate) const fn table(self) -> &'static str {
        match self {
            Self::View => "entries",
            Self::Dataset => "datasets",
            Self::Artifact => "artifacts",
        }
    }

    /// The row of `latest` of a name.
    pub(crate) fn latest_row(self, name: &str) -> String {
        match self {
            Self::View => name.to_owned(),
            Self::Dataset | Self::Artifact => format!("{}:{name}", self.word()),
        }
    }
}
