//! Schemas held against the semantic types that their columns have to carry.

use alluvium_contracts::{RunId, SemanticColumnResult, SemanticColumnSpec, SemanticStatus, SemanticValidation};
use arrow::datatypes::{Field, Schema};
use arrow_schema::extension::EXTENSION_TYPE_NAME_KEY;

use crate::semantic_type::SemanticType;

/// That `column` has to carry `semantic_type`, a type of ours or any other extension type.
#[must_use]
pub fn column_spec(column: impl Into<String>, semantic_type: impl Into<String>) -> SemanticColumnSpec {
    SemanticColumnSpec {
        column_name: column.into(),
        semantic_type: semantic_type.into(),
        metadata_key: EXTENSION_TYPE_NAME_KEY.to_owned(),
    }
}

/// Holds the columns of `schema` against `specs`, each of which names a column of the top level. `name` is what the schema
/// is of; nothing is read but the fields' metadata and, of types of ours, whether their values are text.
#[must_use]
pub fn validate(
    name: impl Into<String>,
    run_id: Option<RunId>,
    specs: &[SemanticColumnSpec],
    schema: &Schema,
) -> SemanticValidation {
    let columns: Vec<SemanticColumnResult> = specs.iter().map(|spec| result(spec, schema)).collect();
    let broken = columns.iter().map(|column| column.status).find(|status| *status != SemanticStatus::Ok);
    SemanticValidation { name: name.into(), run_id, status: broken.unwrap_or(SemanticStatus::Ok), columns }
}

fn result(spec: &SemanticColumnSpec, schema: &Schema) -> SemanticColumnResult {
    let field = schema.field_with_name(&spec.column_name).ok();
    // An empty name is how a type is taken away: it is none.
    let found = field.and_then(|field| field.metadata().get(&spec.metadata_key)).filter(|name| !name.is_empty());
    let status = match (field, found) {
        (Some(field), Some(found)) if *found == spec.semantic_type && holds(field) => SemanticStatus::Ok,
        (_, Some(_)) => SemanticStatus::Mismatch,
        (_, None) => SemanticStatus::Missing,
    };
    SemanticColumnResult { expected: spec.clone(), found_type: found.cloned(), status }
}

/// Whether the field is what a type of ours asks for, where it carries one.
fn holds(field: &Field) -> bool {
    SemanticType::of(field).is_ok()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    fn status(spec: SemanticColumnSpec, fields: Vec<Field>) -> (SemanticStatus, Option<String>) {
        let validation = validate("t", None, &[spec], &Schema::new(fields));
        assert_eq!(validation.status, validation.columns[0].status);
        (validation.status, validation.columns[0].found_type.clone())
    }

    #[test]
    fn a_column_is_ok_or_missing_or_a_mismatch() {
        let spec = || column_spec("id", "NodeId");
        let found = |name: &str| Some(name.to_owned());
        let node = SemanticType::NodeId.field("id", true);
        assert_eq!(status(spec(), vec![node.clone()]), (SemanticStatus::Ok, found("NodeId")));
        let edge = SemanticType::EdgeId.field("id", true);
        assert_eq!(status(spec(), vec![edge]), (SemanticStatus::Mismatch, found("EdgeId")));
        let plain = Field::new("id", DataType::Utf8, true);
        assert_eq!(status(spec(), vec![plain.clone()]), (SemanticStatus::Missing, None));
        let elsewhere = SemanticType::NodeId.field("other", true);
        assert_eq!(status(spec(), vec![elsewhere]), (SemanticStatus::Missing, None));
        let number = Field::new("id", DataType::Int64, true).with_metadata(node.metadata().clone());
        assert_eq!(status(spec(), vec![number]), (SemanticStatus::Mismatch, found("NodeId")));
        let taken_away = [(EXTENSION_TYPE_NAME_KEY.to_owned(), String::new())].into();
        assert_eq!(status(spec(), vec![plain.with_metadata(taken_away)]), (SemanticStatus::Missing, None));
    }

    #[test]
    fn another_key_and_a_foreign_type_are_as_good() {
        let spec = SemanticColumnSpec { metadata_key: "unit".to_owned(), ..column_spec("delay", "minutes") };
        let delay = Field::new("delay", DataType::Int64, true);
        let minutes = delay.clone().with_metadata([("unit".to_owned(), "minutes".to_owned())].into());
        assert_eq!(status(spec.clone(), vec![minutes]).0, SemanticStatus::Ok);
        assert_eq!(status(spec, vec![delay]).0, SemanticStatus::Missing);
        let uuid = Field::new("id", DataType::FixedSizeBinary(16), true);
        let uuid = uuid.with_metadata([(EXTENSION_TYPE_NAME_KEY.to_owned(), "arrow.uuid".to_owned())].into());
        assert_eq!(status(column_spec("id", "arrow.uuid"), vec![uuid]).0, SemanticStatus::Ok);
    }

    #[test]
    fn the_first_column_that_is_not_ok_decides() {
        let schema = Schema::new(vec![SemanticType::NodeId.field("a", true), SemanticType::NodeId.field("b", true)]);
        let specs = [column_spec("a", "NodeId"), column_spec("b", "EdgeId"), column_spec("c", "NodeId")];
        let validation = validate("t", None, &specs, &schema);
        assert_eq!(validation.status, SemanticStatus::Mismatch);
        let each: Vec<_> = validation.columns.iter().map(|column| column.status).collect();
        assert_eq!(each, [SemanticStatus::Ok, SemanticStatus::Mismatch, SemanticStatus::Missing]);
        assert_eq!(validate("t", None, &[], &schema).status, SemanticStatus::Ok);
    }
}
