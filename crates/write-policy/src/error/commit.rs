//! Files that could not be committed.

use std::path::PathBuf;

use super::{EngineError, PolicyError, ReadError, WriteError};

/// Files could not be committed. Files staged for it are removed, unless [`CommitError::Unclear`] says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The metadata uses a key that belongs to the engine.
    #[error(
        "commit metadata may not use the key `{key}`: the engine keeps it for itself and would drop or overwrite ours; use another key, as in `cache_operation`"
    )]
    ReservedKey {
        /// The key.
        key: String,
    },
    /// The table to create is there already.
    #[error("a table is already there at {}, at version {head}; replace it or write elsewhere", .path.display())]
    TableExists {
        /// The table.
        path: PathBuf,
        /// Its newest version.
        head: u64,
    },
    /// The files were staged for something else than is committed.
    #[error(
        "the staged files do not belong to this commit: their {what} differs; stage and commit with the same arguments"
    )]
    Staged {
        /// What differs.
        what: &'static str,
    },
    /// The policy does not suit the schema.
    #[error("the write policy does not suit the schema")]
    Policy {
        /// Which field, and what to change.
        #[from]
        source: PolicyError,
    },
    /// The table cannot be read.
    #[error("the table to commit to cannot be read; repair it or write elsewhere")]
    Table {
        /// What is wrong with it.
        #[from]
        source: ReadError,
    },
    /// The files of an append could not be written.
    #[error("the rows to append could not be written")]
    Write {
        /// Why.
        #[from]
        source: WriteError,
    },
    /// The table needs what this build cannot write.
    #[error("the table at {} needs `{feature}`, which this build cannot write; write elsewhere, or drop the feature with the tool that set it", .path.display())]
    Unsupported {
        /// The table.
        path: PathBuf,
        /// The table feature, or the property that asks for it.
        feature: String,
    },
    /// Rows to append have another schema than the table.
    #[error("the rows to append do not fit the table at {}: column `{column}` is {found} here and {expected} there; append with the table's schema", .path.display())]
    SchemaChanged {
        /// The table.
        path: PathBuf,
        /// The first column that differs.
        column: String,
        /// How the table has it.
        expected: String,
        /// How the rows have it.
        found: String,
    },
    /// The table only takes rows.
    #[error("the table at {} is append-only (`delta.appendOnly`), and rows of it would go; append, or unset the property with the tool that set it", .path.display())]
    AppendOnly {
        /// The table.
        path: PathBuf,
    },
    /// A file would go whose path another engine wrote into the log in a way that this one cannot repeat.
    #[error("the log of the table at {} has the file `{file}` under a path that this build would write otherwise, and removing it would remove nothing; let the engine that wrote it do this, or write the rows to another table", .path.display())]
    ForeignPath {
        /// The table.
        path: PathBuf,
        /// The file, decoded.
        file: String,
    },
    /// Files of another partitioning cannot join the table's.
    #[error("the table at {} is partitioned by [{}], the policy says [{}]; take the table's partitioning, or overwrite table and schema", .path.display(), .expected.join(", "), .found.join(", "))]
    Partitioning {
        /// The table.
        path: PathBuf,
        /// Its partition columns.
        expected: Vec<String>,
        /// The policy's.
        found: Vec<String>,
    },
    /// Rows that stay may break a constraint that the policy brings.
    #[error("the constraint `{constraint}` is new to the table at {}, whose rows stay unchecked; overwrite the table, or add the constraint with a tool that checks them", .path.display())]
    UncheckedRows {
        /// The table.
        path: PathBuf,
        /// The constraint.
        constraint: String,
    },
    /// The table got a constraint that the staged rows were not checked for.
    #[error("the table at {} has the constraint `{constraint}`, which the rows were not checked for: it came after them; write them again", .path.display())]
    NewConstraint {
        /// The table.
        path: PathBuf,
        /// The constraint.
        constraint: String,
    },
    /// Others committed first, every time.
    #[error("gave up committing to {} after {attempts} attempts: others committed first each time; try again", .path.display())]
    Contended {
        /// The table.
        path: PathBuf,
        /// How often it was tried.
        attempts: u32,
    },
    /// The commit failed, and nothing of it is in the table.
    #[error("the commit to {} failed and changed nothing; check the cause and try again", .path.display())]
    Failed {
        /// The table.
        path: PathBuf,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// The commit failed, and the log cannot be read to see whether it landed. The data files are left in place.
    #[error("the commit of version {version} to {} failed, and the log cannot be read to see if it landed; look at the table before writing again", .path.display())]
    Unclear {
        /// The table.
        path: PathBuf,
        /// The version that was to be written.
        version: u64,
        /// Why the commit failed.
        #[source]
        source: EngineError,
    },
    /// The commit landed, and may be gone after a power cut.
    #[error("version {version} of {} landed and could not be synced to its device; it is there, look at the cause", .path.display())]
    Unsynced {
        /// The table.
        path: PathBuf,
        /// The version.
        version: u64,
        /// The refusal.
        #[source]
        source: std::io::Error,
    },
    /// The write landed, and what it left cannot be read back.
    #[error("version {version} of {} landed and cannot be read back; it is there, look at the cause", .path.display())]
    Unread {
        /// The table.
        path: PathBuf,
        /// The version.
        version: u64,
        /// Why not.
        #[source]
        source: ReadError,
    },
}

impl CommitError {
    /// Whether the caller's rows, policy or table are at fault, rather than the machine or another writer.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::ReservedKey { .. }
            | Self::TableExists { .. }
            | Self::Staged { .. }
            | Self::Policy { .. }
            | Self::Unsupported { .. }
            | Self::SchemaChanged { .. }
            | Self::AppendOnly { .. }
            | Self::ForeignPath { .. }
            | Self::Partitioning { .. }
            | Self::UncheckedRows { .. } => true,
            Self::Table { source } | Self::Unread { source, .. } => source.is_input(),
            Self::Write { source } => source.is_input(),
            Self::NewConstraint { .. }
            | Self::Contended { .. }
            | Self::Failed { .. }
            | Self::Unclear { .. }
            | Self::Unsynced { .. } => false,
        }
    }
}
