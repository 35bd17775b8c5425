//! A change planted for each rule, and its counterpart that no reader notices.

use serde_json::{Value, json};

use super::*;

/// A schema as schemars writes it, with a nested type, an enum, a list, a map and a union.
fn base() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "thing",
        "description": "A thing.",
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Its name."},
            "count": {"type": ["integer", "null"], "format": "uint64", "minimum": 0},
            "word": {"$ref": "#/$defs/Word"},
            "maybe": {"anyOf": [{"$ref": "#/$defs/Part"}, {"type": "null"}]},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
            "by_name": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Part"}},
            "row": {"oneOf": [
                {"type": "object", "properties": {"ledger": {"const": "runs", "type": "string"}, "row": {"type": "integer"}},
                 "required": ["ledger", "row"]},
                {"type": "object", "properties": {"ledger": {"const": "inventory", "type": "string"}, "row": {"type": "string"}},
                 "required": ["ledger", "row"]},
            ]},
        },
        "required": ["name", "word"],
        "$defs": {
            "Word": {"oneOf": [
                {"const": "on", "type": "string", "description": "On."},
                {"const": "off", "type": "string"},
            ]},
            "Part": {
                "type": "object",
                "properties": {"size": {"type": "integer"}, "inner": {"anyOf": [{"$ref": "#/$defs/Part"}, {"type": "null"}]}},
                "required": ["size"],
            },
        },
    })
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut schema = base();
    change(&mut schema);
    schema
}

#[track_caller]
fn rules(old: &Value, new: &Value) -> Vec<(&'static str, String)> {
    breaking_changes(old, new).into_iter().map(|change| (change.rule.as_str(), change.place)).collect()
}

/// `there` breaks the rule at the place; undoing it breaks `back` there, or nothing.
#[track_caller]
fn planted(new: &Value, there: (&str, &str), back: Option<&str>) {
    assert_eq!(
        rules(&base(), new),
        [(there.0, there.1.to_owned())]
            .map(|(rule, place)| (BreakingRule::ALL.iter().find(|r| r.as_str() == rule).unwrap().as_str(), place))
    );
    let found = rules(new, &base());
    match back {
        Some(back) => assert_eq!(found.iter().map(|(rule, _)| *rule).collect::<Vec<_>>(), [back]),
        None => assert_eq!(found, []),
    }
}

#[test]
fn a_field_that_is_gone() {
    let new = changed(|schema| drop(schema["properties"].as_object_mut().unwrap().remove("parts")));
    planted(&new, ("field_removed", "parts"), None);
}

#[test]
fn a_field_of_another_name() {
    let new = changed(|schema| {
        let properties = schema["properties"].as_object_mut().unwrap();
        let parts = properties.remove("parts").unwrap();
        properties.insert("pieces".to_owned(), parts);
    });
    planted(&new, ("field_renamed", "parts"), Some("field_renamed"));
    assert!(breaking_changes(&base(), &new)[0].to_string().contains("`pieces`"));
}

#[test]
fn a_field_of_another_type() {
    let new = changed(|schema| schema["properties"]["name"]["type"] = json!("integer"));
    planted(&new, ("field_retyped", "name"), Some("field_retyped"));
    let new = changed(|schema| schema["properties"]["name"]["type"] = json!(["string", "null"]));
    planted(&new, ("field_retyped", "name"), Some("field_retyped"));
    let new = changed(|schema| schema["properties"]["count"]["minimum"] = json!(1));
    planted(&new, ("field_retyped", "count"), Some("field_retyped"));
    let new = changed(|schema| schema["properties"]["parts"] = json!({"$ref": "#/$defs/Part"}));
    planted(&new, ("field_retyped", "parts"), Some("field_retyped"));
    let new = changed(|schema| schema["properties"]["word"] = json!({"type": "string"}));
    planted(&new, ("field_retyped", "word"), Some("field_retyped"));
    let new = changed(|schema| schema["properties"]["by_name"]["additionalProperties"] = json!({"type": "string"}));
    planted(&new, ("field_retyped", "by_name{}"), Some("field_retyped"));
}

