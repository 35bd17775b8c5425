//! Tables that could not be read.

use std::path::PathBuf;

use super::EngineError;

/// A table could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no table.
    #[error("there is no Delta table at {}; name the directory that holds its `_delta_log`", .path.display())]
    NotATable {
        /// The directory.
        path: PathBuf,
    },
    /// The table has no such version.
    #[error("the table at {} has no commit of version {version}; it was never written, or the log was cleaned up", .path.display())]
    NoSuchVersion {
        /// The table.
        path: PathBuf,
        /// The version.
        version: u64,
    },
    /// A checkpoint is there without the commit that it summarises.
    #[error("the log at {} has a checkpoint of version {version} but not its commit; the log was damaged, restore it", .path.display())]
    CommitMissing {
        /// The table.
        path: PathBuf,
        /// The checkpoint's version.
        version: u64,
    },
    /// A commit file holds nothing.
    #[error("the commit {} is empty; it was cut short, restore it or discard the table", .path.display())]
    EmptyCommit {
        /// The commit file.
        path: PathBuf,
    },
    /// A commit file holds something that is no action.
    #[error("line {line} of the commit {} is no JSON action; the file was damaged, restore it or discard the table", .path.display())]
    DamagedCommit {
        /// The commit file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A file or directory cannot be read.
    #[error("{} cannot be read", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The table needs what this build cannot read.
    #[error("the table at {} needs `{feature}`, which this build cannot read; read it with the engine that wrote it, or drop the feature there", .path.display())]
    Unsupported {
        /// The table.
        path: PathBuf,
        /// The table features, or the version of readers.
        feature: String,
        /// What the engine says.
        #[source]
        source: EngineError,
    },
    /// The log cannot be replayed.
    #[error("the log of the table at {} cannot be replayed; it is damaged, or needs what this build cannot read", .path.display())]
    Log {
        /// The table.
        path: PathBuf,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// The files alone do not say what the table holds.
    #[error("the table at {} uses {feature}; its data files cannot be read on their own, read it through the engine", .path.display())]
    NotPlainFiles {
        /// The table.
        path: PathBuf,
        /// `deletion vectors`, `column mapping` or `files outside the table`.
        feature: &'static str,
    },
    /// A data file that carries no row count cannot be opened to count.
    #[error("the footer of {} cannot be read", .path.display())]
    Footer {
        /// The data file.
        path: PathBuf,
        /// Why.
        #[source]
        source: EngineError,
    },
}

impl ReadError {
    /// Whether the caller asked for what cannot be, rather than something broke: no table there, no such version, a feature
    /// that this build does not know.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::NotATable { .. } | Self::NoSuchVersion { .. } | Self::Unsupported { .. } => true,
            Self::CommitMissing { .. }
            | Self::EmptyCommit { .. }
            | Self::DamagedCommit { .. }
            | Self::Io { .. }
            | Self::Log { .. }
            | Self::NotPlainFiles { .. }
            | Self::Footer { .. } => false,
        }
    }
}
