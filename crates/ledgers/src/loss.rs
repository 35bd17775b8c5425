//! What is gone of ledgers or outbox, because somebody put them back from a copy or took them away.

use serde::{Deserialize, Serialize};

/// Something was put back from a copy, or is gone: what a person should know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The ledger, and it lacks rows that it had.
    Ledger(String),
    /// The outbox, and it lacks events that it had, or all of them.
    Outbox(String),
}

impl Loss {
    /// It, in words.
    pub(crate) fn what(&self) -> &str {
        let (Self::Ledger(what) | Self::Outbox(what)) = self;
        what
    }
}

/// Rows that are gone, as a drain found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LedgerLoss {
    /// When it was found, in milliseconds since 1970-01-01 UTC.
    pub found_unix_ms: i64,
    /// What is lost, and why.
    pub what: String,
}
