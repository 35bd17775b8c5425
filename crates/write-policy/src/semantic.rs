//! The semantic types of columns: what a policy asks for, what a table keeps of it, and what rows carry.

use std::collections::{BTreeMap, HashMap};

use alluvium_contracts::{DeltaWritePolicy, SchemaMode, SemanticStatus, SemanticValidation, WriteMode};
use alluvium_functions::{column_spec, validate};
use arrow::datatypes::Schema;
use deltalake_core::table::state::DeltaTableState;

use crate::error::{PolicyError, TypeCarrier};
use crate::schema::table_schema;
use crate::table::Loaded;

/// The table property that holds the semantic types of columns by column, as a JSON object.
pub(crate) const TYPES_PROPERTY: &str = "alluvium.semanticTypes";

/// Semantic types by column.
pub(crate) type Types = BTreeMap<String, String>;

/// The types that a table was declared with.
pub(crate) fn declared(state: &DeltaTableState) -> Result<Types, PolicyError> {
    parse(state.metadata().configuration().get(TYPES_PROPERTY).map(String::as_str))
}

pub(crate) fn parse(property: Option<&str>) -> Result<Types, PolicyError> {
    let unreadable = |_| PolicyError::Value {
        field: TYPES_PROPERTY,
        problem: "is a table property that this build cannot read; write with the build that set it, or unset it",
    };
    property.map_or_else(|| Ok(Types::new()), |text| serde_json::from_str(text).map_err(unreadable))
}

/// Whether rows of `columns` carry the types of the policy and of the table that they go to.
pub(crate) fn check_write(
    policy: &DeltaWritePolicy,
    table: Option<&Loaded>,
    columns: &Schema,
) -> Result<(), PolicyError> {
    let own = &policy.semantic_types;
    match table {
        // Rows that are looked for have keys alone.
        _ if policy.mode == WriteMode::Delete => Ok(()),
        Some(table) if policy.schema_mode != SchemaMode::Overwrite => {
            let mut types = declared(&table.state)?;
            types.extend(own.clone());
            check(&types, columns, TypeCarrier::Rows)?;
            // The columns that a table has stay as they are: one that is declared only now has to carry its type already.
            let there = table_schema(&table.state)?;
            types.retain(|column, _| own.contains_key(column) && there.field_with_name(column).is_ok());
            check(&types, &there, TypeCarrier::Table)
        }
        _ => check(own, columns, TypeCarrier::Rows),
    }
}

/// Whether the columns of `schema` carry `types`.
pub(crate) fn check(types: &Types, schema: &Schema, carrier: TypeCarrier) -> Result<(), PolicyError> {
    let specs: Vec<_> = types.iter().map(|(column, semantic_type)| column_spec(column, semantic_type)).collect();
    let validation: SemanticValidation = validate(carrier.as_str(), None, &specs, schema);
    match validation.status {
        SemanticStatus::Ok => Ok(()),
        SemanticStatus::Missing | SemanticStatus::Mismatch => {
            Err(PolicyError::SemanticTypes { carrier, validation: Box::new(validation) })
        }
    }
}

/// Stores `types` with the table: in the place of those it has where `replaces`, beside them else.
pub(crate) fn store(
    configuration: &mut HashMap<String, String>,
    types: &Types,
    replaces: bool,
) -> Result<(), PolicyError> {
    let mut all = match replaces {
        true => Types::new(),
        false => parse(configuration.get(TYPES_PROPERTY).map(String::as_str))?,
    };
    all.extend(types.clone());
    match serde_json::to_string(&all) {
        Ok(text) if !all.is_empty() => configuration.insert(TYPES_PROPERTY.to_owned(), text),
        _ => configuration.remove(TYPES_PROPERTY),
    };
    Ok(())
}
