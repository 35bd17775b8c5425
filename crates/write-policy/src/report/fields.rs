//! Each field of a policy beside what is there.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::{DeltaWritePolicy, FieldReport, StatisticsLevel, WriteMode};
use serde_json::{Value, json};

use super::footers::Footers;
use crate::policy::{POLICY_PROPERTY, Protocol, ResolvedWritePolicy, feature_is_on};
use crate::semantic::{self, TYPES_PROPERTY};
use crate::stored::read_policy;

/// What was read back of one commit and its table.
pub(crate) struct Observed<'a> {
    pub(crate) footers: &'a Footers,
    pub(crate) protocol: &'a Protocol,
    pub(crate) configuration: &'a BTreeMap<String, String>,
    pub(crate) partition_columns: Vec<String>,
    /// The order of the version, partition columns first.
    pub(crate) order: Option<Vec<String>>,
    /// The columns with statistics in the log: in every file, and in some.
    pub(crate) stats: StatsInLog,
    pub(crate) commit_info: &'a serde_json::Map<String, Value>,
    /// The extension types of the table's columns, by column.
    pub(crate) extension_types: BTreeMap<String, String>,
    /// Whether the commit changed the schema of a table that was there.
    pub(crate) schema_changed: bool,
}

/// The columns of the statistics of all files of a write.
#[derive(Debug, Default)]
pub(crate) struct StatsInLog {
    pub(crate) everywhere: BTreeSet<String>,
    pub(crate) somewhere: BTreeSet<String>,
}

/// One report a field, under the dotted names of [`DeltaWritePolicy::non_default_fields`].
pub(crate) fn fields(resolved: &ResolvedWritePolicy, observed: &Observed<'_>) -> Vec<FieldReport> {
    let policy = resolved.policy();
    let mut reports = vec![
        file_size(policy, observed),
        equal("partition_by", &policy.partition_by, &observed.partition_columns),
        order(policy, observed),
        mode(policy, observed),
        keys(policy, observed),
        replace_where(policy, observed),
        constraints(policy, observed),
        semantic_types(policy, observed),
        report(
            "schema_mode",
            json!(policy.schema_mode),
            json!({"schema_changed": observed.schema_changed}),
            !observed.schema_changed || policy.schema_mode.as_str() != "strict",
            None,
        ),
        equal(
            "column_mapping",
            &policy.column_mapping.as_str(),
            &observed.configuration.get("delta.columnMapping.mode").map_or("none", String::as_str),
        ),
    ];
    reports.extend(statistics(resolved, observed));
    reports.extend(features(resolved, observed));
    reports.extend(writer_properties(policy, observed));
    reports.extend(maintenance(policy, observed));
    reports.sort_unstable_by(|a, b| a.field.cmp(&b.field));
    reports
}

fn report(field: &str, requested: Value, observed: Value, honoured: bool, reason: Option<String>) -> FieldReport {
    FieldReport { field: field.to_owned(), requested, observed, honoured, reason }
}

fn equal<T: serde::Serialize + PartialEq>(field: &str, requested: &T, observed: &T) -> FieldReport {
    report(field, json!(requested), json!(observed), requested == observed, None)
}

/// A limit that a writer keeps as well as it can.
fn limit(field: &str, requested: u64, observed: u64) -> FieldReport {
    let honoured = observed <= requested;
    let reason = (!honoured).then(|| "a best effort: values are looked at batch by batch".to_owned());
    report(field, json!(requested), json!(observed), honoured, reason)
}

fn file_size(policy: &DeltaWritePolicy, observed: &Observed<'_>) -> FieldReport {
    let largest = observed.footers.files.iter().map(|file| file.size_bytes).max().unwrap_or_default();
    let target = policy.target_file_size_bytes;
    // A file is closed by the first slice of rows that takes it over the target, and then has its footer.
    let honoured = largest <= target.saturating_add((target / 4).max(1 << 20));
    report("target_file_size_bytes", json!(target), json!(largest), honoured, Some("the largest file".to_owned()))
}

