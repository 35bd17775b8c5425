//! A declared policy checked against a schema, and what follows from it.

mod check;
mod features;
mod log_stats;
mod parquet;
mod stats;

use std::collections::BTreeMap;

use ::parquet::file::properties::WriterProperties;
use alluvium_contracts::{LayoutHash, canonical_json};
use arrow::datatypes::{Schema, SchemaRef};
use serde_json::{Value, json};

pub(crate) use check::delta_schema;
use features::GatedFeatures;
pub(crate) use features::{FEATURES, FeatureRow, Protocol, feature_is_on, protocol};
pub(crate) use log_stats::LogStats;
pub(crate) use stats::{EXACT_DIGITS, stats_property};
pub use stats::{ReaderColumn, resolve_stats_columns};

use crate::condition::Condition;
use crate::error::PolicyError;
use crate::overrides::WriteOverrides;
use alluvium_contracts::{
    DeltaFeature, DeltaStatsDecision, DeltaWritePolicy, MaintenancePolicy, SchemaMode, WriteMode,
};

/// The table property that holds what later writers and maintenance have to do likewise, as JSON.
pub(crate) const POLICY_PROPERTY: &str = "alluvium.writePolicy";

/// A policy checked against a schema.
///
/// # Precedence
/// The first that says something decides; there is one test a cell.
///
/// | field | the write ([`WriteOverrides`]) | the policy | the table (`append` without a policy) | else |
/// |---|---|---|---|---|
/// | `target_file_size_bytes` | yes | yes | stored policy | 96 MiB |
/// | `partition_by` | yes | yes | the table's partitioning | none |
/// | `zorder_by` | yes | yes | stored policy | none |
/// | statistics | yes, over `off` too | `off`, `explicit`, then `auto`: z-order, lineage | stored policy | the first 32 columns |
/// | `enable_features` | yes | yes | those that are on stay on | none |
/// | `mode`, `keys`, `replace_where` | yes | yes | no | `overwrite` |
/// | `schema_mode` | yes | yes | no | `strict` |
/// | `writer_properties` | yes, as a whole | yes; its `columns` over its own fields | stored policy | the parquet crate's |
/// | `constraints` | no | joined with the table's | the table's | none |
/// | `semantic_types` | no | joined with the table's; alone where the write takes the schema | the table's | none |
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedWritePolicy {
    policy: DeltaWritePolicy,
    features: GatedFeatures,
    stats: DeltaStatsDecision,
    layout_hash: LayoutHash,
}

impl ResolvedWritePolicy {
    /// Checks `policy` against `schema`.
    ///
    /// The schema has to be one that Delta holds exactly: unsigned integers, zone-less or nanosecond timestamps, and
    /// the like are refused, because the engine would change them or raise the table's protocol in silence.
    ///
    /// # Errors
    /// [`PolicyError`] names the field or the column, and what to change.
    pub fn resolve(policy: &DeltaWritePolicy, schema: &SchemaRef) -> Result<Self, PolicyError> {
        Self::resolve_with(policy, schema, &[], &WriteOverrides::default())
    }

    /// [`Self::resolve`] for one write: `overrides` go before the policy, and `lineage` tells which columns readers use.
    ///
    /// # Errors
    /// [`PolicyError`] names the field or the column, and what to change.
    pub fn resolve_with(
        policy: &DeltaWritePolicy,
        schema: &SchemaRef,
        lineage: &[ReaderColumn],
        overrides: &WriteOverrides,
    ) -> Result<Self, PolicyError> {
        let policy = overridden(policy, overrides);
        let features = features::gate(&policy)?;
        // What was left out must not let anything else through.
        let policy = DeltaWritePolicy { enable_features: features.enabled.clone(), ..policy };
        check::check(&policy, schema)?;
        let resolved = Self {
            stats: resolve_stats_columns(&policy, schema, lineage, overrides.stats_columns.as_deref()),
            layout_hash: layout_hash(&policy, overrides.stats_columns.as_deref()),
            features,
            policy,
        };
        resolved.writer_properties(schema)?;
        resolved.conditions(schema)?;
        resolved.replaced(schema)?;
        Ok(resolved)
    }

    /// The digest of everything that lasts with the table. Columns that get statistics only because readers use them
    /// are no part of it, and neither are the mode and what belongs to it.
    #[must_use]
    pub fn layout_hash(&self) -> LayoutHash {
        self.layout_hash
    }

