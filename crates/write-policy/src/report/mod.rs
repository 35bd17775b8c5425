//! What a write did: what was asked for beside what is there, read back from log, protocol and footers.

mod fields;
mod footers;
mod notices;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use alluvium_contracts::{
    AppTransaction, DecimalI64, FeatureReport, FeatureResult, FieldReport, ProtocolReport, SchemaHash, WriteOutcome,
    WriteReport, canonical_json,
};
use alluvium_telemetry::Seam;
use arrow::datatypes::{FieldRef, Schema};
use deltalake_core::kernel::transaction::PROTOCOL;
use serde_json::Value;

use self::fields::{Observed, StatsInLog, fields};
use self::footers::Footers;
pub(crate) use self::footers::stats_columns;
use self::notices::notices;
use crate::apply::{Caller, Done, TableWrite};
use crate::error::{CommitError, ReadError};
use crate::files::{Committed, DataFile, TableWriteOutcome};
use crate::inspect::{ordering, properties_of};
use crate::log::{commit_info, head_version};
use crate::policy::{POLICY_PROPERTY, ResolvedWritePolicy, feature_is_on};
use crate::read::{in_log, order_of};
use crate::schema::table_schema;
use crate::semantic::TYPES_PROPERTY;
use crate::stored::stored_policy;
use crate::table::{Loaded, TableDir};
use crate::table_actions::protocol_of;

impl TableWrite<'_> {
    /// [`run`](Self::run), and then reads back what is there: the log of the version, its protocol, and the footer of every
    /// file that was written.
    ///
    /// # Errors
    /// As [`run`](Self::run); and [`CommitError::Unread`] when the write landed and cannot be read back.
    ///
    /// # Panics
    /// Outside a Tokio runtime with a timer.
    pub async fn run_reported(self, seam: &Seam) -> Result<(TableWriteOutcome, WriteReport), CommitError> {
        let watch = seam.stopwatch();
        let (mut plan, streams) = self.into_parts();
        let Caller { dataset_name, run_id } = std::mem::take(&mut plan.caller);
        let table = plan.table().to_path_buf();
        let policy = plan.policy();
        let transaction = plan
            .transaction()
            .map(|(app_id, version)| AppTransaction { app_id: app_id.to_owned(), version: DecimalI64(version) });
        let Done { outcome, attempt_count, base_version } = plan.run(streams).await?;
        let duration_ms = watch.elapsed_ms();
        let read_back = read_back(&table, policy, &outcome, base_version).await;
        let mut report = read_back.map_err(|source| match &outcome {
            TableWriteOutcome::Committed(committed) => {
                CommitError::Unread { path: table.clone(), version: committed.version, source }
            }
            _ => CommitError::Table { source },
        })?;
        report.protocol.dataset_name.clone_from(&dataset_name);
        (report.dataset_name, report.run_id) = (dataset_name, run_id);
        report.app_transaction = transaction;
        report.attempt_count = attempt_count;
        report.duration_ms = duration_ms;
        Ok((outcome, report))
    }
}

/// What [`commit_create`](crate::commit_create) or [`commit_replace`](crate::commit_replace) left, read back as
/// [`TableWrite::run_reported`] does: `base_version` is the version that was replaced, if there was one. For whom it was
/// written, how often it was tried and how long it took are for the caller to fill in.
///
/// # Errors
/// [`ReadError`] when the table cannot be read back. It was written all the same.
pub async fn report_committed(
    table_dir: &Path,
    policy: &ResolvedWritePolicy,
    committed: &Committed,
    base_version: Option<u64>,
) -> Result<WriteReport, ReadError> {
    read_back(table_dir, policy, &TableWriteOutcome::Committed(committed.clone()), base_version).await
}

/// The fields of a policy that go on with its table, and not with one write.
fn is_lasting(field: &str) -> bool {
    !matches!(field, "mode" | "keys" | "replace_where" | "schema_mode" | "feature_gate")
}

