//! The table of where the plans' fields went says nothing that is not so.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::contracts;
use serde_json::Value;

const TABLE: &str = include_str!("../../../../docs/contracts/fields.md");

/// The fields of every type that a schema defines.
fn fields() -> BTreeMap<String, BTreeSet<String>> {
    let mut types = BTreeMap::new();
    for contract in contracts() {
        let schema = contract.schema().to_value();
        let kind: String = contract.kind.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        let defined = schema.get("$defs").and_then(Value::as_object).into_iter().flatten();
        for (name, definition) in defined.map(|(name, schema)| (name.clone(), schema)).chain([(kind, &schema)]) {
            if let Some(properties) = definition.get("properties").and_then(Value::as_object) {
                // An enveloped contract is its payload here, which stands among the definitions.
                types.entry(name).or_insert_with(|| properties.keys().cloned().collect());
            }
        }
    }
    types
}

#[test]
fn every_field_that_the_table_points_to_is_there() {
    let types = fields();
    let mut checked = 0;
    let rows = TABLE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| planned "));
    for row in rows {
        // A `|` within a name of the plans is escaped.
        let row = row.replace("\\|", " or ");
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [planned, here, _] = cells[..] else { panic!("three cells: {row}") };
        let here = if here.trim() == "the same" { planned } else { here };
        let mut of = None;
        for name in here.split('`').skip(1).step_by(2) {
            let (owner, field) = name.split_once('.').unwrap_or((name, ""));
            // `.field` belongs to the type that was named last.
            of = if owner.is_empty() { of } else { types.get(owner) };
            if let (Some(fields), false) = (of, field.is_empty()) {
                assert!(fields.contains(field), "`{name}` is not there: {row}");
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} fields are pointed to");
}
