//! The protocol and metadata actions that a policy stands for.

use std::collections::HashMap;

use arrow::datatypes::SchemaRef;
use deltalake_core::TableProperty;
use deltalake_core::kernel::{Action, Metadata, Protocol, StructField, StructType, new_metadata};
use deltalake_core::table::state::DeltaTableState;
use serde_json::Value;

use crate::checks::GENERATION;
use crate::commit::Retention;
use crate::error::{EngineError, PolicyError};
use crate::policy::{self, ResolvedWritePolicy, delta_schema, protocol};
use crate::semantic;

/// What a table is to be.
pub(crate) struct TableChange<'a> {
    /// The columns that the policy speaks of.
    pub(crate) columns: &'a SchemaRef,
    /// `None` keeps the schema.
    pub(crate) new_schema: Option<StructType>,
    /// `None` keeps the partitioning.
    pub(crate) partition_by: Option<&'a [String]>,
    /// `None` keeps protocol and properties.
    pub(crate) policy: Option<&'a ResolvedWritePolicy>,
    pub(crate) retention: Retention,
}

/// Why the actions could not be said.
#[derive(Debug)]
pub(crate) enum TableActionError {
    Policy(PolicyError),
    Engine(EngineError),
}

impl From<PolicyError> for TableActionError {
    fn from(error: PolicyError) -> Self {
        Self::Policy(error)
    }
}

impl<E: Into<EngineError>> From<Engine<E>> for TableActionError {
    fn from(error: Engine<E>) -> Self {
        Self::Engine(error.0.into())
    }
}

/// Marks an error as the engine's.
struct Engine<E>(E);

/// The protocol and metadata of version 0. Nothing is in them that was not asked for: the engine, left to itself, raises the
/// protocol by what it finds in schema and properties.
pub(crate) fn first_actions(
    schema: &SchemaRef,
    policy: &ResolvedWritePolicy,
    retention: Retention,
) -> Result<(Protocol, Metadata), TableActionError> {
    let mut configuration = HashMap::new();
    configure(&mut configuration, Some((policy, schema)), retention, true)?;
    let delta = delta_schema(schema)?;
    let metadata = new_metadata(&delta, policy.partition_by(), configuration).map_err(Engine)?;
    let protocol = protocol(None, &policy.protocol_features(), has_invariants(&delta));
    check_generated(&delta, &protocol)?;
    Ok((serde_json::from_value(protocol.to_action()).map_err(Engine)?, metadata))
}

/// The protocol and metadata actions that bring a table to `change`; none where it is so already.
pub(crate) fn changed_actions(
    state: &DeltaTableState,
    change: &TableChange<'_>,
) -> Result<Vec<Action>, TableActionError> {
    let mut actions = Vec::new();
    let before = protocol_of(state);
    let after = match change.policy {
        Some(policy) => protocol(Some(&before), &policy.protocol_features(), has_invariants(&state.schema())),
        None => before.clone(),
    };
    if let Some(schema) = &change.new_schema {
        check_generated(schema, &after)?;
    }
    if after != before {
        actions.push(Action::Protocol(serde_json::from_value(after.to_action()).map_err(Engine)?));
    }
    // The engine's metadata has no way to set the partitioning; its serialised form does.
    let mut value = serde_json::to_value(state.metadata()).map_err(Engine)?;
    let unchanged = value.clone();
    if let Some(schema) = change.new_schema.as_ref().filter(|schema| *state.schema() != **schema) {
        value["schemaString"] = Value::String(serde_json::to_string(schema).map_err(Engine)?);
    }
    if let Some(columns) = change.partition_by {
        value["partitionColumns"] = Value::from(columns);
    }
    let mut configuration = state.metadata().configuration().clone();
    // Whoever sets the partitioning takes the schema as well.
    let replaces = change.partition_by.is_some();
    configure(&mut configuration, change.policy.map(|policy| (policy, change.columns)), change.retention, replaces)?;
    value["configuration"] = serde_json::to_value(configuration).map_err(Engine)?;
    if value != unchanged {
        let metadata: Metadata = serde_json::from_value(value).map_err(Engine)?;
        actions.push(Action::Metadata(metadata));
    }
    Ok(actions)
}

/// The table's protocol.
pub(crate) fn protocol_of(state: &DeltaTableState) -> policy::Protocol {
    policy::Protocol::from_action(&serde_json::to_value(state.protocol()).unwrap_or_default())
}

fn configure(
    configuration: &mut HashMap<String, String>,
    policy: Option<(&ResolvedWritePolicy, &SchemaRef)>,
    retention: Retention,
    replaces: bool,
) -> Result<(), PolicyError> {
    if retention == Retention::Keep {
        configuration.insert(TableProperty::EnableExpiredLogCleanup.as_ref().to_owned(), "false".to_owned());
    }
    let Some((policy, schema)) = policy else { return Ok(()) };
    for (key, value) in policy.properties(schema) {
        match value {
            Some(value) => configuration.insert(key, value),
            None => configuration.remove(&key),
        };
    }
    semantic::store(configuration, &policy.policy().semantic_types, replaces)
}

fn has_invariants(schema: &StructType) -> bool {
    schema.fields().any(|field| field.metadata().contains_key("delta.invariants"))
}

/// Whether whoever writes the table is told that it has generated columns: without the feature they would be written as any
/// others.
fn check_generated(schema: &StructType, protocol: &policy::Protocol) -> Result<(), PolicyError> {
    let is_generated = |field: &StructField| field.metadata().contains_key(GENERATION);
    if protocol.has("generatedColumns") || !schema.fields().any(is_generated) {
        return Ok(());
    }
    Err(PolicyError::Contradiction {
        problem: "a column has `delta.generationExpression`, and the table lacks the feature `generated_columns`",
        fix: "add it to `enable_features`, or drop the column's metadata",
    })
}
