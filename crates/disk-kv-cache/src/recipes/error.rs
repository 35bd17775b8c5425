//! Why a recipe failed.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::{CollectionError, OpenError, StoreError};

/// Why a lock, a semaphore, an averager or a throttle failed. That another holds it is no error.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// The store underneath failed.
    #[error("the store of the coordination directory failed")]
    Store(#[from] StoreError),
    /// What the store holds cannot be used.
    #[error("the state of a coordination directory cannot be used")]
    State(#[from] CollectionError),
    /// A lock file could not be used.
    #[error("could not {action} in {}: it needs read and write access", path.display())]
    Io {
        /// The directory of the lock files.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A semaphore was made with another number of permits.
    #[error(
        "the semaphore {name:?} has {stored} permits, and {requested} were asked for: use the same number everywhere"
    )]
    PermitsConflict {
        /// The semaphore.
        name: String,
        /// The permits it has.
        stored: u32,
        /// The permits asked for.
        requested: u32,
    },
    /// A number that makes no sense.
    #[error("{field} must be {rule}")]
    InvalidSetting {
        /// The setting.
        field: &'static str,
        /// What is allowed.
        rule: &'static str,
    },
}

/// Why a coordination directory could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CoordinationError {
    /// The store in it could not be opened.
    #[error("the coordination directory could not be opened")]
    Open(#[from] OpenError),
    /// The directory of the lock files could not be made.
    #[error("the lock files cannot be kept in {}: it needs a directory there that this user may write to", path.display())]
    Locks {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}