/// The policy that is stored with a table, field by field beside what all of its files are. `None`: it has none.
pub(crate) fn lasting_fields(table: &TableDir, loaded: &Loaded) -> Result<Option<Vec<FieldReport>>, ReadError> {
    let configuration = properties_of(loaded);
    if ![POLICY_PROPERTY, TYPES_PROPERTY].iter().any(|key| configuration.contains_key(*key)) {
        return Ok(None);
    }
    let log = |source: CommitError| ReadError::Log { path: table.path().to_path_buf(), source: source.into() };
    let (policy, overrides) = stored_policy(&loaded.state);
    let schema = table_schema(&loaded.state).map_err(|error| log(error.into()))?;
    let policy =
        ResolvedWritePolicy::resolve_with(&policy, &schema, &[], &overrides).map_err(|error| log(error.into()))?;
    let files: Vec<DataFile> = loaded.state.log_data().iter().map(|file| in_log(&file)).collect();
    let footers = Footers::read(table.path(), &files, &stats_in_log(loaded, &files))?;
    let observed = Observed {
        protocol: &protocol_of(&loaded.state),
        configuration: &configuration,
        partition_columns: loaded.state.metadata().partition_columns().to_vec(),
        order: order_of(loaded),
        stats: gather(&footers),
        commit_info: &serde_json::Map::new(),
        extension_types: extension_types(&schema),
        schema_changed: false,
        footers: &footers,
    };
    let all = fields(&policy, &observed).into_iter();
    Ok(Some(all.filter(|report| is_lasting(&report.field)).collect()))
}

async fn read_back(
    table_dir: &Path,
    policy: &ResolvedWritePolicy,
    outcome: &TableWriteOutcome,
    base_version: Option<u64>,
) -> Result<WriteReport, ReadError> {
    let io = |source| ReadError::Io { path: table_dir.to_path_buf(), source };
    let table = TableDir::open(table_dir).map_err(io)?;
    let (word, version, files) = match outcome {
        TableWriteOutcome::Committed(committed) => {
            (WriteOutcome::Committed, Some(committed.version), committed.files.as_slice())
        }
        TableWriteOutcome::AlreadyApplied => (WriteOutcome::Unchanged, head_version(table.path())?, &[] as &[DataFile]),
        TableWriteOutcome::Ignored { head } => (WriteOutcome::Unchanged, Some(*head), &[] as &[DataFile]),
        TableWriteOutcome::Conflict { head } => (WriteOutcome::Conflict, *head, &[] as &[DataFile]),
    };
    let committed = word == WriteOutcome::Committed;
    let Some(version) = version else {
        return Err(ReadError::NotATable { path: table_dir.to_path_buf() });
    };
    let after = table.load(Some(version)).await?;
    let before = match base_version {
        Some(base) => Some(table.load(Some(base)).await?),
        None => None,
    };
    let footers = Footers::read(table.path(), files, &stats_in_log(&after, files))?;
    let info = commit_info(table.path(), version)?;
    let protocol = protocol_of(&after.state);
    let configuration = properties_of(&after);
    let order = order_of(&after);
    let observed = Observed {
        footers: &footers,
        protocol: &protocol,
        configuration: &configuration,
        partition_columns: after.state.metadata().partition_columns().to_vec(),
        order: order.clone(),
        stats: gather(&footers),
        commit_info: &info,
        extension_types: table_schema(&after.state).map(|schema| extension_types(&schema)).unwrap_or_default(),
        schema_changed: before.as_ref().is_some_and(|before| before.state.schema() != after.state.schema()),
    };
    Ok(WriteReport {
        dataset_name: None,
        table_path: table_dir.display().to_string(),
        run_id: None,
        mode: policy.policy().mode,
        outcome: word,
        delta_version: Some(version),
        base_version,
        app_transaction: None,
        attempt_count: 0,
        row_count: files.iter().map(|file| file.row_count).sum(),
        file_count: files.len() as u64,
        size_bytes: files.iter().map(|file| file.size_bytes).sum(),
        duration_ms: 0.0,
        layout_hash: Some(policy.layout_hash()),
        schema_hash: schema_hash(&after),
        // What did not commit asked nothing of the table.
        fields: if committed { fields(policy, &observed) } else { Vec::new() },
        protocol: protocol_report(policy, before.as_ref(), &after, &configuration),
        order_version: order.is_some().then_some(version),
        order: ordering(order),
        notices: if committed { notices(policy, before.as_ref(), &after) } else { Vec::new() },
        files: footers.files,
    })
}

