//! Why a plan cannot be written as Substrait.

use alluvium_profile::QueryError;
use datafusion::common::DataFusionError;

/// Why a plan cannot be written as Substrait. It is executed all the same, and may be kept in another encoding.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotCarried {
    /// Substrait, or the engine's way of writing it, has no form for a part of the plan.
    #[error("Substrait has no {part}")]
    NoForm {
        /// The node or expression.
        part: String,
    },
    /// Something would be gone when the plan is read back.
    #[error("Substrait would lose {what}")]
    Lost {
        /// What.
        what: String,
    },
    /// A table of the plan is not found by its name, or another one is.
    #[error("the table `{table}` of the plan is not the one that is registered under this name")]
    Table {
        /// Its name in the plan.
        table: String,
    },
    /// The engine cannot write a part of the plan.
    #[error("the engine cannot write it: {}", first_line(source))]
    Unwritable {
        /// The engine's word.
        source: Box<DataFusionError>,
    },
    /// What was written cannot be read back.
    #[error("what is written cannot be read back")]
    Unreadable {
        /// Why.
        source: Box<QueryError>,
    },
}

impl NotCarried {
    pub(super) fn no_form(part: impl Into<String>) -> Self {
        Self::NoForm { part: part.into() }
    }

    pub(super) fn lost(what: impl Into<String>) -> Self {
        Self::Lost { what: what.into() }
    }

    /// The error with what lies behind it, in one line: for documents.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut source: Option<&dyn std::error::Error> = match self {
            Self::Unreadable { source } => Some(source.as_ref()),
            _ => None,
        };
        while let Some(error) = source {
            let said = error.to_string();
            text = format!("{text}: {}", said.lines().next().unwrap_or_default());
            source = error.source();
        }
        text
    }
}

/// Through the engine's producer, whose errors are the engine's.
impl From<NotCarried> for DataFusionError {
    fn from(refused: NotCarried) -> Self {
        Self::External(Box::new(refused))
    }
}

fn first_line(error: &DataFusionError) -> String {
    error.strip_backtrace().lines().next().unwrap_or_default().to_owned()
}
