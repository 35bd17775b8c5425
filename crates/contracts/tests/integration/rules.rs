//! The rules that each contract states of itself, held against its schema and its decoder.

use std::collections::BTreeSet;

use alluvium_contracts::{
    ContractEntry, ErrorCode, Form, TranscodeError, UnknownFields, breaking_changes, contracts, validate,
};
use serde_json::{Value, json};

use crate::{example, recode};

#[test]
fn kinds_are_distinct_sorted_words() {
    let kinds: Vec<_> = contracts().iter().map(|entry| (entry.kind, entry.version)).collect();
    let sorted: BTreeSet<_> = kinds.iter().copied().collect();
    assert_eq!(kinds, sorted.into_iter().collect::<Vec<_>>());
    // A version stays when the next one comes.
    assert!(kinds.iter().all(|(kind, version)| *version == 1 || kinds.contains(&(*kind, version - 1))), "{kinds:?}");
    for contract in contracts() {
        assert!(contract.kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", contract.kind);
        assert!(contract.version >= 1 && !contract.doc.is_empty() && !contract.doc.ends_with('.'), "{}", contract.kind);
    }
}

/// Every schema of an object with fields in a document, with its pointer.
fn objects<'a>(at: String, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") {
                found.push((at.clone(), schema));
            }
            for (key, value) in map {
                let at = format!("{at}/{key}");
                match (key.as_str(), value) {
                    // By the names of fields, one of which may be `properties`.
                    ("properties", Value::Object(fields)) => {
                        fields.iter().for_each(|(field, value)| objects(format!("{at}/{field}"), value, found));
                    }
                    _ => objects(at, value, found),
                }
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at_, item)| objects(format!("{at}/{at_}"), item, found));
        }
        _ => {}
    }
}

#[test]
fn the_rule_for_unknown_fields_holds_at_every_depth_of_the_schema() {
    for contract in contracts() {
        let schema = contract.schema();
        let mut found = Vec::new();
        objects(String::new(), schema.as_value(), &mut found);
        assert!(!found.is_empty(), "{}", contract.kind);
        for (at, object) in found {
            let refuses = object.get("additionalProperties") == Some(&Value::Bool(false));
            // The envelope itself is a program's.
            let strict = contract.unknown_fields == UnknownFields::Refused
                && !(at.is_empty() && contract.form == Form::Enveloped);
            assert_eq!(refuses, strict, "{} {at}", contract.kind);
        }
    }
}

/// Every object of a document that is not a map, by pointer: one that its schema gives fields.
fn structs(root: &Value, schema: &Value, document: &Value, at: String, found: &mut Vec<String>) {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return structs(root, root.pointer(&name[1..]).unwrap(), document, at, found);
    }
    for alternatives in ["anyOf", "oneOf"].iter().filter_map(|name| schema.get(*name)?.as_array()) {
        alternatives.iter().for_each(|one| structs(root, one, document, at.clone(), found));
    }
    match document {
        Value::Object(map) => {
            let fields = schema.get("properties");
            if fields.is_some() {
                found.push(at.clone());
            }
            for (key, value) in map {
                let inner = fields.and_then(|fields| fields.get(key)).or_else(|| schema.get("additionalProperties"));
                if let Some(inner) = inner {
                    structs(root, inner, value, format!("{at}/{key}"), found);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = schema.get("items") {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(index, item)| structs(root, inner, item, format!("{at}/{index}"), found));
            }
        }
        _ => {}
    }
}

fn places(contract: &ContractEntry) -> Vec<String> {
    let schema = contract.schema();
    let mut found = Vec::new();
    structs(schema.as_value(), schema.as_value(), &example(contract), String::new(), &mut found);
    found
}

#[test]
fn the_rule_for_unknown_fields_holds_at_every_depth_of_the_example() {
    for contract in contracts() {
        let document = example(&contract);
        for place in places(&contract) {
            let mut changed = document.clone();
            changed
                .pointer_mut(&place)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .insert("unheard_of".to_owned(), json!({"a": [1]}));
            let envelope = place.is_empty() && contract.form == Form::Enveloped;
            let decoded = recode(&contract, &changed);
            if contract.unknown_fields == UnknownFields::Ignored || envelope {
                assert_eq!(decoded.unwrap(), document, "{} {place}", contract.kind);
            } else {
                let Err(TranscodeError::Invalid(report)) = decoded else { panic!("{} {place}", contract.kind) };
                assert_eq!(report.code, ErrorCode::UnknownField, "{report}");
                assert_eq!(report.pointer, format!("{place}/unheard_of"));
                assert_eq!(report.contract.as_deref(), Some(contract.kind));
            }
        }
    }
}

