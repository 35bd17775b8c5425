//! Following an append without replaying the log.
//!
//! A log that holds, byte for byte, what it held when it was last replayed says what it said then: the table has the schema,
//! the protocol, the properties and the application transactions that it had. So an append that finds the log as the last one
//! left it needs none of it replayed, however long the log is. Whatever else it finds, it does as if it knew nothing.

use std::fs;
use std::path::Path;

use alluvium_contracts::{ContentDigest, DeltaWritePolicy};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use deltalake_core::table::state::DeltaTableState;
use serde::{Deserialize, Serialize};

use crate::checks::table_conditions;
use crate::error::{CommitError, PolicyError, ReadError};
use crate::log::{checkpoint_versions, head_version, split_version};
use crate::overrides::WriteOverrides;
use crate::policy::delta_schema;
use crate::semantic::TYPES_PROPERTY;
use crate::stored::stored_policy;
use crate::table_actions::protocol_of;

/// Writer features that ask nothing of an append to a table without conditions.
const UNDEMANDING: [&str; 3] = ["appendOnly", "invariants", "timestampNtz"];

/// What an append left behind: the table as it was then. It may be kept, and given to
/// [`append_or_create`](crate::append_or_create) by another process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppendTip {
    pub(crate) version: u64,
    /// Of every file that a replay of this version reads.
    log: ContentDigest,
    /// Of the table's columns, as Delta writes them down.
    columns: ContentDigest,
    /// What the table stores.
    pub(crate) policy: DeltaWritePolicy,
    app_id: String,
    transaction: i64,
}

/// A table that an append may be followed in.
pub(crate) struct Followed {
    columns: ContentDigest,
    policy: DeltaWritePolicy,
}

impl Followed {
    /// `None`: rows of `schema` in this table take more than being written, so each append has to look at it.
    pub(crate) fn of(state: &DeltaTableState, schema: &SchemaRef) -> Result<Option<Self>, CommitError> {
        let protocol = protocol_of(state);
        let demanding = match protocol.min_writer_version {
            0..=2 => false,
            7 => !protocol.writer_features.iter().all(|feature| UNDEMANDING.contains(&feature.as_str())),
            _ => true,
        };
        let (policy, overrides) = stored_policy(state);
        let plain = !demanding
            && table_conditions(state).is_empty()
            && policy.semantic_types.is_empty()
            && !state.metadata().configuration().contains_key(TYPES_PROPERTY)
            && overrides == WriteOverrides::default()
            && *state.schema() == delta_schema(schema)?;
        Ok(plain.then_some(Self { columns: columns(schema)?, policy }))
    }

    /// After the commit of `version`. `None`: somebody has committed since.
    pub(crate) fn at(
        self,
        table: &Path,
        version: u64,
        (app_id, transaction): (&str, i64),
    ) -> Result<Option<AppendTip>, ReadError> {
        let Self { columns, policy } = self;
        let tip = |log| AppendTip { version, log, columns, policy, app_id: app_id.to_owned(), transaction };
        Ok(log_digest(table, version)?.map(tip))
    }
}

impl AppendTip {
    /// The version that the append made.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The version of its application transaction, if that is one of `app_id`: the highest that the table has.
    #[must_use]
    pub fn transaction(&self, app_id: &str) -> Option<i64> {
        (self.app_id == app_id).then_some(self.transaction)
    }

    /// Whether the table in `table_dir` is as the append left it, every byte of its log included, and has the columns of `schema`.
    ///
    /// # Errors
    /// [`CommitError::Policy`] if Delta has no such columns. A log that cannot be read is not as it was.
    pub fn holds(&self, table_dir: &Path, schema: &SchemaRef) -> Result<bool, CommitError> {
        Ok(self.columns == columns(schema)?
            && log_digest(table_dir, self.version).is_ok_and(|log| log == Some(self.log)))
    }

    /// What the table is like, for the tip after the next append.
    pub(crate) fn followed(&self) -> Followed {
        Followed { columns: self.columns, policy: self.policy.clone() }
    }
}

fn columns(schema: &SchemaRef) -> Result<ContentDigest, PolicyError> {
    let columns = serde_json::to_vec(&delta_schema(schema)?)
        .map_err(|error| PolicyError::Schema { source: ArrowError::from_external_error(Box::new(error)) })?;
    Ok(ContentDigest::of(&columns))
}

/// The digest of the log from its newest checkpoint on, names and contents. `None`: its head is not `head`.
fn log_digest(table: &Path, head: u64) -> Result<Option<ContentDigest>, ReadError> {
    if head_version(table)? != Some(head) {
        return Ok(None);
    }
    let log = table.join("_delta_log");
    let from = checkpoint_versions(table)?.into_iter().max().unwrap_or(0);
    let mut names = Vec::new();
    let unlisted = |source| ReadError::Io { path: log.clone(), source };
    for entry in fs::read_dir(&log).map_err(unlisted)? {
        let name = entry.map_err(unlisted)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let read = match split_version(name) {
            // A `#` is in the names of files that are being written.
            Some((version, rest)) => version >= from && !rest.contains('#'),
            None => name == "_last_checkpoint",
        };
        if read {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for name in names {
        let path = log.join(&name);
        let bytes = fs::read(&path).map_err(|source| ReadError::Io { path, source })?;
        hasher.update(&(name.len() as u64).to_be_bytes()).update(name.as_bytes());
        hasher.update(&(bytes.len() as u64).to_be_bytes()).update(&bytes);
    }
    Ok(Some(ContentDigest::from_bytes(*hasher.finalize().as_bytes())))
}
