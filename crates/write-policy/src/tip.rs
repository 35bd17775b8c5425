//! Following an append without replaying the log.
//!
//! A log that holds, byte for byte, what it held when it was last replayed says what it said then: the table has the schema,
//! the protocol, the properties and the application transactions that it had. So an append that finds the log as the last one
//! left it needs none of it replayed, however long the log is. Whatever else it finds, it does as if it knew nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use alluvium_contracts::{ContentDigest, DeltaWritePolicy};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use deltalake_core::table::state::DeltaTableState;
use serde::{Deserialize, Serialize};

use crate::checks::table_conditions;
use crate::error::{CommitError, PolicyError, ReadError};
use crate::log::{commit_name, last_checkpoint, read_commit, split_version};
use crate::overrides::WriteOverrides;
use crate::policy::delta_schema;
use crate::semantic::TYPES_PROPERTY;
use crate::stored::stored_policy;
use crate::table_actions::protocol_of;

/// Writer features that ask nothing of an append to a table without conditions.
const UNDEMANDING: [&str; 3] = ["appendOnly", "invariants", "timestampNtz"];

/// Every file that a replay of a version reads, by its name in `_delta_log`: at most the commits between two checkpoints.
type LogFiles = BTreeMap<String, ContentDigest>;

/// What an append left behind: the table as it was then. It may be kept, and given to
/// [`append_after`](crate::append_after) by another process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppendTip {
    pub(crate) version: u64,
    log: LogFiles,
    /// Of the table's columns, as Delta writes them down.
    columns: ContentDigest,
    /// What the table stores.
    pub(crate) policy: DeltaWritePolicy,
    app_id: String,
    transaction: i64,
}

/// A tip whose table was looked at, and is as it says. Who commits meanwhile takes the version that the next append is for.
#[derive(Debug)]
pub struct HeldTip<'t> {
    pub(crate) tip: &'t AppendTip,
    pub(crate) table: &'t Path,
    pub(crate) schema: SchemaRef,
}

impl HeldTip<'_> {
    /// As [`AppendTip::transaction`].
    #[must_use]
    pub fn transaction(&self, app_id: &str) -> Option<i64> {
        self.tip.transaction(app_id)
    }
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
        Ok(log_files(table, version)?.map(tip))
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

    /// Looks whether the table in `table_dir` is as the append left it, every byte of its log included, and has the columns of `schema`:
    /// `None` where it is not. A log that cannot be read is not as it was.
    ///
    /// # Errors
    /// [`CommitError::Policy`] if Delta has no such columns.
    pub fn hold<'t>(&'t self, table_dir: &'t Path, schema: &SchemaRef) -> Result<Option<HeldTip<'t>>, CommitError> {
        let as_it_was = || log_files(table_dir, self.version).is_ok_and(|log| log.as_ref() == Some(&self.log));
        let holds = self.columns == columns(schema)? && as_it_was();
        Ok(holds.then(|| HeldTip { tip: self, table: table_dir, schema: SchemaRef::clone(schema) }))
    }

    /// The versions that the append saw and that are not in the table in `table_dir` any more as it saw them: somebody put back an earlier
    /// state of it, or damaged its log. What a checkpoint has taken the place of is not looked for.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read.
    pub fn lost_commits(&self, table_dir: &Path) -> Result<Vec<u64>, ReadError> {
        let checkpoint = last_checkpoint(table_dir)?;
        let mut lost = Vec::new();
        for (name, digest) in &self.log {
            let Some((version, ".json")) = split_version(name) else { continue };
            if checkpoint.is_some_and(|checkpoint| version <= checkpoint) {
                continue;
            }
            match read_commit(table_dir, version) {
                Ok(bytes) if ContentDigest::of(&bytes) == *digest => {}
                Ok(_) | Err(ReadError::NoSuchVersion { .. }) => lost.push(version),
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// After the next commit, which follows this one.
    pub(crate) fn next(&self, table: &Path, transaction: i64) -> Result<Self, ReadError> {
        let mut next = Self { version: self.version + 1, transaction, ..self.clone() };
        next.log.insert(commit_name(next.version), ContentDigest::of(&read_commit(table, next.version)?));
        Ok(next)
    }
}

fn columns(schema: &SchemaRef) -> Result<ContentDigest, PolicyError> {
    let columns = serde_json::to_vec(&delta_schema(schema)?)
        .map_err(|error| PolicyError::Schema { source: ArrowError::from_external_error(Box::new(error)) })?;
    Ok(ContentDigest::of(&columns))
}

/// The files that a replay of the log reads, from its newest checkpoint on, as they are now. `None`: its head is not `head`.
fn log_files(table: &Path, head: u64) -> Result<Option<LogFiles>, ReadError> {
    let log = table.join("_delta_log");
    let unlisted = |source| ReadError::Io { path: log.clone(), source };
    let (mut newest, mut checkpoint) = (None, 0);
    let mut names: Vec<(Option<u64>, String)> = Vec::new();
    for entry in fs::read_dir(&log).map_err(unlisted)? {
        let Ok(name) = entry.map_err(unlisted)?.file_name().into_string() else { continue };
        match split_version(&name) {
            // Files that are being written.
            Some((_, rest)) if rest.contains('#') => {}
            Some((version, rest)) => {
                match rest {
                    ".json" => newest = newest.max(Some(version)),
                    rest if rest.starts_with(".checkpoint.") => checkpoint = checkpoint.max(version),
                    _ => {}
                }
                names.push((Some(version), name));
            }
            None if name == "_last_checkpoint" => names.push((None, name)),
            None => {}
        }
    }
    if newest != Some(head) {
        return Ok(None);
    }
    let read = names.into_iter().filter(|(version, _)| version.is_none_or(|version| version >= checkpoint));
    let digested = read.map(|(_, name)| {
        let path = log.join(&name);
        let bytes = fs::read(&path).map_err(|source| ReadError::Io { path, source })?;
        Ok((name, ContentDigest::of(&bytes)))
    });
    digested.collect::<Result<_, _>>().map(Some)
}
