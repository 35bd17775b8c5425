//! What can go wrong, one enum an operation.

mod commit;
mod policy;
mod read;
mod write;

pub use self::commit::CommitError;
pub use self::policy::{PolicyError, TypeCarrier};
pub use self::read::ReadError;
pub use self::write::WriteError;

/// An error of the engine, kept as the source of ours so that its type is no part of our interface.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;