#[test]
fn a_field_that_has_to_be_there_now() {
    let new = changed(|schema| schema["required"] = json!(["name", "word", "count"]));
    planted(&new, ("field_newly_required", "count"), Some("field_no_longer_required"));
    let new = changed(|schema| {
        schema["properties"]["fresh"] = json!({"type": "boolean"});
        schema["required"] = json!(["name", "word", "fresh"]);
    });
    planted(&new, ("field_newly_required", "fresh"), Some("field_removed"));
}

#[test]
fn what_is_required_of_a_person_may_be_relaxed() {
    let strict = |required: Value| {
        changed(|schema| {
            schema["additionalProperties"] = json!(false);
            schema["required"] = required;
        })
    };
    assert_eq!(rules(&strict(json!(["name", "word"])), &strict(json!(["word"]))), []);
}

#[test]
fn an_enum_that_lost_or_gained_a_word() {
    let new = changed(|schema| drop(schema["$defs"]["Word"]["oneOf"].as_array_mut().unwrap().pop()));
    planted(&new, ("enum_narrowed", "word"), Some("enum_widened"));
    let plain = changed(|schema| schema["$defs"]["Word"] = json!({"type": "string", "enum": ["off", "on"]}));
    assert_eq!(rules(&base(), &plain), [], "the two ways of writing an enum are one");
    let new = changed(|schema| drop(schema["properties"]["row"]["oneOf"].as_array_mut().unwrap().remove(0)));
    let only = rules(&base(), &new);
    assert_eq!(only.len(), 1, "{only:?}");
    let new = changed(|schema| {
        let more = json!({"type": "object", "properties": {"ledger": {"const": "snapshots"}}, "required": ["ledger"]});
        schema["properties"]["row"]["oneOf"].as_array_mut().unwrap().push(more);
    });
    planted(&new, ("enum_widened", "row"), Some("enum_narrowed"));
}

#[test]
fn a_keyword_that_is_not_known_here_is_a_change_of_type() {
    // Beside a reference, beside alternatives, in a list, in a map, in a union and in a field.
    for (pointer, place) in [
        ("/properties/word", "word"),
        ("/properties/maybe", "maybe"),
        ("/properties/parts", "parts"),
        ("/properties/by_name", "by_name"),
        ("/properties/row", "row"),
        ("/properties/name", "name"),
        ("/$defs/Part/properties/size", "by_name{}.size"),
        ("", ""),
    ] {
        for (keyword, value) in [
            ("minItems", json!(1)),
            ("propertyNames", json!({"pattern": "^a"})),
            ("dependentRequired", json!({"a": ["b"]})),
            ("prefixItems", json!([{"type": "string"}])),
            ("if", json!({"type": "string"})),
            ("format", json!("date-time")),
        ] {
            let new = changed(|schema| schema.pointer_mut(pointer).unwrap()[keyword] = value);
            // A definition is reached by its first path.
            let found = rules(&base(), &new);
            assert!(found.iter().any(|found| found.0 == "field_retyped"), "{keyword} at {pointer}: {found:?}");
            assert!(found.iter().any(|found| found.1.starts_with(place)), "{keyword} at {pointer}: {found:?}");
            assert!(!rules(&new, &base()).is_empty(), "{keyword} at {pointer}, back");
        }
    }
}

#[test]
fn what_an_unknown_keyword_refers_to_is_compared_too() {
    let refers = |size: &str| {
        changed(|schema| {
            schema["properties"]["pair"] = json!({"type": "array", "prefixItems": [{"$ref": "#/$defs/Pair"}]});
            schema["$defs"]["Pair"] = json!({"type": "object", "properties": {"size": {"type": size}}});
        })
    };
    assert_eq!(rules(&refers("integer"), &refers("integer")), []);
    assert_eq!(rules(&refers("integer"), &refers("string")), [("field_retyped", "pair.size".to_owned())]);
}