    /// The partition columns, outermost first.
    #[must_use]
    pub fn partition_by(&self) -> &[String] {
        &self.policy.partition_by
    }

    /// Which columns get statistics, and why.
    #[must_use]
    pub fn stats(&self) -> &DeltaStatsDecision {
        &self.stats
    }

    /// The policy with the write's overrides, less the features that were left out.
    #[must_use]
    pub fn policy(&self) -> &DeltaWritePolicy {
        &self.policy
    }

    /// The features that were left out, and why.
    #[must_use]
    pub fn left_out(&self) -> &BTreeMap<DeltaFeature, &'static str> {
        &self.features.left_out
    }

    /// Whether the policy, resolved against one schema, also suits `schema`.
    pub(crate) fn check(&self, schema: &SchemaRef) -> Result<(), PolicyError> {
        check::check(&self.policy, schema)
    }

    /// Refuses what a replacement of the whole table would drop in silence.
    ///
    /// # Errors
    /// [`PolicyError::NotHere`] names the field.
    pub fn check_replaces(&self) -> Result<(), PolicyError> {
        let DeltaWritePolicy { mode, schema_mode, .. } = self.policy;
        let MaintenancePolicy { compact_min_files, zorder_min_files, log_retention_hours, .. } =
            self.policy.maintenance;
        let unused = [
            ("maintenance.compact_min_files", compact_min_files, "every write lays all files out anew"),
            ("maintenance.zorder_min_files", zorder_min_files, "every write orders all rows anew"),
            (
                "maintenance.log_retention_hours",
                log_retention_hours,
                "its commits are kept for good: they say what it holds",
            ),
        ];
        if let Some((field, _, reason)) = unused.into_iter().find(|(_, value, _)| value.is_some()) {
            return Err(PolicyError::NotOfReplaced { field, reason });
        }
        match (mode, schema_mode) {
            (WriteMode::Overwrite, SchemaMode::Strict | SchemaMode::Overwrite) => Ok(()),
            (WriteMode::Overwrite, SchemaMode::Merge) => {
                Err(PolicyError::NotHere { field: "schema_mode", value: schema_mode.as_str() })
            }
            _ => Err(PolicyError::NotHere { field: "mode", value: mode.as_str() }),
        }
    }

    /// The same for files that are in no order.
    pub(crate) fn unordered(&self) -> Self {
        let mut unordered = self.clone();
        unordered.policy.zorder_by.clear();
        unordered
    }

    /// The Parquet properties for files of `schema`.
    pub(crate) fn writer_properties(&self, schema: &Schema) -> Result<WriterProperties, PolicyError> {
        parquet::writer_properties(&self.policy.writer_properties, &self.file_schema(schema))
    }

    fn file_schema(&self, schema: &Schema) -> Schema {
        let fields = schema.fields().iter().filter(|field| !self.policy.partition_by.contains(field.name()));
        Schema::new(fields.cloned().collect::<Vec<_>>())
    }

    /// The policy's constraints by name.
    pub(crate) fn conditions(&self, schema: &Schema) -> Result<Vec<(String, Condition)>, PolicyError> {
        let constraint = |(name, sql): (&String, &String)| {
            let condition = Condition::parse(&format!("constraints.{name}"), sql, schema)?;
            Ok((name.clone(), condition))
        };
        self.policy.constraints.iter().map(constraint).collect()
    }

    /// `replace_where` over `schema`.
    pub(crate) fn replaced(&self, schema: &Schema) -> Result<Option<Condition>, PolicyError> {
        self.policy.replace_where.as_ref().map(|sql| Condition::parse("replace_where", sql, schema)).transpose()
    }

    /// The table properties that the policy stands for. `None` takes one away.
    pub(crate) fn properties(&self, schema: &Schema) -> Vec<(String, Option<String>)> {
        let mut properties: Vec<(String, Option<String>)> = Vec::new();
        let (columns, indexed) = match &self.stats.stats_columns {
            Some(columns) if columns.is_empty() => (None, Some("0".to_owned())),
            Some(columns) => (Some(stats_property(schema, columns)), None),
            None if self.policy.stats_max_columns == 32 => (None, None),
            None => (None, Some(self.policy.stats_max_columns.to_string())),
        };
        properties.push(("delta.dataSkippingStatsColumns".to_owned(), columns));
        properties.push(("delta.dataSkippingNumIndexedCols".to_owned(), indexed));
        for feature in &self.features.enabled {
            if let Some((key, value)) = features::row(*feature).property {
                properties.push((key.to_owned(), Some(value.to_owned())));
            }
        }
        for (name, sql) in &self.policy.constraints {
            properties.push((format!("delta.constraints.{name}"), Some(sql.clone())));
        }
        properties.push((POLICY_PROPERTY.to_owned(), self.stored()));
        properties
    }

    /// The protocol features that the policy stands for.
    pub(crate) fn protocol_features(&self) -> Vec<&'static str> {
        let enabled = self.features.enabled.iter().map(|feature| features::row(*feature).protocol_name);
        let constraints = (!self.policy.constraints.is_empty()).then_some("checkConstraints");
        enabled.chain(constraints).collect()
    }

    /// What goes on with the table: the policy without what one write does. Nothing, where it is all as by default.
    fn stored(&self) -> Option<String> {
        let lasting = DeltaWritePolicy {
            mode: WriteMode::Overwrite,
            keys: Vec::new(),
            replace_where: None,
            // These are in the table's own terms.
            partition_by: Vec::new(),
            constraints: Default::default(),
            semantic_types: Default::default(),
            enable_features: Vec::new(),
            ..self.policy.clone()
        };
        if lasting == DeltaWritePolicy::default() {
            return None;
        }
        serde_json::to_string(&lasting).ok()
    }
}

