//! Which rows of unstable views something was computed from.
//!
//! A key pins an upstream view by its key, and under one key an unstable view may have other rows each time that it is computed: when
//! it was evicted, collected or damaged, when it is asked for anew, when another process computes it. *Invariant:* whoever computes
//! over such rows says which they are, and takes an entry, an output or rows in memory for its own only if they were computed from the
//! very same. Age does not tell: an older entry can come back, and two roots draw their tokens each for itself.

use std::collections::BTreeMap;

use crate::entry::Entry;
use crate::output::Published;

/// By the name of each unstable view that is kept and read, directly or through views that are computed with it, which of its rows:
/// [`Entry::rows_id`] or [`Published::rows_id`]. Empty where all that is read is exact.
pub type UnstableRows = BTreeMap<String, String>;

impl Entry {
    /// What tells its rows from all others that were ever written under its key.
    #[must_use]
    pub fn rows_id(&self) -> String {
        self.id.to_string()
    }
}

impl Published {
    /// What tells its rows from all others that were ever published under its key.
    #[must_use]
    pub fn rows_id(&self) -> String {
        match self.fencing_token {
            Some(token) => format!("{}/{token}", self.run_id),
            None => self.run_id.to_string(),
        }
    }
}
