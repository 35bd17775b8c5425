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
        .with_transform(RecursiveTransform(safe_integers))
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Says of 64-bit integers that they stay where doubles hold them, as encoding and decoding do.
fn safe_integers(schema: &mut Schema) {
    let Some(format) = schema.get("format").and_then(Value::as_str) else {
        return;
    };
    let signed = format == "int64";
    if signed || format == "uint64" {
        schema.insert("maximum".to_owned(), SAFE_INTEGER.into());
    }
    if signed {
        schema.insert("minimum".to_owned(), (-SAFE_INTEGER).into());
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
