//! Looking at a table: what it is at a version, and which commits made it so.

use std::collections::BTreeMap;
use std::path::Path;

use alluvium_contracts::{
    AppTransaction, DecimalI64, DeltaStatsDecision, FieldSpec, OrderingKey, TableCommit, TableDocument, TableHistory,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{CommitError, ReadError};
use crate::gate::unwritable;
use crate::log::{commit_metadata, commit_versions, last_checkpoint, own_metadata, parse_commit};
use crate::policy::{FEATURES, POLICY_PROPERTY, ResolvedWritePolicy, feature_is_on};
use crate::read::{open, order_of};
use crate::report::stats_columns;
use crate::schema::table_schema;
use crate::stored::{read_policy, stored_policy};
use crate::table::Loaded;
use crate::table_actions::protocol_of;
use crate::write::row_count;

/// A table at `version`, or at its newest one, read back from its log.
///
/// # Errors
/// [`ReadError`] when there is no table or no such version, when the log is damaged, and when the table needs a feature
/// that this build does not know.
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn inspect_table(table_dir: &Path, version: Option<u64>) -> Result<TableDocument, ReadError> {
    let (oldest_version, delta_version) = versions_of(table_dir, version)?;
    let loaded = open(table_dir)?.load(Some(delta_version)).await?;
    let log = |source: CommitError| ReadError::Log { path: table_dir.to_path_buf(), source: source.into() };
    let schema = table_schema(&loaded.state).map_err(|error| log(error.into()))?;
    let properties = properties_of(&loaded);
    let protocol = protocol_of(&loaded.state);
    let stored = read_policy(properties.get(POLICY_PROPERTY));
    let files = FilesInLog::of(&loaded, stored.policy.target_file_size_bytes);
    let turned_on = |row: &&crate::policy::FeatureRow| {
        // What an old writer version merely stands for is no choice of anybody's.
        (row.property.is_some() || protocol.writer_features.contains(row.protocol_name))
            && feature_is_on(row.feature, &protocol, &properties)
    };
    Ok(TableDocument {
        table_path: table_dir.display().to_string(),
        table_id: loaded.state.metadata().id().to_owned(),
        delta_version,
        oldest_version,
        checkpoint_version: last_checkpoint(table_dir)?,
        columns: schema
            .fields()
            .iter()
            .map(|field| FieldSpec {
                name: field.name().clone(),
                data_type: field.data_type().to_string(),
                nullable: field.is_nullable(),
                metadata: field.metadata().iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            })
            .collect(),
        partition_by: loaded.state.metadata().partition_columns().to_vec(),
        order: ordering(order_of(&loaded)),
        stats_columns: files.stats_columns,
        file_count: files.count,
        small_file_count: files.small,
        size_bytes: files.bytes,
        row_count: files.rows,
        features: FEATURES.iter().filter(turned_on).map(|row| row.feature).collect(),
        protocol: protocol.to_contract(),
        unwritable: unwritable(&loaded.state),
        constraints: properties
            .iter()
            .filter_map(|(key, sql)| Some((key.strip_prefix("delta.constraints.")?.to_owned(), sql.clone())))
            .collect(),
        write_policy: properties.get(POLICY_PROPERTY).and_then(|text| serde_json::from_str(text).ok()),
        write_policy_unread: stored.unread,
        properties,
        commit_metadata: match commit_metadata(table_dir, delta_version) {
            // A checkpoint can outlive the commit that it was written of.
            Err(ReadError::NoSuchVersion { .. }) => BTreeMap::new(),
            read => read?,
        },
    })
}

/// The newest `limit` commits, with their versions: the engine's history has none.
///
/// # Errors
/// [`ReadError`] when there is no table, or when one of those commits is damaged.
pub fn table_history(table_dir: &Path, limit: usize) -> Result<TableHistory, ReadError> {
    let (oldest_version, delta_version) = versions_of(table_dir, None)?;
    let versions = commit_versions(table_dir)?;
    let newest = versions.iter().rev().take(limit);
    let commits = newest.map(|version| commit(table_dir, *version)).collect::<Result<_, _>>()?;
    Ok(TableHistory { table_path: table_dir.display().to_string(), delta_version, oldest_version, commits })
}

/// The statistics that `policy` decided on, beside those that the table has: its `pending_columns` are what readers were found
/// to need since the last write, and what the next one adds. A policy that was resolved without lineage has none.
///
/// # Errors
/// [`ReadError`] when there is no table, or its log cannot be replayed.
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn pending_stats(table_dir: &Path, policy: &ResolvedWritePolicy) -> Result<DeltaStatsDecision, ReadError> {
    let (_, delta_version) = versions_of(table_dir, None)?;
    let loaded = open(table_dir)?.load(Some(delta_version)).await?;
    let (stored, overrides) = stored_policy(&loaded.state);
    let partitions = loaded.state.metadata().partition_columns();
    let there = overrides.stats_columns.unwrap_or_else(|| {
        // Without a list the first columns have statistics.
        let cap = usize::try_from(stored.stats_max_columns).unwrap_or(usize::MAX);
        let columns = loaded.state.schema().fields().map(|field| field.name().clone()).collect::<Vec<_>>();
        columns.into_iter().filter(|column| !partitions.contains(column)).take(cap).collect()
    });
    let mut decision = policy.stats().clone();
    let decided = decision.stats_columns.iter().flatten();
    decision.pending_columns = decided.filter(|column| !there.contains(column)).cloned().collect();
    Ok(decision)
}

/// The oldest version in the log, and the one that is asked for.
pub(crate) fn versions_of(table_dir: &Path, version: Option<u64>) -> Result<(u64, u64), ReadError> {
    let Some(head) = crate::log::head_version(table_dir)? else {
        return Err(ReadError::NotATable { path: table_dir.to_path_buf() });
    };
    if let Some(version) = version.filter(|version| *version > head) {
        return Err(ReadError::NoSuchVersion { path: table_dir.to_path_buf(), version });
    }
    let oldest = commit_versions(table_dir)?.first().copied().unwrap_or(head);
    Ok((oldest, version.unwrap_or(head)))
}

pub(crate) fn properties_of(loaded: &Loaded) -> BTreeMap<String, String> {
    loaded.state.metadata().configuration().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// An order as contracts have it: every column ascending, NULLs first.
pub(crate) fn ordering(order: Option<Vec<String>>) -> Vec<OrderingKey> {
    let key = |column| OrderingKey { column, descending: false, nulls_first: true };
    order.into_iter().flatten().map(key).collect()
}

/// What the log says of the files of a version.
struct FilesInLog {
    count: u64,
    small: u64,
    bytes: u64,
    rows: Option<u64>,
    stats_columns: Vec<String>,
}

impl FilesInLog {
    fn of(loaded: &Loaded, target_bytes: u64) -> Self {
        let mut files = Self { count: 0, small: 0, bytes: 0, rows: Some(0), stats_columns: Vec::new() };
        for file in loaded.state.log_data().iter() {
            let bytes = u64::try_from(file.size()).unwrap_or_default();
            let stats = file.stats();
            let rows = stats.as_deref().and_then(row_count);
            // A file with a deletion vector holds rows that are none.
            let rows = rows.filter(|_| file.deletion_vector_descriptor().is_none());
            let columns = stats.and_then(|stats| serde_json::from_str::<Value>(&stats).ok());
            let columns = columns.map(|stats| stats_columns(&stats)).unwrap_or_default();
            match files.count {
                0 => files.stats_columns = columns,
                _ => files.stats_columns.retain(|column| columns.contains(column)),
            }
            files.count += 1;
            files.small += u64::from(bytes < target_bytes / 4 * 3);
            files.bytes += bytes;
            files.rows = files.rows.zip(rows).map(|(all, rows)| all + rows);
        }
        files
    }
}

/// One commit file, action by action.
fn commit(table_dir: &Path, version: u64) -> Result<TableCommit, ReadError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        add: Option<File>,
        remove: Option<File>,
        txn: Option<Txn>,
        commit_info: Option<Map<String, Value>>,
        meta_data: Option<Value>,
        protocol: Option<Value>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct File {
        #[serde(default)]
        size: Option<u64>,
        stats: Option<String>,
        data_change: bool,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Txn {
        app_id: String,
        version: i64,
    }

    let mut info = Map::new();
    let mut commit = TableCommit {
        delta_version: version,
        commit_time_unix_ms: None,
        operation: None,
        engine: None,
        files_added: 0,
        bytes_added: 0,
        rows_added: Some(0),
        files_removed: 0,
        data_changed: false,
        metadata_changed: false,
        protocol_changed: false,
        app_transactions: Vec::new(),
        commit_metadata: BTreeMap::new(),
    };
    for line in parse_commit::<Line>(table_dir, version)? {
        if let Some(add) = line.add {
            let rows = add.stats.as_deref().and_then(row_count);
            commit.files_added += 1;
            commit.bytes_added += add.size.unwrap_or_default();
            commit.rows_added = commit.rows_added.zip(rows).map(|(all, rows)| all + rows);
            commit.data_changed |= add.data_change;
        }
        if let Some(remove) = line.remove {
            commit.files_removed += 1;
            commit.data_changed |= remove.data_change;
        }
        if let Some(Txn { app_id, version }) = line.txn {
            commit.app_transactions.push(AppTransaction { app_id, version: DecimalI64(version) });
        }
        commit.metadata_changed |= line.meta_data.is_some();
        commit.protocol_changed |= line.protocol.is_some();
        info.extend(line.commit_info.unwrap_or_default());
    }
    let text = |key: &str| info.get(key).and_then(Value::as_str).map(str::to_owned);
    commit.commit_time_unix_ms = info.get("timestamp").and_then(Value::as_i64);
    commit.operation = text("operation");
    commit.engine = text("engineInfo").or_else(|| text("clientVersion"));
    commit.commit_metadata = own_metadata(info);
    Ok(commit)
}
