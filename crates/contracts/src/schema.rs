//! JSON Schemas of what is written, as draft 2020-12, and their one text.

use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::canonical::SAFE_INTEGER;
use crate::envelope::{Contract, Envelope, Form};

/// The schema of what is written of `T`: the payload, or the envelope with its name tag.
pub(crate) fn schema_of<T: Contract>() -> Schema {
    let mut schema = match T::FORM {
        Form::Bare => root::<T>(),
        Form::Enveloped => root::<Envelope<T>>(),
    };
    if T::FORM == Form::Enveloped
        && let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut)
    {
        for (name, tag) in [("kind", json!(T::KIND)), ("version", json!(T::VERSION))] {
            if let Some(property) = properties.get_mut(name).and_then(Value::as_object_mut) {
                property.retain(|keyword, _| keyword == "description");
                property.insert("const".to_owned(), tag);
            }
        }
    }
    schema.insert("title".to_owned(), T::KIND.into());
    schema
}

fn root<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .with_transform(RecursiveTransform(integer_bounds))
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Says of every integer what decoding holds it to: the range of its type, and of 64 bits what a double holds. A bound that
/// its field states is narrower, and stays.
fn integer_bounds(schema: &mut Schema) {
    let (minimum, maximum) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("uint64" | "uint") => (0, SAFE_INTEGER),
        Some("int8") => (i8::MIN.into(), i8::MAX.into()),
        Some("int16") => (i16::MIN.into(), i16::MAX.into()),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        Some("int64" | "int") => (-SAFE_INTEGER, SAFE_INTEGER),
        _ => return,
    };
    for (bound, value) in [("minimum", minimum), ("maximum", maximum)] {
        if !schema.as_object().is_some_and(|keywords| keywords.contains_key(bound)) {
            schema.insert(bound.to_owned(), value.into());
        }
    }
}

/// A JSON document as a page of text: keys sorted at every level, indented, ending its line.
///
/// Sorted here and not by `Value`: another crate of a build may switch on that it keeps the order of insertion.
pub(crate) fn page(value: &Value) -> String {
    format!("{:#}\n", sorted(value))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_level() {
        let value: Value = serde_json::from_str(r#"{"b": [{"d": 1, "c": 2}], "a": {"f": 1, "e": 2}}"#).unwrap();
        let text: String = page(&value).split_whitespace().collect();
        assert_eq!(text, r#"{"a":{"e":2,"f":1},"b":[{"c":2,"d":1}]}"#);
    }
}