#[test]
fn what_a_schema_bounds_is_refused_by_decoding_too() {
    let mut tried = 0;
    for contract in contracts() {
        let schema = contract.schema();
        for place in places(&contract) {
            let document = example(&contract);
            let fields: Vec<String> = document.pointer(&place).unwrap().as_object().unwrap().keys().cloned().collect();
            for field in fields {
                for beyond in beyond_bounds(schema.as_value(), &format!("{place}/{field}"), &document) {
                    let mut changed = document.clone();
                    *changed.pointer_mut(&format!("{place}/{field}")).unwrap() = beyond.clone();
                    let refused = recode(&contract, &changed);
                    assert!(refused.is_err(), "{} takes {beyond} at {place}/{field}", contract.kind);
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 100, "only {tried} bounds were tried");
}

/// Values just beyond the bounds that the schema states for the place in the document.
fn beyond_bounds(root: &Value, pointer: &str, document: &Value) -> Vec<Value> {
    let mut schema = root;
    let mut at = document;
    for step in pointer.split('/').skip(1) {
        schema = resolved(root, schema);
        schema = match at {
            Value::Array(_) => &schema["items"],
            _ => {
                schema.get("properties").and_then(|fields| fields.get(step)).unwrap_or(&schema["additionalProperties"])
            }
        };
        at = at.get(step).or_else(|| at.get(step.parse::<usize>().ok()?)).unwrap();
    }
    let schema = resolved(root, schema);
    let mut values = Vec::new();
    if let Some(minimum) = schema.get("minimum").and_then(Value::as_i64) {
        values.push(json!(minimum - 1));
    }
    if let Some(maximum) = schema.get("maximum").and_then(Value::as_i64) {
        values.push(json!(maximum + 1));
    }
    for bound in ["exclusiveMinimum", "exclusiveMaximum"] {
        values.extend(schema.get(bound).cloned());
    }
    if schema.get("pattern").is_some() {
        values.extend([json!(""), json!("X"), json!(format!("{} ", at.as_str().unwrap_or_default()))]);
    }
    values
}

/// Follows references, and the one alternative that is not null.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return resolved(root, root.pointer(&name[1..]).unwrap());
    }
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(some) => {
            some.iter().find(|one| one.get("type") != Some(&json!("null"))).map_or(schema, |one| resolved(root, one))
        }
        None => schema,
    }
}

#[test]
fn a_field_taken_from_any_schema_breaks_it_and_an_optional_one_added_does_not() {
    for contract in contracts() {
        let whole = contract.schema().to_value();
        let mut found = Vec::new();
        objects(String::new(), &whole, &mut found);
        for (at, object) in found {
            for (field, _) in object["properties"].as_object().unwrap() {
                let mut without = whole.clone();
                let changed = without.pointer_mut(&at).unwrap();
                changed["properties"].as_object_mut().unwrap().remove(field);
                let required = changed.get_mut("required").and_then(Value::as_array_mut);
                let was_required = required.is_some_and(|names| {
                    let before = names.len();
                    names.retain(|name| name != field.as_str());
                    names.len() < before
                });
                let rules = |old: &Value, new: &Value| -> BTreeSet<&str> {
                    breaking_changes(old, new).iter().map(|change| change.rule.as_str()).collect()
                };
                assert_eq!(rules(&whole, &without), ["field_removed"].into(), "{} {at}/{field}", contract.kind);
                let back = if was_required { ["field_newly_required"].into() } else { BTreeSet::new() };
                assert_eq!(rules(&without, &whole), back, "{} {at}/{field}", contract.kind);
            }
        }
    }
}

#[test]
fn the_tag_of_an_envelope_is_checked_before_its_payload() {
    let refused = |document: Value, kind: Option<&str>| validate(document.to_string().as_bytes(), kind).unwrap_err();
    let report = refused(json!({"kind": "run_documnet", "version": 1, "payload": 7}), None);
    assert_eq!((report.code, report.pointer.as_str()), (ErrorCode::UnknownContract, "/kind"));
    assert!(report.expected.contains("run_document"), "{report}");
    let report = refused(json!({"kind": "run_document", "version": 2, "payload": 7}), None);
    assert_eq!((report.pointer.as_str(), report.expected.as_str(), report.found.as_str()), ("/version", "1", "2"));
    let report = refused(json!({"kind": "run_document", "version": 1, "payload": 7}), Some("plan_document"));
    assert_eq!((report.code, report.pointer.as_str()), (ErrorCode::UnknownContract, "/kind"));
    let report = refused(json!({"version": 1, "payload": 7}), None);
    assert_eq!((report.code, report.found.as_str()), (ErrorCode::MissingField, "an object without `kind`"));
    let report = refused(json!([1]), None);
    assert_eq!((report.code, report.found.as_str()), (ErrorCode::WrongType, "a list"));
}
