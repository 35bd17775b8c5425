//! Random documents from a JSON Schema: what the schema accepts, decoding has to accept.

use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Map, Value, json};

const SAFE: i64 = (1 << 53) - 1;

/// Documents that `schema` accepts, as far as this crate's schemas go.
pub fn instances(schema: &Value) -> BoxedStrategy<Value> {
    of(schema, schema, 4)
}

fn of(root: &Value, schema: &Value, depth: u32) -> BoxedStrategy<Value> {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return of(root, root.pointer(&name[1..]).unwrap(), depth);
    }
    if let Some(constant) = schema.get("const") {
        return Just(constant.clone()).boxed();
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return prop::sample::select(words.clone()).boxed();
    }
    if let Some(some) = ["oneOf", "anyOf"].iter().find_map(|name| schema.get(*name)?.as_array()) {
        return Union::new(some.iter().map(|one| of(root, one, depth))).boxed();
    }
    match schema.get("type") {
        Some(Value::Array(types)) => Union::new(types.iter().map(|one| of_type(root, schema, one, depth))).boxed(),
        Some(one) => of_type(root, schema, one, depth),
        None => any_value().boxed(),
    }
}

fn of_type(root: &Value, schema: &Value, name: &Value, depth: u32) -> BoxedStrategy<Value> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
    match name.as_str().unwrap() {
        "null" => Just(Value::Null).boxed(),
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "integer" => {
            let range = bound("minimum").unwrap()..=bound("maximum").unwrap();
            prop_oneof![range.clone(), prop::sample::select(vec![*range.start(), *range.end()])]
                .prop_map(Value::from)
                .boxed()
        }
        "number" if schema.get("exclusiveMaximum").is_some() => {
            (1..1_000).prop_map(|n| json!(f64::from(n) / 1e3)).boxed()
        }
        "number" => number().boxed(),
        "string" => match schema.get("pattern").and_then(Value::as_str) {
            // The strategy wants no anchors: it makes whole texts.
            Some(pattern) => {
                prop::string::string_regex(&pattern[1..pattern.len() - 1]).unwrap().prop_map(Value::from).boxed()
            }
            None => ".{0,12}".prop_map(Value::from).boxed(),
        },
        "array" => {
            let items = schema.get("items").map_or_else(|| any_value().boxed(), |items| of(root, items, depth - 1));
            prop::collection::vec(items, 0..3).prop_map(Value::from).boxed()
        }
        "object" => object(root, schema, depth),
        other => panic!("no instances of {other}"),
    }
}

fn object(root: &Value, schema: &Value, depth: u32) -> BoxedStrategy<Value> {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().map(|name| name.as_str().unwrap()).collect())
        .unwrap_or_default();
    let mut entries: BoxedStrategy<Map<String, Value>> = Just(Map::new()).boxed();
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let value = if required.contains(&name.as_str()) {
            of(root, field, depth).prop_map(Some).boxed()
        } else {
            prop::option::of(of(root, field, depth)).boxed()
        };
        let name = name.clone();
        entries = (entries, value)
            .prop_map(move |(mut entries, value)| {
                if let Some(value) = value {
                    entries.insert(name.clone(), value);
                }
                entries
            })
            .boxed();
    }
    let values = match schema.get("additionalProperties") {
        Some(values @ Value::Object(_)) => Some(of(root, values, depth - 1)),
        Some(Value::Bool(true)) => Some(any_value().boxed()),
        _ => None,
    };
    match values {
        Some(values) => (entries, prop::collection::btree_map(".{0,6}", values, 0..3))
            .prop_map(|(mut entries, more)| {
                entries.extend(more);
                Value::Object(entries)
            })
            .boxed(),
        None => entries.prop_map(Value::Object).boxed(),
    }
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-SAFE..=SAFE).prop_map(Value::from),
        any::<f64>()
            .prop_filter("finite, and not −0.0", |n| n.is_finite() && !(*n == 0.0 && n.is_sign_negative()))
            .prop_map(Value::from),
    ]
}

/// Any JSON value, for fields that are untyped.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number(), ".{0,8}".prop_map(Value::from)];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(".{0,4}", inner, 0..3).prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}
