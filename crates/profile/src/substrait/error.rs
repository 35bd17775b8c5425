//! Why bytes are not taken for a plan.

use datafusion::common::DataFusionError;
use datafusion_substrait::substrait::proto::Version;

use crate::query_error::QueryError;

/// Why bytes are not taken for a plan. Nothing was run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubstraitError {
    /// The plan is too large to be read.
    #[error("it has {size_bytes} bytes, and {limit_bytes} are read: keep literal rows in a table, and read that")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
        /// What is read.
        limit_bytes: usize,
    },
    /// The bytes are no plan, or one that is nested too deeply.
    #[error("it is no plan in the binary form of Substrait, or is nested more than 100 messages deep: export it again")]
    NotAPlan {
        /// What protobuf says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The plan says no version, or a later one than this build knows.
    #[error(
        "it is of {}, and up to {known} is read: export it for that version",
        found.as_deref().map_or_else(|| "no version".to_owned(), |found| format!("version {found}"))
    )]
    Version {
        /// The plan's version, if it says one.
        found: Option<String>,
        /// The newest that is read.
        known: String,
    },
    /// The plan reads a table that the session has not.
    #[error("it reads the table `{table}`, which is not registered")]
    UnknownTable {
        /// Its name, with dots if it is qualified.
        table: String,
    },
    /// The plan has a part that would be ignored, or that nobody here can do.
    #[error("{what} is not supported: express the query without")]
    Unsupported {
        /// The part.
        what: String,
    },
    /// The parts of the plan do not fit together.
    #[error("its parts do not fit together ({message}): it was damaged, or whoever made it has a defect")]
    Malformed {
        /// What was found.
        message: String,
    },
}

impl SubstraitError {
    pub(super) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::Malformed { message: message.into() }
    }
}

/// Through the engine's reader, whose errors are the engine's.
impl From<SubstraitError> for DataFusionError {
    fn from(refused: SubstraitError) -> Self {
        Self::External(Box::new(refused))
    }
}

impl From<SubstraitError> for QueryError {
    fn from(source: SubstraitError) -> Self {
        Self::Substrait { source }
    }
}

pub(super) fn version(version: &Version) -> String {
    format!("{}.{}.{}", version.major_number, version.minor_number, version.patch_number)
}