fn order(policy: &DeltaWritePolicy, observed: &Observed<'_>) -> FieldReport {
    let wanted: Vec<String> = policy.partition_by.iter().chain(&policy.zorder_by).cloned().collect();
    let there = observed.order.clone().unwrap_or_default();
    let honoured = policy.zorder_by.is_empty() || wanted == there;
    let reason = (!honoured).then(|| "the version also has files of another write".to_owned());
    let by: Vec<String> = there.into_iter().filter(|column| !policy.partition_by.contains(column)).collect();
    report("zorder_by", json!(policy.zorder_by), json!(by), honoured, reason)
}

fn parameter<'a>(observed: &'a Observed<'_>, key: &str) -> Option<&'a str> {
    observed.commit_info.get("operationParameters")?.get(key)?.as_str()
}

fn mode(policy: &DeltaWritePolicy, observed: &Observed<'_>) -> FieldReport {
    let operation = observed.commit_info.get("operation").and_then(Value::as_str).unwrap_or_default();
    let saved = parameter(observed, "mode").unwrap_or_default();
    let honoured = match (policy.mode, operation) {
        (WriteMode::Delete, operation) => operation == "DELETE",
        // Version 0.
        (_, "CREATE TABLE") => true,
        (WriteMode::Append | WriteMode::Error | WriteMode::Ignore, "WRITE") => saved == "Append",
        (WriteMode::Overwrite | WriteMode::ReplaceWhere, "WRITE") => saved == "Overwrite",
        (WriteMode::Merge, operation) => operation == "MERGE",
        _ => false,
    };
    report("mode", json!(policy.mode), json!({"operation": operation, "mode": saved}), honoured, None)
}

fn keys(policy: &DeltaWritePolicy, observed: &Observed<'_>) -> FieldReport {
    let predicate = parameter(observed, "mergePredicate");
    let named = |key: &String| predicate.is_none_or(|predicate| predicate.contains(&format!("target.{key} =")));
    let honoured = policy.keys.iter().all(named);
    report("keys", json!(policy.keys), json!(predicate), honoured, None)
}

fn replace_where(policy: &DeltaWritePolicy, observed: &Observed<'_>) -> FieldReport {
    let predicate = parameter(observed, "predicate");
    let created = observed.commit_info.get("operation").and_then(Value::as_str) == Some("CREATE TABLE");
    let honoured = created || policy.replace_where.as_deref() == predicate;
    let reason = created.then(|| "there was no row to replace".to_owned());
    report("replace_where", json!(policy.replace_where), json!(predicate), honoured, reason)
}

fn constraints(policy: &DeltaWritePolicy, observed: &Observed<'_>) -> FieldReport {
    let there: BTreeMap<&str, &String> = observed
        .configuration
        .iter()
        .filter_map(|(key, sql)| Some((key.strip_prefix("delta.constraints.")?, sql)))
        .collect();
    let honoured = policy.constraints.iter().all(|(name, sql)| there.get(name.as_str()) == Some(&sql));
    report("constraints", json!(policy.constraints), json!(there), honoured, None)
}

/// What the policy asks for and what the table was declared with, beside what its columns carry.
fn semantic_types(policy: &DeltaWritePolicy, observed: &Observed<'_>) -> FieldReport {
    let declared = semantic::parse(observed.configuration.get(TYPES_PROPERTY).map(String::as_str)).unwrap_or_default();
    let kept = policy.semantic_types.iter().all(|(column, wanted)| declared.get(column) == Some(wanted));
    let carried = &observed.extension_types;
    let honoured = kept && declared.iter().all(|(column, wanted)| carried.get(column) == Some(wanted));
    let reason = (!kept).then(|| "the table's properties do not have it".to_owned());
    let requested: BTreeMap<_, _> = declared.iter().chain(&policy.semantic_types).collect();
    report("semantic_types", json!(requested), json!(carried), honoured, reason)
}

