//! Why a cache operation failed.

use std::path::{Path, PathBuf};

use alluvium_contracts::CacheScope;
use alluvium_datasets::{ChangedError, PinnedFilesError, RegisterError};
use alluvium_disk_kv_cache::StoreError;
use alluvium_plans::PublishError;
use alluvium_profile::RootError;
use alluvium_write_policy::{CommitError, PolicyError, ReadError, WriteError};
use arrow::datatypes::DataType;
use datafusion::common::DataFusionError;

/// An operation of the cache failed. Nothing that was published before is touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The view's query failed while it ran.
    #[error("view `{view}` failed while it ran")]
    Compute {
        /// The view.
        view: String,
        /// The engine's error.
        #[source]
        source: Box<DataFusionError>,
    },
    /// A dataset could not be read into the cache.
    #[error(
        "dataset `{dataset}` could not be read into the cache; `cache = \"none\"` reads it from its files each time"
    )]
    Dataset {
        /// The dataset.
        dataset: String,
        /// The engine's error.
        #[source]
        source: Box<DataFusionError>,
    },
    /// The rows of an artifact could not be computed.
    #[error("the rows of artifact `{artifact}` could not be computed; nothing was kept")]
    Artifact {
        /// The artifact.
        artifact: String,
        /// The engine's error.
        #[source]
        source: Box<DataFusionError>,
    },
    /// A Delta table cannot hold the columns of a dataset or an artifact.
    #[error(
        "no Delta table can hold the columns of {scope} `{name}`; rename or cast the column that is named, or keep it in memory"
    )]
    Columns {
        /// `dataset` or `artifact`.
        scope: CacheScope,
        /// Its name.
        name: String,
        /// Which column.
        #[source]
        source: PublishError,
    },
    /// A column of a dataset would not come back from a Delta table as it was.
    #[error(
        "column `{column}` of dataset `{dataset}` has type {data_type}, which does not come back from a Delta table; declare \
         another type for it, or set `cache` to \"memory\" or \"none\""
    )]
    Irreversible {
        /// The dataset.
        dataset: String,
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// A dataset could not be pinned or registered.
    #[error("dataset `{dataset}` could not be registered")]
    Register {
        /// The dataset.
        dataset: String,
        /// Why.
        #[source]
        source: Box<RegisterError>,
    },
    /// A source changed while the view was computed: nothing was published; run again.
    #[error("a source of `{name}` changed while it was read; nothing was published")]
    SourceChanged {
        /// The view or output.
        name: String,
        /// Which file, and how.
        #[source]
        source: ChangedError,
    },
    /// Other processes took the lease over because this one was past its deadline: each time that it tried to publish an entry, or
    /// while an output came to hold something else. What was computed here was dropped.
    #[error(
        "the lease on `{name}` was taken over after its deadline, and what was computed here is not published; set \
         lease_deadline_seconds in [profile] to more than `{name}` takes to compute, and run again"
    )]
    Superseded {
        /// The view or output.
        name: String,
    },
    /// Somebody else committed to an output's table.
    #[error(
        "version {version} of output `{output}` at {} was committed by somebody else; to publish over it, set foreign_commit = \"overwrite\" under [outputs.{output}]",
        path.display()
    )]
    ForeignCommit {
        /// The output.
        output: String,
        /// Its directory.
        path: PathBuf,
        /// The version at its head.
        version: u64,
    },
    /// Others committed to an output faster than we could, several times in a row.
    #[error(
        "output `{output}` was committed to by others {attempts} times while it was published; run again when they are done"
    )]
    Contended {
        /// The output.
        output: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The write policy does not fit the view's columns.
    #[error("the write policy of output `{output}` does not fit its columns")]
    Policy {
        /// The output.
        output: String,
        /// Which field, and what to do.
        #[source]
        source: PolicyError,
    },
    /// Data files could not be written.
    #[error("`{name}` could not be written to {}", path.display())]
    Write {
        /// The view or output.
        name: String,
        /// The table's directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// The commit failed.
    #[error("`{name}` could not be committed at {}", path.display())]
    Commit {
        /// The view or output.
        name: String,
        /// The table's directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: CommitError,
    },
    /// A table could not be read.
    #[error("the table at {} cannot be read", path.display())]
    Read {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The index could not be read or written.
    #[error("the cache index failed")]
    Index(#[from] StoreError),
    /// The cache root could not be used.
    #[error("the cache root failed")]
    Root(#[from] RootError),
    /// A file of the cache could not be made, locked or moved.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What was asked for is not in the cache.
    #[error("there is no entry `{wanted}`{} `alluvium cache ls` lists what there is", meant(near))]
    NoSuchEntry {
        /// A view, a key or an entry's id, as it was given.
        wanted: String,
        /// Names of what there is that are like it, the likeliest first.
        near: Vec<String>,
    },
    /// An entry would be copied to where the cache keeps its own.
    #[error("{} lies in the cache's own directory {}; choose a place outside of it", path.display(), inside.display())]
    InsideRoot {
        /// The place.
        path: PathBuf,
        /// The cache root, or that of its key-value stores.
        inside: PathBuf,
    },
    /// An entry would be copied over something else.
    #[error("{} is there already; choose another place", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// An entry is not what it was when it was written.
    #[error(
        "the entry of view `{view}` is damaged: {damage}; `alluvium cache verify` sets it aside, and a run computes it again"
    )]
    Damaged {
        /// The view.
        view: String,
        /// What is missing or changed.
        damage: String,
    },
    /// An entry's files cannot be scanned.
    #[error("the entry of `{name}` cannot be scanned")]
    Scan {
        /// The view or output.
        name: String,
        /// Why.
        #[source]
        source: PinnedFilesError,
    },
}

/// The class of a write that was overtaken.
pub(crate) const SUPERSEDED: &str = "superseded";

impl CacheError {
    /// A failure to do something with a file of the cache.
    pub(crate) fn io<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(std::io::Error) -> Self + use<'p> {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether the caller named something that cannot be, rather than the machine or the data being at fault.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        matches!(
            self,
            Self::NoSuchEntry { .. }
                | Self::InsideRoot { .. }
                | Self::Exists { .. }
                | Self::Columns { .. }
                | Self::Irreversible { .. }
        )
    }

    /// A failure to write files: of the query whose rows they were to hold, or of the writing.
    pub(crate) fn writing(name: &str, path: &Path, source: WriteError) -> Self {
        match source {
            WriteError::Stream { source } => Self::Compute { view: name.to_owned(), source },
            source => Self::Write { name: name.to_owned(), path: path.to_owned(), source },
        }
    }

    /// A word of few values, for `error.type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Compute { .. } | Self::Dataset { .. } | Self::Artifact { .. } => "compute",
            Self::SourceChanged { .. } => "source_changed",
            Self::Superseded { .. } => SUPERSEDED,
            Self::ForeignCommit { .. } => "foreign_commit",
            Self::Contended { .. } => "contended",
            Self::Policy { .. } | Self::Columns { .. } | Self::Irreversible { .. } => "policy",
            Self::Write { .. } => "write",
            Self::Commit { .. } => "commit",
            Self::Read { .. } => "read",
            Self::Index(_) => "index",
            Self::Root(_) => "root",
            Self::Io { .. } => "io",
            Self::NoSuchEntry { .. } => "no_such_entry",
            Self::InsideRoot { .. } => "inside_root",
            Self::Exists { .. } => "exists",
            Self::Register { .. } => "register",
            Self::Damaged { .. } => "damaged",
            Self::Scan { .. } => "scan",
        }
    }
}

fn meant(near: &[String]) -> String {
    match near {
        [] => ";".to_owned(),
        near => {
            format!(", did you mean {}?", near.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or "))
        }
    }
}