fn overridden(policy: &DeltaWritePolicy, overrides: &WriteOverrides) -> DeltaWritePolicy {
    let mut policy = policy.clone();
    let WriteOverrides {
        target_file_size_bytes,
        partition_by,
        zorder_by,
        // Goes by `resolve_stats_columns`.
        stats_columns: _,
        enable_features,
        mode,
        keys,
        replace_where,
        schema_mode,
        writer_properties,
    } = overrides;
    let set = |slot: &mut Vec<String>, value: &Option<Vec<String>>| {
        if let Some(value) = value {
            slot.clone_from(value);
        }
    };
    set(&mut policy.partition_by, partition_by);
    set(&mut policy.zorder_by, zorder_by);
    set(&mut policy.keys, keys);
    policy.target_file_size_bytes = target_file_size_bytes.unwrap_or(policy.target_file_size_bytes);
    policy.mode = mode.unwrap_or(policy.mode);
    policy.replace_where = replace_where.clone().or(policy.replace_where);
    policy.schema_mode = schema_mode.unwrap_or(policy.schema_mode);
    policy.enable_features = enable_features.clone().unwrap_or(policy.enable_features);
    policy.writer_properties = writer_properties.clone().unwrap_or(policy.writer_properties);
    policy
}

/// What the layout hash covers, as a value. Numbers are text: canonical JSON knows only doubles.
fn layout_hash(policy: &DeltaWritePolicy, stats_override: Option<&[String]>) -> LayoutHash {
    let mut value = json!({
        "version": 2,
        "target_file_size_bytes": policy.target_file_size_bytes,
        "partition_by": policy.partition_by,
        "zorder_by": policy.zorder_by,
        "stats_policy": policy.stats_policy,
        "stats_columns": policy.stats_columns,
        "stats_override": stats_override,
        "stats_max_columns": policy.stats_max_columns,
        "enable_features": policy.enable_features,
        "constraints": policy.constraints,
        "column_mapping": policy.column_mapping,
        "writer_properties": policy.writer_properties,
    });
    if policy.maintenance != MaintenancePolicy::default() {
        value["maintenance"] = json!(policy.maintenance);
    }
    if !policy.semantic_types.is_empty() {
        value["semantic_types"] = json!(policy.semantic_types);
    }
    numbers_to_text(&mut value);
    // Text, lists and maps of it always have a canonical form.
    LayoutHash::of(&canonical_json(&value).unwrap_or_default())
}

fn numbers_to_text(value: &mut Value) {
    match value {
        Value::Number(number) => *value = Value::String(number.to_string()),
        Value::Array(items) => items.iter_mut().for_each(numbers_to_text),
        Value::Object(fields) => fields.values_mut().for_each(numbers_to_text),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests;