fn statistics(resolved: &ResolvedWritePolicy, observed: &Observed<'_>) -> Vec<FieldReport> {
    let policy = resolved.policy();
    let (everywhere, somewhere) = (&observed.stats.everywhere, &observed.stats.somewhere);
    let decided = resolved.stats().stats_columns.as_deref();
    let property = observed.configuration.get("delta.dataSkippingStatsColumns");
    let honoured = match decided {
        Some(columns) => somewhere.iter().all(|column| columns.contains(column)),
        None => true,
    };
    let missing: Vec<&String> = match observed.footers.files.is_empty() {
        true => Vec::new(),
        false => decided.unwrap_or_default().iter().filter(|column| !everywhere.contains(*column)).collect(),
    };
    let reason = (!missing.is_empty()).then(|| format!("some file has no statistics of {missing:?}"));
    let top: BTreeSet<&str> =
        somewhere.iter().map(|column| column.split('.').next().unwrap_or(column.as_str())).collect();
    let within = decided.map_or(top.len(), <[String]>::len) as u64 <= u64::from(policy.stats_max_columns);
    vec![
        report(
            "stats_policy",
            json!(policy.stats_policy),
            json!({"property": property, "columns": everywhere}),
            honoured,
            None,
        ),
        report("stats_columns", json!(policy.stats_columns), json!(everywhere), honoured && missing.is_empty(), reason),
        report("stats_max_columns", json!(policy.stats_max_columns), json!(top.len()), within, None),
    ]
}

fn features(resolved: &ResolvedWritePolicy, observed: &Observed<'_>) -> Vec<FieldReport> {
    let policy = resolved.policy();
    let on = policy
        .enable_features
        .iter()
        .filter(|feature| feature_is_on(**feature, observed.protocol, observed.configuration));
    let on: Vec<_> = on.collect();
    let left_out = resolved.left_out();
    let requested: Vec<_> = policy.enable_features.iter().chain(left_out.keys()).collect();
    let reason = (!left_out.is_empty()).then(|| {
        let reasons = left_out.iter().map(|(feature, reason)| format!("{feature}: {reason}"));
        reasons.collect::<Vec<_>>().join("; ")
    });
    vec![
        report(
            "enable_features",
            json!(requested),
            json!(on),
            on.len() == policy.enable_features.len() && left_out.is_empty(),
            reason,
        ),
        report("feature_gate", json!(policy.feature_gate), json!({"left_out": left_out.len()}), true, None),
    ]
}

/// What is stored with the table for maintenance to come.
fn maintenance(policy: &DeltaWritePolicy, observed: &Observed<'_>) -> Vec<FieldReport> {
    let stored = read_policy(observed.configuration.get(POLICY_PROPERTY));
    let (requested, stored) = (json!(policy.maintenance), json!(stored.policy.maintenance));
    let fields = requested.as_object().cloned().unwrap_or_default();
    let reports = fields.into_iter().map(|(name, requested)| {
        let honoured = stored[&name] == requested;
        report(&format!("maintenance.{name}"), requested, stored[&name].clone(), honoured, None)
    });
    reports.collect()
}