#[test]
fn words_are_told_apart_by_their_types_and_within_unions() {
    let word = |word: Value| changed(|schema| schema["properties"]["word"] = json!({"const": word}));
    assert_eq!(rules(&word(json!(1)), &word(json!(2))).len(), 2);
    assert_eq!(rules(&word(json!(1)), &word(json!("1"))).len(), 2);
    let union = |words: &[&str]| {
        let mut some: Vec<Value> = words.iter().map(|word| json!({"const": word, "type": "string"})).collect();
        some.push(json!({"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}));
        changed(|schema| schema["properties"]["word"] = json!({"oneOf": some}))
    };
    assert_eq!(rules(&union(&["a", "b"]), &union(&["a"])), [("enum_narrowed", "word".to_owned())]);
    assert_eq!(rules(&union(&["a"]), &union(&["a", "b"])), [("enum_widened", "word".to_owned())]);
    // One of two equal words is never the one.
    assert_eq!(rules(&union(&["a"]), &union(&["a", "a"])).len(), 1);
}

#[test]
fn fields_beside_alternatives_are_fields() {
    let new = changed(|schema| schema["properties"]["row"]["properties"] = json!({"at": {"type": "integer"}}));
    let other = changed(|schema| schema["properties"]["row"]["properties"] = json!({"at": {"type": "string"}}));
    assert_eq!(rules(&new, &other), [("field_retyped", "row.at".to_owned())]);
}

#[test]
fn what_is_meant_by_leaving_a_field_out_stays() {
    let with = |default: Value| changed(|schema| schema["properties"]["count"]["default"] = default);
    planted(&with(json!(3)), ("default_changed", "count"), Some("default_changed"));
    // Left out and null are one where nothing is said.
    assert_eq!(rules(&base(), &with(Value::Null)), []);
    // A new optional field of a part shows in the default of the whole.
    let part = |default: Value| changed(|schema| schema["properties"]["maybe"]["default"] = default);
    let (old, new) = (part(json!({"size": 1})), part(json!({"size": 1, "inner": null})));
    assert_eq!(rules(&old, &new), []);
    assert_eq!(rules(&new, &old), [("default_changed", "maybe".to_owned())]);
}

#[test]
fn unknown_fields_stay_as_they_were() {
    let new = changed(|schema| schema["additionalProperties"] = json!(false));
    planted(&new, ("object_closed", ""), Some("object_opened"));
}

#[test]
fn a_change_within_a_type_is_found_once_wherever_it_is_used() {
    let new = changed(|schema| schema["$defs"]["Part"]["properties"]["size"]["type"] = json!("string"));
    let found = rules(&base(), &new);
    assert_eq!(found.len(), 1, "{found:?}");
    let new = changed(|schema| {
        schema["properties"]["row"]["oneOf"][1]["properties"]["row"] = json!({"type": "boolean"});
    });
    planted(&new, ("field_retyped", "row.row"), Some("field_retyped"));
}

#[test]
fn what_nobody_notices() {
    let new = changed(|schema| {
        schema["description"] = json!("Another thing.");
        schema["title"] = json!("other");
        schema["properties"]["name"]["description"] = json!("What it is called.");
        schema["properties"]["name"]["default"] = json!("x");
        schema["properties"]["fresh"] = json!({"type": ["boolean", "null"]});
        schema["$defs"]["Part"]["properties"]["fresh"] = json!({"$ref": "#/$defs/Word"});
        schema["properties"]["row"]["oneOf"].as_array_mut().unwrap().reverse();
    });
    assert_eq!(rules(&base(), &new), []);
    assert_eq!(rules(&base(), &base()), []);
    // A definition may be called otherwise: it is no part of a document.
    let text = base().to_string().replace("Part", "Piece");
    assert_eq!(rules(&base(), &serde_json::from_str(&text).unwrap()), []);
}
