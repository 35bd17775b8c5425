//! Why maintenance was not done.

use std::path::PathBuf;

use alluvium_contracts::MaintenanceOperation;

use crate::error::{CommitError, EngineError, ReadError, WriteError};

/// Maintenance was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaintenanceError {
    /// Somebody else is at it.
    #[error("the table at {} is being maintained by another process; try again later", .path.display())]
    Busy {
        /// The table.
        path: PathBuf,
    },
    /// The lock file cannot be made or locked.
    #[error("the maintenance lock of the table at {} cannot be taken; check that `_alluvium` there is writable", .path.display())]
    Lock {
        /// The table.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is kept of the table cannot be told or changed.
    #[error("the mark of a kept version at {} cannot be used; mend or remove it, and try again", .path.display())]
    Kept {
        /// The mark, or the directory of the marks.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Files would go that somebody may still read or write.
    #[error(
        "a retention of {hours} hours is below the floor of {floor}: readers and writers may still need the files; keep them for {floor} hours or more"
    )]
    Retention {
        /// What was asked for.
        hours: u32,
        /// The least there may be.
        floor: u32,
    },
    /// The table cannot be read.
    #[error("the table to maintain cannot be read; repair it first")]
    Table {
        /// What is wrong with it.
        #[from]
        source: ReadError,
    },
    /// The engine cannot open the table.
    #[error("the table at {} cannot be opened for maintenance; see the cause", .path.display())]
    Open {
        /// The table.
        path: PathBuf,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// The new files could not be written.
    #[error("the files that were to replace others could not be written")]
    Write {
        /// Why.
        #[from]
        source: WriteError,
    },
    /// The new files could not be committed.
    #[error("the files that were to replace others could not be committed")]
    Commit {
        /// Why.
        #[from]
        source: CommitError,
    },
    /// It failed.
    #[error("{operation} of the table at {} failed; see the cause, and try again", .path.display())]
    Failed {
        /// The table.
        path: PathBuf,
        /// What was to be done.
        operation: MaintenanceOperation,
        /// Why.
        #[source]
        source: EngineError,
    },
}

impl MaintenanceError {
    /// Whether the caller asked for what cannot be, rather than something broke.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::Retention { .. } => true,
            Self::Table { source } => source.is_input(),
            Self::Commit { source } => source.is_input(),
            Self::Write { source } => source.is_input(),
            Self::Busy { .. } | Self::Lock { .. } | Self::Kept { .. } | Self::Open { .. } | Self::Failed { .. } => {
                false
            }
        }
    }
}