/// The digest of the schema in the log, in canonical JSON: whoever can read the log can repeat it.
fn schema_hash(loaded: &Loaded) -> Option<SchemaHash> {
    let schema = serde_json::to_value(loaded.state.schema().as_ref()).ok()?;
    Some(SchemaHash::of(&canonical_json(&schema).ok()?))
}

/// The statistics of `files` in the log, by path.
fn stats_in_log(after: &Loaded, files: &[DataFile]) -> BTreeMap<String, Value> {
    let ours: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    after
        .state
        .log_data()
        .iter()
        .filter(|file| ours.contains(file.path().as_ref()))
        .filter_map(|file| Some((file.path().into_owned(), serde_json::from_str(&file.stats()?).ok()?)))
        .collect()
}

fn extension_types(schema: &Schema) -> BTreeMap<String, String> {
    let named = |field: &FieldRef| Some((field.name().clone(), field.extension_type_name()?.to_owned()));
    schema.fields().iter().filter_map(named).collect()
}

fn gather(footers: &Footers) -> StatsInLog {
    let mut stats = StatsInLog::default();
    for (index, file) in footers.files.iter().enumerate() {
        let own: BTreeSet<String> = file.stats_columns.iter().cloned().collect();
        stats.everywhere = match index {
            0 => own.clone(),
            _ => stats.everywhere.intersection(&own).cloned().collect(),
        };
        stats.somewhere.extend(own);
    }
    stats
}

fn protocol_report(
    policy: &ResolvedWritePolicy,
    before: Option<&Loaded>,
    after: &Loaded,
    configuration: &BTreeMap<String, String>,
) -> ProtocolReport {
    let protocol = protocol_of(&after.state);
    let old = before.map(|before| protocol_of(&before.state));
    let had = |feature| {
        before.zip(old.as_ref()).is_some_and(|(before, protocol)| {
            let configuration = before.state.metadata().configuration();
            let configuration = configuration.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            feature_is_on(feature, protocol, &configuration)
        })
    };
    let kept = policy.policy().enable_features.iter().map(|feature| {
        let (result, reason) = match (had(*feature), feature_is_on(*feature, &protocol, configuration)) {
            (true, _) => (FeatureResult::Present, None),
            (false, true) => (FeatureResult::Enabled, None),
            (false, false) => (FeatureResult::LeftOut, Some("the log does not have it".to_owned())),
        };
        FeatureReport { feature: *feature, result, reason }
    });
    let left_out = policy.left_out().iter().map(|(feature, reason)| FeatureReport {
        feature: *feature,
        result: FeatureResult::LeftOut,
        reason: Some((*reason).to_owned()),
    });
    ProtocolReport {
        dataset_name: None,
        before: old.as_ref().map(crate::policy::Protocol::to_contract),
        after: protocol.to_contract(),
        readable: PROTOCOL.can_read_from(&after.state).is_ok(),
        writable: PROTOCOL.can_write_to(&after.state).is_ok(),
        feature_gate: policy.policy().feature_gate,
        features: kept.chain(left_out).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::footers::stats_columns;

    #[test]
    fn statistics_name_their_columns_by_path() {
        let stats = serde_json::json!({"minValues": {"a": 1, "s": {"b": 2}}, "nullCount": {"a": 0, "t": 0}});
        assert_eq!(stats_columns(&stats), ["a", "s.b", "t"]);
    }
}
