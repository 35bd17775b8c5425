#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod append;
mod commit;
mod error;
mod files;
mod gate;
mod log;
mod policy;
mod read;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod write;

pub use append::append;
pub use commit::{commit_create, commit_replace};
pub use error::{CommitError, EngineError, PolicyError, ReadError, WriteError};
pub use files::{AppendOutcome, CommitMetadata, CommitOutcome, Committed, DataFile, StagedFiles};
pub use log::{HeadCommit, added_files, commit_info, head_commit};
pub use policy::ResolvedWritePolicy;
pub use read::{active_files, transaction_version};
pub use write::write_files;