fn writer_properties(policy: &DeltaWritePolicy, observed: &Observed<'_>) -> Vec<FieldReport> {
    let properties = &policy.writer_properties;
    let footers = observed.footers;
    let name = |field: &str| format!("writer_properties.{field}");
    let own = |column: &str| properties.columns.iter().find(|(named, _)| under(column, named)).map(|(_, own)| own);
    let shared = || footers.columns.iter();

    let codecs: BTreeSet<&String> = shared()
        .filter(|(column, _)| own(column).is_none_or(|own| own.compression.is_none()))
        .flat_map(|(_, facts)| &facts.codecs)
        .collect();
    let levels: BTreeSet<StatisticsLevel> = shared()
        .filter(|(column, _)| own(column).is_none_or(|own| own.statistics_level.is_none()))
        .flat_map(|(_, facts)| facts.statistics.iter().copied())
        .collect();
    let with_dictionary = footers.columns_where(|facts| facts.dictionary);
    let with_bloom = footers.columns_where(|facts| facts.bloom_filter);
    let wants_dictionary = |column: &str| {
        own(column).and_then(|own| own.dictionary).unwrap_or_else(|| {
            properties.dictionary_columns.as_ref().is_none_or(|named| named.iter().any(|name| under(column, name)))
        })
    };
    let wants_bloom = |column: &str| {
        own(column)
            .and_then(|own| own.bloom_filter)
            .unwrap_or_else(|| properties.bloom_filter_columns.iter().any(|name| under(column, name)))
    };
    let bloom_bytes: BTreeMap<&String, u64> =
        shared().filter(|(_, facts)| facts.bloom_filter).map(|(c, facts)| (c, facts.bloom_filter_bytes)).collect();
    let bloom_as_asked = shared().all(|(column, facts)| facts.bloom_filter == wants_bloom(column));
    let lengths = || Some("footers hold the length of a filter, not what it was sized for".to_owned());
    let own_observed: BTreeMap<&String, Value> = properties
        .columns
        .keys()
        .map(|named| {
            let leaves = shared().filter(|(column, _)| under(column, named)).map(|(column, facts)| {
                let facts = json!({
                    "compression": facts.codecs,
                    "dictionary": facts.dictionary,
                    "bloom_filter": facts.bloom_filter,
                    "bloom_filter_bytes": facts.bloom_filter_bytes,
                    "statistics_level": facts.statistics,
                });
                (column.clone(), facts)
            });
            (named, Value::Object(leaves.collect()))
        })
        .collect();
    let own_honoured = shared().all(|(column, facts)| {
        own(column).is_none_or(|own| {
            own.compression.is_none_or(|codec| facts.codecs.iter().all(|there| there == codec.as_str()))
                && own.statistics_level.is_none_or(|level| facts.statistics.iter().all(|there| *there == level))
                && own.dictionary.is_none_or(|wanted| wanted || !facts.dictionary)
                && own.bloom_filter.is_none_or(|wanted| facts.bloom_filter == wanted)
        })
    });
    vec![
        report(
            &name("compression"),
            json!(properties.compression),
            json!(codecs),
            codecs.iter().all(|codec| *codec == properties.compression.as_str()),
            None,
        ),
        report(
            &name("dictionary_columns"),
            json!(properties.dictionary_columns),
            json!(with_dictionary),
            with_dictionary.iter().all(|column| wants_dictionary(column)),
            None,
        ),
        report(
            &name("bloom_filter_columns"),
            json!(properties.bloom_filter_columns),
            json!(with_bloom),
            bloom_as_asked,
            None,
        ),
        report(
            &name("bloom_filter_fpp"),
            json!(properties.bloom_filter_fpp),
            json!(bloom_bytes),
            bloom_as_asked,
            lengths(),
        ),
        report(
            &name("bloom_filter_ndv"),
            json!(properties.bloom_filter_ndv),
            json!(bloom_bytes),
            bloom_as_asked,
            lengths(),
        ),
        report(
            &name("statistics_level"),
            json!(properties.statistics_level),
            json!(levels),
            levels.iter().all(|level| *level == properties.statistics_level),
            None,
        ),
        limit(&name("data_page_size_bytes"), properties.data_page_size_bytes, footers.max_page_bytes),
        limit(&name("data_page_max_rows"), properties.data_page_max_rows, footers.max_page_rows),
        limit(&name("dictionary_page_size_bytes"), properties.dictionary_page_size_bytes, footers.max_dictionary_bytes),
        limit(&name("row_group_max_rows"), properties.row_group_max_rows, footers.max_row_group_rows),
        report(&name("columns"), json!(properties.columns), json!(own_observed), own_honoured, None),
    ]
}

/// Whether the Parquet column `leaf` is `column` or inside it.
fn under(leaf: &str, column: &str) -> bool {
    leaf.strip_prefix(column).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
