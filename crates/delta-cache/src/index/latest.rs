//! The identities that a name had: what a miss is explained by.

use std::collections::BTreeMap;

use alluvium_contracts::CacheKey;
use alluvium_disk_kv_cache::{StoreError, WriteTxn};
use alluvium_plans::{Earlier, Outline};
use serde::{Deserialize, Serialize};

use super::{LATEST, decode, encode};
use crate::entry::Entry;

/// Identities remembered of a name.
const REMEMBERED: usize = 8;

/// An identity that a view of this name had. Several pipelines may share a root, and so a name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Latest {
    pub(crate) key: CacheKey,
    pub(crate) components: BTreeMap<String, String>,
    /// What its query was made of; none of what has none, and of an entry that was found by its commit, which does not say it.
    #[serde(default)]
    pub(crate) outline: Option<Outline>,
}

impl Latest {
    pub(super) fn of_entry(entry: &Entry, outline: Option<&Outline>) -> Self {
        Self { key: entry.key, components: entry.components.clone(), outline: outline.cloned() }
    }

    /// As what today's identity is compared with.
    pub(crate) fn earlier(&self) -> Earlier<'_> {
        Earlier { key: self.key, components: &self.components, outline: self.outline.as_ref() }
    }
}

/// The row of a view that is kept as its output.
pub(crate) fn row_of_output(view: &str) -> String {
    format!("output:{view}")
}

/// Puts an identity before the others of its name. One that it had before has the same outline.
pub(super) fn remember(txn: &mut WriteTxn<'_>, row: &str, identity: &Latest) -> Result<(), StoreError> {
    let mut latest: Vec<Latest> = txn.get(LATEST, row.as_bytes())?.and_then(decode).unwrap_or_default();
    let before = latest.iter().position(|earlier| earlier.key == identity.key).map(|at| latest.remove(at));
    let outline = identity.outline.clone().or_else(|| before.and_then(|before| before.outline));
    latest.insert(0, Latest { outline, ..identity.clone() });
    latest.truncate(REMEMBERED);
    txn.put(LATEST, row.as_bytes(), &encode(&latest))
}
